// UDP over the loopback interface of a network of its own.
#include "inet.h"

static void fresh(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    show_names("fresh", fd);
    show_events("fresh", fd);
    char byte;
    SHOW(recv(fd, &byte, 1, MSG_DONTWAIT));
    SHOW(send(fd, "x", 1, 0));
    SHOW(shutdown(fd, SHUT_RD));
    SHOW(listen(fd, 1));
    SHOW(accept(fd, NULL, NULL));
    OPTION(fd, SOL_SOCKET, SO_TYPE);
    OPTION(fd, SOL_SOCKET, SO_PROTOCOL);
    OPTION(fd, SOL_SOCKET, SO_RCVBUF);
    OPTION(fd, SOL_SOCKET, SO_SNDBUF);
    OPTION(fd, IPPROTO_IP, IP_PKTINFO);
    OPTION(fd, IPPROTO_IP, IP_MTU_DISCOVER);
    struct sockaddr_in nowhere = v4("192.0.2.1", 9), all = v4("255.255.255.255", 9), none = v4("127.0.0.1", 0);
    SHOW(sendto(fd, "x", 1, 0, (void *)&nowhere, sizeof nowhere));
    SHOW(sendto(fd, "x", 1, 0, (void *)&all, sizeof all));
    SHOW(sendto(fd, "x", 1, 0, (void *)&none, sizeof none));
    SHOW(sendto(fd, "x", 1, 0, (void *)&none, 8));
    static char large[66000];
    none.sin_port = htons(9);
    SHOW(sendto(fd, large, 65508, 0, (void *)&none, sizeof none));
    SHOW(sendto(fd, large, sizeof large, 0, (void *)&none, sizeof none));
    close(fd);
    SHOW(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
}

static void talk(void) {
    int one = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(bind_to(one, "127.0.0.1", 5001));
    SHOW(bind_to(one, "127.0.0.1", 5002));
    SHOW(bind_to(other, "127.0.0.1", 5001));
    struct sockaddr_in to = v4("127.0.0.1", 5001);
    SHOW(sendto(other, "first", 5, 0, (void *)&to, sizeof to));
    SHOW(sendto(other, "", 0, 0, (void *)&to, sizeof to));
    SHOW(sendto(other, "third one", 9, 0, (void *)&to, sizeof to));
    show_events("waiting", one);
    int count = -1;
    SHOW(ioctl(one, FIONREAD, &count));
    say("%d\n", count);
    char text[64] = "";
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof from;
    SHOW(recvfrom(one, text, sizeof text, MSG_PEEK, (void *)&from, &len));
    say_address("from", 0, &from, len);
    SHOW(recv(one, text, 2, MSG_TRUNC));
    SHOW(recv(one, text, sizeof text, 0));
    SHOW(recv(one, text, 4, 0));
    SHOW(recv(one, text, 4, MSG_DONTWAIT));
    // An answer goes to where it came from.
    SHOW(sendto(one, "back", 4, 0, (void *)&from, len));
    SHOW(recv(other, text, sizeof text, 0));
    SHOW(connect_to(other, "127.0.0.1", 5001));
    show_names("connected", other);
    SHOW(send(other, "direct", 6, 0));
    SHOW(recv(one, text, sizeof text, 0));
    // What others send does not reach one that is connected.
    int third = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_storage mine;
    len = sizeof mine;
    getsockname(other, (void *)&mine, &len);
    SHOW(sendto(third, "no", 2, 0, (void *)&mine, len));
    SHOW(recv(other, text, sizeof text, MSG_DONTWAIT));
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    SHOW(connect(other, &nobody, sizeof nobody));
    show_names("disconnected", other);
    SHOW(send(other, "x", 1, 0));
    close(third);
    // Nobody there: whoever is connected hears of it, once.
    SHOW(connect_to(other, "127.0.0.1", 5999));
    SHOW(send(other, "x", 1, 0));
    show_events("refused", other);
    SHOW(recv(other, text, sizeof text, 0));
    SHOW(recv(other, text, sizeof text, MSG_DONTWAIT));
    SHOW(send(other, "x", 1, 0));
    SHOW(send(other, "x", 1, 0));
    SHOW(shutdown(other, SHUT_RDWR));
    show_events("shut", other);
    close(one);
    close(other);
}

static void messages(void) {
    int one = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(bind_to(one, "0.0.0.0", 5003));
    SHOW(set_option(one, IPPROTO_IP, IP_PKTINFO, 1));
    SHOW(set_option(one, IPPROTO_IP, IP_RECVTTL, 1));
    SHOW(set_option(one, IPPROTO_IP, IP_RECVTOS, 1));
    SHOW(set_option(other, IPPROTO_IP, IP_TTL, 9));
    SHOW(set_option(other, IPPROTO_IP, IP_TOS, 0x10));
    SHOW(connect_to(other, "127.0.0.5", 5003));
    struct iovec parts[4] = {{"ab", 2}, {"cd", 2}, {"efg", 3}, {"h", 1}};
    struct mmsghdr many[3] = {0};
    for (int i = 0; i < 3; i++) {
        many[i].msg_hdr.msg_iov = &parts[i];
        many[i].msg_hdr.msg_iovlen = i == 0 ? 2 : 1;
    }
    SHOW(sendmmsg(other, many, 3, 0));
    say("%u %u %u\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    char text[3][8], control[3][128];
    struct iovec rooms[3];
    for (int i = 0; i < 3; i++) {
        rooms[i] = (struct iovec){text[i], i == 2 ? 2 : 8};
        many[i].msg_hdr = (struct msghdr){.msg_iov = &rooms[i], .msg_iovlen = 1, .msg_control = control[i], .msg_controllen = i == 1 ? 40 : 128};
    }
    SHOW(recvmmsg(one, many, 3, 0, NULL));
    for (int i = 0; i < 3; i++) {
        struct msghdr *header = &many[i].msg_hdr;
        say("%u bytes, flags %x\n", many[i].msg_len, header->msg_flags);
        for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
            say("  level %d type %d:", part->cmsg_level, part->cmsg_type);
            if (part->cmsg_type == IP_PKTINFO) {
                struct in_pktinfo info;
                memcpy(&info, CMSG_DATA(part), sizeof info);
                say(" interface %d", info.ipi_ifindex);
                say(" spec %s", inet_ntoa(info.ipi_spec_dst));
                say(" to %s\n", inet_ntoa(info.ipi_addr));
            } else if (part->cmsg_type == IP_TOS) {
                say(" %d\n", *CMSG_DATA(part));
            } else {
                int value;
                memcpy(&value, CMSG_DATA(part), sizeof value);
                say(" %d\n", value);
            }
        }
    }
    close(one);
    close(other);
}

static void version_6(void) {
    int one = socket(AF_INET6, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0), six = socket(AF_INET6, SOCK_DGRAM, 0);
    SHOW(bind_to(one, "::", 5004));
    SHOW(set_option(one, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
    SHOW(connect_to(other, "127.0.0.1", 5004));
    SHOW(send(other, "four", 4, 0));
    SHOW(connect_to(six, "::1", 5004));
    SHOW(send(six, "six", 3, 0));
    char text[16];
    for (int i = 0; i < 2; i++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof from;
        SHOW(recvfrom(one, text, sizeof text, 0, (void *)&from, &len));
        say_address("from", 0, &from, len);
    }
    SHOW(bind_to(other, "0.0.0.0", 5004));
    int third = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(bind_to(third, "0.0.0.0", 5004));
    close(six);
    six = socket(AF_INET6, SOCK_DGRAM, 0);
    SHOW(connect_to(six, "127.0.0.1", 5004));
    show_names("four by six", six);
    close(one);
    close(other);
    close(six);
    close(third);
}

static void sharing(void) {
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
        SHOW(set_option(fds[i], SOL_SOCKET, SO_REUSEPORT, 1));
        SHOW(bind_to(fds[i], "127.0.0.1", 5005));
    }
    int got = 0;
    char byte;
    for (int i = 0; i < 30; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        connect_to(fd, "127.0.0.1", 5005);
        if (send(fd, "x", 1, 0) != 1) say("not sent\n");
        close(fd);
    }
    int all = 1;
    for (int i = 0; i < 3; i++) {
        int own = 0;
        while (recv(fds[i], &byte, 1, MSG_DONTWAIT) == 1) own++;
        all &= own > 0;
        got += own;
        close(fds[i]);
    }
    say("%d got, all of them some: %d\n", got, all);
}

// More than the receiver takes is lost, and nobody waits.
static void flood(void) {
    int one = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
    SHOW(set_option(one, SOL_SOCKET, SO_RCVBUF, 10000));
    SHOW(bind_to(one, "127.0.0.1", 5006));
    SHOW(connect_to(other, "127.0.0.1", 5006));
    static char block[1000];
    int sent = 0, got = 0;
    for (int i = 0; i < 100; i++) sent += send(other, block, sizeof block, 0) == sizeof block;
    while (recv(one, block, sizeof block, MSG_DONTWAIT) == sizeof block) got++;
    TRUE(sent == 100 && got > 0 && got < 30);
    pid_t child = fork_clean();
    if (child == 0) {
        char text[8];
        say("woken by %ld bytes\n", (long)recv(one, text, sizeof text, 0));
        _exit(0);
    }
    sleep_ms(20);
    if (send(other, "wake", 4, 0) != 4) say("not sent\n");
    show_end("reader", child);
    close(one);
    close(other);
}

int main(void) {
    own_network();
    fresh();
    talk();
    messages();
    version_6();
    sharing();
    flood();
    return 0;
}
