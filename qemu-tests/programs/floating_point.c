// Registers of the FPU and SSE survive switches, signals and forks.
#include "test.h"
#include <math.h>
#include <pthread.h>

static double series(int seed, int steps) {
    volatile double sum = seed;
    for (int i = 1; i <= steps; i++) sum = sum + 1.0 / ((double)i * i + seed);
    return sum;
}

static void *repeats(void *argument) {
    int seed = (int)(intptr_t)argument;
    double first = series(seed, 20000);
    long wrong = 0;
    for (int i = 0; i < 10; i++) wrong += series(seed, 20000) != first;
    return (void *)wrong;
}

static void handler(int signal) {
    (void)signal;
    volatile double noise = series(99, 100);
    (void)noise;
    __asm__ volatile("pxor %%xmm0, %%xmm0; pxor %%xmm7, %%xmm7; fninit" ::: "xmm0", "xmm7");
}

// Fills registers, waits for a signal, and looks again.
static int survives_signal(void) {
    unsigned long in[2] = {0x1122334455667788, 0x99aabbccddeeff00}, out[2] = {0, 0};
    pid_t pid = getpid();
    long result;
    __asm__ volatile("movdqu %3, %%xmm7; movdqu %%xmm7, %%xmm15; syscall; movdqu %%xmm15, %1"
                     : "=a"(result), "=m"(out)
                     : "a"(SYS_kill), "m"(in), "D"((long)pid), "S"((long)SIGUSR1)
                     : "rcx", "r11", "xmm7", "xmm15", "memory");
    return result == 0 && memcmp(in, out, sizeof in) == 0;
}

int main(void) {
    pthread_t threads[4];
    for (intptr_t i = 0; i < 4; i++) pthread_create(&threads[i], 0, repeats, (void *)i);
    long wrong = 0;
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (long)result;
    }
    SHOW(wrong);
    signal(SIGUSR1, handler);
    TRUE(survives_signal());
    double before = series(3, 1000);
    pid_t child = fork_clean();
    if (child == 0) _exit(series(3, 1000) == before ? 0 : 1);
    show_end("child", child);
    unsigned control, mode = 0;
    __asm__ volatile("stmxcsr %0" : "=m"(control));
    SHOW(control & 0xffc0);
    unsigned short word;
    __asm__ volatile("fnstcw %0" : "=m"(word));
    SHOW(word);
    // Rounding modes belong to a thread, and are inherited.
    mode = control | 0x6000;
    __asm__ volatile("ldmxcsr %0" ::"m"(mode));
    child = fork_clean();
    if (child == 0) {
        __asm__ volatile("stmxcsr %0" : "=m"(control));
        _exit((control & 0x6000) == 0x6000 ? 0 : 1);
    }
    show_end("inherited mode", child);
    // exec starts afresh.
    fflush(stdout);
    long double wide = 1.0L;
    for (int i = 1; i < 20; i++) wide *= i;
    say("%.0Lf\n", wide);
    return 0;
}
