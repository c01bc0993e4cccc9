// Counts, keys and owners of futexes, at their edges.
#include "test.h"
#include <linux/futex.h>
#include <pthread.h>

static long futex(void *word, int operation, int value, void *time, void *second, int third) {
    return syscall(SYS_futex, word, operation, value, time, second, third);
}

static volatile int ready;

struct wait {
    int *word, operation;
};

static void *waiter(void *argument) {
    struct wait *wait = argument;
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    return (void *)futex(wait->word, wait->operation, 0, 0, 0, -1);
}

static void start(pthread_t *threads, int count, struct wait *wait) {
    ready = 0;
    for (int i = 0; i < count; i++) pthread_create(threads + i, 0, waiter, wait);
    while (ready < count) sleep_ms(1);
    sleep_ms(60);
}

// Zero and negative counts wake one; requeueing takes them as they are.
static void counts(void) {
    int *word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *other = word + 16;
    pthread_t threads[6];
    struct wait wait = {word, FUTEX_WAIT_PRIVATE};
    start(threads, 6, &wait);
    SHOW(futex(word, FUTEX_WAKE_PRIVATE, 0, 0, 0, 0));
    SHOW(futex(word, FUTEX_WAKE_PRIVATE, -1, 0, 0, 0));
    SHOW(futex(word, FUTEX_REQUEUE_PRIVATE, -1, (void *)1L, other, 0));
    SHOW(futex(word, FUTEX_REQUEUE_PRIVATE, 1, (void *)-1L, other, 0));
    SHOW(futex(word, FUTEX_REQUEUE_PRIVATE, 0, (void *)1L, other, 0));
    SHOW(futex(other, FUTEX_WAKE_PRIVATE, 10, 0, 0, 0));
    SHOW(futex(word, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)1L, other, 0));
    int op = FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0);
    SHOW(futex(word, FUTEX_WAKE_OP_PRIVATE, 0, (void *)0L, other, op));
    SHOW(*other);
    *other = 0;
    SHOW(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)-1L, other, op));
    SHOW(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1L, other, 0x7f000000));
    SHOW(futex(word, FUTEX_WAKE_PRIVATE, 10, 0, 0, 0) + futex(other, FUTEX_WAKE_PRIVATE, 10, 0, 0, 0));
    for (int i = 0; i < 6; i++) pthread_join(threads[i], 0);
}

// Private and shared waiters at one address meet only where the memory is private.
static void keys(void) {
    int *word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    struct wait wait = {word, FUTEX_WAIT_PRIVATE};
    start(&thread, 1, &wait);
    SHOW(futex(word, FUTEX_WAKE, 1, 0, 0, 0));
    SHOW(futex(word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
    pthread_join(thread, 0);

    // The same file, mapped twice, at other addresses and offsets.
    int file = memfd_create("futex", 0);
    ftruncate(file, 8192);
    char *one = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    int *two = mmap(0, 4096, PROT_READ, MAP_SHARED, file, 4096);
    wait = (struct wait){(int *)(one + 4096 + 64), FUTEX_WAIT};
    start(&thread, 1, &wait);
    SHOW(futex(two, FUTEX_WAKE, 1, 0, 0, 0));
    // Nobody need have the page at hand.
    madvise(one, 8192, MADV_DONTNEED);
    SHOW(futex(two + 16, FUTEX_WAKE, 1, 0, 0, 0));
    pthread_join(thread, 0);
    char *copy = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 4096);
    wait = (struct wait){(int *)(one + 4096), FUTEX_WAIT};
    start(&thread, 1, &wait);
    copy[64] = 1;
    SHOW(futex(copy, FUTEX_WAKE, 1, 0, 0, 0));
    SHOW(futex(two, FUTEX_WAKE, 1, 0, 0, 0));
    pthread_join(thread, 0);
}

static void refused(void) {
    static int word;
    void *none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *gone = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int *constant = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(gone, 4096);
    SHOW(futex(none, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0));
    SHOW(futex(none, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
    SHOW(futex(none, FUTEX_WAKE, 1, 0, 0, 0));
    SHOW(futex(gone, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
    SHOW(futex(gone, FUTEX_WAKE, 1, 0, 0, 0));
    SHOW(futex((void *)-4096L, FUTEX_WAKE, 1, 0, 0, 0));
    SHOW(futex((char *)&word + 2, FUTEX_WAKE, 1, 0, 0, 0));
    SHOW(futex(&word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, 0, 0, 0));
    SHOW(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, 0, 0, 0));
    SHOW(futex(&word, FUTEX_FD, 0, 0, 0, 0));
    SHOW(futex(&word, FUTEX_WAKE_BITSET, 1, 0, 0, 0));
    SHOW(futex(&word, FUTEX_WAIT, 1, (void *)8, 0, 0));
    SHOW(futex(constant, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1L, constant,
               FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 0)));
    SHOW(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1L, gone, 0));
    SHOW(syscall(SYS_get_robust_list, 0x7ffffff, &none, &gone));
    SHOW(syscall(SYS_get_robust_list, 0, 8, &gone));
}

struct list {
    struct robust_list_head head;
    struct robust_list entry[3];
    unsigned word[3];
};

// A thread that dies with locks in its list marks them; a list that leads nowhere hurts nobody.
static void robust(void) {
    struct list *list = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int kind = 0; kind < 4; kind++) {
        pid_t child = fork_clean();
        if (child == 0) {
            unsigned tid = (unsigned)syscall(SYS_gettid);
            list->head.futex_offset =
                (char *)&list->word[0] - (char *)&list->entry[0];
            for (int i = 0; i < 3; i++) list->word[i] = tid;
            list->word[1] |= FUTEX_WAITERS;
            list->word[2] = 77;
            // Entries and words have the same distance only for the first: move the words.
            struct robust_list *entry = list->entry;
            list->head.list.next = entry;
            entry[0].next = &list->head.list;
            list->head.list_op_pending = 0;
            if (kind == 1) entry[0].next = entry;
            if (kind == 2) entry[0].next = (void *)8;
            if (kind == 3) list->head.list.next = &list->head.list, list->head.list_op_pending = entry;
            syscall(SYS_set_robust_list, &list->head, sizeof list->head);
            _exit(0);
        }
        show_end("owner", child);
        say("%d: died %d, waiters %d\n", kind, !!(list->word[0] & FUTEX_OWNER_DIED),
            !!(list->word[0] & FUTEX_WAITERS));
    }
    pid_t child = fork_clean();
    if (child == 0) {
        syscall(SYS_set_robust_list, 0xffffffff80000000, 24);
        _exit(0);
    }
    show_end("list in the kernel", child);
    child = fork_clean();
    if (child == 0) {
        syscall(SYS_set_tid_address, 0xffffffff80000000);
        syscall(SYS_set_robust_list, (char *)list + 8188, 24);
        _exit(0);
    }
    show_end("list across the end", child);
}

int main(void) {
    counts();
    keys();
    refused();
    robust();
    return 0;
}
