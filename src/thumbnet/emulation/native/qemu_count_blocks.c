/* A TCG plugin that counts blocks into a file that the driver maps too. The part of the plugin interface (version 1)
 * that is needed is declared here, because distributions do not ship its header. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "count_blocks.c"

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif

struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*callback)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*callback)(unsigned, void *), int flags,
                                          void *user);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

typedef struct {
    uint32_t address, size;
} block;

static counter *shared;

/* Not qemu_plugin_insn_size: near the end of a page it counts the halfword that QEMU only peeked at. */
static uint32_t bytes_at(uint32_t address)
{
    if (address < shared->base || address >= shared->end) {
        return 2;
    }
    return (shared->code[(address - shared->base) >> 1] >> 11) >= 0x1d ? 4 : 2;
}

static void executed(unsigned cpu, void *user)
{
    const block *b = user;
    (void)cpu;
    count_block(NULL, b->address, b->size, shared);
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    block *b = malloc(sizeof *b); /* as long as the process: translations are few */
    if (!b) {
        abort();
    }
    const uint32_t last =
        (uint32_t)qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, qemu_plugin_tb_n_insns(tb) - 1));
    b->address = (uint32_t)qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    b->size = last + bytes_at(last) - b->address;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, b);
}

/* The file begins with the counter; its pointers hold offsets into the file until they are resolved here. */
static int map(const char *path)
{
    const int file = open(path, O_RDWR);
    const off_t size = file < 0 ? -1 : lseek(file, 0, SEEK_END);
    if (size < (off_t)sizeof(counter)) {
        return -1;
    }
    char *base = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (base == MAP_FAILED) {
        return -1;
    }
    shared = (counter *)(void *)base;
    shared->code = (const uint16_t *)(const void *)(base + (uintptr_t)shared->code);
    shared->enter = (int64_t *)(void *)(base + (uintptr_t)shared->enter);
    shared->taken = (int64_t *)(void *)(base + (uintptr_t)shared->taken);
    shared->segment_of = (int32_t *)(void *)(base + (uintptr_t)shared->segment_of);
    shared->address = (uint32_t *)(void *)(base + (uintptr_t)shared->address);
    return 0;
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "counts=", 7) != 0 || map(argv[0] + 7) != 0) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
