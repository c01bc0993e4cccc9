// What sockets of each type do with each flag, option and size: credentials, descriptors, ends, time-outs.
#include "test.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

static const struct {
    int type;
    const char *name;
} TYPES[] = {{SOCK_STREAM, "stream"}, {SOCK_DGRAM, "dgram"}, {SOCK_SEQPACKET, "seqpacket"}};
static const char *now_of;

static void result(const char *what, long value) {
    char line[96];
    snprintf(line, sizeof line, "%s %s", now_of, what);
    show_result(line, value);
}
#define R(what, call) result(what, (long)(call))

static int option(int fd, int name) {
    int value = -7;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

static int set(int fd, int name, int value) { return setsockopt(fd, SOL_SOCKET, name, &value, sizeof value); }

static void timeout(int fd, int name, int ms) {
    struct timeval time = {ms / 1000, ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, name, &time, sizeof time);
}

// Whose credentials are claimed; 0: the own.
static pid_t claimed;

// Sends `len` bytes with `count` descriptors, and credentials of `uid` unless that is negative.
static long send_with(int fd, size_t len, int count, int uid) {
    char control[256] = {0}, bytes[64] = "abcdefghijklmnopqrstuvwxyz";
    struct iovec piece = {bytes, len};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    size_t used = 0;
    if (count > 0) {
        head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(4 * count);
        for (int i = 0; i < count; i++)
            ((int *)CMSG_DATA(head))[i] = 2;
        used += CMSG_SPACE(4 * count);
    }
    if (uid >= 0) {
        struct ucred own = {claimed ? claimed : getpid(), uid, 0};
        head = (struct cmsghdr *)(control + used);
        head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_CREDENTIALS, head->cmsg_len = CMSG_LEN(sizeof own);
        memcpy(CMSG_DATA(head), &own, sizeof own);
        used += CMSG_SPACE(sizeof own);
    }
    message.msg_control = used ? control : NULL;
    message.msg_controllen = used;
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// Receives up to `len` bytes with `room` bytes for control messages, and shows all that came.
static void receive(const char *what, int fd, size_t len, size_t room, int flags) {
    char control[256] = {0}, bytes[64];
    struct iovec piece = {bytes, len};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = room ? control : NULL, .msg_controllen = room};
    long count = recvmsg(fd, &message, flags | MSG_DONTWAIT);
    result(what, count);
    if (count < 0)
        return;
    say("    flags %x, control %zu", message.msg_flags, (size_t)message.msg_controllen);
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
        say("; type %d len %zu", head->cmsg_type, (size_t)head->cmsg_len);
        if (head->cmsg_type == SCM_RIGHTS) {
            for (size_t i = 0; i < (head->cmsg_len - CMSG_LEN(0)) / 4; i++) {
                int got = ((int *)CMSG_DATA(head))[i];
                say(" %s", fcntl(got, F_GETFD) == FD_CLOEXEC ? "cloexec" : "open");
                close(got);
            }
        } else if (head->cmsg_len == CMSG_LEN(sizeof(struct ucred))) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(head), sizeof who);
            say(" %s uid %d gid %d", who.pid == getpid() ? "own" : who.pid ? "other" : "none", who.uid, who.gid);
        }
    }
    say("\n");
}

static void credentials(int type) {
    int pair[2];
    socketpair(AF_UNIX, type, 0, pair);
    claimed = 1 << 29;
    result("nobody's credentials", send_with(pair[0], 3, 0, 0));
    claimed = 0;
    send_with(pair[0], 3, 0, -1);
    set(pair[1], SO_PASSCRED, 1);
    send_with(pair[0], 4, 0, -1);
    write(pair[0], "wrote", 5);
    send_with(pair[0], 2, 0, 77);
    send_with(pair[0], 2, 0, 77);
    send_with(pair[0], 1, 2, 78);
    for (int i = 0; i < 3; i++)
        receive("before, after, written", pair[1], 64, 200, 0);
    receive("peek", pair[1], 64, 200, MSG_PEEK);
    for (int i = 0; i < 3; i++)
        receive("claimed", pair[1], 64, 200, MSG_CMSG_CLOEXEC);
    static const size_t rooms[] = {0, 8, 16, 20, 27, 28, 32, 48, 51, 52, 55, 56, 60};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        send_with(pair[0], 2, 3, -1);
        say("room %zu\n", rooms[i]);
        receive("short control", pair[1], 64, rooms[i], 0);
    }
    set(pair[1], SO_PASSCRED, 0);
    static const size_t few[] = {0, 16, 19, 20, 24, 27, 28, 32};
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        send_with(pair[0], 2, 3, -1);
        say("room %zu\n", few[i]);
        receive("short rights", pair[1], 64, few[i], 0);
    }
    R("bad uid", send_with(pair[0], 1, 0, -1));
    close(pair[0]), close(pair[1]);
}

static void edges(int type) {
    int pair[2];
    socketpair(AF_UNIX, type, 0, pair);
    // A receive of nothing takes the descriptors of a message, and what else a message brings.
    send_with(pair[0], 5, 1, -1);
    receive("nothing", pair[1], 0, 64, 0);
    receive("then", pair[1], 64, 64, 0);
    send_with(pair[0], 0, 1, -1);
    receive("empty with rights", pair[1], 64, 64, 0);
    send_with(pair[0], 6, 0, -1);
    receive("trunc", pair[1], 2, 0, MSG_TRUNC);
    receive("after trunc", pair[1], 64, 0, 0);
    send_with(pair[0], 6, 1, -1), send_with(pair[0], 4, 0, -1), send_with(pair[0], 4, 1, -1);
    receive("peek trunc", pair[1], 3, 64, MSG_PEEK | MSG_TRUNC);
    receive("all", pair[1], 12, 64, MSG_WAITALL);
    receive("all again", pair[1], 12, 64, MSG_WAITALL);
    receive("third", pair[1], 12, 64, 0);
    int count = -1;
    send_with(pair[0], 3, 0, -1), send_with(pair[0], 4, 0, -1);
    R("FIONREAD", ioctl(pair[1], FIONREAD, &count)), say("    %d\n", count);
    R("SIOCOUTQ", ioctl(pair[0], TIOCOUTQ, &count)), say("    more than %d\n", count > 7 ? 7 : count);
    R("SIOCOUTQ of the other", ioctl(pair[1], TIOCOUTQ, &count)), say("    %d\n", count);
    R("to a name", sendto(pair[0], "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&(struct sockaddr_un){AF_UNIX, "/no"}, 6));
    R("no error queue", recv(pair[1], &count, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
    close(pair[0]), close(pair[1]);
}

static int events(int fd) {
    struct pollfd poller = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
    return poll(&poller, 1, 0) < 0 ? -1 : poller.revents;
}

static void ends(int type) {
    for (int how = -1; how < 4; how++)
        for (int unread = 0; unread < 2; unread++) {
            int pair[2];
            char byte[8];
            socketpair(AF_UNIX, type, 0, pair);
            if (unread)
                send_with(pair[0], 3, 0, -1);
            say("%s shutdown %d unread %d\n", now_of, how, unread);
            if (how < 3)
                R("shutdown", how < 0 ? 0 : shutdown(pair[1], how));
            else
                R("close", close(pair[1]));
            say("    poll %x", events(pair[0]));
            say(" %x\n", how < 3 ? events(pair[1]) : 0);
            R("send", send(pair[0], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
            R("send nothing", send(pair[0], "", 0, MSG_NOSIGNAL | MSG_DONTWAIT));
            R("receive", recv(pair[0], byte, 8, MSG_DONTWAIT));
            R("receive", recv(pair[0], byte, 8, MSG_DONTWAIT));
            R("error", option(pair[0], SO_ERROR));
            if (how < 3) {
                R("back", send(pair[1], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
                R("far receive", recv(pair[1], byte, 8, MSG_DONTWAIT));
                // An empty message that is left would be no loss to newer kernels.
                R("far receive", recv(pair[1], byte, 8, MSG_DONTWAIT));
                R("far receive", recv(pair[1], byte, 8, MSG_DONTWAIT));
                close(pair[1]);
            }
            struct ucred who = {-1, 0, 0};
            socklen_t len = sizeof who;
            R("peer", getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &who, &len));
            say("    %s\n", who.pid == getpid() ? "own" : "other");
            say("    poll %x\n", events(pair[0]));
            close(pair[0]);
        }
}

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { alarms += signal == SIGALRM; }
static void soon(void) {
    struct itimerval time = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &time, NULL);
}

static void waits(int type) {
    int pair[2];
    char bytes[4096] = {0};
    socketpair(AF_UNIX, type, 0, pair);
    set(pair[0], SO_SNDBUF, 1);
    R("smallest buffer", option(pair[0], SO_SNDBUF));
    timeout(pair[1], SO_RCVTIMEO, 10);
    R("receive in time", recv(pair[1], bytes, 1, 0));
    timeout(pair[1], SO_RCVTIMEO, 5000);
    soon();
    R("receive and a signal", recv(pair[1], bytes, 1, 0));
    while (send(pair[0], bytes, 1000, MSG_DONTWAIT) > 0)
        ;
    R("full", errno);
    say("    poll %x\n", events(pair[0]));
    timeout(pair[0], SO_SNDTIMEO, 10);
    R("send in time", send(pair[0], bytes, 1000, 0));
    timeout(pair[0], SO_SNDTIMEO, 5000);
    soon();
    R("send and a signal", send(pair[0], bytes, 1000, 0));
    R("too long", send(pair[0], bytes, 4577, MSG_DONTWAIT));
    while (recv(pair[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    say("    poll %x\n", events(pair[0]));
    close(pair[0]), close(pair[1]);
    if (type == SOCK_DGRAM)
        return;
    struct sockaddr_un name = {AF_UNIX, "\0socket_messages"};
    socklen_t len = sizeof(sa_family_t) + 16;
    int listener = socket(AF_UNIX, type, 0);
    R("bind", bind(listener, (struct sockaddr *)&name, len));
    R("listen", listen(listener, 0));
    timeout(listener, SO_RCVTIMEO, 10);
    R("accept in time", accept(listener, NULL, NULL));
    timeout(listener, SO_RCVTIMEO, 5000);
    soon();
    R("accept and a signal", accept(listener, NULL, NULL));
    set(listener, SO_PASSCRED, 1), set(listener, SO_SNDBUF, 10000), set(listener, SO_KEEPALIVE, 1);
    int first = socket(AF_UNIX, type, 0), second = socket(AF_UNIX, type, 0);
    R("connect", connect(first, (struct sockaddr *)&name, len));
    send_with(first, 3, 0, -1);
    timeout(second, SO_SNDTIMEO, 10);
    R("connect in time", connect(second, (struct sockaddr *)&name, len));
    timeout(second, SO_SNDTIMEO, 5000);
    soon();
    R("connect and a signal", connect(second, (struct sockaddr *)&name, len));
    say("    poll %x %x %x\n", events(listener), events(first), events(second));
    R("shutdown of a listener", shutdown(listener, SHUT_RD));
    R("connect", connect(second, (struct sockaddr *)&name, len));
    int accepted = accept(listener, NULL, NULL);
    R("accept", accepted < 0 ? -1 : 0);
    R("inherited", option(accepted, SO_PASSCRED) + 10 * option(accepted, SO_KEEPALIVE));
    R("not inherited", option(accepted, SO_SNDBUF) == option(first, SO_SNDBUF));
    receive("embryo's", accepted, 8, 64, 0);
    R("accept", accept4(listener, NULL, NULL, SOCK_NONBLOCK));
    struct ucred who;
    len = sizeof who;
    R("peer", getsockopt(first, SOL_SOCKET, SO_PEERCRED, &who, &len));
    gid_t groups[64];
    len = 0;
    R("groups", getsockopt(first, SOL_SOCKET, SO_PEERGROUPS, groups, &len) == 0 || errno == ERANGE);
    len = sizeof groups;
    R("groups", getsockopt(first, SOL_SOCKET, SO_PEERGROUPS, groups, &len));
    TRUE(len == 4 * (socklen_t)getgroups(64, groups));
    int count;
    R("FIONREAD of a listener", ioctl(listener, FIONREAD, &count));
    close(listener), close(first), close(second), close(accepted);
}

static void options(int type) {
    int pair[2], value;
    socketpair(AF_UNIX, type, 0, pair);
    static const int switches[] = {SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE,
                                   SO_NO_CHECK, SO_PASSCRED, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RXQ_OVFL};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        for (int on = 2; on >= 0; on -= 2) {
            int done = set(pair[0], switches[i], on);
            say("%s option %d = %d: %d %d\n", now_of, switches[i], on, done, option(pair[0], switches[i]));
        }
    static const int values[] = {-1, 0, 1, 5, 100000};
    static const int numbers[] = {SO_SNDBUF, SO_RCVBUF, SO_RCVLOWAT, SO_SNDLOWAT, SO_PRIORITY, SO_TYPE, SO_ERROR};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
            // What -1 gives depends on the machine's largest buffer.
            if (values[j] < 0 && i < 2)
                continue;
            R("set", set(pair[0], numbers[i], values[j]));
            say("    option %d = %d: %d\n", numbers[i], values[j], option(pair[0], numbers[i]));
        }
    static const int forced[] = {-5, 0, 3000000, 1 << 30, INT32_MAX};
    for (size_t i = 0; i < sizeof forced / sizeof *forced; i++) {
        R("force", set(pair[0], SO_SNDBUFFORCE, forced[i]) + set(pair[0], SO_RCVBUFFORCE, forced[i]));
        say("    %d %d\n", option(pair[0], SO_SNDBUF), option(pair[0], SO_RCVBUF));
    }
    for (int len = -1; len < 7; len += 2) {
        socklen_t room = len;
        value = -1;
        R("get", getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &value, &room));
        say("    %d of %d: %x\n", (int)room, len, value);
        R("set", setsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, &value, len));
    }
    socklen_t len = 4;
    R("unknown", getsockopt(pair[0], SOL_SOCKET, 4000, &value, &len));
    R("other level", getsockopt(pair[0], 6, 1, &value, &len));
    R("no value", setsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, NULL, 4));
    pid_t child = fork();
    if (child == 0) {
        setgid(1000), setuid(1000);
        R("force", set(pair[0], SO_SNDBUFFORCE, 1));
        R("force", set(pair[0], SO_RCVBUFFORCE, 1));
        R("debug", set(pair[0], SO_DEBUG, 1));
        R("priority", set(pair[0], SO_PRIORITY, 7));
        R("claim", send_with(pair[0], 1, 0, 5));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    // Low-water mark.
    set(pair[1], SO_RCVLOWAT, 4);
    timeout(pair[1], SO_RCVTIMEO, 10);
    char bytes[8];
    send(pair[0], "ab", 2, 0);
    R("below low water", recv(pair[1], bytes, 8, 0));
    send(pair[0], "abcdef", 6, 0);
    R("above low water", recv(pair[1], bytes, 5, 0));
    close(pair[0]), close(pair[1]);
}

static void many(int type) {
    int pair[2];
    char bytes[4][8];
    struct iovec pieces[4];
    struct mmsghdr messages[4] = {0};
    for (int i = 0; i < 4; i++) {
        pieces[i] = (struct iovec){bytes[i], 4};
        messages[i].msg_hdr.msg_iov = &pieces[i], messages[i].msg_hdr.msg_iovlen = 1;
    }
    socketpair(AF_UNIX, type, 0, pair);
    R("sendmmsg", sendmmsg(pair[0], messages, 3, 0));
    struct timespec time = {0, 20000000};
    R("recvmmsg", recvmmsg(pair[1], messages, 4, MSG_WAITFORONE, &time));
    timeout(pair[1], SO_RCVTIMEO, 30);
    sendmmsg(pair[0], messages, 1, 0);
    R("timeout", recvmmsg(pair[1], messages, 4, 0, &time));
    TRUE(time.tv_sec == 0 && time.tv_nsec <= 20000000);
    R("no time", recvmmsg(pair[1], messages, 4, 0, &(struct timespec){0, 1000000000}));
    R("none", recvmmsg(pair[1], messages, 0, 0, NULL));
    messages[1].msg_hdr.msg_iovlen = 1025;
    R("second is bad", sendmmsg(pair[0], messages, 4, 0));
    R("first is bad", sendmmsg(pair[0], messages + 1, 1, 0));
    messages[1].msg_hdr.msg_iovlen = 1, pieces[1].iov_base = (void *)8;
    R("second faults", sendmmsg(pair[0], messages, 4, 0));
    pieces[1].iov_len = -1;
    R("negative", sendmmsg(pair[0], messages + 1, 1, 0));
    pieces[1] = (struct iovec){bytes[1], 4};
    messages[0].msg_hdr.msg_name = bytes, messages[0].msg_hdr.msg_namelen = -1;
    R("negative name", sendmmsg(pair[0], messages, 1, 0));
    close(pair[0]), close(pair[1]);
}

static void datagrams(void) {
    struct sockaddr_un name = {AF_UNIX, "\0receiver"}, other = {AF_UNIX, "\0other"};
    socklen_t len = sizeof(sa_family_t) + 9, other_len = sizeof(sa_family_t) + 6;
    int to = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0), third = socket(AF_UNIX, SOCK_DGRAM, 0);
    now_of = "datagrams";
    R("bind", bind(to, (struct sockaddr *)&name, len));
    R("not bound", sendto(from, "x", 1, 0, (struct sockaddr *)&other, other_len));
    int count = 0;
    while (sendto(from, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&name, len) == 1)
        count++;
    R("queue", count);
    R("full", errno);
    R("connect", connect(from, (struct sockaddr *)&name, len));
    say("    poll %x\n", events(from));
    timeout(from, SO_SNDTIMEO, 10);
    R("send in time", send(from, "x", 1, 0));
    char bytes[8];
    R("receive", recv(to, bytes, 8, 0));
    say("    poll %x\n", events(from));
    R("send", send(from, "y", 1, 0));
    R("bind", bind(third, (struct sockaddr *)&other, other_len));
    R("connect away", connect(to, (struct sockaddr *)&other, other_len));
    R("purged", recv(to, bytes, 8, MSG_DONTWAIT));
    R("not wanted", send(from, "z", 1, MSG_DONTWAIT));
    R("wanted", sendto(third, "z", 1, 0, (struct sockaddr *)&name, len));
    close(to);
    R("refused", send(from, "z", 1, 0));
    R("once", send(from, "z", 1, 0));
    R("to itself", connect(third, (struct sockaddr *)&other, other_len));
    for (count = 0; count < 20 && send(third, "s", 1, MSG_DONTWAIT) == 1; count++)
        ;
    R("own messages", count);
    R("receive", recv(third, bytes, 8, 0));
    int named = socket(AF_UNIX, SOCK_DGRAM, 0);
    set(named, SO_PASSCRED, 1);
    R("connect", connect(named, (struct sockaddr *)&other, other_len));
    struct sockaddr_un own;
    len = sizeof own;
    R("autobound", getsockname(named, (struct sockaddr *)&own, &len)), say("    %d\n", (int)len);
    close(from), close(third), close(named);
}

// Sockets that hold only each other go when the last way to them is closed.
static void garbage(void) {
    now_of = "garbage";
    int kept[2], pair[2], end[2];
    char byte;
    socketpair(AF_UNIX, SOCK_STREAM, 0, kept);
    pipe(end);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    for (int i = 0; i < 2; i++) {
        char control[CMSG_SPACE(8)] = {0};
        struct iovec piece = {"x", 1};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(8);
        ((int *)CMSG_DATA(head))[0] = pair[i], ((int *)CMSG_DATA(head))[1] = end[1];
        R("send", sendmsg(pair[i], &message, 0));
    }
    close(pair[0]), close(pair[1]), close(end[1]);
    // Any socket that goes has the others looked at.
    close(kept[0]), close(kept[1]);
    struct pollfd poller = {end[0], POLLIN, 0};
    R("the pipe's end", poll(&poller, 1, 5000));
    R("read", read(end[0], &byte, 1));
    close(end[0]);
}

int main(void) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    for (size_t i = 0; i < 3; i++) {
        now_of = TYPES[i].name;
        credentials(TYPES[i].type);
        edges(TYPES[i].type);
        ends(TYPES[i].type);
        waits(TYPES[i].type);
        options(TYPES[i].type);
        many(TYPES[i].type);
    }
    datagrams();
    garbage();
    return 0;
}
