// Corners of unix sockets: ends that are closed or shut, datagrams, control messages, edges for epoll, and
// sockets that travel in each other.
#include "test.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un abstract(const char *name, socklen_t *len) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strcpy(un.sun_path + 1, name);
    *len = sizeof(sa_family_t) + 1 + strlen(name);
    return un;
}

static int bound(int type, const char *name) {
    socklen_t len;
    struct sockaddr_un un = abstract(name, &len);
    int fd = socket(AF_UNIX, type, 0);
    bind(fd, (struct sockaddr *)&un, len);
    return fd;
}

static int join(int fd, const char *name) {
    socklen_t len;
    struct sockaddr_un un = abstract(name, &len);
    return connect(fd, (struct sockaddr *)&un, len);
}

static long send_to(int fd, const char *name) {
    socklen_t len;
    struct sockaddr_un un = abstract(name, &len);
    return sendto(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&un, len);
}

static long send_fd(int over, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec iov = {"f", 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    return sendmsg(over, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int ready(int fd) {
    struct pollfd one = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    poll(&one, 1, 0);
    return one.revents;
}

static void shutdowns(int type, const char *what) {
    int ends[2];
    char text[8];
    say("%s\n", what);
    int alone = socket(AF_UNIX, type, 0);
    SHOW(ready(alone));
    SHOW(shutdown(alone, SHUT_RDWR));
    SHOW(ready(alone));
    SHOW(recv(alone, text, 1, MSG_DONTWAIT));
    SHOW(send(alone, text, 1, MSG_NOSIGNAL));
    close(alone);
    socketpair(AF_UNIX, type, 0, ends);
    SHOW(ready(ends[0]));
    SHOW(shutdown(ends[0], SHUT_RD));
    SHOW(ready(ends[0]));
    SHOW(ready(ends[1]));
    SHOW(recv(ends[0], text, 1, MSG_DONTWAIT));
    SHOW(send(ends[1], "x", 1, MSG_NOSIGNAL));
    SHOW(send(ends[0], "x", 1, MSG_NOSIGNAL));
    SHOW(shutdown(ends[0], SHUT_WR));
    SHOW(recv(ends[1], text, 1, MSG_DONTWAIT));
    SHOW(recv(ends[1], text, 1, MSG_DONTWAIT));
    SHOW(ready(ends[0]));
    SHOW(ready(ends[1]));
    close(ends[0]), close(ends[1]);
    socketpair(AF_UNIX, type, 0, ends);
    send(ends[0], "lost", 4, 0);
    send(ends[1], "unread", 6, 0);
    close(ends[0]);
    SHOW(ready(ends[1]));
    SHOW(recv(ends[1], text, sizeof text, MSG_DONTWAIT));
    SHOW(recv(ends[1], text, sizeof text, MSG_DONTWAIT));
    SHOW(recv(ends[1], text, sizeof text, MSG_DONTWAIT));
    SHOW(send(ends[1], "x", 1, MSG_NOSIGNAL));
    SHOW(send(ends[1], "x", 1, MSG_NOSIGNAL));
    SHOW(ready(ends[1]));
    close(ends[1]);
}

static void datagrams(void) {
    say("datagrams\n");
    int a = bound(SOCK_DGRAM, "edges-a"), b = bound(SOCK_DGRAM, "edges-b"), c = socket(AF_UNIX, SOCK_DGRAM, 0);
    char text[8];
    SHOW(send(c, "x", 1, 0));
    SHOW(send_to(c, "edges-none"));
    SHOW(send_to(c, "edges-a"));
    struct sockaddr_un from;
    socklen_t len = sizeof from;
    SHOW(recvfrom(a, text, sizeof text, 0, (struct sockaddr *)&from, &len));
    SHOW(len);
    SHOW(join(a, "edges-b"));
    SHOW(send_to(c, "edges-a"));
    SHOW(send_to(b, "edges-a"));
    SHOW(join(c, "edges-a"));
    len = sizeof from;
    SHOW(getpeername(a, (struct sockaddr *)&from, &len));
    SHOW(len);
    len = sizeof from;
    SHOW(recvfrom(a, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&from, &len));
    SHOW(len);
    SHOW(join(b, "edges-a"));
    SHOW(send(b, "x", 1, 0));
    SHOW(send_to(b, "edges-b"));
    SHOW(shutdown(b, SHUT_WR));
    SHOW(send(b, "x", 1, MSG_NOSIGNAL));
    close(b);
    SHOW(send(a, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
    SHOW(send(a, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
    int stream = bound(SOCK_STREAM, "edges-s");
    listen(stream, 1);
    SHOW(send_to(c, "edges-s"));
    SHOW(join(c, "edges-s"));
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(join(other, "edges-a"));
    SHOW(listen(c, 1));
    SHOW(accept(c, NULL, NULL));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    SHOW(connect(a, &none, sizeof none));
    SHOW(send(a, "x", 1, 0));
    SHOW(connect(other, &none, sizeof none));
    close(a), close(c), close(stream), close(other);
}

static void streams(void) {
    say("streams\n");
    int listener = bound(SOCK_STREAM, "edges-l"), client = bound(SOCK_STREAM, "edges-client");
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    char text[8];
    SHOW(listen(other, 1));
    SHOW(join(other, "edges-l"));
    SHOW(accept(listener, NULL, NULL));
    SHOW(listen(listener, 0));
    SHOW(ready(listener));
    SHOW(recv(listener, text, 1, 0));
    SHOW(send(listener, text, 1, MSG_NOSIGNAL));
    SHOW(join(listener, "edges-l"));
    fcntl(other, F_SETFL, O_NONBLOCK);
    SHOW(join(client, "edges-l"));
    SHOW(ready(listener));
    SHOW(join(other, "edges-l"));
    SHOW(listen(client, 1));
    SHOW(send(client, "early", 5, 0));
    int accepted = accept(listener, NULL, NULL);
    struct sockaddr_un from = {0};
    socklen_t len = sizeof from;
    SHOW(recvfrom(accepted, text, sizeof text, 0, (struct sockaddr *)&from, &len));
    SHOW(len);
    say("%s\n", from.sun_path + 1);
    SHOW(send_to(accepted, "edges-client"));
    SHOW(join(other, "edges-l"));
    close(listener);
    SHOW(ready(other));
    SHOW(recv(other, text, 1, 0));
    SHOW(recv(other, text, 1, 0));
    int left = 0;
    len = sizeof left;
    SHOW(getsockopt(accepted, SOL_SOCKET, SO_ERROR, &left, &len));
    SHOW(left);
    close(client), close(accepted), close(other);
    listener = bound(SOCK_STREAM, "edges-l");
    listen(listener, 1);
    SHOW(shutdown(listener, SHUT_RD));
    SHOW(accept(listener, NULL, NULL));
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(join(client, "edges-l"));
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    close(listener), close(client);
}

static void options(void) {
    say("options\n");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), value = 1;
    socklen_t len = sizeof value;
    SHOW(setsockopt(fd, 6, 1, &value, len));
    SHOW(getsockopt(fd, 6, 1, &value, &len));
    SHOW(setsockopt(fd, SOL_SOCKET, 999, &value, len));
    SHOW(getsockopt(fd, SOL_SOCKET, 999, &value, &len));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &value, 1));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, NULL, len));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &value, len));
    SHOW(getsockopt(fd, SOL_SOCKET, SO_BROADCAST, &value, &len));
    SHOW(value);
    struct linger linger = {1, 3};
    SHOW(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    linger.l_onoff = linger.l_linger = 0;
    len = sizeof linger;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len));
    SHOW(linger.l_onoff * 10 + linger.l_linger);
    len = sizeof value;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, &len));
    SHOW(value);
    struct ucred peer;
    len = sizeof peer;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len));
    say("%d %d %d\n", peer.pid, (int)peer.uid, (int)peer.gid);
    len = -1;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len));
    struct timeval time = {0, 1000000};
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, 4));
    SHOW(getsockname(fd, (struct sockaddr *)&peer, &len));
    SHOW(ioctl(fd, TIOCGWINSZ, &peer));
    SHOW(lseek(fd, 0, SEEK_SET));
    SHOW(pread(fd, &value, 1, 0));
    SHOW(ftruncate(fd, 0));
    SHOW(fsync(fd));
    SHOW(bind(1, (struct sockaddr *)&peer, sizeof peer));
    close(fd);
}

static void controls(void) {
    say("control messages\n");
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    union { char bytes[256]; struct cmsghdr align; } control = {{0}};
    struct iovec iov = {"abc", 3};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(4)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(4), 41, 1};
    SHOW(sendmsg(ends[0], &message, 0));
    *head = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, 99};
    SHOW(sendmsg(ends[0], &message, 0));
    *head = (struct cmsghdr){8, SOL_SOCKET, SCM_RIGHTS};
    SHOW(sendmsg(ends[0], &message, 0));
    *head = (struct cmsghdr){CMSG_LEN(400), SOL_SOCKET, SCM_RIGHTS};
    SHOW(sendmsg(ends[0], &message, 0));
    *head = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SCM_CREDENTIALS};
    SHOW(sendmsg(ends[0], &message, 0));
    *head = (struct cmsghdr){CMSG_LEN(4), SOL_SOCKET, SCM_RIGHTS};
    memset(CMSG_DATA(head), 0xff, 4);
    SHOW(sendmsg(ends[0], &message, 0));
    int out = 1;
    memcpy(CMSG_DATA(head), &out, 4);
    SHOW(sendmsg(ends[0], &message, 0));
    message.msg_iovlen = 0;
    SHOW(sendmsg(ends[0], &message, 0));
    message.msg_iovlen = 1;
    char text[8];
    iov = (struct iovec){text, sizeof text};
    message.msg_control = &control, message.msg_controllen = sizeof control;
    SHOW(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC));
    SHOW(message.msg_controllen);
    SHOW(message.msg_flags);
    message.msg_control = &control, message.msg_controllen = sizeof control;
    SHOW(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT));
    SHOW(message.msg_controllen);
    SHOW(message.msg_flags);
    send_fd(ends[0], 1);
    message.msg_control = NULL, message.msg_controllen = 0;
    SHOW(recvmsg(ends[1], &message, 0));
    SHOW(message.msg_flags);
    send_fd(ends[0], 1);
    message.msg_control = &control, message.msg_controllen = CMSG_LEN(0);
    SHOW(recvmsg(ends[1], &message, MSG_PEEK));
    SHOW(message.msg_flags);
    SHOW(recv(ends[1], text, 0, 0));
    SHOW(recv(ends[1], text, 8, MSG_DONTWAIT));
    SHOW(recv(ends[1], text, 0, MSG_DONTWAIT));
    message.msg_iovlen = 2000;
    SHOW(sendmsg(ends[0], &message, 0));
    close(ends[0]), close(ends[1]);
}

// An edge-triggered watcher hears of what arrives, not of what it reads itself.
static void edges(void) {
    say("edges\n");
    int ends[2], epoll = epoll_create1(0);
    char text[8];
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET}, found;
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    SHOW(epoll_wait(epoll, &found, 1, 0));
    SHOW(found.events);
    SHOW(epoll_wait(epoll, &found, 1, 0));
    write(ends[1], "four", 4);
    SHOW(epoll_wait(epoll, &found, 1, 0));
    SHOW(found.events);
    SHOW(read(ends[0], text, 1));
    SHOW(epoll_wait(epoll, &found, 1, 0));
    SHOW(write(ends[0], text, 1));
    SHOW(epoll_wait(epoll, &found, 1, 0));
    SHOW(shutdown(ends[1], SHUT_WR));
    SHOW(epoll_wait(epoll, &found, 1, 0));
    SHOW(found.events);
    close(ends[1]);
    SHOW(epoll_wait(epoll, &found, 1, 0));
    SHOW(found.events);
    close(ends[0]), close(epoll);
}

// Each of these holds the one before it, and nobody holds the last: letting go must not go deep.
static void chains(void) {
    say("chains\n");
    int inner[2], outer[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, inner);
    for (int i = 0; i < 3000; i++) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, outer);
        if (send_fd(outer[0], inner[1]) < 0) say("%d: %s\n", i, strerrorname_np(errno));
        close(inner[0]), close(inner[1]);
        memcpy(inner, outer, sizeof inner);
    }
    SHOW(close(inner[0]));
    SHOW(close(inner[1]));
    // Sockets that hold themselves: found by the kernel, or memory would end.
    for (int i = 0; i < 20000; i++) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, outer);
        char full[4096] = {0};
        write(outer[0], full, sizeof full);
        if (send_fd(outer[0], outer[1]) < 0) say("%d: %s\n", i, strerrorname_np(errno));
        if (send_fd(outer[1], outer[0]) < 0) say("%d: %s\n", i, strerrorname_np(errno));
        close(outer[0]), close(outer[1]);
    }
    say("done\n");
}

int main(void) {
    shutdowns(SOCK_STREAM, "stream");
    shutdowns(SOCK_SEQPACKET, "seqpacket");
    shutdowns(SOCK_DGRAM, "datagram");
    datagrams();
    streams();
    options();
    controls();
    edges();
    chains();
    return 0;
}
