// The character devices that every program expects.
#include "test.h"

int main(void) {
    char block[4096];
    int null = open("/dev/null", O_RDWR);
    SHOW(write(null, block, sizeof block));
    SHOW(read(null, block, sizeof block));
    SHOW(lseek(null, 100, SEEK_SET));
    int zero = open("/dev/zero", O_RDWR);
    memset(block, 1, sizeof block);
    SHOW(read(zero, block, sizeof block));
    long sum = 0;
    for (size_t i = 0; i < sizeof block; i++) sum += block[i];
    SHOW(sum);
    SHOW(write(zero, block, 10));
    char *mapped = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    TRUE(mapped != MAP_FAILED);
    SHOW(mapped[5000]++);
    SHOW(mapped[5000]);
    int full = open("/dev/full", O_RDWR);
    SHOW(write(full, "x", 1));
    SHOW(read(full, block, 5));
    const char *names[] = {"/dev/urandom", "/dev/random"};
    for (int i = 0; i < 2; i++) {
        unsigned char one[64] = {0}, two[64] = {0};
        int random = open(names[i], O_RDWR);
        SHOW(read(random, one, sizeof one));
        SHOW(read(random, two, sizeof two));
        TRUE(memcmp(one, two, sizeof one) != 0);
        SHOW(write(random, one, sizeof one));
    }
    unsigned char bytes[64] = {0};
    SHOW(syscall(SYS_getrandom, bytes, sizeof bytes, 0));
    int different = 0;
    for (int i = 1; i < 64; i++) different += bytes[i] != bytes[0];
    TRUE(different > 40);
    SHOW(open("/dev/none", O_RDONLY));
    SHOW(open("/dev/null/x", O_RDONLY));
    char target[32] = {0};
    struct stat info;
    fstat(null, &info);
    say("%o\n", info.st_mode);
    (void)target;
    // A shell would write to it.
    int out = open("/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    SHOW(write(out, "x", 1));
    SHOW(ftruncate(out, 0));
    return 0;
}
