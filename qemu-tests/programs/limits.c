// Resource limits that are enforced, not only kept.
#include "test.h"
#include <sys/resource.h>

static void show(int resource) {
    struct rlimit limit;
    SHOW(getrlimit(resource, &limit));
    say("%lx\n", (unsigned long)limit.rlim_cur);
}

int main(void) {
    struct rlimit limit;
    SHOW(getrlimit(99, &limit));
    show(RLIMIT_STACK);
    show(RLIMIT_FSIZE);
    show(RLIMIT_AS);
    limit = (struct rlimit){20, 30};
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    int last = -1, next;
    while ((next = open("/dev/null", O_RDONLY)) >= 0) last = next;
    SHOW(last);
    SHOW(errno == EMFILE);
    SHOW(dup(0));
    SHOW(dup2(0, 20));
    SHOW(fcntl(0, F_DUPFD, 25));
    int ends[2];
    SHOW(pipe(ends));
    limit.rlim_cur = 31;
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 30;
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    SHOW(dup2(0, 29));
    for (int i = 3; i < 30; i++) close(i);

    pid_t child = fork_clean();
    if (child == 0) {
        limit = (struct rlimit){1000, 1000};
        SHOW(setrlimit(RLIMIT_FSIZE, &limit));
        signal(SIGXFSZ, SIG_IGN);
        int file = open("/tmp/limited", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        char block[1500] = {0};
        SHOW(write(file, block, 900));
        SHOW(write(file, block, 900));
        SHOW(write(file, block, 1));
        SHOW(ftruncate(file, 2000));
        signal(SIGXFSZ, SIG_DFL);
        write(file, block, 1);
        _exit(0);
    }
    show_end("file size", child);
    child = fork_clean();
    if (child == 0) {
        limit = (struct rlimit){64 << 20, 64 << 20};
        SHOW(setrlimit(RLIMIT_AS, &limit));
        SHOW(mmap(0, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        TRUE(mmap(0, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
        _exit(0);
    }
    show_end("address space", child);
    child = fork_clean();
    if (child == 0) {
        SHOW(setuid(1000));
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_max = 100;
        SHOW(setrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_max = 25;
        limit.rlim_cur = 25;
        SHOW(prlimit(0, RLIMIT_NOFILE, &limit, 0));
        SHOW(prlimit(0, RLIMIT_NOFILE, 0, &limit));
        SHOW(limit.rlim_max);
        _exit(0);
    }
    show_end("as a user", child);
    getrlimit(RLIMIT_NOFILE, &limit);
    SHOW(limit.rlim_max);
    SHOW(setpriority(PRIO_PROCESS, 0, 0));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 5));
    SHOW(getpriority(PRIO_PROCESS, 0));
    return 0;
}
