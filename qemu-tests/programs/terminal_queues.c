// Terminals at their edges: full input queues, flushing under a writer, packet mode, exclusive use.
#include "test.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <termios.h>

static int master, slave;
static char name[32];

static void nothing(int signal) { (void)signal; }

static void open_pair(void) {
    int unlocked = 0, number = 0;
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    ioctl(master, TIOCSPTLCK, &unlocked);
    ioctl(master, TIOCGPTN, &number);
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    slave = open(name, O_RDWR | O_NOCTTY);
}

static void close_pair(void) {
    close(slave);
    close(master);
}

static void local(int on, int off) {
    struct termios now;
    tcgetattr(slave, &now);
    now.c_lflag = (now.c_lflag | (tcflag_t)on) & ~(tcflag_t)off;
    tcsetattr(slave, TCSANOW, &now);
}

static void raw_mode(void) {
    struct termios now;
    tcgetattr(slave, &now);
    cfmakeraw(&now);
    tcsetattr(slave, TCSANOW, &now);
}

// Reads until nothing comes for a while; how much came.
static long drain(int from) {
    char bytes[4096];
    long total = 0;
    struct pollfd one = {from, POLLIN, 0};
    while (poll(&one, 1, 200) == 1 && (one.revents & POLLIN)) {
        ssize_t len = read(from, bytes, sizeof bytes);
        if (len <= 0) break;
        total += len;
    }
    return total;
}

static void noop(int signal) { (void)signal; }

// A write to a master nobody reads blocks, can be interrupted and killed, and goes on when read.
static void blocked_writers(void) {
    static char bytes[64 * 1024];
    memset(bytes, 'x', sizeof bytes);
    open_pair();
    raw_mode();
    pid_t child = fork_clean();
    if (child == 0) {
        write(master, bytes, sizeof bytes);
        _exit(0);
    }
    sleep_ms(60);
    TRUE(waitpid(child, NULL, WNOHANG) == 0);
    kill(child, SIGKILL);
    show_end("killed in a write to a full master", child);
    close_pair();

    open_pair();
    raw_mode();
    child = fork_clean();
    if (child == 0) {
        long written = write(master, bytes, sizeof bytes);
        _exit(written == sizeof bytes ? 0 : 1);
    }
    sleep_ms(100);
    TRUE(drain(slave) == sizeof bytes);
    show_end("writer whose bytes were read", child);
    close_pair();

    open_pair();
    raw_mode();
    child = fork_clean();
    if (child == 0) {
        write(master, bytes, 12000);
        write(master, bytes, 12000);
        _exit(0);
    }
    sleep_ms(60);
    for (int i = 0; i < 8 && waitpid(child, NULL, WNOHANG) == 0; i++) {
        tcflush(slave, TCIFLUSH);
        sleep_ms(20);
    }
    TRUE(kill(child, 0) == -1);
    close_pair();

    open_pair();
    raw_mode();
    signal(SIGALRM, SIG_DFL);
    struct sigaction action = {.sa_handler = noop};
    sigaction(SIGALRM, &action, NULL);
    child = fork_clean();
    if (child == 0) {
        alarm(1);
        long written = write(slave, bytes, sizeof bytes);
        _exit(written > 0 && written < (long)sizeof bytes ? 0 : 1);
    }
    show_end("interrupted in a write to a full terminal", child);
    close_pair();
}

static void full_queues(void) {
    static char bytes[8192];
    memset(bytes, 'x', sizeof bytes);
    open_pair();
    fcntl(master, F_SETFL, O_NONBLOCK);
    local(0, ECHO);
    SHOW(write(master, bytes, 4096));
    sleep_ms(100);
    struct pollfd one = {slave, POLLIN, 0};
    SHOW(poll(&one, 1, 0));
    SHOW(write(master, "ab", 2));
    SHOW(write(master, "\n", 1));
    SHOW(poll(&one, 1, 3000));
    char line[8192];
    long len = read(slave, line, sizeof line);
    say("line of %ld ends in %02x %02x\n", len, line[len - 2], line[len - 1]);
    SHOW(write(master, "next\n", 5));
    SHOW(poll(&one, 1, 3000));
    SHOW(read(slave, line, sizeof line));
    close_pair();

    open_pair();
    fcntl(master, F_SETFL, O_NONBLOCK);
    raw_mode();
    SHOW(write(master, bytes, 4100));
    SHOW(write(master, "y", 1));
    sleep_ms(100);
    TRUE(drain(slave) == 4101);
    // What the queue and the line before it hold together is bounded.
    long total = 0, written;
    while (total < 1 << 20 && (written = write(master, bytes, 1000)) > 0) total += written;
    TRUE(total > 4096 && total < 1 << 17);
    TRUE(drain(slave) == total);
    close_pair();

    // Complete lines fill the queue too: what follows waits, and comes when they were read.
    open_pair();
    fcntl(master, F_SETFL, O_NONBLOCK);
    local(0, ECHO);
    long lines = 0;
    while (lines < 10000 && write(master, "0123456\n", 8) == 8) lines++;
    TRUE(lines >= 512);
    sleep_ms(100);
    TRUE(drain(slave) == lines * 8);
    close_pair();
}

static void packets(void) {
    unsigned char bytes[64];
    int on = 1, off = 0, mode = 7;
    open_pair();
    // To a page that is not there yet.
    int *fresh = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SHOW(ioctl(master, FIONREAD, fresh));
    SHOW(*fresh);
    munmap(fresh, 4096);
    SHOW(ioctl(master, TIOCGPKT, &mode));
    say("mode %d\n", mode);
    SHOW(ioctl(master, TIOCPKT, &on));
    SHOW(ioctl(master, TIOCGPKT, &mode));
    say("mode %d\n", mode);
    SHOW(ioctl(slave, TIOCPKT, &on));
    write(slave, "hi", 2);
    struct pollfd one = {master, POLLIN | POLLPRI, 0};
    SHOW(poll(&one, 1, 3000));
    say("events %x\n", one.revents);
    SHOW(read(master, bytes, sizeof bytes));
    say("%d %c%c\n", bytes[0], bytes[1], bytes[2]);
    tcflush(slave, TCIFLUSH);
    SHOW(poll(&one, 1, 3000));
    say("events %x\n", one.revents);
    SHOW(read(master, bytes, sizeof bytes));
    say("%d\n", bytes[0]);
    tcflush(slave, TCOFLUSH);
    SHOW(read(master, bytes, sizeof bytes));
    say("%d\n", bytes[0]);
    tcflow(slave, TCOOFF);
    SHOW(read(master, bytes, sizeof bytes));
    say("%d\n", bytes[0]);
    tcflow(slave, TCOON);
    SHOW(read(master, bytes, sizeof bytes));
    say("%d\n", bytes[0]);
    raw_mode();
    SHOW(read(master, bytes, sizeof bytes));
    say("%d\n", bytes[0]);
    SHOW(ioctl(master, TIOCPKT, &off));
    write(slave, "hi", 2);
    SHOW(read(master, bytes, sizeof bytes));
    close_pair();
}

static void exclusive(void) {
    int mode = 7;
    open_pair();
    // Nothing asked for is nothing waited for.
    SHOW(read(slave, name, 0));
    SHOW(write(slave, name, 0));
    SHOW(read(master, name, 0));
    SHOW(ioctl(slave, TIOCSBRK));
    SHOW(ioctl(slave, TIOCCBRK));
    SHOW(ioctl(master, 0x40045436 /* TIOCSIG */, 200));
    SHOW(ioctl(slave, TIOCGEXCL, &mode));
    say("mode %d\n", mode);
    SHOW(ioctl(slave, TIOCEXCL));
    SHOW(ioctl(slave, TIOCGEXCL, &mode));
    say("mode %d\n", mode);
    OK(open(name, O_RDWR | O_NOCTTY));
    fchmod(slave, 0666);
    pid_t child = fork_clean();
    if (child == 0) {
        if (setuid(1000) != 0) _exit(1);
        SHOW(open(name, O_RDWR | O_NOCTTY));
        SHOW(ioctl(slave, TIOCNXCL));
        OK(open(name, O_RDWR | O_NOCTTY));
        _exit(0);
    }
    show_end("another user", child);
    close_pair();
}

struct text {
    unsigned char bytes[256];
    long len;
};

// Reads what comes up to a newline with nothing behind it. The waits are long, so that a busy machine only
// takes longer; all that is typed here ends in a newline, so that they end early.
static struct text received(int from) {
    struct text text = {.len = 0};
    struct pollfd one = {from, POLLIN, 0};
    while (text.len < (long)sizeof text.bytes) {
        int ends = text.len > 0 && text.bytes[text.len - 1] == '\n';
        if (poll(&one, 1, ends ? 15 : 3000) != 1) break;
        long len = read(from, text.bytes + text.len, sizeof text.bytes - (size_t)text.len);
        if (len <= 0) break;
        text.len += len;
    }
    return text;
}

static void shown(const char *what, const struct text *text) {
    say("%s:", what);
    for (long i = 0; i < text->len; i++)
        say(text->bytes[i] > 32 && text->bytes[i] < 127 ? "%c" : "<%02x>", text->bytes[i]);
    say("\n");
}

static void editing(void) {
    static const char *const typed[] = {
        "one two\027three\n", "one-two  \027x\n",  "a\026\003b\n",  "word\022\n", "\027\177\025x\n",
        "tab\there\027\n",    "a b c\025d e\027\n", "x\026\026y\n", "\026\nz\n",   "q\001\177\n",
        "\303\244\303\266\177\n", "e\\\177f\n",
    };
    struct termios sane;
    open_pair();
    tcgetattr(slave, &sane);
    say("flags %x %x %x %x\n", sane.c_iflag, sane.c_oflag, sane.c_cflag, sane.c_lflag);
    for (int i = 0; i < 17; i++) say("%x ", sane.c_cc[i]);
    say("\n");
    for (int pass = 0; pass < 4; pass++) {
        struct termios now = sane;
        if (pass == 1) now.c_lflag &= ~(tcflag_t)(ECHOE | ECHOKE);
        if (pass == 2) now.c_lflag &= ~(tcflag_t)ECHOCTL;
        if (pass == 3) now.c_iflag |= IUTF8, now.c_lflag &= ~(tcflag_t)(IEXTEN | ECHOK);
        tcsetattr(slave, TCSANOW, &now);
        say("pass %d\n", pass);
        for (unsigned i = 0; i < sizeof typed / sizeof *typed; i++) {
            write(master, typed[i], strlen(typed[i]));
            // The line first: once it is there, all that was typed has been taken and echoed.
            struct text line = received(slave), echo = received(master);
            shown("echo", &echo);
            shown("line", &line);
            tcflush(slave, TCIOFLUSH);
        }
    }
    close_pair();
}

// Waits until `count` bytes are there, so that a busy machine only takes longer.
static void arrived(int count) {
    int now = 0;
    while (ioctl(slave, FIONREAD, &now) == 0 && now < count) sleep_ms(2);
}

static void raw_input(void) {
    static const struct {
        tcflag_t input, local;
        const char *typed;
        int count;
    } cases[] = {{PARMRK, 0, "\377x", 3}, {PARMRK | ISTRIP, 0, "\377x", 2}, {IUCLC, IEXTEN, "AbC", 3},
                 {IUCLC, 0, "AbC", 3},     {INLCR, 0, "a\nb\r", 4},           {IGNCR, 0, "a\rb", 2}};
    char bytes[16];
    struct termios now;
    open_pair();
    raw_mode();
    tcgetattr(slave, &now);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        now.c_iflag = cases[i].input, now.c_lflag = cases[i].local;
        tcsetattr(slave, TCSANOW, &now);
        write(master, cases[i].typed, strlen(cases[i].typed));
        arrived(cases[i].count);
        long len = read(slave, bytes, sizeof bytes);
        struct text text = {.len = len};
        memcpy(text.bytes, bytes, (size_t)len);
        shown("raw", &text);
    }
    // Ready means that a read would not wait.
    struct pollfd one = {slave, POLLIN, 0};
    now.c_cc[VMIN] = 3;
    tcsetattr(slave, TCSANOW, &now);
    write(master, "12", 2);
    arrived(2);
    SHOW(poll(&one, 1, 0));
    write(master, "3", 1);
    arrived(3);
    SHOW(poll(&one, 1, 3000));
    now.c_cc[VMIN] = 9, now.c_cc[VTIME] = 1;
    tcsetattr(slave, TCSANOW, &now);
    SHOW(poll(&one, 1, 0));
    SHOW(read(slave, bytes, sizeof bytes));
    now.c_cflag = B9600 | CS5 | PARENB;
    tcsetattr(slave, TCSANOW, &now);
    tcgetattr(slave, &now);
    say("characters %x\n", now.c_cflag & (CSIZE | PARENB | CREAD));
    close_pair();
}

// Waits until this many bytes can be read; what is expected comes at once but on a busy machine.
static void await(int from, int bytes) {
    int there = -1;
    for (int i = 0; i < 3000 && ioctl(from, FIONREAD, &there) == 0 && there != bytes; i++) sleep_ms(1);
}

static void type(const char *bytes, int readable) {
    (void)!write(master, bytes, strlen(bytes));
    await(slave, readable);
}

// One read, which does not wait.
static void once(const char *what, int from) {
    struct text text;
    text.len = read(from, text.bytes, sizeof text.bytes);
    if (text.len < 0) say("%s: %s\n", what, strerrorname_np(errno));
    if (text.len >= 0) shown(what, &text);
}

// Lines that were typed in one mode and are read in another.
static void changes_of_mode(void) {
    open_pair();
    fcntl(slave, F_SETFL, O_NONBLOCK);
    local(0, ECHO);
    type("one\ntwo\nth", 8);
    local(0, ICANON);
    await(slave, 10);
    local(ICANON, 0);
    once("lines become one", slave);
    once("no more", slave);
    type("ree\n", 4);
    once("the next", slave);
    type("one\n\004two\n", 8);
    local(0, ICANON);
    once("an end of file seen raw", slave);
    type("a\nb\nc", 5);
    local(ICANON, 0);
    char byte;
    SHOW(read(slave, &byte, 1));
    once("typed raw", slave);
    once("no more", slave);
    close_pair();
}

// A character is not erased in part.
static void partial_characters(void) {
    static const char *const typed[] = {
        "\200\201\177\n", "a\303\251\251\177\n", "\200\201\025\n", "\200\201\027\n", "\200a\025\n",
    };
    open_pair();
    struct termios now;
    tcgetattr(slave, &now);
    now.c_iflag |= IUTF8;
    tcsetattr(slave, TCSANOW, &now);
    for (unsigned i = 0; i < sizeof typed / sizeof *typed; i++) {
        (void)!write(master, typed[i], strlen(typed[i]));
        struct text line = received(slave), echo = received(master);
        shown("line", &line);
        shown("echo", &echo);
    }
    close_pair();
}

// TCFLSH at the master: its input is the terminal's output.
static void flushed_from_the_master(void) {
    static char bytes[64 * 1024];
    open_pair();
    fcntl(master, F_SETFL, O_NONBLOCK);
    fcntl(slave, F_SETFL, O_NONBLOCK);
    int on = 1, off = 0;
    ioctl(master, TIOCPKT, &on);
    (void)!write(slave, "put out", 7);
    await(master, 7);
    SHOW(ioctl(master, TCFLSH, TCIFLUSH));
    once("flushed at the master", master);
    SHOW(ioctl(master, TCFLSH, 5));
    (void)!write(slave, "put out\n", 8);
    await(master, 9);
    SHOW(ioctl(slave, TCFLSH, TCOFLUSH));
    once("flushed at the terminal", master);
    once("what the master has", master);
    SHOW(ioctl(slave, TCFLSH, TCIOFLUSH));
    once("both", master);
    type("\003", 0);
    await(master, 2);
    once("a signal flushes", master);
    ioctl(master, TIOCPKT, &off);
    raw_mode();
    memset(bytes, 'x', sizeof bytes);
    while (write(slave, bytes, sizeof bytes) > 0) sleep_ms(1);
    struct pollfd one = {slave, POLLOUT, 0};
    SHOW(ioctl(master, TCFLSH, TCIFLUSH));
    SHOW(poll(&one, 1, 3000));
    while (write(master, bytes, sizeof bytes) > 0) sleep_ms(1);
    one.fd = master;
    SHOW(ioctl(slave, TCFLSH, TCIFLUSH));
    SHOW(poll(&one, 1, 3000));
    close_pair();
}

// The other end of a master, its name, and numbers without a devpts.
static void peers(void) {
    open_pair();
    char path[40], link[100] = "";
    int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    snprintf(path, sizeof path, "/proc/self/fd/%d", peer);
    TRUE(readlink(path, link, sizeof link - 1) > 0 && strcmp(link, name) == 0);
    close(peer);
    struct stat st;
    fstat(slave, &st);
    mknod("/tmp/terminal", S_IFCHR | 0600, st.st_rdev);
    OK(open("/tmp/terminal", O_RDWR | O_NOCTTY));
    unlink("/tmp/terminal");
    mknod("/tmp/ptmx", S_IFCHR | 0600, makedev(5, 2));
    OK(open("/tmp/ptmx", O_RDWR | O_NOCTTY));
    unlink("/tmp/ptmx");
    pid_t child = fork_clean();
    if (child == 0) {
        setsid();
        pid_t id = 0;
        SHOW(ioctl(master, TIOCSCTTY, 0));
        SHOW(ioctl(slave, TIOCGSID, &id));
        TRUE(id == getpid());
        SHOW(ioctl(master, TIOCNOTTY));
        _exit(0);
    }
    show_end("a terminal by its master", child);
    close_pair();
}

// What the line discipline throws away makes nobody wait: a signal ends such a write all the same.
static void endless_write(void) {
    const size_t size = 1UL << 30;
    struct sigaction action = {.sa_handler = nothing};
    struct itimerval soon = {{0, 20000}, {0, 20000}};
    open_pair();
    local(ICANON, ECHO | ISIG);
    char *zeroes = mmap(0, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &soon, 0);
    ssize_t done = write(master, zeroes, size);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, 0);
    TRUE(done > 0 && (size_t)done < size);
    munmap(zeroes, size);
    close_pair();
}

int main(void) {
    raw_input();
    editing();
    full_queues();
    packets();
    exclusive();
    changes_of_mode();
    partial_characters();
    flushed_from_the_master();
    peers();
    blocked_writers();
    endless_write();
    return 0;
}
