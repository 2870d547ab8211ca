// SPDX-License-Identifier: Apache-2.0
//
// PID 1 of a container started with `--init`: `init -- COMMAND ARGS...` runs the command as its
// child, passes every signal on to it, reaps whatever is orphaned to PID 1, and exits with the
// command's status, or with 128 + N when signal N ended it.
//
// Exit codes of its own, as a shell has them: 127 command not found, 126 not executable, 125 else.

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAILED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

static int complain(int code, const char *what)
{
    fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
    return code;
}

// The child leads its own process group, so that Ctrl-C reaches it once (from the terminal) and not
// twice, and it owns the terminal if there is one. Both parent and child call this: whoever is first.
static void lead_foreground_group(pid_t child)
{
    setpgid(child, child);
    // Writing to a terminal from the background raises SIGTTOU, which is blocked in both processes.
    // Without a terminal, or with one that is not ours, this fails and nothing has to be handed over.
    (void)tcsetpgrp(STDIN_FILENO, child ? child : getpid());
}

static _Noreturn void become(char **command, const sigset_t *mask)
{
    lead_foreground_group(0);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(command[0], command);
    int code = errno == ENOENT || errno == ENOTDIR ? NOT_FOUND
             : errno == EACCES || errno == ENOEXEC ? NOT_EXECUTABLE : FAILED;
    _exit(complain(code, command[0]));
}

// Waits for everything that has ended; true when the command is among it, its code in *code.
static int reap(pid_t child, int *code)
{
    int ended = 0, status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != child)
            continue;
        ended = 1;
        *code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    return ended;
}

int main(int argc, char **argv)
{
    char **command = argv + 1;
    if (argc > 1 && strcmp(*command, "--") == 0)
        command++;
    if (argc < 2 || !*command) {
        fputs("usage: init -- COMMAND [ARGS...]\n", stderr);
        return FAILED;
    }
    // As PID 1 orphans come to us by themselves; anywhere else this makes them come.
    if (getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGCHLD, SIG_DFL);  // inherited as ignored, it would throw the command's status away

    // Every signal is taken from the queue by sigwaitinfo(), none by a handler: no race with wait.
    // Faults of our own stay deadly.
    sigset_t all, before;
    sigfillset(&all);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    sigprocmask(SIG_SETMASK, &all, &before);

    pid_t child = fork();
    if (child < 0)
        return complain(FAILED, "fork");
    if (child == 0)
        become(command, &before);
    lead_foreground_group(child);

    for (int code;;) {
        siginfo_t info;
        if (sigwaitinfo(&all, &info) < 0) {
            if (errno == EINTR)
                continue;
            return complain(FAILED, "sigwaitinfo");
        }
        switch (info.si_signo) {
        case SIGCHLD:
            if (reap(child, &code))
                return code;
            break;
        case SIGTTIN:
        case SIGTTOU:
            break;  // meant for us, who gave the terminal away
        default:
            kill(child, info.si_signo);
        }
    }
}
