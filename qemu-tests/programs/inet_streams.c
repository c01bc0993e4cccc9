// TCP over the loopback interface of a network of its own: names, states, errors, options, what poll says.
#include "inet.h"

static void down_and_up(void) {
    char before[64] = "", after[64] = "";
    OK(readlink("/proc/self/ns/net", before, sizeof before - 1));
    OK(unshare(CLONE_NEWNET));
    OK(readlink("/proc/self/ns/net", after, sizeof after - 1));
    TRUE(strncmp(before, "net:[", 5) == 0 && strcmp(before, after) != 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(fd, "127.0.0.1", 9));
    SHOW(bind_to(fd, "127.0.0.1", 0));
    struct ifreq request = {.ifr_name = "lo"};
    SHOW(ioctl(fd, SIOCGIFFLAGS, &request));
    say("flags %x\n", request.ifr_flags);
    SHOW(ioctl(fd, SIOCGIFADDR, &request));
    OK(set_loopback(1));
    SHOW(ioctl(fd, SIOCGIFFLAGS, &request));
    say("flags %x\n", request.ifr_flags);
    SHOW(ioctl(fd, SIOCGIFADDR, &request));
    say("%s\n", inet_ntoa(((struct sockaddr_in *)&request.ifr_addr)->sin_addr));
    SHOW(ioctl(fd, SIOCGIFNETMASK, &request));
    say("%s\n", inet_ntoa(((struct sockaddr_in *)&request.ifr_netmask)->sin_addr));
    SHOW(ioctl(fd, SIOCGIFMTU, &request));
    say("mtu %d\n", request.ifr_mtu);
    SHOW(ioctl(fd, SIOCGIFINDEX, &request));
    say("index %d\n", request.ifr_ifindex);
    strcpy(request.ifr_name, "none0");
    SHOW(ioctl(fd, SIOCGIFFLAGS, &request));
    struct ifreq list[4];
    struct ifconf all = {.ifc_len = sizeof list, .ifc_req = list};
    SHOW(ioctl(fd, SIOCGIFCONF, &all));
    say("%d bytes, %s\n", all.ifc_len, list[0].ifr_name);
    close(fd);
}

static void fresh(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    show_names("fresh", fd);
    show_events("fresh", fd);
    SHOW(recv(fd, &byte, 1, 0));
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    SHOW(shutdown(fd, SHUT_WR));
    SHOW(accept(fd, NULL, NULL));
    SHOW(connect_to(fd, "127.0.0.1", 9));
    show_events("refused", fd);
    SHOW(connect_to(fd, "127.0.0.1", 9));
    SHOW(connect_to(fd, "224.0.0.1", 9));
    struct sockaddr_in to = v4("127.0.0.1", 9);
    SHOW(connect(fd, (void *)&to, 8));
    to.sin_family = AF_INET6;
    SHOW(connect(fd, (void *)&to, sizeof to));
    SHOW(bind_to(fd, "192.0.2.1", 0));
    OPTION(fd, SOL_SOCKET, SO_TYPE);
    OPTION(fd, SOL_SOCKET, SO_DOMAIN);
    OPTION(fd, SOL_SOCKET, SO_PROTOCOL);
    OPTION(fd, SOL_SOCKET, SO_SNDBUF);
    OPTION(fd, SOL_SOCKET, SO_RCVBUF);
    OPTION(fd, IPPROTO_TCP, TCP_NODELAY);
    OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE);
    OPTION(fd, IPPROTO_TCP, TCP_KEEPINTVL);
    OPTION(fd, IPPROTO_TCP, TCP_KEEPCNT);
    OPTION(fd, IPPROTO_TCP, TCP_USER_TIMEOUT);
    OPTION(fd, IPPROTO_IP, IP_TTL);
    OPTION(fd, IPPROTO_IP, IP_TOS);
    OPTION(fd, IPPROTO_IP, IP_MTU);
    OPTION(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    OPTION(fd, IPPROTO_TCP, 999);
    SHOW(set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 0));
    SHOW(set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60));
    OPTION(fd, IPPROTO_TCP, TCP_KEEPIDLE);
    SHOW(set_option(fd, IPPROTO_IP, IP_TTL, 0));
    SHOW(set_option(fd, IPPROTO_IP, IP_TTL, 33));
    OPTION(fd, IPPROTO_IP, IP_TTL);
    SHOW(set_option(fd, IPPROTO_TCP, TCP_MAXSEG, 10));
    close(fd);
    SHOW(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    SHOW(socket(AF_INET, SOCK_SEQPACKET, 0));
    SHOW(socket(AF_INET, SOCK_STREAM, 999));
    int ends[2];
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, ends));
}

static int listener(const char *ip, int port, int backlog) {
    int fd = socket(strchr(ip, ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind_to(fd, ip, port) != 0 || listen(fd, backlog) != 0) say("no listener: %s\n", strerrorname_np(errno));
    return fd;
}

static void talk(void) {
    int server = listener("127.0.0.1", 4001, 8);
    show_events("listening", server);
    show_names("listening", server);
    SHOW(connect_to(server, "127.0.0.1", 4001));
    SHOW(fcntl(server, F_SETFL, O_NONBLOCK));
    SHOW(accept(server, NULL, NULL));
    int client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4001));
    SHOW(connect_to(client, "127.0.0.1", 4001));
    show_events("waiting", server);
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof from;
    int end = accept4(server, (void *)&from, &len, SOCK_CLOEXEC);
    say_address("accepted from", end < 0, &from, len);
    show_names("client", client);
    show_names("end", end);
    show_events("idle", client);
    char text[64] = "";
    SHOW(recv(end, text, sizeof text, MSG_DONTWAIT));
    SHOW(send(client, "hello", 5, 0));
    SHOW(send(client, " world", 6, MSG_MORE));
    show_events("readable", end);
    int count = -1;
    SHOW(recv(end, text, 5, MSG_PEEK));
    SHOW(recv(end, text, 5, MSG_WAITALL));
    say("%.5s\n", text);
    SHOW(set_option(client, IPPROTO_TCP, TCP_NODELAY, 1));
    SHOW(ioctl(end, FIONREAD, &count));
    SHOW(send(client, "!", 1, 0));
    SHOW(recv(end, text, 7, MSG_WAITALL));
    say("%.7s\n", text);
    SHOW(send(end, "0123456789", 10, 0));
    SHOW(recv(client, NULL, 4, MSG_TRUNC));
    SHOW(recv(client, text, 6, MSG_WAITALL));
    say("%.6s\n", text);
    struct iovec parts[2] = {{"ab", 2}, {"cde", 3}};
    SHOW(writev(client, parts, 2));
    SHOW(read(end, text, sizeof text));
    SHOW(shutdown(client, SHUT_WR));
    show_events("ended", end);
    SHOW(read(end, text, sizeof text));
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    SHOW(send(end, "still", 5, 0));
    SHOW(recv(client, text, sizeof text, 0));
    show_events("half", client);
    SHOW(shutdown(end, SHUT_WR));
    show_events("both", client);
    show_events("both", end);
    SHOW(recv(client, text, sizeof text, 0));
    SHOW(send(end, "x", 1, MSG_NOSIGNAL));
    close(client);
    close(end);
    close(server);
}

static void resets(void) {
    int server = listener("127.0.0.1", 4002, 8);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4002));
    int end = accept(server, NULL, NULL);
    SHOW(send(client, "unread", 6, 0));
    close(end);
    show_events("reset", client);
    char text[8];
    OPTION(client, SOL_SOCKET, SO_ERROR);
    SHOW(recv(client, text, sizeof text, 0));
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    show_names("reset", client);
    close(client);

    client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4002));
    end = accept(server, NULL, NULL);
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    SHOW(setsockopt(end, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    close(end);
    SHOW(recv(client, text, sizeof text, 0));
    SHOW(recv(client, text, sizeof text, 0));
    close(client);

    client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4002));
    end = accept(server, NULL, NULL);
    close(end);
    SHOW(recv(client, text, sizeof text, 0));
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    SHOW(send(client, "x", 1, MSG_NOSIGNAL));
    close(client);

    client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4002));
    close(server);
    SHOW(recv(client, text, sizeof text, 0));
    close(client);
    client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4002));
    close(client);
}

static void nonblocking(void) {
    int server = listener("127.0.0.1", 4003, 8);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(connect_to(client, "127.0.0.1", 4003));
    struct pollfd entry = {.fd = client, .events = POLLOUT};
    SHOW(poll(&entry, 1, 1000));
    OPTION(client, SOL_SOCKET, SO_ERROR);
    SHOW(connect_to(client, "127.0.0.1", 4003));
    SHOW(connect_to(client, "127.0.0.1", 4003));
    close(client);
    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(connect_to(client, "127.0.0.1", 9));
    entry.fd = client;
    SHOW(poll(&entry, 1, 1000));
    say("%x\n", entry.revents);
    OPTION(client, SOL_SOCKET, SO_ERROR);
    OPTION(client, SOL_SOCKET, SO_ERROR);
    close(client);
    // Until the buffers are full, and edges of epoll.
    client = socket(AF_INET, SOCK_STREAM, 0);
    connect_to(client, "127.0.0.1", 4003);
    while (accept4(server, NULL, NULL, SOCK_NONBLOCK) < 0) continue;
    close(client);
    client = socket(AF_INET, SOCK_STREAM, 0);
    connect_to(client, "127.0.0.1", 4003);
    int end = accept(server, NULL, NULL);
    SHOW(fcntl(client, F_SETFL, O_NONBLOCK));
    int watch = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
    SHOW(epoll_ctl(watch, EPOLL_CTL_ADD, client, &event));
    SHOW(epoll_wait(watch, &event, 1, 0));
    SHOW(epoll_wait(watch, &event, 1, 0));
    static char block[65536];
    long sent = 0, got = 0, part;
    while ((part = write(client, block, sizeof block)) > 0) sent += part;
    TRUE(part == -1 && errno == EAGAIN && sent > 100000);
    show_events("full", client);
    SHOW(epoll_wait(watch, &event, 1, 0));
    while (got < sent && (part = read(end, block, sizeof block)) > 0) got += part;
    TRUE(got == sent);
    SHOW(epoll_wait(watch, &event, 1, 1000));
    SHOW(epoll_wait(watch, &event, 1, 0));
    show_events("empty", client);
    close(watch);
    close(client);
    close(end);
    close(server);
}

static void binding(void) {
    int one = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(bind_to(one, "127.0.0.1", 4004));
    SHOW(bind_to(one, "127.0.0.1", 4005));
    SHOW(bind_to(other, "127.0.0.1", 4004));
    SHOW(bind_to(other, "0.0.0.0", 4004));
    SHOW(bind_to(other, "127.0.0.2", 4004));
    SHOW(listen(one, 1));
    SHOW(listen(one, 2));
    OPTION(one, SOL_SOCKET, SO_ACCEPTCONN);
    close(other);
    other = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(set_option(one, SOL_SOCKET, SO_REUSEADDR, 1));
    SHOW(set_option(other, SOL_SOCKET, SO_REUSEADDR, 1));
    SHOW(bind_to(other, "127.0.0.1", 4004));
    close(one);
    SHOW(bind_to(other, "127.0.0.1", 4004));
    one = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(set_option(one, SOL_SOCKET, SO_REUSEADDR, 1));
    SHOW(bind_to(one, "0.0.0.0", 4004));
    SHOW(listen(other, 1));
    SHOW(listen(one, 1));
    close(one);
    close(other);
    one = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(listen(one, 1));
    show_names("unbound listener", one);
    close(one);
    // Two that share a port.
    one = socket(AF_INET, SOCK_STREAM, 0);
    other = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(set_option(one, SOL_SOCKET, SO_REUSEPORT, 1));
    SHOW(bind_to(one, "127.0.0.1", 4006));
    SHOW(bind_to(other, "127.0.0.1", 4006));
    SHOW(set_option(other, SOL_SOCKET, SO_REUSEPORT, 1));
    SHOW(bind_to(other, "127.0.0.1", 4006));
    SHOW(listen(one, 1));
    SHOW(listen(other, 1));
    close(one);
    close(other);
    // Ports for the privileged.
    pid_t child = fork_clean();
    if (child == 0) {
        one = socket(AF_INET, SOCK_STREAM, 0);
        SHOW(bind_to(one, "127.0.0.1", 80));
        close(one);
        if (setuid(1234) != 0) _exit(1);
        one = socket(AF_INET, SOCK_STREAM, 0);
        SHOW(bind_to(one, "127.0.0.1", 81));
        SHOW(bind_to(one, "127.0.0.1", 1024));
        SHOW(set_loopback(0));
        _exit(0);
    }
    show_end("unprivileged", child);
}

static void version_6(void) {
    int server = listener("::", 4007, 8);
    show_names("both", server);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4007));
    int end = accept(server, NULL, NULL);
    show_names("mapped", end);
    SHOW(send(client, "four", 4, 0));
    char text[8];
    SHOW(recv(end, text, sizeof text, 0));
    close(client);
    close(end);
    client = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(connect_to(client, "::1", 4007));
    end = accept(server, NULL, NULL);
    show_names("six", end);
    show_names("six client", client);
    OPTION(end, IPPROTO_IPV6, IPV6_V6ONLY);
    OPTION(end, IPPROTO_IPV6, IPV6_UNICAST_HOPS);
    close(client);
    close(end);
    client = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(connect_to(client, "::ffff:127.0.0.1", 4007));
    show_names("mapped client", client);
    close(client);
    client = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4007));
    SHOW(set_option(client, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    SHOW(connect_to(client, "::ffff:127.0.0.1", 4007));
    close(client);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(bind_to(other, "0.0.0.0", 4007));
    close(server);
    server = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(set_option(server, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    SHOW(set_option(server, SOL_SOCKET, SO_REUSEADDR, 1));
    SHOW(bind_to(server, "::", 4008));
    SHOW(set_option(server, IPPROTO_IPV6, IPV6_V6ONLY, 0));
    SHOW(bind_to(other, "0.0.0.0", 4008));
    SHOW(listen(server, 1));
    SHOW(listen(other, 1));
    client = socket(AF_INET6, SOCK_STREAM, 0);
    SHOW(bind_to(client, "::1", 0));
    SHOW(connect_to(client, "::1", 4008));
    close(client);
    close(server);
    close(other);
}

// A server and clients that wait for each other, over many rounds and with much at once.
static void processes(void) {
    int server = listener("127.0.0.1", 4009, 16);
    pid_t child = fork_clean();
    if (child == 0) {
        for (int round = 0; round < 3; round++) {
            int end = accept(server, NULL, NULL);
            char buffer[5000];
            long part;
            while ((part = read(end, buffer, sizeof buffer)) > 0) {
                for (long done = 0, now; done < part; done += now) {
                    now = write(end, buffer + done, part - done);
                    if (now <= 0) _exit(1);
                }
            }
            close(end);
        }
        _exit(0);
    }
    for (int round = 0; round < 2; round++) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        SHOW(connect_to(client, "127.0.0.1", 4009));
        int right = 0;
        for (int i = 0; i < 200; i++) {
            char byte = (char)i, back = 0;
            right += write(client, &byte, 1) == 1 && read(client, &back, 1) == 1 && back == byte;
        }
        say("%d right\n", right);
        close(client);
    }
    int client = socket(AF_INET, SOCK_STREAM, 0);
    SHOW(connect_to(client, "127.0.0.1", 4009));
    const long total = 3000000;
    pid_t writer = fork_clean();
    if (writer == 0) {
        char block[7001];
        for (long done = 0; done < total;) {
            long len = total - done < (long)sizeof block ? total - done : (long)sizeof block;
            for (long i = 0; i < len; i++) block[i] = (char)((done + i) * 31 >> 3);
            long now = write(client, block, len);
            if (now <= 0) _exit(1);
            done += now;
        }
        shutdown(client, SHUT_WR);
        _exit(0);
    }
    long got = 0, wrong = 0, part;
    static char block[70000];
    while ((part = read(client, block, sizeof block)) > 0) {
        for (long i = 0; i < part; i++) wrong += block[i] != (char)((got + i) * 31 >> 3);
        got += part;
    }
    say("%ld bytes, %ld wrong\n", got, wrong);
    show_end("writer", writer);
    show_end("server", child);
    close(client);
    close(server);
}

static void times(void) {
    int server = listener("127.0.0.1", 4010, 8);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval short_time = {0, 20000};
    SHOW(setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time));
    SHOW(accept(server, NULL, NULL));
    SHOW(connect_to(client, "127.0.0.1", 4010));
    int end = accept(server, NULL, NULL);
    SHOW(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time));
    char byte;
    SHOW(recv(client, &byte, 1, 0));
    // Accepted sockets have what the listener has.
    struct timeval had = {0};
    socklen_t len = sizeof had;
    SHOW(getsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &had, &len));
    say("%ld\n", (long)had.tv_usec / 10000);
    struct tcp_info info = {0};
    len = sizeof info;
    SHOW(getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
    say("state %d\n", info.tcpi_state);
    close(end);
    close(client);
    close(server);
}

static void show_file(const char *path) {
    char text[64] = "";
    int fd = open(path, O_RDONLY);
    long len = read(fd, text, sizeof text - 1);
    say("%s: %s", path, len > 0 ? text : "nothing\n");
    close(fd);
}

static void set_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    show_result(text, write(fd, text, strlen(text)));
    close(fd);
}

// What can be set is a network's own.
static void settings(void) {
    show_file("/proc/sys/net/ipv4/ip_local_port_range");
    set_file("/proc/sys/net/ipv4/ip_local_port_range", "50001 50000");
    set_file("/proc/sys/net/ipv4/ip_local_port_range", "50000 50003");
    show_file("/proc/sys/net/ipv4/ip_local_port_range");
    int fds[5];
    for (int i = 0; i < 5; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        SHOW(bind_to(fds[i], "127.0.0.1", 0));
    }
    for (int i = 0; i < 5; i++) close(fds[i]);
    set_file("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999");
    set_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80");
    pid_t child = fork_clean();
    if (child == 0) {
        if (setuid(1234) != 0) _exit(1);
        int one = socket(AF_INET, SOCK_STREAM, 0);
        SHOW(bind_to(one, "127.0.0.1", 79));
        SHOW(bind_to(one, "127.0.0.1", 80));
        _exit(0);
    }
    show_end("unprivileged", child);
    int server = listener("127.0.0.1", 4020, 8);
    FILE *table = fopen("/proc/net/tcp", "r");
    char line[256], local[32], remote[32], state[8];
    while (table && fgets(line, sizeof line, table)) {
        if (sscanf(line, " %*d: %31s %31s %7s", local, remote, state) == 3 && strstr(local, ":0FB4")) {
            say("%s %s %s, %zu bytes\n", local, remote, state, strlen(line));
        }
    }
    if (table) fclose(table);
    close(server);
}

// Names of unix sockets without a file are a network's, too.
static void names(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0here"};
    socklen_t len = sizeof name.sun_family + 5;
    int one = socket(AF_UNIX, SOCK_DGRAM, 0), other = socket(AF_UNIX, SOCK_DGRAM, 0);
    SHOW(bind(one, (void *)&name, len));
    SHOW(connect(other, (void *)&name, len));
    int back = open("/proc/self/ns/net", O_RDONLY);
    OK(unshare(CLONE_NEWNET));
    int stranger = socket(AF_UNIX, SOCK_DGRAM, 0);
    SHOW(connect(stranger, (void *)&name, len));
    SHOW(bind(stranger, (void *)&name, len));
    SHOW(setns(back, CLONE_NEWUTS));
    SHOW(setns(back, CLONE_NEWNET));
    int again = socket(AF_UNIX, SOCK_DGRAM, 0);
    SHOW(connect(again, (void *)&name, len));
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    down_and_up();
    fresh();
    talk();
    resets();
    nonblocking();
    binding();
    version_6();
    processes();
    times();
    settings();
    names();
    return 0;
}
