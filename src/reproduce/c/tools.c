
/* The programs that are executed in the place of ls, cat and wc: this one, by its first words. */
static int tool(char **words)
{
	char block[1000];
	ssize_t count = 0;
	long lines = 0;
	if (!strcmp(words[0], "lines")) {
		for (long number = 1; number <= atol(words[1]); number++)
			printf("%ld\n", number);
		return fflush(stdout) != 0;
	}
	while ((count = read(0, block, sizeof block)) > 0) {
		if (!strcmp(words[0], "copy") && write(1, block, count) != count)
			return 1;
		for (ssize_t i = 0; i < count; i++)
			lines += block[i] == '\n';
	}
	if (!strcmp(words[0], "count"))
		printf("%ld\n", lines);
	return count < 0 || fflush(stdout) != 0;
}
