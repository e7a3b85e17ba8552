/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A snapshot without the contents of its memory as bytes: sections (sections.h) of these kinds, in this order.
 *
 *   HEAD  one: the JSON header, an object with the keys that snapshot_header.c documents
 *   VCPU  one for each vcpu: the fields of struct vc_cpu_state in the order of the table in lib/cpu/state_codec.c, then
 *         those of struct vc_lapic_state: u32 version, u32 errors, u64 base, u64 tsc_deadline, 1024 bytes of registers
 *         in the layout of a LAPIC's page. Its version is that of the table of fields.
 *   DEVS  one for each device of the header, in that order: what its save gave, which has a version of its own
 *
 * All numbers are little-endian.
 */
#include "vm/snapshot_codec.h"

#include <stdlib.h>

#include "cpu/state_codec.h"
#include "vm/sections.h"

#define KIND_HEAD VC_SECTION_KIND('H', 'E', 'A', 'D')
#define KIND_VCPU VC_SECTION_KIND('V', 'C', 'P', 'U')
#define KIND_DEVS VC_SECTION_KIND('D', 'E', 'V', 'S')

#define HEAD_VERSION 1u
#define DEVS_VERSION 1u

/* Of a LAPIC, behind the vcpu's fields. */
enum { LAPIC_VERSION = 0, LAPIC_ERRORS = 4, LAPIC_BASE = 8, LAPIC_TSC_DEADLINE = 16, LAPIC_REGS = 24 };
#define LAPIC_BYTES (LAPIC_REGS + sizeof((struct vc_lapic_state *)0)->regs)

/* ---- writing ---- */

static void put_lapic(uint8_t *to, const struct vc_lapic_state *lapic)
{
	vc_st32(to + LAPIC_VERSION, lapic->version);
	vc_st32(to + LAPIC_ERRORS, lapic->errors);
	vc_st64(to + LAPIC_BASE, lapic->base);
	vc_st64(to + LAPIC_TSC_DEADLINE, lapic->tsc_deadline);
	memcpy(to + LAPIC_REGS, lapic->regs, sizeof lapic->regs);
}

static void add_bytes(struct vc_sections_out *out, uint32_t kind, uint32_t version, const void *data, size_t length)
{
	uint8_t *to = vc_sections_add(out, kind, version, length);

	if (to && length)
		memcpy(to, data, length);
}

int vc_snapshot_encode(const struct vcore_snapshot *s, uint8_t **data, size_t *length)
{
	struct vc_sections_out out = {0};
	char *header = vc_snapshot_header_write(s);

	if (!header)
		return -ENOMEM;
	add_bytes(&out, KIND_HEAD, HEAD_VERSION, header, strlen(header));
	free(header);
	for (uint32_t i = 0; i < s->vcpus; i++) {
		uint8_t *to = vc_sections_add(&out, KIND_VCPU, VC_CPU_STATE_VERSION, vc_cpu_state_bytes() + LAPIC_BYTES);

		if (!to)
			break;
		vc_cpu_state_encode(&s->vcpu[i].state, to);
		put_lapic(to + vc_cpu_state_bytes(), &s->vcpu[i].lapic);
	}
	for (uint32_t i = 0; i < s->devices; i++)
		add_bytes(&out, KIND_DEVS, DEVS_VERSION, s->device[i].state, s->device[i].length);
	return vc_sections_end(&out, data, length);
}

/* ---- reading ---- */

static int read_header(struct vc_sections *in, struct vcore_snapshot *s)
{
	const uint8_t *data;
	size_t length;
	char *text;
	int r = vc_sections_take(in, KIND_HEAD, HEAD_VERSION, &data, &length);

	if (r < 0)
		return r;
	if (memchr(data, 0, length))
		return vc_fail(EINVAL, "the header is no JSON text: there is a NUL in it");
	text = strndup((const char *)data, length);
	if (!text)
		return vc_fail(ENOMEM, "no memory for a header of %zu bytes", length);
	r = vc_snapshot_header_read(text, s);
	free(text);
	return r;
}

static void take_lapic(const uint8_t *from, struct vc_lapic_state *lapic)
{
	lapic->version = vc_ld32(from + LAPIC_VERSION);
	lapic->errors = vc_ld32(from + LAPIC_ERRORS);
	lapic->base = vc_ld64(from + LAPIC_BASE);
	lapic->tsc_deadline = vc_ld64(from + LAPIC_TSC_DEADLINE);
	memcpy(lapic->regs, from + LAPIC_REGS, sizeof lapic->regs);
}

static int read_vcpu(struct vc_sections *in, uint32_t index, struct vc_snapshot_vcpu *vcpu)
{
	const uint8_t *data;
	size_t length;
	int r = vc_sections_take(in, KIND_VCPU, VC_CPU_STATE_VERSION, &data, &length);

	if (r < 0)
		return r;
	if (length != vc_cpu_state_bytes() + LAPIC_BYTES)
		return vc_fail(EINVAL, "the state of vcpu %u has %zu bytes, expected %zu", index, length,
		               vc_cpu_state_bytes() + LAPIC_BYTES);
	vc_cpu_state_decode(data, &vcpu->state);
	take_lapic(data + vc_cpu_state_bytes(), &vcpu->lapic);
	r = vc_cpu_state_check(&vcpu->state);
	return r < 0 ? vc_fail(EINVAL, "the state of vcpu %u: %s", index, vcore_error_message()) : 0;
}

static int read_device(struct vc_sections *in, uint32_t index, struct vc_snapshot_device *device)
{
	const uint8_t *data;
	size_t length;
	int r = vc_sections_take(in, KIND_DEVS, DEVS_VERSION, &data, &length);

	if (r < 0)
		return r;
	if (length != device->length)
		return vc_fail(EINVAL, "the state of device %u (%s) has %zu bytes: its header says %zu", index, device->type,
		               length, device->length);
	device->state = malloc(length + 1);
	if (!device->state)
		return vc_fail(ENOMEM, "no memory for %zu bytes of a device's state", length);
	memcpy(device->state, data, length);
	return 0;
}

static int read_all(struct vc_sections *in, struct vcore_snapshot *s)
{
	int r = read_header(in, s);

	for (uint32_t i = 0; r >= 0 && i < s->vcpus; i++)
		r = read_vcpu(in, i, &s->vcpu[i]);
	for (uint32_t i = 0; r >= 0 && i < s->devices; i++)
		r = read_device(in, i, &s->device[i]);
	return r < 0 ? r : vc_sections_close(in);
}

int vc_snapshot_decode(const uint8_t *data, size_t length, struct vcore_snapshot **out)
{
	struct vc_sections in;
	struct vcore_snapshot *s;
	int r = vc_sections_open(&in, data, length);

	if (r < 0)
		return r;
	s = calloc(1, sizeof *s);
	if (!s)
		return vc_fail(ENOMEM, "no memory for a snapshot");
	s->refs = 1;
	r = read_all(&in, s);
	if (r < 0) {
		vcore_snapshot_unref(s);
		return r;
	}
	*out = s;
	return 0;
}
