/* Lets system calls on a store's files fail: preloaded into the real binary.
 *
 * IO_FAULT_PLAN names a file. While it exists and holds "<call> <at> <errno> <lasts>", calls of that kind (open, read,
 * write, sync, truncate or unlink) are counted, and the one number <at>, from 1, fails with <errno>; if <lasts> is 1, so do
 * all after it. Each call counted is a byte in <plan>.count.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

/* Whether this call, of this kind and on this file, is to fail. The WAL's index is memory, not a file. */
static int fails(const char *call, const char *file)
{
    const char *plan = getenv("IO_FAULT_PLAN");
    if (!plan || !strstr(file, "hero_proc.db") || strstr(file, "-shm"))
        return 0;
    FILE *planned = fopen(plan, "re");
    if (!planned)
        return 0;
    char kind[16], count[4096];
    long at, error, lasts;
    int read = fscanf(planned, "%15s %ld %ld %ld", kind, &at, &error, &lasts);
    fclose(planned);
    if (read != 4 || strcmp(kind, call))
        return 0;
    snprintf(count, sizeof count, "%s.count", plan);
    struct stat counted = {0};
    pthread_mutex_lock(&counting);
    int fd = open(count, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
    if (write(fd, ".", 1) != 1 || fstat(fd, &counted))
        abort();
    close(fd);
    pthread_mutex_unlock(&counting);
    if (counted.st_size != at && !(lasts && counted.st_size > at))
        return 0;
    errno = (int)error;
    return 1;
}

static int fails_on(const char *call, int fd)
{
    char link[64], file[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, file, sizeof file - 1);
    if (length < 0)
        return 0;
    file[length] = 0;
    return fails(call, file);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The mode is only there for files that may be made. */
#define OPEN(name) \
    int name(const char *file, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        int mode = flags & O_CREAT ? va_arg(rest, int) : 0; \
        va_end(rest); \
        return fails("open", file) ? -1 : NEXT(name)(file, flags, mode); \
    }

OPEN(open)
OPEN(open64)
ssize_t pread(int fd, void *to, size_t count, off_t at) { return fails_on("read", fd) ? -1 : NEXT(pread)(fd, to, count, at); }
ssize_t pread64(int fd, void *to, size_t count, off64_t at) { return fails_on("read", fd) ? -1 : NEXT(pread64)(fd, to, count, at); }
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) { return fails_on("write", fd) ? -1 : NEXT(pwrite)(fd, from, count, at); }
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) { return fails_on("write", fd) ? -1 : NEXT(pwrite64)(fd, from, count, at); }
int fsync(int fd) { return fails_on("sync", fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails_on("sync", fd) ? -1 : NEXT(fdatasync)(fd); }
int ftruncate(int fd, off_t length) { return fails_on("truncate", fd) ? -1 : NEXT(ftruncate)(fd, length); }
int ftruncate64(int fd, off64_t length) { return fails_on("truncate", fd) ? -1 : NEXT(ftruncate64)(fd, length); }
int unlink(const char *file) { return fails("unlink", file) ? -1 : NEXT(unlink)(file); }
