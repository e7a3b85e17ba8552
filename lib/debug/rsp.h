/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Packets of gdb's remote serial protocol (GDB manual, appendix E): "$payload#checksum", with binary payloads escaped
 * by
 * '}'. No sockets here, and nothing of the vm.
 */
#ifndef VC_DEBUG_RSP_H
#define VC_DEBUG_RSP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VC_RSP_MAX 16384 /* bytes of payload, as told to the peer */

/* ---- what the peer sends ---- */

enum vc_rsp_event {
	VC_RSP_NOTHING = 0, /* more is needed */
	VC_RSP_PACKET,      /* payload[0..length), unescaped and followed by a zero byte */
	VC_RSP_BAD,         /* wrong checksum, too long, or a broken escape: to be sent again */
	VC_RSP_ACK,
	VC_RSP_NAK,
	VC_RSP_BREAK, /* Ctrl-C */
};

/* Starts as all zeros. */
struct vc_rsp_in {
	uint8_t state, sum, expected;
	bool escape, bad;
	size_t length;
	char payload[VC_RSP_MAX + 1];
};

enum vc_rsp_event vc_rsp_feed(struct vc_rsp_in *in, uint8_t byte);

/* ---- what is sent ---- */

/* A payload in the making. What does not fit is left out, and `full` says so. */
struct vc_rsp_out {
	size_t length;
	bool full;
	char payload[VC_RSP_MAX];
};

void vc_rsp_clear(struct vc_rsp_out *out);
void vc_rsp_bytes(struct vc_rsp_out *out, const void *bytes, size_t length); /* as they are */
void vc_rsp_text(struct vc_rsp_out *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void vc_rsp_hex(struct vc_rsp_out *out, const void *bytes, size_t length); /* two digits a byte */
/* "Enn": the number is that of an errno, which gdb only shows. */
void vc_rsp_error(struct vc_rsp_out *out, int error);

#define VC_RSP_FRAME_MAX (2 * VC_RSP_MAX + 4)
/* The packet as it goes over the line: escaped, with checksum. Returns its length. */
size_t vc_rsp_frame(const struct vc_rsp_out *out, char frame[VC_RSP_FRAME_MAX]);

/* ---- arguments ---- */

/* What is left of a packet. The take functions advance over what they have understood, and else say false. */
struct vc_rsp_args {
	const char *at, *end;
};

int vc_rsp_digit(char c); /* 0 to 15; -1 */
bool vc_rsp_take(struct vc_rsp_args *args, const char *word);
/* A hex number of 1 to 16 significant digits. */
bool vc_rsp_take_number(struct vc_rsp_args *args, uint64_t *value);
/* A thread: 1 upwards; 0: any; -1: all. */
bool vc_rsp_take_thread(struct vc_rsp_args *args, int64_t *thread);
/* Exactly length bytes as hex digits. */
bool vc_rsp_take_hex(struct vc_rsp_args *args, void *bytes, size_t length);
static inline size_t vc_rsp_left(const struct vc_rsp_args *args)
{
	return (size_t)(args->end - args->at);
}

#endif
