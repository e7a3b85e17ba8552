/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/util.h"
#include "virtio/pci_priv.h"

/* The common configuration structure (4.1.4.3) */
enum {
	REG_DEVICE_FEATURE_SELECT = 0,
	REG_DEVICE_FEATURE = 4,
	REG_DRIVER_FEATURE_SELECT = 8,
	REG_DRIVER_FEATURE = 12,
	REG_CONFIG_VECTOR = 16,
	REG_NUM_QUEUES = 18,
	REG_STATUS = 20,
	REG_GENERATION = 21,
	REG_QUEUE_SELECT = 22,
	REG_QUEUE_SIZE = 24,
	REG_QUEUE_VECTOR = 26,
	REG_QUEUE_ENABLE = 28,
	REG_QUEUE_NOTIFY_OFF = 30,
	REG_QUEUE_DESC = 32, /* 64 bits, in halves; likewise the next two */
	REG_QUEUE_DRIVER = 40,
	REG_QUEUE_DEVICE = 48,
	REG_QUEUE_NOTIFY_DATA = 56,
	REG_QUEUE_RESET = 58,
};

struct pci_regs vc_virtio_pci_regs(struct vc_virtio_pci *p)
{
	struct pci_regs regs;

	pthread_mutex_lock(&p->lock);
	regs = p->regs;
	pthread_mutex_unlock(&p->lock);
	return regs;
}

static void set_select(struct vc_virtio_pci *p, uint32_t *select, uint32_t value)
{
	pthread_mutex_lock(&p->lock);
	*select = value;
	pthread_mutex_unlock(&p->lock);
}

void vc_virtio_pci_set_vector(struct vc_virtio_pci *p, uint16_t *vector, uint32_t value)
{
	pthread_mutex_lock(&p->lock);
	*vector = value < p->vectors ? (uint16_t)value : VC_VIRTIO_PCI_NO_VECTOR;
	pthread_mutex_unlock(&p->lock);
}

uint16_t vc_virtio_pci_queue_vector(struct vc_virtio_pci *p, uint32_t n)
{
	uint16_t vector;

	pthread_mutex_lock(&p->lock);
	vector = p->queue_vector[n];
	pthread_mutex_unlock(&p->lock);
	return vector;
}

void vc_virtio_pci_select_queue(struct vc_virtio_pci *p, uint16_t n)
{
	pthread_mutex_lock(&p->lock);
	p->regs.queue_select = n;
	pthread_mutex_unlock(&p->lock);
}

static uint32_t read_queue(struct vc_virtio_pci *p, uint32_t n, uint32_t reg)
{
	struct vc_virtq_setup s;

	if (n >= p->queues)
		return reg == REG_QUEUE_VECTOR ? VC_VIRTIO_PCI_NO_VECTOR : 0;
	vc_virtq_get_setup(p->v, n, &s);
	switch (reg) {
	case REG_QUEUE_SIZE:
		return s.size;
	case REG_QUEUE_VECTOR:
		return vc_virtio_pci_queue_vector(p, n);
	case REG_QUEUE_ENABLE:
		return s.ready;
	case REG_QUEUE_NOTIFY_OFF:
	case REG_QUEUE_NOTIFY_DATA:
		return n;
	case REG_QUEUE_DESC:
	case REG_QUEUE_DESC + 4:
		return (uint32_t)(s.descriptors >> (8 * (reg & 4)));
	case REG_QUEUE_DRIVER:
	case REG_QUEUE_DRIVER + 4:
		return (uint32_t)(s.driver >> (8 * (reg & 4)));
	case REG_QUEUE_DEVICE:
	case REG_QUEUE_DEVICE + 4:
		return (uint32_t)(s.device >> (8 * (reg & 4)));
	default: /* a reset is over when its write is */
		return 0;
	}
}

static uint32_t read_field(struct vc_virtio_pci *p, uint32_t reg)
{
	struct pci_regs regs = vc_virtio_pci_regs(p);

	switch (reg) {
	case REG_DEVICE_FEATURE_SELECT:
		return regs.device_feature_select;
	case REG_DEVICE_FEATURE:
		return vc_virtio_features_half(vc_virtio_device_features(p->v), regs.device_feature_select);
	case REG_DRIVER_FEATURE_SELECT:
		return regs.driver_feature_select;
	case REG_DRIVER_FEATURE:
		return vc_virtio_features_half(vc_virtio_driver_features(p->v), regs.driver_feature_select);
	case REG_CONFIG_VECTOR:
		return regs.config_vector;
	case REG_NUM_QUEUES:
		return p->queues;
	case REG_STATUS:
		return vc_virtio_status(p->v);
	case REG_GENERATION:
		return vc_virtio_generation(p->v) & 0xff;
	case REG_QUEUE_SELECT:
		return regs.queue_select;
	default:
		return read_queue(p, regs.queue_select, reg);
	}
}

static void write_setup(struct vc_virtio_pci *p, uint32_t n, uint32_t reg, uint32_t value)
{
	struct vc_virtq_setup s;

	vc_virtq_get_setup(p->v, n, &s);
	if (reg == REG_QUEUE_SIZE)
		s.size = value;
	else if (reg == REG_QUEUE_ENABLE && value == 1) /* 0 is not for drivers to write */
		s.ready = true;
	else if (reg >= REG_QUEUE_DESC && reg < REG_QUEUE_NOTIFY_DATA)
		vc_virtq_set_half(&s, (reg - REG_QUEUE_DESC) / 8, reg & 4, value);
	else
		return;
	vc_virtq_set_setup(p->v, n, &s);
}

static void write_queue(struct vc_virtio_pci *p, uint32_t n, uint32_t reg, uint32_t value)
{
	if (n >= p->queues)
		return;
	if (reg == REG_QUEUE_VECTOR)
		vc_virtio_pci_set_vector(p, &p->queue_vector[n], value);
	else if (reg != REG_QUEUE_RESET)
		write_setup(p, n, reg, value);
	else if (value == 1)
		vc_virtq_reset(p->v, n);
}

static void clear_regs(struct vc_virtio_pci *p)
{
	pthread_mutex_lock(&p->lock);
	p->regs = (struct pci_regs){
	    .version = VC_VIRTIO_PCI_VERSION, .config_vector = VC_VIRTIO_PCI_NO_VECTOR, .isr = p->regs.isr};
	for (uint32_t i = 0; i < p->queues; i++)
		p->queue_vector[i] = VC_VIRTIO_PCI_NO_VECTOR;
	pthread_mutex_unlock(&p->lock);
	vc_virtio_pci_take_isr(p);
}

void vc_virtio_pci_reset(struct vc_virtio_pci *p)
{
	vc_virtio_set_status(p->v, 0);
	clear_regs(p);
}

static void write_status(struct vc_virtio_pci *p, uint32_t value)
{
	if (value)
		vc_virtio_set_status(p->v, (uint8_t)value);
	else
		vc_virtio_pci_reset(p);
}

static void write_field(struct vc_virtio_pci *p, uint32_t reg, uint32_t value)
{
	struct pci_regs regs = vc_virtio_pci_regs(p);

	switch (reg) {
	case REG_DEVICE_FEATURE_SELECT:
		set_select(p, &p->regs.device_feature_select, value);
		break;
	case REG_DRIVER_FEATURE_SELECT:
		set_select(p, &p->regs.driver_feature_select, value);
		break;
	case REG_DRIVER_FEATURE:
		vc_virtio_set_driver_half(p->v, regs.driver_feature_select, value);
		break;
	case REG_CONFIG_VECTOR:
		vc_virtio_pci_set_vector(p, &p->regs.config_vector, value);
		break;
	case REG_STATUS:
		write_status(p, value);
		break;
	case REG_QUEUE_SELECT:
		vc_virtio_pci_select_queue(p, (uint16_t)value);
		break;
	default:
		write_queue(p, regs.queue_select, reg, value);
	}
}

/* Every field has one width (4.1.3.1); a 64-bit one is also accessed by halves. */
static bool is_natural(uint32_t at, uint32_t width)
{
	uint32_t natural = at < REG_CONFIG_VECTOR                               ? 4
	                   : at == REG_STATUS || at == REG_GENERATION           ? 1
	                   : at >= REG_QUEUE_DESC && at < REG_QUEUE_NOTIFY_DATA ? 4
	                                                                        : 2;

	return at < VC_VIRTIO_PCI_COMMON_LENGTH && width == natural && VC_IS_ALIGNED(at, natural);
}

uint64_t vc_virtio_pci_read_common(struct vc_virtio_pci *p, uint32_t at, uint32_t width)
{
	if (width == 8)
		return vc_virtio_pci_read_common(p, at, 4) | vc_virtio_pci_read_common(p, at + 4, 4) << 32;
	return is_natural(at, width) ? read_field(p, at) : 0;
}

void vc_virtio_pci_write_common(struct vc_virtio_pci *p, uint32_t at, uint32_t width, uint64_t value)
{
	if (width == 8) {
		vc_virtio_pci_write_common(p, at, 4, value);
		vc_virtio_pci_write_common(p, at + 4, 4, value >> 32);
	} else if (is_natural(at, width)) {
		write_field(p, at, (uint32_t)(value & vc_width_mask(width)));
	}
}
