// What fork copies and what it shares.
#include "test.h"

static int data = 1;
static int bss;

int main(void) {
    int *heap = malloc(sizeof *heap);
    *heap = 1;
    int stack = 1;
    int file = open("/tmp/fork_basic", O_RDWR | O_CREAT | O_TRUNC, 0600);
    write(file, "abcdef", 6);
    lseek(file, 0, SEEK_SET);
    pid_t parent = getpid();
    pid_t child = fork_clean();
    if (child == 0) {
        TRUE(getppid() == parent);
        TRUE(getpid() != parent);
        data = bss = *heap = stack = 99;
        char byte;
        read(file, &byte, 1);
        say("child read %c\n", byte);
        _exit(17);
    }
    show_end("child", child);
    say("parent still has %d %d %d %d\n", data, bss, *heap, stack);
    char byte;
    read(file, &byte, 1);
    say("parent read %c: the offset is shared\n", byte);
    SHOW(close(file));

    // An orphan goes to PID 1.
    int ends[2];
    pipe(ends);
    if (fork_clean() == 0) {
        if (fork() == 0) {
            close(ends[0]);
            while (getppid() != 1) sleep_ms(1);
            write(ends[1], "x", 1);
            _exit(0);
        }
        _exit(0);
    }
    wait(0);
    close(ends[1]);
    SHOW(read(ends[0], &byte, 1));
    SHOW(read(ends[0], &byte, 1));

    // A chain of generations, each reporting through its exit code.
    child = fork_clean();
    if (child == 0) {
        for (int depth = 1; depth < 10; depth++) {
            pid_t next = fork();
            if (next > 0) {
                int status;
                waitpid(next, &status, 0);
                _exit(WEXITSTATUS(status) + 1);
            }
        }
        _exit(1);
    }
    show_end("chain of ten", child);

    int died = 0;
    for (int i = 0; i < 50; i++) {
        if (fork_clean() == 0) _exit(i);
    }
    int sum = 0, status;
    while (wait(&status) > 0) {
        died++;
        sum += WEXITSTATUS(status);
    }
    say("%d children, sum %d\n", died, sum);
    return 0;
}
