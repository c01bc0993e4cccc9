// What processes made the kernel allocate is free again once they are gone, for each kind of thing that
// they can have many of.
#include "test.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

enum { PAGE = 4096, LOSS_LIMIT_KIB = 3 * 1024 };

// Free memory in KiB; 0 on a machine that has more to do than this test.
static long free_kib(void) {
    struct sysinfo memory;
    if (sysinfo(&memory) != 0 || memory.totalram * memory.mem_unit > 1L << 30) return 0;
    return (long)(memory.freeram * memory.mem_unit / 1024);
}

static uint32_t gate;

static void *wait_at_gate(void *argument) {
    while (__atomic_load_n(&gate, __ATOMIC_ACQUIRE) == 0) syscall(SYS_futex, &gate, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
    return argument;
}

static long threads(void) {
    pthread_t ids[200];
    pthread_attr_t small;
    long count = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 4 * PAGE);
    while (count < 200 && pthread_create(&ids[count], &small, wait_at_gate, 0) == 0) count++;
    __atomic_store_n(&gate, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &gate, FUTEX_WAKE_PRIVATE, INT32_MAX, 0, 0, 0);
    for (long i = 0; i < count; i++) pthread_join(ids[i], 0);
    return count;
}

// Threads that are still there when the process ends.
static long threads_at_exit(void) {
    pthread_t id;
    pthread_attr_t small;
    long count = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 4 * PAGE);
    gate = 0;
    while (count < 200 && pthread_create(&id, &small, wait_at_gate, 0) == 0) count++;
    return count;
}

static long processes(void) {
    pid_t ids[60];
    long count = 0;
    for (; count < 60; count++) {
        ids[count] = fork();
        if (ids[count] == 0) {
            char *own = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memset(own, 1, 16 * PAGE);
            for (;;) pause();
        }
        if (ids[count] < 0) break;
    }
    for (long i = 0; i < count; i++) {
        kill(ids[i], SIGKILL);
        waitpid(ids[i], 0, 0);
    }
    return count;
}

static long pipes(void) {
    static char data[16 * PAGE];
    long count = 0;
    int ends[2];
    for (; count < 150 && pipe(ends) == 0; count++) {
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
        write(ends[1], data, sizeof data);
    }
    return count;
}

static long datagrams(void) {
    static char data[1000];
    long count = 0;
    int pair[2];
    for (; count < 100 && socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0; count++) {
        while (send(pair[0], data, sizeof data, 0) > 0) continue;
    }
    return count;
}

// Descriptors on their way through sockets that nobody reads.
static long descriptors(void) {
    long count = 0;
    int pair[2];
    for (; count < 100 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0; count++) {
        char control[CMSG_SPACE(sizeof pair)] = {0}, byte = 1;
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof pair)};
        memcpy(CMSG_DATA(header), pair, sizeof pair);
        if (sendmsg(pair[0], &message, 0) != 1) break;
        close(pair[0]);
        close(pair[1]);
    }
    return count;
}

static long epolls(void) {
    struct epoll_event event = {.events = EPOLLIN};
    int events[50];
    long count = 0;
    for (int i = 0; i < 50; i++) events[i] = eventfd(0, 0);
    for (; count < 100; count++) {
        int epoll = epoll_create1(0);
        for (int i = 0; i < 50; i++) epoll_ctl(epoll, EPOLL_CTL_ADD, events[i], &event);
    }
    return count;
}

static long deep_folders(void) {
    long depth = 0;
    mkdir("deep", 0700);
    chdir("deep");
    while (depth < 400 && mkdir("d", 0700) == 0 && chdir("d") == 0) depth++;
    for (long i = 0; i < depth; i++) {
        chdir("..");
        rmdir("d");
    }
    chdir("..");
    rmdir("deep");
    return depth;
}

static long files(void) {
    char name[32];
    long count = 0;
    for (; count < 1500; count++) {
        sprintf(name, "many-%ld", count);
        int fd = open(name, O_RDWR | O_CREAT, 0600);
        if (fd < 0) break;
        write(fd, "x", 1);
        close(fd);
    }
    for (long i = 0; i < count; i++) {
        sprintf(name, "many-%ld", i);
        unlink(name);
    }
    return count;
}

static long missing_names(void) {
    char name[32];
    struct stat status;
    for (long i = 0; i < 1000; i++) {
        sprintf(name, "/tmp/missing-%ld", i);
        stat(name, &status);
    }
    return 1000;
}

// Root can have all cached names thrown away.
static int drop_names(void) {
    struct utsname system;
    uname(&system);
    if (!strstr(system.release, "nacre") || free_kib() == 0) return 1;
    int file = open("/proc/sys/vm/drop_caches", O_WRONLY);
    int is_dropped = write(file, "2", 1) == 1;
    long before = free_kib();
    missing_names();
    long kept = before - free_kib();
    is_dropped &= write(file, "2", 1) == 1;
    close(file);
    return is_dropped && kept > 128 && before - free_kib() < kept / 2;
}

// What is known of each in /proc goes with it.
static long names_in_proc(void) {
    for (long i = 0; i < 500; i++) {
        pid_t child = fork();
        if (child == 0) _exit(open("/proc/self/oom_score_adj", O_RDONLY) < 0 || open("/proc/self/task", O_RDONLY) < 0);
        int status = 1;
        waitpid(child, &status, 0);
        if (status != 0) return 0;
    }
    return 500;
}

static long sparse_mappings(void) {
    long count = 0;
    char *area = mmap(0, 1L << 38, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (; count < 1000; count++) {
        char *at = area + (count << 27);
        if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) break;
        *at = 1;
    }
    munmap(area, 1L << 38);
    return count;
}

static long locks(void) {
    int fd = open("locked", O_RDWR | O_CREAT, 0600);
    long count = 0;
    for (; count < 2000; count++) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2 * count, .l_len = 1};
        if (fcntl(fd, F_SETLK, &lock) != 0) break;
    }
    unlink("locked");
    return count;
}

static long memory_files(void) {
    long count = 0;
    for (; count < 40; count++) {
        int fd = memfd_create("kept", 0);
        ftruncate(fd, 1L << 30);
        for (long i = 0; i < 30; i++) pwrite(fd, "x", 1, i << 22);
    }
    return count;
}

static long signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    long count = 0;
    while (count < 800 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) count++;
    return count;
}

// Does `work` in a process of its own, and says what became of the memory after its end.
static void try(const char *name, long (*work)(void)) {
    long before = free_kib();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) _exit(work() > 0 ? 0 : 1);
    int status = 1;
    waitpid(child, &status, 0);
    // What ends a process may go on for a moment.
    long lost = 0;
    for (int i = 0; i < 20 && (lost = before - free_kib()) > LOSS_LIMIT_KIB; i++) sleep_ms(20);
    say("%s: %s", name, status == 0 ? "done" : "FAILED");
    if (lost > LOSS_LIMIT_KIB) say(", %ld KiB LOST\n", lost);
    else say(", memory is back\n");
}

int main(void) {
    long before = free_kib();
    try("threads", threads);
    try("threads at exit", threads_at_exit);
    try("processes", processes);
    try("pipes", pipes);
    try("datagrams", datagrams);
    try("descriptors in sockets", descriptors);
    try("epolls", epolls);
    try("deep folders", deep_folders);
    try("files", files);
    try("missing names", missing_names);
    try("names in /proc", names_in_proc);
    try("sparse mappings", sparse_mappings);
    try("locks", locks);
    try("memory files", memory_files);
    try("signals", signals);
    TRUE(drop_names());
    TRUE(before - free_kib() < LOSS_LIMIT_KIB);
    return 0;
}
