/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sections: a number of byte strings in one, each with its kind, version, length and checksum. All numbers are
 * little-endian; all that is not said to be in use is 0, so that no bit of it can change unnoticed.
 *
 *   head      0 magic "\x89VCSECT\n", 8 u32 version (1), 12 u32 number of sections, 16 u64 length of all of it in
 * bytes, 24 u32 0, 28 u32 CRC-32C of bytes 0 to 27 section   0 u32 kind (four letters), 4 u32 version, 8 u64 length of
 * its contents, 16 u32 number in order from 0, 20 u32 CRC-32C of the contents, 24 u32 0, 28 u32 CRC-32C of bytes 0 to
 * 27; the contents; zeroes up to a multiple of 8
 */
#ifndef VC_VM_SECTIONS_H
#define VC_VM_SECTIONS_H

#include <stddef.h>
#include <stdint.h>

#define VC_SECTION_KIND(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* Being written; all zero at the beginning. */
struct vc_sections_out {
	uint8_t *data; /* NULL: there was no memory for it, or nothing yet */
	size_t length, room;
	uint32_t count;
	int error; /* 0, or -errno, which stays */
};
/* A further section with room for `length` bytes of contents, to be filled in before the next; NULL: no memory. */
uint8_t *vc_sections_add(struct vc_sections_out *out, uint32_t kind, uint32_t version, size_t length);
/* All of it, the caller's to free(). 0; -ENOMEM */
int vc_sections_end(struct vc_sections_out *out, uint8_t **data, size_t *length);
/* Instead of vc_sections_end(). */
void vc_sections_drop(struct vc_sections_out *out);

/* Being read, from first to last. The bytes are anybody's: they are checked, and must not change meanwhile. */
struct vc_sections {
	const uint8_t *data;
	size_t length, at;
	uint32_t count, next;
};
/* 0; -EINVAL with a sentence: cut off, altered, or of another version. More bytes may follow. */
int vc_sections_open(struct vc_sections *in, const uint8_t *data, size_t length);
/* The contents of the next section, which is of that kind and version. 0; -EINVAL */
int vc_sections_take(struct vc_sections *in, uint32_t kind, uint32_t version, const uint8_t **data, size_t *length);
/* 0; -EINVAL: there are sections left */
int vc_sections_close(const struct vc_sections *in);

#endif
