// System V IPC: shared memory, semaphores, message queues, in an IPC namespace of its own.
#include "test.h"
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};

static void show_file(const char *path) {
    char line[512];
    FILE *file = fopen(path, "r");
    say("%s:\n", path);
    if (!file) {
        say("  %s\n", strerrorname_np(errno));
        return;
    }
    while (fgets(line, sizeof line, file)) {
        say("  %s", line);
    }
    fclose(file);
}

static void show_settings(void) {
    static const char *const names[] = {"msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"};
    for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/sys/kernel/%s", names[index]);
        show_file(path);
    }
}

static int set(const char *name, const char *value) {
    char path[64];
    snprintf(path, sizeof path, "/proc/sys/kernel/%s", name);
    int fd = open(path, O_WRONLY);
    int done = (int)write(fd, value, strlen(value));
    int error = errno;
    close(fd);
    errno = error;
    return done == (int)strlen(value) ? 0 : -1;
}

static void show_shm(int id) {
    struct shmid_ds stat;
    if (SHOW(shmctl(id, IPC_STAT, &stat)) == 0) {
        say("  mode %o size %zu attached %lu last %s atime %d dtime %d ctime %d\n", stat.shm_perm.mode, stat.shm_segsz,
            stat.shm_nattch, stat.shm_lpid == 0 ? "none" : stat.shm_lpid == getpid() ? "self" : "other",
            stat.shm_atime != 0, stat.shm_dtime != 0, stat.shm_ctime != 0);
    }
}

static void shared_memory(void) {
    say("-- shared memory\n");
    SHOW(shmget(77, 4096, 0));
    SHOW(shmget(77, 0, IPC_CREAT | 0600));
    int id = (int)SHOW(shmget(77, 10000, IPC_CREAT | 0640));
    SHOW(shmget(77, 10000, 0));
    SHOW(shmget(77, 10001, 0));
    SHOW(shmget(77, 1, IPC_CREAT | IPC_EXCL | 0600));
    show_shm(id);
    char *first = shmat(id, NULL, 0);
    char *second = shmat(id, NULL, SHM_RDONLY);
    strcpy(first + 9000, "shared");
    say("second: %s\n", second + 9000);
    SHOW(mprotect(second, 4096, PROT_READ | PROT_WRITE));
    show_shm(id);
    pid_t child = fork_clean();
    if (child == 0) {
        show_shm(id);
        first[1] = 'c';
        SHOW(shmdt(first));
        SHOW(shmdt(first));
        show_shm(id);
        _exit(0);
    }
    show_end("child", child);
    show_shm(id);
    say("child wrote %c\n", first[1]);
    SHOW((long)shmat(id, first + 1, 0));
    SHOW((long)shmat(id, first, 0));
    OK(shmat(id, first + 1, SHM_RND | SHM_REMAP));
    show_shm(id);
    SHOW((long)shmat(id, NULL, SHM_REMAP));
    SHOW((long)shmat(id + 1, NULL, 0));
    SHOW((long)shmat(-1, NULL, 0));
    // Part of it goes; the rest is still one.
    SHOW(munmap(first + 4096, 4096));
    show_shm(id);
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmget(77, 0, 0));
    show_shm(id);
    SHOW(shmdt(first));
    show_shm(id);
    SHOW(shmdt(second + 4096));
    SHOW(shmdt(second));
    SHOW(shmctl(id, IPC_STAT, NULL));
    SHOW(shmctl(id, IPC_RMID, NULL));
    SHOW(shmctl(0, 99, NULL));
}

static void shm_limits(void) {
    say("-- limits of shared memory\n");
    SHOW(set("shmmni", "2"));
    SHOW(set("shmall", "3"));
    SHOW(set("shmmax", "8192"));
    SHOW(set("shmmni", "99999"));
    SHOW(shmget(IPC_PRIVATE, 8193, 0600));
    int first = (int)SHOW(shmget(IPC_PRIVATE, 8192, 0600));
    SHOW(shmget(IPC_PRIVATE, 8192, 0600));
    int second = (int)SHOW(shmget(IPC_PRIVATE, 4096, 0600));
    SHOW(shmget(IPC_PRIVATE, 4096, 0600));
    struct shm_info info;
    struct shminfo limits;
    SHOW(shmctl(0, SHM_INFO, (void *)&info));
    say("  used %d total %lu\n", info.used_ids, info.shm_tot);
    SHOW(shmctl(0, IPC_INFO, (void *)&limits));
    say("  max %lu min %lu mni %lu seg %lu all %lu\n", limits.shmmax, limits.shmmin, limits.shmmni, limits.shmseg, limits.shmall);
    struct shmid_ds stat;
    say("by place: %d\n", shmctl(1, SHM_STAT, &stat) == second);
    SHOW(shmctl(2, SHM_STAT, &stat));
    SHOW(shmctl(first, SHM_LOCK, NULL));
    show_shm(first);
    SHOW(shmctl(first, SHM_UNLOCK, NULL));
    SHOW(shmctl(first, IPC_RMID, NULL));
    // What nobody has attached goes with who made it.
    SHOW(set("shmmni", "4096"));
    if (fork_clean() == 0) {
        shmget(88, 4096, IPC_CREAT | 0600);
        _exit(0);
    }
    wait(NULL);
    OK(shmget(88, 0, 0));
    SHOW(set("shm_rmid_forced", "1"));
    SHOW(shmget(88, 0, 0));
    if (fork_clean() == 0) {
        shmget(88, 4096, IPC_CREAT | 0600);
        _exit(0);
    }
    wait(NULL);
    SHOW(shmget(88, 0, 0));
    SHOW(shmctl(second, IPC_STAT, NULL));
    SHOW(set("shm_rmid_forced", "0"));
}

static int operate(int id, unsigned short number, short change, short flags) {
    struct sembuf one = {number, change, flags};
    return semop(id, &one, 1);
}

static void show_set(int id, int len) {
    unsigned short values[8];
    if (semctl(id, 0, GETALL, values) != 0) {
        say("  GETALL: %s\n", strerrorname_np(errno));
        return;
    }
    for (int index = 0; index < len; index++) {
        int last = semctl(id, index, GETPID);
        say("  [%d] = %d, last %s, waiting %d %d\n", index, values[index], last == 0 ? "none" : last == getpid() ? "self" : "other",
            semctl(id, index, GETNCNT), semctl(id, index, GETZCNT));
    }
}

// Until as many wait for the semaphore as should.
static void await(int id, int number, int command, int count) {
    while (semctl(id, number, command) != count) {
        sched_yield();
    }
}

static void on_signal(int number) {
    (void)number;
}

static void waiting(int id) {
    say("-- waiting\n");
    semctl(id, 0, SETALL, (unsigned short[]){0, 1, 0});
    pid_t child = fork_clean();
    if (child == 0) {
        struct sembuf both[] = {{0, -2, 0}, {1, 0, 0}};
        SHOW(semop(id, both, 2));
        _exit(0);
    }
    await(id, 0, GETNCNT, 1);
    show_set(id, 3);
    SHOW(operate(id, 0, 2, 0));
    await(id, 1, GETZCNT, 1);
    show_set(id, 3);
    int last = operate(id, 1, -1, 0);
    show_end("waiter", child);
    SHOW(last);
    show_set(id, 3);
    struct timespec soon = {0, 1000000}, bad = {0, 1000000000};
    struct sembuf one = {2, -1, 0};
    SHOW(semtimedop(id, &one, 1, &soon));
    SHOW(semtimedop(id, &one, 1, &bad));
    child = fork_clean();
    if (child == 0) {
        signal(SIGUSR1, on_signal);
        SHOW(operate(id, 2, -1, 0));
        _exit(0);
    }
    await(id, 2, GETNCNT, 1);
    kill(child, SIGUSR1);
    show_end("interrupted", child);
    child = fork_clean();
    if (child == 0) {
        SHOW(operate(id, 2, -1, 0));
        _exit(0);
    }
    await(id, 2, GETNCNT, 1);
    int removed = semctl(id, 0, IPC_RMID);
    show_end("removed", child);
    SHOW(removed);
    SHOW(operate(id, 2, -1, 0));
}

static void semaphores(void) {
    say("-- semaphores\n");
    SHOW(semget(5, 0, IPC_CREAT | 0600));
    SHOW(semget(5, 32001, IPC_CREAT | 0600));
    int id = (int)SHOW(semget(5, 3, IPC_CREAT | 0600));
    SHOW(semget(5, 4, 0));
    SHOW(semget(5, 0, 0));
    show_set(id, 3);
    SHOW(semctl(id, 1, SETVAL, 5));
    SHOW(semctl(id, 1, SETVAL, 32768));
    SHOW(semctl(id, 3, SETVAL, 1));
    SHOW(semctl(id, 3, GETVAL));
    SHOW(semctl(id, 1, 99));
    SHOW(operate(id, 0, 3, 0));
    SHOW(operate(id, 0, -4, IPC_NOWAIT));
    SHOW(operate(id, 3, 1, 0));
    SHOW(operate(id, 0, 32767, 0));
    SHOW(semop(id, NULL, 0));
    SHOW(semop(id, NULL, 501));
    SHOW(semop(id, NULL, 1));
    struct sembuf mixed[] = {{0, -1, 0}, {1, -6, IPC_NOWAIT}};
    SHOW(semop(id, mixed, 2));
    struct sembuf same[] = {{0, -3, 0}, {0, 0, 0}, {0, 4, 0}};
    SHOW(semop(id, same, 3));
    show_set(id, 3);
    say("-- undo\n");
    pid_t child = fork_clean();
    if (child == 0) {
        SHOW(operate(id, 0, -3, SEM_UNDO));
        SHOW(operate(id, 1, -5, SEM_UNDO));
        SHOW(operate(id, 2, 2, SEM_UNDO));
        SHOW(operate(id, 1, 1, 0));
        show_set(id, 3);
        _exit(0);
    }
    show_end("undone", child);
    show_set(id, 3);
    child = fork_clean();
    if (child == 0) {
        operate(id, 0, -1, SEM_UNDO);
        SHOW(semctl(id, 0, SETVAL, 9));
        operate(id, 1, 1, SEM_UNDO);
        SHOW(unshare(CLONE_SYSVSEM));
        show_set(id, 3);
        _exit(0);
    }
    show_end("forgotten", child);
    show_set(id, 3);
    struct semid_ds stat;
    union semun arg = {.buf = &stat};
    SHOW(semctl(id, 0, IPC_STAT, arg));
    say("  mode %o len %lu otime %d ctime %d\n", stat.sem_perm.mode, stat.sem_nsems, stat.sem_otime != 0, stat.sem_ctime != 0);
    struct seminfo info;
    arg.info = &info;
    SHOW(semctl(0, 0, IPC_INFO, arg));
    say("  %d %d %d %d %d %d %d %d %d %d\n", info.semmap, info.semmni, info.semmns, info.semmnu, info.semmsl, info.semopm,
        info.semume, info.semusz, info.semvmx, info.semaem);
    SHOW(semctl(0, 0, SEM_INFO, arg));
    say("  sets %d semaphores %d\n", info.semusz, info.semaem);
    waiting(id);
    SHOW(set("sem", "10 5"));
    SHOW(semget(IPC_PRIVATE, 11, 0600));
    SHOW(semget(IPC_PRIVATE, 6, 0600));
    int last = semget(IPC_PRIVATE, 5, 0600);
    SHOW(semget(IPC_PRIVATE, 1, 0600));
    semctl(last, 0, IPC_RMID);
}

struct text {
    long type;
    char bytes[64];
};

static int send(int id, long type, const char *bytes, int flags) {
    struct text text = {.type = type};
    strcpy(text.bytes, bytes);
    return msgsnd(id, &text, strlen(bytes), flags);
}

static void receive(int id, long type, size_t most, int flags) {
    struct text text = {0};
    long len = msgrcv(id, &text, most, type, flags);
    if (len < 0) {
        say("receive %ld: %s\n", type, strerrorname_np(errno));
    } else {
        say("receive %ld: %ld of type %ld: %s\n", type, len, text.type, text.bytes);
    }
}

// Until the child sleeps.
static void await_sleep(pid_t child) {
    char path[32], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    while (state != 'S') {
        FILE *file = fopen(path, "r");
        if (!file || fscanf(file, "%*d %*s %c", &state) != 1) {
            return;
        }
        fclose(file);
        sched_yield();
    }
}

static void messages(void) {
    say("-- messages\n");
    int id = (int)SHOW(msgget(9, IPC_CREAT | 0600));
    SHOW(send(id, 0, "x", 0));
    SHOW(send(id, 3, "three", 0));
    SHOW(send(id, 1, "one", 0));
    SHOW(send(id, 2, "two", 0));
    SHOW(send(id, 1, "again", 0));
    receive(id, 1, 64, IPC_NOWAIT | MSG_COPY);
    receive(id, 9, 64, IPC_NOWAIT | MSG_COPY);
    receive(id, 0, 64, MSG_COPY);
    receive(id, 1, 2, IPC_NOWAIT);
    receive(id, 1, 2, IPC_NOWAIT | MSG_NOERROR);
    receive(id, -2, 64, IPC_NOWAIT);
    receive(id, 3, 64, IPC_NOWAIT | MSG_EXCEPT);
    receive(id, 0, 64, 0);
    receive(id, 0, 64, IPC_NOWAIT);
    struct msqid_ds stat;
    SHOW(msgctl(id, IPC_STAT, &stat));
    say("  mode %o len %lu most %lu sender %d receiver %d\n", stat.msg_perm.mode, stat.msg_qnum, stat.msg_qbytes,
        stat.msg_lspid == getpid(), stat.msg_lrpid == getpid());
    stat.msg_qbytes = 6;
    stat.msg_perm.mode = 0640;
    SHOW(msgctl(id, IPC_SET, &stat));
    SHOW(send(id, 1, "seven b", IPC_NOWAIT));
    SHOW(send(id, 1, "five!", IPC_NOWAIT));
    SHOW(send(id, 1, "no", IPC_NOWAIT));
    pid_t child = fork_clean();
    if (child == 0) {
        int sent = send(id, 4, "room", 0);
        receive(id, 99, 64, 0);
        SHOW(sent);
        _exit(0);
    }
    await_sleep(child);
    receive(id, 1, 64, 0);
    receive(id, 4, 64, 0);
    await_sleep(child);
    struct msginfo info;
    SHOW(msgctl(0, IPC_INFO, (void *)&info));
    say("  %d %d %d %d %d %d %d %d\n", info.msgpool, info.msgmap, info.msgmax, info.msgmnb, info.msgmni, info.msgssz, info.msgtql, info.msgseg);
    SHOW(msgctl(0, MSG_INFO, (void *)&info));
    say("  queues %d messages %d bytes %d\n", info.msgpool, info.msgmap, info.msgtql);
    int removed = msgctl(id, IPC_RMID, NULL);
    show_end("removed", child);
    SHOW(removed);
    SHOW(send(id, 1, "gone", 0));
    SHOW(set("msgmax", "3"));
    SHOW(set("msgmni", "1"));
    OK(msgget(IPC_PRIVATE, 0600));
    SHOW(msgget(IPC_PRIVATE, 0600));
}

// Another user: who may do what.
static void permissions(void) {
    say("-- permissions\n");
    int shm = shmget(1, 4096, IPC_CREAT | 0604);
    int sem = semget(1, 1, IPC_CREAT | 0604);
    pid_t child = fork_clean();
    if (child == 0) {
        if (setresuid(1234, 1234, 1234) != 0) {
            _exit(1);
        }
        OK(shmat(shm, NULL, SHM_RDONLY));
        SHOW((long)shmat(shm, NULL, 0));
        SHOW(shmget(1, 0, 0600));
        OK(shmget(1, 0, 0004));
        SHOW(shmctl(shm, IPC_RMID, NULL));
        SHOW(shmctl(shm, SHM_LOCK, NULL));
        SHOW(semctl(sem, 0, GETVAL));
        SHOW(semctl(sem, 0, SETVAL, 1));
        SHOW(operate(sem, 0, 1, 0));
        SHOW(operate(sem, 0, 0, 0));
        _exit(0);
    }
    show_end("user", child);
}

static void other_namespace(void) {
    say("-- another namespace\n");
    int outer = shmget(1, 0, 0);
    char *kept = shmat(outer, NULL, 0);
    strcpy(kept, "kept");
    int back = open("/proc/self/ns/ipc", O_RDONLY);
    SHOW(unshare(CLONE_NEWIPC));
    SHOW(shmget(1, 0, 0));
    SHOW(semget(1, 0, 0));
    SHOW((long)shmat(outer, NULL, 0));
    SHOW(shmget(1, 4096, IPC_CREAT | 0600));
    show_settings();
    // Its memory is there still.
    say("%s\n", kept);
    SHOW(setns(back, CLONE_NEWIPC));
    SHOW(shmget(1, 0, 0) == outer);
    SHOW(shmdt(kept));
    SHOW(syscall(SYS_clone, CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0));
}

int main(void) {
    OK(unshare(CLONE_NEWIPC));
    show_settings();
    show_file("/proc/sysvipc/shm");
    show_file("/proc/sysvipc/sem");
    show_file("/proc/sysvipc/msg");
    shared_memory();
    shm_limits();
    semaphores();
    messages();
    unshare(CLONE_NEWIPC);
    permissions();
    other_namespace();
    return 0;
}
