/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a description to a function's configuration space. */
#include <stdlib.h>

#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

enum {
	MSIX_VECTORS_MAX = 2048,
	MSIX_LENGTH = 12,
	MSIX_TABLE = 4,
	MSIX_PBA = 8,
	MSIX_CONTROL_WRITABLE = 0xc000,
	MSIX_PBA_ALIGNMENT = 2048,
	VECTOR_SIZE = 16,
	VECTOR_MASKED = 1,

	MSI_VECTORS_MAX = 32,
	MSI_LENGTH = 24,
	MSI_CONTROL = 0x0180, /* 64-bit address, a mask for each vector */
	MSI_CONTROL_WRITABLE = 0x0071,

	IO_BAR_MIN = 4,
	IO_BAR_MAX = 256,
	MEMORY_BAR_MIN = 16,

	/* BAR flags as the guest sees them */
	BAR_IS_IO = 1,
	BAR_IS_64 = 4,
	BAR_IS_PREFETCH = 8,
};

/* ---- capabilities ---- */

/* The next one of so many bytes, linked to those before. 0: no room. */
static unsigned add_capability(struct vc_pci_function *f, unsigned *last, unsigned id, unsigned length)
{
	unsigned at = VC_ALIGN_UP(f->own_end, 4u);

	if (at + length > PCI_LEGACY_END)
		return 0;
	f->initial[*last ? *last + 1 : PCI_CAPABILITY_LIST] = (uint8_t)at;
	f->initial[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
	f->initial[at] = (uint8_t)id;
	f->own_end = at + length;
	*last = at;
	return at;
}

static int add_own(struct vc_pci_function *f, unsigned *last, const struct vcore_pci_capability *c)
{
	unsigned at = add_capability(f, last, c->id, c->length + 2u);

	if (!at)
		return 0;
	if (c->length && !c->data)
		return vc_fail(EINVAL, "PCI capability %#x has %u bytes and no data", c->id, c->length);
	for (unsigned i = 0; i < c->length; i++) {
		f->initial[at + 2 + i] = c->data[i];
		f->writable[at + 2 + i] = c->writable ? c->writable[i] : 0;
	}
	return (int)at;
}

static unsigned add_msi(struct vc_pci_function *f, unsigned *last, unsigned vectors)
{
	unsigned at = add_capability(f, last, PCI_CAP_MSI, MSI_LENGTH), offered = (unsigned)__builtin_ctz(vectors);

	if (!at)
		return 0;
	vc_st16(f->initial + at + 2, (uint16_t)(MSI_CONTROL | offered << 1));
	vc_st16(f->writable + at + 2, MSI_CONTROL_WRITABLE);
	vc_st64(f->writable + at + 4, ~3ull);
	vc_st16(f->writable + at + 12, 0xffff);
	vc_st32(f->writable + at + 16, vectors == 32 ? UINT32_MAX : (1u << vectors) - 1);
	return at;
}

static unsigned add_msix(struct vc_pci_function *f, unsigned *last, unsigned bar)
{
	unsigned at = add_capability(f, last, PCI_CAP_MSIX, MSIX_LENGTH);

	if (!at)
		return 0;
	vc_st16(f->initial + at + 2, (uint16_t)(f->vectors - 1));
	vc_st16(f->writable + at + 2, MSIX_CONTROL_WRITABLE);
	vc_st32(f->initial + at + MSIX_TABLE, bar);
	vc_st32(f->initial + at + MSIX_PBA, f->pba | bar);
	return at;
}

/* What the guest may write in the capability of MSI, as it lies there. */
static void open_msi(struct vc_pci_function *f)
{
	uint8_t *writable = f->writable + f->msi;
	unsigned mask = pci_msi_mask(f), vectors = 1u << (f->initial[f->msi + 2] >> 1 & 7);

	vc_st16(writable + 2, MSI_CONTROL_WRITABLE);
	vc_st32(writable + 4, ~3u);
	if (pci_msi_data(f) == 12)
		vc_st32(writable + 8, UINT32_MAX);
	vc_st16(writable + pci_msi_data(f), 0xffff);
	if (mask)
		vc_st32(writable + mask, vectors >= 32 ? UINT32_MAX : (1u << vectors) - 1);
}

static void take_image(struct vc_pci_function *f, const struct vc_pci_image *image)
{
	const size_t length = VC_PCI_CONFIG_SIZE - VC_PCI_CAPABILITIES;

	f->whole = true;
	f->own_end = VC_PCI_CONFIG_SIZE;
	memcpy(f->initial + VC_PCI_CAPABILITIES, image->initial + VC_PCI_CAPABILITIES, length);
	memcpy(f->writable + VC_PCI_CAPABILITIES, image->writable + VC_PCI_CAPABILITIES, length);
	f->initial[PCI_CAPABILITY_LIST] = image->first;
	if (image->first)
		f->initial[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
	f->msi = image->msi;
	f->msix = image->msix;
	if (f->msi)
		open_msi(f);
	if (f->msix)
		vc_st16(f->writable + f->msix + 2, MSIX_CONTROL_WRITABLE);
}

static int add_capabilities(struct vc_pci_function *f, const struct vcore_pci_description *d, unsigned msix_bar)
{
	unsigned last = 0, own_end;
	bool fits = true;

	f->own_end = VC_PCI_CAPABILITIES;
	for (unsigned i = 0; i < d->capability_count && fits; i++) {
		int at = add_own(f, &last, &d->capabilities[i]);

		if (at < 0)
			return at;
		fits = at > 0;
	}
	own_end = f->own_end;
	if (fits && d->msi_vectors)
		fits = (f->msi = add_msi(f, &last, d->msi_vectors)) != 0;
	if (fits && f->vectors)
		fits = (f->msix = add_msix(f, &last, msix_bar)) != 0;
	f->own_end = own_end;
	return fits ? 0
	            : vc_fail(EINVAL, "PCI function: the capabilities take more than %u bytes",
	                      PCI_LEGACY_END - VC_PCI_CAPABILITIES);
}

/* ---- BARs ---- */

static bool is_upper_half(const struct vc_pci_function *f, unsigned i)
{
	return i > 0 && f->bars[i - 1].size && f->bars[i - 1].flags & VCORE_PCI_BAR_64;
}

static int check_bar(const struct vc_pci_function *f, unsigned i)
{
	const struct pci_bar *bar = &f->bars[i];
	bool io = bar->flags & VCORE_PCI_BAR_IO, wide = bar->flags & VCORE_PCI_BAR_64;
	uint64_t min = io ? IO_BAR_MIN : MEMORY_BAR_MIN, max = io ? IO_BAR_MAX : wide ? VC_GIB(1 << 16) : VC_GIB(2);

	if (bar->flags & ~(VCORE_PCI_BAR_IO | VCORE_PCI_BAR_64 | VCORE_PCI_BAR_PREFETCH | VCORE_PCI_BAR_MSIX))
		return vc_fail(EINVAL, "PCI BAR %u: flags %#x: expected those of enum vcore_pci_bar_flags", i, bar->flags);
	if (bar->size & (bar->size - 1) || bar->size < min || bar->size > max)
		return vc_fail(EINVAL, "PCI BAR %u: size %#llx: expected a power of 2 from %llu to %#llx", i,
		               (unsigned long long)bar->size, (unsigned long long)min, (unsigned long long)max);
	if (io && bar->flags != VCORE_PCI_BAR_IO)
		return vc_fail(EINVAL, "PCI BAR %u: ports are neither 64-bit nor prefetchable, nor hold the MSI-X table", i);
	if (is_upper_half(f, i) || (wide && i + 1 == VCORE_PCI_BARS))
		return vc_fail(EINVAL, "PCI BAR %u: a 64-bit BAR takes two registers", wide ? i : i - 1);
	return 0;
}

static void put_bar(struct vc_pci_function *f, unsigned i)
{
	const struct pci_bar *bar = &f->bars[i];
	uint8_t *initial = f->initial + PCI_BAR + 4 * i, *writable = f->writable + PCI_BAR + 4 * i;

	if (bar->flags & VCORE_PCI_BAR_64)
		vc_st64(writable, ~(bar->size - 1));
	else
		vc_st32(writable, (uint32_t) ~(bar->size - 1));
	*initial = bar->flags & VCORE_PCI_BAR_IO ? BAR_IS_IO : 0;
	*initial |= bar->flags & VCORE_PCI_BAR_64 ? BAR_IS_64 : 0;
	*initial |= bar->flags & VCORE_PCI_BAR_PREFETCH ? BAR_IS_PREFETCH : 0;
}

/* The BAR for the MSI-X table: the one named, else the last that is free. Negative: there is none. */
static int find_msix_bar(struct vc_pci_function *f)
{
	for (int i = 0; i < VCORE_PCI_BARS; i++)
		if (f->bars[i].flags & VCORE_PCI_BAR_MSIX)
			return i;
	for (int i = VCORE_PCI_BARS - 1; i >= 0; i--)
		if (!f->bars[i].size && !is_upper_half(f, (unsigned)i)) {
			f->bars[i].flags = VCORE_PCI_BAR_MSIX;
			return i;
		}
	return vc_fail(EINVAL, "PCI function: no BAR is free for the MSI-X table");
}

static bool inside_bar(const struct vc_pci_function *f, unsigned bar, uint32_t at, uint32_t length)
{
	return bar < VCORE_PCI_BARS && !(f->bars[bar].flags & VCORE_PCI_BAR_IO) && !(at & 7) && at < f->bars[bar].size &&
	       length <= f->bars[bar].size - at;
}

/* Where the image has the table and the pending bits. */
static int place_msix(struct vc_pci_function *f, const struct vc_pci_image *image)
{
	if (!inside_bar(f, image->table.bar, image->table.at, f->vectors * VECTOR_SIZE) ||
	    !inside_bar(f, image->pending.bar, image->pending.at, (f->vectors + 63) / 64 * 8))
		return vc_fail(EINVAL,
		               "PCI function: the MSI-X table at %#x of BAR %u, or its pending bits at %#x of BAR %u, is "
		               "outside of it",
		               image->table.at, image->table.bar, image->pending.at, image->pending.bar);
	f->table_bar = image->table.bar;
	f->table_at = image->table.at;
	f->pba_bar = image->pending.bar;
	f->pba = image->pending.at;
	return 0;
}

/* Returns the BAR of their own; without MSI-X, or with an image, 0. */
static int describe_msix(struct vc_pci_function *f, uint32_t vectors, const struct vc_pci_image *image)
{
	uint32_t words = (vectors + 63) / 64;
	uint64_t size = VC_PAGE_SIZE;
	int bar;

	if (vectors > MSIX_VECTORS_MAX)
		return vc_fail(EINVAL, "PCI function: %u MSI-X vectors: expected at most %d", vectors, MSIX_VECTORS_MAX);
	if (!vectors)
		return 0;
	f->vectors = vectors;
	f->table = calloc(vectors, sizeof *f->table);
	f->pending = calloc(words, sizeof *f->pending);
	if (!f->table || !f->pending)
		return vc_fail(ENOMEM, "PCI function: no memory for %u MSI-X vectors", vectors);
	if (image)
		return place_msix(f, image);
	f->pba = VC_ALIGN_UP(vectors * VECTOR_SIZE, (uint32_t)MSIX_PBA_ALIGNMENT);
	bar = find_msix_bar(f);
	if (bar < 0)
		return bar;
	while (size < f->pba + words * 8)
		size *= 2;
	if (f->bars[bar].size && f->bars[bar].size < size)
		return vc_fail(EINVAL, "PCI BAR %d: size %#llx: %u MSI-X vectors take %#llx", bar,
		               (unsigned long long)f->bars[bar].size, vectors, (unsigned long long)size);
	if (!f->bars[bar].size)
		f->bars[bar].size = size;
	f->table_bar = f->pba_bar = (unsigned)bar;
	return bar;
}

static int describe_bars(struct vc_pci_function *f, const struct vcore_pci_description *d,
                         const struct vc_pci_image *image)
{
	int msix_bar;

	for (unsigned i = 0; i < VCORE_PCI_BARS; i++) {
		f->bars[i] = (struct pci_bar){.size = d->bars[i].size, .flags = d->bars[i].flags, .mapped = PCI_UNMAPPED};
		if (f->bars[i].flags & VCORE_PCI_BAR_MSIX && !d->msix_vectors)
			return vc_fail(EINVAL, "PCI BAR %u is for an MSI-X table, and there are no MSI-X vectors", i);
	}
	msix_bar = describe_msix(f, d->msix_vectors, image);
	for (unsigned i = 0; i < VCORE_PCI_BARS && msix_bar >= 0; i++) {
		int r = f->bars[i].size ? check_bar(f, i) : 0;

		if (r < 0)
			return r;
		if (f->bars[i].size)
			put_bar(f, i);
	}
	return msix_bar;
}

/* ---- the header ---- */

static void put_header(struct vc_pci_function *f, const struct vcore_pci_description *d)
{
	uint16_t command = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	if (d->interrupt_pin)
		command |= PCI_COMMAND_INTX_OFF;
	vc_st16(f->initial + PCI_VENDOR, d->vendor);
	vc_st16(f->initial + PCI_DEVICE, d->device);
	vc_st32(f->initial + PCI_REVISION, d->class_code << 8 | d->revision);
	vc_st16(f->initial + PCI_SUBSYSTEM_VENDOR, d->subsystem_vendor);
	vc_st16(f->initial + PCI_SUBSYSTEM, d->subsystem);
	f->initial[PCI_INTERRUPT_PIN] = d->interrupt_pin;
	vc_st16(f->writable + PCI_COMMAND, command);
	f->writable[PCI_CACHE_LINE] = 0xff;
	f->writable[PCI_INTERRUPT_LINE] = 0xff;
}

int pci_describe(struct vc_pci_function *f, const struct vcore_pci_description *d, const struct vc_pci_image *image)
{
	int r;

	if (d->vendor == 0xffff)
		return vc_fail(EINVAL, "PCI function: vendor 0xffff means that there is none");
	if (d->class_code > 0xffffff)
		return vc_fail(EINVAL, "PCI function: class code %#x: expected at most 0xffffff", d->class_code);
	if (d->interrupt_pin > 4)
		return vc_fail(EINVAL, "PCI function: interrupt pin %u: expected 0 to 4", d->interrupt_pin);
	if (d->msi_vectors > MSI_VECTORS_MAX || d->msi_vectors & (d->msi_vectors - 1))
		return vc_fail(EINVAL, "PCI function: %u MSI vectors: expected a power of 2 of at most 32", d->msi_vectors);
	if (d->capability_count && !d->capabilities)
		return vc_fail(EINVAL, "PCI function: %u capabilities and no array of them", d->capability_count);
	put_header(f, d);
	r = describe_bars(f, d, image);
	if (r >= 0 && image)
		take_image(f, image);
	else if (r >= 0)
		r = add_capabilities(f, d, (unsigned)r);
	return r < 0 ? r : 0;
}
