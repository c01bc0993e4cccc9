// Threads at the same thing: walks beside renames and removals, descriptors that are closed while they
// are used, waiters of which one is woken at a time. Only sums and impossible answers are printed.
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { LOOKERS = 2, WAITERS = 6, ROUNDS = 400, EVENTS = 300 };

static atomic_int done, wrong;

static void start(pthread_t *thread, void *(*run)(void *), void *arg) {
    if (pthread_create(thread, 0, run, arg)) _exit(1);
}

// Names.

static const char *const places[] = {"a/f", "b/f", "b/c/f"};
static ino_t the_file;

static void *look(void *arg) {
    (void)arg;
    struct stat status;
    while (!done) {
        for (int i = 0; i < 3; i++) {
            if (stat(places[i], &status) == 0) {
                if (status.st_ino != the_file) wrong++;
            } else if (errno != ENOENT) {
                wrong++;
            }
            int fd = open("a/new", O_RDONLY);
            char byte = 0;
            // Written before the name was given.
            if (fd >= 0 && (read(fd, &byte, 1) != 1 || byte != 'x')) wrong++;
            if (fd < 0 && errno != ENOENT) wrong++;
            if (fd >= 0) close(fd);
        }
    }
    return 0;
}

static void make(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (write(fd, "x", 1) != 1) wrong++;
    close(fd);
}

static void names(void) {
    pthread_t lookers[LOOKERS];
    struct stat status;
    mkdir("a", 0700), mkdir("b", 0700), mkdir("b/c", 0700);
    make(places[0]);
    stat(places[0], &status);
    the_file = status.st_ino;
    done = wrong = 0;
    for (int i = 0; i < LOOKERS; i++) start(&lookers[i], look, 0);
    for (int i = 0; i < ROUNDS; i++) {
        const char *from = places[i % 3], *to = places[(i + 1) % 3];
        if (rename(from, to)) wrong++;
        if (stat(from, &status) == 0 || errno != ENOENT) wrong++;
        if (stat(to, &status) || status.st_ino != the_file) wrong++;
        make("a/made");
        if (rename("a/made", "a/new")) wrong++;
        if (stat("a/new", &status) || status.st_nlink != 1) wrong++;
        if (unlink("a/new")) wrong++;
        if (stat("a/new", &status) == 0) wrong++;
    }
    done = 1;
    for (int i = 0; i < LOOKERS; i++) pthread_join(lookers[i], 0);
    say("names: wrong answers %d\n", wrong);
}

// Descriptors.

static int shared_fd = -1;

static void *use_descriptor(void *arg) {
    (void)arg;
    char byte;
    while (!done) {
        long got = pread(shared_fd, &byte, 1, 0);
        if (got == 1 ? byte != 'x' : errno != EBADF) wrong++;
    }
    return 0;
}

static void descriptors(void) {
    pthread_t users[LOOKERS];
    make("held");
    shared_fd = open("held", O_RDONLY);
    done = wrong = 0;
    for (int i = 0; i < LOOKERS; i++) start(&users[i], use_descriptor, 0);
    for (int i = 0; i < ROUNDS; i++) {
        close(shared_fd);
        if (open("held", O_RDONLY) != shared_fd) wrong++;
    }
    done = 1;
    for (int i = 0; i < LOOKERS; i++) pthread_join(users[i], 0);
    close(shared_fd);
    say("descriptors: wrong answers %d\n", wrong);
}

// Waiters. Each takes what it gets until there is nothing more; signals end waits meanwhile.

static int wait_fds[2], epoll_fd, listener;
static atomic_int taken;

static void ignore(int signal) { (void)signal; }

static void *read_pipe(void *arg) {
    (void)arg;
    for (;;) {
        char byte;
        long got = read(wait_fds[0], &byte, 1);
        if (got == 0) return 0;
        if (got == 1) taken++;
        else if (errno != EINTR) wrong++;
    }
}

static void *wait_epoll(void *arg) {
    (void)arg;
    while (!done) {
        struct epoll_event event;
        uint64_t value;
        int count = epoll_wait(epoll_fd, &event, 1, 50);
        if (count < 0 && errno != EINTR) wrong++;
        if (count == 1 && read(event.data.fd, &value, sizeof value) == sizeof value) taken += value;
    }
    return 0;
}

static void *accept_all(void *arg) {
    (void)arg;
    for (;;) {
        int fd = accept(listener, 0, 0);
        char last = 0;
        if (fd < 0 && errno == EINTR) continue;
        if (fd < 0) wrong++;
        while (read(fd, &last, 1) < 0 && errno == EINTR) continue;
        close(fd);
        if (last == 'e') return 0;
        taken++;
    }
}

static void connect_one(const struct sockaddr_un *to, char byte) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) || write(fd, &byte, 1) != 1) wrong++;
    close(fd);
}

static void disturb(pthread_t *waiters, int round) {
    if (round % 7 == 0) pthread_kill(waiters[round % WAITERS], SIGUSR1);
}

static void waiters(void) {
    pthread_t all[WAITERS];
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGUSR1, &action, 0);

    done = wrong = taken = 0;
    if (pipe(wait_fds)) wrong++;
    for (int i = 0; i < WAITERS; i++) start(&all[i], read_pipe, 0);
    for (int i = 0; i < EVENTS; i++) {
        if (write(wait_fds[1], "xy", 1 + i % 2) != 1 + i % 2) wrong++;
        disturb(all, i);
    }
    close(wait_fds[1]);
    for (int i = 0; i < WAITERS; i++) pthread_join(all[i], 0);
    say("pipe: %d of %d bytes, wrong answers %d\n", taken, EVENTS + EVENTS / 2, wrong);

    wrong = taken = 0;
    int events[3];
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < 3; i++) {
        events[i] = eventfd(0, EFD_NONBLOCK);
        struct epoll_event event = {.events = i == 2 ? EPOLLIN | EPOLLET : EPOLLIN, .data.fd = events[i]};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, events[i], &event)) wrong++;
    }
    for (int i = 0; i < WAITERS; i++) start(&all[i], wait_epoll, 0);
    for (int i = 0; i < EVENTS; i++) {
        uint64_t one = 1;
        if (write(events[i % 3], &one, sizeof one) != sizeof one) wrong++;
        disturb(all, i);
    }
    while (taken < EVENTS) usleep(1000);
    done = 1;
    for (int i = 0; i < WAITERS; i++) pthread_join(all[i], 0);
    say("epoll: %d of %d events, wrong answers %d\n", taken, EVENTS, wrong);

    wrong = taken = 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "listener"};
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 2)) wrong++;
    for (int i = 0; i < WAITERS; i++) start(&all[i], accept_all, 0);
    for (int i = 0; i < EVENTS; i++) {
        connect_one(&address, 'x');
        disturb(all, i);
    }
    for (int i = 0; i < WAITERS; i++) connect_one(&address, 'e');
    for (int i = 0; i < WAITERS; i++) pthread_join(all[i], 0);
    say("accept: %d of %d connections, wrong answers %d\n", taken, EVENTS, wrong);
}

int main(void) {
    char folder[] = "/tmp/side_by_side.XXXXXX";
    if (!mkdtemp(folder) || chdir(folder)) return 1;
    names();
    descriptors();
    waiters();
    unlink("listener"), unlink("held"), unlink(places[ROUNDS % 3]);
    rmdir("a"), rmdir("b/c"), rmdir("b"), chdir("/");
    OK(rmdir(folder));
    return 0;
}
