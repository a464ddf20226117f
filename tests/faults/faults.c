/* Disturbs a process at one of the system calls by which it writes its output: the FAULT_AT-th that concerns a name ending in .tmp.

   FAULT=KILL: SIGKILL before the call. INT: SIGINT before the call, as Ctrl-C; TERM: SIGTERM. FULL: every write from then on fails with ENOSPC.
   Without a FAULT_AT that is reached nothing happens. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int calls = 0;

static int ours(const char *name) {
    size_t n = name ? strlen(name) : 0;
    return n > 4 && strcmp(name + n - 4, ".tmp") == 0;
}

static int ours_fd(int fd) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name - 1);
    if (n < 0) return 0;
    name[n] = 0;
    return ours(name);
}

/* 1 if the call is to fail */
static int disturbed(void) {
    const char *fault = getenv("FAULT"), *at = getenv("FAULT_AT");
    if (!fault || !at) return 0;
    calls++;
    if (strcmp(fault, "FULL") == 0) return calls >= atoi(at);
    if (calls == atoi(at)) kill(getpid(), strcmp(fault, "KILL") == 0 ? SIGKILL : strcmp(fault, "TERM") == 0 ? SIGTERM : SIGINT);
    return 0;
}

#define REAL(type, name, ...) type (*real)(__VA_ARGS__) = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (ours_fd(fd) && disturbed()) { errno = ENOSPC; return -1; }
    return real(fd, data, size);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    if (ours_fd(fd) && disturbed()) { errno = ENOSPC; return -1; }
    return real(fd);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    if (ours_fd(fd) && disturbed()) { errno = ENOSPC; return -1; }
    return real(fd);
}

static int opened(const char *symbol, const char *name, int flags, int mode) {
    REAL(int, symbol, const char *, int, ...);
    if (ours(name) && disturbed()) { errno = ENOSPC; return -1; }
    return real(name, flags, mode);
}

int open(const char *name, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    return opened("open", name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    return opened("open64", name, flags, mode);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (ours(from) && disturbed()) { errno = ENOSPC; return -1; }
    return real(from, to);
}

int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    if (ours(from) && disturbed()) { errno = ENOSPC; return -1; }
    return real(from, to);
}

int linkat(int folder, const char *from, int other, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    if (ours(from) && disturbed()) { errno = ENOSPC; return -1; }
    return real(folder, from, other, to, flags);
}

int unlink(const char *name) {
    REAL(int, "unlink", const char *);
    if (ours(name) && getenv("FAULT") && strcmp(getenv("FAULT"), "KILL") == 0) disturbed();
    return real(name);
}
