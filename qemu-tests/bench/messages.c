// Rows of the kernel benchmark: pipes and unix sockets, in one process and between two.
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 100, LARGE = 65536 };

static int ends[2], pair[2], datagrams[2], to_child, from_child;
static char buffer[LARGE];

static void call_pipe(void) {
    write(ends[1], buffer, 1);
    read(ends[0], buffer, 1);
}
static void call_pipe_large(void) {
    write(ends[1], buffer, LARGE);
    read(ends[0], buffer, LARGE);
}
static void call_make_pipe(void) {
    int new[2];
    if (pipe(new) != 0) return;
    close(new[0]);
    close(new[1]);
}
static void call_socket(void) {
    write(pair[0], buffer, 1);
    read(pair[1], buffer, 1);
}
static void call_socket_large(void) {
    write(pair[0], buffer, LARGE);
    for (long left = LARGE; left > 0;) left -= read(pair[1], buffer, LARGE);
}
static void call_datagram(void) {
    send(datagrams[0], buffer, 100, 0);
    recv(datagrams[1], buffer, 100, 0);
}
static void call_descriptor(void) {
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {buffer, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &ends[0], sizeof(int));
    sendmsg(pair[0], &message, 0);
    message.msg_controllen = sizeof control;
    recvmsg(pair[1], &message, 0);
    int received;
    memcpy(&received, CMSG_DATA(header), sizeof received);
    close(received);
}
static void call_make_pair(void) {
    int new[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, new) != 0) return;
    close(new[0]);
    close(new[1]);
}
static void call_round_trip(void) {
    write(to_child, buffer, 1);
    read(from_child, buffer, 1);
}

// Measures round trips with a child that sends each byte back.
static void round_trips(const char *name, int child_in, int child_out, int in, int out) {
    pid_t child = fork();
    need(child, "fork");
    if (child == 0) {
        char byte;
        close(out);
        while (read(child_in, &byte, 1) == 1) write(child_out, &byte, 1);
        _exit(0);
    }
    to_child = out;
    from_child = in;
    row(name, MANY, 1, call_round_trip);
    kill(child, SIGKILL);
    need(waitpid(child, 0, 0), "waitpid");
}

void rows_of_messages(void) {
    int there[2], back[2], both[2];
    need(pipe(ends), "pipe");
    need(fcntl(ends[1], F_SETPIPE_SZ, 2 * LARGE), "F_SETPIPE_SZ");
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    need(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams), "socketpair");
    row("pipe", MANY, 1, call_pipe);
    row("pipe-64k", 5, 1, call_pipe_large);
    row("pipe-make+close", MANY, 1, call_make_pipe);
    row("unix-stream", MANY, 1, call_socket);
    row("unix-stream-64k", 5, 1, call_socket_large);
    row("unix-datagram", MANY, 1, call_datagram);
    row("unix-descriptor", MANY, 1, call_descriptor);
    row("socketpair+close", MANY, 1, call_make_pair);
    need(pipe(there), "pipe");
    need(pipe(back), "pipe");
    round_trips("switch-pipe", there[0], back[1], back[0], there[1]);
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, both), "socketpair");
    round_trips("switch-unix", both[1], both[1], both[0], both[0]);
}
