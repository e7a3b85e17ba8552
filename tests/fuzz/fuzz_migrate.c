/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The destination of a migration: whatever comes over its connections is a vm or a refusal with a sentence. The input
 * is a byte, connections less one; then frames: u8 connection, u8 kind, u16 length of the payload, u32 argument,
 * payload. Heads and checksums are made here, or nothing would come behind them. The seeds are what
 * vcore_migrate_send() has sent. Frames whose connection has bit 7 set come over another one, by which a migration that
 * was interrupted is taken up again.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#include "mend.h"
#include "vm/migrate_stream.h"

#define CONNECTIONS  3u
#define INPUT_MAX    (96u << 10) /* sockets hold as much */
#define MEMORY_MAX   VC_MIB(16)
#define RUN_NS       1000000
#define RECORD_BYTES 8u
#define AGAIN        0x80u
#define TURNS        1000 /* of a millisecond, in which the end of the connections is seen */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct wires {
	uint32_t count;
	/* the last one is what it is taken up by */
	struct vc_mig_stream source[CONNECTIONS + 1];
	int32_t destination[CONNECTIONS + 1];
};

static void connect_all(struct wires *w)
{
	for (uint32_t i = 0; i <= w->count; i++) {
		int pair[2], room = 1 << 20;

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			abort();
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
		/* one that is full is not waited for */
		if (vc_mig_stream_open(&w->source[i], pair[0], 1) < 0)
			abort();
		close(pair[0]);
		w->destination[i] = pair[1];
	}
}

static void send_frame(struct wires *w, const uint8_t *record, uint32_t length)
{
	uint32_t kind = record[1] % VC_MIG_KINDS;
	uint8_t *payload = malloc(length + 1);

	if (!payload)
		abort();
	memcpy(payload, record + RECORD_BYTES, length);
	if (kind == VC_MIG_MACHINE || kind == VC_MIG_STATE)
		mend_sections(payload, length);
	vc_mig_send(&w->source[record[0] & AGAIN ? w->count : record[0] % w->count], kind, vc_ld32(record + 4), payload,
	            length);
	free(payload);
}

static void send_all(struct wires *w, const uint8_t *data, size_t size)
{
	while (size >= RECORD_BYTES) {
		uint32_t length = vc_ld16(data + 2);

		if (length > size - RECORD_BYTES)
			length = (uint32_t)size - RECORD_BYTES;
		send_frame(w, data, length);
		data += RECORD_BYTES + length;
		size -= RECORD_BYTES + length;
	}
	for (uint32_t i = 0; i <= w->count; i++)
		shutdown(w->source[i].fd, SHUT_WR);
}

/* What comes by post-copy after the connection has ended. */
static void take_up_again(const struct wires *w, vcore_vm *vm)
{
	struct vcore_migrate_recover_options o = {.size = sizeof o, .fd = w->destination[w->count]};
	struct vcore_migrate_info info = {.size = sizeof info, .state = VCORE_MIGRATE_POSTCOPY};

	for (unsigned n = 0; n < TURNS && info.state == VCORE_MIGRATE_POSTCOPY; n++) {
		vcore_migrate_get_info(vm, &info);
		if (info.state == VCORE_MIGRATE_POSTCOPY)
			usleep(1000);
	}
	if (info.state == VCORE_MIGRATE_INTERRUPTED && vcore_migrate_recover(vm, &o) < 0 && !*vcore_error_message())
		abort();
}

static void receive(const struct wires *w)
{
	struct vcore_clone_options clone = {.size = sizeof clone,
	                                    .backend = VCORE_BACKEND_EMU,
	                                    .engine = VCORE_ENGINE_INTERP,
	                                    .properties = safe_properties};
	struct vcore_migrate_receive_options o = {.size = sizeof o,
	                                          .fd = w->destination[0],
	                                          .more_fds = w->destination + 1,
	                                          .more_fd_count = w->count - 1,
	                                          .memory_limit = MEMORY_MAX,
	                                          .clone = &clone};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm;

	if (vcore_migrate_receive(&o, &vm) >= 0) {
		take_up_again(w, vm);
		vcore_vcpu_run(vcore_vm_vcpu(vm, 0), RUN_NS, &exit);
		vcore_vm_unref(vm);
	} else if (vm || !*vcore_error_message()) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wires w = {.count = 1};

	if (!size || size > INPUT_MAX)
		return 0;
	w.count += data[0] % CONNECTIONS;
	connect_all(&w);
	send_all(&w, data + 1, size - 1);
	receive(&w);
	for (uint32_t i = 0; i <= w.count; i++) {
		vc_mig_stream_close(&w.source[i]);
		close(w.destination[i]);
	}
	return 0;
}
