// Rows of the kernel benchmark: mappings and page faults.
#include "bench.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64, MANY = 50 };

static int file_fd;
static char *area;

static void call_mmap(void) {
    void *at = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(at, PAGES * PAGE);
}
static void call_mmap_file(void) {
    void *at = mmap(0, PAGES * PAGE, PROT_READ, MAP_SHARED, file_fd, 0);
    munmap(at, PAGES * PAGE);
}
static void touch(int flags, int fd, int is_store) {
    char *at = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
    for (int i = 0; i < PAGES; i++) {
        if (is_store) {
            *(volatile char *)(at + i * PAGE) = 1;
        } else {
            (void)*(volatile char *)(at + i * PAGE);
        }
    }
    munmap(at, PAGES * PAGE);
}
static void call_fault(void) { touch(MAP_PRIVATE | MAP_ANONYMOUS, -1, 1); }
static void call_fault_file(void) { touch(MAP_SHARED, file_fd, 0); }
static void call_fault_copy(void) { touch(MAP_PRIVATE, file_fd, 1); }
static void call_mprotect(void) {
    mprotect(area, PAGES * PAGE, PROT_READ);
    mprotect(area, PAGES * PAGE, PROT_READ | PROT_WRITE);
}
static void call_brk(void) {
    sbrk(PAGES * PAGE);
    sbrk(-PAGES * PAGE);
}
static void call_discard(void) {
    for (int i = 0; i < PAGES; i++) *(volatile char *)(area + i * PAGE) = 1;
    madvise(area, PAGES * PAGE, MADV_DONTNEED);
}

void rows_of_memory(void) {
    need(file_fd = open("/tmp/mapped", O_RDWR | O_CREAT, 0600), "create /tmp/mapped");
    for (int i = 0; i < PAGES; i++) need(pwrite(file_fd, "x", 1, i * PAGE), "pwrite /tmp/mapped");
    area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(area == MAP_FAILED ? -1 : 0, "mmap");
    for (int i = 0; i < PAGES; i++) area[i * PAGE] = 1;
    row("mmap+munmap", MANY, 1, call_mmap);
    row("mmap+munmap-file", MANY, 1, call_mmap_file);
    row("fault-anon", 3, PAGES, call_fault);
    row("fault-file", 3, PAGES, call_fault_file);
    row("fault-file-private", 3, PAGES, call_fault_copy);
    row("mprotect-64", MANY, 2, call_mprotect);
    row("brk", MANY, 2, call_brk);
    row("madvise-refault", 3, PAGES, call_discard);
}
