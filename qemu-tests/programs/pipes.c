// Pipes: order, ends, blocking, capacity, atomic writes.
#include "test.h"
#include <sys/ioctl.h>

static void on_sigpipe(int signal) { say("got signal %d\n", signal); }

static void capacity(void) {
    int ends[2];
    char block[4096] = {0};
    SHOW(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    SHOW(fcntl(ends[0], F_GETFD));
    SHOW(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    SHOW(read(ends[0], block, 1));
    long total = 0, done;
    while ((done = write(ends[1], block, sizeof block)) > 0) total += done;
    SHOW(errno == EAGAIN);
    SHOW(total);
    SHOW(write(ends[1], block, 1));
    SHOW(fcntl(ends[1], F_GETPIPE_SZ));
    int waiting = 0;
    ioctl(ends[0], FIONREAD, &waiting);
    SHOW(waiting);
    SHOW(read(ends[0], block, sizeof block));
    SHOW(write(ends[1], block, 10));
    close(ends[0]);
    close(ends[1]);
}

static void blocking_transfer(void) {
    int ends[2];
    pipe(ends);
    pid_t child = fork_clean();
    if (child == 0) {
        close(ends[0]);
        unsigned char block[1000];
        for (int i = 0; i < 500; i++) {
            memset(block, i & 255, sizeof block);
            if (write(ends[1], block, sizeof block) != sizeof block) _exit(1);
        }
        _exit(0);
    }
    close(ends[1]);
    unsigned char buffer[777];
    long total = 0, wrong = 0, got;
    while ((got = read(ends[0], buffer, sizeof buffer)) > 0) {
        for (long i = 0; i < got; i++) wrong += buffer[i] != (((total + i) / 1000) & 255);
        total += got;
    }
    close(ends[0]);
    SHOW(total);
    SHOW(wrong);
    show_end("writer", child);
}

// Writes of at most PIPE_BUF bytes from several processes never mix.
static void atomic_writes(void) {
    int ends[2];
    pipe(ends);
    for (int who = 0; who < 4; who++) {
        if (fork_clean() == 0) {
            char block[512];
            memset(block, 'a' + who, sizeof block);
            for (int i = 0; i < 40; i++) write(ends[1], block, sizeof block);
            _exit(0);
        }
    }
    close(ends[1]);
    FILE *in = fdopen(ends[0], "r");
    char block[512];
    int blocks = 0, mixed = 0;
    while (fread(block, 1, sizeof block, in) == sizeof block) {
        blocks++;
        for (size_t i = 1; i < sizeof block; i++) mixed += block[i] != block[0];
    }
    fclose(in);
    while (wait(0) > 0) continue;
    SHOW(blocks);
    SHOW(mixed);
}

// A writer that is gone as soon as the reader's open has let it in.
static void meet_often(void) {
    int met = 0;
    for (; met < 60; met++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) _exit(close(open("/tmp/fifo", O_WRONLY)) != 0);
        close(open("/tmp/fifo", O_RDONLY));
        waitpid(child, 0, 0);
    }
    say("met %d times\n", met);
}

int main(void) {
    int ends[2];
    char buffer[16] = {0};
    SHOW(pipe(ends));
    SHOW(write(ends[1], "hello", 5));
    SHOW(read(ends[0], buffer, 2));
    SHOW(read(ends[0], buffer + 2, sizeof buffer - 2));
    say("%s\n", buffer);
    SHOW(write(ends[0], "x", 1));
    SHOW(read(ends[1], buffer, 1));
    SHOW(lseek(ends[0], 0, SEEK_SET));
    SHOW(pread(ends[0], buffer, 1, 0));
    SHOW(write(ends[1], "", 0));
    struct stat info;
    SHOW(fstat(ends[0], &info));
    TRUE(S_ISFIFO(info.st_mode));
    write(ends[1], "rest", 4);
    close(ends[1]);
    SHOW(read(ends[0], buffer, 16));
    SHOW(read(ends[0], buffer, 16));
    close(ends[0]);

    signal(SIGPIPE, on_sigpipe);
    pipe(ends);
    close(ends[0]);
    SHOW(write(ends[1], "x", 1));
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(ends[1], "x", 1));
    close(ends[1]);
    pid_t child = fork_clean();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        pipe(ends);
        close(ends[0]);
        write(ends[1], "x", 1);
        _exit(0);
    }
    show_end("writer without reader", child);
    SHOW(pipe2(ends, 0x12345));
    capacity();
    blocking_transfer();
    atomic_writes();

    SHOW(mkfifo("/tmp/fifo", 0600));
    child = fork_clean();
    if (child == 0) {
        int out = open("/tmp/fifo", O_WRONLY);
        write(out, "through a name", 14);
        _exit(0);
    }
    int in = open("/tmp/fifo", O_RDONLY);
    memset(buffer, 0, sizeof buffer);
    SHOW(read(in, buffer, 14));
    say("%s\n", buffer);
    SHOW(read(in, buffer, 14));
    show_end("fifo writer", child);
    SHOW(open("/tmp/fifo", O_WRONLY | O_NONBLOCK));
    meet_often();
    return 0;
}
