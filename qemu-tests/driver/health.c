// What the machine must be able to do at any time, and what must be gone when the workers are. Complaints begin with
// `[driver alarm`.
#include "driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// What is free when nothing is kept that need not be.
long free_kib(void) {
    struct sysinfo memory;
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        write(fd, "3", 1);
        close(fd);
        usleep(100000);
    }
    sysinfo(&memory);
    return (long)(memory.freeram * memory.mem_unit / 1024);
}

static size_t read_all(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    for (ssize_t got; fd >= 0 && len < size - 1 && (got = read(fd, text + len, size - 1 - len)) > 0;) len += (size_t)got;
    if (fd >= 0) close(fd);
    text[len] = 0;
    return len;
}

// Where memory is, in one line.
void show_memory(void) {
    static const char *const names[] = {"Cached", "AnonPages", "Shmem", "Slab", "KernelStack", "PageTables"};
    static char text[8192];
    read_all("/proc/meminfo", text, sizeof text);
    printf("[driver memory");
    for (size_t i = 0; i < COUNT(names); i++) {
        char *at = strstr(text, names[i]);
        printf(" %s %ld", names[i], at && strchr(at, ':') ? atol(strchr(at, ':') + 1) : -1);
    }
    printf("]\n");
}

// Lines of a file, or entries of a folder that are numbers.
static long count(const char *path, int is_folder) {
    static char text[65536];
    long found = 0;
    if (is_folder) {
        DIR *folder = opendir(path);
        for (struct dirent *entry; folder && (entry = readdir(folder));) found += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
        if (folder) closedir(folder);
        return found;
    }
    read_all(path, text, sizeof text);
    for (const char *at = text; (at = strchr(at, '\n')); at++) found++;
    return found;
}

// Prints the last calls of process `pid`, oldest first.
static void show_calls(int pid) {
    struct note *note = &shared->notes[pid % NOTES];
    for (uint64_t i = note->count > NOTED ? note->count - NOTED : 0; i < note->count; i++) {
        const long *arguments = note->arguments[i % NOTED];
        printf("[driver left: %d %s", pid, note->calls[i % NOTED]->name);
        for (int at = 0; at < 6; at++) printf(" %lx", arguments[at]);
        printf("]\n");
    }
}

// Prints what /proc knows of each process but us.
void show_left(void) {
    static const char *const files[] = {"stat", "syscall", "wchan", "stack"};
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (atoi(entry->d_name) <= 1) continue;
        show_calls(atoi(entry->d_name));
        for (size_t i = 0; i < COUNT(files); i++) {
            char path[64], text[1000];
            snprintf(path, sizeof path, "/proc/%.20s/%s", entry->d_name, files[i]);
            int fd = open(path, O_RDONLY);
            ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof text);
            if (fd >= 0) close(fd);
            printf("[driver left: %.*s]\n", len > 0 ? (int)len - (text[len - 1] == '\n') : 0, text);
        }
    }
    if (folder) closedir(folder);
}

static struct {
    const char *path;
    int is_folder;
    long before;
} leftovers[] = {{"/proc", 1, 0}, {"/proc/self/mounts", 0, 0}, {"/proc/locks", 0, 0}, {"/dev/pts", 1, 0}, {"/proc/self/fd", 1, 0}};

void note_leftovers(void) {
    for (size_t i = 0; i < COUNT(leftovers); i++) leftovers[i].before = count(leftovers[i].path, leftovers[i].is_folder);
}

void check_leftovers(void) {
    for (size_t i = 0; i < COUNT(leftovers); i++) {
        long now = 0;
        // What the last process had goes a moment after it.
        for (int tries = 0; tries < 100; tries++) {
            now = count(leftovers[i].path, leftovers[i].is_folder);
            if (now <= leftovers[i].before) break;
            usleep(20000);
        }
        if (now <= leftovers[i].before) continue;
        printf("[driver alarm: %s has %ld, had %ld]\n", leftovers[i].path, now, leftovers[i].before);
        if (i == 0) show_left();
    }
}

// A copy of /bin/exit that no worker finds, since root's may remove or overwrite the file.
void keep_program(void) {
    static char text[1 << 20];
    int memory = memfd_create("exit", 0);
    write(memory, text, read_all("/bin/exit", text, sizeof text));
    fcntl(memory, F_DUPFD, PROGRAM_FD);
    close(memory);
}

// A program starts and ends, a pipe carries bytes, a sleep ends. Whether all that happens is seen from outside: if
// it does not, nothing more is printed.
void check_answers(int is_quiet) {
    int ends[2], status = 0;
    char text[8] = "";
    if (pipe2(ends, O_CLOEXEC) != 0) {
        if (is_quiet) printf("[driver alarm: no pipe: %s]\n", strerror(errno));
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        write(ends[1], "hello", 5);
        execveat(PROGRAM_FD, "", (char *[]){"exit", 0}, (char *[]){0}, AT_EMPTY_PATH);
        _exit(9);
    }
    close(ends[1]);
    if (child < 0 || read(ends[0], text, 5) != 5 || waitpid(child, &status, 0) != child) {
        // Under the workers' load, memory may be short; without them it may not.
        if (is_quiet) printf("[driver alarm: no child: %s]\n", strerror(errno));
    } else if (status != 0 && is_quiet) {
        printf("[driver alarm: a program ended with %x]\n", (unsigned)status);
    }
    close(ends[0]);
    struct timespec before, after, time = {0, 2000000};
    clock_gettime(CLOCK_MONOTONIC, &before);
    while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
    clock_gettime(CLOCK_MONOTONIC, &after);
    long passed = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    if (passed < 2000000) printf("[driver alarm: 2 ms of sleep took %ld ns]\n", passed);
}
