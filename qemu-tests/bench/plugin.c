// A QEMU TCG plugin that counts, for the kernel benchmark, the instructions that the guest
// executes and those of the kernel that lock the bus, between the marks of bench.h. Compiled by
// gcc against the declarations below: Debian ships QEMU without a header for plugins.
//
// It writes one line a mark, in order: `boot INSTRUCTIONS` since the instruction at `entry=ADDRESS`
// was executed first, and `batch INSTRUCTIONS KERNEL LOCKED` at each stop. For one CPU.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;
struct instruction;
enum { ADD_U64 = 0, NO_REGISTERS = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct block *));
size_t qemu_plugin_tb_n_insns(const struct block *block);
struct instruction *qemu_plugin_tb_get_insn(const struct block *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct instruction *instruction);
const void *qemu_plugin_insn_data(const struct instruction *instruction);
size_t qemu_plugin_insn_size(const struct instruction *instruction);
void qemu_plugin_register_vcpu_insn_exec_inline(struct instruction *instruction, int operation,
                                                void *counter, uint64_t value);
void qemu_plugin_register_vcpu_insn_exec_cb(struct instruction *instruction,
                                            void (*callback)(unsigned cpu, void *data), int flags,
                                            void *data);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;

static const uint64_t KERNEL_HALF = 0xffff800000000000;
static const uint8_t MARK[6] = {0x0f, 0x1f, 0x84, 0x00, 0x4e, 0x42};

struct counts {
    uint64_t user, kernel, locked;
};
static struct counts now, start;
static uint64_t entry, at_entry;
static FILE *out;

static void at_mark(unsigned cpu, void *data) {
    (void)cpu;
    switch ((char)(uintptr_t)data) {
    case 'b':
        fprintf(out, "boot %lu\n", now.user + now.kernel - at_entry);
        break;
    case 's':
        start = now;
        break;
    case 'e':
        fprintf(out, "batch %lu %lu %lu\n", now.user + now.kernel - start.user - start.kernel,
                now.kernel - start.kernel, now.locked - start.locked);
        break;
    }
    fflush(out);
}

static void at_kernel(unsigned cpu, void *data) {
    (void)cpu, (void)data;
    if (at_entry == 0) at_entry = now.user + now.kernel;
}

// Whether the instruction has a LOCK prefix, or is an XCHG with memory, which locks without one.
static bool locks(const uint8_t *bytes, size_t size) {
    size_t at = 0;
    for (; at < size; at++) {
        uint8_t byte = bytes[at];
        if (byte == 0xf0) return true;
        bool is_prefix = byte == 0x66 || byte == 0x67 || byte == 0xf2 || byte == 0xf3 || byte == 0x2e ||
                         byte == 0x36 || byte == 0x3e || byte == 0x26 || byte == 0x64 || byte == 0x65 ||
                         (byte & 0xf0) == 0x40;
        if (!is_prefix) break;
    }
    return at + 1 < size && (bytes[at] == 0x86 || bytes[at] == 0x87) && bytes[at + 1] < 0xc0;
}

static void translated(plugin_id id, struct block *block) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct instruction *instruction = qemu_plugin_tb_get_insn(block, i);
        const uint8_t *bytes = qemu_plugin_insn_data(instruction);
        size_t size = qemu_plugin_insn_size(instruction);
        uint64_t address = qemu_plugin_insn_vaddr(instruction);
        bool is_kernel = address >= KERNEL_HALF;
        if (address == entry) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_kernel, NO_REGISTERS, 0);
        }
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD_U64,
                                                   is_kernel ? &now.kernel : &now.user, 1);
        if (is_kernel && locks(bytes, size)) {
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD_U64, &now.locked, 1);
        }
        if (size == 8 && bytes[7] == 0x7e && memcmp(bytes, MARK, sizeof MARK) == 0) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_mark, NO_REGISTERS,
                                                   (void *)(uintptr_t)bytes[6]);
        }
    }
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "out=", 4) == 0) out = fopen(arguments[i] + 4, "w");
        if (strncmp(arguments[i], "entry=", 6) == 0) entry = strtoull(arguments[i] + 6, 0, 0);
    }
    if (!out || !entry) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
