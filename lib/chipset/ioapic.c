/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * I/O APIC: Intel 82093AA (290566) with the EOI register that version 0x20 added.
 *
 * vc_ioapic_set() speaks of asserted and not asserted: the polarity bit is kept for the guest to read and changes
 * nothing. As on the real chip, an edge on a masked pin is lost.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/chip_state.h"
#include "chipset/dev_state.h"
#include "core/error.h"
#include "core/util.h"

#define PINS    VC_IOAPIC_PINS
#define VERSION 0x20u

#define MMIO_LENGTH 0x1000u
#define IOREGSEL    0x00u
#define IOWIN       0x10u
#define IOEOI       0x40u

#define REG_ID          0x00u
#define REG_VERSION     0x01u
#define REG_ARBITRATION 0x02u
#define REG_REDIRECTION 0x10u

/* Redirection entry */
#define RTE_VECTOR        0xffull
#define RTE_DELIVERY(rte) ((rte) >> 8 & 7)
#define RTE_LOGICAL       0x800ull
#define RTE_MASKED        0x10000ull

#define DM_LOWEST 1u

struct message {
	uint64_t address;
	uint32_t data;
};

struct vc_ioapic {
	int (*deliver)(void *ctx, uint64_t address, uint32_t data);
	void *ctx;
	void (*changed)(void *ctx, unsigned pin); /* set before the vm runs */
	void *changed_ctx;
	uint8_t first_id;
	pthread_mutex_t lock; /* protects everything below; not held while a message is delivered */
	uint8_t select, id;
	uint32_t lines; /* asserted pins */
	uint64_t rte[PINS];
};

/* SDM vol. 3, 10.11: the entry as an MSI. Bits 55:49 extend the destination as address bits 11:5 do. */
static struct message to_message(uint64_t rte)
{
	uint32_t delivery = RTE_DELIVERY(rte);

	return (struct message){
	    .address = VC_LAPIC_BASE | (rte >> 56) << 12 | (rte >> 49 & 0x7f) << 5 | (delivery == DM_LOWEST ? 8 : 0) |
	               (rte & RTE_LOGICAL ? 4 : 0),
	    .data = (uint32_t)(rte & RTE_VECTOR) | delivery << 8 | (rte & VC_RTE_LEVEL ? 0xc000 : 0),
	};
}

/* Whether a level-triggered pin has to send: asserted, not masked, and the last interrupt was ended. Notes that it
 * does. */
static bool take_level(struct vc_ioapic *io, unsigned pin)
{
	uint64_t rte = io->rte[pin];

	if (!(rte & VC_RTE_LEVEL) || (rte & (RTE_MASKED | VC_RTE_REMOTE_IRR)) || !(io->lines >> pin & 1))
		return false;
	/* Only fixed and lowest-priority interrupts get an EOI. */
	if (RTE_DELIVERY(rte) <= DM_LOWEST)
		io->rte[pin] |= VC_RTE_REMOTE_IRR;
	return true;
}

static void send(struct vc_ioapic *io, uint64_t rte)
{
	struct message m = to_message(rte);

	io->deliver(io->ctx, m.address, m.data);
}

void vc_ioapic_set(struct vc_ioapic *ioapic, unsigned pin, bool level)
{
	if (pin >= PINS)
		return;
	pthread_mutex_lock(&ioapic->lock);
	uint64_t rte = ioapic->rte[pin];
	bool rises = level && !(ioapic->lines >> pin & 1), fire;
	ioapic->lines = level ? ioapic->lines | 1u << pin : ioapic->lines & ~(1u << pin);
	if (rte & VC_RTE_LEVEL)
		fire = rises && take_level(ioapic, pin);
	else
		fire = rises && !(rte & RTE_MASKED);
	pthread_mutex_unlock(&ioapic->lock);
	if (fire)
		send(ioapic, rte);
}

void vc_ioapic_eoi(struct vc_ioapic *ioapic, uint8_t vector)
{
	uint64_t again[PINS];
	unsigned count = 0;

	pthread_mutex_lock(&ioapic->lock);
	for (unsigned pin = 0; pin < PINS; pin++) {
		uint64_t *rte = &ioapic->rte[pin];
		if ((*rte & (VC_RTE_REMOTE_IRR | VC_RTE_LEVEL)) != (VC_RTE_REMOTE_IRR | VC_RTE_LEVEL) ||
		    (*rte & RTE_VECTOR) != vector)
			continue;
		*rte &= ~VC_RTE_REMOTE_IRR;
		if (take_level(ioapic, pin))
			again[count++] = *rte;
	}
	pthread_mutex_unlock(&ioapic->lock);
	for (unsigned i = 0; i < count; i++)
		send(ioapic, again[i]);
}

bool vc_ioapic_pin_msi(struct vc_ioapic *ioapic, unsigned pin, uint64_t *address, uint32_t *data, bool *level)
{
	if (pin >= PINS)
		return false;
	pthread_mutex_lock(&ioapic->lock);
	uint64_t rte = ioapic->rte[pin];
	pthread_mutex_unlock(&ioapic->lock);
	struct message m = to_message(rte);
	*address = m.address;
	*data = m.data;
	*level = rte & VC_RTE_LEVEL;
	return !(rte & RTE_MASKED);
}

void vc_ioapic_on_change(struct vc_ioapic *ioapic, void (*changed)(void *ctx, unsigned pin), void *ctx)
{
	ioapic->changed = changed;
	ioapic->changed_ctx = ctx;
}

static uint32_t read_indirect(const struct vc_ioapic *io)
{
	unsigned pin = (io->select - REG_REDIRECTION) / 2;

	switch (io->select) {
	case REG_ID:
	case REG_ARBITRATION: /* loaded with the ID, and nobody arbitrates here */
		return (uint32_t)io->id << 24;
	case REG_VERSION:
		return (PINS - 1) << 16 | VERSION;
	}
	if (io->select < REG_REDIRECTION || pin >= PINS)
		return 0;
	return (uint32_t)(io->rte[pin] >> (io->select & 1 ? 32 : 0));
}

static void write_rte(struct vc_ioapic *io, unsigned pin, bool high, uint32_t value)
{
	uint64_t old = io->rte[pin];
	uint64_t rte = high ? (uint64_t)value << 32 | (uint32_t)old : (old & ~0xffffffffull) | value;

	rte = (rte & VC_RTE_WRITABLE) | (old & VC_RTE_REMOTE_IRR);
	/* An edge pin has no remote IRR; guests without the EOI register clear it by a visit to edge mode. */
	if (!(rte & VC_RTE_LEVEL))
		rte &= ~VC_RTE_REMOTE_IRR;
	io->rte[pin] = rte;
}

static void write_indirect(struct vc_ioapic *io, uint32_t value)
{
	pthread_mutex_lock(&io->lock);
	unsigned pin = (io->select - REG_REDIRECTION) / 2;
	bool is_rte = io->select >= REG_REDIRECTION && pin < PINS, fire = false;
	uint64_t rte = 0;

	if (is_rte) {
		write_rte(io, pin, io->select & 1, value);
		fire = take_level(io, pin);
		rte = io->rte[pin];
	} else if (io->select == REG_ID) {
		io->id = value >> 24 & 0xf;
	}
	pthread_mutex_unlock(&io->lock);
	if (is_rte && io->changed)
		io->changed(io->changed_ctx, pin);
	if (fire)
		send(io, rte);
}

static void ioapic_read(void *ctx, struct vcore_io *access)
{
	struct vc_ioapic *io = ctx;
	unsigned shift = (access->offset & 3) * 8;
	uint32_t value = 0;

	pthread_mutex_lock(&io->lock);
	if ((access->offset & ~3ull) == IOREGSEL)
		value = io->select;
	else if ((access->offset & ~3ull) == IOWIN)
		value = read_indirect(io);
	pthread_mutex_unlock(&io->lock);
	access->data = value >> shift;
}

static void ioapic_write(void *ctx, struct vcore_io *access)
{
	struct vc_ioapic *io = ctx;

	switch (access->offset) {
	case IOREGSEL:
		pthread_mutex_lock(&io->lock);
		io->select = (uint8_t)access->data;
		pthread_mutex_unlock(&io->lock);
		break;
	case IOWIN:
		if (access->width >= 4)
			write_indirect(io, (uint32_t)access->data);
		break;
	case IOEOI:
		vc_ioapic_eoi(io, (uint8_t)access->data);
		break;
	}
}

static void all_changed(struct vc_ioapic *io)
{
	for (unsigned pin = 0; io->changed && pin < PINS; pin++)
		io->changed(io->changed_ctx, pin);
}

/* Power-on; the lines belong to the devices and stay. */
static void ioapic_reset(void *ctx)
{
	struct vc_ioapic *io = ctx;

	pthread_mutex_lock(&io->lock);
	io->select = 0;
	io->id = io->first_id;
	for (unsigned pin = 0; pin < PINS; pin++)
		io->rte[pin] = RTE_MASKED;
	pthread_mutex_unlock(&io->lock);
	all_changed(io);
}

static int64_t ioapic_save(void *ctx, void *buffer, size_t length)
{
	struct vc_ioapic *io = ctx;
	struct vc_ioapic_state state = {.version = VC_IOAPIC_STATE_VERSION};

	pthread_mutex_lock(&io->lock);
	state.select = io->select;
	state.id = io->id;
	state.lines = io->lines;
	memcpy(state.rte, io->rte, sizeof state.rte);
	pthread_mutex_unlock(&io->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int ioapic_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_ioapic *io = ctx;
	struct vc_ioapic_state state;
	int r = vc_dev_state_in("ioapic", VC_IOAPIC_STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	if (state.id > 0xf || state.lines >> PINS)
		return vc_fail(EINVAL, "ioapic: state has ID %u, lines %#x", state.id, state.lines);
	for (unsigned pin = 0; pin < PINS; pin++)
		if ((state.rte[pin] & ~(VC_RTE_WRITABLE | VC_RTE_REMOTE_IRR)) ||
		    ((state.rte[pin] & VC_RTE_REMOTE_IRR) && !(state.rte[pin] & VC_RTE_LEVEL)))
			return vc_fail(EINVAL, "ioapic: state has the impossible entry %#llx for pin %u",
			               (unsigned long long)state.rte[pin], pin);
	pthread_mutex_lock(&io->lock);
	io->select = state.select;
	io->id = state.id;
	io->lines = state.lines;
	memcpy(io->rte, state.rte, sizeof io->rte);
	pthread_mutex_unlock(&io->lock);
	all_changed(io);
	return 0;
}

static void ioapic_destroy(void *ctx)
{
	struct vc_ioapic *io = ctx;

	pthread_mutex_destroy(&io->lock);
	free(io);
}

static const struct vcore_device_ops ioapic_ops = {
    .size = sizeof ioapic_ops,
    .read = ioapic_read,
    .write = ioapic_write,
    .reset = ioapic_reset,
    .save = ioapic_save,
    .load = ioapic_load,
    .destroy = ioapic_destroy,
};

int vc_ioapic_new(struct vc_env *env, uint64_t base, uint8_t id,
                  int (*deliver)(void *ctx, uint64_t msi_address, uint32_t msi_data), void *ctx,
                  struct vc_ioapic **ioapic)
{
	struct vc_ioapic *io = calloc(1, sizeof *io);

	if (!io)
		return vc_fail(ENOMEM, "no memory for the IOAPIC");
	io->deliver = deliver;
	io->ctx = ctx;
	io->first_id = id & 0xf;
	pthread_mutex_init(&io->lock, NULL);
	ioapic_reset(io);
	int r = vc_chip_add(env, "ioapic", &ioapic_ops, io, &(struct vc_chip_region){VCORE_BUS_MMIO, base, MMIO_LENGTH}, 1);
	if (r == 0)
		*ioapic = io;
	return r;
}
