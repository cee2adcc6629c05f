
/* Gives up user, group and every capability. */
static MAY_BE_UNUSED long drop_privileges(void)
{
	const unsigned nobody = 65534;
	uint32_t header[2] = { 0x20080522, 0 }, none[6] = { 0 };
	if (geteuid() == 0 && (syscall(SYS_setgroups, 0, NULL) || setresgid(nobody, nobody, nobody) || setresuid(nobody, nobody, nobody)))
		return -1;
	if (syscall(SYS_capset, header, none))
		return -1;
	/* A change of user takes the view of it in /proc away from the parent. */
	return prctl(PR_SET_DUMPABLE, 1);
}

static int put(const char *file, const char *format, unsigned id)
{
	char text[64];
	int fd = open(file, O_WRONLY), length = snprintf(text, sizeof text, format, id);
	int done = fd >= 0 && write(fd, text, length) == length;
	close(fd);
	return done;
}

/* Covers the current directory with a tmpfs that no other process sees. */
static MAY_BE_UNUSED long own_tmpfs(const char *options, unsigned long flags)
{
	unsigned user = geteuid(), group = getegid();
	if (unshare(CLONE_NEWNS)) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			return -1;
		put("/proc/self/setgroups", "deny", 0);
		put("/proc/self/gid_map", "0 %u 1", group);
		if (!put("/proc/self/uid_map", "0 %u 1", user))
			return -1;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", ".", "tmpfs", MS_NOSUID | MS_NODEV | flags, options))
		return -1;
	return chdir(directory);
}
