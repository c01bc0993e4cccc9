// Core dumps (core(5)): which signals leave one, under which conditions, and what is in it.
#include "test.h"
#include <elf.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/procfs.h>
#include <sys/resource.h>

static char folder[] = "/tmp/core_dumps.XXXXXX";
static char old_pattern[128];

static void set(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) say("%s: %s\n", path, strerrorname_np(errno));
    close(fd);
}

static char *volatile marked;
static void *wait_for_ever(void *unused) {
    (void)unused;
    for (;;) pause();
    return NULL;
}

// A dump, which is gone with its descriptor.
static int dump_of(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY);
    unlink(path);
    return fd;
}

static unsigned char *content;
static size_t length;
static void load(int fd) {
    struct stat meta;
    fstat(fd, &meta);
    length = meta.st_size;
    content = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
    say("mode %o, own %d\n", meta.st_mode, meta.st_uid == getuid());
    close(fd);
}

// The byte that the program had at `address`, or -1.
static int byte_at(unsigned long address) {
    Elf64_Ehdr *head = (Elf64_Ehdr *)content;
    Elf64_Phdr *program = (Elf64_Phdr *)(content + head->e_phoff);
    for (int i = 0; i < head->e_phnum; i++, program++)
        if (program->p_type == PT_LOAD && address >= program->p_vaddr && address < program->p_vaddr + program->p_filesz)
            return content[program->p_offset + address - program->p_vaddr];
    return -1;
}

static void show_notes(pid_t child) {
    Elf64_Ehdr *head = (Elf64_Ehdr *)content;
    Elf64_Phdr *note = (Elf64_Phdr *)(content + head->e_phoff);
    say("ident %.3s type %d machine %d first %d\n", head->e_ident + 1, head->e_type, head->e_machine, note->p_type);
    int threads = 0, states = 0;
    for (size_t at = note->p_offset; at < note->p_offset + note->p_filesz;) {
        Elf64_Nhdr *entry = (Elf64_Nhdr *)(content + at);
        unsigned char *data = content + at + sizeof *entry + (entry->n_namesz + 3) / 4 * 4;
        if (entry->n_type == NT_PRSTATUS) {
            struct elf_prstatus *status = (void *)data;
            if (threads++ == 0) say("status size %u signal %d pid %d\n", entry->n_descsz, status->pr_cursig, status->pr_pid == child);
        } else if (entry->n_type == NT_PRPSINFO) {
            struct elf_prpsinfo *info = (void *)data;
            say("info size %u name %s pid %d\n", entry->n_descsz, info->pr_fname, info->pr_pid == child);
        } else if (entry->n_type == NT_SIGINFO) {
            siginfo_t *info = (void *)data;
            say("signal %d code %d address %lx\n", info->si_signo, info->si_code, (long)info->si_addr);
        } else if (entry->n_type == NT_AUXV) {
            say("auxv whole entries %d\n", entry->n_descsz % 16 == 0);
        } else if (entry->n_type == NT_FILE) {
            unsigned long *words = (void *)data;
            say("files %d page size %lu\n", words[0] > 0, words[1]);
        } else if (entry->n_type == NT_FPREGSET) {
            states++;
        }
        at = data + (entry->n_descsz + 3) / 4 * 4 - content;
    }
    say("threads %d states %d\n", threads, states);
}

static void crash(int with_thread) {
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &most);
    if (chdir(folder) != 0) _exit(1);
    if (with_thread) {
        pthread_t thread;
        pthread_create(&thread, NULL, wait_for_ever, NULL);
    }
    *(volatile int *)16 = 1;
}

static void show_death(const char *what, pid_t child) {
    siginfo_t info = {0};
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    int status;
    waitpid(child, &status, 0);
    say("%s: signal %d core %d code %d status %d\n", what, WTERMSIG(status), !!WCOREDUMP(status), info.si_code, info.si_status);
}

int main(void) {
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
    ssize_t len = read(fd, old_pattern, sizeof old_pattern - 1);
    close(fd);
    if (!mkdtemp(folder) || len <= 0) return 1;
    set("/proc/sys/kernel/core_pattern", "core.%s.%e.%%\n");
    marked = mmap(NULL, 3 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *hidden = mmap(NULL, 1 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    marked[5] = 42;
    hidden[0] = 7;
    madvise(hidden, 1 << 12, MADV_DONTDUMP);
    prctl(PR_SET_NAME, "dumper");
    for (int threads = 0; threads < 2; threads++) {
        pid_t child = fork_clean();
        if (child == 0) crash(threads);
        show_death("segv", child);
        load(dump_of("core.11.dumper.%"));
        show_notes(child);
        say("memory %d %d, hidden %d\n", byte_at((long)marked + 5), byte_at((long)marked + 4096), byte_at((long)hidden));
        munmap(content, length);
    }
    say("-- which signals\n");
    int signals[] = {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSYS, SIGXCPU, SIGXFSZ, SIGTERM, SIGHUP, SIGUSR1, SIGALRM};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t child = fork_clean();
        if (child == 0) {
            struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
            setrlimit(RLIMIT_CORE, &most);
            if (chdir(folder) != 0) _exit(1);
            raise(signals[i]);
            _exit(0);
        }
        show_death("raised", child);
        char name[64];
        snprintf(name, sizeof name, "core.%d.dumper.%%", signals[i]);
        fd = dump_of(name);
        say("file %d\n", fd >= 0);
        if (fd >= 0) close(fd);
    }
    say("-- conditions\n");
    for (int what = 0; what < 4; what++) {
        pid_t child = fork_clean();
        if (child == 0) {
            struct rlimit none = {0, RLIM_INFINITY}, some = {16 << 10, RLIM_INFINITY}, most = {RLIM_INFINITY, RLIM_INFINITY};
            if (chdir(folder) != 0) _exit(1);
            setrlimit(RLIMIT_CORE, what == 0 ? &none : what == 1 ? &some : &most);
            if (what == 2) prctl(PR_SET_DUMPABLE, 0);
            if (what == 3 && symlink("elsewhere", "core.6.dumper.%") != 0) _exit(1);
            abort();
        }
        show_death("abort", child);
        fd = what == 3 ? -1 : dump_of("core.6.dumper.%");
        struct stat meta = {0};
        if (fd >= 0) fstat(fd, &meta);
        say("file %d, at most the limit %d\n", fd >= 0, meta.st_size <= 16 << 10);
        if (fd >= 0) close(fd);
    }
    dump_of("core.6.dumper.%");
    set("/proc/sys/kernel/core_pattern", old_pattern);
    SHOW(rmdir(folder));
    return 0;
}
