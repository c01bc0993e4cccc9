// How long file locks live, who waits for whom, and that many of them are no burden.
#include "test.h"
#include <pthread.h>
#include <sys/file.h>

static int range(int file, int command, short type, off_t start, off_t len) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(file, command, &lock);
}

static int is_free(int file) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl(file, F_GETLK, &lock);
    return lock.l_type == F_UNLCK;
}

static void *close_other(void *file) {
    close(*(int *)file);
    return NULL;
}

static void ends(char *self) {
    int file = open("/tmp/life", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    for (int way = 0; way < 6; way++) {
        int ready[2], go[2];
        pipe(ready), pipe(go);
        pid_t child = fork_clean();
        if (child == 0) {
            int own = open("/tmp/life", O_RDWR | (way == 2 ? O_CLOEXEC : 0)), byte;
            range(own, F_SETLK, F_WRLCK, 0, 0);
            if (way == 1) kill(getpid(), SIGKILL);
            if (way == 2) {
                char text[32];
                snprintf(text, sizeof text, "%d", ready[1]);
                execl(self, self, text, NULL);
            }
            if (way == 3) dup2(1, own);
            if (way == 4) close_range(own, own, 0);
            if (way == 5) {
                pthread_t other;
                pthread_create(&other, NULL, close_other, &own);
                pthread_join(other, NULL);
            }
            if (way > 2) {
                write(ready[1], "x", 1);
                read(go[0], &byte, 1);
            }
            _exit(0);
        }
        char byte;
        close(ready[1]);
        if (way >= 2) read(ready[0], &byte, 1);
        if (way < 2) show_end("holder", child);
        say("way %d: free %d\n", way, is_free(file));
        close(go[1]);
        close(go[0]);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(ready[0]);
    }
    close(file);
}

static void deadlock(void) {
    int file = open("/tmp/life", O_RDWR), ready[2];
    pipe(ready);
    range(file, F_SETLK, F_WRLCK, 0, 1);
    pid_t child = fork_clean();
    if (child == 0) {
        range(file, F_SETLK, F_WRLCK, 1, 1);
        write(ready[1], "x", 1);
        int waited = range(file, F_SETLKW, F_WRLCK, 0, 1);
        _exit(waited == 0 ? 0 : 1);
    }
    char byte;
    read(ready[0], &byte, 1);
    sleep_ms(50);
    SHOW(range(file, F_SETLKW, F_WRLCK, 1, 1));
    SHOW(range(file, F_SETLK, F_UNLCK, 0, 1));
    show_end("who waited", child);
    close(file);
}

static void many(void) {
    enum { COUNT = 20000, CHILDREN = 40 };
    int file = open("/tmp/life", O_RDWR), fails = 0;
    for (int i = 0; i < COUNT; i++) fails += range(file, F_SETLK, F_WRLCK, 2L * i, 1) != 0;
    SHOW(fails);
    SHOW(range(file, F_SETLK, F_UNLCK, COUNT, 1));
    pid_t children[CHILDREN];
    int ended = 0;
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork_clean();
        if (children[i] == 0) _exit(range(file, F_SETLKW, F_WRLCK, 4L * i, 1) == 0 ? 0 : 1);
    }
    sleep_ms(30);
    SHOW(range(file, F_SETLK, F_UNLCK, 0, 0));
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        waitpid(children[i], &status, 0);
        ended += status == 0;
    }
    SHOW(ended);
    TRUE(is_free(file));
    close(file);
    unlink("/tmp/life");
}

int main(int count, char **arguments) {
    if (count > 1) {
        write(atoi(arguments[1]), "x", 1);
        pause();
    }
    ends("/proc/self/exe");
    deadlock();
    many();
    return 0;
}
