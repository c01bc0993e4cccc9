// What every guest test program uses: calls shown with their result, so that the output reads as
// a list of what the kernel did. The expectation is what the same program prints on Linux.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline long show_result(const char *what, long result) {
    int error = errno;
    if (result == -1) {
        const char *name = strerrorname_np(error);
        printf("%s = -1 %s\n", what, name ? name : "?");
    } else {
        printf("%s = %ld\n", what, result);
    }
    fflush(stdout);
    errno = error;
    return result;
}

static inline long show_success(const char *what, long result) {
    int error = errno;
    if (result == -1) {
        const char *name = strerrorname_np(error);
        printf("%s: %s\n", what, name ? name : "?");
    } else {
        printf("%s: ok\n", what);
    }
    fflush(stdout);
    errno = error;
    return result;
}

// The call as written, and what it returned (or its errno).
#define SHOW(call) show_result(#call, (long)(call))
// The same for a result that differs from run to run: only whether it worked.
#define OK(call) show_success(#call, (long)(call))
// A condition that holds on Linux.
#define TRUE(condition) (printf("%s: %s\n", #condition, (condition) ? "yes" : "NO"), fflush(stdout))

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

// Forks with nothing left in stdout's buffer.
static inline pid_t fork_clean(void) {
    fflush(stdout);
    return fork();
}

// Waits for `child` and says how it ended.
static inline void show_end(const char *who, pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child) {
        say("%s: waitpid failed: %s\n", who, strerrorname_np(errno));
    } else if (WIFEXITED(status)) {
        say("%s: exit %d\n", who, WEXITSTATUS(status));
    } else if (WIFSIGNALED(status)) {
        say("%s: signal %d\n", who, WTERMSIG(status));
    } else {
        say("%s: status %x\n", who, (unsigned)status);
    }
}

static inline void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
}

static inline long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}
