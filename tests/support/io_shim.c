/* Watch what a process does to the files of one folder, for tests of crashes; loaded by LD_PRELOAD.
 *
 * Each call that changes a file, makes it durable or locks it is a step. Steps are counted; they can be
 * written to a log, and at a chosen one the process can be killed (before it, half way through a write,
 * or after it) or the call can fail. tests/support/io_trace.py is the other half.
 *
 * A record of the log: op u8, flags u8, length of path u16, unused u32, offset u64, length of data u64;
 * path (relative to the folder); data. All in the byte order of the machine.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, SIZE, SYNC, UNLINK, RENAME, MKDIR, LOCK, MARK, LINK };
enum { BEFORE = 1, HALF, AFTER, FAIL };
#define FDS 4096

static char folder[PATH_MAX];
static size_t folder_length;
static char *names[FDS]; /* relative path of a watched descriptor */
static int log_fd = -1, act_how, act_error;
static long steps, act_at;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void record(int op, const char *path, uint64_t offset, const void *data, uint64_t length) {
    struct { uint8_t op, flags; uint16_t path; uint32_t unused; uint64_t offset, length; } head =
        {op, 0, (uint16_t)strlen(path), 0, offset, data ? length : 0};
    if (log_fd < 0) return;
    if (!data) head.offset = offset;
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)data, head.length}};
    if (syscall(SYS_writev, log_fd, parts, 3) < 0) abort();
}

/* Count a step; true if its call is to fail now. */
static int step(void) {
    if (__sync_add_and_fetch(&steps, 1) != act_at) return 0;
    if (act_how == BEFORE) kill(getpid(), SIGKILL);
    if (act_how == FAIL) { errno = act_error; return 1; }
    return 0;
}

static void stepped(long mine) {
    if (mine == act_at && act_how != FAIL) kill(getpid(), SIGKILL);
}

static const char *watched(int fd) { return folder_length && fd >= 0 && fd < FDS ? names[fd] : NULL; }

static const char *inside(const char *path) {
    if (!folder_length || strncmp(path, folder, folder_length)) return NULL;
    if (path[folder_length] == 0) return ".";
    return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

/* The path of a name under a descriptor, relative to the folder; NULL if it is not inside. */
static const char *locate(int dir, const char *name, char *buffer) {
    char link[64], base[PATH_MAX];
    if (!folder_length || !name) return NULL;
    if (name[0] == '/' && strncmp(name, "/proc/self/fd/", 14)) {
        snprintf(buffer, PATH_MAX, "%s", name);
        return inside(buffer);
    }
    const char *rest = name;
    if (name[0] == '/') {
        char *end;
        dir = (int)strtol(name + 14, &end, 10);
        rest = *end ? end + 1 : "";
    }
    if (dir == AT_FDCWD) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return NULL;
    base[length] = 0;
    if (!*rest || !strcmp(rest, ".")) snprintf(buffer, PATH_MAX, "%s", base);
    else if (snprintf(buffer, PATH_MAX, "%s/%s", base, rest) >= PATH_MAX) return NULL;
    return inside(buffer);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(int dir, const char *name, int flags, mode_t mode, __typeof__(&openat) real) {
    char buffer[PATH_MAX];
    const char *path = locate(dir, name, buffer);
    if (!path) return real(dir, name, flags, mode);
    int made = flags & O_CREAT && faccessat(dir, name, F_OK, 0) != 0;
    if (made && step()) return -1;
    long mine = steps;
    int fd = real(dir, name, flags, mode);
    if (fd < 0) return fd;
    if (fd < FDS) { free(names[fd]); names[fd] = flags & O_PATH ? NULL : strdup(path); }
    if (made) { record(OPEN, path, 0, NULL, 0); stepped(mine); }
    if (flags & O_TRUNC) record(SIZE, path, 0, NULL, 0);
    return fd;
}
#define OPENER(name) int name(const char *path, int flags, ...) { \
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
    static __typeof__(&openat) real; if (!real) real = dlsym(RTLD_NEXT, "openat"); \
    return opened(AT_FDCWD, path, flags, mode, real); }
OPENER(open)
OPENER(open64)
#define OPENER_AT(name) int name(int dir, const char *path, int flags, ...) { \
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
    static __typeof__(&openat) real; if (!real) real = dlsym(RTLD_NEXT, "openat"); \
    return opened(dir, path, flags, mode, real); }
OPENER_AT(openat)
OPENER_AT(openat64)

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < FDS) { free(names[fd]); names[fd] = NULL; }
    return real(fd);
}

static ssize_t written(int fd, const void *data, size_t length, off_t offset, int moves) {
    const char *path = watched(fd);
    if (!path) return moves ? syscall(SYS_write, fd, data, length) : syscall(SYS_pwrite64, fd, data, length, offset);
    pthread_mutex_lock(&lock);
    if (step()) { pthread_mutex_unlock(&lock); return -1; }
    long mine = steps;
    size_t part = mine == act_at && act_how == HALF ? length / 2 : length;
    if (moves) offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = moves ? syscall(SYS_write, fd, data, part) : syscall(SYS_pwrite64, fd, data, part, offset);
    if (done > 0) record(WRITE, path, offset, data, done);
    int error = errno;
    stepped(mine);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
ssize_t write(int fd, const void *data, size_t length) { return written(fd, data, length, 0, 1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return written(fd, data, length, at, 0); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return written(fd, data, length, at, 0); }

static ssize_t gathered(int fd, const struct iovec *parts, int count, off_t offset, int moves) {
    ssize_t sum = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = written(fd, parts[i].iov_base, parts[i].iov_len, offset + sum, moves);
        if (done < 0) return sum ? sum : -1;
        sum += done;
    }
    return sum;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return watched(fd) ? gathered(fd, parts, count, 0, 1) : syscall(SYS_writev, fd, parts, count);
}
#define PWRITEV(name) ssize_t name(int fd, const struct iovec *parts, int count, off_t at) { \
    REAL(name); return watched(fd) ? gathered(fd, parts, count, at, 0) : real(fd, parts, count, at); }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define ON_FD(name, arguments, call, op, value) int name arguments { \
    REAL(name); const char *path = watched(fd); \
    if (!path) return real call; \
    if (step()) return FAILED; \
    long mine = steps; int result = real call; \
    if (!result) record(op, path, value, NULL, 0); \
    stepped(mine); return result; }
#define FAILED -1
ON_FD(fsync, (int fd), (fd), SYNC, 0)
ON_FD(fdatasync, (int fd), (fd), SYNC, 0)
ON_FD(ftruncate, (int fd, off_t size), (fd, size), SIZE, (uint64_t)size)
ON_FD(ftruncate64, (int fd, off_t size), (fd, size), SIZE, (uint64_t)size)
ON_FD(flock, (int fd, int how), (fd, how), LOCK, (uint64_t)how)
#undef FAILED
#define FAILED errno
/* allocation makes the file at least as long; the log has its length afterwards */
static uint64_t size_of(int fd) { struct stat info; return fstat(fd, &info) ? 0 : (uint64_t)info.st_size; }
ON_FD(posix_fallocate, (int fd, off_t at, off_t length), (fd, at, length), SIZE, size_of(fd))
ON_FD(posix_fallocate64, (int fd, off_t at, off_t length), (fd, at, length), SIZE, size_of(fd))

static int locking(int fd, int command, void *argument, const char *name) {
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    const char *path = watched(fd);
    int counts = path && (command == F_SETLK || command == F_SETLKW);
    if (counts && step()) return -1;
    long mine = steps;
    int result = real(fd, command, argument);
    if (counts) stepped(mine);
    if (result >= 0 && path && result < FDS && (command == F_DUPFD || command == F_DUPFD_CLOEXEC))
        names[result] = strdup(path);
    return result;
}
int fcntl(int fd, int command, ...) {
    va_list list; va_start(list, command); void *argument = va_arg(list, void *); va_end(list);
    return locking(fd, command, argument, "fcntl");
}
int fcntl64(int fd, int command, ...) {
    va_list list; va_start(list, command); void *argument = va_arg(list, void *); va_end(list);
    return locking(fd, command, argument, "fcntl64");
}

#define ON_PATH(name, arguments, call, dir, file, op) int name arguments { \
    REAL(name); char buffer[PATH_MAX]; const char *path = locate(dir, file, buffer); \
    if (!path) return real call; \
    if (step()) return -1; \
    long mine = steps; int result = real call; \
    if (!result) record(op, path, 0, NULL, 0); \
    stepped(mine); return result; }
ON_PATH(unlink, (const char *file), (file), AT_FDCWD, file, UNLINK)
ON_PATH(unlinkat, (int dir, const char *file, int flags), (dir, file, flags), dir, file, UNLINK)
ON_PATH(mkdir, (const char *file, mode_t mode), (file, mode), AT_FDCWD, file, MKDIR)
ON_PATH(mkdirat, (int dir, const char *file, mode_t mode), (dir, file, mode), dir, file, MKDIR)

/* Python's os.rename and os.link end here too. */
static int renamed(int op, int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char a[PATH_MAX], b[PATH_MAX];
    const char *before = locate(from_dir, from, a), *after = locate(to_dir, to, b);
    long call = op == RENAME ? SYS_renameat2 : SYS_linkat;
    if (!before || !after) return syscall(call, from_dir, from, to_dir, to, flags);
    if (step()) return -1;
    long mine = steps;
    int result = syscall(call, from_dir, from, to_dir, to, flags);
    if (!result) record(op, before, 0, after, strlen(after));
    for (int fd = 0; op == RENAME && !result && fd < FDS; fd++)
        if (names[fd] && !strcmp(names[fd], before)) { free(names[fd]); names[fd] = strdup(after); }
    stepped(mine);
    return result;
}
int rename(const char *from, const char *to) { return renamed(RENAME, AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(RENAME, a, from, b, to, 0); }
int link(const char *from, const char *to) { return renamed(LINK, AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return renamed(LINK, a, from, b, to, flags); }

/* What the other half calls. */
void shim_watch(const char *path, int fd) {
    snprintf(folder, sizeof folder, "%s", path);
    folder_length = strlen(folder);
    log_fd = fd;
    steps = act_at = 0;
}
void shim_act(long at, int how, int error) { steps = 0; act_at = at; act_how = how; act_error = error; }
long shim_steps(void) { return steps; }
void shim_mark(const char *text) { record(MARK, text, 0, NULL, 0); }
