/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "passthrough/config.h"

#include "core/error.h"
#include "core/util.h"

/* Configuration space (PCI Local Bus 3.0, 6.1; PCI Express 5.0, 7.5 and 7.9) */
enum {
	VENDOR = 0x00,
	DEVICE = 0x02,
	STATUS = 0x06,
	REVISION = 0x08,
	HEADER_TYPE = 0x0e,
	BAR = 0x10,
	SUBSYSTEM_VENDOR = 0x2c,
	SUBSYSTEM = 0x2e,
	CAPABILITY_LIST = 0x34,
	INTERRUPT_PIN = 0x3d,
	EXTENDED = 0x100,

	STATUS_CAPABILITIES = 1 << 4,
	HEADER_MASK = 0x7f,
	BAR_IO = 1,
	BAR_64 = 4, /* of the two bits of its type */
	BAR_PREFETCH = 8,

	CAP_PM = 0x01,
	CAP_VPD = 0x03,
	CAP_MSI = 0x05,
	CAP_VENDOR = 0x09,
	CAP_EXPRESS = 0x10,
	CAP_MSIX = 0x11,
	CAP_AF = 0x13,

	EXT_AER = 0x01,
	EXT_SERIAL = 0x03,
	EXT_VENDOR = 0x0b,
	EXT_DVSEC = 0x23,

	PM_PME = 0xf800, /* what could wake the host */
	PM_CONTROL = 4,
	PM_STATE = 3,

	MSIX_SIZE = 0x7ff,
	MSIX_TABLE = 4,
	MSIX_PENDING = 8,
	MSIX_LENGTH = 12,

	EXPRESS_FLAGS = 2,
	EXPRESS_TYPE_SHIFT = 4,
	EXPRESS_ENDPOINT = 0,
	EXPRESS_INTEGRATED = 9,
	EXPRESS_CONTROL = 8, /* and status: the device's; what follows is its link's */
	EXPRESS_LINK = 12,
	EXPRESS_LINK_END = 20,
	EXPRESS_CONTROL2 = 40,
	EXPRESS_LINK2 = 44,
	EXPRESS_LINK2_END = 52,
	EXPRESS_LENGTH1 = 20,
	EXPRESS_LENGTH2 = 60,
};

/* ---- capabilities ---- */

/* What is done with one that lies at `at`; it has checked room for 4 bytes. */
typedef int (*take_fn)(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at);

static int fail_length(const struct vc_passed_source *s, uint32_t at)
{
	return vc_fail(EINVAL, "%s: the capability at %#x of its configuration space reaches beyond the end", s->name, at);
}

/* Bytes as the device has them now, for good. */
static int copy(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at, uint32_t length)
{
	uint32_t end = at < EXTENDED ? EXTENDED : s->length;

	if (length > end - at)
		return fail_length(s, at);
	for (uint32_t i = at; i < at + length; i++) {
		if (c->bytes[i])
			return vc_fail(EINVAL, "%s: the capability at %#x of its configuration space overlaps another", s->name,
			               at);
		c->bytes[i] = VC_PASSED_TAKEN;
	}
	memcpy(c->initial + at, s->bytes + at, length);
	return 0;
}

static void set_live(struct vc_passed_config *c, uint32_t at, uint32_t length)
{
	memset(c->bytes + at, VC_PASSED_TAKEN | VC_PASSED_LIVE, length);
}

/* The head is the library's, with the link; what is behind it, of `length` bytes in all, is the device's. */
static int pass(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at, uint32_t head,
                uint32_t length)
{
	int r = copy(c, s, at, length < head ? head : length);

	if (r >= 0 && length > head)
		set_live(c, at + head, length - head);
	return r;
}

/* The device stays awake; the guest sees the state that it has asked for. */
static int take_pm(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	int r = copy(c, s, at, 8);

	if (r < 0)
		return r;
	vc_st16(c->initial + at + 2, vc_ld16(s->bytes + at + 2) & (uint16_t)~PM_PME);
	vc_st16(c->initial + at + PM_CONTROL, vc_ld16(s->bytes + at + PM_CONTROL) & (1 << 3)); /* no soft reset */
	vc_st16(c->writable + at + PM_CONTROL, PM_STATE);
	return 1;
}

static int take_vpd(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	int r = pass(c, s, at, 2, 8);

	return r < 0 ? r : 1;
}

static int take_msi(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	uint16_t control = vc_ld16(s->bytes + at + 2);
	uint32_t length = 10 + (control & 1 << 7 ? 4 : 0) + (control & 1 << 8 ? 10 : 0);
	bool shown = s->msi && !c->image.msi;
	int r = shown ? copy(c, s, at, length) : 0;

	if (r < 0 || !shown)
		return r;
	if ((control >> 1 & 7) > 5)
		return vc_fail(EINVAL, "%s: MSI control is %#x: there are at most 32 vectors", s->name, control);
	memset(c->initial + at + 4, 0, length - 4);
	vc_st16(c->initial + at + 2, control & 0x018e);
	c->image.msi = at;
	return 1;
}

static int take_msix(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	bool shown = s->msix && !c->image.msix;
	int r = shown ? copy(c, s, at, MSIX_LENGTH) : 0;
	uint32_t vectors, table, pending;

	if (r < 0 || !shown)
		return r;
	vectors = (vc_ld16(s->bytes + at + 2) & MSIX_SIZE) + 1u;
	table = vc_ld32(s->bytes + at + MSIX_TABLE);
	pending = vc_ld32(s->bytes + at + MSIX_PENDING);
	if (vectors > s->msix)
		return vc_fail(EINVAL, "%s: its MSI-X table has %u vectors, and %u can be had", s->name, vectors, s->msix);
	vc_st16(c->initial + at + 2, (uint16_t)(vectors - 1));
	c->image.msix = at;
	c->image.table.bar = table & 7;
	c->image.table.at = table & ~7u;
	c->image.pending.bar = pending & 7;
	c->image.pending.at = pending & ~7u;
	c->description.msix_vectors = (uint16_t)vectors;
	return 1;
}

static int take_vendor(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	int r = pass(c, s, at, 3, s->bytes[at + 2]);

	return r < 0 ? r : 1;
}

static int take_af(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	int r = pass(c, s, at, 3, 6);

	return r < 0 ? r : 1;
}

/* An endpoint on bus 0 has no link above it: drivers that look for one find none. */
static void integrate(struct vc_passed_config *c, uint32_t at, uint32_t length)
{
	uint16_t flags = vc_ld16(c->initial + at + EXPRESS_FLAGS);

	if ((flags >> EXPRESS_TYPE_SHIFT & 15) != EXPRESS_ENDPOINT)
		return;
	vc_st16(c->initial + at + EXPRESS_FLAGS, (uint16_t)((flags & ~0xf0) | EXPRESS_INTEGRATED << EXPRESS_TYPE_SHIFT));
	memset(c->initial + at + EXPRESS_LINK, 0, EXPRESS_LINK_END - EXPRESS_LINK);
	if (length >= EXPRESS_LENGTH2)
		memset(c->initial + at + EXPRESS_LINK2, 0, EXPRESS_LINK2_END - EXPRESS_LINK2);
}

static int take_express(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	uint16_t flags = vc_ld16(s->bytes + at + EXPRESS_FLAGS);
	uint32_t length = (flags & 15) >= 2 ? EXPRESS_LENGTH2 : EXPRESS_LENGTH1;
	int r = copy(c, s, at, length);

	if (r < 0)
		return r;
	set_live(c, at + EXPRESS_CONTROL, 4);
	if (length >= EXPRESS_LENGTH2)
		set_live(c, at + EXPRESS_CONTROL2, 2);
	if (s->integrated)
		integrate(c, at, length);
	return 1;
}

static int take_aer(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	int r = pass(c, s, at, 4, 44);

	return r < 0 ? r : 1;
}

static int take_serial(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	int r = copy(c, s, at, 12);

	return r < 0 ? r : 1;
}

static int take_ext_vendor(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t at)
{
	int r = at + 8 > s->length ? fail_length(s, at) : pass(c, s, at, 8, vc_ld32(s->bytes + at + 4) >> 20);

	return r < 0 ? r : 1;
}

/* Those that a guest is shown. Whatever is not here it does not see: what is the host's business (SR-IOV, ACS, ATS,
 * resizable BARs, PCI-X, ...), and what nobody has thought of. */
static const struct {
	uint16_t id;
	bool extended;
	take_fn take; /* 1: it is shown, 0: it is not; or -errno */
} capabilities[] = {
    {CAP_PM, false, take_pm},           {CAP_VPD, false, take_vpd},
    {CAP_MSI, false, take_msi},         {CAP_VENDOR, false, take_vendor},
    {CAP_EXPRESS, false, take_express}, {CAP_MSIX, false, take_msix},
    {CAP_AF, false, take_af},           {EXT_AER, true, take_aer},
    {EXT_SERIAL, true, take_serial},    {EXT_VENDOR, true, take_ext_vendor},
    {EXT_DVSEC, true, take_ext_vendor},
};

static int take(struct vc_passed_config *c, const struct vc_passed_source *s, uint32_t id, bool extended, uint32_t at)
{
	for (unsigned i = 0; i < VC_ARRAY_SIZE(capabilities); i++)
		if (capabilities[i].id == id && capabilities[i].extended == extended)
			return capabilities[i].take(c, s, at);
	return 0;
}

/* The list's links are the device's: no more of them are followed than there can be capabilities. */
static int take_list(struct vc_passed_config *c, const struct vc_passed_source *s)
{
	uint32_t at = s->bytes[STATUS] & STATUS_CAPABILITIES ? s->bytes[CAPABILITY_LIST] & ~3u : 0;
	uint8_t *link = &c->image.first;

	for (unsigned n = 0; at >= VC_PCI_CAPABILITIES && n < (EXTENDED - VC_PCI_CAPABILITIES) / 4; n++) {
		uint32_t next = s->bytes[at + 1] & ~3u;
		int r = take(c, s, s->bytes[at], false, at);

		if (r < 0)
			return r;
		if (r > 0) {
			*link = (uint8_t)at;
			link = &c->initial[at + 1];
			*link = 0;
		}
		at = next;
	}
	return 0;
}

static int take_extended_list(struct vc_passed_config *c, const struct vc_passed_source *s)
{
	uint32_t at = s->length > EXTENDED ? EXTENDED : 0, last = EXTENDED;

	for (unsigned n = 0; at >= EXTENDED && at + 4 <= s->length && n < (VC_PCI_CONFIG_SIZE - EXTENDED) / 8; n++) {
		uint32_t head = vc_ld32(s->bytes + at), next = head >> 20 & ~3u;
		int r = head && head != UINT32_MAX ? take(c, s, head & 0xffff, true, at) : 0;

		if (r < 0)
			return r;
		if (r > 0) {
			vc_st32(c->initial + at, head & 0xfffff);
			/* where the first is not shown, one without a meaning leads on (7.9.28) */
			if (at != last)
				vc_st32(c->initial + last, (vc_ld32(c->initial + last) & 0xfffff) | at << 20);
			last = at;
		}
		at = next;
	}
	return 0;
}

/* ---- header and BARs ---- */

static uint64_t power_above(uint64_t size)
{
	uint64_t power = 16;

	while (power < size)
		power *= 2;
	return power;
}

static int take_bars(struct vc_passed_config *c, const struct vc_passed_source *s)
{
	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		struct vcore_pci_bar *bar = &c->description.bars[i];
		uint32_t reg = vc_ld32(s->bytes + BAR + 4 * i);

		if (!s->regions[i])
			continue;
		if (s->regions[i] > 1ull << 48)
			return vc_fail(EINVAL, "%s: BAR %u has %#llx bytes", s->name, i, (unsigned long long)s->regions[i]);
		bar->size = reg & BAR_IO && s->regions[i] <= 4 ? 4 : power_above(s->regions[i]);
		if (reg & BAR_IO)
			bar->flags = VCORE_PCI_BAR_IO;
		else
			bar->flags =
			    ((reg & 6) == BAR_64 ? VCORE_PCI_BAR_64 : 0) | (reg & BAR_PREFETCH ? VCORE_PCI_BAR_PREFETCH : 0);
	}
	return 0;
}

static int take_header(struct vc_passed_config *c, const struct vc_passed_source *s)
{
	struct vcore_pci_description *d = &c->description;

	if (vc_ld16(s->bytes + VENDOR) == 0xffff)
		return vc_fail(ENODEV, "%s: it does not answer: its configuration space reads as all ones", s->name);
	if (s->bytes[HEADER_TYPE] & HEADER_MASK)
		return vc_fail(ENODEV, "%s: its header is of type %u: expected 0, a device that is no bridge", s->name,
		               s->bytes[HEADER_TYPE] & HEADER_MASK);
	d->size = sizeof *d;
	d->vendor = vc_ld16(s->bytes + VENDOR);
	d->device = vc_ld16(s->bytes + DEVICE);
	d->class_code = vc_ld32(s->bytes + REVISION) >> 8;
	d->revision = s->bytes[REVISION];
	d->subsystem_vendor = vc_ld16(s->bytes + SUBSYSTEM_VENDOR);
	d->subsystem = vc_ld16(s->bytes + SUBSYSTEM);
	d->interrupt_pin = s->intx && s->bytes[INTERRUPT_PIN] <= 4 ? s->bytes[INTERRUPT_PIN] : 0;
	return take_bars(c, s);
}

int vc_passed_config_make(struct vc_passed_config *c, const struct vc_passed_source *s)
{
	int r;

	memset(c, 0, sizeof *c);
	/* what lies between capabilities, and in those that are not shown, is seen as it is now */
	memcpy(c->initial + VC_PCI_CAPABILITIES, s->bytes + VC_PCI_CAPABILITIES, EXTENDED - VC_PCI_CAPABILITIES);
	c->image.initial = c->initial;
	c->image.writable = c->writable;
	r = take_header(c, s);
	if (r >= 0)
		r = take_list(c, s);
	return r < 0 ? r : take_extended_list(c, s);
}

bool vc_passed_config_is_live(const struct vc_passed_config *c, uint32_t offset, uint32_t width)
{
	for (uint32_t i = 0; i < width; i++)
		if (!(c->bytes[offset + i] & VC_PASSED_LIVE))
			return false;
	return true;
}
