/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Irqchip FULL: the IOAPIC, the PICs and the PIT in the kernel as devices without registers, saved and loaded in the
 * form that lib/chipset saves its own.
 *
 * What the kernel does not tell or take: the level of edge-triggered lines, of which each device knows its own; and how
 * far the PIT's channel 0 has counted, which begins a new count.
 */
#include "backend/kvm/kvm.h"
#include "chipset/chip.h"
#include "chipset/chip_state.h"
#include "chipset/dev_state.h"

static int get_chip(struct vc_bvm *vm, uint32_t id, struct kvm_irqchip *chip)
{
	*chip = (struct kvm_irqchip){.chip_id = id};
	return kvm_ioctl_p(kvm_vm_of(vm)->vm_fd, KVM_GET_IRQCHIP, chip) < 0 ? vc_fail_errno(errno, "KVM_GET_IRQCHIP %u", id)
	                                                                    : 0;
}

static int set_chip(struct vc_bvm *vm, const struct kvm_irqchip *chip)
{
	return kvm_ioctl_p(kvm_vm_of(vm)->vm_fd, KVM_SET_IRQCHIP, chip) < 0
	           ? vc_fail_errno(errno, "KVM_SET_IRQCHIP %u", chip->chip_id)
	           : 0;
}

/* ---- IOAPIC ---- */

static uint32_t level_pins(const uint64_t rte[VC_IOAPIC_PINS])
{
	uint32_t pins = 0;

	for (unsigned pin = 0; pin < VC_IOAPIC_PINS; pin++)
		pins |= rte[pin] & VC_RTE_LEVEL ? 1u << pin : 0;
	return pins;
}

static int64_t ioapic_save(void *ctx, void *buffer, size_t length)
{
	struct vc_ioapic_state state = {.version = VC_IOAPIC_STATE_VERSION};
	const struct kvm_ioapic_state *k;
	struct kvm_irqchip chip;
	int r = get_chip(ctx, KVM_IRQCHIP_IOAPIC, &chip);

	if (r < 0)
		return r;
	k = &chip.chip.ioapic;
	state.select = (uint8_t)k->ioregsel;
	state.id = k->id & 0xf;
	for (unsigned pin = 0; pin < VC_IOAPIC_PINS; pin++) {
		uint64_t rte = k->redirtbl[pin].bits;

		state.rte[pin] = rte & (VC_RTE_WRITABLE | (rte & VC_RTE_LEVEL ? VC_RTE_REMOTE_IRR : 0));
	}
	state.lines = k->irr & level_pins(state.rte);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int ioapic_load(void *ctx, const void *buffer, size_t length)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_ioapic_state *k = &chip.chip.ioapic;
	struct vc_ioapic_state state;
	int r = vc_dev_state_in("ioapic", VC_IOAPIC_STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	k->base_address = VC_IOAPIC_BASE;
	k->ioregsel = state.select;
	k->id = state.id & 0xf;
	for (unsigned pin = 0; pin < VC_IOAPIC_PINS; pin++)
		k->redirtbl[pin].bits = state.rte[pin] & (VC_RTE_WRITABLE | VC_RTE_REMOTE_IRR);
	/* of an edge this would make another one */
	k->irr = state.lines & level_pins(state.rte);
	return set_chip(ctx, &chip);
}

static const struct vcore_device_ops ioapic_ops = {.size = sizeof ioapic_ops, .save = ioapic_save, .load = ioapic_load};

/* ---- PICs ---- */

static const uint8_t elcr_mask[2] = {VC_PIC_ELCR_MASTER, VC_PIC_ELCR_SLAVE};

static int64_t pic_save(void *ctx, void *buffer, size_t length)
{
	struct vc_pic_state state = {.version = VC_PIC_STATE_VERSION};

	for (unsigned n = 0; n < 2; n++) {
		struct kvm_irqchip chip;
		const struct kvm_pic_state *k = &chip.chip.pic;
		int r = get_chip(ctx, n, &chip);

		if (r < 0)
			return r;
		state.chip[n] = (struct vc_pic_chip){
		    .lines = k->last_irr,
		    .irr = k->irr,
		    .imr = k->imr,
		    .isr = k->isr,
		    .elcr = k->elcr & elcr_mask[n],
		    .base = k->irq_base & 0xf8,
		    .highest = k->priority_add & 7,
		    .expect = k->init_state & 3,
		    .need_icw4 = !!k->init4,
		    .sfnm = !!k->special_fully_nested_mode,
		    .aeoi = !!k->auto_eoi,
		    .rotate_on_aeoi = !!k->rotate_on_auto_eoi,
		    .special_mask = !!k->special_mask,
		    .poll = !!k->poll,
		    .read_isr = !!k->read_reg_select,
		};
	}
	/* the slave's request: where it goes on, the line is made from the slave's state */
	state.chip[0].lines &= ~(1u << VC_PIC_CASCADE_IR);
	state.chip[0].irr &= ~(1u << VC_PIC_CASCADE_IR);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int pic_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_pic_state state;
	int r = vc_dev_state_in("pic", VC_PIC_STATE_VERSION, &state, sizeof state, buffer, length);

	/* the slave first, for the master's output follows from both */
	for (int n = 1; r >= 0 && n >= 0; n--) {
		const struct vc_pic_chip *c = &state.chip[n];
		struct kvm_irqchip chip = {.chip_id = (uint32_t)n};

		chip.chip.pic = (struct kvm_pic_state){
		    .last_irr = c->lines,
		    .irr = c->irr,
		    .imr = c->imr,
		    .isr = c->isr,
		    .priority_add = c->highest & 7,
		    .irq_base = c->base & 0xf8,
		    .read_reg_select = !!c->read_isr,
		    .poll = !!c->poll,
		    .special_mask = !!c->special_mask,
		    .init_state = c->expect & 3,
		    .auto_eoi = !!c->aeoi,
		    .rotate_on_auto_eoi = !!c->rotate_on_aeoi,
		    .special_fully_nested_mode = !!c->sfnm,
		    .init4 = !!c->need_icw4,
		    .elcr = c->elcr & elcr_mask[n],
		    .elcr_mask = elcr_mask[n],
		};
		if (n == 0)
			chip.chip.pic.last_irr &= ~(1u << VC_PIC_CASCADE_IR);
		r = set_chip(ctx, &chip);
	}
	return r;
}

static const struct vcore_device_ops pic_ops = {.size = sizeof pic_ops, .save = pic_save, .load = pic_load};

/* ---- PIT ---- */

/* The kernel's word for which byte comes next: 1 low, 2 high, 3 low of both, 4 high of both. */
enum { BYTE_LOW_OF_BOTH = 3, BYTE_HIGH_OF_BOTH = 4 };
/* The kernel's mode of a channel that was never programmed. */
#define PIT_MODE_NONE 0xffu

static uint8_t next_byte(const struct vc_pit_channel *c, bool high)
{
	return c->access == BYTE_LOW_OF_BOTH && high ? BYTE_HIGH_OF_BOTH : c->access;
}

static void channel_from_kvm(struct vc_pit_channel *c, const struct kvm_pit_channel_state *k, int64_t start)
{
	vc_pit_channel_reset(c, k->gate);
	if (k->mode > 5)
		return;
	c->mode = k->mode;
	c->bcd = !!k->bcd;
	c->access = k->rw_mode & 3 ? k->rw_mode & 3 : BYTE_LOW_OF_BOTH;
	c->count = k->count && k->count <= 65536 ? k->count : 65536;
	c->phase = c->gate || c->mode == 1 || c->mode == 5 ? VC_PIT_RUNNING : VC_PIT_FROZEN;
	c->start = start;
	c->write_low = k->write_latch;
	c->write_high_next = k->write_state == BYTE_HIGH_OF_BOTH;
	c->read_high_next = (k->count_latched ? k->count_latched : k->read_state) == BYTE_HIGH_OF_BOTH;
	c->latched = !!k->count_latched;
	c->latch = k->latched_count;
	c->status_latched = !!k->status_latched;
	c->status = k->status;
}

static bool is_one_shot(const struct vc_pit_channel *c)
{
	return c->mode == 0 || c->mode == 1 || c->mode == 4;
}

/* The count to begin with: what is left of one that is counted once. */
static uint32_t count_left(const struct vc_pit_channel *c, int64_t tick)
{
	int64_t gone = tick > c->start ? tick - c->start : 0;

	if (c->next_count)
		return c->next_count;
	return is_one_shot(c) && c->phase == VC_PIT_RUNNING && gone < c->count ? c->count - (uint32_t)gone : c->count;
}

static void channel_to_kvm(struct kvm_pit_channel_state *k, const struct vc_pit_channel *c, int64_t tick)
{
	struct vc_pit_channel never;

	vc_pit_channel_reset(&never, c->gate);
	*k = (struct kvm_pit_channel_state){
	    .count = count_left(c, tick),
	    .latched_count = c->latch,
	    .count_latched = c->latched ? next_byte(c, c->read_high_next) : 0,
	    .status_latched = c->status_latched,
	    .status = c->status,
	    .read_state = next_byte(c, c->read_high_next),
	    .write_state = next_byte(c, c->write_high_next),
	    .write_latch = c->write_low,
	    .rw_mode = c->access,
	    .mode = memcmp(c, &never, sizeof never) ? c->mode : PIT_MODE_NONE,
	    .bcd = c->bcd,
	    .gate = c->gate,
	};
}

static int64_t tick_now(const struct vc_bvm *vm)
{
	return (int64_t)vc_ns_to_ticks(vc_clock_now(vm->env.clock), VC_PIT_HZ);
}

static int64_t pit_save(void *ctx, void *buffer, size_t length)
{
	struct vc_bvm *vm = ctx;
	int64_t tick = tick_now(vm), now = (int64_t)vc_host_ns();
	struct vc_pit_state state = {.version = VC_PIT_STATE_VERSION, .edges_until = tick};
	struct kvm_pit_state2 pit = {0};

	if (kvm_ioctl_p(kvm_vm_of(vm)->vm_fd, KVM_GET_PIT2, &pit) < 0)
		return vc_fail_errno(errno, "KVM_GET_PIT2");
	for (unsigned n = 0; n < 3; n++) {
		int64_t gone = n && pit.channels[n].count_load_time < now ? now - pit.channels[n].count_load_time : 0;

		channel_from_kvm(&state.channel[n], &pit.channels[n],
		                 tick - (int64_t)vc_ns_to_ticks((uint64_t)gone, VC_PIT_HZ));
	}
	state.level = vc_pit_out(&state.channel[0], tick);
	state.system = (uint8_t)((pit.channels[2].gate ? VC_PIT_GATE2 : 0) |
	                         (pit.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON ? VC_PIT_SPEAKER : 0));
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int pit_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_bvm *vm = ctx;
	struct kvm_pit_state2 pit = {0};
	struct vc_pit_state state;
	int r = vc_dev_state_in("pit", VC_PIT_STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	for (unsigned n = 0; n < 3; n++) {
		if (!vc_pit_channel_is_valid(&state.channel[n]))
			return vc_fail(EINVAL, "pit: state of channel %u is impossible", n);
		channel_to_kvm(&pit.channels[n], &state.channel[n], tick_now(vm));
	}
	/* a kernel that does not know this flag does not mind it either */
	pit.flags = state.system & VC_PIT_SPEAKER ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0;
	return kvm_ioctl_p(kvm_vm_of(vm)->vm_fd, KVM_SET_PIT2, &pit) < 0 ? vc_fail_errno(errno, "KVM_SET_PIT2") : 0;
}

static const struct vcore_device_ops pit_ops = {.size = sizeof pit_ops, .save = pit_save, .load = pit_load};

int kvm_add_chips(struct vc_bvm *vm)
{
	int r = vc_chip_add(&vm->env, "ioapic", &ioapic_ops, vm, NULL, 0);

	if (r < 0 || !vm->has_pit)
		return r;
	r = vc_chip_add(&vm->env, "pic", &pic_ops, vm, NULL, 0);
	return r < 0 ? r : vc_chip_add(&vm->env, "pit", &pit_ops, vm, NULL, 0);
}
