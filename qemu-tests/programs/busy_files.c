// ETXTBSY: a program that runs is not written to, a file open for writing does not run.
#include "test.h"

static const char *const program = "/tmp/program";

static void copy_self(const char *path) {
    static char buffer[65536];
    int from = open("/proc/self/exe", O_RDONLY);
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    long count;
    while ((count = read(from, buffer, sizeof buffer)) > 0) write(to, buffer, count);
    close(from);
    close(to);
}

static void run(const char *what, const char *path) {
    pid_t child = fork_clean();
    if (child == 0) {
        execl(path, "program", "end", (char *)0);
        say("%s: %s\n", what, strerrorname_np(errno));
        _exit(9);
    }
    show_end(what, child);
}

static void refused(void) {
    SHOW(open(program, O_WRONLY));
    SHOW(open(program, O_RDWR));
    SHOW(open(program, O_RDONLY | O_TRUNC));
    SHOW(open(program, O_WRONLY | O_TRUNC));
    SHOW(open("/tmp/other-name", O_WRONLY));
    SHOW(truncate(program, 0));
    int file = open(program, O_RDONLY);
    TRUE(file >= 0);
    SHOW(ftruncate(file, 0));
    close(file);
    SHOW(chmod(program, 0755));
    struct stat now;
    stat(program, &now);
    TRUE(now.st_size > 1000);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "end")) return 7;
    if (argc > 1) {
        char byte;
        write(4, "r", 1);
        read(3, &byte, 1);
        return 8;
    }
    copy_self(program);
    SHOW(link(program, "/tmp/other-name"));
    int go[2], ready[2];
    pipe(go);
    pipe(ready);
    pid_t child = fork_clean();
    if (child == 0) {
        dup2(go[0], 3);
        dup2(ready[1], 4);
        execl(program, "program", "wait", (char *)0);
        _exit(9);
    }
    char byte;
    read(ready[0], &byte, 1);
    say("while it runs\n");
    refused();
    // A second process of it keeps it busy, too, and the file can still be run.
    run("second", program);
    SHOW(open(program, O_WRONLY));
    write(go[1], "g", 1);
    show_end("first", child);
    say("after it\n");
    int writer = open(program, O_WRONLY);
    TRUE(writer >= 0);
    run("open for writing", program);
    run("open for writing by another name", "/tmp/other-name");
    int second = dup(writer);
    close(writer);
    run("still open", program);
    close(second);
    run("closed", program);

    int script = open("/tmp/script", O_WRONLY | O_CREAT, 0700);
    dprintf(script, "#!%s end\n", program);
    run("script being written", "/tmp/script");
    close(script);
    run("script", "/tmp/script");
    writer = open(program, O_RDWR);
    run("interpreter being written", "/tmp/script");
    close(writer);

    // A mapping of its own keeps nobody out.
    int reader = open(program, O_RDONLY);
    char *text = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, reader, 0);
    writer = open(program, O_WRONLY);
    TRUE(writer >= 0 && text != MAP_FAILED);
    close(writer);
    unlink("/tmp/script");
    unlink("/tmp/other-name");
    return unlink(program);
}
