// epoll: level and edge triggers, one-shot, changes, nesting.
#include "test.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

static int epoll;

static void show(const char *what, int timeout_ms) {
    struct epoll_event events[8];
    int count = epoll_wait(epoll, events, 8, timeout_ms);
    say("%s: %d", what, count);
    for (int i = 0; i < count; i++) say(" [%x for %lu]", events[i].events, events[i].data.u64);
    say("\n");
}

static int control(int operation, int descriptor, unsigned events, unsigned long data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll, operation, descriptor, &event);
}

// Of processes that wait for one file with EPOLLEXCLUSIVE, in instances of their own, each event wakes one. The others
// wait on, and a thread that does not wait keeps no event from those that do.
static void exclusive(int watched, int (*happen)(void)) {
    int told[2];
    pid_t children[3];
    pipe(told);
    int idle = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    epoll_ctl(idle, EPOLL_CTL_ADD, watched, &event);
    for (int i = 0; i < 3; i++) {
        children[i] = fork_clean();
        if (children[i] == 0) {
            int own = epoll_create1(0);
            epoll_ctl(own, EPOLL_CTL_ADD, watched, &event);
            write(told[1], "+", 1);
            if (epoll_wait(own, &event, 1, -1) == 1) write(told[1], "!", 1);
            pause();
        }
    }
    char byte;
    for (int i = 0; i < 3; i++) read(told[0], &byte, 1);
    sleep_ms(50);
    struct pollfd one = {told[0], POLLIN, 0};
    for (int i = 0; i < 3; i++) {
        TRUE(happen() >= 0);
        TRUE(read(told[0], &byte, 1) == 1);
        SHOW(poll(&one, 1, 30));
    }
    for (int i = 0; i < 3; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    SHOW(epoll_wait(idle, &event, 1, 0));
    close(idle);
    close(told[0]);
    close(told[1]);
}

static int counter, address_fd;
static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0exclusive-epoll"};

static int count_up(void) { return eventfd_write(counter, 1); }

static int connect_once(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    return connect(fd, (void *)&address, sizeof address);
}

static void exclusive_waits(void) {
    counter = eventfd(0, 0);
    exclusive(counter, count_up);
    address_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(address_fd, (void *)&address, sizeof address);
    listen(address_fd, 10);
    exclusive(address_fd, connect_once);
}

// One watches another by many descriptors, on several levels: a wake-up would go a million ways.
static void many_ways(void) {
    struct epoll_event event = {.events = EPOLLIN};
    int source = eventfd(0, 0), instances[4], copies[4 * 60], count = 0, refused = 0;
    for (int i = 0; i < 4; i++) instances[i] = epoll_create1(0);
    epoll_ctl(instances[0], EPOLL_CTL_ADD, source, &event);
    for (int level = 1; level < 4; level++)
        for (int i = 0; i < 60; i++) {
            int copy = copies[count++] = dup(instances[level - 1]);
            if (epoll_ctl(instances[level], EPOLL_CTL_ADD, copy, &event) == 0) continue;
            if (errno == EINVAL) refused = level;
            break;
        }
    TRUE(refused >= 2);
    SHOW(write(source, &(uint64_t){1}, 8));
    for (int i = 0; i < count; i++) close(copies[i]);
    for (int i = 0; i < 4; i++) close(instances[i]);
    close(source);
}

int main(void) {
    int ends[2], more[2];
    char byte;
    pipe(ends);
    pipe(more);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    TRUE(epoll > 0);
    SHOW(epoll_create(0));
    SHOW(epoll_create1(1));
    SHOW(control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_MOD, more[0], EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_DEL, more[0], 0, 0));
    SHOW(control(EPOLL_CTL_ADD, 999, EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_ADD, epoll, EPOLLIN, 1));
    SHOW(control(EPOLL_CTL_ADD, open("/etc/data", O_RDONLY), EPOLLIN, 1));
    SHOW(control(99, ends[0], EPOLLIN, 1));
    SHOW(epoll_wait(epoll, 0, 0, 0));
    SHOW(epoll_wait(ends[0], 0, 1, 0));
    show("nothing", 0);
    show("nothing for a while", 20);
    write(ends[1], "ab", 2);
    show("level", 0);
    show("level again", 0);
    read(ends[0], &byte, 1);
    show("still", 0);
    read(ends[0], &byte, 1);
    show("drained", 0);

    SHOW(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLET, 2));
    write(ends[1], "a", 1);
    show("edge", 0);
    show("no new edge", 0);
    write(ends[1], "b", 1);
    show("new edge", 0);
    read(ends[0], &byte, 1);
    show("reading is no edge", 0);
    SHOW(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 3));
    show("one shot", 0);
    show("shot", 0);
    SHOW(control(EPOLL_CTL_MOD, ends[0], EPOLLIN | EPOLLONESHOT, 4));
    show("armed again", 0);
    SHOW(control(EPOLL_CTL_DEL, ends[0], 0, 0));
    show("removed", 0);

    control(EPOLL_CTL_ADD, ends[0], EPOLLIN, 5);
    control(EPOLL_CTL_ADD, more[1], EPOLLOUT, 6);
    show("two", 0);
    control(EPOLL_CTL_DEL, more[1], 0, 0);
    int outer = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 7};
    SHOW(epoll_ctl(outer, EPOLL_CTL_ADD, epoll, &event));
    SHOW(epoll_wait(outer, &event, 1, 0));
    SHOW(event.data.u64);
    read(ends[0], &byte, 1);
    SHOW(epoll_wait(outer, &event, 1, 0));

    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(30);
        write(ends[1], "c", 1);
        _exit(0);
    }
    show("woken by another process", 5000);
    waitpid(child, 0, 0);
    read(ends[0], &byte, 1);
    close(ends[1]);
    show("hang-up", 0);
    close(ends[0]);
    show("closed", 0);

    signal(SIGALRM, SIG_IGN);
    sigset_t mask;
    sigemptyset(&mask);
    SHOW(epoll_pwait(epoll, &event, 1, 10, &mask));
    exclusive_waits();
    many_ways();
    return 0;
}
