// The smallest useful program: arguments, environment and the start-up vector.
#include "test.h"
#include <elf.h>
#include <sys/auxv.h>

int main(int argc, char **argv, char **envp) {
    for (int i = 0; i < argc; i++) say("argv[%d]=%s\n", i, argv[i]);
    for (int i = 0; envp[i]; i++) say("envp[%d]=%s\n", i, envp[i]);
    SHOW(getauxval(AT_PAGESZ));
    SHOW(getauxval(AT_CLKTCK));
    SHOW(getauxval(AT_SECURE));
    SHOW(getauxval(AT_UID));
    SHOW(getauxval(AT_EGID));
    TRUE(getauxval(AT_RANDOM) != 0);
    TRUE(getauxval(AT_PHDR) != 0 && getauxval(AT_PHENT) == sizeof(Elf64_Phdr));
    say("AT_PLATFORM=%s\n", (char *)getauxval(AT_PLATFORM));
    say("AT_EXECFN=%s\n", (char *)getauxval(AT_EXECFN));
    TRUE(((uintptr_t)__builtin_frame_address(0) & 15) == 0);
    char cwd[64];
    say("cwd=%s\n", getcwd(cwd, sizeof cwd));
    return 42;
}
