/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a peer sends to the gdb stub: bytes, packets made of them, and all that the packets do to a vm that stands
 * still. */
#include <stdlib.h>
#include <sys/eventfd.h>

#include "debug/debug.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

/* One vm for all: each input begins with gdb's coming and ends with its going. */
static vcore_vm *vm;
static struct vc_gdb *session;
static struct vc_rsp_in in;
static struct vc_rsp_out reply;
static char frame[VC_RSP_FRAME_MAX];

static void make(void)
{
	struct vcore_options o = {.size = sizeof o, .backend = VCORE_BACKEND_EMU, .memory = 2 << 20, .vcpus = 2};

	if (vcore_vm_new(&o, &vm) < 0 || vc_gdb_new(vm, eventfd(0, EFD_NONBLOCK), &session) < 0)
		abort();
}

static void packet(void)
{
	/* in memory of its own size: a look behind its end is seen */
	char *copy = malloc(in.length + 1);

	if (!copy)
		return;
	memcpy(copy, in.payload, in.length + 1);
	vc_gdb_packet(session, copy, in.length, &reply);
	if (vc_rsp_frame(&reply, frame) > sizeof frame)
		abort();
	if (session->running)
		vc_gdb_interrupt(session, &reply);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	if (!vm)
		make();
	memset(&in, 0, sizeof in);
	for (uint32_t i = 0; i < 2; i++)
		if (vcore_vcpu_set_mode(vcore_vm_vcpu(vm, i), (data && length ? data[0] : 0) % 3, 0x100000) < 0)
			abort();
	vc_gdb_attach(session);
	for (size_t i = 0; i < length; i++) {
		if (vc_rsp_feed(&in, data[i]) == VC_RSP_PACKET)
			packet();
	}
	/* what most inputs are not: a packet with a right checksum */
	if (length && length < VC_RSP_MAX) {
		memcpy(in.payload, data, length);
		in.payload[length] = '\0';
		in.length = length;
		packet();
	}
	vc_gdb_detach(session);
	return 0;
}
