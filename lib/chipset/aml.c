/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chipset/aml.h"

#include <ctype.h>
#include <stdlib.h>

#include "core/util.h"

enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
};

void vc_aml_bytes(struct vc_aml *aml, const void *bytes, size_t length)
{
	if (aml->overflow || length > aml->capacity - aml->length) {
		aml->overflow = true;
		return;
	}
	memcpy(aml->data + aml->length, bytes, length);
	aml->length += length;
}

void vc_aml_byte(struct vc_aml *aml, uint8_t byte)
{
	vc_aml_bytes(aml, &byte, 1);
}

void vc_aml_integer(struct vc_aml *aml, uint64_t value)
{
	if (value <= 1) {
		vc_aml_byte(aml, value ? OP_ONE : OP_ZERO);
	} else if (value <= UINT8_MAX) {
		vc_aml_byte(aml, OP_BYTE);
		vc_aml_bytes(aml, &value, 1);
	} else if (value <= UINT16_MAX) {
		vc_aml_byte(aml, OP_WORD);
		vc_aml_bytes(aml, &value, 2);
	} else if (value <= UINT32_MAX) {
		vc_aml_byte(aml, OP_DWORD);
		vc_aml_bytes(aml, &value, 4);
	} else {
		vc_aml_byte(aml, OP_QWORD);
		vc_aml_bytes(aml, &value, 8);
	}
}

void vc_aml_string(struct vc_aml *aml, const char *string)
{
	vc_aml_byte(aml, OP_STRING);
	vc_aml_bytes(aml, string, strlen(string) + 1);
}

void vc_aml_name(struct vc_aml *aml, const char *name)
{
	vc_aml_byte(aml, OP_NAME);
	vc_aml_bytes(aml, name, 4);
}

static bool is_eisa_id(const char *id)
{
	for (unsigned i = 0; i < 7; i++) {
		bool fits =
		    i < 3 ? id[i] >= 'A' && id[i] <= 'Z' : isdigit((unsigned char)id[i]) || (id[i] >= 'A' && id[i] <= 'F');

		if (!fits)
			return false;
	}
	return id[7] == '\0';
}

/* Three letters of five bits, four hexadecimal digits, in big-endian byte order (ACPI 6.4, 19.3.4 "EISA ID"). */
void vc_aml_eisa_id(struct vc_aml *aml, const char *id)
{
	uint32_t letters = (uint32_t)(id[0] - 0x40) << 10 | (uint32_t)(id[1] - 0x40) << 5 | (uint32_t)(id[2] - 0x40);
	uint32_t value = letters << 16 | (uint32_t)strtoul(id + 3, NULL, 16);

	vc_aml_byte(aml, OP_DWORD);
	value = __builtin_bswap32(value);
	vc_aml_bytes(aml, &value, 4);
}

void vc_aml_hid(struct vc_aml *aml, const char *id)
{
	vc_aml_name(aml, "_HID");
	if (is_eisa_id(id))
		vc_aml_eisa_id(aml, id);
	else
		vc_aml_string(aml, id);
}

size_t vc_aml_open(struct vc_aml *aml, enum vc_aml_op op)
{
	if (op > 0xff)
		vc_aml_byte(aml, (uint8_t)(op >> 8));
	vc_aml_byte(aml, (uint8_t)op);
	return aml->length;
}

/*
 * Puts the package length (ACPI 6.4, 20.2.4) in front of what was written since. It counts itself: one byte up to 63,
 * else two to four bytes whose first one tells how many follow and holds the low four bits.
 */
void vc_aml_close(struct vc_aml *aml, size_t start)
{
	size_t content = aml->length - start, total;
	uint8_t encoded[4];
	unsigned extra = 0;

	while (extra < 3 && content + extra + 1 >= (extra ? (size_t)1 << (4 + 8 * extra) : 64))
		extra++;
	total = content + extra + 1;
	encoded[0] = extra ? (uint8_t)(extra << 6 | (total & 0xf)) : (uint8_t)total;
	for (unsigned i = 0; i < extra; i++)
		encoded[1 + i] = (uint8_t)(total >> (4 + 8 * i));
	vc_aml_bytes(aml, encoded, extra + 1); /* makes room, or notes the overflow */
	if (aml->overflow)
		return;
	memmove(aml->data + start + extra + 1, aml->data + start, content);
	memcpy(aml->data + start, encoded, extra + 1);
}

static void put(struct vc_aml_resources *res, const void *bytes, size_t length)
{
	if (length > sizeof res->bytes - res->length) {
		res->overflow = true;
		return;
	}
	memcpy(res->bytes + res->length, bytes, length);
	res->length += length;
}

void vc_aml_io(struct vc_aml_resources *res, uint16_t base, uint8_t length)
{
	/* small item 8, 7 bytes; decodes 16 bits */
	uint8_t item[8] = {0x47, 1, 0, 0, 0, 0, 1, length};

	vc_st16(item + 2, base);
	vc_st16(item + 4, base);
	put(res, item, sizeof item);
}

void vc_aml_irq(struct vc_aml_resources *res, unsigned irq)
{
	uint8_t item[3] = {0x22}; /* small item 4 without flags: a mask */

	vc_st16(item + 1, (uint16_t)(1u << irq));
	put(res, item, sizeof item);
}

static void put_interrupt(struct vc_aml_resources *res, uint32_t gsi, uint8_t flags)
{
	uint8_t item[9] = {0x89, 6, 0, flags, 1};

	vc_st32(item + 5, gsi);
	put(res, item, sizeof item);
}

/* Consumer, level, active high, exclusive. */
void vc_aml_interrupt(struct vc_aml_resources *res, uint32_t gsi)
{
	put_interrupt(res, gsi, 0x01);
}

void vc_aml_interrupt_edge(struct vc_aml_resources *res, uint32_t gsi)
{
	put_interrupt(res, gsi, 0x03);
}

/* Word, DWord or QWord address space descriptor: type 0 memory, 1 I/O, 2 bus numbers. */
static void put_range(struct vc_aml_resources *res, unsigned width, uint8_t type, bool consumer, uint8_t type_flags,
                      uint64_t first, uint64_t last)
{
	const uint64_t fields[5] = {0 /* granularity */, first, last, 0 /* translation */, last - first + 1};
	const uint8_t tag = width == 2 ? 0x88 : width == 4 ? 0x87 : 0x8a;
	/* flags: minimum and maximum are fixed */
	const uint8_t head[6] = {tag, (uint8_t)(3 + 5 * width), 0, type, (uint8_t)(0x0c | consumer), type_flags};

	put(res, head, sizeof head);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(fields); i++)
		put(res, &fields[i], width);
}

void vc_aml_memory(struct vc_aml_resources *res, uint64_t base, uint64_t length)
{
	uint8_t item[12] = {0x86, 9, 0, 1 /* writable */};

	if (base > UINT32_MAX || length > UINT32_MAX) {
		put_range(res, 8, 0, true, 1, base, base + length - 1);
		return;
	}
	vc_st32(item + 4, (uint32_t)base);
	vc_st32(item + 8, (uint32_t)length);
	put(res, item, sizeof item);
}

void vc_aml_bus_window(struct vc_aml_resources *res, uint16_t first, uint16_t last)
{
	put_range(res, 2, 2, false, 0, first, last);
}

void vc_aml_io_window(struct vc_aml_resources *res, uint16_t first, uint16_t last)
{
	put_range(res, 2, 1, false, 3 /* ISA and other ports */, first, last);
}

void vc_aml_memory_window(struct vc_aml_resources *res, uint64_t first, uint64_t last)
{
	put_range(res, last > UINT32_MAX ? 8 : 4, 0, false, 1 /* writable, not cacheable */, first, last);
}

void vc_aml_crs(struct vc_aml *aml, const struct vc_aml_resources *res)
{
	const uint8_t end_tag[2] = {0x79, 0}; /* checksum 0: not checked */
	size_t buffer;

	aml->overflow |= res->overflow;
	vc_aml_name(aml, "_CRS");
	buffer = vc_aml_open(aml, VC_AML_BUFFER);
	vc_aml_integer(aml, res->length + sizeof end_tag);
	vc_aml_bytes(aml, res->bytes, res->length);
	vc_aml_bytes(aml, end_tag, sizeof end_tag);
	vc_aml_close(aml, buffer);
}
