// Many processes share pages and write to them at once; each sees only its own writes.
#include "test.h"

enum { PAGE = 4096, PAGES = 200, CHILDREN = 6 };

static long check(const int *area, int who) {
    long wrong = 0;
    for (int i = 0; i < PAGES; i++) {
        int expected = i % CHILDREN == who ? i * 100 + who : i;
        wrong += area[i * PAGE / 4] != expected;
    }
    return wrong;
}

int main(void) {
    int *area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < PAGES; i++) area[i * PAGE / 4] = i;
    for (int round = 0; round < 3; round++) {
        fflush(stdout);
        for (int who = 0; who < CHILDREN; who++) {
            if (fork() == 0) {
                for (int i = who; i < PAGES; i += CHILDREN) area[i * PAGE / 4] = i * 100 + who;
                if (fork() == 0) _exit(check(area, who) ? 1 : 0);
                int status;
                wait(&status);
                _exit(check(area, who) || status ? 1 : 0);
            }
        }
        int status, bad = 0;
        while (wait(&status) > 0) bad += status != 0;
        SHOW(bad);
        SHOW(check(area, -1));
    }
    // A page that only the parent still has is written in place, and stays right.
    pid_t child = fork_clean();
    if (child == 0) _exit(0);
    waitpid(child, 0, 0);
    for (int i = 0; i < PAGES; i++) area[i * PAGE / 4]++;
    long sum = 0;
    for (int i = 0; i < PAGES; i++) sum += area[i * PAGE / 4];
    SHOW(sum);
    // The kernel writes through the same protection.
    int ends[2];
    pipe(ends);
    child = fork_clean();
    if (child == 0) {
        write(ends[1], "kernel", 6);
        sleep_ms(30);
        _exit(((char *)area)[0] == 1 ? 0 : 1);
    }
    read(ends[0], area, 6);
    say("%.6s\n", (char *)area);
    show_end("child still has its own", child);
    return 0;
}
