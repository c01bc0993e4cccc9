// What programs ask of the system and of themselves, apart from /proc.
#include "test.h"
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname names;
    SHOW(uname(&names));
    say("%s %s\n", names.sysname, names.machine);
    TRUE(names.release[0] >= '5' && names.release[0] <= '9');
    SHOW(sethostname("guest", 5));
    uname(&names);
    say("%s\n", names.nodename);
    char host[16];
    SHOW(gethostname(host, sizeof host));
    SHOW(sethostname("x", 65));
    struct sysinfo info;
    SHOW(sysinfo(&info));
    TRUE(info.totalram > 0 && info.freeram > 0 && info.mem_unit >= 1 && info.procs > 0);
    TRUE(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    SHOW(sysconf(_SC_PAGESIZE));

    cpu_set_t set;
    TRUE(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    SHOW(CPU_ISSET(0, &set) != 0);
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    SHOW(sched_setaffinity(0, sizeof set, &set));
    sched_getaffinity(0, sizeof set, &set);
    SHOW(CPU_COUNT(&set));
    unsigned cpu = 9, node = 9;
    SHOW(syscall(SYS_getcpu, &cpu, &node, 0));
    SHOW(cpu);
    CPU_ZERO(&set);
    SHOW(sched_setaffinity(0, sizeof set, &set));
    SHOW(sched_yield());
    SHOW(sched_getscheduler(0));

    char name[16] = {0};
    SHOW(prctl(PR_SET_NAME, "a name that is too long"));
    SHOW(prctl(PR_GET_NAME, name));
    say("%s\n", name);
    int value = 5;
    SHOW(prctl(PR_GET_PDEATHSIG, &value));
    SHOW(value);
    SHOW(prctl(PR_SET_PDEATHSIG, 99));
    SHOW(prctl(PR_GET_DUMPABLE));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    SHOW(personality(0xffffffff));

    pid_t child = fork_clean();
    if (child == 0) {
        pid_t grandchild = fork_clean();
        if (grandchild == 0) {
            prctl(PR_SET_PDEATHSIG, SIGUSR1);
            if (getppid() == 1) _exit(0);
            for (;;) pause();
        }
        sleep_ms(30);
        _exit(0);
    }
    waitpid(child, 0, 0);

    // A subreaper gets the orphans.
    SHOW(prctl(PR_SET_CHILD_SUBREAPER, 1));
    child = fork_clean();
    if (child == 0) {
        if (fork_clean() == 0) {
            sleep_ms(30);
            _exit(44);
        }
        _exit(0);
    }
    waitpid(child, 0, 0);
    int status;
    TRUE(wait(&status) > 0);
    SHOW(WEXITSTATUS(status));
    TRUE(getpid() == syscall(SYS_getpid) && gettid() == getpid());
    SHOW(syscall(SYS_set_tid_address, &value) == gettid());
    SHOW(umask(077));
    SHOW(umask(022));
    return 0;
}
