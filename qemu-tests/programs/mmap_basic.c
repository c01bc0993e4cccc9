// mmap, munmap, mprotect, mremap, madvise, brk.
#include "test.h"
#include <setjmp.h>

enum { PAGE = 4096 };
static sigjmp_buf jump;
static void handler(int signal) { siglongjmp(jump, signal); }

static int faults(volatile char *address) {
    if (sigsetjmp(jump, 1)) return 1;
    (void)*address;
    return 0;
}

static void *map(size_t len, int protection, int flags, int file, off_t offset) {
    return mmap(0, len, protection, flags, file, offset);
}

static void anonymous(void) {
    char *area = map(16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(area != MAP_FAILED && ((uintptr_t)area & (PAGE - 1)) == 0);
    long sum = 0;
    for (int i = 0; i < 16 * PAGE; i++) sum += area[i];
    SHOW(sum);
    memset(area, 1, 16 * PAGE);
    SHOW(munmap(area + 4 * PAGE, 2 * PAGE));
    SHOW(faults(area + 3 * PAGE));
    SHOW(faults(area + 4 * PAGE));
    SHOW(faults(area + 6 * PAGE));
    char *again = mmap(area + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    TRUE(again == area + 4 * PAGE);
    SHOW(*again);
    TRUE(mmap(area, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
         MAP_FAILED);
    SHOW(errno == EEXIST);
    SHOW(mprotect(area, PAGE, PROT_NONE));
    SHOW(faults(area));
    SHOW(mprotect(area, PAGE, PROT_READ));
    SHOW(area[10]);
    SHOW(mprotect(area + 5 * PAGE, PAGE, PROT_READ));
    SHOW(madvise(area + 8 * PAGE, PAGE, MADV_DONTNEED));
    SHOW(area[8 * PAGE]);
    SHOW(area[9 * PAGE]);
    SHOW(munmap(area, 16 * PAGE));
    SHOW(munmap(area, 16 * PAGE));
    SHOW(faults(area));
}

static void refusals(void) {
    SHOW(map(0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    SHOW(map(PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0));
    SHOW(map(PAGE, PROT_READ, MAP_PRIVATE, -1, 0));
    SHOW(map((size_t)1 << 48, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    SHOW(mmap((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    SHOW(munmap((void *)1, PAGE));
    SHOW(munmap((void *)PAGE, 0));
    SHOW(mprotect((void *)1, PAGE, PROT_READ));
    SHOW(madvise((void *)1, PAGE, MADV_DONTNEED));
    int ends[2];
    pipe(ends);
    SHOW(map(PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0));
    int file = open("/etc/data", O_RDONLY);
    SHOW(map(PAGE, PROT_WRITE, MAP_SHARED, file, 0));
    SHOW(map(PAGE, PROT_READ, MAP_PRIVATE, file, 1));
    close(file);
}

static void moving(void) {
    char *area = map(2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 7, 2 * PAGE);
    char *bigger = mremap(area, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    TRUE(bigger != MAP_FAILED);
    SHOW(bigger[PAGE]);
    SHOW(bigger[3 * PAGE]);
    char *smaller = mremap(bigger, 64 * PAGE, PAGE, 0);
    TRUE(smaller == bigger);
    SHOW(faults(bigger + PAGE));
    char *place = map(4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(mremap(smaller, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
    SHOW(place[5]);
    SHOW(faults(smaller));
}

static void heap(void) {
    char *start = sbrk(0);
    TRUE(sbrk(10 * PAGE) == start);
    start[5 * PAGE] = 3;
    SHOW(start[5 * PAGE]);
    SHOW(start[6 * PAGE]);
    TRUE(sbrk(-10 * PAGE) == start + 10 * PAGE);
    TRUE(sbrk(0) == start);
    char *big = malloc(8 << 20);
    memset(big, 1, 8 << 20);
    big = realloc(big, 16 << 20);
    SHOW(big[(8 << 20) - 1]);
    free(big);
}

int main(void) {
    signal(SIGSEGV, handler);
    signal(SIGBUS, handler);
    anonymous();
    refusals();
    moving();
    heap();
    return 0;
}
