// Odd images: segments in another order, segments without bytes, interpreters that are none.
#include "test.h"
#include <elf.h>

static char image[4 << 20];
static size_t size;

static Elf64_Phdr *header(unsigned index) {
    Elf64_Ehdr *file = (Elf64_Ehdr *)image;
    return (Elf64_Phdr *)(image + file->e_phoff) + index;
}

static void load_self(void) {
    int file = open("/proc/self/exe", O_RDONLY);
    size = 0;
    for (ssize_t n; (n = read(file, image + size, sizeof image - size)) > 0;) size += (size_t)n;
    close(file);
}

static void run(const char *what) {
    int file = open("/tmp/image", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    if (write(file, image, size) != (ssize_t)size) say("short write\n");
    close(file);
    pid_t child = fork_clean();
    if (child == 0) {
        execl("/tmp/image", "image", what, (char *)0);
        say("%s: %s\n", what, strerrorname_np(errno));
        _exit(1);
    }
    show_end(what, child);
}

static int find(uint32_t kind, int skip) {
    for (int i = 0; i < ((Elf64_Ehdr *)image)->e_phnum; i++)
        if (header((unsigned)i)->p_type == kind && skip-- == 0) return i;
    return -1;
}

static void turned_round(void) {
    load_self();
    int loads[16], count = 0;
    for (int i; count < 16 && (i = find(PT_LOAD, count)) >= 0;) loads[count++] = i;
    for (int i = 1; i < count - 1; i++) {
        // The first and the last stay: what lies at the ends decides about the rest.
        int other = count - 1 - i;
        if (other <= i) break;
        Elf64_Phdr swap = *header((unsigned)loads[i]);
        *header((unsigned)loads[i]) = *header((unsigned)loads[other]);
        *header((unsigned)loads[other]) = swap;
    }
    run("other order");
}

static void twice(void) {
    load_self();
    // A segment once more, in place of a note.
    int load = find(PT_LOAD, 0), note = find(PT_NOTE, 0);
    if (note > load) *header((unsigned)note) = *header((unsigned)load);
    run("overlapping");
}

static void interpreter(const char *what, const char *path) {
    load_self();
    Elf64_Phdr *note = header((unsigned)find(PT_GNU_STACK, 0));
    note->p_type = PT_INTERP;
    note->p_offset = size;
    note->p_filesz = strlen(path) + 1;
    memcpy(image + size, path, note->p_filesz);
    size += note->p_filesz;
    run(what);
}

static void make(const char *path, const char *text, size_t len, int mode) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (write(file, text, len) != (ssize_t)len) say("short write\n");
    fchmod(file, (mode_t)mode);
    close(file);
}

static void headers(void) {
    load_self();
    ((Elf64_Ehdr *)image)->e_machine = EM_386;
    run("another machine");
    load_self();
    ((Elf64_Ehdr *)image)->e_type = ET_REL;
    run("an object");
    load_self();
    ((Elf64_Ehdr *)image)->e_phnum = 0;
    run("no headers");
    load_self();
    ((Elf64_Ehdr *)image)->e_phentsize = 32;
    run("small headers");
    load_self();
    ((Elf64_Ehdr *)image)->e_phoff = size;
    run("headers behind the end");
    load_self();
    size = 40;
    run("cut off");
}

// Files that end too early: what an interrupted copy leaves.
static void cut_offs(void) {
    load_self();
    size_t whole = size;
    const Elf64_Ehdr *file = (Elf64_Ehdr *)image;
    size_t headers_end = file->e_phoff + (size_t)file->e_phnum * sizeof(Elf64_Phdr);
    struct { const char *what; size_t at; } cuts[] = {
        {"cut in the headers", headers_end - 10},
        {"cut after the headers", headers_end},
        {"cut after a page", 4096},
        {"cut in the middle", whole / 2 & ~4095ul},
        {"empty", 0},
        {"one byte", 1},
        {"a magic number", 4},
    };
    for (unsigned i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        size = cuts[i].at;
        run(cuts[i].what);
    }
    for (int i = 0, load; (load = find(PT_LOAD, i)) >= 0; i++) {
        static char what[40];
        const Elf64_Phdr *segment = header((unsigned)load);
        snprintf(what, sizeof what, "cut in segment %d", i);
        size = segment->p_offset + segment->p_filesz / 2;
        if (segment->p_filesz > 64) run(what);
    }
    size = whole;
    Elf64_Phdr *note = header((unsigned)find(PT_GNU_STACK, 0));
    *note = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = whole - 4, .p_filesz = 20, .p_flags = PF_R};
    run("cut in the interpreter's name");
}

int main(int argc, char **argv) {
    if (argc > 1) {
        say("%s: runs\n", argv[1]);
        return 0;
    }
    turned_round();
    twice();
    headers();
    cut_offs();
    static char zeroes[4096];
    make("/tmp/short", "\177ELF", 4, 0755);
    make("/tmp/text", zeroes, sizeof zeroes, 0755);
    make("/tmp/closed", zeroes, sizeof zeroes, 0644);
    interpreter("no interpreter", "/tmp/none");
    interpreter("interpreter is a folder", "/tmp");
    interpreter("interpreter is short", "/tmp/short");
    interpreter("interpreter is text", "/tmp/text");
    interpreter("interpreter is closed", "/tmp/closed");
    interpreter("interpreter has no name", "");
    unlink("/tmp/image");
    return 0;
}
