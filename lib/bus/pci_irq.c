/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How PCI functions interrupt: INTx lines, MSI (PCI Local Bus 3.0, 6.8.1) and MSI-X (6.8.2). */
#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

enum {
	/* Message control, at offset 2 of both capabilities */
	CONTROL = 2,
	MSI_ENABLE = 1u << 0,
	MSI_VECTORS_SHIFT = 4, /* how many the guest allots: log2, 3 bits */
	MSI_IS_64 = 1u << 7,
	MSI_HAS_MASKS = 1u << 8,
	MSI_ADDRESS = 4,

	MSIX_MASK_ALL = 1u << 14,
	MSIX_ENABLE = 1u << 15,

	VECTOR_SIZE = 16,
	VECTOR_CONTROL = 12,
	VECTOR_MASKED = 1u << 0,
};

/* ---- INTx ---- */

void pci_line_update(struct vc_pci_function *f)
{
	struct vc_pci *pci = f->pci;
	bool off = vc_ld16(f->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF || pci_msix_enabled(f) || pci_msi_enabled(f);
	bool out = f->intx && !off;

	if (out == f->intx_out)
		return;
	f->intx_out = out;
	pthread_mutex_lock(&pci->lines_lock);
	pci->asserted[f->line] += out ? 1 : (uint32_t)-1;
	vc_line_set(&pci->lines[f->line], pci->asserted[f->line] > 0);
	pthread_mutex_unlock(&pci->lines_lock);
}

void vc_pci_irq_set(struct vc_pci_function *f, bool level)
{
	pthread_mutex_lock(&f->lock);
	f->intx = level && vc_pci_has_pin(f);
	pci_line_update(f);
	pthread_mutex_unlock(&f->lock);
}

void vc_pci_irq_flush(struct vc_pci_function *f)
{
	vc_line_flush(&f->pci->lines[f->line]);
}

/* ---- messages ---- */

bool pci_msix_enabled(const struct vc_pci_function *f)
{
	return f->msix && vc_ld16(f->config + f->msix + CONTROL) & MSIX_ENABLE;
}

bool pci_msi_enabled(const struct vc_pci_function *f)
{
	return f->msi && vc_ld16(f->config + f->msi + CONTROL) & MSI_ENABLE;
}

unsigned pci_msi_data(const struct vc_pci_function *f)
{
	return vc_ld16(f->initial + f->msi + CONTROL) & MSI_IS_64 ? 12 : 8;
}

unsigned pci_msi_mask(const struct vc_pci_function *f)
{
	return vc_ld16(f->initial + f->msi + CONTROL) & MSI_HAS_MASKS ? pci_msi_data(f) + 4 : 0;
}

static uint64_t msi_address(const struct vc_pci_function *f)
{
	const uint8_t *at = f->config + f->msi + MSI_ADDRESS;

	return pci_msi_data(f) == 12 ? vc_ld64(at) : vc_ld32(at);
}

/* A message is a write to memory, which takes bus mastering. */
static bool is_master(const struct vc_pci_function *f)
{
	return vc_ld16(f->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static bool msix_waits(const struct vc_pci_function *f, uint32_t vector)
{
	return !is_master(f) || f->table[vector].control & VECTOR_MASKED ||
	       vc_ld16(f->config + f->msix + CONTROL) & MSIX_MASK_ALL;
}

static void send_msix(struct vc_pci_function *f, uint32_t vector)
{
	if (vector >= f->vectors)
		return;
	if (msix_waits(f, vector))
		f->pending[vector / 64] |= 1ull << vector % 64;
	else
		vc_msi_send(f->pci->config.irqs, f->table[vector].address, f->table[vector].data);
}

/* The guest may allot fewer vectors than there are: the upper ones share. */
static uint32_t msi_shift(const struct vc_pci_function *f)
{
	uint16_t control = vc_ld16(f->config + f->msi + CONTROL);
	uint32_t given = control >> MSI_VECTORS_SHIFT & 7, offered = control >> 1 & 7;

	return given < offered ? given : offered;
}

/* The number that stands for a vector among those allotted. */
static uint32_t msi_number(const struct vc_pci_function *f, uint32_t vector)
{
	return vector & ((1u << msi_shift(f)) - 1);
}

static bool msi_waits(const struct vc_pci_function *f, uint32_t number)
{
	unsigned mask = pci_msi_mask(f);

	return !is_master(f) || (mask && vc_ld32(f->config + f->msi + mask) >> number & 1);
}

static uint32_t msi_data(const struct vc_pci_function *f, uint32_t number)
{
	return (vc_ld16(f->config + f->msi + pci_msi_data(f)) & ~((1u << msi_shift(f)) - 1)) | number;
}

static void send_msi(struct vc_pci_function *f, uint32_t vector)
{
	uint32_t number = msi_number(f, vector);
	unsigned mask = pci_msi_mask(f);
	uint8_t *pending = f->config + f->msi + mask + 4;

	if (!msi_waits(f, number))
		vc_msi_send(f->pci->config.irqs, msi_address(f), msi_data(f, number));
	else if (mask)
		vc_st32(pending, vc_ld32(pending) | 1u << number);
}

static bool message_of(const struct vc_pci_function *f, uint32_t vector, uint64_t *address, uint32_t *data)
{
	if (pci_msix_enabled(f)) {
		if (vector >= f->vectors || msix_waits(f, vector))
			return false;
		*address = f->table[vector].address;
		*data = f->table[vector].data;
		return true;
	}
	if (!pci_msi_enabled(f) || msi_waits(f, msi_number(f, vector)))
		return false;
	*address = msi_address(f);
	*data = msi_data(f, msi_number(f, vector));
	return true;
}

bool vc_pci_message(struct vc_pci_function *f, uint32_t vector, uint64_t *address, uint32_t *data)
{
	bool sends;

	pthread_mutex_lock(&f->lock);
	sends = message_of(f, vector, address, data);
	pthread_mutex_unlock(&f->lock);
	return sends;
}

bool vc_pci_msi_send(struct vc_pci_function *f, uint32_t vector)
{
	bool enabled = true;

	pthread_mutex_lock(&f->lock);
	if (pci_msix_enabled(f))
		send_msix(f, vector);
	else if (pci_msi_enabled(f))
		send_msi(f, vector);
	else
		enabled = false;
	pthread_mutex_unlock(&f->lock);
	return enabled;
}

void vc_pci_on_message(struct vc_pci_function *f, void (*changed)(void *ctx, uint32_t vector))
{
	atomic_store(&f->message_changed, changed);
}

void pci_tell_message(struct vc_pci_function *f, uint32_t vector)
{
	void (*changed)(void *, uint32_t) = atomic_load(&f->message_changed);

	if (changed)
		changed(f->ctx, vector);
}

static void send_pending_msix(struct vc_pci_function *f)
{
	for (uint32_t word = 0; word < (f->vectors + 63) / 64; word++) {
		uint64_t bits = f->pending[word];

		f->pending[word] = 0; /* those that still must wait set theirs again */
		for (; bits; bits &= bits - 1)
			send_msix(f, word * 64 + (uint32_t)__builtin_ctzll(bits));
	}
}

static void send_pending_msi(struct vc_pci_function *f)
{
	uint8_t *pending = f->config + f->msi + pci_msi_mask(f) + 4;
	uint32_t bits;

	if (!pci_msi_mask(f))
		return;
	bits = vc_ld32(pending);
	vc_st32(pending, 0);
	for (; bits; bits &= bits - 1)
		send_msi(f, (uint32_t)__builtin_ctz(bits));
}

void pci_send_pending(struct vc_pci_function *f)
{
	if (pci_msix_enabled(f))
		send_pending_msix(f);
	else if (pci_msi_enabled(f))
		send_pending_msi(f);
}

uint32_t vc_pci_vectors(const struct vc_pci_function *f)
{
	uint32_t msi = f->msi ? 1u << (f->initial[f->msi + CONTROL] >> 1 & 7) : 0;

	return f->vectors > msi ? f->vectors : msi;
}

bool vc_pci_has_pin(const struct vc_pci_function *f)
{
	return f->initial[PCI_INTERRUPT_PIN];
}

/* ---- the MSI-X table and the pending bits; in a BAR of their own reads of the rest are 0 ---- */

static bool in_table(const struct vc_pci_function *f, unsigned bar, uint64_t at)
{
	return bar == f->table_bar && at - f->table_at < (uint64_t)f->vectors * VECTOR_SIZE;
}

static bool in_pending(const struct vc_pci_function *f, unsigned bar, uint64_t at)
{
	return bar == f->pba_bar && at - f->pba < (f->vectors + 63) / 64 * 8;
}

bool pci_msix_has(const struct vc_pci_function *f, unsigned bar, const struct vcore_io *io)
{
	uint64_t first = io->offset, last = io->offset + io->width - 1;

	return f->bars[bar].flags & VCORE_PCI_BAR_MSIX || in_table(f, bar, first) || in_table(f, bar, last) ||
	       in_pending(f, bar, first) || in_pending(f, bar, last);
}

static uint8_t msix_byte(const struct vc_pci_function *f, unsigned bar, uint64_t at)
{
	const uint8_t *table = (const uint8_t *)f->table, *pending = (const uint8_t *)f->pending;

	if (in_table(f, bar, at))
		return table[at - f->table_at];
	return in_pending(f, bar, at) ? pending[at - f->pba] : 0;
}

void pci_msix_read(struct vc_pci_function *f, unsigned bar, struct vcore_io *io)
{
	io->data = 0;
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < io->width; i++)
		io->data |= (uint64_t)msix_byte(f, bar, io->offset + i) << (8 * i);
	pthread_mutex_unlock(&f->lock);
}

static void write_vector(struct vc_pci_function *f, uint64_t at, uint32_t value)
{
	uint8_t *vector = (uint8_t *)&f->table[at / VECTOR_SIZE];
	unsigned field = at % VECTOR_SIZE;

	if (field == 0)
		value &= ~3u; /* the address is one of a doubleword */
	if (field == VECTOR_CONTROL)
		value &= VECTOR_MASKED;
	vc_st32(vector + field, value);
}

/* Only aligned accesses of 4 and 8 bytes have a meaning (6.8.2). */
void pci_msix_write(struct vc_pci_function *f, unsigned bar, const struct vcore_io *io)
{
	if ((io->width != 4 && io->width != 8) || io->offset % io->width)
		return;
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < io->width; i += 4)
		if (in_table(f, bar, io->offset + i))
			write_vector(f, io->offset + i - f->table_at, (uint32_t)(io->data >> (8 * i)));
	pci_send_pending(f);
	pthread_mutex_unlock(&f->lock);
	pci_tell_message(f, (uint32_t)((io->offset - f->table_at) / VECTOR_SIZE));
}
