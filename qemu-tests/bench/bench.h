// What the parts of the kernel benchmark share: a row is a name, an operation and how often it is
// repeated in a batch. Instructions that do nothing mark where a batch starts and ends, for the
// plugin that counts (plugin.c); the clock is not read.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>

enum { BATCHES = 5 };

// `nopl DISPLACEMENT(%rax,%rax)`: the displacement tells the marks apart. The same bytes stand in
// plugin.c and, for MARK_BOOT, in main.c's entry.
#define MARK(letter) __asm__ volatile(".byte 0x0f,0x1f,0x84,0x00,0x4e,0x42," letter ",0x7e" ::: "memory")
#define MARK_START() MARK("0x73")
#define MARK_STOP() MARK("0x65")

// Runs `once` a few times to fill caches, then BATCHES times `count` times between two marks, and
// notes that a count is for `operations` operations (of `per` in one call of `once`).
void row(const char *name, unsigned count, unsigned per, void (*once)(void));

// Ends the benchmark with what failed unless `result` is what a call returns when it works.
void need(long result, const char *what);

void rows_of_calls(void);
void rows_of_files(void);
void rows_of_memory(void);
void rows_of_processes(void);
void rows_of_messages(void);
