/* Process 1 of a guest: does the steps listed in /steps, tells the console what came of them, and powers off.
 *
 * A line that begins with :: is for the host; all others are the kernel's and the programs'.
 *   ::begin RELEASE MACHINE PAGE-SIZE        once, first
 *   ::trouble NAME STEP: ERROR               a step of group NAME failed; what is left of the group is passed over
 *   ::exit NAME STATUS                       how the program of group NAME ended; 128 and more: by signal
 *   ::file NAME SIZE, ::= BASE64 ..., ::sum CRC32
 *   ::end STATUS                             once, last: the highest status, 2 at least where there was trouble
 *
 * The steps, one a line, words apart by single spaces:
 *   group NAME | module FILE | mount TYPE SOURCE DIRECTORY OPTIONS | directory PATH | copy FILE DEVICE
 *   run PROGRAM ARGUMENT... | send FILE AS | send-all DIRECTORY AS
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { WORDS = 128, BLOCK = 1 << 16, LINE = 57 };

static char group[64] = "start";
static int trouble, status;

static void worse(int than) {
    if (than > status) status = than;
}

static void fail(const char *step) {
    printf("::trouble %s %s: %s\n", group, step, strerror(errno));
    trouble = 1;
    worse(2);
}

static void directories(char *path) {
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
    mkdir(path, 0755);
}

static void module(const char *file) {
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) fail(file);
    if (fd >= 0) close(fd);
}

static void attach(const char *type, const char *source, char *directory, const char *options) {
    directories(directory);
    if (mount(source, directory, type, 0, strcmp(options, "-") == 0 ? NULL : options) != 0) fail(directory);
}

/* What is zero is not written: the device is memory that nobody has used. */
static void copy(const char *from, const char *to) {
    static char block[BLOCK], zeros[BLOCK];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CLOEXEC);
    off_t at = 0;
    ssize_t count = -1;
    if (in >= 0 && out >= 0)
        while ((count = read(in, block, BLOCK)) > 0) {
            if (memcmp(block, zeros, count) != 0 && pwrite(out, block, count, at) != count) {
                count = -1;
                break;
            }
            at += count;
        }
    if (count < 0) fail(to);
    if (in >= 0) close(in);
    if (out >= 0) close(out);
}

static void run(char *words[]) {
    pid_t child = fork(), ended;
    int how;
    if (child < 0) {
        fail("fork");
        return;
    }
    if (child == 0) {
        setsid();
        execv(words[0], words);
        _exit(127);
    }
    /* Orphans are reaped on the way: their pids may be wanted by the program. */
    while ((ended = wait(&how)) != child)
        if (ended < 0 && errno != EINTR) {
            fail("wait");
            return;
        }
    int code = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
    /* What it said last may not have ended its line. */
    printf("\n::exit %s %d\n", group, code);
    worse(code);
}

static uint32_t checksum(uint32_t sum, const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0);
    }
    return sum;
}

static void base64(const unsigned char *bytes, size_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[LINE / 3 * 4 + 1], *end = line;
    for (size_t i = 0; i < count; i += 3) {
        uint32_t three = bytes[i] << 16 | (i + 1 < count ? bytes[i + 1] << 8 : 0) | (i + 2 < count ? bytes[i + 2] : 0);
        for (int shift = 18; shift >= 0; shift -= 6) *end++ = digits[three >> shift & 63];
    }
    if (count % 3 != 0) end[-1] = '=';
    if (count % 3 == 1) end[-2] = '=';
    *end = 0;
    printf("::= %s\n", line);
}

static void send(const char *file, const char *as) {
    FILE *in = fopen(file, "re");
    struct stat facts;
    if (!in || fstat(fileno(in), &facts) != 0) {
        fail(file);
        if (in) fclose(in);
        return;
    }
    unsigned char bytes[LINE];
    uint32_t sum = ~0u;
    printf("::file %s %lld\n", as, (long long)facts.st_size);
    for (size_t count; (count = fread(bytes, 1, LINE, in)) > 0;) {
        base64(bytes, count);
        sum = checksum(sum, bytes, count);
    }
    printf("::sum %u\n", ~sum);
    fclose(in);
}

static void send_all(const char *directory, const char *as) {
    DIR *list = opendir(directory);
    char file[600], name[600];
    if (!list) {
        fail(directory);
        return;
    }
    for (struct dirent *entry; (entry = readdir(list));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(file, sizeof file, "%s/%s", directory, entry->d_name);
        snprintf(name, sizeof name, "%s/%s", as, entry->d_name);
        send(file, name);
    }
    closedir(list);
}

static void step(char *words[], int count) {
    const char *what = words[0];
    if (strcmp(what, "group") == 0 && count == 2) {
        snprintf(group, sizeof group, "%s", words[1]);
        trouble = 0;
    } else if (trouble) {
        return;
    } else if (strcmp(what, "module") == 0 && count == 2) {
        module(words[1]);
    } else if (strcmp(what, "mount") == 0 && count == 5) {
        attach(words[1], words[2], words[3], words[4]);
    } else if (strcmp(what, "directory") == 0 && count == 2) {
        directories(words[1]);
    } else if (strcmp(what, "copy") == 0 && count == 3) {
        copy(words[1], words[2]);
    } else if (strcmp(what, "run") == 0 && count >= 2) {
        run(words + 1);
    } else if (strcmp(what, "send") == 0 && count == 3) {
        send(words[1], words[2]);
    } else if (strcmp(what, "send-all") == 0 && count == 3) {
        send_all(words[1], words[2]);
    } else {
        errno = EINVAL;
        fail(what);
    }
}

static void own_mounts(void) {
    static const struct { const char *type, *directory, *options; int needed; } all[] = {
        {"proc", "/proc", "", 1},   {"sysfs", "/sys", "", 1},
        {"devtmpfs", "/dev", "", 1}, {"tmpfs", "/dev/shm", "mode=1777", 1},
        {"devpts", "/dev/pts", "", 0}, {"tmpfs", "/tmp", "mode=1777", 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        mkdir(all[i].directory, 0755);
        if (mount(all[i].type, all[i].directory, all[i].type, 0, all[i].options) != 0 && all[i].needed) fail(all[i].directory);
    }
}

static void console(void) {
    int fd = open("/dev/console", O_RDWR);
    for (int i = 0; fd >= 0 && i < 3; i++) dup2(fd, i);
    if (fd > 2) close(fd);
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static void steps(void) {
    FILE *list = fopen("/steps", "re");
    char *line = NULL, *words[WORDS + 1];
    size_t size = 0;
    if (!list) fail("/steps");
    while (list && getline(&line, &size, list) > 0) {
        int count = 0;
        for (char *word = strtok(line, " \n"); word && count < WORDS; word = strtok(NULL, " \n")) words[count++] = word;
        words[count] = NULL;
        if (count > 0) step(words, count);
        fflush(stdout);
    }
}

int main(void) {
    struct utsname kernel;
    /* /dev/console of the initramfs, before the kernel's own devices are there. */
    console();
    own_mounts();
    console();
    setenv("PATH", "/", 1);
    setenv("TMPDIR", "/tmp", 1);
    setenv("NO_COLOR", "1", 1);
    uname(&kernel);
    printf("::begin %s %s %ld\n", kernel.release, kernel.machine, sysconf(_SC_PAGESIZE));
    steps();
    printf("::end %d\n", status);
    fflush(stdout);
    tcdrain(1);
    sync();
    reboot(RB_POWER_OFF);
    for (;;) pause();
}
