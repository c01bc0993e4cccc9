// Ways to move bytes between descriptors, and preallocation.
#include "test.h"
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

// A full pipe ends a splice into it, rather than waiting for a reader who may be the caller.
static void full_pipes(void) {
    static char bytes[100000];
    int ends[2], pair[2], out[2], left = 0;
    int file = open("/tmp/large", O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i / 7);
    write(file, bytes, sizeof bytes);
    pipe(ends), pipe(out), socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    loff_t at = 0;
    SHOW(splice(file, &at, ends[1], NULL, sizeof bytes, 0));
    SHOW(at);
    SHOW(splice(ends[0], NULL, out[1], NULL, 4096, SPLICE_F_NONBLOCK));
    off_t offset = at;
    SHOW(sendfile(ends[1], file, &offset, sizeof bytes));
    // What cannot be written stays in the pipe, in its order.
    struct rlimit limit = {10, RLIM_INFINITY};
    int limited = open("/tmp/limited", O_RDWR | O_CREAT | O_TRUNC, 0600);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    loff_t end = 10, before = 5;
    SHOW(splice(ends[0], NULL, limited, &end, 100, 0));
    SHOW(splice(ends[0], NULL, limited, &before, 100, 0));
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    SHOW(ioctl(ends[0], FIONREAD, &left));
    SHOW(left);
    static char copy[sizeof bytes];
    long count = read(out[0], copy, 4096);
    count += pread(limited, copy + count, 5, 5);
    while (count < left + 4096 + 5) count += read(ends[0], copy + count, sizeof copy - (size_t)count);
    TRUE(memcmp(bytes, copy, (size_t)count) == 0);
    write(pair[1], "from a socket", 13);
    SHOW(sendfile(ends[1], pair[0], NULL, 100));
    SHOW(sendfile(file, pair[0], NULL, 100));
    SHOW(sendfile(ends[1], pair[0], &offset, 100));
    at = 0;
    SHOW(splice(ends[0], &at, file, NULL, 5, 0));
    SHOW(splice(ends[0], NULL, ends[1], &at, 5, 0));
    SHOW(splice(pair[0], &at, ends[1], NULL, 5, 0));
    SHOW(splice(999, NULL, 999, NULL, 0, 0));
    SHOW(splice(ends[0], NULL, ends[1], NULL, 5, 0));
    SHOW(splice(ends[0], NULL, file, NULL, 5, 64));
    SHOW(tee(999, 999, 0, 0));
    struct iovec none = {bytes, 0};
    SHOW(vmsplice(file, &none, 1, 0));
    int directory = open("/tmp", O_RDONLY);
    int event = eventfd(3, EFD_NONBLOCK);
    SHOW(splice(event, NULL, ends[1], NULL, 8, SPLICE_F_NONBLOCK));
    SHOW(splice(ends[0], NULL, event, NULL, 8, SPLICE_F_NONBLOCK));
    close(event);
    offset = 0;
    SHOW(sendfile(limited, file, &offset, (size_t)1 << 63));
    loff_t behind = sizeof bytes, ahead = 10;
    SHOW(copy_file_range(file, &behind, file, &ahead, 1 << 20, 0));
    behind = sizeof bytes - 5, ahead = sizeof bytes;
    SHOW(copy_file_range(file, &behind, file, &ahead, 100, 0));
    behind = 5, ahead = 8;
    SHOW(copy_file_range(file, &behind, file, &ahead, 100, 0));
    SHOW(copy_file_range(file, &behind, file, &ahead, SIZE_MAX, 0));
    off_t before_all = -1, start = 0;
    SHOW(copy_file_range(file, &before_all, limited, &start, 1, 0));
    SHOW(copy_file_range(file, &start, limited, &before_all, 1, 0));
    before_all = -5;
    SHOW(copy_file_range(file, &before_all, limited, &start, 1, 0));
    SHOW(sendfile(limited, file, &before_all, 5));
    SHOW(copy_file_range(ends[0], NULL, directory, NULL, 5, 0));
    SHOW(copy_file_range(ends[0], NULL, file, NULL, 5, 0));
    SHOW(fallocate(ends[1], FALLOC_FL_PUNCH_HOLE, 0, 5));
    SHOW(sync_file_range(ends[0], 0, 0, 0));
    SHOW(sync_file_range(directory, 0, 0, 0));
    SHOW(readahead(directory, 0, 1));
    long size = 0;
    SHOW(ioctl(file, FIOQSIZE, &size));
    SHOW(size);
    SHOW(ioctl(ends[0], FIOQSIZE, &size));
    close(file), close(ends[0]), close(ends[1]), close(pair[0]), close(pair[1]), close(directory);
    close(out[0]), close(out[1]), close(limited);
}

int main(void) {
    int in = open("/etc/data", O_RDONLY), ends[2];
    int out = open("/tmp/copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
    off_t offset = 100;
    SHOW(sendfile(out, in, &offset, 1000));
    SHOW(offset);
    SHOW(lseek(in, 0, SEEK_CUR));
    SHOW(sendfile(out, in, 0, 500));
    SHOW(lseek(in, 0, SEEK_CUR));
    unsigned char bytes[4];
    SHOW(pread(out, bytes, 4, 998));
    say("%d %d %d %d\n", bytes[0], bytes[1], bytes[2], bytes[3]);
    SHOW(sendfile(out, in, 0, 100000));
    SHOW(sendfile(out, in, 0, 1));
    pipe(ends);
    offset = 0;
    SHOW(sendfile(ends[1], in, &offset, 50));
    SHOW(read(ends[0], bytes, 4));
    SHOW(sendfile(out, ends[0], 0, 10));
    SHOW(sendfile(999, in, 0, 10));
    SHOW(sendfile(in, in, 0, 10));
    SHOW(lseek(out, 0, SEEK_END));
    SHOW(fallocate(out, 0, 0, 30000));
    SHOW(lseek(out, 0, SEEK_END));
    SHOW(fallocate(out, 0, 0, 0));
    SHOW(posix_fadvise(in, 0, 0, POSIX_FADV_SEQUENTIAL));
    // Nothing to copy is not worth a wait, and not an endless one.
    int sink[2];
    pipe(sink);
    SHOW(write(ends[1], "x", 1));
    SHOW(tee(ends[0], sink[1], 0, 0));
    SHOW(splice(ends[0], NULL, sink[1], NULL, 0, 0));
    SHOW(tee(ends[0], sink[1], 1, 0));
    full_pipes();
    return 0;
}
