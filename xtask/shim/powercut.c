// Records what a process asks of the files below one folder, with the bytes, in order; and spoils chosen calls.
// Loaded with LD_PRELOAD by the power-cut rig only. What the record means is decided in store/tests/power_cut.
//
// SHIM_ROOT        absolute path of the folder that is recorded
// SHIM_TRACE       file the record goes to
// SHIM_NOTES       writes to this file become notes in the record
// SHIM_FAIL_SYNC   the sync of this number (from 1) of a file named db, or of one in a folder named segments, answers EIO
// SHIM_FAIL_ANY_SYNC  the sync of this number (from 1) of whatever file or folder answers EIO
// SHIM_ROOM        this many bytes are taken, then every write answers ENOSPC
//
// A call that the record could not hold (a shared writable mapping, a copy inside the kernel, a symbolic link) ends the process:
// a rig that misses writes would pass for the wrong reason.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, RENAME, UNLINK, MKDIR, RMDIR, SYNC, NOTE, LINK, SYNC_ALL, SYNC_FAILED };

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], notes[PATH_MAX];
static size_t root_len;
static int trace = -1;
static long fail_sync = 0, syncs = 0, fail_any_sync = 0, all_syncs = 0;
static int64_t room = -1;

static void die(const char *what, const char *path) {
    char text[PATH_MAX + 200];
    int n = snprintf(text, sizeof text, "power-cut shim: cannot record %s on %s\n", what, path ? path : "?");
    syscall(SYS_write, 2, text, (size_t)n);
    _exit(99);
}

__attribute__((constructor)) static void start(void) {
    const char *r = getenv("SHIM_ROOT"), *t = getenv("SHIM_TRACE"), *n = getenv("SHIM_NOTES");
    if (!r) return;
    if (getenv("SHIM_FAIL_SYNC")) fail_sync = atol(getenv("SHIM_FAIL_SYNC"));
    if (getenv("SHIM_FAIL_ANY_SYNC")) fail_any_sync = atol(getenv("SHIM_FAIL_ANY_SYNC"));
    if (getenv("SHIM_ROOM")) room = atoll(getenv("SHIM_ROOM"));
    if (n) snprintf(notes, sizeof notes, "%s", n);
    if (t) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, t, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0) die("the trace", t);
        trace = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 900);
        syscall(SYS_close, fd);
    }
    snprintf(root, sizeof root, "%s", r);
    root_len = strlen(root);
}

static int under(const char *path) {
    return root_len && strncmp(path, root, root_len) == 0 && (path[root_len] == '/' || path[root_len] == 0);
}

static int is_notes(const char *path) { return notes[0] && strcmp(path, notes) == 0; }

// The path of a descriptor, or NULL. Deleted files keep their old name with a mark, which does no harm: inodes identify files.
static const char *path_of(int fd, char *buf) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, buf, (size_t)PATH_MAX - 1);
    if (n < 0) return NULL;
    buf[n] = 0;
    return buf;
}

static const char *absolute(int dir, const char *path, char *buf) {
    char base[PATH_MAX];
    if (path[0] == '/') return path;
    if (dir == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) return path;
    } else if (!path_of(dir, base)) {
        return path;
    }
    snprintf(buf, PATH_MAX * 2, "%s/%s", base, path);
    return buf;
}

static uint64_t inode_of(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static uint64_t inode_at(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static void put(int op, const char *path, const char *to, uint64_t inode, uint64_t at, const struct iovec *data, int count, uint64_t len) {
    if (trace < 0) return;
    if (!path) path = "";
    if (!to) to = "";
    uint32_t path_len = (uint32_t)strlen(path), to_len = (uint32_t)strlen(to);
    unsigned char head[1 + 4 + 4 + 8 + 8 + 8];
    head[0] = (unsigned char)op;
    memcpy(head + 1, &path_len, 4);
    memcpy(head + 5, &to_len, 4);
    memcpy(head + 9, &inode, 8);
    memcpy(head + 17, &at, 8);
    memcpy(head + 25, &len, 8);
    struct iovec all[3] = {{head, sizeof head}, {(void *)path, path_len}, {(void *)to, to_len}};
    if (syscall(SYS_writev, trace, all, 3) != (long)(sizeof head + path_len + to_len)) die("to the trace", path);
    for (int i = 0; i < count && len > 0; i++) {
        size_t n = data[i].iov_len < len ? data[i].iov_len : (size_t)len;
        if (syscall(SYS_write, trace, data[i].iov_base, n) != (long)n) die("to the trace", path);
        len -= n;
    }
}

static size_t total(const struct iovec *data, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += data[i].iov_len;
    return sum;
}

// at < 0 means the descriptor's own position.
static ssize_t write_at(int fd, const struct iovec *data, int count, off_t at) {
    char buf[PATH_MAX];
    const char *path = root_len ? path_of(fd, buf) : NULL;
    int recorded = path && under(path), noted = path && is_notes(path);
    if (!recorded && !noted) {
        if (at < 0) return syscall(SYS_writev, fd, data, count);
        return syscall(SYS_pwritev, fd, data, count, (long)at, 0L);
    }
    pthread_mutex_lock(&order);
    // A disk that fills up takes the bytes that still fit, and answers ENOSPC to the next call.
    struct iovec fitting = {data->iov_base, data->iov_len};
    size_t wanted = total(data, count);
    ssize_t n = -1;
    errno = ENOSPC;
    if (recorded && room >= 0 && (int64_t)wanted > room) {
        if ((int64_t)fitting.iov_len > room) fitting.iov_len = (size_t)room;
        data = &fitting;
        count = 1;
        wanted = fitting.iov_len;
    }
    if (!recorded || room < 0 || room > 0) {
        n = at < 0 ? syscall(SYS_writev, fd, data, count) : syscall(SYS_pwritev, fd, data, count, (long)at, 0L);
        if (recorded && room >= 0 && n > 0) room -= n;
    }
    int saved = errno;
    if (n > 0) {
        uint64_t from = at < 0 ? (uint64_t)lseek(fd, 0, SEEK_CUR) - (uint64_t)n : (uint64_t)at;
        put(noted ? NOTE : WRITE, NULL, NULL, inode_of(fd), from, data, count, (uint64_t)n);
    }
    pthread_mutex_unlock(&order);
    errno = saved;
    return n;
}

ssize_t write(int fd, const void *buf, size_t n) {
    struct iovec one = {(void *)buf, n};
    return write_at(fd, &one, 1, -1);
}
ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at) {
    struct iovec one = {(void *)buf, n};
    return write_at(fd, &one, 1, at);
}
ssize_t pwrite(int fd, const void *buf, size_t n, off_t at) { return pwrite64(fd, buf, n, at); }
ssize_t writev(int fd, const struct iovec *data, int count) { return write_at(fd, data, count, -1); }
ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t at) { return write_at(fd, data, count, at); }
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t at) { return write_at(fd, data, count, at); }

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    char buf[PATH_MAX * 2];
    const char *full = absolute(dir, path, buf);
    if (!under(full) || !(flags & (O_CREAT | O_TRUNC))) return (int)syscall(SYS_openat, dir, path, flags, mode);
    if ((flags & O_TMPFILE) == O_TMPFILE) die("an unnamed file", full);
    pthread_mutex_lock(&order);
    uint64_t before = inode_at(full);
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode), saved = errno;
    if (fd >= 0) {
        uint64_t inode = inode_of(fd);
        if (!before) put(CREATE, full, NULL, inode, 0, NULL, 0, 0);
        else if (flags & O_TRUNC) put(TRUNCATE, NULL, NULL, inode, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&order);
    errno = saved;
    return fd;
}

#define MODE_OF(flags, mode)                        \
    mode_t mode = 0;                                \
    if ((flags) & (O_CREAT | O_TMPFILE)) {          \
        va_list rest;                               \
        va_start(rest, flags);                      \
        mode = (mode_t)va_arg(rest, int);           \
        va_end(rest);                               \
    }
int open(const char *path, int flags, ...) { MODE_OF(flags, mode) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags, mode) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE_OF(flags, mode) return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE_OF(flags, mode) return open_at(dir, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int ftruncate64(int fd, off64_t len) {
    char buf[PATH_MAX];
    const char *path = root_len ? path_of(fd, buf) : NULL;
    if (!path || !under(path)) return (int)syscall(SYS_ftruncate, fd, len);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_ftruncate, fd, len), saved = errno;
    if (done == 0) put(TRUNCATE, NULL, NULL, inode_of(fd), (uint64_t)len, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }
int truncate64(const char *path, off64_t len) {
    char buf[PATH_MAX * 2];
    const char *full = absolute(AT_FDCWD, path, buf);
    if (!under(full)) return (int)syscall(SYS_truncate, path, len);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_truncate, path, len), saved = errno;
    if (done == 0) put(TRUNCATE, NULL, NULL, inode_at(full), (uint64_t)len, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}
int truncate(const char *path, off_t len) { return truncate64(path, len); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char a[PATH_MAX * 2], b[PATH_MAX * 2];
    const char *full_from = absolute(from_dir, from, a), *full_to = absolute(to_dir, to, b);
    int recorded = under(full_from) || under(full_to);
    if (recorded && (flags & 2)) die("an exchange", full_from);
    if (!recorded) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags), saved = errno;
    if (done == 0) put(RENAME, full_from, full_to, 0, 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return renameat2(from_dir, from, to_dir, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    char buf[PATH_MAX * 2];
    const char *full = absolute(dir, path, buf);
    if (!under(full)) return (int)syscall(SYS_unlinkat, dir, path, flags);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_unlinkat, dir, path, flags), saved = errno;
    if (done == 0) put(flags & AT_REMOVEDIR ? RMDIR : UNLINK, full, NULL, 0, 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char buf[PATH_MAX * 2];
    const char *full = absolute(dir, path, buf);
    if (!under(full)) return (int)syscall(SYS_mkdirat, dir, path, mode);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_mkdirat, dir, path, mode), saved = errno;
    if (done == 0) put(MKDIR, full, NULL, inode_at(full), 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char b[PATH_MAX * 2];
    if (under(absolute(to_dir, to, b))) die("a hard link", to);
    return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char *what, int dir, const char *path) {
    char b[PATH_MAX * 2];
    if (under(absolute(dir, path, b))) die("a symbolic link", path);
    return (int)syscall(SYS_symlinkat, what, dir, path);
}
int symlink(const char *what, const char *path) { return symlinkat(what, AT_FDCWD, path); }

// The files of the store: its segments, and the file of their index.
static int carries_records(const char *path) {
    size_t len = strlen(path);
    return (len > 3 && strcmp(path + len - 3, "/db") == 0) || strstr(path + root_len, "/segments/") != NULL;
}

static int sync_one(int fd, long call) {
    char buf[PATH_MAX];
    const char *path = root_len ? path_of(fd, buf) : NULL;
    if (!path || !under(path)) return (int)syscall(call, fd);
    pthread_mutex_lock(&order);
    int done, saved;
    int fails = fail_sync && carries_records(path) && ++syncs == fail_sync;
    if (fail_any_sync && ++all_syncs == fail_any_sync) fails = 1;
    if (fails) {
        done = -1;
        saved = EIO;
        put(SYNC_FAILED, NULL, NULL, inode_of(fd), 0, NULL, 0, 0);
    } else {
        // The rig's own disk need not be synced: the record is what counts.
        done = 0;
        saved = errno;
        put(SYNC, NULL, NULL, inode_of(fd), call == SYS_fdatasync, NULL, 0, 0);
    }
    pthread_mutex_unlock(&order);
    errno = saved;
    return done;
}
int fsync(int fd) { return sync_one(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_one(fd, SYS_fdatasync); }
// Writing back early makes nothing durable: no metadata, no flush of the disk's cache.
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) { return (int)syscall(SYS_sync_file_range, fd, at, len, flags); }
int syncfs(int fd) {
    if (root_len) die("syncfs", NULL);
    return (int)syscall(SYS_syncfs, fd);
}

static void refuse_fd(int fd, const char *what) {
    char buf[PATH_MAX];
    const char *path = root_len ? path_of(fd, buf) : NULL;
    if (path && under(path)) die(what, path);
}
int fallocate64(int fd, int mode, off64_t at, off64_t len) {
    refuse_fd(fd, "fallocate");
    return (int)syscall(SYS_fallocate, fd, mode, at, len);
}
int fallocate(int fd, int mode, off_t at, off_t len) { return fallocate64(fd, mode, at, len); }
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags) {
    refuse_fd(out, "copy_file_range");
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, n, flags);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) {
    refuse_fd(out, "sendfile");
    return syscall(SYS_sendfile, out, in, at, n);
}
ssize_t sendfile(int out, int in, off_t *at, size_t n) { return sendfile64(out, in, at, n); }
void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t at) {
    if (fd >= 0 && (flags & MAP_SHARED) && (prot & PROT_WRITE)) refuse_fd(fd, "a shared writable mapping");
    return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, at);
}
void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at) { return mmap64(addr, len, prot, flags, fd, at); }
