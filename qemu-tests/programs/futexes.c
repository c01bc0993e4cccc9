// The futex call by itself.
#include "test.h"
#include <linux/futex.h>

static long futex(int *word, int operation, int value, const struct timespec *time, int *second,
                  int third) {
    return syscall(SYS_futex, word, operation, value, time, second, third);
}

int main(void) {
    int *word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *other = word + 16;
    struct timespec short_time = {0, 20000000};
    SHOW(futex(word, FUTEX_WAIT, 1, 0, 0, 0));
    SHOW(futex(word, FUTEX_WAIT, 0, &short_time, 0, 0));
    SHOW(futex(word, FUTEX_WAIT_PRIVATE, 0, &short_time, 0, 0));
    SHOW(futex(word, FUTEX_WAKE, 1, 0, 0, 0));
    SHOW(futex((int *)((char *)word + 1), FUTEX_WAIT, 0, 0, 0, 0));
    SHOW(futex((int *)8, FUTEX_WAIT, 0, 0, 0, 0));
    SHOW(futex(word, 99, 0, 0, 0, 0));
    SHOW(futex(word, FUTEX_WAIT, 0, &(struct timespec){0, 2000000000}, 0, 0));
    SHOW(futex(word, FUTEX_WAIT_BITSET, 0, 0, 0, 0));
    struct timespec past = {1, 0};
    SHOW(futex(word, FUTEX_WAIT_BITSET, 0, &past, 0, -1));
    SHOW(futex(word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &past, 0, -1));

    pid_t child = fork_clean();
    if (child == 0) _exit(futex(word, FUTEX_WAIT, 0, 0, 0, 0) == 0 ? 0 : 1);
    long woken = 0;
    while (woken == 0) {
        sleep_ms(5);
        woken = futex(word, FUTEX_WAKE, 10, 0, 0, 0);
    }
    SHOW(woken);
    show_end("waiter", child);

    // Wait on one, requeue to the other, wake there.
    for (int i = 0; i < 3; i++) {
        if (fork_clean() == 0) {
            __atomic_fetch_add(other + 16, 1, __ATOMIC_SEQ_CST);
            _exit(futex(word, FUTEX_WAIT, 0, 0, 0, 0) == 0 ? 0 : 1);
        }
    }
    while (__atomic_load_n(other + 16, __ATOMIC_SEQ_CST) < 3) sleep_ms(1);
    sleep_ms(60);
    SHOW(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)10L, other, 5));
    SHOW(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)10L, other, 0));
    SHOW(futex(word, FUTEX_WAKE, 10, 0, 0, 0));
    SHOW(futex(other, FUTEX_WAKE, 10, 0, 0, 0));
    int status, bad = 0;
    while (wait(&status) > 0) bad += status != 0;
    SHOW(bad);

    // Bit sets choose whom to wake.
    child = fork_clean();
    if (child == 0) _exit(futex(word, FUTEX_WAIT_BITSET, 0, 0, 0, 4) == 0 ? 0 : 1);
    sleep_ms(60);
    SHOW(futex(word, FUTEX_WAKE_BITSET, 10, 0, 0, 3));
    SHOW(futex(word, FUTEX_WAKE_BITSET, 10, 0, 0, 6));
    show_end("bit set waiter", child);

    // A signal interrupts the wait.
    child = fork_clean();
    if (child == 0) {
        futex(word, FUTEX_WAIT, 0, 0, 0, 0);
        _exit(0);
    }
    sleep_ms(30);
    kill(child, SIGTERM);
    show_end("interrupted waiter", child);
    return 0;
}
