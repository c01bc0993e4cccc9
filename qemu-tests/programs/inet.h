// What the programs for internet sockets share: a network of their own, whose loopback interface they bring up.
#pragma once
#include "test.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static inline int set_loopback(int up) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "lo"};
    request.ifr_flags = up ? IFF_UP : 0;
    int result = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result;
}

static inline void own_network(void) {
    OK(unshare(CLONE_NEWNET));
    OK(set_loopback(1));
}

static inline struct sockaddr_in v4(const char *ip, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &address.sin_addr);
    return address;
}

static inline struct sockaddr_in6 v6(const char *ip, int port) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, ip, &address.sin6_addr);
    return address;
}

static inline int bind_to(int fd, const char *ip, int port) {
    struct sockaddr_in to4 = v4(ip, port);
    struct sockaddr_in6 to6 = v6(ip, port);
    return strchr(ip, ':') ? bind(fd, (void *)&to6, sizeof to6) : bind(fd, (void *)&to4, sizeof to4);
}

static inline int connect_to(int fd, const char *ip, int port) {
    struct sockaddr_in to4 = v4(ip, port);
    struct sockaddr_in6 to6 = v6(ip, port);
    return strchr(ip, ':') ? connect(fd, (void *)&to6, sizeof to6) : connect(fd, (void *)&to4, sizeof to4);
}

// An address as text; a port that the kernel chose as "some".
static inline void say_address(const char *what, int result, const struct sockaddr_storage *from, socklen_t len) {
    if (result != 0) {
        say("%s: %s\n", what, strerrorname_np(errno));
        return;
    }
    char text[INET6_ADDRSTRLEN] = "?";
    int port = 0;
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)from;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        port = ntohs(in->sin_port);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)from;
        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
        port = ntohs(in->sin6_port);
    }
    say("%s: family %d length %u %s ", what, from->ss_family, len, text);
    if (port >= 32768) {
        say("some port\n");
    } else {
        say("port %d\n", port);
    }
}

static inline void show_names(const char *what, int fd) {
    char line[64];
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    snprintf(line, sizeof line, "%s own", what);
    int result = getsockname(fd, (void *)&address, &len);
    say_address(line, result, &address, len);
    len = sizeof address;
    snprintf(line, sizeof line, "%s peer", what);
    result = getpeername(fd, (void *)&address, &len);
    say_address(line, result, &address, len);
}

static inline void show_events(const char *what, int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
    int count = poll(&entry, 1, 0);
    say("%s: poll %d", what, count);
    const struct { int bit; const char *name; } names[] = {
        {POLLIN, "IN"}, {POLLOUT, "OUT"}, {POLLPRI, "PRI"}, {POLLERR, "ERR"}, {POLLHUP, "HUP"}, {POLLRDHUP, "RDHUP"}, {POLLNVAL, "NVAL"},
    };
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (entry.revents & names[i].bit) say(" %s", names[i].name);
    }
    say("\n");
}

static inline void show_option(const char *what, int fd, int level, int name) {
    int value = -77;
    socklen_t len = sizeof value;
    int result = getsockopt(fd, level, name, &value, &len);
    if (result != 0) {
        say("%s: %s\n", what, strerrorname_np(errno));
    } else {
        say("%s: %d (%u bytes)\n", what, value, len);
    }
}
#define OPTION(fd, level, name) show_option(#name, fd, level, name)

static inline int set_option(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value);
}
