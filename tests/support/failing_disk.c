/* A disk that fails on demand, to be preloaded: the n-th write (or sync, truncation, read) of files
   in one folder gives an error. What is below is what SQLite calls; everything else passes. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, READ = 4 };

static char folder[PATH_MAX];
static int kind, next, times, error, torn, seen, failed, swift;

/* From now on, of the operations of this kind, let the n-th and the next ones fail: `count` in all.
   `half`: a failing write still puts the first half of its bytes in the file. */
void arm(const char *in, int what, int nth, int count, int number, int half)
{
    strncpy(folder, in, sizeof folder - 1);
    next = nth, times = count, error = number, torn = half, seen = failed = 0;
    kind = what;
}

/* Let everything pass again; gives how many operations failed. */
int disarm(void)
{
    kind = 0;
    return failed;
}

/* Do not wait for the real disk: these tests sync thousands of times, and pull no plug. */
void skip_syncs(int yes) { swift = yes; }

static int concerns(int descriptor)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int fails(int what, int descriptor)
{
    if (kind != what || !concerns(descriptor)) return 0;
    if (++seen < next || failed >= times) return 0;
    failed++;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define WRITES(name, offset) \
    ssize_t name(int fd, const void *data, size_t size, offset at) \
    { \
        REAL(name); \
        if (!fails(WRITE, fd)) return real(fd, data, size, at); \
        if (torn) real(fd, data, size / 2, at); \
        errno = error; \
        return -1; \
    }
WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    if (!fails(WRITE, fd)) return real(fd, data, size);
    errno = error;
    return -1;
}

#define READS(name, offset) \
    ssize_t name(int fd, void *data, size_t size, offset at) \
    { \
        REAL(name); \
        if (!fails(READ, fd)) return real(fd, data, size, at); \
        errno = error; \
        return -1; \
    }
READS(pread, off_t)
READS(pread64, off64_t)

ssize_t read(int fd, void *data, size_t size)
{
    REAL(read);
    if (!fails(READ, fd)) return real(fd, data, size);
    errno = error;
    return -1;
}

#define SYNCS(name) \
    int name(int fd) \
    { \
        REAL(name); \
        if (!fails(SYNC, fd)) return swift ? 0 : real(fd); \
        errno = error; \
        return -1; \
    }
SYNCS(fsync)
SYNCS(fdatasync)

#define TRUNCATES(name, offset) \
    int name(int fd, offset size) \
    { \
        REAL(name); \
        if (!fails(TRUNCATE, fd)) return real(fd, size); \
        errno = error; \
        return -1; \
    }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)
