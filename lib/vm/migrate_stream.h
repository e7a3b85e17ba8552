/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection between the two sides of a migration. Frames in both directions, all numbers little-endian:
 *
 *   head     0 magic "VCMG", 4 u32 kind, 8 u32 number in this direction from 0, 12 u32 length of the payload, 16 u32
 *            CRC-32C of the payload, 20 u32 argument, 24 u32 0, 28 u32 CRC-32C of bytes 0 to 27
 *   payload
 *
 * In this order (S: the source, D: the destination), argument 0 where nothing is said:
 *
 *   HELLO   S  version (the argument), 16 bytes: a random number
 *   MACHINE S  as vc_snapshot_encode(): what the vm is now, for D to make one of its kind
 *   READY   D  it is made, with memory of zeroes
 *   PAGES   S  any number of them, argument: number of runs n; n times u32 slot, u32 pages (bit 31: of zeroes), u64
 *              first page; then the contents of all runs that are not of zeroes, one after the other
 *   STATE   S  as vc_snapshot_encode(): the guest is stopped, and all of its memory sent
 *   LOADED  D  all of it was loaded
 *   GO      S  D has the vm from here on
 *   RUNS    D  so it is
 *
 * With post-copy, of which MACHINE tells by the argument 1 and which D refuses in place of READY, the last pages do not
 * come before STATE, but behind it:
 *
 *   ABSENT  S  any number of them before STATE, after all PAGES, argument: slot; u64 first page (a multiple of 64),
 * then one bit a page: what D has there is not what it is to have WANT    D  at any time from STATE on, argument: slot;
 * u64 page, on which somebody waits PAGES   S  from STATE on, as above: absent pages, each once; what is wanted first,
 * and after RUNS the others END     S  that was all of them WHOLE   D  so it is
 *
 *   FAILED  both, in place of any other: a sentence, after which the sender is gone
 */
#ifndef VC_VM_MIGRATE_STREAM_H
#define VC_VM_MIGRATE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VC_MIG_VERSION    2u
#define VC_MIG_RUNS       64u /* in one frame */
#define VC_MIG_PAGES      64u /* with contents, in one frame */
#define VC_MIG_RUN_BYTES  16u
#define VC_MIG_ZEROES     (1u << 31)
#define VC_MIG_TIMEOUT_MS 10000u
#define VC_MIG_POSTCOPY   1u              /* argument of MACHINE */
#define VC_MIG_ABSENT_MAX (64u << 10 | 8) /* bytes of payload */

enum vc_mig_kind {
	VC_MIG_HELLO,
	VC_MIG_MACHINE,
	VC_MIG_READY,
	VC_MIG_PAGES_FRAME,
	VC_MIG_STATE,
	VC_MIG_LOADED,
	VC_MIG_GO,
	VC_MIG_RUNS_FRAME,
	VC_MIG_FAILED,
	VC_MIG_ABSENT,
	VC_MIG_WANT,
	VC_MIG_END,
	VC_MIG_WHOLE,
	VC_MIG_KINDS,
};

/* Used by one thread. */
struct vc_mig_stream {
	int fd;            /* a stream socket, ours; it is never waited for inside send() and recv() */
	int cancel_fd;     /* polls readable: give up; -1: nobody can */
	uint64_t idle_ns;  /* how long nothing may move */
	uint64_t deadline; /* host time at which it is over; UINT64_MAX: never */
	/* Called before each wait and each frame sent; when it wants to be called next, host time. NULL: nobody */
	uint64_t (*tick)(void *ctx, uint64_t now);
	void *ctx;
	uint32_t frames_out, frames_in;
	uint64_t bytes_out;
};

struct vc_mig_frame {
	enum vc_mig_kind kind;
	uint32_t argument;
	uint32_t length;
	uint8_t *payload; /* free(); NULL: of length 0 */
};

/* 0 or -errno with a sentence. -ENOTSOCK; -ENOMEM: of duplicating. */
int vc_mig_stream_open(struct vc_mig_stream *stream, int fd, uint32_t timeout_ms);
void vc_mig_stream_close(struct vc_mig_stream *stream);
/* All of it was given to the socket: 0. -ECANCELED, -ETIMEDOUT, -EREMOTEIO with the peer's sentence, errno. */
int vc_mig_send(struct vc_mig_stream *stream, enum vc_mig_kind kind, uint32_t argument, const void *payload,
                uint32_t length);
/* The next frame; whole, checked, and of no more than its kind may have. -ECONNRESET: there is none; -EPROTO; others as
 * above. */
int vc_mig_receive(struct vc_mig_stream *stream, struct vc_mig_frame *frame);
/* The next frame is of that kind and has no payload. */
int vc_mig_expect(struct vc_mig_stream *stream, enum vc_mig_kind kind);
/* The socket, which was told to connect without waiting, is connected. 0 or -errno */
int vc_mig_wait_connected(struct vc_mig_stream *stream);
/* Whether to go on, for who sends without having to wait: 0; -ECANCELED, -ETIMEDOUT */
int vc_mig_look_up(struct vc_mig_stream *stream);
/* Something has come, or the peer is gone. */
bool vc_mig_has_word(const struct vc_mig_stream *stream);
/* Until then, host time; 0, or as above. */
int vc_mig_wait_until(struct vc_mig_stream *stream, uint64_t then);
/* Tell the peer why it ends, if that can be done at once. Keeps vcore_error_message(). */
void vc_mig_tell_failure(struct vc_mig_stream *stream);

#endif
