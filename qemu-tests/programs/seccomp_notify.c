// seccomp's notifications: a call that another process decides about, with files put among the caller's.
#include "test.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static long about(long number, unsigned action, unsigned flags) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {LENGTH(filter), filter};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void pass_descriptor(int over, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    sendmsg(over, &message, 0);
}

static int take_descriptor(int over) {
    char byte, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(over, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
    int fd = -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void hear(int signal) { (void)signal; }

// What a child says comes when it ends: both go on at once.
static char *kept;
static size_t kept_length;
static void keep_output(void) { stdout = open_memstream(&kept, &kept_length); }
static void finish(int code) {
    fflush(stdout);
    write(1, kept, kept_length);
    _exit(code);
}

static void caller(int over) {
    keep_output();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    signal(SIGUSR1, hear);
    int listener = (int)about(SYS_getsid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    TRUE(listener >= 0 && fcntl(listener, F_GETFD) == FD_CLOEXEC);
    SHOW(about(SYS_getsid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER));
    pass_descriptor(over, listener);
    close(listener);
    SHOW(syscall(SYS_getsid, 1L, 2L, 3L, 4L, 5L, -6L));
    SHOW(syscall(SYS_getsid, 0));
    TRUE(syscall(SYS_getsid, 0) > 0);
    say("added %ld\n", syscall(SYS_getsid, 0));
    say("read through it: %zd\n", read(100, (char[8]){0}, 8));
    TRUE(fcntl(100, F_GETFD) == FD_CLOEXEC);
    long fd = syscall(SYS_getsid, 0);
    say("answered with a file: %s\n", fd > 2 && fcntl((int)fd, F_GETFD) == 0 ? "yes" : "NO");
    SHOW(syscall(SYS_getsid, 0));
    SHOW(syscall(SYS_getsid, 0));
    finish(0);
}

static struct seccomp_notif got;
static void receive(int listener) {
    memset(&got, 0, sizeof got);
    struct pollfd ready = {listener, POLLIN | POLLOUT, 0};
    poll(&ready, 1, -1);
    say("poll %x; ", ready.revents);
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &got));
    ready.revents = 0;
    poll(&ready, 1, 0);
    say("then %x\n", ready.revents);
}

static long answer(int listener, unsigned long long id, long long value, int error, unsigned flags) {
    struct seccomp_notif_resp response = {id, value, error, flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static long add(int listener, unsigned long long id, unsigned flags, int from, int to, unsigned to_flags) {
    struct seccomp_notif_addfd addfd = {id, flags, (unsigned)from, (unsigned)to, to_flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd);
}

static int one_byte(void) {
    int ends[2];
    pipe(ends);
    write(ends[1], "x", 1);
    close(ends[1]);
    return ends[0];
}

static void decide(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    pid_t child = fork_clean();
    if (child == 0) caller(pair[1]);
    int listener = take_descriptor(pair[0]);
    char link[64] = {0}, path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", listener);
    readlink(path, link, sizeof link - 1);
    say("%s\n", link);

    receive(listener);
    say("own pid %d, call %d, arch %x, arguments", got.pid == (unsigned)child, got.data.nr, got.data.arch);
    for (int i = 0; i < 6; i++) say(" %llx", got.data.args[i]);
    say(", address %d\n", got.data.instruction_pointer != 0);
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &got.id));
    unsigned long long other = got.id + 1;
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &other));
    SHOW(answer(listener, other, 0, 0, 0));
    SHOW(answer(listener, got.id, 0, 0, 2));
    SHOW(answer(listener, got.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
    SHOW(answer(listener, got.id, 0, -1, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &got));
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, 0));
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, 0));
    SHOW(ioctl(listener, _IO('!', 77), 0));
    SHOW(ioctl(listener, TCGETS, 0));
    SHOW(read(listener, path, 1));
    SHOW(answer(listener, got.id, 4711, 0, 0));
    receive(listener);
    SHOW(answer(listener, got.id, 7, -EXDEV, 0));
    receive(listener);
    SHOW(answer(listener, got.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));

    int fd = one_byte();
    receive(listener);
    SHOW(add(listener, other + 99, 0, fd, 0, 0));
    SHOW(add(listener, got.id, 0, fd, 100, 0));
    SHOW(add(listener, got.id, 4, fd, 0, 0));
    SHOW(add(listener, got.id, 0, fd, 0, O_APPEND));
    SHOW(add(listener, got.id, 0, 999, 0, 0));
    SHOW(add(listener, got.id, SECCOMP_ADDFD_FLAG_SETFD, fd, 100000000, 0));
    SHOW(add(listener, got.id, SECCOMP_ADDFD_FLAG_SETFD, fd, 100, O_CLOEXEC));
    SHOW(ioctl(listener, _IOW('!', 3, int), 0));
    struct { struct seccomp_notif_addfd known; unsigned long long more; } large = {{got.id, 0, (unsigned)fd, 0, 0}, 1};
    SHOW(ioctl(listener, _IOWR('!', 3, large), &large));
    SHOW(answer(listener, got.id, 100, 0, 0));
    SHOW(add(listener, got.id, 0, fd, 0, 0) == -1 && (errno == EINPROGRESS || errno == ENOENT));
    receive(listener);
    OK(add(listener, got.id, SECCOMP_ADDFD_FLAG_SEND, fd, 0, 0));

    // Interrupted by a signal whose handler restarts calls: made again, as a new notification.
    receive(listener);
    unsigned long long before = got.id;
    kill(child, SIGUSR1);
    while (ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &before) == 0) sched_yield();
    receive(listener);
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &before));
    TRUE(got.id != before);
    SHOW(answer(listener, got.id, 1, 0, 0));
    receive(listener);
    close(listener);
    show_end("caller", child);
    close(pair[0]);
    close(pair[1]);
}

// A listener whose callers have gone.
static void abandoned(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    pid_t child = fork_clean();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        int listener = (int)about(SYS_getsid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
        pass_descriptor(pair[1], listener);
        close(listener);
        syscall(SYS_getsid, 0);
        _exit(5);
    }
    int listener = take_descriptor(pair[0]);
    receive(listener);
    kill(child, SIGKILL);
    show_end("killed", child);
    SHOW(answer(listener, got.id, 0, 0, 0));
    struct pollfd ready = {listener, POLLIN | POLLOUT, 0};
    SHOW(poll(&ready, 1, -1));
    say("events %x\n", ready.revents);
    close(listener);
    close(pair[0]);
    close(pair[1]);
}

// Once it was received only a fatal signal takes the caller away.
static void patient(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    pid_t child = fork_clean();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        signal(SIGUSR1, hear);
        int listener = (int)about(SYS_getsid, SECCOMP_RET_USER_NOTIF,
                                  SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
        pass_descriptor(pair[1], listener);
        close(listener);
        long answered = syscall(SYS_getsid, 0);
        write(pair[1], &answered, sizeof answered);
        syscall(SYS_getsid, 0);
        _exit(5);
    }
    int listener = take_descriptor(pair[0]);
    receive(listener);
    for (int i = 0; i < 3; i++) {
        kill(child, SIGUSR1);
        sleep_ms(5);
    }
    SHOW(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &got.id));
    SHOW(answer(listener, got.id, 8, 0, 0));
    long answered = 0;
    read(pair[0], &answered, sizeof answered);
    SHOW(answered);
    receive(listener);
    kill(child, SIGKILL);
    show_end("patient", child);
    close(listener);
    close(pair[0]);
    close(pair[1]);
}

// A thread listens to the children of its own process until it closes the listener.
static int own_listener;
static void *serves(void *argument) {
    receive(own_listener);
    TRUE(got.pid != (unsigned)getpid());
    SHOW(answer(own_listener, got.id, 3, 0, 0));
    receive(own_listener);
    close(own_listener);
    return argument;
}
static void within(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        own_listener = (int)about(SYS_getsid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
        pthread_t server;
        pthread_create(&server, 0, serves, 0);
        pid_t grandchild = fork_clean();
        if (grandchild == 0) {
            keep_output();
            close(own_listener);
            SHOW(syscall(SYS_getsid, 0));
            SHOW(syscall(SYS_getsid, 0));
            finish(6);
        }
        pthread_join(server, 0);
        show_end("grandchild", grandchild);
        SHOW(syscall(SYS_getsid, 0));
        // Nobody listens any more: somebody may again.
        OK(about(SYS_getpgid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER));
        _exit(0);
    }
    show_end("within", child);
}

int main(void) {
    decide();
    abandoned();
    patient();
    within();
    return 0;
}
