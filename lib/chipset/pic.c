/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pair of 8259A interrupt controllers (Intel 231468), the slave on IR2 of the master, with the edge/level registers
 * of EISA.
 *
 * In edge mode a request stays in the IRR until it is acknowledged, even if its line drops before: devices may pulse a
 * line. LTIM in ICW1 has no effect, as in a PCH: the ELCR chooses by pin.
 */
#include <stdlib.h>

#include "chipset/chip.h"
#include "chipset/chip_state.h"
#include "chipset/dev_state.h"
#include "core/error.h"
#include "core/util.h"

#define MASTER_PORT 0x20u
#define SLAVE_PORT  0xa0u
#define ELCR_PORT   0x4d0u

#define ICW1          0x10u
#define ICW1_SINGLE   0x02u
#define ICW1_NEED_4   0x01u
#define ICW4_SFNM     0x10u
#define ICW4_AEOI     0x02u
#define OCW3          0x08u
#define OCW3_SET_SMM  0x40u
#define OCW3_SMM      0x20u
#define OCW3_POLL     0x04u
#define OCW3_READ     0x02u
#define OCW3_READ_ISR 0x01u

/* Which word the data port takes next. */
enum { EXPECT_OCW1, EXPECT_ICW2, EXPECT_ICW3, EXPECT_ICW4, EXPECT_COUNT };

struct vc_pic {
	void (*intr)(void *ctx, bool level);
	void *ctx;
	pthread_mutex_t lock;       /* protects chip */
	struct vc_pic_chip chip[2]; /* master, slave */
	_Atomic bool output;        /* INTR of the master; changes under lock */
};

static const uint8_t elcr_mask[2] = {VC_PIC_ELCR_MASTER, VC_PIC_ELCR_SLAVE};

/* The set bit of highest priority: its distance from the highest IR; 8: none. */
static unsigned priority(const struct vc_pic_chip *c, uint8_t bits)
{
	uint8_t rotated = (uint8_t)(bits >> c->highest | bits << (8 - c->highest));

	return rotated ? (unsigned)__builtin_ctz(rotated) : 8;
}

/* The IR to be served now; -1: none. */
static int request(const struct vc_pic *pic, unsigned n)
{
	const struct vc_pic_chip *c = &pic->chip[n];
	uint8_t in_service = c->isr;

	/* Special mask mode: what is masked blocks nobody. Special fully nested: the slave may interrupt itself. */
	if (c->special_mask)
		in_service &= ~c->imr;
	if (c->sfnm && n == 0)
		in_service &= ~(1u << VC_PIC_CASCADE_IR);
	unsigned wanted = priority(c, c->irr & ~c->imr);
	return wanted < priority(c, in_service) ? (int)((wanted + c->highest) & 7) : -1;
}

static void set_pin(struct vc_pic_chip *c, unsigned ir, bool level)
{
	uint8_t bit = (uint8_t)(1u << ir);

	if (c->elcr & bit)
		c->irr = level ? c->irr | bit : c->irr & ~bit;
	else if (level && !(c->lines & bit))
		c->irr |= bit;
	c->lines = level ? c->lines | bit : c->lines & ~bit;
}

/* Carries the slave's output to the master and the master's to INTR. */
static void update(struct vc_pic *pic)
{
	set_pin(&pic->chip[0], VC_PIC_CASCADE_IR, request(pic, 1) >= 0);
	atomic_store(&pic->output, request(pic, 0) >= 0);
}

/* Called without the lock after every change. Whoever sees its level outdated tells again, so the last word is right.
 */
static void publish(struct vc_pic *pic, bool before)
{
	bool level = atomic_load(&pic->output);

	if (level == before)
		return;
	do {
		level = atomic_load(&pic->output);
		pic->intr(pic->ctx, level);
	} while (level != atomic_load(&pic->output));
}

/* One INTA cycle as the chip sees it. */
static void acknowledge(struct vc_pic_chip *c, unsigned ir)
{
	uint8_t bit = (uint8_t)(1u << ir);

	if (!(c->elcr & bit))
		c->irr &= ~bit;
	if (!c->aeoi)
		c->isr |= bit;
	else if (c->rotate_on_aeoi)
		c->highest = (ir + 1) & 7;
}

/* The slave's line to the master falls here; if something still waits in the slave, update() makes a new edge of it. */
static void acknowledge_slave(struct vc_pic *pic, unsigned ir)
{
	acknowledge(&pic->chip[1], ir);
	set_pin(&pic->chip[0], VC_PIC_CASCADE_IR, false);
	pic->chip[0].irr &= ~(1u << VC_PIC_CASCADE_IR);
}

static int inta(struct vc_pic *pic)
{
	int ir = request(pic, 0);

	if (ir < 0)
		return pic->chip[0].base + 7; /* spurious: nothing is in service */
	acknowledge(&pic->chip[0], ir);
	if (ir != VC_PIC_CASCADE_IR || pic->chip[0].single)
		return pic->chip[0].base + ir;
	ir = request(pic, 1);
	if (ir < 0)
		return pic->chip[1].base + 7; /* spurious for the slave; the master has IR2 in service */
	acknowledge_slave(pic, ir);
	return pic->chip[1].base + ir;
}

/* 0x80 + the IR, which is acknowledged; 0: none waits. */
static uint8_t poll(struct vc_pic *pic, unsigned n)
{
	int ir = request(pic, n);

	pic->chip[n].poll = 0;
	if (ir < 0)
		return 0;
	if (n)
		acknowledge_slave(pic, ir);
	else
		acknowledge(&pic->chip[0], ir);
	return (uint8_t)(0x80 | ir);
}

static void write_icw1(struct vc_pic_chip *c, uint8_t value)
{
	c->irr &= c->elcr; /* the edge detectors are reset */
	c->imr = 0;
	c->isr = 0;
	c->highest = 0;
	c->special_mask = 0;
	c->read_isr = 0;
	c->poll = 0;
	c->single = !!(value & ICW1_SINGLE);
	c->need_icw4 = !!(value & ICW1_NEED_4);
	c->sfnm = 0;
	c->aeoi = 0;
	c->rotate_on_aeoi = 0;
	c->expect = EXPECT_ICW2;
}

static void end_of_interrupt(struct vc_pic_chip *c, bool specific, unsigned ir, bool rotate)
{
	if (!specific) {
		/* In special mask mode a non-specific EOI does not reach what is masked. */
		unsigned p = priority(c, c->special_mask ? c->isr & ~c->imr : c->isr);
		if (p == 8)
			return;
		ir = (p + c->highest) & 7;
	}
	c->isr &= ~(1u << ir);
	if (rotate)
		c->highest = (ir + 1) & 7;
}

static void write_ocw2(struct vc_pic_chip *c, uint8_t value)
{
	unsigned ir = value & 7;

	switch (value >> 5) { /* rotate, specific, EOI */
	case 0:
		c->rotate_on_aeoi = 0;
		break;
	case 1:
	case 3:
	case 5:
	case 7:
		end_of_interrupt(c, value & 0x40, ir, value & 0x80);
		break;
	case 4:
		c->rotate_on_aeoi = 1;
		break;
	case 6:
		c->highest = (ir + 1) & 7;
		break;
	}
}

static void write_ocw3(struct vc_pic_chip *c, uint8_t value)
{
	if (value & OCW3_SET_SMM)
		c->special_mask = !!(value & OCW3_SMM);
	if (value & OCW3_POLL)
		c->poll = 1;
	if (value & OCW3_READ)
		c->read_isr = value & OCW3_READ_ISR;
}

static void write_command(struct vc_pic_chip *c, uint8_t value)
{
	if (value & ICW1)
		write_icw1(c, value);
	else if (value & OCW3)
		write_ocw3(c, value);
	else
		write_ocw2(c, value);
}

static void write_data(struct vc_pic_chip *c, uint8_t value)
{
	switch (c->expect) {
	case EXPECT_ICW2:
		c->base = value & 0xf8;
		c->expect = !c->single ? EXPECT_ICW3 : c->need_icw4 ? EXPECT_ICW4 : EXPECT_OCW1;
		break;
	case EXPECT_ICW3: /* the wiring of a PC is fixed */
		c->expect = c->need_icw4 ? EXPECT_ICW4 : EXPECT_OCW1;
		break;
	case EXPECT_ICW4:
		c->sfnm = !!(value & ICW4_SFNM);
		c->aeoi = !!(value & ICW4_AEOI);
		c->expect = EXPECT_OCW1;
		break;
	default:
		c->imr = value;
	}
}

static void write_elcr(struct vc_pic *pic, unsigned n, uint8_t value)
{
	struct vc_pic_chip *c = &pic->chip[n];

	c->elcr = value & elcr_mask[n];
	c->irr = (c->irr & ~c->elcr) | (c->lines & c->elcr);
}

static uint8_t read8(void *ctx, uint64_t port)
{
	struct vc_pic *pic = ctx;
	unsigned n = (port & 0x80) != 0;
	struct vc_pic_chip *c = &pic->chip[n];

	if (port == ELCR_PORT || port == ELCR_PORT + 1)
		return pic->chip[port & 1].elcr;
	if (c->poll)
		return poll(pic, n);
	if (port & 1)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static void write8(void *ctx, uint64_t port, uint8_t value)
{
	struct vc_pic *pic = ctx;
	struct vc_pic_chip *c = &pic->chip[(port & 0x80) != 0];

	if (port == ELCR_PORT || port == ELCR_PORT + 1)
		write_elcr(pic, port & 1, value);
	else if (port & 1)
		write_data(c, value);
	else
		write_command(c, value);
}

static void pic_read(void *ctx, struct vcore_io *io)
{
	struct vc_pic *pic = ctx;

	pthread_mutex_lock(&pic->lock);
	bool before = atomic_load(&pic->output);
	vc_chip_read_bytes(io, read8, pic);
	update(pic);
	pthread_mutex_unlock(&pic->lock);
	publish(pic, before);
}

static void pic_write(void *ctx, struct vcore_io *io)
{
	struct vc_pic *pic = ctx;

	pthread_mutex_lock(&pic->lock);
	bool before = atomic_load(&pic->output);
	vc_chip_write_bytes(io, write8, pic);
	update(pic);
	pthread_mutex_unlock(&pic->lock);
	publish(pic, before);
}

void vc_pic_set(struct vc_pic *pic, unsigned pin, bool level)
{
	if (pin > 15 || pin == VC_PIC_CASCADE_IR)
		return;
	pthread_mutex_lock(&pic->lock);
	bool before = atomic_load(&pic->output);
	set_pin(&pic->chip[pin / 8], pin % 8, level);
	update(pic);
	pthread_mutex_unlock(&pic->lock);
	publish(pic, before);
}

bool vc_pic_pending(struct vc_pic *pic)
{
	return atomic_load(&pic->output);
}

int vc_pic_accept(struct vc_pic *pic)
{
	pthread_mutex_lock(&pic->lock);
	bool before = atomic_load(&pic->output);
	int vector = inta(pic);
	update(pic);
	pthread_mutex_unlock(&pic->lock);
	publish(pic, before);
	return vector;
}

/* Power-on; the lines belong to the devices and stay. */
static void pic_reset(void *ctx)
{
	struct vc_pic *pic = ctx;

	pthread_mutex_lock(&pic->lock);
	bool before = atomic_load(&pic->output);
	for (unsigned n = 0; n < 2; n++)
		pic->chip[n] = (struct vc_pic_chip){.lines = pic->chip[n].lines};
	update(pic);
	pthread_mutex_unlock(&pic->lock);
	publish(pic, before);
}

static int64_t pic_save(void *ctx, void *buffer, size_t length)
{
	struct vc_pic *pic = ctx;
	struct vc_pic_state state = {.version = VC_PIC_STATE_VERSION};

	pthread_mutex_lock(&pic->lock);
	memcpy(state.chip, pic->chip, sizeof state.chip);
	pthread_mutex_unlock(&pic->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static bool is_valid(const struct vc_pic_chip *c, uint8_t elcr)
{
	return !(c->elcr & ~elcr) && !(c->base & 7) && c->highest < 8 && c->expect < EXPECT_COUNT && c->single < 2 &&
	       c->need_icw4 < 2 && c->sfnm < 2 && c->aeoi < 2 && c->rotate_on_aeoi < 2 && c->special_mask < 2 &&
	       c->poll < 2 && c->read_isr < 2;
}

static int pic_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_pic *pic = ctx;
	struct vc_pic_state state;
	int r = vc_dev_state_in("pic", VC_PIC_STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	for (unsigned n = 0; n < 2; n++)
		if (!is_valid(&state.chip[n], elcr_mask[n]))
			return vc_fail(EINVAL, "pic: state of chip %u is impossible", n);
	pthread_mutex_lock(&pic->lock);
	memcpy(pic->chip, state.chip, sizeof state.chip);
	update(pic);
	bool output = atomic_load(&pic->output);
	pthread_mutex_unlock(&pic->lock);
	publish(pic, !output); /* the LAPICs may have another idea of the pin */
	return 0;
}

static void pic_destroy(void *ctx)
{
	struct vc_pic *pic = ctx;

	pthread_mutex_destroy(&pic->lock);
	free(pic);
}

static const struct vcore_device_ops pic_ops = {
    .size = sizeof pic_ops,
    .read = pic_read,
    .write = pic_write,
    .reset = pic_reset,
    .save = pic_save,
    .load = pic_load,
    .destroy = pic_destroy,
};

int vc_pic_new(struct vc_env *env, void (*intr)(void *ctx, bool level), void *ctx, struct vc_pic **pic)
{
	static const struct vc_chip_region regions[] = {
	    {VCORE_BUS_PIO, MASTER_PORT, 2},
	    {VCORE_BUS_PIO, SLAVE_PORT, 2},
	    {VCORE_BUS_PIO, ELCR_PORT, 2},
	};
	struct vc_pic *p = calloc(1, sizeof *p);

	if (!p)
		return vc_fail(ENOMEM, "no memory for the PIC");
	p->intr = intr;
	p->ctx = ctx;
	pthread_mutex_init(&p->lock, NULL);
	int r = vc_chip_add(env, "pic", &pic_ops, p, regions, VC_ARRAY_SIZE(regions));
	if (r == 0)
		*pic = p;
	return r;
}
