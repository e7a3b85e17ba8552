/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The target description (GDB manual, appendix G): which registers there are, in the features gdb knows x86-64 by. */
#include <stdio.h>

#include "debug/regs.h"

/* Bits of a flags register by name: "NAME" at its number. */
struct flag {
	const char *name;
	uint8_t first, last;
};

static const struct flag eflags[] = {
    {"CF", 0, 0},   {"PF", 2, 2},   {"AF", 4, 4},    {"ZF", 6, 6},     {"SF", 7, 7},   {"TF", 8, 8},
    {"IF", 9, 9},   {"DF", 10, 10}, {"OF", 11, 11},  {"IOPL", 12, 13}, {"NT", 14, 14}, {"RF", 16, 16},
    {"VM", 17, 17}, {"AC", 18, 18}, {"VIF", 19, 19}, {"VIP", 20, 20},  {"ID", 21, 21}, {0},
};
static const struct flag mxcsr[] = {
    {"IE", 0, 0},   {"DE", 1, 1},   {"ZE", 2, 2},   {"OE", 3, 3}, {"UE", 4, 4},   {"PE", 5, 5},
    {"DAZ", 6, 6},  {"IM", 7, 7},   {"DM", 8, 8},   {"ZM", 9, 9}, {"OM", 10, 10}, {"UM", 11, 11},
    {"PM", 12, 12}, {"RC", 13, 14}, {"FZ", 15, 15}, {0},
};

/* The views of an XMM register. */
struct view {
	const char *field, *element;
	unsigned count;
};
static const struct view views[] = {
    {"v4_float", "ieee_single", 4},
    {"v2_double", "ieee_double", 2},
    {"v16_int8", "int8", 16},
    {"v8_int16", "int16", 8},
    {"v4_int32", "int32", 4},
    {"v2_int64", "int64", 2},
    {0},
};

struct text {
	char *at;
	size_t length;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->at + t->length, VC_GDB_DESCRIPTION_MAX - t->length, format, args);
	va_end(args);
	if (n > 0)
		t->length += (size_t)n;
	if (t->length >= VC_GDB_DESCRIPTION_MAX) /* a test holds the table against the room */
		t->length = VC_GDB_DESCRIPTION_MAX - 1;
}

static void add_flags(struct text *t, const char *id, const struct flag *flag)
{
	add(t, "<flags id=\"%s\" size=\"4\">", id);
	for (; flag->name; flag++)
		add(t, "<field name=\"%s\" start=\"%u\" end=\"%u\"%s/>", flag->name, flag->first, flag->last,
		    flag->first == flag->last ? " type=\"bool\"" : " type=\"uint32\"");
	add(t, "</flags>");
}

static void add_views(struct text *t)
{
	for (const struct view *v = views; v->field; v++)
		add(t, "<vector id=\"%s\" type=\"%s\" count=\"%u\"/>", v->field, v->element, v->count);
	add(t, "<union id=\"vec128\">");
	for (const struct view *v = views; v->field; v++)
		add(t, "<field name=\"%s\" type=\"%s\"/>", v->field, v->field);
	add(t, "<field name=\"uint128\" type=\"uint128\"/></union>");
}

static void add_types(struct text *t, unsigned feature)
{
	if (feature == VC_GDB_CORE) {
		add_flags(t, "i386_eflags", eflags);
	} else if (feature == VC_GDB_SSE) {
		add_views(t);
		add_flags(t, "i386_mxcsr", mxcsr);
	}
}

size_t vc_gdb_describe(bool avx, char text[VC_GDB_DESCRIPTION_MAX])
{
	static const char *const names[VC_GDB_FEATURES] = {[VC_GDB_CORE] = "org.gnu.gdb.i386.core",
	                                                   [VC_GDB_SSE] = "org.gnu.gdb.i386.sse",
	                                                   [VC_GDB_SEGMENTS] = "org.gnu.gdb.i386.segments",
	                                                   [VC_GDB_SYSTEM] = "org.libvirtcore.i386.system",
	                                                   [VC_GDB_AVX] = "org.gnu.gdb.i386.avx"};
	struct text t = {.at = text};
	unsigned number = 0, count = vc_gdb_reg_count(avx);

	add(&t, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">"
	        "<architecture>i386:x86-64</architecture><osabi>none</osabi>");
	while (number < count) {
		unsigned feature = vc_gdb_regs[number].feature;

		add(&t, "<feature name=\"%s\">", names[feature]);
		add_types(&t, feature);
		for (; number < count && vc_gdb_regs[number].feature == feature; number++) {
			const struct vc_gdb_reg *reg = &vc_gdb_regs[number];

			add(&t, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s/>", reg->name, reg->bytes * 8, reg->type,
			    feature == VC_GDB_SYSTEM ? " group=\"system\"" : "");
		}
		add(&t, "</feature>");
	}
	add(&t, "</target>");
	return t.length;
}
