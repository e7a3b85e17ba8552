/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Saved state of a PCI function: ours, the MSI-X table, its pending bits, and then the device's own. */
#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

enum { STATE_VERSION = 1 };

struct function_state {
	uint32_t version;
	uint32_t vectors;
	uint32_t intx;
	uint32_t pad;
	uint8_t config[VC_PCI_CONFIG_SIZE];
};

/* Bytes of the parts that are the library's. */
struct parts {
	size_t table, pending, total;
};

static struct parts parts_of(const struct vc_pci_function *f)
{
	struct parts p = {.table = f->vectors * sizeof *f->table, .pending = (f->vectors + 63) / 64 * sizeof *f->pending};

	p.total = sizeof(struct function_state) + p.table + p.pending;
	return p;
}

static void save_parts(struct vc_pci_function *f, uint8_t *to, const struct parts *p)
{
	struct function_state state = {.version = STATE_VERSION, .vectors = f->vectors};

	pthread_mutex_lock(&f->lock);
	state.intx = f->intx;
	memcpy(state.config, f->config, sizeof state.config);
	memcpy(to, &state, sizeof state);
	if (f->vectors) {
		memcpy(to + sizeof state, f->table, p->table);
		memcpy(to + sizeof state + p->table, f->pending, p->pending);
	}
	pthread_mutex_unlock(&f->lock);
}

int64_t pci_function_save(void *ctx, void *buffer, size_t length)
{
	struct vc_pci_function *f = ctx;
	struct parts p = parts_of(f);
	int64_t own = 0;

	if (buffer && length < p.total)
		return vc_fail(ENOSPC, "a buffer of %zu bytes is too small for the state of a PCI function of %zu", length,
		               p.total);
	if (f->ops.save)
		own = f->ops.save(f->ctx, buffer ? (uint8_t *)buffer + p.total : NULL, buffer ? length - p.total : 0);
	if (own < 0)
		return own;
	if (buffer)
		save_parts(f, buffer, &p);
	return (int64_t)p.total + own;
}

static int fail_bits(const struct vc_pci_function *f)
{
	return vc_fail(EINVAL, "the saved state of a %s holds bits that its registers have not", f->dev->type);
}

/* What no guest can change must be as it is here. */
static int check_config(const struct vc_pci_function *f, const uint8_t *config)
{
	uint32_t vectors = f->msi ? 1u << (f->initial[f->msi + 2] >> 1 & 7) : 0;
	unsigned mask = f->msi ? pci_msi_mask(f) : 0, at = f->msi + mask + 4;

	for (unsigned i = 0; i < VC_PCI_CONFIG_SIZE; i++) {
		bool pending = mask && i >= at && i < at + 4;

		if (!pending && (config[i] ^ f->initial[i]) & ~f->writable[i])
			return vc_fail(EINVAL, "the saved state of a %s is of another function: its configuration differs at %#x",
			               f->dev->type, i);
	}
	if (mask && vectors < 32 && vc_ld32(config + at) >> vectors)
		return fail_bits(f);
	return 0;
}

static int check_msix(const struct vc_pci_function *f, const uint8_t *table, const uint8_t *pending)
{
	for (uint32_t i = 0; i < f->vectors; i++) {
		struct pci_vector v;

		memcpy(&v, table + i * sizeof v, sizeof v);
		if (v.address & 3 || v.control & ~1u)
			return fail_bits(f);
	}
	if (f->vectors % 64 && vc_ld64(pending + f->vectors / 64 * 8) >> f->vectors % 64)
		return fail_bits(f);
	return 0;
}

static int check_parts(const struct vc_pci_function *f, const uint8_t *from, size_t length, const struct parts *p)
{
	struct function_state state;
	int r;

	if (length < p->total)
		return vc_fail(EINVAL, "the saved state of a %s has %zu bytes, expected %zu at least", f->dev->type, length,
		               p->total);
	memcpy(&state, from, sizeof state);
	if (state.version != STATE_VERSION)
		return vc_fail(EINVAL, "the saved state of a PCI function has version %u, this library knows %u", state.version,
		               STATE_VERSION);
	if (state.vectors != f->vectors)
		return vc_fail(EINVAL, "the saved state of a %s has %u MSI-X vectors, expected %u", f->dev->type, state.vectors,
		               f->vectors);
	if (state.intx > 1 || state.pad)
		return fail_bits(f);
	r = check_config(f, state.config);
	return r < 0 ? r : check_msix(f, from + sizeof state, from + sizeof state + p->table);
}

static int load_own(struct vc_pci_function *f, const uint8_t *from, size_t length)
{
	if (!f->ops.load)
		return length ? vc_fail(EINVAL, "the saved state of a %s has %zu bytes too many", f->dev->type, length) : 0;
	return f->ops.load(f->ctx, from, length);
}

/* The interrupt controllers are loaded too, and know the lines' levels. */
static void load_parts(struct vc_pci_function *f, const uint8_t *from, const struct parts *p)
{
	struct vc_pci *pci = f->pci;
	struct function_state state;

	memcpy(&state, from, sizeof state);
	pthread_mutex_lock(&f->lock);
	memcpy(f->config, state.config, sizeof state.config);
	if (f->vectors) {
		memcpy(f->table, from + sizeof state, p->table);
		memcpy(f->pending, from + sizeof state + p->table, p->pending);
	}
	f->intx = state.intx;
	pci_line_update(f);
	pthread_mutex_lock(&pci->lines_lock);
	vc_line_restore(&pci->lines[f->line], pci->asserted[f->line] > 0);
	pthread_mutex_unlock(&pci->lines_lock);
	pthread_mutex_unlock(&f->lock);
}

int pci_function_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_pci_function *f = ctx;
	struct parts p = parts_of(f);
	int r = check_parts(f, buffer, length, &p);

	if (r < 0)
		return r;
	/* first, for the device may go to work, and interrupt, as soon as it is loaded */
	load_parts(f, buffer, &p);
	pci_bars_sync(f->pci);
	return load_own(f, (const uint8_t *)buffer + p.total, length - p.total);
}
