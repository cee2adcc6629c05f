#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAY_BE_UNUSED __attribute__((unused))
#define BUFFER (64 << 20)
#define PROCESSES 64

static long page;                 /* the page size of this kernel */
static long got;                  /* what the latest call returned */
static int err;                   /* and its errno, 0 for none */
static unsigned char *buffer;     /* what it read or loaded */
static unsigned char *expected;
static pid_t *pid;                /* of each process, by its number; 0 is the first one */
static pid_t first;
static volatile int *inside;      /* of each process: whether it is in a call that should wait */
static int (*turn)[2];            /* of each process: the pipe that tells it its turn */
static volatile int *unlike;      /* whether an outcome is another than the one that was seen */
static int shared = -1;           /* the file behind these, where a process executes another program */

static MAY_BE_UNUSED struct stat facts; /* what stat(2) told */

#define DO(call) (errno = 0, got = (long)(call), err = got == -1 ? errno : 0)

static void fail(int step, const char *wanted)
{
	printf("step %d: expected %s; got %ld, errno %d (%s)\n", step, wanted, got, err, strerror(err));
	fflush(stdout);
	if (getpid() != first)
		kill(first, SIGUSR1);
	else
		raise(SIGUSR1);
	_exit(1);
}

static MAY_BE_UNUSED void must(int step, int holds, const char *wanted)
{
	if (!holds)
		fail(step, wanted);
}

/* What is expected later rests on this outcome being the one that was seen: where it is another, no more can be said. */
static MAY_BE_UNUSED void as_seen(int step, int same)
{
	if (same)
		return;
	printf("step %d: not the outcome that this program was made of\n", step);
	fflush(stdout);
	*unlike = 1;
	kill(first, SIGUSR1);
	for (;;)
		pause();
}

/* A step of a child has failed, a call does not come back, or no more can be said: all end. */
static void give_up(int number)
{
	static const char words[] = "a call that should return has not\n";
	if (number == SIGALRM && !*unlike && write(1, words, sizeof words - 1) < 0)
		_exit(1);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	_exit(!*unlike);
}

/* Bytes of which none is 0 and each is a function of its position: the same that the suite stores. */
static MAY_BE_UNUSED void pattern(unsigned char *into, uint32_t seed, size_t from, size_t len)
{
	for (size_t i = from; i < from + len; i++) {
		uint64_t z = (i / 8 + ((uint64_t)seed << 32 | 0x9e37)) * 0x9e3779b97f4a7c15u;
		z = (z ^ (z >> 32)) * 0xbf58476d1ce4e5b9u;
		z ^= z >> 29;
		unsigned char byte = z >> (i % 8 * 8);
		into[i - from] = seed % 2 ? (byte & 0x7f) | 0x40 : byte | 0x80;
	}
}

/* `doubts` holds a position and another value for each of `count` bytes that may have it. */
static MAY_BE_UNUSED void must_hold(int step, size_t len, const size_t (*doubts)[2], size_t count)
{
	if (err || (size_t)got != len)
		fail(step, "that many bytes");
	for (size_t i = 0; i < len; i++) {
		int fine = buffer[i] == expected[i];
		for (size_t k = 0; !fine && k < count; k++)
			fine = doubts[k][0] == i && doubts[k][1] == buffer[i];
		if (!fine) {
			printf("step %d: byte %zu of %zu is %#x in the place of %#x\n", step, i, len, buffer[i], expected[i]);
			fail(step, "other bytes");
		}
	}
}

/* Access to memory that may fault: one byte after the other, until the end or the fault. */
static sigjmp_buf after_fault;
static volatile int fault_signal, fault_code;
static volatile uintptr_t fault_address;

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	fault_signal = number;
	fault_code = info->si_code;
	fault_address = (uintptr_t)info->si_addr;
	siglongjmp(after_fault, 1);
}

static MAY_BE_UNUSED long load(uintptr_t from, size_t len)
{
	static volatile size_t done;
	fault_signal = 0;
	done = 0;
	if (sigsetjmp(after_fault, 0) == 0)
		for (; done < len; done++)
			buffer[done] = ((volatile unsigned char *)from)[done];
	return done;
}

static MAY_BE_UNUSED long store(uintptr_t to, const unsigned char *bytes, size_t len)
{
	static volatile size_t done;
	fault_signal = 0;
	done = 0;
	if (sigsetjmp(after_fault, 0) == 0)
		for (; done < len; done++)
			((volatile unsigned char *)to)[done] = bytes[done];
	return done;
}

static MAY_BE_UNUSED long call_code(uintptr_t at)
{
	fault_signal = 0;
	if (sigsetjmp(after_fault, 0) == 0)
		((void (*)(void))at)();
	return 0;
}

static MAY_BE_UNUSED void must_fault(int step, int number, int code, uintptr_t at, const char *wanted)
{
#ifdef __s390x__
	at &= -page; /* this machine tells the page alone */
#endif
	if (fault_signal != number || fault_code != code || fault_address != at) {
		printf("step %d: signal %d, si_code %d, si_addr at %+ld from there\n", step, fault_signal, fault_code,
		       (long)(fault_address - at));
		fail(step, wanted);
	}
}

static MAY_BE_UNUSED void must_not_fault(int step)
{
	must(step, fault_signal == 0, "no signal");
}

static MAY_BE_UNUSED long sys_mmap(uintptr_t at, size_t len, int prot, int flags, int fd, uint64_t offset)
{
#ifdef __s390x__
	unsigned long arguments[] = { at, len, prot, flags, fd, offset };
	return syscall(SYS_mmap, arguments);
#else
	return syscall(SYS_mmap, at, len, prot, flags, fd, offset);
#endif
}

/* The pages of address space in use, as proc(5) counts them; 0 where it does not. */
static MAY_BE_UNUSED long pages_in_use(void)
{
	char text[64] = "";
	int fd = open("/proc/self/statm", O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
		text[0] = 0;
	close(fd);
	return atol(text);
}

/* Processes take turns: a byte in its pipe tells each when it is its turn. */
static MAY_BE_UNUSED void pass_to(int process)
{
	if (write(turn[process][1], "", 1) != 1)
		_exit(2);
}

static MAY_BE_UNUSED void wait_turn(int process)
{
	char byte;
	if (read(turn[process][0], &byte, 1) != 1)
		_exit(2);
}

/* It has done its part, and keeps what it has until all have done theirs. */
static MAY_BE_UNUSED void stay(int process)
{
	for (;;)
		wait_turn(process);
}

/* The state of a process as proc(5) tells it; 0 where it does not. */
static MAY_BE_UNUSED char state_of(int process)
{
	char path[64], line[256], *end;
	snprintf(path, sizeof path, "/proc/%d/stat", pid[process]);
	int fd = open(path, O_RDONLY);
	ssize_t len = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
	close(fd);
	line[len < 0 ? 0 : len] = 0;
	end = strrchr(line, ')');
	return end ? end[2] : 0;
}

/* The process sleeps in its call. */
static MAY_BE_UNUSED void must_sleep(int step, int process)
{
	for (int looks = 0; looks < 5000; looks++) {
		char state = state_of(process);
		if (!inside[process] || state == 'Z')
			break;
		if (state == 'S' || (!state && looks > 200))
			return;
		poll(NULL, 0, 1);
	}
	fail(step, "a call that waits");
}

static MAY_BE_UNUSED void must_end(int step, int process, int signalled, int value)
{
	int status;
	if (waitpid(pid[process], &status, 0) != pid[process])
		fail(step, "a child to wait for");
	got = status;
	if (signalled)
		must(step, WIFSIGNALED(status) && WTERMSIG(status) == value, "death by that signal");
	else
		must(step, WIFEXITED(status) && WEXITSTATUS(status) == value, "that exit status");
}

static MAY_BE_UNUSED long send_fd(int over, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	return sendmsg(over, &message, 0) == 1 ? 0 : -1;
}

static MAY_BE_UNUSED int receive_fd(int over)
{
	int fd = -1;
	char byte, control[CMSG_SPACE(sizeof fd)];
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	if (recvmsg(over, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static volatile sig_atomic_t handled;

static MAY_BE_UNUSED void count_signal(int number)
{
	(void)number;
	handled++;
}

/* However the program ends: the process that was started ends all others, and removes the directory. */
static char directory[4096];
static volatile sig_atomic_t interrupted;

static void end_all(int number)
{
	(void)number;
	interrupted = 1;
	kill(-first, SIGKILL);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
	(void)status, (void)type, (void)place;
	return remove(path);
}

static void see_to_the_end(const sigset_t *signals)
{
	siginfo_t end;
	int status = 2 << 8;
	if (first < 0) {
		rmdir(directory);
		exit(2);
	}
	setpgid(first, first);
	signal(SIGINT, end_all);
	signal(SIGTERM, end_all);
	signal(SIGHUP, end_all);
	sigprocmask(SIG_UNBLOCK, signals, NULL);
	while (waitid(P_PID, first, &end, WEXITED | WNOWAIT) && errno == EINTR)
		;
	kill(-first, SIGKILL);
	waitpid(first, &status, 0);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	if (interrupted)
		exit(2);
	if (WIFSIGNALED(status))
		printf("ended by signal %d\n", WTERMSIG(status));
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* What every process has: its memory, what all share, and what it does on signals. */
static void equip(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	page = sysconf(_SC_PAGESIZE);
	buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, flags, -1, 0);
	expected = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, flags, -1, 0);
	pid = mmap(NULL, page, PROT_READ | PROT_WRITE, shared < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, shared, 0);
	inside = pid + PROCESSES;
	turn = (int (*)[2])(pid + 2 * PROCESSES);
	unlike = pid + 4 * PROCESSES;
	signal(SIGUSR1, give_up);
	signal(SIGALRM, give_up);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static void prepare(int processes)
{
	const char *parent = getenv("TMPDIR");
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	snprintf(directory, sizeof directory, "%s/reproduce.XXXXXX", parent && *parent ? parent : "/tmp");
	if (!mkdtemp(directory))
		exit(2);
	/* Processes whose parent has gone are the first one's, and after it this one's. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	first = fork();
	if (first != 0)
		see_to_the_end(&signals);
	sigprocmask(SIG_UNBLOCK, &signals, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	first = getpid();
	setpgid(0, 0);
	alarm(10);
	signal(SIGPIPE, SIG_IGN);
	equip();
	if (chdir(directory))
		exit(2);
	for (int i = 0; i < processes; i++) {
		int ends[2];
		if (pipe(ends))
			exit(2);
		for (int k = 0; k < 2; k++) {
			/* Out of the way of the numbers that the calls below name. */
			turn[i][k] = fcntl(ends[k], F_DUPFD, 100);
			if (turn[i][k] < 0)
				turn[i][k] = ends[k];
			else
				close(ends[k]);
		}
	}
	pid[0] = first;
}
