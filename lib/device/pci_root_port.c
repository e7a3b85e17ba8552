/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A PCI Express root port (PCI Express 5.0, 7.5.3) with a slot whose card may come and go while the guest runs:
 * presence and link state change, and an interrupt says so. A button asks the guest to let go, which it shows by the
 * slot's power.
 */
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "device/device.h"

enum {
	VENDOR = 0x1b36,
	DEVICE = 0x000c,
	CLASS = 0x060400,

	CAP_EXPRESS = 0x10,
	CAP_AT = VC_PCI_CAPABILITIES,
	CAP_LENGTH = 58, /* without ID and link */

	/* Registers, from the capability's start */
	EXPRESS = 2,
	DEVICE_CAPABILITIES = 4,
	DEVICE_CONTROL = 8,
	LINK_CAPABILITIES = 12,
	LINK_CONTROL = 16,
	LINK_STATUS = 18,
	SLOT_CAPABILITIES = 20,
	SLOT_CONTROL = 24,
	SLOT_STATUS = 26,
	ROOT_CONTROL = 28,

	EXPRESS_VALUE = 2 | 4 << 4 | 1 << 8, /* version 2, a root port, with a slot */
	DEVICE_ROLE_BASED_ERRORS = 1 << 15,
	LINK_2_5GT_X1 = 1 | 1 << 4,
	LINK_REPORTS_ACTIVE = 1 << 20,
	LINK_ACTIVE = 1 << 13,
	SLOT_BUTTON = 1 << 0,
	SLOT_POWER_CONTROLLER = 1 << 1,
	SLOT_POWER_INDICATOR = 1 << 4,
	SLOT_SURPRISE = 1 << 5,
	SLOT_HOT_PLUG = 1 << 6,
	SLOT_NO_COMMAND_COMPLETED = 1 << 18,
	SLOT_NUMBER_SHIFT = 19,

	CONTROL_BUTTON = 1 << 0,
	CONTROL_PRESENCE = 1 << 3,
	CONTROL_INTERRUPT = 1 << 5,
	CONTROL_POWER_OFF = 1 << 10,
	CONTROL_LINK = 1 << 12,
	CONTROL_WRITABLE = 0x17ff,
	STATUS_BUTTON = 1 << 0,
	STATUS_PRESENCE_CHANGED = 1 << 3,
	STATUS_PRESENT = 1 << 6,
	STATUS_LINK_CHANGED = 1 << 8,

	STATE_VERSION = 1,
};

struct root_port {
	struct vc_dev *dev;
	pthread_mutex_t lock; /* protects all below, and INTx */
	bool present;
	uint32_t events; /* the slot status bits that stay until they are written */
	bool interrupting;
};

struct root_port_state {
	uint32_t version;
	uint32_t events;
};

static uint16_t slot_control(struct root_port *port)
{
	uint8_t bytes[2];

	vc_pci_own_config(vc_pci_function_of(port->dev), CAP_AT + SLOT_CONTROL, bytes, sizeof bytes);
	return vc_ld16(bytes);
}

/* 6.7.3.4: interrupts happen when an enabled event comes up. Caller holds the lock; true: now. */
static bool evaluate(struct root_port *port)
{
	uint16_t control = slot_control(port);
	uint32_t enabled = (control & CONTROL_BUTTON ? STATUS_BUTTON : 0) |
	                   (control & CONTROL_PRESENCE ? STATUS_PRESENCE_CHANGED : 0) |
	                   (control & CONTROL_LINK ? STATUS_LINK_CHANGED : 0);
	bool was = port->interrupting;

	port->interrupting = control & CONTROL_INTERRUPT && port->events & enabled;
	vc_pci_irq_set(vc_pci_function_of(port->dev), port->interrupting);
	return port->interrupting && !was;
}

static void change_events(struct root_port *port, uint32_t set, uint32_t clear)
{
	struct vc_pci_function *f = vc_pci_function_of(port->dev);
	bool send;

	pthread_mutex_lock(&port->lock);
	port->events = (port->events & ~clear) | set;
	send = evaluate(port);
	pthread_mutex_unlock(&port->lock);
	vc_pci_irq_flush(f);
	if (send)
		vc_pci_msi_send(f, 0);
}

/* A guest that does not listen yet will look by itself: an event from before would tell it that a card has been
 * changed. */
static void presence(void *ctx, bool present)
{
	struct root_port *port = ctx;
	bool listens = slot_control(port) & (CONTROL_PRESENCE | CONTROL_LINK);

	pthread_mutex_lock(&port->lock);
	port->present = present;
	pthread_mutex_unlock(&port->lock);
	if (listens)
		change_events(port, STATUS_PRESENCE_CHANGED | STATUS_LINK_CHANGED, 0);
}

static int attention(void *ctx)
{
	struct root_port *port = ctx;

	if (!(slot_control(port) & CONTROL_BUTTON))
		return vc_fail(EAGAIN, "the guest does not look at the button of the pci-root-port's slot");
	change_events(port, STATUS_BUTTON, 0);
	return 0;
}

static const struct vc_pci_port_ops slot_ops = {.presence = presence, .attention = attention};

/* ---- registers: status is not kept in configuration space ---- */

static void config_read(void *ctx, uint32_t offset, uint32_t width, uint32_t *value)
{
	struct root_port *port = ctx;
	uint8_t status[CAP_LENGTH + 2] = {0};

	pthread_mutex_lock(&port->lock);
	vc_st16(status + LINK_STATUS, port->present ? LINK_ACTIVE : 0);
	vc_st16(status + SLOT_STATUS, (uint16_t)(port->events | (port->present ? STATUS_PRESENT : 0)));
	pthread_mutex_unlock(&port->lock);
	for (uint32_t i = 0; i < width && offset + i < CAP_AT + sizeof status; i++)
		*value |= (uint32_t)status[offset + i - CAP_AT] << (8 * i);
}

static void follow_power(struct root_port *port)
{
	vc_pci_port_power(vc_pci_function_of(port->dev), !(slot_control(port) & CONTROL_POWER_OFF));
}

static void config_write(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
	uint32_t clear = 0;

	for (uint32_t i = 0; i < width; i++) {
		uint32_t at = offset + i - CAP_AT - SLOT_STATUS;

		if (at < 2)
			clear |= (value >> (8 * i) & 0xff) << (8 * at);
	}
	change_events(ctx, 0, clear);
	follow_power(ctx);
}

static void port_reset(void *ctx)
{
	change_events(ctx, 0, UINT32_MAX);
	follow_power(ctx);
}

static int64_t port_save(void *ctx, void *buffer, size_t length)
{
	struct root_port *port = ctx;
	struct root_port_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&port->lock);
	state.events = port->events;
	pthread_mutex_unlock(&port->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int port_load(void *ctx, const void *buffer, size_t length)
{
	struct root_port *port = ctx;
	struct root_port_state state;
	int r = vc_dev_state_in("pci-root-port", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r)
		return r;
	if (state.events & ~(uint32_t)(STATUS_BUTTON | STATUS_PRESENCE_CHANGED | STATUS_LINK_CHANGED))
		return vc_fail(EINVAL, "the saved state of a pci-root-port has events %#x", state.events);
	pthread_mutex_lock(&port->lock);
	port->events = state.events;
	evaluate(port); /* the interrupt has been sent */
	pthread_mutex_unlock(&port->lock);
	follow_power(port);
	return 0;
}

static void port_destroy(void *ctx)
{
	struct root_port *port = ctx;

	pthread_mutex_destroy(&port->lock);
	free(port);
}

static const struct vcore_pci_ops port_ops = {
    .size = sizeof port_ops,
    .config_read = config_read,
    .config_write = config_write,
    .reset = port_reset,
    .save = port_save,
    .load = port_load,
    .destroy = port_destroy,
};

/* ---- making ---- */

/* Registers as data and writable lie: behind ID and link. */
static void describe_slot(uint8_t *data, uint8_t *writable, uint32_t number)
{
	vc_st16(data + EXPRESS - 2, EXPRESS_VALUE);
	vc_st32(data + DEVICE_CAPABILITIES - 2, DEVICE_ROLE_BASED_ERRORS);
	vc_st16(writable + DEVICE_CONTROL - 2, 0x7fff);
	vc_st32(data + LINK_CAPABILITIES - 2, LINK_2_5GT_X1 | LINK_REPORTS_ACTIVE | number << 24);
	vc_st16(data + LINK_STATUS - 2, LINK_2_5GT_X1);
	vc_st16(writable + LINK_CONTROL - 2, 0x0fdb);
	vc_st32(data + SLOT_CAPABILITIES - 2, SLOT_BUTTON | SLOT_POWER_CONTROLLER | SLOT_POWER_INDICATOR | SLOT_SURPRISE |
	                                          SLOT_HOT_PLUG | SLOT_NO_COMMAND_COMPLETED | number << SLOT_NUMBER_SHIFT);
	vc_st16(writable + SLOT_CONTROL - 2, CONTROL_WRITABLE);
	vc_st16(writable + ROOT_CONTROL - 2, 0x1f);
}

static int root_port_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	uint8_t data[CAP_LENGTH] = {0}, writable[CAP_LENGTH] = {0};
	const struct vcore_pci_capability express = {
	    .id = CAP_EXPRESS, .length = CAP_LENGTH, .data = data, .writable = writable};
	struct vcore_pci_description d = {
	    .size = sizeof d,
	    .vendor = VENDOR,
	    .device = DEVICE,
	    .class_code = CLASS,
	    .interrupt_pin = 1,
	    .msi_vectors = 1,
	    .capabilities = &express,
	    .capability_count = 1,
	    .type = "pci-root-port",
	    .address = vc_props_string(props, "addr", NULL),
	};
	struct root_port *port;
	uint64_t slot;
	int r = vc_props_u64(props, "slot", 0, 0, 255, &slot);

	if (r < 0)
		return r;
	if (!env->pci)
		return vc_fail(ENOTSUP, "pci-root-port: this machine has no PCI");
	port = calloc(1, sizeof *port);
	if (!port)
		return vc_fail(ENOMEM, "no memory for a pci-root-port");
	pthread_mutex_init(&port->lock, NULL);
	describe_slot(data, writable, (uint32_t)slot);
	r = vc_pci_add_port(env->pci, &d, &port_ops, port, &slot_ops, &port->dev); /* on failure port has been destroyed */
	if (r < 0)
		return r;
	port->dev->fixed = true; /* others lie behind it */
	*dev = port->dev;
	return 0;
}

const struct vc_device_type vc_pci_root_port_type = {
    .name = "pci-root-port",
    .summary = "PCI Express root port with a hot-plug slot: \"addr=port/0\" of other devices leads there",
    .properties = "addr  device or device.function (the lowest free device)\n"
                  "slot  physical slot number for the guest to show (0)\n",
    .create = root_port_create,
};
