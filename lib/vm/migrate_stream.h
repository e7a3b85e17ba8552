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
 *   HELLO   S  on each connection: version (the argument); 16 bytes: a random number, the same on all of them; u32 what
 * S will make use of, enum vc_mig_feature; u32 number of connections n, up to 16; u32 which one this is, from 0. More
 * may follow, of later versions. D refuses what it does not have, with a sentence MACHINE S  as vc_snapshot_encode():
 * what the vm is now, for D to make one of its kind READY   D  it is made, with memory of zeroes ROUND   S  on each
 * connection: memory is gone through for the argument's time, from 1 on, or 0: there are no more; u64 pages that are
 * looked at in it. What follows is taken when all connections have come so far: an older copy of a page does not
 * overtake a newer one PAGES   S  any number of them, on any connection, argument: number of runs n; n times u32 slot,
 * u32 pages (bit 31: of zeroes, bit 30: as deltas, never both), u64 first page; then the contents of all runs that are
 * not of zeroes, one page after the other: 4096 bytes, or of a delta u16 length and so many bytes, as in
 *              migrate_delta.h, of what the page was when it was sent last
 *   PACKED  S  likewise (feature ZSTD): the contents are one zstd frame
 *   STATE   S  as vc_snapshot_encode(): the guest is stopped, and all of its memory sent
 *   LOADED  D  all of it was loaded
 *   GO      S  D has the vm from here on
 *   RUNS    D  so it is
 *
 * With post-copy (feature POSTCOPY, which D refuses in place of READY where it cannot) the last pages do not come
 * before STATE, but behind it, on the first connection:
 *
 *   ABSENT  S  any number of them before STATE, argument: slot; u64 first page (a multiple of 64), then one bit a page:
 *              what D has there is not what it is to have
 *   WANT    D  at any time from STATE on, argument: slot; u64 page, on which somebody waits
 *   PAGES   S  from STATE on, whole ones or zeroes: absent pages, each once; what is wanted first, and after RUNS the
 *              others
 *   END     S  that was all of them
 *   WHOLE   D  so it is; or, before END: the vm has ended, and needs no more
 *
 * When the connection is lost behind GO, the two sides go on over another one, on which comes first:
 *
 *   RECOVER S  version (the argument); 16 bytes: the number of HELLO. More may follow, of later versions
 *   ABSENT  D  as above, but in order, and any number of them: all that D still waits for, whatever was on its way
 *   READY   D  that was all; then WANT, PAGES, END, WHOLE as before
 *
 *   FAILED  both, in place of any other: a sentence, after which the sender is gone
 *
 * Of several connections, all but the first have HELLO, ROUND, PAGES and PACKED alone.
 */
#ifndef VC_VM_MIGRATE_STREAM_H
#define VC_VM_MIGRATE_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VC_MIG_VERSION        2u
#define VC_MIG_STREAMS        16u
#define VC_MIG_RUNS           64u /* in one frame */
#define VC_MIG_PAGES          64u /* with contents, in one frame */
#define VC_MIG_RUN_BYTES      16u
#define VC_MIG_TABLE_BYTES    (VC_MIG_RUNS * VC_MIG_RUN_BYTES)
#define VC_MIG_CONTENTS_BYTES (VC_MIG_PAGES * 4096u)
#define VC_MIG_ZEROES         (1u << 31) /* of a run */
#define VC_MIG_DELTAS         (1u << 30)
#define VC_MIG_NO_ROUND       0u
#define VC_MIG_TIMEOUT_MS     10000u
#define VC_MIG_ABSENT_MAX     (64u << 10 | 8) /* bytes of payload */

enum vc_mig_feature {
	VC_MIG_ZSTD = 1u << 0,
	VC_MIG_DELTA = 1u << 1,
	VC_MIG_POSTCOPY = 1u << 2,
};

enum {
	VC_MIG_HELLO_NUMBER = 0,
	VC_MIG_HELLO_FEATURES = 16,
	VC_MIG_HELLO_COUNT = 20,
	VC_MIG_HELLO_INDEX = 24,
	VC_MIG_HELLO_BYTES = 28,
	VC_MIG_HELLO_MAX = 256, /* with what is not known yet */
};

#define VC_MIG_NUMBER_BYTES 16u /* of a migration, in HELLO and RECOVER */

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
	VC_MIG_ROUND,
	VC_MIG_PACKED,
	VC_MIG_ABSENT,
	VC_MIG_WANT,
	VC_MIG_END,
	VC_MIG_WHOLE,
	VC_MIG_RECOVER,
	VC_MIG_KINDS,
};

/* Frames of these kinds may come; FAILED always may. */
#define VC_MIG_TAKES_ALL     UINT32_MAX
#define VC_MIG_TAKES_HELLO   (1u << VC_MIG_HELLO)
#define VC_MIG_TAKES_RECOVER (1u << VC_MIG_RECOVER)
#define VC_MIG_TAKES_MEMORY  (1u << VC_MIG_ROUND | 1u << VC_MIG_PAGES_FRAME | 1u << VC_MIG_PACKED)

/* Used by one thread. */
struct vc_mig_stream {
	int fd;           /* a stream socket, ours; it is never waited for inside send() and recv() */
	int cancel_fd;    /* polls readable: give up; -1: nobody can */
	int stop_fd;      /* likewise: another connection has failed */
	uint32_t takes;   /* kinds of frames */
	uint64_t idle_ns; /* how long nothing may move */
	/* when something has moved, host time, on any of the connections that share it; NULL: on none but this */
	_Atomic uint64_t *moved;
	uint64_t deadline; /* host time at which it is over; UINT64_MAX: never */
	/* Called before each wait and each frame sent; when it wants to be called next, host time. NULL: nobody */
	uint64_t (*tick)(void *ctx, uint64_t now);
	void *ctx;
	uint32_t frames_out, frames_in;
	_Atomic uint64_t bytes_out, bytes_in; /* others read them */
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
/* After a failure: the peer sees the end, whoever else has the descriptor. What was sent can still be read. */
void vc_mig_stream_shutdown(struct vc_mig_stream *stream);
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
/* Another descriptor is readable: 1; it is not until then, host time: 0; or as above. */
int vc_mig_wait_readable(struct vc_mig_stream *stream, int fd, uint64_t then);
/* Why the peer does not listen any more, where that is the error, is what it said last: the error to return. */
int vc_mig_peer_reason(struct vc_mig_stream *stream, int error);
/* Something has come, or the peer is gone. */
bool vc_mig_has_word(const struct vc_mig_stream *stream);
/* Until then, host time; 0, or as above. */
int vc_mig_wait_until(struct vc_mig_stream *stream, uint64_t then);
/* Tell the peer why it ends, if that can be done at once. Keeps vcore_error_message(). */
void vc_mig_tell_failure(struct vc_mig_stream *stream);

#endif
