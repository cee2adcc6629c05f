
/* What stands behind a key in a file of proc(5), into the buffer; with an address, in the lines of the mapping that holds it. */
static MAY_BE_UNUSED long line_of(const char *file, uintptr_t at, const char *key)
{
	char line[4096];
	int inside = at == 0;
	long found = -1;
	FILE *text = fopen(file, "r");
	while (text && found < 0 && fgets(line, sizeof line, text)) {
		unsigned long start, end;
		const char *value = NULL;
		line[strcspn(line, "\n")] = 0;
		if (at && sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			inside = start <= at && at < end;
			value = strcmp(key, "range") ? NULL : line;
		} else if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':') {
			value = line + strlen(key) + 1;
			value += strspn(value, " \t");
		}
		if (inside && value) {
			found = strlen(value);
			while (found > 0 && value[found - 1] == ' ')
				found--;
			memcpy(buffer, value, found);
		}
	}
	if (text)
		fclose(text);
	errno = ENOENT;
	return found;
}

/* How many entries the current directory has. */
static MAY_BE_UNUSED long entries(void)
{
	long count = 0;
	DIR *open = opendir(".");
	if (!open)
		return -1;
	for (struct dirent *entry; (entry = readdir(open)); count++)
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			count--;
	closedir(open);
	return count;
}

/* Page faults since the start, minor and major together. */
static MAY_BE_UNUSED long page_faults(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* One access to a byte of each page: how many page faults they took. */
static MAY_BE_UNUSED long touch(uintptr_t at, size_t len, int stores)
{
	static volatile size_t done;
	static volatile long before;
	fault_signal = 0;
	/* Once without the pages, so that all else has been touched. */
	for (volatile int warm = 0; warm < 2; warm++) {
		before = page_faults();
		if (sigsetjmp(after_fault, 0) == 0)
			for (done = 0; warm && done < len; done += page) {
				if (stores)
					*(volatile unsigned char *)(at + done) = 1;
				else
					(void)*(volatile unsigned char *)(at + done);
			}
	}
	return page_faults() - before;
}

/* The pages of a file that are dirty or being written back (cachestat(2)). */
static MAY_BE_UNUSED long unwritten(int fd, uint64_t offset, uint64_t len)
{
	const long cachestat = 451;
	uint64_t range[2] = { offset, len }, pages[5] = { 0 };
	return syscall(cachestat, fd, range, pages, 0) ? -1 : (long)(pages[1] + pages[2]);
}
