// Mappings at their edges: addresses, sizes, limits, files that shrink under them.
#include "test.h"
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <setjmp.h>

#define P 4096L
#define RW (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define SHARED (MAP_SHARED | MAP_ANONYMOUS)

static sigjmp_buf back;
static int fault_code;

static void fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    fault_code = signal * 100 + info->si_code;
    siglongjmp(back, 1);
}

// 0, or 100 times the signal and its code.
static int touch(volatile char *at, int write) {
    fault_code = 0;
    if (sigsetjmp(back, 1) == 0) {
        if (write) *at = 1;
        else (void)*at;
    }
    return fault_code;
}

static char *map(long pages, int prot, int flags) {
    return mmap(0, (size_t)(pages * P), prot, flags, -1, 0);
}

static void mapping(void) {
    int file = open("/etc/data", O_RDONLY), writable = open("/tmp/edges", O_RDWR | O_CREAT, 0600);
    int blind = open("/tmp/edges", O_WRONLY), folder = open("/etc", O_RDONLY), ends[2];
    pipe(ends);
    OK(mmap(0, 0, RW, PRIVATE, -1, 0));
    OK(mmap(0, -1UL, RW, PRIVATE, -1, 0));
    OK(mmap(0, 1UL << 47, RW, PRIVATE, -1, 0));
    OK(mmap(0, P, RW, MAP_ANONYMOUS, -1, 0));
    OK(mmap(0, P, RW, MAP_PRIVATE, -1, 0));
    OK(mmap(0, P, PROT_READ, MAP_PRIVATE, file, 1));
    OK(mmap(0, P, PROT_READ, MAP_PRIVATE, file, -4096));
    OK(mmap(0, P, RW, MAP_SHARED, file, 0));
    OK(mmap(0, P, PROT_READ, MAP_PRIVATE, blind, 0));
    OK(mmap(0, P, PROT_READ, MAP_PRIVATE, folder, 0));
    OK(mmap(0, P, PROT_READ, MAP_PRIVATE, ends[0], 0));
    OK(mmap((void *)1, P, RW, PRIVATE | MAP_FIXED, -1, 0));
    OK(mmap((void *)(1L << 47), P, RW, PRIVATE | MAP_FIXED, -1, 0));
    OK(mmap((void *)((1L << 47) - P), 2 * P, RW, PRIVATE | MAP_FIXED, -1, 0));
    OK(mmap(0, P, RW, SHARED | MAP_GROWSDOWN, -1, 0));
    OK(mmap(0, P, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, file, 0));
    OK(mmap(0, P, PROT_READ, MAP_SHARED_VALIDATE | 0x8000000, file, 0));
    OK(mmap(0, P, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, file, 0));
    OK(mmap(0, P, RW, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0));
    OK(mmap(0, 1UL << 21, RW, PRIVATE | MAP_HUGETLB, -1, 0));
    char *low = mmap(0, 3 * P, RW, PRIVATE | MAP_32BIT, -1, 0);
    TRUE(low != MAP_FAILED && (uintptr_t)low < 1UL << 31);
    char *hinted = mmap((void *)0x123456789123, P, RW, PRIVATE, -1, 0);
    TRUE(hinted == (void *)0x123456789000);
    TRUE(mmap(hinted, P, RW, PRIVATE, -1, 0) != hinted);
    OK(mmap(hinted, P, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0));
    OK(mmap(hinted - P, 2 * P, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0));
    TRUE(mmap(hinted, P, RW, PRIVATE | MAP_FIXED, -1, 0) == hinted);
    SHOW(munmap(hinted + 1, P));
    SHOW(munmap(hinted, 0));
    SHOW(munmap(hinted, -1UL));
    SHOW(munmap(hinted, P));
    SHOW(munmap(hinted, P));
    char *read_only = mmap(0, P, PROT_READ, MAP_SHARED, file, 0);
    SHOW(mprotect(read_only, P, RW));
    close(writable);
}

static void protecting(void) {
    char *area = map(4, RW, PRIVATE);
    SHOW(mprotect(area + 1, P, PROT_READ));
    SHOW(mprotect(area, 0, PROT_READ));
    SHOW(mprotect(area, -1UL, PROT_READ));
    SHOW(mprotect(area, P, 0x40));
    munmap(area + 2 * P, P);
    SHOW(mprotect(area, 4 * P, PROT_READ));
    SHOW(touch(area, 1));
    SHOW(touch(area + 3 * P, 1));
    SHOW(touch(area + 2 * P, 0));
    SHOW(mprotect(area, P, PROT_WRITE));
    SHOW(touch(area, 0));
    SHOW(mprotect(area, P, PROT_NONE));
    SHOW(touch(area, 0));
    SHOW(mprotect(area, P, RW | PROT_GROWSDOWN));
    SHOW(mprotect(area, P, RW | PROT_GROWSDOWN | PROT_GROWSUP));
    // From a page of the stack down to its lowest one.
    char *here = (char *)((uintptr_t)__builtin_frame_address(0) & ~(P - 1));
    SHOW(mprotect(here, P, RW | PROT_GROWSDOWN));
    SHOW(touch(here - 4 * P, 1));
}

static void remapping(void) {
    char *area = map(4, RW, PRIVATE);
    for (int i = 0; i < 4; i++) area[i * P] = (char)(i + 1);
    OK(mremap(area, P, 0, 0));
    OK(mremap(area + 1, P, P, 0));
    OK(mremap(area, 0, P, MREMAP_MAYMOVE));
    OK(mremap(area, P, P, 8));
    OK(mremap(area, P, P, MREMAP_FIXED, area));
    OK(mremap(area, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, area + P));
    OK(mremap(area, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, area + 1));
    OK(mremap(area, 2 * P, P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0));
    TRUE(mremap(area, 4 * P, 2 * P, 0) == area);
    SHOW(touch(area + 2 * P, 0));
    char *moved = mremap(area, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    TRUE(moved != area && moved[0] == 1 && moved[P] == 2);
    SHOW(area[0] + area[P]);
    char *target = map(8, RW, PRIVATE);
    TRUE(mremap(moved, 2 * P, 3 * P, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    SHOW(target[0] + target[P] + target[2 * P]);
    SHOW(touch(moved, 0));
    char *common = map(2, RW, SHARED);
    common[P] = 9;
    char *twin = mremap(common, 0, 2 * P, MREMAP_MAYMOVE);
    TRUE(twin != common && twin[P] == 9);
    twin[0] = 4;
    SHOW(common[0]);
    munmap(area, 4 * P);
    OK(mremap(area, P, 2 * P, MREMAP_MAYMOVE));
    char *split = map(3, RW, PRIVATE);
    mprotect(split + P, P, PROT_READ);
    OK(mremap(split, 3 * P, 4 * P, MREMAP_MAYMOVE));
    TRUE(mremap(split, 3 * P, P, 0) == split);
    SHOW(touch(split + P, 0));
    // Only what stays has to be one mapping.
    split = map(3, RW, PRIVATE);
    target = map(1, RW, PRIVATE);
    mprotect(split + P, P, PROT_READ);
    split[0] = 6;
    TRUE(mremap(split, 3 * P, P, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    SHOW(touch(split, 0) + touch(split + P, 0) + touch(split + 2 * P, 0));
    SHOW(target[0]);
    OK(mremap(target, P, 1L << 47, MREMAP_MAYMOVE | MREMAP_FIXED, split));
    char *second = mremap(common, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    TRUE(second != common && second[P] == 9 && common[P] == 9);
}

static void advice(void) {
    char *area = map(4, RW, PRIVATE), *common = map(2, RW, SHARED);
    area[0] = common[0] = 5;
    SHOW(madvise(area + 1, P, MADV_DONTNEED));
    SHOW(madvise(area, P, 999));
    SHOW(madvise(area, -1UL, MADV_DONTNEED));
    SHOW(madvise(area, 0, MADV_DONTNEED));
    SHOW(madvise(area, P, MADV_DONTNEED));
    SHOW(area[0]);
    SHOW(madvise(common, P, MADV_DONTNEED));
    SHOW(common[0]);
    SHOW(madvise(common, P, MADV_FREE));
    SHOW(madvise(common, P, MADV_REMOVE));
    SHOW(common[0]);
    SHOW(madvise(area, P, MADV_REMOVE));
    SHOW(madvise(area, P, MADV_POPULATE_WRITE));
    SHOW(madvise(area, P, MADV_COLD));
    SHOW(madvise(area, P, MADV_HWPOISON) == 0);
    munmap(area + P, P);
    area[2 * P] = 6;
    SHOW(madvise(area, 4 * P, MADV_DONTNEED));
    SHOW(area[2 * P]);
    SHOW(madvise(area, 4 * P, MADV_POPULATE_READ));
    SHOW(madvise(common, P, MADV_WIPEONFORK));
    unsigned char pages[8];
    SHOW(mincore(area, 2 * P, pages));
    SHOW(mincore(area + 1, P, pages));
    SHOW(mincore(common, P, (void *)8));
    SHOW(mincore(common, 0, pages));
    SHOW(msync(area, P, MS_SYNC | MS_ASYNC));
    SHOW(msync(area, P, 8));
    SHOW(msync(area, 4 * P, MS_SYNC));
    SHOW(msync(area + 1, P, MS_SYNC));
    SHOW(msync(area, 0, MS_SYNC));
}

// Locked memory neither goes nor cools down.
static void locked_advice(void) {
    char *area = map(1, RW, PRIVATE);
    mlock(area, P);
    area[0] = 7;
    SHOW(madvise(area, P, MADV_DONTNEED));
    SHOW(madvise(area, P, MADV_FREE));
    SHOW(madvise(area, P, MADV_COLD));
    SHOW(madvise(area, P, MADV_PAGEOUT));
    SHOW(area[0]);
    munlock(area, P);
    SHOW(madvise(area, P, MADV_FREE));
}

static void other_pages(void) {
    char *common = map(4, RW, SHARED), *own = map(1, RW, PRIVATE);
    for (int i = 0; i < 4; i++) common[i * P] = (char)i;
    SHOW(syscall(SYS_remap_file_pages, common, P, PROT_READ, 2, 0));
    SHOW(syscall(SYS_remap_file_pages, common, 0, 0, 2, 0));
    SHOW(syscall(SYS_remap_file_pages, common, 8 * P, 0, 0, 0));
    SHOW(syscall(SYS_remap_file_pages, common, P, 0, -1L, 0));
    SHOW(syscall(SYS_remap_file_pages, own, P, 0, 0, 0));
    SHOW(syscall(SYS_remap_file_pages, common + 5, 2 * P, 0, 2, 0));
    SHOW(common[0] + 10 * common[P] + 100 * common[2 * P]);
    common[2 * P] = 8;
    SHOW(common[0]);
}

// The memory of others is reached as its owner may reach it.
static void remote(void) {
    char *closed = map(1, RW, PRIVATE), *constant = map(1, PROT_READ, PRIVATE), text[8] = "abcdefg";
    struct iovec own = {text, 8}, other = {closed, 8}, none = {text, 0};
    closed[0] = 'x';
    mprotect(closed, P, PROT_NONE);
    SHOW(process_vm_readv(getpid(), &own, 1, &other, 1, 0));
    SHOW(process_vm_writev(getpid(), &own, 1, &other, 1, 0));
    SHOW(process_vm_readv(getpid(), &other, 1, &own, 1, 0));
    other.iov_base = constant;
    SHOW(process_vm_readv(getpid(), &own, 1, &other, 1, 0));
    SHOW(process_vm_writev(getpid(), &own, 1, &other, 1, 0));
    SHOW(process_vm_readv(1 << 29, &own, 1, &other, 1, 0));
    SHOW(process_vm_readv(1 << 29, &none, 1, &other, 1, 0));
    SHOW(process_vm_readv(1 << 29, &own, 1, &none, 1, 0));
    SHOW(process_vm_readv(1 << 29, &own, 1, (void *)8, 1, 0));
    struct rusage usage;
    SHOW(getrusage(RUSAGE_THREAD, &usage));
    TRUE(usage.ru_maxrss > 0);
}

static void shrinking_files(void) {
    int file = memfd_create("edges", 0);
    ftruncate(file, 3 * P);
    char *shared = mmap(0, 4 * P, RW, MAP_SHARED, file, 0);
    char *private = mmap(0, 4 * P, RW, MAP_PRIVATE, file, 0);
    memset(shared, 7, 3 * P);
    private[0] = private[2 * P] = 8;
    SHOW(touch(shared + 3 * P, 0));
    SHOW(touch(private + 3 * P, 1));
    mprotect(private + 2 * P, P, PROT_NONE);
    ftruncate(file, P + 100);
    mprotect(private + 2 * P, P, RW);
    SHOW(touch(shared + 2 * P, 0));
    // Private copies go, too.
    SHOW(touch(private + 2 * P, 0));
    SHOW(private[0]);
    SHOW(shared[P + 99] + shared[P + 100]);
    ftruncate(file, 3 * P);
    SHOW(shared[2 * P] + private[2 * P]);
    shared[0] = shared[P] = 3;
    (void)*(volatile char *)(private + P);
    SHOW(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * P));
    SHOW(shared[0] + shared[P]);
    SHOW(private[0]);
    shared[4000] = 1;
    ftruncate(file, 10);
    ftruncate(file, P);
    SHOW(shared[4000]);
}

static void growing(void) {
    char *area = mmap((void *)0x200000000000, 64 * P, PROT_NONE, PRIVATE | MAP_FIXED, -1, 0);
    munmap(area, 1024 * P);
    char *top = mmap(area + 1000 * P, P, RW, PRIVATE | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    SHOW(touch(top - 3 * P, 1));
    SHOW(touch(top - P, 1));
    // A mapping below keeps a distance of 256 pages, unless it is out of bounds itself.
    mmap(top - 300 * P, P, RW, PRIVATE | MAP_FIXED, -1, 0);
    SHOW(touch(top - 30 * P, 1));
    SHOW(touch(top - 60 * P, 1));
    SHOW(touch(top - 299 * P, 1));
    munmap(top - 300 * P, P);
    SHOW(touch(top - 60 * P, 1));
}

static void limits(void) {
    struct rlimit limit = {512 << 20, 512 << 20};
    SHOW(setrlimit(RLIMIT_AS, &limit));
    OK(map(200000, RW, PRIVATE));
    char *half = map(80000, PROT_NONE, PRIVATE);
    TRUE(half != MAP_FAILED);
    // Moving counts only what is added.
    char *moved = mremap(half, 80000 * P, 80001 * P, MREMAP_MAYMOVE);
    TRUE(moved != MAP_FAILED);
    OK(mremap(moved, 80001 * P, 160001 * P, MREMAP_MAYMOVE));
    munmap(moved, 80001 * P);
    char *old = sbrk(0);
    OK(brk(old + (1L << 30)));
    TRUE(sbrk(0) == old);
    SHOW(brk(old + 3 * P));
    SHOW(brk(old));
    TRUE((long)syscall(SYS_brk, 0) == (long)old);
    TRUE((long)syscall(SYS_brk, -1L) == (long)old);
    limit = (struct rlimit){64 << 10, 64 << 10};
    SHOW(setrlimit(RLIMIT_MEMLOCK, &limit));
    char *area = map(64, RW, PRIVATE);
    SHOW(mlock(area, 64 * P));
    SHOW(munlock(area, 64 * P));
    SHOW(mlock((void *)P, P));
    SHOW(mlockall(0));
    SHOW(mlockall(99));
    SHOW(mlockall(MCL_ONFAULT));
    SHOW(syscall(SYS_mlock2, area, P, 2));
    pid_t child = fork_clean();
    if (child == 0) {
        setresuid(1000, 1000, 1000);
        SHOW(mlock(area, 16 * P));
        SHOW(mlock(area, 16 * P));
        SHOW(mlock(area + 16 * P, P));
        SHOW(mlock(area, 17 * P));
        OK(map(17, RW, PRIVATE | MAP_LOCKED));
        SHOW(munlock(area, 64 * P));
        OK(map(16, RW, PRIVATE | MAP_LOCKED));
        SHOW(mlock(area, 16 * P));
        SHOW(munlockall());
        SHOW(mlock(area, 16 * P));
        munlockall();
        char *common = map(1, RW, PRIVATE | MAP_LOCKED);
        SHOW(mlockall(MCL_CURRENT));
        limit = (struct rlimit){0, 0};
        setrlimit(RLIMIT_MEMLOCK, &limit);
        SHOW(mlock(area, P));
        SHOW(mlockall(MCL_CURRENT));
        OK(map(1, RW, PRIVATE | MAP_LOCKED));
        OK(mremap(common, P, 2 * P, MREMAP_MAYMOVE));
        _exit(0);
    }
    show_end("user", child);
}

static void personalities(void) {
    unsigned old = (unsigned)personality(0xffffffff);
    SHOW(old == 0);
    personality(READ_IMPLIES_EXEC);
    char *area = map(1, RW, PRIVATE);
    *(volatile char *)area = (char)0xc3;
    fault_code = 0;
    if (sigsetjmp(back, 1) == 0) ((void (*)(void))area)();
    SHOW(fault_code);
    mprotect(area, P, PROT_READ);
    if (sigsetjmp(back, 1) == 0) ((void (*)(void))area)();
    SHOW(fault_code);
    personality(old);
    mprotect(area, P, PROT_READ);
    if (sigsetjmp(back, 1) == 0) ((void (*)(void))area)();
    SHOW(fault_code);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    mapping();
    protecting();
    remapping();
    advice();
    locked_advice();
    other_pages();
    remote();
    shrinking_files();
    growing();
    personalities();
    limits();
    return 0;
}
