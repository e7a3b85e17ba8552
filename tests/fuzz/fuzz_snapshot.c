/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots' files: any bytes are a snapshot or a refusal with a sentence, and what is one can be cloned and run, or is
 * refused by the clone. Lengths and checksums are put right first, or nothing would come behind them. The seeds are
 * tests/snapshots, with less in them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#include "mend.h"

#define MEMORY_MAX VC_MIB(16)
#define VCPUS_MAX  4u
#define RUN_NS     1000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- checksums: as in snapshot_file.h ---- */

static void mend(uint8_t *file, uint64_t length)
{
	uint64_t sections;

	if (length < VC_PAGE_SIZE)
		return;
	sections = vc_ld64(file + VC_SNAP_HEAD_SECTIONS);
	if (sections < length) {
		vc_st64(file + VC_SNAP_HEAD_SECTIONS_LENGTH, length - sections);
		mend_sections(file + sections, length - sections);
	}
	vc_st64(file + VC_SNAP_HEAD_LENGTH, length);
	vc_st32(file + VC_SNAP_HEAD_CRC, vc_crc32c(0, file, VC_SNAP_HEAD_CRC));
}

/* ---- what becomes of it ---- */

static void go_on(vcore_snapshot *s)
{
	struct vcore_clone_options o = {
	    .size = sizeof o, .backend = VCORE_BACKEND_EMU, .engine = VCORE_ENGINE_INTERP, .properties = safe_properties};
	struct vcore_snapshot_info info = {.size = sizeof info};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm;

	if (vcore_snapshot_get_info(s, &info) < 0)
		abort();
	/* would cost much memory or time */
	if (info.memory > MEMORY_MAX || s->ram_low + s->ram_high > MEMORY_MAX || info.vcpus > VCPUS_MAX)
		return;
	if (vcore_snapshot_clone(s, &o, &vm) < 0) {
		if (!*vcore_error_message())
			abort();
		return;
	}
	vcore_vcpu_run(vcore_vm_vcpu(vm, 0), RUN_NS, &exit);
	vcore_vm_unref(vm);
}

static int make_file(const uint8_t *data, size_t size, char path[32])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	uint8_t *copy = malloc(size + 1);

	if (fd < 0 || !copy)
		abort();
	memcpy(copy, data, size);
	mend(copy, size);
	if (write(fd, copy, size) != (ssize_t)size)
		abort();
	free(copy);
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vcore_snapshot_load_options o = {.size = sizeof o, .flags = VCORE_SNAPSHOT_NO_VERIFY};
	vcore_snapshot *s;
	char path[32];
	int fd = make_file(data, size, path);

	if (vcore_snapshot_load(path, &o, &s) >= 0) {
		go_on(s);
		vcore_snapshot_unref(s);
	} else if (!*vcore_error_message()) {
		abort();
	}
	close(fd);
	return 0;
}
