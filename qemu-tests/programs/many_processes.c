// A ring of processes passing a token, and a storm of short ones: scheduling, waking, reaping.
#include "test.h"

enum { RING = 12, LAPS = 30 };

static void ring(void) {
    int pipes[RING][2];
    for (int i = 0; i < RING; i++) pipe(pipes[i]);
    fflush(stdout);
    for (int i = 0; i < RING; i++) {
        if (fork() == 0) {
            for (int lap = 0; lap < LAPS; lap++) {
                int token;
                if (read(pipes[i][0], &token, sizeof token) != sizeof token) _exit(1);
                token++;
                write(pipes[(i + 1) % RING][1], &token, sizeof token);
            }
            _exit(0);
        }
    }
    int token = 0;
    write(pipes[0][1], &token, sizeof token);
    int status, bad = 0;
    while (wait(&status) > 0) bad += status != 0;
    SHOW(bad);
    read(pipes[0][0], &token, sizeof token);
    SHOW(token);
}

// A pipeline as a shell makes it: each stage adds one to every byte.
static void pipeline(void) {
    int in[2], previous;
    pipe(in);
    previous = in[0];
    fflush(stdout);
    for (int stage = 0; stage < 8; stage++) {
        int next[2];
        pipe(next);
        if (fork() == 0) {
            close(in[1]);
            close(next[0]);
            char block[256];
            ssize_t got;
            while ((got = read(previous, block, sizeof block)) > 0) {
                for (ssize_t i = 0; i < got; i++) block[i]++;
                write(next[1], block, (size_t)got);
            }
            _exit(0);
        }
        close(previous);
        close(next[1]);
        previous = next[0];
    }
    write(in[1], "000 pipeline", 12);
    close(in[1]);
    char block[64] = {0};
    size_t total = 0;
    ssize_t got;
    while ((got = read(previous, block + total, sizeof block - 1 - total)) > 0) total += (size_t)got;
    say("%s\n", block);
    while (wait(0) > 0) continue;
}

int main(void) {
    ring();
    pipeline();
    int bad = 0, status;
    for (int round = 0; round < 10; round++) {
        fflush(stdout);
        for (int i = 0; i < 10; i++) {
            if (fork() == 0) {
                char *arguments[] = {"busybox", "true", 0};
                execv("/bin/busybox", arguments);
                _exit(1);
            }
        }
        while (wait(&status) > 0) bad += status != 0;
    }
    SHOW(bad);
    return 0;
}
