// Which families and types socket(2) takes, and which of the two it says is wrong.
#include "test.h"
#include <sys/socket.h>
#include <sys/un.h>

// Like netlink on a kernel without it: nobody has had DECnet for years.
enum { ABSENT = 12 };

int main(void) {
    // What libaudit does before adduser and su; another error than EAFNOSUPPORT ends them.
    SHOW(socket(ABSENT, SOCK_RAW, 9));
    SHOW(socket(ABSENT, SOCK_STREAM, 0));
    SHOW(socket(ABSENT, 11, 0));
    SHOW(socket(999, 11, 0));
    SHOW(socket(AF_UNIX, 11, 0));
    SHOW(socket(AF_UNIX, 0, 0));
    SHOW(socket(AF_UNIX, SOCK_RDM, 0));
    SHOW(socket(AF_UNIX, 10, 0));
    int ends[2] = {-1, -1}, type = -1;
    SHOW(socketpair(ABSENT, SOCK_RAW, 0, ends));
    SHOW(socketpair(AF_UNIX, SOCK_RAW, 0, ends));
    socklen_t length = sizeof type;
    SHOW(getsockopt(ends[0], SOL_SOCKET, SO_TYPE, &type, &length));
    SHOW(type == SOCK_DGRAM);
    SHOW(send(ends[0], "raw", 3, 0));
    char text[8];
    SHOW(recv(ends[1], text, sizeof text, 0));
    // Addresses of another family than the socket's.
    struct sockaddr_un address = {.sun_family = AF_INET, .sun_path = "/tmp/family"};
    const struct sockaddr *other = (void *)&address;
    int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 3; i++) {
        for (int family = 0; family < 2; family++) {
            address.sun_family = family ? AF_INET : AF_UNSPEC;
            int fd = socket(AF_UNIX, types[i], 0);
            SHOW(bind(fd, other, sizeof address));
            SHOW(bind(fd, other, 2));
            SHOW(bind(fd, other, 1));
            SHOW(sendto(fd, "x", 1, MSG_NOSIGNAL, other, sizeof address));
            SHOW(connect(fd, other, sizeof address));
            close(fd);
        }
    }
    return 0;
}
