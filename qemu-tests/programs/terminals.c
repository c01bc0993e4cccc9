// Pseudo-terminals: line discipline, special characters, window size, hang-up.
#include "test.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;
static volatile int last_signal;
static void handler(int signal) { last_signal = signal; }

static void printable(const char *what, const char *text, ssize_t len) {
    say("%s (%zd): ", what, len);
    for (ssize_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 32 && byte < 127) {
            say("%c", byte);
        } else {
            say("<%02x>", byte);
        }
    }
    say("\n");
}

static int is_ready(int descriptor) {
    struct pollfd one = {descriptor, POLLIN, 0};
    return poll(&one, 1, 50) == 1 && (one.revents & POLLIN);
}

static void show_input(const char *what, int descriptor) {
    char text[256];
    if (!is_ready(descriptor)) {
        say("%s: nothing\n", what);
        return;
    }
    ssize_t len = read(descriptor, text, sizeof text);
    printable(what, text, len);
}

static void type(const char *text) { write(master, text, strlen(text)); }

static void canonical(void) {
    type("hello\r");
    show_input("echo", master);
    show_input("line", slave);
    type("helpX\177\177lo\n");
    show_input("echo of erasing", master);
    show_input("edited line", slave);
    type("all wrong\025right\n");
    show_input("echo of killing", master);
    show_input("line after kill", slave);
    type("two words\027\n");
    show_input("echo of word erase", master);
    show_input("line after word erase", slave);
    type("no end yet");
    SHOW(is_ready(slave));
    type("\004");
    show_input("line by end of file", slave);
    type("\004");
    char byte;
    SHOW(read(slave, &byte, 1));
    type("one\ntwo\n");
    show_input("first line", slave);
    show_input("second line", slave);
    while (is_ready(master)) read(master, &byte, 1);
    type("abc\n");
    SHOW(read(slave, &byte, 1));
    show_input("rest of the line", slave);
    while (is_ready(master)) read(master, &byte, 1);
    write(slave, "out\nput\t\n", 9);
    show_input("output", master);
}

static void raw(void) {
    struct termios mode;
    SHOW(tcgetattr(slave, &mode));
    say("modes %o %o %o %o\n", mode.c_iflag, mode.c_oflag, mode.c_cflag, mode.c_lflag);
    say("characters %d %d %d %d %d %d\n", mode.c_cc[VINTR], mode.c_cc[VQUIT], mode.c_cc[VERASE],
        mode.c_cc[VKILL], mode.c_cc[VEOF], mode.c_cc[VSUSP]);
    struct termios old = mode;
    cfmakeraw(&mode);
    SHOW(tcsetattr(slave, TCSANOW, &mode));
    type("a\r\003\004");
    show_input("raw", slave);
    SHOW(is_ready(master));
    write(slave, "x\n", 2);
    show_input("raw output", master);
    mode.c_cc[VMIN] = 0;
    mode.c_cc[VTIME] = 1;
    tcsetattr(slave, TCSAFLUSH, &mode);
    char byte;
    SHOW(read(slave, &byte, 1));
    mode = old;
    mode.c_lflag &= ~ECHO;
    tcsetattr(slave, TCSADRAIN, &mode);
    type("secret\n");
    SHOW(is_ready(master));
    show_input("not echoed", slave);
    tcsetattr(slave, TCSANOW, &old);
}

static void foreground(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        setsid();
        SHOW(ioctl(slave, TIOCSCTTY, 0));
        SHOW(tcgetpgrp(slave) == getpgrp());
        SHOW(tcgetsid(slave) == getsid(0));
        int tty = open("/dev/tty", O_RDWR);
        TRUE(tty >= 0 && isatty(tty));
        int signals[] = {SIGINT, SIGQUIT, SIGWINCH, SIGHUP};
        for (int i = 0; i < 4; i++) {
            sigaction(signals[i], &(struct sigaction){.sa_handler = handler}, 0);
        }
        type("partial\003");
        while (last_signal != SIGINT) sleep_ms(1);
        say("interrupted\n");
        type("\034");
        while (last_signal != SIGQUIT) sleep_ms(1);
        say("quit\n");
        char drop[64];
        while (is_ready(master)) read(master, drop, sizeof drop);
        type("after\n");
        show_input("line after interrupt", slave);
        struct winsize size = {50, 132, 0, 0};
        SHOW(ioctl(master, TIOCSWINSZ, &size));
        while (last_signal != SIGWINCH) sleep_ms(1);
        memset(&size, 0, sizeof size);
        SHOW(ioctl(tty, TIOCGWINSZ, &size));
        say("%d x %d\n", size.ws_row, size.ws_col);
        close(tty);
        close(master);
        while (last_signal != SIGHUP) sleep_ms(1);
        say("hung up\n");
        char byte;
        SHOW(read(slave, &byte, 1));
        SHOW(write(slave, "x", 1));
        _exit(0);
    }
    close(master);
    show_end("session leader", child);
}

int main(void) {
    master = posix_openpt(O_RDWR | O_NOCTTY);
    TRUE(master >= 0);
    SHOW(grantpt(master));
    SHOW(unlockpt(master));
    char name[64];
    SHOW(ptsname_r(master, name, sizeof name));
    TRUE(strncmp(name, "/dev/pts/", 9) == 0);
    slave = open(name, O_RDWR | O_NOCTTY);
    TRUE(slave >= 0 && isatty(slave));
    SHOW(isatty(open("/dev/null", O_RDWR)));
    SHOW(open("/dev/tty", O_RDWR));
    int number = -1;
    SHOW(ioctl(master, TIOCGPTN, &number));
    TRUE(number == atoi(name + 9));
    struct winsize size = {1, 1, 1, 1};
    SHOW(ioctl(slave, TIOCGWINSZ, &size));
    say("%d x %d\n", size.ws_row, size.ws_col);
    canonical();
    raw();
    foreground();

    master = posix_openpt(O_RDWR | O_NOCTTY);
    unlockpt(master);
    ptsname_r(master, name, sizeof name);
    slave = open(name, O_RDWR | O_NOCTTY);
    write(slave, "last words\n", 11);
    close(slave);
    char text[64];
    printable("after the slave closed", text, read(master, text, sizeof text));
    SHOW(read(master, text, sizeof text));
    struct pollfd one = {master, POLLIN, 0};
    SHOW(poll(&one, 1, 0));
    SHOW(one.revents);
    slave = open(name, O_RDWR | O_NOCTTY);
    write(slave, "again\n", 6);
    show_input("opened again", master);
    return 0;
}
