/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of snapshots in files share. */
#ifndef API_SNAPSHOT_FILE_H
#define API_SNAPSHOT_FILE_H

#include "api.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE  4096u
#define DATA  0x40000u /* of the tests; the code is below, page tables above */
#define PAGES 64u

static char directory[64], path[96], other[96];

static inline void make_directory(void)
{
	snprintf(directory, sizeof directory, "/tmp/virtcore-snapshot.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/one", directory);
	snprintf(other, sizeof other, "%s/two", directory);
}

/* Nothing but these two is there. */
static inline void remove_directory(void)
{
	unlink(path);
	unlink(other);
	ck_assert_int_eq(rmdir(directory), 0);
}

/* A guest that counts in EAX and at DATA, halting after each. */
static inline vcore_vm *make_vm(int backend)
{
	vcore_vm *vm = api_vm_with(backend, &(struct vcore_options){.memory = RAM, .cpu = "x86-64-v2"});

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0x40, 0xff, 0x05, 0x00, 0x00, 0x04, 0x00, 0xf4, 0xeb, 0xf6));
	api_run(vm, VCORE_EXIT_HALT);
	return vm;
}

/* All of its memory. */
static inline uint8_t *memory_of(vcore_vm *vm)
{
	uint8_t *bytes = malloc(RAM);

	OK(vcore_memory_read(vm, 0, bytes, RAM));
	return bytes;
}

static inline void write_page(vcore_vm *vm, uint32_t page, uint32_t value)
{
	uint32_t words[PAGE / 4];

	for (uint32_t i = 0; i < PAGE / 4; i++)
		words[i] = value ? value * 2654435761u + i * i : 0;
	OK(vcore_memory_write(vm, DATA + page * PAGE, words, PAGE));
}

static inline vcore_snapshot *take(vcore_vm *vm)
{
	vcore_snapshot *s;

	OK(vcore_snapshot_take(vm, &s));
	return s;
}

static inline vcore_vm *clone_of(vcore_snapshot *s)
{
	vcore_vm *vm;

	OK(vcore_snapshot_clone(s, NULL, &vm));
	return vm;
}

static inline int save_with(vcore_snapshot *s, const char *to, uint32_t flags, vcore_snapshot *parent)
{
	struct vcore_snapshot_save_options o = {.size = sizeof o, .flags = flags, .parent = parent};

	return vcore_snapshot_save(s, to, &o);
}

static inline int load_with(const char *from, uint32_t flags, vcore_snapshot *parent, vcore_snapshot **s)
{
	struct vcore_snapshot_load_options o = {.size = sizeof o, .flags = flags, .parent = parent};

	return vcore_snapshot_load(from, &o, s);
}

static inline vcore_snapshot *load(const char *from, vcore_snapshot *parent)
{
	vcore_snapshot *s;

	OK(load_with(from, 0, parent, &s));
	return s;
}

/* A clone of the snapshot has this memory, and counts on from there. */
static inline void check_clone(vcore_snapshot *s, const uint8_t *memory, uint64_t count)
{
	vcore_vm *twin = clone_of(s);
	uint8_t *there = memory_of(twin);

	ck_assert(!memcmp(there, memory, RAM));
	ck_assert_uint_eq(api_rax(twin), count);
	api_run(twin, VCORE_EXIT_HALT);
	ck_assert_uint_eq(api_rax(twin), count + 1);
	free(there);
	vcore_vm_unref(twin);
}

static inline struct stat stat_of(const char *file)
{
	struct stat st;

	ck_assert_int_eq(stat(file, &st), 0);
	return st;
}

static inline void check_same(vcore_snapshot *a, vcore_snapshot *b)
{
	struct vcore_snapshot_info x = {.size = sizeof x}, y = {.size = sizeof y};

	OK(vcore_snapshot_get_info(a, &x));
	OK(vcore_snapshot_get_info(b, &y));
	ck_assert_mem_eq(x.id, y.id, sizeof x.id);
	ck_assert_uint_eq(x.machine, y.machine);
	ck_assert_uint_eq(x.backend, y.backend);
	ck_assert_uint_eq(x.vcpus, y.vcpus);
	ck_assert_uint_eq(x.devices, y.devices);
	ck_assert_uint_eq(x.slots, y.slots);
	ck_assert_uint_eq(x.memory, y.memory);
	ck_assert_uint_eq(x.time_ns, y.time_ns);
}

#endif
