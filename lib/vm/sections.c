/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/sections.h"

#include <stdlib.h>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/util.h"

#define MAGIC   "\x89VCSECT\n"
#define VERSION 1u
#define HEAD    32u /* bytes of the head, and of what precedes the contents of a section */
#define ALIGN   8u

/* Of the head. */
enum { HEAD_MAGIC = 0, HEAD_VERSION = 8, HEAD_COUNT = 12, HEAD_LENGTH = 16, HEAD_ZERO = 24, HEAD_CRC = 28 };
/* Of a section. */
enum { SECTION_KIND = 0, SECTION_VERSION = 4, SECTION_LENGTH = 8, SECTION_INDEX = 16, SECTION_CRC = 20 };

/* ---- writing ---- */

/* `more` bytes of zeroes at the end. */
static uint8_t *grow(struct vc_sections_out *out, size_t more)
{
	uint8_t *at;

	if (out->error)
		return NULL;
	if (out->room - out->length < more) {
		size_t room = (out->length + more) * 2;
		uint8_t *data = realloc(out->data, room);

		if (!data) {
			out->error = vc_fail(ENOMEM, "no memory for %zu bytes of a snapshot", room);
			return NULL;
		}
		out->data = data;
		out->room = room;
	}
	at = out->data + out->length;
	memset(at, 0, more);
	out->length += more;
	return at;
}

uint8_t *vc_sections_add(struct vc_sections_out *out, uint32_t kind, uint32_t version, size_t length)
{
	uint8_t *at;

	if (!out->length)
		grow(out, HEAD);
	at = grow(out, HEAD + VC_ALIGN_UP(length, ALIGN));
	if (!at)
		return NULL;
	vc_st32(at + SECTION_KIND, kind);
	vc_st32(at + SECTION_VERSION, version);
	vc_st64(at + SECTION_LENGTH, length);
	vc_st32(at + SECTION_INDEX, out->count++);
	return at + HEAD;
}

int vc_sections_end(struct vc_sections_out *out, uint8_t **data, size_t *length)
{
	uint8_t *at = out->data;

	if (out->error || !at) {
		vc_sections_drop(out);
		return out->error ? out->error : vc_fail(EINVAL, "there are no sections");
	}
	memcpy(at + HEAD_MAGIC, MAGIC, 8);
	vc_st32(at + HEAD_VERSION, VERSION);
	vc_st32(at + HEAD_COUNT, out->count);
	vc_st64(at + HEAD_LENGTH, out->length);
	vc_st32(at + HEAD_CRC, vc_crc32c(0, at, HEAD_CRC));
	at += HEAD;
	for (uint32_t i = 0; i < out->count; i++) {
		size_t size = vc_ld64(at + SECTION_LENGTH);

		vc_st32(at + SECTION_CRC, vc_crc32c(0, at + HEAD, size));
		vc_st32(at + HEAD_CRC, vc_crc32c(0, at, HEAD_CRC));
		at += HEAD + VC_ALIGN_UP(size, ALIGN);
	}
	*data = out->data;
	*length = out->length;
	*out = (struct vc_sections_out){0};
	return 0;
}

void vc_sections_drop(struct vc_sections_out *out)
{
	free(out->data);
	out->data = NULL;
	out->length = out->room = out->count = 0;
}

/* ---- reading ---- */

int vc_sections_open(struct vc_sections *in, const uint8_t *data, size_t length)
{
	uint64_t all;

	*in = (struct vc_sections){0};
	if (length < HEAD)
		return vc_fail(EINVAL, "the sections are cut off: there are %zu bytes of a head of %u", length, HEAD);
	if (memcmp(data + HEAD_MAGIC, MAGIC, 8) != 0)
		return vc_fail(EINVAL, "there are no sections: they do not begin as sections do");
	if (vc_ld32(data + HEAD_VERSION) != VERSION)
		return vc_fail(EINVAL, "the sections are of version %u, this library knows %u", vc_ld32(data + HEAD_VERSION),
		               VERSION);
	if (vc_ld32(data + HEAD_CRC) != vc_crc32c(0, data, HEAD_CRC) || vc_ld32(data + HEAD_ZERO))
		return vc_fail(EINVAL, "the sections were altered: the checksum of their head is wrong");
	all = vc_ld64(data + HEAD_LENGTH);
	if (all > length || all < HEAD)
		return vc_fail(EINVAL, "the sections are cut off: there are %zu bytes of %llu", length,
		               (unsigned long long)all);
	in->data = data;
	in->length = (size_t)all;
	in->at = HEAD;
	in->count = vc_ld32(data + HEAD_COUNT);
	return 0;
}

/* What precedes the contents of a section, and that these are there. */
static int check_section(const struct vc_sections *in, const uint8_t *at, uint32_t kind, uint32_t version)
{
	size_t left = in->length - in->at;
	uint64_t length;

	if (in->next >= in->count || left < HEAD)
		return vc_fail(EINVAL, "section %u (%.4s) is missing", in->next, (const char *)&kind);
	if (vc_ld32(at + HEAD_CRC) != vc_crc32c(0, at, HEAD_CRC) || vc_ld32(at + HEAD_ZERO))
		return vc_fail(EINVAL, "section %u (%.4s) was altered: the checksum of its head is wrong", in->next,
		               (const char *)&kind);
	if (vc_ld32(at + SECTION_KIND) != kind || vc_ld32(at + SECTION_INDEX) != in->next)
		return vc_fail(EINVAL, "section %u is of kind %#x with number %u: expected %#x (%.4s)", in->next,
		               vc_ld32(at + SECTION_KIND), vc_ld32(at + SECTION_INDEX), kind, (const char *)&kind);
	if (vc_ld32(at + SECTION_VERSION) != version)
		return vc_fail(EINVAL, "section %u (%.4s) is of version %u, this library knows %u", in->next,
		               (const char *)&kind, vc_ld32(at + SECTION_VERSION), version);
	length = vc_ld64(at + SECTION_LENGTH);
	if (length > left - HEAD || VC_ALIGN_UP(length, ALIGN) > left - HEAD)
		return vc_fail(EINVAL, "section %u (%.4s) has %llu bytes: expected at most the %zu that are left", in->next,
		               (const char *)&kind, (unsigned long long)length, left - HEAD);
	return 0;
}

int vc_sections_take(struct vc_sections *in, uint32_t kind, uint32_t version, const uint8_t **data, size_t *length)
{
	const uint8_t *at = in->data + in->at;
	int r = check_section(in, at, kind, version);
	size_t size;

	if (r < 0)
		return r;
	size = vc_ld64(at + SECTION_LENGTH);
	if (vc_ld32(at + SECTION_CRC) != vc_crc32c(0, at + HEAD, size))
		return vc_fail(EINVAL, "section %u (%.4s) was altered: its checksum is wrong", in->next, (const char *)&kind);
	for (size_t i = size; i < VC_ALIGN_UP(size, ALIGN); i++)
		if (at[HEAD + i])
			return vc_fail(EINVAL, "section %u (%.4s) was altered: there is something behind its end", in->next,
			               (const char *)&kind);
	*data = at + HEAD;
	*length = size;
	in->at += HEAD + VC_ALIGN_UP(size, ALIGN);
	in->next++;
	return 0;
}

int vc_sections_close(const struct vc_sections *in)
{
	if (in->next != in->count || in->at != in->length)
		return vc_fail(EINVAL, "%u sections are read, there are %u, and %zu bytes more", in->next, in->count,
		               in->length - in->at);
	return 0;
}
