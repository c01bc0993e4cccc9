// flags: -fPIE -pie
// A dynamically linked program: the kernel loads the interpreter, which maps the C library.
#include "test.h"
#include <sys/auxv.h>

int main(int argc, char **argv) {
    say("argc=%d argv0=%s\n", argc, argv[0]);
    TRUE(getauxval(AT_BASE) != 0);
    TRUE(getauxval(AT_ENTRY) != 0);
    char *memory = malloc(1 << 20);
    memset(memory, 1, 1 << 20);
    TRUE(memory[12345] == 1);
    free(memory);
    return 0;
}
