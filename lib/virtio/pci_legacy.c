/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The legacy interface of a transitional device (4.1.4.10): ports in BAR 0. Numbers are in the guest's order, which on
 * x86 is little-endian. Its drivers know no FEATURES_OK: it is set when they begin to use what they have negotiated.
 */
#include "core/util.h"
#include "virtio/pci_priv.h"

enum {
	REG_DEVICE_FEATURES = 0,
	REG_DRIVER_FEATURES = 4,
	REG_QUEUE_PFN = 8,
	REG_QUEUE_SIZE = 12,
	REG_QUEUE_SELECT = 14,
	REG_QUEUE_NOTIFY = 16,
	REG_STATUS = 18,
	REG_ISR = 19,
	REG_CONFIG_VECTOR = 20, /* these two only while MSI-X is enabled */
	REG_QUEUE_VECTOR = 22,
	REGS_LENGTH = 20,
	REGS_LENGTH_MSIX = 24,

	STATUS_BITS = VC_VIRTIO_S_ACKNOWLEDGE | VC_VIRTIO_S_DRIVER | VC_VIRTIO_S_DRIVER_OK | VC_VIRTIO_S_FAILED,
	PAGE = 4096, /* of a PFN, and where the used ring is aligned (2.7.2) */
	MSIX = 2,    /* vcore_pci_info.msi */
};

/* Descriptors may be divided as the driver likes, which is how all devices here read them. */
#define F_ANY_LAYOUT (1u << 27)

uint32_t vc_virtio_pci_legacy_length(const struct vc_virtio_ops *ops)
{
	uint32_t length = 32;

	while (length < REGS_LENGTH_MSIX + ops->config_size)
		length *= 2;
	return length;
}

static uint32_t config_at(struct vc_virtio_pci *p)
{
	struct vcore_pci_info info = {.size = sizeof info};

	vc_pci_get_info(vc_pci_function_of(p->dev), &info);
	return info.msi == MSIX ? REGS_LENGTH_MSIX : REGS_LENGTH;
}

static uint32_t width_of(uint32_t reg)
{
	return reg < REG_QUEUE_SIZE ? 4 : reg == REG_STATUS || reg == REG_ISR ? 1 : 2;
}

static uint32_t read_queue(struct vc_virtio_pci *p, uint32_t n, uint32_t reg)
{
	struct vc_virtq_setup s;

	if (n >= p->queues)
		return reg == REG_QUEUE_VECTOR ? VC_VIRTIO_PCI_NO_VECTOR : 0;
	vc_virtq_get_setup(p->v, n, &s);
	if (reg == REG_QUEUE_PFN)
		return s.ready ? (uint32_t)(s.descriptors / PAGE) : 0;
	return reg == REG_QUEUE_SIZE ? s.size : vc_virtio_pci_queue_vector(p, n);
}

static uint32_t read_register(struct vc_virtio_pci *p, uint32_t reg)
{
	struct pci_regs regs = vc_virtio_pci_regs(p);

	switch (reg) {
	case REG_DEVICE_FEATURES:
		return (uint32_t)vc_virtio_device_features(p->v) | F_ANY_LAYOUT;
	case REG_DRIVER_FEATURES:
		return (uint32_t)vc_virtio_driver_features(p->v);
	case REG_QUEUE_SELECT:
		return regs.queue_select;
	case REG_STATUS:
		return vc_virtio_status(p->v) & STATUS_BITS;
	case REG_ISR:
		return vc_virtio_pci_take_isr(p);
	case REG_CONFIG_VECTOR:
		return regs.config_vector;
	case REG_QUEUE_PFN:
	case REG_QUEUE_SIZE:
	case REG_QUEUE_VECTOR:
		return read_queue(p, regs.queue_select, reg);
	default:
		return 0;
	}
}

uint64_t vc_virtio_pci_read_legacy(struct vc_virtio_pci *p, uint32_t at, uint32_t width)
{
	uint32_t config = config_at(p);
	uint64_t value = 0;

	if (at < config)
		return width == width_of(at) ? read_register(p, at) : 0;
	vc_virtio_config_read(p->v, at - config, &value, width);
	return value;
}

static void set_status(struct vc_virtio_pci *p, uint32_t status)
{
	if (!status) {
		vc_virtio_pci_reset(p);
		return;
	}
	status &= STATUS_BITS;
	if (status & VC_VIRTIO_S_DRIVER_OK)
		status |= VC_VIRTIO_S_FEATURES_OK;
	vc_virtio_set_status(p->v, (uint8_t)status);
}

/* All of a queue in one piece (2.7.2); 0: there is none any more. */
static void set_pfn(struct vc_virtio_pci *p, uint32_t n, uint32_t pfn)
{
	struct vc_virtq_setup s;

	if (n >= p->queues)
		return;
	vc_virtq_get_setup(p->v, n, &s);
	if (!pfn) {
		if (s.ready)
			vc_virtq_reset(p->v, n);
		return;
	}
	vc_virtio_set_status(p->v, vc_virtio_status(p->v) | VC_VIRTIO_S_FEATURES_OK);
	s.descriptors = (uint64_t)pfn * PAGE;
	s.driver = s.descriptors + 16ull * s.size;
	s.device = VC_ALIGN_UP(s.driver + 6 + 2ull * s.size, PAGE);
	s.ready = true;
	vc_virtq_set_setup(p->v, n, &s);
}

static void write_register(struct vc_virtio_pci *p, uint32_t reg, uint32_t value)
{
	uint32_t n = vc_virtio_pci_regs(p).queue_select;

	switch (reg) {
	case REG_DRIVER_FEATURES:
		vc_virtio_set_driver_features(p->v, value & ~F_ANY_LAYOUT);
		break;
	case REG_QUEUE_PFN:
		set_pfn(p, n, value);
		break;
	case REG_QUEUE_SELECT:
		vc_virtio_pci_select_queue(p, (uint16_t)value);
		break;
	case REG_QUEUE_NOTIFY:
		vc_virtio_kick(p->v, value);
		break;
	case REG_STATUS:
		set_status(p, value);
		break;
	case REG_CONFIG_VECTOR:
		vc_virtio_pci_set_vector(p, &p->regs.config_vector, value);
		break;
	case REG_QUEUE_VECTOR:
		if (n < p->queues)
			vc_virtio_pci_set_vector(p, &p->queue_vector[n], value);
		break;
	}
}

void vc_virtio_pci_write_legacy(struct vc_virtio_pci *p, uint32_t at, uint32_t width, uint64_t value)
{
	uint32_t config = config_at(p);

	if (at >= config)
		vc_virtio_config_write(p->v, at - config, &value, width);
	else if (width == width_of(at))
		write_register(p, at, (uint32_t)value);
}
