// flags: -static-pie -fPIE
// A static position-independent program: the kernel chooses where it goes, it relocates itself.
#include "test.h"

static int value = 7;
static int *const pointer = &value;

int main(int argc, char **argv) {
    say("argc=%d argv0=%s\n", argc, argv[0]);
    TRUE(*pointer == 7);
    TRUE((uintptr_t)main > 0x100000);
    return 0;
}
