/* A disk that fails on demand, preloaded before the C library (LD_PRELOAD).
 *
 * Counts what changes files below a directory, and lets the n-th such call fail, or every one from the n-th on; or has
 * room for so many bytes more, as a disk that is full. A test gives its orders in a file that is mapped here; nothing in
 * the server knows of it.
 *
 *   FAILING_DISK_ROOT    the directory, with a slash at its end
 *   FAILING_DISK_ORDERS  the file: six int64 of this machine: calls to let pass (-1: no fault), whether the fault stays,
 *                        errno, calls seen, faults made, bytes of room (-1: without end)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static struct orders { int64_t left, stays, error, seen, faults, room; } *orders;
static char root[PATH_MAX];
static size_t root_length;

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAILING_DISK_ORDERS"), *below = getenv("FAILING_DISK_ROOT");
    if (!path || !below || strlen(below) >= sizeof root) return;
    strcpy(root, below);
    root_length = strlen(root);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) orders = mapped;
}

/* Whether this call fails; sets errno. */
static int fails(void) {
    __atomic_add_fetch(&orders->seen, 1, __ATOMIC_SEQ_CST);
    int64_t left = __atomic_load_n(&orders->left, __ATOMIC_SEQ_CST);
    for (;;) {
        if (left < 0) return 0;
        if (left == 0 && orders->stays) break;
        /* The fault that does not stay goes from 0 to -1: nobody else has it. */
        if (__atomic_compare_exchange_n(&orders->left, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            if (left > 0) return 0;
            break;
        }
    }
    __atomic_add_fetch(&orders->faults, 1, __ATOMIC_SEQ_CST);
    errno = (int)orders->error;
    return 1;
}

/* Takes room for a file that grows, or gives back what it lets go of; whether there was none. */
static int has_no_room(int64_t growth) {
    int64_t room = __atomic_load_n(&orders->room, __ATOMIC_SEQ_CST);
    while (room >= 0 && growth != 0) {
        if (growth > room) {
            __atomic_add_fetch(&orders->faults, 1, __ATOMIC_SEQ_CST);
            errno = ENOSPC;
            return 1;
        }
        if (__atomic_compare_exchange_n(&orders->room, &room, room - growth, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            break;
    }
    return 0;
}

static int64_t size_of(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 ? status.st_size : 0;
}

/* Whether writing so many bytes there fails. */
static int cannot_write(int fd, int64_t at, int64_t count) {
    int64_t size = size_of(fd);
    return fails() || has_no_room(at + count > size ? at + count - size : 0);
}

static int64_t position(int fd) {
    return fcntl(fd, F_GETFL) & O_APPEND ? size_of(fd) : lseek(fd, 0, SEEK_CUR);
}

static int of_path(const char *path) {
    return orders && path && strncmp(path, root, root_length) == 0;
}

static int of_fd(int fd) {
    if (!orders) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return of_path(path);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    return of_fd(fd) && cannot_write(fd, position(fd), count) ? -1 : real(fd, bytes, count);
}
ssize_t writev(int fd, const struct iovec *bytes, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    int64_t length = 0;
    for (int i = 0; i < count; i++) length += bytes[i].iov_len;
    return of_fd(fd) && cannot_write(fd, position(fd), length) ? -1 : real(fd, bytes, count);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return of_fd(fd) && cannot_write(fd, at, count) ? -1 : real(fd, bytes, count, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return of_fd(fd) && cannot_write(fd, at, count) ? -1 : real(fd, bytes, count, at);
}
int fsync(int fd) {
    REAL(int, fsync, int);
    return of_fd(fd) && fails() ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return of_fd(fd) && fails() ? -1 : real(fd);
}
int ftruncate(int fd, off_t length) {
    REAL(int, ftruncate, int, off_t);
    return of_fd(fd) && (fails() || has_no_room(length - size_of(fd))) ? -1 : real(fd, length);
}
int ftruncate64(int fd, off64_t length) {
    REAL(int, ftruncate64, int, off64_t);
    return of_fd(fd) && (fails() || has_no_room(length - size_of(fd))) ? -1 : real(fd, length);
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return of_path(to) && fails() ? -1 : real(from, to);
}
int unlink(const char *path) {
    REAL(int, unlink, const char *);
    struct stat status;
    if (!of_path(path) || stat(path, &status) != 0) return real(path);
    return fails() ? -1 : (has_no_room(-status.st_size), real(path));
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    return of_path(path) && access(path, F_OK) != 0 && (fails() || has_no_room(4096)) ? -1 : real(path, mode);
}

/* A file that is there can be opened on a full disk: only making one changes anything. */
static int makes(const char *path, int flags) {
    return flags & O_CREAT && of_path(path) && access(path, F_OK) != 0 && fails();
}
int open(const char *path, int flags, ...) {
    REAL(int, open, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return makes(path, flags) ? -1 : real(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    REAL(int, open64, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return makes(path, flags) ? -1 : real(path, flags, mode);
}
