// SPDX-License-Identifier: Apache-2.0
//
// The console commands `rootless` and `rootless-oci`: find the interpreter and the package that
// belong to this very file and exec `PYTHON -I -S .../rootless/__main__.py ARGS`.
//
// Why not the script pip would write: -I keeps the caller's PYTHON* variables and working directory
// out of the interpreter, and -S skips the start-up of `site`, a fifth of the time a container may
// take to start. pip rewrites `#!python` lines and drops both flags.
//
// Built with -DROOTLESS_PACKAGE="/checkout/rootless" (editable installs) it runs that folder, and
// with `site`, since the dependencies are then somewhere else than the package.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOT_FOUND = 127 };

static char command[PATH_MAX];  // the name this file is installed under

static _Noreturn void fail(const char *hint, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fprintf(stderr, "%s: ", command);
    vfprintf(stderr, format, values);
    fprintf(stderr, "\nhint: %s\n", hint);
    va_end(values);
    exit(NOT_FOUND);
}

// A path that does not fit names nothing that exists: the empty string fails every later access().
static void join(char path[PATH_MAX], const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (vsnprintf(path, PATH_MAX, format, values) >= PATH_MAX)
        path[0] = '\0';
    va_end(values);
}

// The folder of this file and, as `command`, its name; symbolic links to it are resolved.
static void locate_self(char folder[PATH_MAX])
{
    ssize_t size = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (size <= 0) {
        strcpy(command, "rootless");
        fail("mount /proc", "cannot find my own file: /proc/self/exe: %s", strerror(errno));
    }
    folder[size] = '\0';
    char *slash = strrchr(folder, '/');
    strcpy(command, slash + 1);
    *slash = '\0';
}

#ifndef ROOTLESS_PACKAGE
// The N of the newest `PREFIX/LIBRARY/python3.N` that holds the package, or -1; its path in `package`.
static int find_package(char package[PATH_MAX], const char *prefix, const char *library)
{
    // site-packages everywhere; Debian's own interpreter calls it dist-packages.
    static const char *const homes[] = {"site-packages", "dist-packages"};
    char path[PATH_MAX];
    join(path, "%s/%s", prefix, library);
    DIR *folder = opendir(path);
    if (!folder)
        return -1;
    int newest = -1;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int minor, end = 0;
        if (sscanf(entry->d_name, "python3.%d%n", &minor, &end) != 1 || entry->d_name[end]
            || minor <= newest)
            continue;
        for (size_t i = 0; i < sizeof homes / sizeof *homes; i++) {
            join(path, "%s/%s/%s/%s/rootless", prefix, library, entry->d_name, homes[i]);
            if (access(path, X_OK) == 0) {
                strcpy(package, path);
                newest = minor;
            }
        }
    }
    closedir(folder);
    return newest;
}
#endif

// The first executable `name` on PATH; false when there is none.
static int search_path(char found[PATH_MAX], const char *name)
{
    const char *path = getenv("PATH");
    for (const char *entry = path ? path : "/usr/local/bin:/usr/bin:/bin"; entry;) {
        const char *colon = strchr(entry, ':');
        int length = colon ? (int)(colon - entry) : (int)strlen(entry);
        // A relative or empty entry means the working directory: never run an interpreter from there.
        if (length > 0 && *entry == '/') {
            join(found, "%.*s/%s", length, entry, name);
            if (access(found, X_OK) == 0)
                return 1;
        }
        entry = colon ? colon + 1 : NULL;
    }
    return 0;
}

// The interpreter beside this file (a virtual environment has one), else the one on PATH; of both
// kinds rather `python3.<minor>`, whose version is the one the package was installed for.
static void find_python(char python[PATH_MAX], const char *folder, int minor)
{
    char exact[32];
    snprintf(exact, sizeof exact, "python3.%d", minor);
    join(python, "%s/%s", folder, exact);
    if (minor >= 0 && access(python, X_OK) == 0)
        return;
    join(python, "%s/python3", folder);
    if (access(python, X_OK) == 0)
        return;
    if (minor >= 0 && search_path(python, exact))
        return;
    if (!search_path(python, "python3"))
        fail("install Python 3.11 or newer", "cannot find python3 in %s or on PATH", folder);
}

int main(int argc, char **argv)
{
    char folder[PATH_MAX], python[PATH_MAX], package[PATH_MAX], script[PATH_MAX];
    locate_self(folder);
#ifdef ROOTLESS_PACKAGE
    strcpy(package, ROOTLESS_PACKAGE);
    int minor = -1;
#else
    char prefix[PATH_MAX];
    strcpy(prefix, folder);
    *strrchr(prefix, '/') = '\0';
    int minor = find_package(package, prefix, "lib");
    if (minor < 0)
        minor = find_package(package, prefix, "lib64");
    if (minor < 0)
        fail("install it again: python3 -m pip install --force-reinstall rootless",
             "cannot find the Python package `rootless` in %s/lib/python3.*/site-packages", prefix);
#endif
    join(script, "%s/__main__.py", package);
    find_python(python, folder, minor);

    char **arguments = calloc((size_t)argc + 6, sizeof *arguments);
    if (!arguments)
        fail("free some memory", "cannot start: %s", strerror(errno));
    char **next = arguments;
    *next++ = python;  // getpath finds the prefix by it, so it has to be the whole path
    *next++ = "-I";
#ifndef ROOTLESS_PACKAGE
    *next++ = "-S";
#endif
    *next++ = script;
    if (strcmp(command, "rootless-oci") == 0)
        *next++ = "@rootless-oci";
    for (int i = 1; i < argc; i++)
        *next++ = argv[i];

    execv(python, arguments);
    fail("install Python 3.11 or newer", "cannot execute %s: %s", python, strerror(errno));
}
