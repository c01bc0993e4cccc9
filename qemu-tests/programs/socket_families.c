// Which families and types socket(2) takes, and which of the two it says is wrong.
#include "test.h"
#include <sys/socket.h>

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
    return 0;
}
