// A user who forks without end: others go on, and when the bomb is killed nothing is left of it.
#include "test.h"
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static long free_kib(void) {
    char line[128];
    long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemFree: %ld", &kib) == 1) break;
    if (file) fclose(file);
    return kib;
}

static int processes_of(uid_t uid) {
    DIR *proc = opendir("/proc");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(proc));) {
        struct stat info;
        if (atoi(entry->d_name) > 0 && fstatat(dirfd(proc), entry->d_name, &info, 0) == 0)
            count += info.st_uid == uid;
    }
    closedir(proc);
    return count;
}

static pid_t start(uid_t uid, rlim_t most) {
    int gate[2];
    char byte;
    if (pipe(gate)) return -1;
    pid_t bomb = fork_clean();
    if (bomb == 0) {
        setpgid(0, 0);
        struct rlimit limit = {most, most};
        setrlimit(RLIMIT_NPROC, &limit);
        if (setresuid(uid, uid, uid)) _exit(1);
        close(gate[0]);
        signal(SIGPIPE, SIG_IGN);
        for (int refused = 0;;) {
            if (fork() >= 0) continue;
            // Full: from now on with less zeal, so that the test ends on a slow machine.
            if (!refused++ && write(gate[1], "f", 1) != 1) sleep_ms(1);
            sleep_ms(5);
        }
    }
    close(gate[1]);
    if (read(gate[0], &byte, 1) != 1) say("the bomb did not fill its limit\n");
    close(gate[0]);
    return bomb;
}

static int is_small(void) {
    struct sysinfo info;
    return sysinfo(&info) == 0 && info.totalram < 1L << 29;
}

static void set_oom_score_adj(const char *value) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    if (write(file, value, strlen(value)) < 0) say("oom_score_adj: %s\n", strerror(errno));
    close(file);
}

// Bounded by nothing but the machine's memory: a supervisor still gets answers, and kills it.
static void unbounded(uid_t uid) {
    int answers = 0, is_gone = !is_small();
    if (is_small()) {
        set_oom_score_adj("-1000");
        pid_t bomb = fork_clean();
        if (bomb == 0) {
            set_oom_score_adj("0");
            setpgid(0, 0);
            if (setresuid(uid, uid, uid)) _exit(1);
            for (;;) {
                // Large, so that memory is full before the user has all processes that one may have.
                pid_t child = fork();
                if (child == 0) memset(malloc(300000), 1, 300000);
                if (child < 0) sleep_ms(5);
            }
        }
        struct sysinfo info;
        while (sysinfo(&info) == 0 && info.freeram > 2 << 20) sleep_ms(20);
        for (int i = 0; i < 5; i++) {
            int status = 0;
            pid_t child = fork_clean();
            if (child == 0) {
                char *area = malloc(100000);
                memset(area, 1, 100000);
                _exit(area[99999] + 6);
            }
            waitpid(child, &status, 0);
            answers += WIFEXITED(status) && WEXITSTATUS(status) == 7;
        }
        kill(-bomb, SIGKILL);
        waitpid(bomb, 0, 0);
        for (int i = 0; i < 3000 && !is_gone; i++) {
            while (waitpid(-1, 0, WNOHANG) > 0) continue;
            is_gone = kill(-bomb, 0) < 0 && errno == ESRCH;
            sleep_ms(10);
        }
        set_oom_score_adj("0");
    } else {
        answers = 5;
    }
    say("without bounds: %d answers, %s\n", answers, is_gone ? "gone" : "STILL THERE");
}

int main(void) {
    enum { UID = 61234, MOST = 120 };
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    long free_first = free_kib();
    unbounded(UID);
    sleep_ms(50);
    long free_then = free_kib();
    long free_after[2];
    for (int round = 0; round < 2; round++) {
        pid_t bomb = start(UID, MOST);
        // Root forks, whatever the user does.
        for (int i = 0; i < 3; i++) {
            pid_t child = fork_clean();
            if (child == 0) _exit(7);
            show_end("supervisor's child", child);
        }
        // Nobody slips through: a child that is being made when the signal comes is made again behind it.
        SHOW(kill(-bomb, SIGKILL));
        show_end("bomb", bomb);
        int left = 1;
        for (int i = 0; i < 400 && left > 0; i++) {
            while (waitpid(-1, 0, WNOHANG) > 0) continue;
            left = processes_of(UID);
            if (left > 0) sleep_ms(10);
        }
        SHOW(left);
        sleep_ms(50);
        free_after[round] = free_kib();
    }
    struct utsname name;
    uname(&name);
    // On a machine with others beside it this says nothing.
    int is_alone = strstr(name.release, "nacre") != NULL;
    TRUE(!is_alone || free_after[0] - free_after[1] < 1024);
    TRUE(!is_alone || free_first - free_then < 3 * 1024);
    return 0;
}
