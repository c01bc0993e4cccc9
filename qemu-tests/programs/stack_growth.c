// The stack grows on demand, up to its limit, and not further.
#include "test.h"
#include <sys/resource.h>

static int __attribute__((noinline)) deep(int depth) {
    volatile char block[1024];
    block[0] = (char)depth;
    block[1023] = 1;
    return depth == 0 ? 0 : deep(depth - 1) + block[1023];
}

int main(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    SHOW(limit.rlim_cur);
    SHOW(deep(6000));
    pid_t child = fork_clean();
    if (child == 0) {
        deep(20000);
        _exit(0);
    }
    show_end("20 MiB of stack", child);
    child = fork_clean();
    if (child == 0) {
        volatile char *far = (volatile char *)__builtin_frame_address(0) - (64 << 20);
        *far = 1;
        _exit(0);
    }
    show_end("64 MiB below the stack", child);
    child = fork_clean();
    if (child == 0) {
        volatile char *below = (volatile char *)__builtin_frame_address(0) - (2 << 20);
        *below = 1;
        _exit(0);
    }
    show_end("2 MiB below the stack", child);
    return 0;
}
