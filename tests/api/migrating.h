/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest that writes while it is moved. */
#ifndef MIGRATING_H
#define MIGRATING_H

#include "api.h"

#define COUNT  0x5000u
#define MIRROR 0x5004u
#define BUFFER 0x40000u
#define PAGES  64u

/*
 * A writer that never rests: each turn, the count goes up, and is written into every page of a buffer; at the end of a
 * turn, into MIRROR.
 *   turn: inc dword [COUNT]; mov eax, [COUNT]; mov edi, BUFFER; mov ecx, PAGES
 *   page: mov [edi], eax; add edi, 4096; loop page; mov [MIRROR], eax; jmp turn
 */
static const uint8_t writer[] = {0xff, 0x05, 0x00, 0x50, 0x00,  0x00, 0xa1, 0x00, 0x50, 0x00, 0x00, 0xbf, 0x00,
                                 0x00, 0x04, 0x00, 0xb9, PAGES, 0x00, 0x00, 0x00, 0x89, 0x07, 0x81, 0xc7, 0x00,
                                 0x10, 0x00, 0x00, 0xe2, 0xf6,  0xa3, 0x04, 0x50, 0x00, 0x00, 0xeb, 0xda};

static inline vcore_vm *writing(int backend)
{
	vcore_vm *vm = api_vm(backend, 1);

	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, writer, sizeof writer);
	return vm;
}

/* The guest runs, and what it wrote is all there. */
static inline uint32_t goes_on(vcore_vm *vm, uint32_t from)
{
	uint32_t count, mirror;

	for (unsigned n = 0; api_word(vm, MIRROR) < from + 10; n++) {
		ck_assert_uint_lt(n, 20000);
		api_pause_ms(1);
	}
	OK(vcore_vm_pause(vm));
	count = api_word(vm, COUNT);
	mirror = api_word(vm, MIRROR);
	ck_assert(mirror == count || mirror == count - 1);
	for (uint32_t page = 0; page < PAGES; page++) {
		uint32_t value = api_word(vm, BUFFER + page * 4096);

		ck_assert_msg(value == count || value == count - 1, "page %u: %u, count %u", page, value, count);
	}
	OK(vcore_vm_resume(vm));
	return count;
}

static inline struct vcore_migrate_info info_of(vcore_vm *vm)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	OK(vcore_migrate_get_info(vm, &info));
	return info;
}

#endif
