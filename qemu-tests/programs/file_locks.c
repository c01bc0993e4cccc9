// Advisory locks, of whole files and of ranges.
#include "test.h"
#include <sys/file.h>

static int range(int file, int command, short type, off_t start, off_t len) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(file, command, &lock);
}

static void show_holder(int file, off_t start, off_t len, pid_t holder) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    SHOW(fcntl(file, F_GETLK, &lock));
    say("type %d start %ld len %ld by the holder %d\n", lock.l_type, (long)lock.l_start,
        (long)lock.l_len, lock.l_type == F_UNLCK || lock.l_pid == holder);
}

int main(void) {
    int one = open("/tmp/locked", O_RDWR | O_CREAT, 0600), two = open("/tmp/locked", O_RDWR);
    SHOW(flock(one, LOCK_EX));
    SHOW(flock(two, LOCK_EX | LOCK_NB));
    SHOW(flock(two, LOCK_SH | LOCK_NB));
    SHOW(flock(one, LOCK_SH));
    SHOW(flock(two, LOCK_SH | LOCK_NB));
    SHOW(flock(one, LOCK_EX | LOCK_NB));
    SHOW(flock(two, LOCK_UN));
    SHOW(flock(one, LOCK_EX | LOCK_NB));
    close(one);
    SHOW(flock(two, LOCK_EX | LOCK_NB));
    SHOW(flock(two, LOCK_SH | LOCK_EX));
    pid_t child = fork_clean();
    if (child == 0) {
        int three = open("/tmp/locked", O_RDWR);
        SHOW(flock(three, LOCK_EX | LOCK_NB));
        SHOW(flock(three, LOCK_EX));
        say("got it\n");
        _exit(0);
    }
    sleep_ms(60);
    say("letting go\n");
    flock(two, LOCK_UN);
    show_end("waiter", child);

    pid_t self = getpid();
    SHOW(range(two, F_SETLK, F_WRLCK, 10, 20));
    child = fork_clean();
    if (child == 0) {
        show_holder(two, 0, 100, self);
        show_holder(two, 0, 10, self);
        SHOW(range(two, F_SETLK, F_RDLCK, 15, 1));
        SHOW(range(two, F_SETLK, F_RDLCK, 30, 1));
        _exit(0);
    }
    show_end("another process", child);
    SHOW(range(two, F_SETLK, F_UNLCK, 12, 5));
    child = fork_clean();
    if (child == 0) {
        show_holder(two, 0, 100, self);
        SHOW(range(two, F_SETLK, F_WRLCK, 12, 5));
        SHOW(range(two, F_SETLKW, F_WRLCK, 10, 20));
        say("got the range\n");
        _exit(0);
    }
    sleep_ms(60);
    say("closing\n");
    close(open("/tmp/locked", O_RDONLY));
    show_end("waiter", child);
    SHOW(range(two, F_SETLK, 77, 0, 0));
    SHOW(range(999, F_SETLK, F_WRLCK, 0, 0));
    return 0;
}
