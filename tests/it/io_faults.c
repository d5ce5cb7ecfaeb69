/* Lets one system call on a store's files fail with EIO: preloaded into the real binary.
 *
 *   IO_FAULT_CALL   read, write, sync, truncate or unlink
 *   IO_FAULT_AT     which of them, counted from 1
 *   IO_FAULT_MARK   a file that is made when it has failed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long calls;

/* Whether this call, of this kind and on this file, is the one that fails. The WAL's index is memory, not a file. */
static int fails(const char *call, const char *file)
{
    const char *kind = getenv("IO_FAULT_CALL"), *at = getenv("IO_FAULT_AT"), *mark = getenv("IO_FAULT_MARK");
    if (!kind || !at || !mark || strcmp(kind, call) || !strstr(file, "hero_proc.db") || strstr(file, "-shm"))
        return 0;
    if (atomic_fetch_add(&calls, 1) + 1 != atol(at))
        return 0;
    close(open(mark, O_CREAT | O_WRONLY, 0600));
    errno = EIO;
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

ssize_t pread(int fd, void *to, size_t count, off_t at) { return fails_on("read", fd) ? -1 : NEXT(pread)(fd, to, count, at); }
ssize_t pread64(int fd, void *to, size_t count, off64_t at) { return fails_on("read", fd) ? -1 : NEXT(pread64)(fd, to, count, at); }
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) { return fails_on("write", fd) ? -1 : NEXT(pwrite)(fd, from, count, at); }
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) { return fails_on("write", fd) ? -1 : NEXT(pwrite64)(fd, from, count, at); }
int fsync(int fd) { return fails_on("sync", fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails_on("sync", fd) ? -1 : NEXT(fdatasync)(fd); }
int ftruncate(int fd, off_t length) { return fails_on("truncate", fd) ? -1 : NEXT(ftruncate)(fd, length); }
int ftruncate64(int fd, off64_t length) { return fails_on("truncate", fd) ? -1 : NEXT(ftruncate64)(fd, length); }
int unlink(const char *file) { return fails("unlink", file) ? -1 : NEXT(unlink)(file); }
