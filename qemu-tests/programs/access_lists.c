// Access control lists and other extended attributes on tmpfs: who may set them, what they allow, what new files inherit.
#include "test.h"
#include <grp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

enum { OWNER = 1, USER = 2, OWNING = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct entry {
    uint16_t tag, bits;
    uint32_t id;
};
struct list {
    uint32_t version;
    struct entry entries[8];
};

// "u6 U5:7 g4 m5 o0" as the value of an attribute; how long it is.
static size_t make(struct list *list, const char *text) {
    size_t count = 0;
    list->version = 2;
    for (char word[16]; sscanf(text, "%15s", word) == 1; text += strlen(word), text += strspn(text, " ")) {
        struct entry entry = {0, 0, -1U};
        entry.tag = word[0] == 'u' ? OWNER : word[0] == 'U' ? USER : word[0] == 'g' ? OWNING
                    : word[0] == 'G' ? GROUP : word[0] == 'm' ? MASK : OTHER;
        char *colon = strchr(word, ':');
        if (colon) entry.id = (uint32_t)atoi(word + 1);
        entry.bits = (uint16_t)atoi(colon ? colon + 1 : word + 1);
        list->entries[count++] = entry;
    }
    return 4 + count * sizeof(struct entry);
}

static int set(const char *path, const char *name, const char *text) {
    struct list list;
    size_t size = make(&list, text);
    return setxattr(path, name, &list, size, 0);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void show(const char *path) {
    static const char *const names[] = {ACCESS, DEFAULT};
    struct stat status;
    if (lstat(path, &status) != 0) {
        say("%s: %s\n", path, strerrorname_np(errno));
        return;
    }
    say("%s: %o", path, status.st_mode & 07777);
    for (int i = 0; i < 2; i++) {
        struct list list;
        ssize_t size = getxattr(path, names[i], &list, sizeof list);
        say(", %s", i ? "default" : "access");
        if (size < 0) say(" %s", strerrorname_np(errno));
        for (ssize_t j = 0; size > 0 && j < (size - 4) / 8; j++)
            say(" %d:%d:%d", list.entries[j].tag, (int)list.entries[j].id, list.entries[j].bits);
    }
    char names_of[256];
    ssize_t len = listxattr(path, names_of, sizeof names_of);
    // In any order.
    char *sorted[8];
    int count = 0;
    for (ssize_t i = 0; i < len; i += (ssize_t)strlen(names_of + i) + 1) sorted[count++] = names_of + i;
    qsort(sorted, (size_t)count, sizeof *sorted, by_name);
    say(", list");
    for (int i = 0; i < count; i++) say(" %s", sorted[i]);
    say("\n");
}

static void as(uid_t uid, gid_t gid, const char *path) {
    pid_t child = fork_clean();
    if (child == 0) {
        gid_t groups[2] = {gid, 77};
        setgroups(2, groups);
        if (setresgid(88, 88, 88) != 0 || setresuid(uid, uid, uid) != 0) _exit(1);
        say("%d in %d: r %d w %d x %d, rw %d, open %d %d\n", uid, gid, access(path, R_OK), access(path, W_OK),
            access(path, X_OK), access(path, R_OK | W_OK), open(path, O_RDONLY) < 0, open(path, O_WRONLY) < 0);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void lists(void) {
    close(open("file", O_CREAT | O_RDWR, 0640));
    show("file");
    SHOW(set("file", ACCESS, "u6 U1001:6 g4 G2001:2 G2002:4 m4 o0"));
    show("file");
    as(1001, 3, "file"), as(1002, 2001, "file"), as(1002, 2002, "file"), as(1002, 0, "file"), as(1002, 3, "file");
    SHOW(chmod("file", 0666));
    show("file");
    as(1001, 3, "file"), as(1002, 2001, "file"), as(1002, 2002, "file"), as(1002, 0, "file"), as(1002, 3, "file");
    SHOW(chmod("file", 0604));
    as(1001, 3, "file"), as(1002, 2002, "file"), as(1002, 3, "file");
    SHOW(set("file", ACCESS, "u7 g5 o1"));
    show("file");
    SHOW(set("file", ACCESS, "u7 U0:1 g5 o1"));
    SHOW(set("file", ACCESS, "u7 g5"));
    SHOW(set("file", ACCESS, "u9 g5 o1"));
    SHOW(set("file", DEFAULT, "u7 g5 o1"));
    SHOW(set("file", ACCESS, ""));
    SHOW(setxattr("file", ACCESS, "\1\0\0\0", 4, 0));
    SHOW(setxattr("file", ACCESS, "\2\0\0\0x", 5, 0));
    SHOW(setxattr("file", ACCESS, "\2\0", 2, 0));
    SHOW(set("file", ACCESS, "u6 U1001:6 g4 m6 o0"));
    char little[8];
    SHOW(getxattr("file", ACCESS, little, sizeof little));
    SHOW(getxattr("file", ACCESS, NULL, 0));
    SHOW(removexattr("file", DEFAULT));
    SHOW(removexattr("file", ACCESS));
    SHOW(removexattr("file", ACCESS));
    show("file");
    SHOW(chmod("file", 02775));
    SHOW(chown("file", 1001, 5));
    SHOW(chmod("file", 02775));
    pid_t child = fork_clean();
    if (child == 0) {
        setgroups(0, NULL);
        if (setresgid(88, 88, 88) != 0 || setresuid(1001, 1001, 1001) != 0) _exit(1);
        SHOW(set("file", ACCESS, "u6 U1001:6 g4 m6 o0"));
        show("file");
        SHOW(set("other", ACCESS, "u6 U1001:6 g4 m6 o0"));
        SHOW(removexattr("other", ACCESS));
        SHOW(removexattr("other", DEFAULT));
        SHOW(getxattr("other", ACCESS, NULL, 0));
        _exit(0);
    }
    show_end("owner", child);
    symlink("file", "link");
    struct list list;
    size_t size = make(&list, "u7 g5 o1");
    SHOW(lsetxattr("link", ACCESS, &list, size, 0));
    SHOW(lgetxattr("link", ACCESS, &list, sizeof list));
    SHOW(lremovexattr("link", ACCESS));
    mkfifo("fifo", 0600);
    SHOW(set("fifo", ACCESS, "u6 U1001:6 g0 m6 o0"));
    show("fifo");
    SHOW(setxattr("file", "system.other", "x", 1, 0));
}

static void inheritance(void) {
    umask(022);
    mkdir("above", 0755);
    SHOW(set("above", DEFAULT, "u7 U1001:7 g5 m7 o0"));
    show("above");
    close(open("above/file", O_CREAT | O_RDWR, 0666));
    show("above/file");
    mkdir("above/below", 0777);
    show("above/below");
    mkdir("above/below/again", 0700);
    show("above/below/again");
    mknod("above/fifo", S_IFIFO | 0666, 0);
    show("above/fifo");
    symlink("x", "above/link");
    show("above/link");
    int unnamed = open("above", O_TMPFILE | O_RDWR, 0666);
    struct stat status;
    fstat(unnamed, &status);
    say("unnamed %o\n", status.st_mode & 07777);
    SHOW(fgetxattr(unnamed, ACCESS, NULL, 0));
    close(unnamed);
    struct sockaddr_un name = {AF_UNIX, "above/socket"};
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    SHOW(bind(sock, (struct sockaddr *)&name, sizeof name));
    show("above/socket");
    close(sock);
    SHOW(set("above", DEFAULT, "u6 g4 o4"));
    close(open("above/plain", O_CREAT | O_RDWR, 0777));
    show("above/plain");
    SHOW(rename("above/file", "moved"));
    show("moved");
    // A directory is searched by what its list says.
    mkdir("secret", 0700);
    close(open("secret/file", O_CREAT | O_RDWR, 0666));
    SHOW(set("secret", ACCESS, "u7 U1001:1 g0 m1 o0"));
    as(1001, 3, "secret/file"), as(1002, 3, "secret/file");
    // The bit is taken before the umask.
    mkdir("shared", 02777);
    chown("shared", 0, 55), chmod("shared", 02777);
    umask(010);
    pid_t child = fork_clean();
    if (child == 0) {
        setgroups(0, NULL);
        if (setresgid(88, 88, 88) != 0 || setresuid(1001, 1001, 1001) != 0) _exit(1);
        close(open("shared/file", O_CREAT | O_RDWR, 02775));
        close(open("shared/other", O_CREAT | O_RDWR, 02765));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    show("shared/file"), show("shared/other");
}

static void attributes(void) {
    static char big[65537];
    umask(022);
    int file = open("attributes", O_CREAT | O_RDWR, 0644);
    SHOW(fsetxattr(file, "trusted.one", "1", 1, 0));
    SHOW(fsetxattr(file, "security.two", "22", 2, XATTR_CREATE));
    SHOW(fsetxattr(file, "security.two", "22", 2, XATTR_CREATE));
    SHOW(fsetxattr(file, "security.three", "22", 2, XATTR_REPLACE));
    SHOW(fsetxattr(file, "security.two", "22", 2, XATTR_CREATE | XATTR_REPLACE));
    SHOW(fsetxattr(file, "security.two", "22", 2, 4));
    SHOW(fsetxattr(file, "trusted.", "1", 1, 0));
    SHOW(fsetxattr(file, "", "1", 1, 0));
    SHOW(fsetxattr(file, "nothing", "1", 1, 0));
    SHOW(fsetxattr(file, "trusted.big", big, 65537, 0));
    SHOW(fsetxattr(file, "user.four", "44", 2, 0));
    SHOW(fgetxattr(file, "user.four", big, 10));
    SHOW(fsetxattr(file, "user.big", big, 65536, 0));
    SHOW(fsetxattr(file, "user.big2", big, 65536, 0));
    SHOW(fgetxattr(file, "user.big2", big, 65535));
    SHOW(fremovexattr(file, "user.big"));
    SHOW(fremovexattr(file, "user.big2"));
    char name[300] = "trusted.";
    memset(name + 8, 'n', 247);
    SHOW(fsetxattr(file, name, "1", 1, 0));
    name[255] = 'n', name[256] = 0;
    SHOW(fsetxattr(file, name, "1", 1, 0));
    SHOW(fgetxattr(file, "trusted.one", big, 0));
    SHOW(fgetxattr(file, "trusted.none", big, 10));
    SHOW(fsetxattr(file, "trusted.empty", NULL, 0, 0));
    SHOW(fgetxattr(file, "trusted.empty", big, 10));
    char *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SHOW(fsetxattr(file, "trusted.fault", nowhere, 1, 0));
    SHOW(fgetxattr(file, "trusted.one", nowhere, 1));
    SHOW(flistxattr(file, big, 3));
    SHOW(fremovexattr(file, "trusted.none"));
    name[255] = 0;
    SHOW(fremovexattr(file, name));
    fchown(file, 1001, 1001);
    pid_t child = fork_clean();
    if (child == 0) {
        if (setresgid(1001, 1001, 1001) != 0 || setresuid(1001, 1001, 1001) != 0) _exit(1);
        SHOW(fsetxattr(file, "trusted.one", "1", 1, 0));
        SHOW(fgetxattr(file, "trusted.one", big, 10));
        SHOW(fsetxattr(file, "security.two", "1", 1, 0));
        SHOW(fgetxattr(file, "security.two", big, 10));
        SHOW(fsetxattr(file, "user.four", "4", 1, 0));
        chmod("attributes", 0400);
        SHOW(fsetxattr(file, "user.four", "4", 1, 0));
        SHOW(fgetxattr(file, "user.four", big, 10));
        show("attributes");
        _exit(0);
    }
    show_end("its owner", child);
    show("attributes");
    SHOW(fsetxattr(0, "trusted.x", "1", 1, 0) == 0 ? 0 : 0);
    int ends[2];
    pipe(ends);
    SHOW(fsetxattr(ends[0], "user.x", "1", 1, 0));
    SHOW(fgetxattr(ends[0], "user.x", big, 1));
    int place = open("attributes", O_PATH);
    SHOW(fgetxattr(place, "security.two", big, 10));
    SHOW(fsetxattr(place, "security.two", big, 10, 0));
    SHOW(flistxattr(place, big, 100));
}

int main(void) {
    mkdir("/tmp/lists", 0777);
    chmod("/tmp/lists", 0777);
    chdir("/tmp/lists");
    umask(0);
    close(open("other", O_CREAT | O_RDWR, 0640));
    lists();
    inheritance();
    attributes();
    return 0;
}
