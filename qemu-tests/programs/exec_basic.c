// execve: what survives, what does not, and every refusal.
#include "test.h"

static void try(const char *what, const char *path) {
    char *arguments[] = {"x", 0};
    execve(path, arguments, arguments + 1);
    say("%s: %s\n", what, strerrorname_np(errno));
}

static void write_file(const char *path, const char *text, mode_t mode) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    write(file, text, strlen(text));
    fchmod(file, mode);
    close(file);
}

// Runs as the new program image.
static int after(int argc, char **argv) {
    for (int i = 0; i < argc; i++) say("  argv[%d]=%s\n", i, argv[i]);
    say("  HERE=%s\n", getenv("HERE") ? getenv("HERE") : "(unset)");
    SHOW(fcntl(20, F_GETFD));
    SHOW(fcntl(21, F_GETFD));
    struct sigaction action;
    sigaction(SIGUSR1, 0, &action);
    TRUE(action.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, 0, &action);
    TRUE(action.sa_handler == SIG_IGN);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, 0, &mask);
    TRUE(sigismember(&mask, SIGHUP));
    return 11;
}

static void handler(int signal) { (void)signal; }

static pid_t prepared_child(void) {
    pid_t child = fork_clean();
    if (child != 0) return child;
    dup2(1, 20);
    dup3(1, 21, O_CLOEXEC);
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_BLOCK, &mask, 0);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "after") == 0) return after(argc, argv);

    try("missing", "/tests/none");
    try("missing folder", "/none/none");
    try("folder", "/tests");
    try("not a folder on the way", "/tests/exec_basic/x");
    write_file("/tmp/empty", "", 0755);
    try("empty file", "/tmp/empty");
    write_file("/tmp/text", "just text\n", 0755);
    try("text", "/tmp/text");
    write_file("/tmp/plain", "#!/tests/exec_basic\n", 0644);
    try("no permission", "/tmp/plain");
    write_file("/tmp/short", "\177ELF", 0755);
    try("a cut-off ELF", "/tmp/short");
    write_file("/tmp/lost", "#!/no/such/interpreter\n", 0755);
    try("no interpreter", "/tmp/lost");
    try("empty path", "");
    SHOW(execve("/tests/exec_basic", (char **)8, 0));
    SHOW(execve((char *)8, argv, 0));
    size_t len = 200 * 1024;
    char *huge = malloc(len + 1);
    memset(huge, 'a', len);
    huge[len] = 0;
    char *too_big[] = {"x", huge, 0};
    SHOW(execve("/tests/exec_basic", too_big, 0));

    char *next[] = {"exec_basic", "after", "a b", "", 0};
    char *environment[] = {"HERE=there", 0};
    pid_t child = prepared_child();
    if (child == 0) execve("/tests/exec_basic", next, environment), _exit(99);
    show_end("execve", child);

    write_file("/tmp/script", "#!/tests/exec_basic after\nignored\n", 0755);
    child = prepared_child();
    if (child == 0) execl("/tmp/script", "script", "extra", (char *)0), _exit(99);
    show_end("script", child);

    write_file("/tmp/script2", "#! /tmp/script  \t \n", 0755);
    child = prepared_child();
    if (child == 0) execl("/tmp/script2", "script2", (char *)0), _exit(99);
    show_end("script of a script", child);

    child = prepared_child();
    if (child == 0) {
        int file = open("/tests/exec_basic", O_RDONLY);
        fexecve(file, next, environment);
        _exit(99);
    }
    show_end("fexecve", child);

    char link[64] = {0};
    readlink("/proc/self/exe", link, sizeof link - 1);
    say("exe=%s\n", link);
    return 0;
}
