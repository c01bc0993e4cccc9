// Mappings of files: private copies, shared changes, what write and read see of them.
#include "test.h"

enum { PAGE = 4096 };

int main(void) {
    int file = open("/etc/data", O_RDONLY);
    unsigned char *data = mmap(0, 20000, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    TRUE(data != MAP_FAILED);
    long wrong = 0;
    for (int i = 0; i < 20000; i++) wrong += data[i] != i % 251;
    SHOW(wrong);
    SHOW(data[20000]);
    data[100] = 255;
    unsigned char byte;
    SHOW(pread(file, &byte, 1, 100));
    SHOW(byte);
    unsigned char *second = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, file, PAGE);
    SHOW(second[0]);
    close(file);
    SHOW(second[1]);
    SHOW(munmap(data, 20000));

    file = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
    SHOW(ftruncate(file, 3 * PAGE));
    char *shared = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *private = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    strcpy(shared, "through the mapping");
    char text[32] = {0};
    SHOW(pread(file, text, 19, 0));
    say("%s\n", text);
    say("private sees: %s\n", private);
    SHOW(pwrite(file, "THROUGH", 7, 0));
    say("shared sees: %s\n", shared);
    strcpy(private, "mine alone");
    pwrite(file, "again", 5, 0);
    say("private keeps: %s\n", private);
    SHOW(msync(shared, 3 * PAGE, MS_SYNC));
    SHOW(msync(shared, 3 * PAGE, MS_SYNC | MS_ASYNC));

    pid_t child = fork_clean();
    if (child == 0) {
        strcpy(shared + PAGE, "from the child");
        strcpy(private + PAGE, "not for the parent");
        _exit(0);
    }
    show_end("child", child);
    say("shared: %s\n", shared + PAGE);
    SHOW(private[PAGE] == 'f');
    SHOW(ftruncate(file, PAGE));
    SHOW(ftruncate(file, 3 * PAGE));
    SHOW(shared[PAGE]);
    close(file);
    SHOW(unlink("/tmp/mapped"));
    strcpy(shared, "still here");
    say("%s\n", shared);

    int *counter = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 4; i++) {
        if (fork_clean() == 0) {
            for (int j = 0; j < 1000; j++) __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
            _exit(0);
        }
    }
    while (wait(0) > 0) continue;
    SHOW(*counter);
    return 0;
}
