// Pointers to nowhere and senseless numbers: EFAULT, EINVAL, EBADF, ENOSYS, never a crash.
#include "test.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define BAD ((void *)0x1000)
#define KERNEL ((void *)0xffffffff80000000)
#define CALL(number, ...) SHOW(syscall(SYS_##number, __VA_ARGS__))

int main(void) {
    int file = open("/etc/data", O_RDONLY), ends[2];
    pipe(ends);
    write(ends[1], "abc", 3);
    CALL(read, file, BAD, 10);
    CALL(read, file, KERNEL, 10);
    CALL(read, ends[0], BAD, 10);
    CALL(write, ends[1], BAD, 10);
    CALL(write, ends[1], KERNEL, 10);
    CALL(write, ends[1], (void *)-1, 10);
    CALL(read, 999, BAD, 10);
    CALL(readv, file, BAD, 2);
    CALL(open, BAD, O_RDONLY, 0);
    CALL(open, KERNEL, O_RDONLY, 0);
    CALL(stat, "/etc/data", BAD);
    CALL(stat, BAD, BAD);
    CALL(newfstatat, AT_FDCWD, "/etc/data", BAD, 0);
    CALL(fstat, file, KERNEL);
    CALL(pipe2, BAD, 0);
    CALL(getcwd, BAD, 100);
    CALL(chdir, BAD);
    CALL(clock_gettime, CLOCK_MONOTONIC, BAD);
    CALL(nanosleep, BAD, 0);
    CALL(gettimeofday, BAD, 0);
    CALL(uname, BAD);
    CALL(rt_sigaction, SIGUSR1, BAD, 0, 8);
    CALL(rt_sigaction, SIGUSR1, 0, 0, 4);
    CALL(rt_sigprocmask, SIG_BLOCK, BAD, 0, 8);
    CALL(rt_sigpending, BAD, 8);
    CALL(poll, BAD, 1, 0);
    CALL(ppoll, 0, 0, BAD, 0, 8);
    CALL(select, 1, BAD, 0, 0, BAD);
    CALL(epoll_ctl, epoll_create1(0), EPOLL_CTL_ADD, ends[0], BAD);
    CALL(getdents64, open("/etc", O_RDONLY), BAD, 1000);
    CALL(getdents64, open("/etc", O_RDONLY), &ends, 8);
    CALL(readlink, "/etc/link", BAD, 10);
    CALL(getrlimit, RLIMIT_NOFILE, BAD);
    CALL(sysinfo, BAD);
    CALL(getrandom, BAD, 10, 0);
    CALL(getrandom, &ends, 4, 99);
    CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, BAD);
    CALL(bind, socket(AF_UNIX, SOCK_STREAM, 0), BAD, 20);
    CALL(futex, BAD, 0, 0, 0, 0, 0);
    CALL(set_robust_list, 0, 1);
    CALL(execve, BAD, 0, 0);
    CALL(execve, "/tests/hello", BAD, 0);
    CALL(wait4, -1, BAD, WNOHANG, 0);
    pid_t child = fork_clean();
    if (child == 0) _exit(0);
    sleep_ms(50);
    CALL(wait4, child, BAD, 0, 0);
    CALL(mprotect, BAD, 4096, PROT_READ);
    CALL(munmap, 123, 4096);
    CALL(mremap, BAD, 4096, 8192, 0);
    CALL(lseek, 999, 0, SEEK_SET);
    CALL(ioctl, 999, 0x5401, 0);
    CALL(ioctl, file, 0x5401, 0);
    CALL(fcntl, 999, F_GETFL);
    CALL(dup, 999);
    CALL(kill, 0x7fffffff, 0);
    CALL(sendto, file, "x", 1, 0, 0, 0);
    CALL(getpriority, 77, 0);
    CALL(prctl, 9999, 0, 0, 0, 0);
    CALL(mount, "none", "/tmp/none", "tmpfs", 0, 0);
    CALL(mount, "none", "/tmp", "nosuchfs", 0, 0);
    CALL(umount2, "/tmp/none", 0);
    SHOW(syscall(500));
    SHOW(syscall(1000000));
    SHOW(syscall(-1));
    // A buffer that ends in nowhere is filled up to there.
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 4096, 4096);
    SHOW(pread(file, pages + 4090, 100, 0));
    SHOW(write(ends[1], pages + 4096, 1));
    strcpy(pages + 4092, "/et");
    pages[4095] = 'c';
    CALL(access, pages + 4092, F_OK);
    return 0;
}
