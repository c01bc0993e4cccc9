// A QEMU TCG plugin that lets the thread of a virtual CPU sleep now and then, as the threads of a busy
// host do: at random, after 20,000 blocks of code on the average, for up to four milliseconds; at times
// for longer. A CPU that starts the kernel's code for other CPUs may come up to three seconds late, at any of its
// first steps. `seed=N` starts the random sequence. Compiled by gcc against the declarations below:
// Debian ships QEMU without a header for plugins.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint64_t plugin_id;
struct block;
enum { NO_REGISTERS = 0, MAX_CPUS = 64, MEAN_BLOCKS = 20000, FIRST_BLOCKS = 400, LATE_US = 3000000 };
// Where the kernel has other CPUs start (kernel/machine/src/boot/smp.rs).
static const uint64_t START = 0x8000;
uint64_t qemu_plugin_tb_vaddr(const struct block *block);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct block *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct block *block, void (*callback)(unsigned cpu, void *data), int flags,
                                          void *data);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;

// Each is used by its CPU's thread only.
static struct {
    uint64_t random, left, late_us;
    char padding[40];
} cpus[MAX_CPUS];
static uint64_t seed = 1;

static uint64_t draw(unsigned cpu) {
    uint64_t x = cpus[cpu].random ? cpus[cpu].random : (seed * 64 + cpu) * 0x9e3779b97f4a7c15 | 1;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    cpus[cpu].random = x;
    return x * 0x2545f4914f6cdd1d >> 20;
}

static void sleep_us(uint64_t us) {
    struct timespec time = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&time, 0);
}

static void started(unsigned cpu, void *data) {
    (void)data;
    cpu %= MAX_CPUS;
    if (draw(cpu) % 4 != 0) return;
    cpus[cpu].left = draw(cpu) % FIRST_BLOCKS;
    cpus[cpu].late_us = draw(cpu) % LATE_US;
}

static void executed(unsigned cpu, void *data) {
    (void)data;
    cpu %= MAX_CPUS;
    if (cpus[cpu].left-- != 0) return;
    cpus[cpu].left = draw(cpu) % (2 * MEAN_BLOCKS);
    uint64_t limit_us = draw(cpu) % 50 == 0 ? 40000 : 4000;
    sleep_us(cpus[cpu].late_us ? cpus[cpu].late_us : draw(cpu) % limit_us);
    cpus[cpu].late_us = 0;
}

static void translated(plugin_id id, struct block *block) {
    (void)id;
    if (qemu_plugin_tb_vaddr(block) == START) qemu_plugin_register_vcpu_tb_exec_cb(block, started, NO_REGISTERS, 0);
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, 0);
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "seed=", 5) == 0) seed = strtoull(arguments[i] + 5, 0, 0);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
