// Ways to move bytes between descriptors, and preallocation.
#include "test.h"
#include <sys/sendfile.h>

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
    return 0;
}
