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
	MSI_ADDRESS = 4,
	MSI_DATA = 12,
	MSI_MASK = 16,
	MSI_PENDING = 20,

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

/* A message is a write to memory, which takes bus mastering. */
static bool is_master(const struct vc_pci_function *f)
{
	return vc_ld16(f->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* False: it has to wait. */
static bool msix_message(const struct vc_pci_function *f, uint32_t vector, uint64_t *address, uint32_t *data)
{
	const struct pci_vector *v = &f->table[vector];

	*address = v->address;
	*data = v->data;
	return is_master(f) && !(v->control & VECTOR_MASKED) && !(vc_ld16(f->config + f->msix + CONTROL) & MSIX_MASK_ALL);
}

static void send_msix(struct vc_pci_function *f, uint32_t vector)
{
	uint64_t address;
	uint32_t data;

	if (vector >= f->vectors)
		return;
	if (msix_message(f, vector, &address, &data))
		vc_msi_send(f->pci->config.irqs, address, data);
	else
		f->pending[vector / 64] |= 1ull << vector % 64;
}

/* The guest may allot fewer vectors than there are: the upper ones share. */
static uint32_t msi_shift(const struct vc_pci_function *f)
{
	uint16_t control = vc_ld16(f->config + f->msi + CONTROL);
	uint32_t given = control >> MSI_VECTORS_SHIFT & 7, offered = control >> 1 & 7;

	return given < offered ? given : offered;
}

/* False: it has to wait, as *bit of the pending ones. */
static bool msi_message(const struct vc_pci_function *f, uint32_t vector, uint64_t *address, uint32_t *data,
                        uint32_t *bit)
{
	const uint8_t *cap = f->config + f->msi;
	uint32_t allotted = (1u << msi_shift(f)) - 1;

	*bit = 1u << (vector & allotted);
	*address = vc_ld64(cap + MSI_ADDRESS);
	*data = (vc_ld16(cap + MSI_DATA) & ~allotted) | (vector & allotted);
	return is_master(f) && !(vc_ld32(cap + MSI_MASK) & *bit);
}

static void send_msi(struct vc_pci_function *f, uint32_t vector)
{
	uint8_t *pending = f->config + f->msi + MSI_PENDING;
	uint64_t address;
	uint32_t data, bit;

	if (msi_message(f, vector, &address, &data, &bit))
		vc_msi_send(f->pci->config.irqs, address, data);
	else
		vc_st32(pending, vc_ld32(pending) | bit);
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

bool vc_pci_msi_message(struct vc_pci_function *f, uint32_t vector, uint64_t *address, uint32_t *data)
{
	uint32_t bit;
	bool is = false;

	pthread_mutex_lock(&f->lock);
	if (pci_msix_enabled(f))
		is = vector < f->vectors && msix_message(f, vector, address, data);
	else if (pci_msi_enabled(f))
		is = msi_message(f, vector, address, data, &bit);
	pthread_mutex_unlock(&f->lock);
	return is;
}

void vc_pci_on_message(struct vc_pci_function *f, void (*changed)(void *ctx))
{
	f->message_changed = changed;
}

void pci_tell_messages(const struct vc_pci_function *f)
{
	if (f->message_changed)
		f->message_changed(f->ctx);
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
	uint32_t bits = vc_ld32(f->config + f->msi + MSI_PENDING);

	vc_st32(f->config + f->msi + MSI_PENDING, 0);
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

/* ---- the MSI-X BAR: the table, then the pending bits; reads of the rest are 0 ---- */

static uint8_t msix_byte(const struct vc_pci_function *f, uint64_t at)
{
	const uint8_t *table = (const uint8_t *)f->table, *pending = (const uint8_t *)f->pending;

	if (at < (uint64_t)f->vectors * VECTOR_SIZE)
		return table[at];
	if (at >= f->pba && at - f->pba < (f->vectors + 63) / 64 * 8)
		return pending[at - f->pba];
	return 0;
}

void pci_msix_read(struct vc_pci_function *f, struct vcore_io *io)
{
	io->data = 0;
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < io->width; i++)
		io->data |= (uint64_t)msix_byte(f, io->offset + i) << (8 * i);
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
void pci_msix_write(struct vc_pci_function *f, const struct vcore_io *io)
{
	if ((io->width != 4 && io->width != 8) || io->offset % io->width)
		return;
	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < io->width; i += 4)
		if (io->offset + i < (uint64_t)f->vectors * VECTOR_SIZE)
			write_vector(f, io->offset + i, (uint32_t)(io->data >> (8 * i)));
	pci_send_pending(f);
	pthread_mutex_unlock(&f->lock);
	pci_tell_messages(f);
}
