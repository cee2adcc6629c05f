
/* Bytes of which two bits tell who wrote them, and the others where they belong. */
static MAY_BE_UNUSED void marked(unsigned char *into, unsigned writer, uint64_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		into[i] = writer << 6 | ((from + i) * 0x9e3779b9u >> 7 & 0x3f);
}

/*
 * Reads to the end: `often` times so many bytes as the list says, again and again, and from there on `then` bytes each time.
 * A read that gives no multiple of `unit` is the last, and so is one by which `most` bytes have come.
 */
static MAY_BE_UNUSED long read_all(int fd, const size_t *sizes, size_t count, size_t often, size_t then, size_t unit, size_t most)
{
	size_t all = 0;
	for (size_t i = 0;; i++) {
		ssize_t some = read(fd, buffer + all, i < often ? sizes[i % count] : then);
		if (some < 0)
			return -1;
		all += some;
		if (some == 0 || some % unit || all >= most)
			return all;
	}
}

struct message {
	int writer;
	size_t len;
};

/* The first `head` bytes of `expected`, and behind them its messages: each in one piece, those of each writer in this order. */
static MAY_BE_UNUSED void must_be_merged(int step, size_t head, const struct message *list, int count)
{
	size_t came[1024] = { 0 };
	size_t at = head;
	int left = count, found = 1;
	must(step, !err && got >= (long)head && !memcmp(buffer, expected, head), "what was there, and then the messages");
	while (left && found) {
		size_t from = head;
		int late[16] = { 0 };
		found = 0;
		for (int i = 0; i < count && !found; from += list[i++].len) {
			size_t piece = list[i].len > PIPE_BUF ? 1 : list[i].len;
			if (came[i] == list[i].len || late[list[i].writer])
				continue;
			late[list[i].writer] = 1;
			if (at + piece <= (size_t)got && !memcmp(buffer + at, expected + from + came[i], piece)) {
				at += piece;
				came[i] += piece;
				found = 1;
				left -= came[i] == list[i].len;
			}
		}
	}
	if (left || at != (size_t)got) {
		printf("step %d: from byte %zu on there is no whole message\n", step, at);
		fail(step, "every message of up to PIPE_BUF in one piece, each writer's in order");
	}
}

/* How often each piece of `expected` was had, by all processes together. */
static unsigned char *had;

/* What was read is some of the pieces of `unit` bytes. */
static MAY_BE_UNUSED void take_pieces(int step, size_t total, size_t unit)
{
	must(step, !err && got % unit == 0, "whole pieces");
	for (long at = 0; at < got; at += unit) {
		size_t piece = 0;
		while (piece < total && memcmp(expected + piece, buffer + at, unit))
			piece += unit;
		must(step, piece < total, "pieces that were written");
		__atomic_fetch_add(&had[piece / unit], 1, __ATOMIC_RELAXED);
	}
}

static MAY_BE_UNUSED void must_all_be_had(int step, size_t pieces)
{
	for (size_t i = 0; i < pieces; i++) {
		got = had[i];
		must(step, had[i] == 1, "every piece once");
	}
}
