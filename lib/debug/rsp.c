/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "debug/rsp.h"

#include <stdio.h>
#include <string.h>

#include "core/util.h"

#define ESCAPE     '}'
#define ESCAPE_XOR 0x20
#define CTRL_C     3

int vc_rsp_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* ---- what the peer sends ---- */

enum state { OUTSIDE, INSIDE, SUM_HIGH, SUM_LOW };

static void begin(struct vc_rsp_in *in)
{
	in->state = INSIDE;
	in->sum = 0;
	in->length = 0;
	in->escape = in->bad = false;
}

static enum vc_rsp_event outside(struct vc_rsp_in *in, uint8_t byte)
{
	switch (byte) {
	case '$':
		begin(in);
		return VC_RSP_NOTHING;
	case '+':
		return VC_RSP_ACK;
	case '-':
		return VC_RSP_NAK;
	case CTRL_C:
		return VC_RSP_BREAK;
	default:
		return VC_RSP_NOTHING; /* noise on the line */
	}
}

static void inside(struct vc_rsp_in *in, uint8_t byte)
{
	if (byte == '#') {
		in->bad |= in->escape;
		in->state = SUM_HIGH;
		return;
	}
	in->sum += byte;
	if (byte == ESCAPE && !in->escape) {
		in->escape = true;
		return;
	}
	if (in->escape)
		byte ^= ESCAPE_XOR;
	in->escape = false;
	if (in->length == VC_RSP_MAX)
		in->bad = true;
	else
		in->payload[in->length++] = (char)byte;
}

static enum vc_rsp_event end(struct vc_rsp_in *in, int low)
{
	in->state = OUTSIDE;
	in->payload[in->length] = '\0';
	if (low < 0 || in->bad || (in->expected | low) != in->sum)
		return VC_RSP_BAD;
	return VC_RSP_PACKET;
}

enum vc_rsp_event vc_rsp_feed(struct vc_rsp_in *in, uint8_t byte)
{
	int digit = vc_rsp_digit((char)byte);

	if (byte == '$' && in->state != OUTSIDE) { /* '$' is escaped inside: the end of the last one was lost */
		begin(in);
		return VC_RSP_NOTHING;
	}
	switch (in->state) {
	case INSIDE:
		inside(in, byte);
		return VC_RSP_NOTHING;
	case SUM_HIGH:
		in->bad |= digit < 0;
		in->expected = (uint8_t)((unsigned)digit << 4);
		in->state = SUM_LOW;
		return VC_RSP_NOTHING;
	case SUM_LOW:
		return end(in, digit);
	default:
		return outside(in, byte);
	}
}

/* ---- what is sent ---- */

void vc_rsp_clear(struct vc_rsp_out *out)
{
	out->length = 0;
	out->full = false;
}

void vc_rsp_bytes(struct vc_rsp_out *out, const void *bytes, size_t length)
{
	size_t room = sizeof out->payload - out->length;

	if (length > room) {
		length = room;
		out->full = true;
	}
	memcpy(out->payload + out->length, bytes, length);
	out->length += length;
}

void vc_rsp_text(struct vc_rsp_out *out, const char *format, ...)
{
	char text[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n > 0)
		vc_rsp_bytes(out, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void vc_rsp_hex(struct vc_rsp_out *out, const void *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *p = bytes;

	for (size_t i = 0; i < length; i++) {
		char pair[2] = {digits[p[i] >> 4], digits[p[i] & 15]};

		vc_rsp_bytes(out, pair, sizeof pair);
	}
}

void vc_rsp_error(struct vc_rsp_out *out, int error)
{
	vc_rsp_clear(out);
	vc_rsp_text(out, "E%02x", (unsigned)error & 0xff);
}

size_t vc_rsp_frame(const struct vc_rsp_out *out, char frame[VC_RSP_FRAME_MAX])
{
	size_t n = 0;
	uint8_t sum = 0;

	frame[n++] = '$';
	for (size_t i = 0; i < out->length; i++) {
		char c = out->payload[i];

		if (c == '$' || c == '#' || c == ESCAPE || c == '*') {
			frame[n++] = ESCAPE;
			sum += ESCAPE;
			c ^= ESCAPE_XOR;
		}
		frame[n++] = c;
		sum += (uint8_t)c;
	}
	frame[n++] = '#';
	frame[n++] = "0123456789abcdef"[sum >> 4];
	frame[n++] = "0123456789abcdef"[sum & 15];
	return n;
}

/* ---- arguments ---- */

bool vc_rsp_take(struct vc_rsp_args *args, const char *word)
{
	size_t n = strlen(word);

	if (vc_rsp_left(args) < n || memcmp(args->at, word, n) != 0)
		return false;
	args->at += n;
	return true;
}

bool vc_rsp_take_number(struct vc_rsp_args *args, uint64_t *value)
{
	const char *start = args->at;
	uint64_t sum = 0;

	for (; args->at < args->end && vc_rsp_digit(*args->at) >= 0; args->at++) {
		if (sum >> 60) { /* would not fit */
			args->at = start;
			return false;
		}
		sum = sum << 4 | (uint64_t)vc_rsp_digit(*args->at);
	}
	*value = sum;
	return args->at > start;
}

bool vc_rsp_take_thread(struct vc_rsp_args *args, int64_t *thread)
{
	uint64_t number;

	if (vc_rsp_take(args, "-1")) {
		*thread = -1;
		return true;
	}
	if (!vc_rsp_take_number(args, &number) || number > INT32_MAX)
		return false;
	*thread = (int64_t)number;
	return true;
}

bool vc_rsp_take_hex(struct vc_rsp_args *args, void *bytes, size_t length)
{
	uint8_t *p = bytes;

	if (vc_rsp_left(args) / 2 < length)
		return false;
	for (size_t i = 0; i < length; i++) {
		int high = vc_rsp_digit(args->at[2 * i]), low = vc_rsp_digit(args->at[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		p[i] = (uint8_t)(high << 4 | low);
	}
	args->at += 2 * length;
	return true;
}
