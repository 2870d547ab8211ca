// SPDX-License-Identifier: Apache-2.0
//
// testbox: the one static program that tests build root file systems from. It is every command of
// its table, chosen by the name it is called by (a link called `cat`) or by its first argument
// (`testbox cat /etc/passwd`). It prints what the kernel says and judges nothing; a failed system
// call prints `testbox: <command>: <object>: <error>` and exits 1, a wrong use exits 2.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { FAILED = 1, MISUSED = 2, NOT_EXECUTABLE = 126, NOT_FOUND = 127, ALL_FDS = 1024, ALL_GROUPS = 65536 };

extern char **environ;

static const char *applet = "testbox";

static _Noreturn void fail(const char *object)
{
    int error = errno;
    fflush(stdout);
    fprintf(stderr, "testbox: %s: %s: %s\n", applet, object, strerror(error));
    exit(FAILED);
}

static long number(const char *text)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 0);
    if (errno || !*text || *end) {
        fprintf(stderr, "testbox: %s: not a number: %s\n", applet, text);
        exit(MISUSED);
    }
    return value;
}

// The whole of a (virtual) file as a string; NULL with errno set when it cannot be read.
static char *slurp(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    size_t used = 0, size = 1 << 16;
    char *text = malloc(size);
    for (ssize_t got; text && (got = read(fd, text + used, size - used - 1)) > 0;) {
        used += (size_t)got;
        if (size - used < 4096)
            text = realloc(text, size *= 2);
    }
    close(fd);
    if (text)
        text[used] = '\0';
    return text;
}

// -- JSON ----------------------------------------------------------------------------------------

static const char *between = "";  // what comes before the next member

static void key(const char *name)
{
    printf("%s\"%s\":", between, name);
    between = ",";
}

static void open_json(const char *name, char bracket)
{
    if (name)
        key(name);
    else
        printf("%s", between);
    putchar(bracket);
    between = "";
}

static void close_json(char bracket)
{
    putchar(bracket);
    between = ",";
}

// Bytes from 0x80 on are passed as they are: read the output with surrogateescape.
static void put_string(const char *text, size_t size)
{
    putchar('"');
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            printf("\\u%04x", byte);
        else
            putchar(byte);
    }
    putchar('"');
}

static void member_string(const char *name, const char *text)
{
    key(name);
    if (text)
        put_string(text, strlen(text));
    else
        printf("null");
}

static void member_number(const char *name, long long value)
{
    key(name);
    printf("%lld", value);
}

static void item_string(const char *text, size_t size)
{
    printf("%s", between);
    put_string(text, size);
    between = ",";
}

static void item_number(long long value)
{
    printf("%s%lld", between, value);
    between = ",";
}

// -- what a process can see of itself ------------------------------------------------------------

static void probe_ids(void)
{
    uid_t uid[3];
    gid_t gid[3], groups[ALL_GROUPS];
    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    open_json("uid", '[');
    for (int i = 0; i < 3; i++)
        item_number(uid[i]);
    close_json(']');
    open_json("gid", '[');
    for (int i = 0; i < 3; i++)
        item_number(gid[i]);
    close_json(']');
    int count = getgroups(ALL_GROUPS, groups);
    open_json("groups", '[');
    for (int i = 0; i < count; i++)
        item_number(groups[i]);
    close_json(']');
}

static uint64_t prctl_set(int option, unsigned long what)
{
    uint64_t set = 0;
    for (unsigned long cap = 0; cap < 64; cap++) {
        // PR_CAP_AMBIENT takes the operation first, PR_CAPBSET_READ the capability.
        int has = option == PR_CAP_AMBIENT ? prctl(option, what, cap, 0, 0) : prctl(option, cap, 0, 0, 0);
        if (has == 1)
            set |= UINT64_C(1) << cap;
    }
    return set;
}

static void probe_capabilities(void)
{
    // capget(2) by hand: version 3 of the header, two words per set.
    struct { uint32_t version; int pid; } header = {0x20080522, 0};
    struct { uint32_t effective, permitted, inheritable; } data[2] = {0};
    syscall(SYS_capget, &header, data);
    open_json("capabilities", '{');
    member_number("inheritable", (long long)(data[0].inheritable | (uint64_t)data[1].inheritable << 32));
    member_number("permitted", (long long)(data[0].permitted | (uint64_t)data[1].permitted << 32));
    member_number("effective", (long long)(data[0].effective | (uint64_t)data[1].effective << 32));
    member_number("bounding", (long long)prctl_set(PR_CAPBSET_READ, 0));
    member_number("ambient", (long long)prctl_set(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET));
    close_json('}');
    int death = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    member_number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    member_number("seccomp", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    member_number("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    member_number("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    member_number("parent_death_signal", death);
}

static void probe_signals(void)
{
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    open_json("signals_blocked", '[');
    for (int signo = 1; signo < 65; signo++)
        if (sigismember(&blocked, signo) == 1)
            item_number(signo);
    close_json(']');
    open_json("signals_ignored", '[');
    for (int signo = 1; signo < 65; signo++) {
        struct sigaction action;
        if (sigaction(signo, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            item_number(signo);
    }
    close_json(']');
}

static void probe_fds(void)
{
    open_json("fds", '[');
    for (int fd = 0; fd < ALL_FDS; fd++) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0)
            continue;
        char link[64], target[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, target, sizeof target);
        open_json(NULL, '{');
        member_number("fd", fd);
        member_number("flags", flags);
        key("target");
        size < 0 ? (void)printf("null") : put_string(target, (size_t)size);
        close_json('}');
    }
    close_json(']');
}

// Undoes the octal escapes (\040 for a space) of /proc/self/mountinfo, in place.
static char *unescape(char *text)
{
    char *out = text;
    for (const char *in = text; *in; out++) {
        if (in[0] == '\\' && in[1] && in[2] && in[3]) {
            *out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = '\0';
    return text;
}

// proc(5): id, parent, major:minor, root, target, options, optional fields..., "-", type, source, super options.
static void probe_mount(char *line)
{
    static const char *const before[] = {"id", "parent", "device", "root", "target", "options"};
    static const char *const after[] = {"type", "source", "super_options"};
    char *rest = line, *word;
    open_json(NULL, '{');
    for (size_t i = 0; i < 6 && (word = strsep(&rest, " ")); i++) {
        if (i < 2)
            member_number(before[i], atoll(word));
        else
            member_string(before[i], unescape(word));
    }
    open_json("propagation", '[');
    while ((word = strsep(&rest, " ")) && strcmp(word, "-") != 0)
        item_string(word, strlen(word));
    close_json(']');
    for (size_t i = 0; i < 3 && (word = strsep(&rest, " ")); i++)
        member_string(after[i], unescape(word));
    close_json('}');
}

static void probe_mounts(void)
{
    char *text = slurp("/proc/self/mountinfo");
    open_json("mounts", '[');
    for (char *rest = text, *line; text && (line = strsep(&rest, "\n")) && *line;)
        probe_mount(line);
    close_json(']');
    free(text);
}

static void probe_env(void)
{
    open_json("env", '{');
    for (char **entry = environ; *entry; entry++) {
        char *equal = strchr(*entry, '=');
        size_t size = equal ? (size_t)(equal - *entry) : strlen(*entry);
        printf("%s", between);
        put_string(*entry, size);
        putchar(':');
        put_string(equal ? equal + 1 : "", equal ? strlen(equal + 1) : 0);
        between = ",";
    }
    close_json('}');
}

static void probe_limits(void)
{
    static const struct { const char *name; int resource; } limits[] = {
        {"as", RLIMIT_AS}, {"core", RLIMIT_CORE}, {"cpu", RLIMIT_CPU}, {"data", RLIMIT_DATA},
        {"fsize", RLIMIT_FSIZE}, {"locks", RLIMIT_LOCKS}, {"memlock", RLIMIT_MEMLOCK},
        {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE}, {"nofile", RLIMIT_NOFILE},
        {"nproc", RLIMIT_NPROC}, {"rss", RLIMIT_RSS}, {"rtprio", RLIMIT_RTPRIO},
        {"rttime", RLIMIT_RTTIME}, {"sigpending", RLIMIT_SIGPENDING}, {"stack", RLIMIT_STACK},
    };
    open_json("limits", '{');  // -1 is unlimited
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit value = {0};
        getrlimit(limits[i].resource, &value);
        open_json(limits[i].name, '[');
        item_number((long long)value.rlim_cur);
        item_number((long long)value.rlim_max);
        close_json(']');
    }
    close_json('}');
}

static void probe_tty(void)
{
    open_json("tty", '{');
    open_json("fds", '[');
    for (int fd = 0; fd < 3; fd++)
        if (isatty(fd))
            item_number(fd);
    close_json(']');
    member_string("name", ttyname(0));
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    member_number("controlling", fd >= 0);
    member_number("foreground_group", fd >= 0 ? tcgetpgrp(fd) : -1);
    if (fd >= 0)
        close(fd);
    struct winsize size = {0};
    ioctl(0, TIOCGWINSZ, &size);
    member_number("rows", size.ws_row);
    member_number("columns", size.ws_col);
    close_json('}');
}

static void probe_namespaces(void)
{
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    open_json("namespaces", '{');
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        struct stat info;
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        if (stat(path, &info) == 0)
            member_number(names[i], (long long)info.st_ino);
    }
    close_json('}');
}

static void probe_proc(void)
{
    open_json("processes", '[');
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (*entry->d_name >= '1' && *entry->d_name <= '9')
            item_number(atoll(entry->d_name));
    if (folder)
        closedir(folder);
    close_json(']');
    static const struct { const char *name, *path; } files[] = {
        {"cgroup", "/proc/self/cgroup"}, {"uid_map", "/proc/self/uid_map"},
        {"gid_map", "/proc/self/gid_map"}, {"setgroups", "/proc/self/setgroups"},
        {"oom_score_adj", "/proc/self/oom_score_adj"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *text = slurp(files[i].path);
        member_string(files[i].name, text);
        free(text);
    }
}

// One JSON object with all of it; every value comes from a system call or from /proc/self.
static int do_probe(char **arguments)
{
    struct utsname host;
    uname(&host);
    char *cwd = getcwd(NULL, 0);
    mode_t mask = umask(0);
    umask(mask);
    open_json(NULL, '{');
    open_json("argv", '[');
    for (; *arguments; arguments++)
        item_string(*arguments, strlen(*arguments));
    close_json(']');
    member_number("pid", getpid());
    member_number("ppid", getppid());
    member_number("pgid", getpgid(0));
    member_number("sid", getsid(0));
    member_string("cwd", cwd);
    member_number("umask", mask);
    member_string("hostname", host.nodename);
    member_string("domainname", host.domainname);
    member_string("machine", host.machine);
    probe_ids();
    probe_capabilities();
    probe_signals();
    probe_fds();
    probe_env();
    probe_limits();
    probe_tty();
    probe_namespaces();
    probe_proc();
    probe_mounts();
    close_json('}');
    putchar('\n');
    return 0;
}

// -- plain commands ------------------------------------------------------------------------------

static int do_true(char **arguments)
{
    (void)arguments;
    return 0;
}

static int do_false(char **arguments)
{
    (void)arguments;
    return 1;
}

static int do_exit(char **arguments)
{
    return (int)number(arguments[0]);
}

static int do_echo(char **arguments)
{
    for (; *arguments; arguments++)
        printf("%s%s", *arguments, arguments[1] ? " " : "");
    putchar('\n');
    return 0;
}

static void copy_out(int fd, const char *name)
{
    char buffer[1 << 16];
    ssize_t size;
    while ((size = read(fd, buffer, sizeof buffer)) > 0)
        if (write(STDOUT_FILENO, buffer, (size_t)size) != size)
            fail("standard output");
    if (size < 0)
        fail(name);
}

static int do_cat(char **arguments)
{
    if (!*arguments)
        copy_out(STDIN_FILENO, "standard input");
    for (; *arguments; arguments++) {
        int fd = open(*arguments, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            fail(*arguments);
        copy_out(fd, *arguments);
        close(fd);
    }
    return 0;
}

static int do_readlink(char **arguments)
{
    char target[PATH_MAX];
    ssize_t size = readlink(arguments[0], target, sizeof target);
    if (size < 0)
        fail(arguments[0]);
    printf("%.*s\n", (int)size, target);
    return 0;
}

static int do_access(char **arguments)
{
    int mode = F_OK;
    for (const char *letter = arguments[0]; *letter; letter++)
        mode |= *letter == 'r' ? R_OK : *letter == 'w' ? W_OK : *letter == 'x' ? X_OK : 0;
    if (faccessat(AT_FDCWD, arguments[1], mode, AT_EACCESS) < 0)
        fail(arguments[1]);
    return 0;
}

static int do_groups(char **arguments)
{
    (void)arguments;
    gid_t groups[ALL_GROUPS];
    int count = getgroups(ALL_GROUPS, groups);
    for (int i = 0; i < count; i++)
        printf("%s%u", i ? " " : "", groups[i]);
    putchar('\n');
    return 0;
}

static int do_id(char **arguments)
{
    (void)arguments;
    printf("%u:%u\n", geteuid(), getegid());
    return 0;
}

static int one_part(void (*part)(void))
{
    open_json(NULL, '{');
    part();
    close_json('}');
    putchar('\n');
    return 0;
}

static int do_caps(char **arguments)
{
    (void)arguments;
    return one_part(probe_capabilities);
}

static int do_fds(char **arguments)
{
    (void)arguments;
    return one_part(probe_fds);
}

static int do_mounts(char **arguments)
{
    (void)arguments;
    return one_part(probe_mounts);
}

static int do_tty(char **arguments)
{
    (void)arguments;
    return one_part(probe_tty);
}

static int do_env(char **arguments)
{
    (void)arguments;
    for (char **entry = environ; *entry; entry++)
        puts(*entry);
    return 0;
}

static int do_pwd(char **arguments)
{
    (void)arguments;
    char cwd[PATH_MAX];
    if (!getcwd(cwd, sizeof cwd))
        fail("working directory");
    puts(cwd);
    return 0;
}

static int do_hostname(char **arguments)
{
    (void)arguments;
    struct utsname host;
    uname(&host);
    puts(host.nodename);
    return 0;
}

static int do_winsize(char **arguments)
{
    (void)arguments;
    struct winsize size;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
        fail("standard input");
    printf("%u %u\n", size.ws_row, size.ws_col);
    return 0;
}

static int by_name(const struct dirent **left, const struct dirent **right)
{
    return strcmp((*left)->d_name, (*right)->d_name);
}

static int do_ls(char **arguments)
{
    struct dirent **entries;
    const char *folder = *arguments ? *arguments : ".";
    int count = scandir(folder, &entries, NULL, by_name);
    if (count < 0)
        fail(folder);
    for (int i = 0; i < count; i++)
        if (strcmp(entries[i]->d_name, ".") != 0 && strcmp(entries[i]->d_name, "..") != 0)
            puts(entries[i]->d_name);
    return 0;
}

static const char *file_type(mode_t mode)
{
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "symlink"
         : S_ISCHR(mode) ? "character" : S_ISBLK(mode) ? "block" : S_ISFIFO(mode) ? "fifo" : "socket";
}

// One JSON object a path, links not followed.
static int do_stat(char **arguments)
{
    for (; *arguments; arguments++) {
        struct stat info;
        if (lstat(*arguments, &info) < 0)
            fail(*arguments);
        between = "";
        open_json(NULL, '{');
        member_string("path", *arguments);
        member_string("type", file_type(info.st_mode));
        member_number("mode", info.st_mode & 07777);
        member_number("uid", info.st_uid);
        member_number("gid", info.st_gid);
        member_number("size", (long long)info.st_size);
        member_number("links", (long long)info.st_nlink);
        member_number("inode", (long long)info.st_ino);
        member_number("device", (long long)info.st_dev);
        open_json("rdev", '[');
        item_number(major(info.st_rdev));
        item_number(minor(info.st_rdev));
        close_json(']');
        member_number("mtime", (long long)info.st_mtim.tv_sec);
        close_json('}');
        putchar('\n');
    }
    return 0;
}

// -- changing files ------------------------------------------------------------------------------

static int write_text(const char *path, const char *text, int flags)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    if (fd < 0)
        fail(path);
    size_t size = strlen(text);
    if (write(fd, text, size) != (ssize_t)size || close(fd) < 0)
        fail(path);
    return 0;
}

static int do_write(char **arguments)
{
    return write_text(arguments[0], arguments[1], O_TRUNC);
}

static int do_append(char **arguments)
{
    return write_text(arguments[0], arguments[1], O_APPEND);
}

static int do_mkdir(char **arguments)
{
    if (mkdir(arguments[0], 0755) < 0)
        fail(arguments[0]);
    return 0;
}

static int do_rm(char **arguments)
{
    if (remove(arguments[0]) < 0)
        fail(arguments[0]);
    return 0;
}

static int do_rename(char **arguments)
{
    if (rename(arguments[0], arguments[1]) < 0)
        fail(arguments[0]);
    return 0;
}

static int do_link(char **arguments)
{
    if (link(arguments[0], arguments[1]) < 0)
        fail(arguments[1]);
    return 0;
}

static int do_symlink(char **arguments)
{
    if (symlink(arguments[0], arguments[1]) < 0)
        fail(arguments[1]);
    return 0;
}

static int do_chmod(char **arguments)
{
    if (chmod(arguments[1], (mode_t)strtol(arguments[0], NULL, 8)) < 0)
        fail(arguments[1]);
    return 0;
}

static int do_chown(char **arguments)
{
    if (lchown(arguments[2], (uid_t)number(arguments[0]), (gid_t)number(arguments[1])) < 0)
        fail(arguments[2]);
    return 0;
}

static int do_mknod(char **arguments)
{
    dev_t device = makedev((unsigned)number(arguments[1]), (unsigned)number(arguments[2]));
    if (mknod(arguments[0], S_IFCHR | 0600, device) < 0)
        fail(arguments[0]);
    return 0;
}

static int do_getxattr(char **arguments)
{
    char value[4096];
    ssize_t size = lgetxattr(arguments[0], arguments[1], value, sizeof value);
    if (size < 0)
        fail(arguments[1]);
    fwrite(value, 1, (size_t)size, stdout);
    return 0;
}

static int do_setxattr(char **arguments)
{
    if (lsetxattr(arguments[0], arguments[1], arguments[2], strlen(arguments[2]), 0) < 0)
        fail(arguments[1]);
    return 0;
}

// -- processes, signals, the kernel --------------------------------------------------------------

static int do_sleep(char **arguments)
{
    double seconds = atof(arguments[0]);
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&time, &time) < 0 && errno == EINTR)
        ;
    return 0;
}

// Prints "ready", then the number of every signal that comes; ends with 0 after the COUNTth.
static int do_signal(char **arguments)
{
    long count = *arguments ? number(*arguments) : 1;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    puts("ready");
    fflush(stdout);
    while (count-- > 0) {
        int signo;
        sigwait(&all, &signo);
        printf("%d\n", signo);
        fflush(stdout);
    }
    return 0;
}

static int do_kill(char **arguments)
{
    if (kill((pid_t)number(arguments[1]), (int)number(arguments[0])) < 0)
        fail(arguments[1]);
    return 0;
}

// Remembers a line once; SIZE bounds what a hostile world can make us keep.
static void note(char seen[][128], size_t *count, size_t size, const char *kind, const char *target)
{
    char line[128];
    snprintf(line, sizeof line, "%s %s", kind, target);
    char *number = strchr(line, '[');  // pipe:[123] and its like
    if (number)
        *number = '\0';
    for (size_t i = 0; i < *count; i++)
        if (strcmp(seen[i], line) == 0)
            return;
    if (*count < size)
        strcpy(seen[(*count)++], line);
}

static void spy_on(const char *pid, char seen[][128], size_t *count, size_t size)
{
    static const char *const links[] = {"exe", "cwd", "root"};
    char path[600], target[PATH_MAX];
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, links[i]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length >= 0) {
            target[length] = '\0';
            note(seen, count, size, links[i], target);
        }
    }
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        if (length >= 0) {
            target[length] = '\0';
            note(seen, count, size, "fd", target);
        }
    }
    if (folder)
        closedir(folder);
}

// Looks into every other process, again and again until standard input ends; prints what it saw.
static int do_spy(char **arguments)
{
    (void)arguments;
    static char seen[256][128];
    size_t count = 0, size = sizeof seen / sizeof *seen;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    puts("ready");
    fflush(stdout);
    while (poll(&input, 1, 0) == 0) {
        DIR *folder = opendir("/proc");
        for (struct dirent *entry; folder && (entry = readdir(folder));)
            if (*entry->d_name >= '1' && *entry->d_name <= '9' && atoi(entry->d_name) != getpid())
                spy_on(entry->d_name, seen, &count, size);
        if (folder)
            closedir(folder);
    }
    open_json(NULL, '[');
    for (size_t i = 0; i < count; i++)
        item_string(seen[i], strlen(seen[i]));
    close_json(']');
    putchar('\n');
    return 0;
}

// Leaves COUNT orphans that have ended, and prints how many zombies there are once PID 1 had its turn.
static int do_orphans(char **arguments)
{
    long count = number(arguments[0]);
    int gone[2];
    if (pipe2(gone, O_CLOEXEC) < 0)
        fail("pipe");
    for (long i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (fork() != 0)
                _exit(0);  // the parent of an orphan
            close(gone[0]);
            while (getppid() != 1)
                poll(NULL, 0, 1);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    close(gone[1]);
    char byte;
    while (read(gone[0], &byte, 1) > 0)
        ;  // end of file: the last orphan has ended
    for (int tries = 0;; tries++) {
        int left = 0;
        for (pid_t pid = 2; pid < 4 * count + 64; pid++)
            left += pid != getpid() && kill(pid, 0) == 0;
        if (left == 0 || tries == 1000) {
            printf("%d\n", left);
            return 0;
        }
        poll(NULL, 0, 1);
    }
}

static int do_socket(char **arguments)
{
    int type = arguments[1] ? (int)number(arguments[1]) : SOCK_STREAM;
    int fd = socket((int)number(arguments[0]), type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail(arguments[0]);
    close(fd);
    return 0;
}

// Prints the result, or the negated errno as the kernel itself returns it.
static int do_syscall(char **arguments)
{
    long values[7] = {0};
    for (int i = 0; i < 7 && arguments[i]; i++)
        values[i] = number(arguments[i]);
    long result = syscall(values[0], values[1], values[2], values[3], values[4], values[5], values[6]);
    printf("%ld\n", result < 0 ? -(long)errno : result);
    return 0;
}

static int do_exec(char **arguments)
{
    fflush(stdout);
    execvp(arguments[0], arguments);
    int code = errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
    fprintf(stderr, "testbox: exec: %s: %s\n", arguments[0], strerror(errno));
    return code;
}

static int run(char **words);

// `each WRITE ARGS , CAT ARGS , ...`: one command after the other, up to the first that fails.
static int do_each(char **arguments)
{
    int code = 0;
    while (*arguments && code == 0) {
        char **end = arguments;
        while (*end && strcmp(*end, ",") != 0)
            end++;
        int more = *end != NULL;
        *end = NULL;
        if (*arguments)
            code = run(arguments);
        fflush(stdout);
        arguments = end + more;
    }
    return code;
}

// -- the table -----------------------------------------------------------------------------------

static int do_help(char **arguments);

static const struct {
    const char *name;
    int arguments;  // at least so many
    int (*function)(char **);
    const char *usage;
} APPLETS[] = {
    {"access", 2, do_access, "access MODE PATH      MODE of r, w, x; - for existence"},
    {"append", 2, do_append, "append FILE TEXT"},
    {"caps", 0, do_caps, "caps                  capability sets, no_new_privs, seccomp, as JSON"},
    {"cat", 0, do_cat, "cat [FILE...]"},
    {"chmod", 2, do_chmod, "chmod OCTAL PATH"},
    {"chown", 3, do_chown, "chown UID GID PATH    of the link itself"},
    {"each", 1, do_each, "each COMMAND ARGS , COMMAND ARGS ...   up to the first failure"},
    {"echo", 0, do_echo, "echo WORD..."},
    {"env", 0, do_env, "env"},
    {"exec", 1, do_exec, "exec PROGRAM ARGS     126, 127 when that fails"},
    {"exit", 1, do_exit, "exit N"},
    {"false", 0, do_false, "false"},
    {"fds", 0, do_fds, "fds                   open descriptors, as JSON"},
    {"getxattr", 2, do_getxattr, "getxattr PATH NAME"},
    {"groups", 0, do_groups, "groups                supplementary group ids"},
    {"help", 0, do_help, "help"},
    {"hostname", 0, do_hostname, "hostname"},
    {"id", 0, do_id, "id                    effective UID:GID"},
    {"kill", 2, do_kill, "kill SIGNAL PID"},
    {"link", 2, do_link, "link OLD NEW"},
    {"ls", 0, do_ls, "ls [DIRECTORY]        names, one a line, sorted"},
    {"mkdir", 1, do_mkdir, "mkdir PATH"},
    {"mknod", 3, do_mknod, "mknod PATH MAJOR MINOR"},
    {"mounts", 0, do_mounts, "mounts                /proc/self/mountinfo, as JSON"},
    {"orphans", 1, do_orphans, "orphans COUNT         makes orphans; prints how many zombies stay"},
    {"probe", 0, do_probe, "probe                 everything about this process, as one JSON object"},
    {"pwd", 0, do_pwd, "pwd"},
    {"readlink", 1, do_readlink, "readlink PATH"},
    {"rename", 2, do_rename, "rename OLD NEW"},
    {"rm", 1, do_rm, "rm PATH               file or empty directory"},
    {"setxattr", 3, do_setxattr, "setxattr PATH NAME VALUE"},
    {"signal", 0, do_signal, "signal [COUNT]        prints ready, then each signal's number"},
    {"sleep", 1, do_sleep, "sleep SECONDS"},
    {"socket", 1, do_socket, "socket FAMILY [TYPE]"},
    {"spy", 0, do_spy, "spy                   what other processes show, as JSON, until standard input ends"},
    {"stat", 1, do_stat, "stat PATH...          as JSON, one a line"},
    {"symlink", 2, do_symlink, "symlink TARGET PATH"},
    {"syscall", 1, do_syscall, "syscall N [ARGS...]   prints the result, or -errno"},
    {"true", 0, do_true, "true"},
    {"tty", 0, do_tty, "tty                   terminal, its size and foreground group, as JSON"},
    {"winsize", 0, do_winsize, "winsize               ROWS COLUMNS of standard input"},
    {"write", 2, do_write, "write FILE TEXT"},
};

static int do_help(char **arguments)
{
    (void)arguments;
    for (size_t i = 0; i < sizeof APPLETS / sizeof *APPLETS; i++)
        puts(APPLETS[i].usage);
    return 0;
}

static int run(char **words)
{
    const char *slash = strrchr(words[0], '/');
    const char *name = slash ? slash + 1 : words[0];
    for (size_t i = 0; i < sizeof APPLETS / sizeof *APPLETS; i++) {
        if (strcmp(APPLETS[i].name, name) != 0)
            continue;
        int count = 0;
        while (words[count + 1])
            count++;
        if (count < APPLETS[i].arguments) {
            fprintf(stderr, "usage: %s\n", APPLETS[i].usage);
            return MISUSED;
        }
        applet = APPLETS[i].name;
        between = "";
        return APPLETS[i].function(words + 1);
    }
    fprintf(stderr, "testbox: %s: no such command\n", name);
    return NOT_FOUND;
}

int main(int argc, char **argv)
{
    if (argc == 0)
        return MISUSED;
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];
    if (strcmp(name, "testbox") == 0) {
        if (argc == 1)
            return do_help(argv + 1);
        argv++;
    }
    int code = run(argv);
    if (fflush(stdout) != 0)
        fail("standard output");
    return code;
}
