// AF_UNIX stream sockets: pairs, names, refusals, descriptors and credentials in messages.
#include "test.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};

static void pairs(void) {
    int ends[2];
    char text[64] = {0};
    SHOW(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    SHOW(fcntl(ends[0], F_GETFD));
    SHOW(write(ends[0], "to and ", 7));
    SHOW(send(ends[0], "fro", 3, 0));
    SHOW(recv(ends[1], text, 4, MSG_PEEK));
    SHOW(read(ends[1], text, sizeof text));
    say("%s\n", text);
    SHOW(recv(ends[1], text, 1, MSG_DONTWAIT));
    int waiting = -1;
    write(ends[1], "back", 4);
    ioctl(ends[0], FIONREAD, &waiting);
    SHOW(waiting);
    SHOW(shutdown(ends[1], SHUT_WR));
    SHOW(read(ends[0], text, sizeof text));
    SHOW(read(ends[0], text, sizeof text));
    SHOW(send(ends[1], "x", 1, MSG_NOSIGNAL));
    SHOW(write(ends[0], "still open", 10));
    SHOW(shutdown(ends[0], 9));
    close(ends[0]);
    SHOW(read(ends[1], text, sizeof text));
    SHOW(read(ends[1], text, sizeof text));
    struct pollfd one = {ends[1], POLLIN | POLLOUT | POLLRDHUP, 0};
    SHOW(poll(&one, 1, 0));
    SHOW(one.revents & (POLLIN | POLLHUP | POLLRDHUP));
    SHOW(send(ends[1], "x", 1, MSG_NOSIGNAL));
    close(ends[1]);
    SHOW(socket(AF_UNIX, 77, 0));
    SHOW(socket(999, SOCK_STREAM, 0));
    int pipe_ends[2];
    pipe(pipe_ends);
    SHOW(send(pipe_ends[1], "x", 1, 0));
}

static void names(void) {
    struct sockaddr_un other;
    socklen_t len = sizeof other;
    char text[32] = {0};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(connect(client, (void *)&name, sizeof name));
    SHOW(bind(listener, (void *)&name, sizeof name));
    SHOW(bind(client, (void *)&name, sizeof name));
    SHOW(connect(client, (void *)&name, sizeof name));
    SHOW(accept(listener, 0, 0));
    SHOW(listen(listener, 2));
    SHOW(connect(client, (void *)&name, sizeof name));
    SHOW(connect(client, (void *)&name, sizeof name));
    struct pollfd one = {listener, POLLIN, 0};
    SHOW(poll(&one, 1, 0));
    int server = accept4(listener, (void *)&other, &len, SOCK_CLOEXEC);
    TRUE(server >= 0);
    SHOW(len);
    SHOW(fcntl(server, F_GETFD));
    len = sizeof other;
    SHOW(getsockname(server, (void *)&other, &len));
    say("%s %d\n", other.sun_path, (int)len);
    len = sizeof other;
    SHOW(getpeername(client, (void *)&other, &len));
    say("%s\n", other.sun_path);
    SHOW(write(client, "hello", 5));
    SHOW(read(server, text, sizeof text));
    say("%s\n", text);
    struct ucred peer;
    len = sizeof peer;
    SHOW(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &peer, &len));
    TRUE(peer.pid == getpid() && peer.uid == 0 && peer.gid == 0);
    int value;
    len = sizeof value;
    SHOW(getsockopt(server, SOL_SOCKET, SO_TYPE, &value, &len));
    SHOW(value);
    SHOW(getsockopt(server, SOL_SOCKET, SO_ERROR, &value, &len));
    SHOW(value);
    SHOW(getsockopt(server, SOL_SOCKET, 9999, &value, &len));
    struct stat info;
    stat("/tmp/socket", &info);
    TRUE(S_ISSOCK(info.st_mode));
    SHOW(open("/tmp/socket", O_RDONLY));
    close(listener);
    int late = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(connect(late, (void *)&name, sizeof name));
    SHOW(unlink("/tmp/socket"));
    SHOW(connect(late, (void *)&name, sizeof name));
    SHOW(write(client, "goes on", 7));
    close(client);
    SHOW(read(server, text, sizeof text));
    SHOW(read(server, text, sizeof text));
    close(server);

    // Names that are no files.
    struct sockaddr_un abstract = {.sun_family = AF_UNIX, .sun_path = "\0nacre"};
    socklen_t abstract_len = sizeof(sa_family_t) + 6;
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SHOW(bind(listener, (void *)&abstract, abstract_len));
    SHOW(listen(listener, 1));
    SHOW(accept(listener, 0, 0));
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(connect(client, (void *)&abstract, abstract_len));
    close(listener);
    SHOW(read(client, text, 1));
}

static void passing(void) {
    int ends[2], file = open("/etc/data", O_RDONLY);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    char text[16] = "descriptors";
    struct iovec part = {text, 11};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(2 * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(header), (int[]){file, ends[0]}, 2 * sizeof(int));
    SHOW(sendmsg(ends[0], &message, 0));
    close(file);
    pid_t child = fork_clean();
    if (child == 0) {
        int got[2] = {-1, -1};
        memset(&control, 0, sizeof control);
        message.msg_controllen = sizeof control;
        SHOW(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC));
        header = CMSG_FIRSTHDR(&message);
        SHOW(header->cmsg_len);
        memcpy(got, CMSG_DATA(header), sizeof got);
        unsigned char byte = 0;
        SHOW(pread(got[0], &byte, 1, 100));
        SHOW(byte);
        SHOW(fcntl(got[0], F_GETFD));
        SHOW(write(got[1], "x", 1));
        _exit(0);
    }
    show_end("receiver", child);
    memcpy(CMSG_DATA(header), (int[]){999, 998}, 2 * sizeof(int));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(2 * sizeof(int));
    SHOW(sendmsg(ends[0], &message, 0));
}

int main(void) {
    pairs();
    names();
    passing();
    // More than fits, to a slow reader.
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    pid_t child = fork_clean();
    if (child == 0) {
        close(ends[0]);
        char block[5000];
        memset(block, 'q', sizeof block);
        for (int i = 0; i < 100; i++) {
            if (write(ends[1], block, sizeof block) != sizeof block) _exit(1);
        }
        _exit(0);
    }
    close(ends[1]);
    char buffer[3333];
    long total = 0, got;
    while ((got = read(ends[0], buffer, sizeof buffer)) > 0) total += got;
    SHOW(total);
    show_end("writer", child);
    return 0;
}
