/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keyboard controller at ports 0x60 and 0x64 (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
 * Device Controller"): self test, command byte, A20 and reset lines, and a keyboard that answers, on which nobody types
 * but Ctrl, Alt and Delete. No mouse.
 */
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "device/device.h"

enum {
	PORT_DATA = 0x60,
	PORT_COMMAND = 0x64, /* read: status */
	IRQ_KEYBOARD = 1,

	STATUS_OBF = 0x01,
	STATUS_SYSTEM = 0x04,
	STATUS_COMMAND = 0x08,  /* the last write went to 0x64 */
	STATUS_UNLOCKED = 0x10, /* the keyboard's lock switch */

	/* controller commands */
	CMD_READ_RAM = 0x20, /* to 0x3f; 0x20 is the command byte */
	CMD_WRITE_RAM = 0x60,
	CMD_RAM_LAST = 0x1f,
	CMD_AUX_DISABLE = 0xa7,
	CMD_AUX_ENABLE = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab,
	CMD_KBD_DISABLE = 0xad,
	CMD_KBD_ENABLE = 0xae,
	CMD_READ_INPUT = 0xc0,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1,
	CMD_WRITE_OBUF = 0xd2,
	CMD_WRITE_AUX_OBUF = 0xd3,
	CMD_WRITE_AUX = 0xd4,
	CMD_A20_OFF = 0xdd,
	CMD_A20_ON = 0xdf,
	CMD_PULSE = 0xf0, /* to 0xff: the output port's lines whose bits are 0 go low for a moment */

	CTR_IRQ = 0x01,
	CTR_SYSTEM = 0x04,
	CTR_KBD_DISABLED = 0x10,
	CTR_AUX_DISABLED = 0x20,
	CTR_TRANSLATE = 0x40,
	CTR_RESET = CTR_IRQ | CTR_SYSTEM | CTR_AUX_DISABLED | CTR_TRANSLATE, /* as firmware leaves it */

	OUT_NOT_RESET = 0x01,
	OUT_A20 = 0x02,
	OUT_OBF = 0x10,
	OUT_RESET = 0xc0 | OUT_NOT_RESET | OUT_A20,

	INPUT_UNLOCKED = 0x80,
	AUX_CLOCK_STUCK = 0x02, /* test result of a port with nothing on it */

	KBD_ACK = 0xfa,
	KBD_RESEND = 0xfe,
	KBD_TEST_PASSED = 0xaa,

	QUEUE_SIZE = 16,
	RAM_SIZE = 32,
	STATE_VERSION = 1,
};

/* What a snapshot holds. */
struct i8042_state {
	uint32_t version;
	uint8_t status;      /* OBF and COMMAND */
	uint8_t output;      /* the byte at 0x60, while OBF is set or after it was read */
	uint8_t out_port;    /* without OUT_OBF */
	uint8_t pending;     /* controller command that waits for its byte at 0x60; 0: none */
	uint8_t kbd_pending; /* keyboard command that waits for its byte; 0: none */
	uint8_t scan_set;
	uint8_t last_sent; /* by the keyboard, for its resend command */
	uint8_t reply;     /* of the controller, behind what is at 0x60 already */
	uint8_t has_reply;
	uint8_t queue_count;
	uint8_t queue[QUEUE_SIZE]; /* from the keyboard, oldest first */
	uint8_t ram[RAM_SIZE];     /* ram[0]: the command byte */
	uint8_t pad[2];
};

struct i8042 {
	struct vc_env *env;
	pthread_mutex_t lock; /* protects all below; held while the interrupt line is driven */
	struct i8042_state s;
	bool irq_level;
};

static void update_irq(struct i8042 *kbc)
{
	bool level = kbc->s.status & STATUS_OBF && kbc->s.ram[0] & CTR_IRQ;

	if (level != kbc->irq_level) {
		kbc->irq_level = level;
		vc_irq_set(kbc->env->irqs, IRQ_KEYBOARD, level);
	}
}

/* Fills the output buffer when it is empty: replies of the controller go first, the keyboard may be held off. */
static void advance(struct i8042 *kbc)
{
	struct i8042_state *s = &kbc->s;

	if (s->status & STATUS_OBF) {
		update_irq(kbc);
		return;
	}
	update_irq(kbc); /* low in between: every byte is an edge */
	if (s->has_reply) {
		s->output = s->reply;
		s->has_reply = 0;
	} else if (s->queue_count && !(s->ram[0] & CTR_KBD_DISABLED)) {
		s->output = s->queue[0];
		s->queue_count--;
		memmove(s->queue, s->queue + 1, s->queue_count);
	} else {
		return;
	}
	s->status |= STATUS_OBF;
	update_irq(kbc);
}

/* ---- the keyboard ---- */

static void kbd_send(struct i8042 *kbc, uint8_t byte)
{
	if (kbc->s.queue_count < QUEUE_SIZE)
		kbc->s.queue[kbc->s.queue_count++] = byte;
	kbc->s.last_sent = byte;
}

static void kbd_identify(struct i8042 *kbc)
{
	kbd_send(kbc, KBD_ACK);
	kbd_send(kbc, 0xab);
	/* 0x83, which translation to scan code set 1 makes 0x41 */
	kbd_send(kbc, kbc->s.ram[0] & CTR_TRANSLATE ? 0x41 : 0x83);
}

static void kbd_reset(struct i8042 *kbc)
{
	kbc->s.queue_count = 0;
	kbc->s.scan_set = 2;
	kbd_send(kbc, KBD_ACK);
	kbd_send(kbc, KBD_TEST_PASSED);
}

static void kbd_echo(struct i8042 *kbc)
{
	kbd_send(kbc, 0xee);
}

static void kbd_resend(struct i8042 *kbc)
{
	kbd_send(kbc, kbc->s.last_sent);
}

static void kbd_defaults(struct i8042 *kbc)
{
	kbc->s.scan_set = 2;
	kbd_send(kbc, KBD_ACK);
}

static void kbd_acknowledge(struct i8042 *kbc)
{
	kbd_send(kbc, KBD_ACK);
}

/* clang-format off */
static const struct {
	uint8_t command;
	bool takes_byte; /* acknowledged, and so is the byte that follows */
	void (*run)(struct i8042 *kbc);
} kbd_commands[] = {
	{0xed, true, kbd_acknowledge},  /* LEDs */
	{0xee, false, kbd_echo},
	{0xf0, true, kbd_acknowledge},  /* scan code set */
	{0xf2, false, kbd_identify},
	{0xf3, true, kbd_acknowledge},  /* typematic rate */
	{0xf4, false, kbd_acknowledge}, /* enable */
	{0xf5, false, kbd_defaults},    /* defaults, and disable */
	{0xf6, false, kbd_defaults},
	{0xf7, false, kbd_acknowledge}, /* 0xf7 to 0xfa: typematic or make/break for all keys */
	{0xf8, false, kbd_acknowledge},
	{0xf9, false, kbd_acknowledge},
	{0xfa, false, kbd_acknowledge},
	{0xfe, false, kbd_resend},
	{0xff, false, kbd_reset},
};
/* clang-format on */

/* The byte that belongs to a keyboard command; false: it is a new command instead. */
static bool kbd_argument(struct i8042 *kbc, uint8_t byte)
{
	uint8_t command = kbc->s.kbd_pending;

	kbc->s.kbd_pending = 0;
	if (!command || byte >= 0xed)
		return false;
	kbd_send(kbc, KBD_ACK);
	if (command == 0xf0 && byte == 0)
		kbd_send(kbc, kbc->s.scan_set);
	else if (command == 0xf0 && byte <= 3)
		kbc->s.scan_set = byte;
	return true;
}

static void kbd_write(struct i8042 *kbc, uint8_t byte)
{
	kbc->s.ram[0] &= ~CTR_KBD_DISABLED; /* sending to the keyboard enables its interface */
	if (kbd_argument(kbc, byte))
		return;
	for (unsigned i = 0; i < VC_ARRAY_SIZE(kbd_commands); i++) {
		if (kbd_commands[i].command == byte) {
			kbd_commands[i].run(kbc);
			kbc->s.kbd_pending = kbd_commands[i].takes_byte ? byte : 0;
			return;
		}
	}
	kbd_send(kbc, KBD_RESEND);
}

/* ---- the controller ---- */

static void reply(struct i8042 *kbc, uint8_t byte)
{
	kbc->s.reply = byte;
	kbc->s.has_reply = 1;
}

static void self_test(struct i8042 *kbc)
{
	struct i8042_state *s = &kbc->s;

	s->queue_count = 0;
	s->status &= ~STATUS_OBF;
	s->ram[0] |= CTR_SYSTEM;
	reply(kbc, 0x55);
}

/* Fixed replies to commands that do nothing else. */
static const struct {
	uint8_t command, reply;
} replies[] = {
    {CMD_AUX_TEST, AUX_CLOCK_STUCK},
    {CMD_KBD_TEST, 0x00},
    {CMD_READ_INPUT, INPUT_UNLOCKED},
};

/* Commands that change bits of the command byte or of the output port. */
static const struct {
	uint8_t command, ctr_clear, ctr_set, out_clear, out_set;
} switches[] = {
    {CMD_AUX_DISABLE, 0, CTR_AUX_DISABLED, 0, 0},
    {CMD_AUX_ENABLE, CTR_AUX_DISABLED, 0, 0, 0},
    {CMD_KBD_DISABLE, 0, CTR_KBD_DISABLED, 0, 0},
    {CMD_KBD_ENABLE, CTR_KBD_DISABLED, 0, 0, 0},
    {CMD_A20_OFF, 0, 0, OUT_A20, 0},
    {CMD_A20_ON, 0, 0, 0, OUT_A20},
};

static bool run_simple(struct i8042 *kbc, uint8_t command)
{
	struct i8042_state *s = &kbc->s;

	for (unsigned i = 0; i < VC_ARRAY_SIZE(replies); i++) {
		if (replies[i].command == command) {
			reply(kbc, replies[i].reply);
			return true;
		}
	}
	for (unsigned i = 0; i < VC_ARRAY_SIZE(switches); i++) {
		if (switches[i].command == command) {
			s->ram[0] = (uint8_t)((s->ram[0] & ~switches[i].ctr_clear) | switches[i].ctr_set);
			s->out_port = (uint8_t)((s->out_port & ~switches[i].out_clear) | switches[i].out_set);
			return true;
		}
	}
	return false;
}

static bool takes_byte(uint8_t command)
{
	return (command & ~CMD_RAM_LAST) == CMD_WRITE_RAM || (command >= CMD_WRITE_OUTPUT && command <= CMD_WRITE_AUX);
}

/* True: the machine is to be reset. */
static bool write_command(struct i8042 *kbc, uint8_t command)
{
	struct i8042_state *s = &kbc->s;

	s->status |= STATUS_COMMAND;
	s->pending = 0;
	if (run_simple(kbc, command))
		return false;
	if (takes_byte(command))
		s->pending = command;
	else if ((command & ~CMD_RAM_LAST) == CMD_READ_RAM)
		reply(kbc, s->ram[command & CMD_RAM_LAST]);
	else if (command == CMD_SELF_TEST)
		self_test(kbc);
	else if (command == CMD_READ_OUTPUT)
		reply(kbc, s->out_port | (s->status & STATUS_OBF ? OUT_OBF : 0));
	return (command & CMD_PULSE) == CMD_PULSE && !(command & OUT_NOT_RESET);
}

/* True: the machine is to be reset. */
static bool write_data(struct i8042 *kbc, uint8_t byte)
{
	struct i8042_state *s = &kbc->s;
	uint8_t command = s->pending;

	s->status &= ~STATUS_COMMAND;
	s->pending = 0;
	switch (command) {
	case 0:
		kbd_write(kbc, byte);
		return false;
	case CMD_WRITE_OUTPUT:
		s->out_port = (byte & ~OUT_OBF) | OUT_NOT_RESET;
		return !(byte & OUT_NOT_RESET);
	case CMD_WRITE_OBUF:
	case CMD_WRITE_AUX_OBUF: /* there is no mouse it could come from, so it is not marked as such */
		reply(kbc, byte);
		return false;
	case CMD_WRITE_AUX: /* nobody there */
		return false;
	default:
		s->ram[command & CMD_RAM_LAST] = byte;
		return false;
	}
}

static uint8_t read_data(struct i8042 *kbc)
{
	uint8_t byte = kbc->s.output;

	kbc->s.status &= ~STATUS_OBF;
	return byte;
}

/* ---- the device ---- */

static void i8042_read(void *ctx, struct vcore_io *io)
{
	struct i8042 *kbc = ctx;

	pthread_mutex_lock(&kbc->lock);
	if (io->address == PORT_DATA)
		io->data = read_data(kbc);
	else
		io->data = kbc->s.status | STATUS_UNLOCKED | (kbc->s.ram[0] & CTR_SYSTEM ? STATUS_SYSTEM : 0);
	advance(kbc);
	pthread_mutex_unlock(&kbc->lock);
}

static void i8042_write(void *ctx, struct vcore_io *io)
{
	struct i8042 *kbc = ctx;
	bool reset;

	pthread_mutex_lock(&kbc->lock);
	if (io->address == PORT_DATA)
		reset = write_data(kbc, (uint8_t)io->data);
	else
		reset = write_command(kbc, (uint8_t)io->data);
	advance(kbc);
	pthread_mutex_unlock(&kbc->lock);
	if (reset)
		kbc->env->machine->reset(kbc->env->machine_ctx);
}

static void i8042_reset(void *ctx)
{
	struct i8042 *kbc = ctx;

	pthread_mutex_lock(&kbc->lock);
	kbc->s = (struct i8042_state){.version = STATE_VERSION, .out_port = OUT_RESET, .scan_set = 2, .ram = {CTR_RESET}};
	advance(kbc);
	pthread_mutex_unlock(&kbc->lock);
}

static int64_t i8042_save(void *ctx, void *buffer, size_t length)
{
	struct i8042 *kbc = ctx;
	struct i8042_state state;

	pthread_mutex_lock(&kbc->lock);
	state = kbc->s;
	pthread_mutex_unlock(&kbc->lock);
	memset(state.queue + state.queue_count, 0, sizeof state.queue - state.queue_count);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int i8042_load(void *ctx, const void *buffer, size_t length)
{
	struct i8042 *kbc = ctx;
	struct i8042_state state;
	int r = vc_dev_state_in("i8042", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r)
		return r;
	if (state.status & ~(STATUS_OBF | STATUS_COMMAND) || state.queue_count > QUEUE_SIZE || state.has_reply > 1 ||
	    state.scan_set < 1 || state.scan_set > 3 || state.out_port & OUT_OBF ||
	    (state.pending && !takes_byte(state.pending)))
		return vc_fail(EINVAL, "the saved state of an i8042 holds what its registers cannot");
	pthread_mutex_lock(&kbc->lock);
	kbc->s = state;
	update_irq(kbc);
	pthread_mutex_unlock(&kbc->lock);
	return 0;
}

/* Ctrl, Alt, Delete down, and up again. */
static const struct {
	uint8_t length, codes[QUEUE_SIZE];
} ctrl_alt_del[] = {
    {11, {0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14}}, /* scan code set 2 */
    {8, {0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d}},                    /* set 1 */
};

int vc_i8042_ctrl_alt_del(void *ctx)
{
	struct i8042 *kbc = ctx;
	unsigned length;
	bool set1, room;

	pthread_mutex_lock(&kbc->lock);
	set1 = kbc->s.ram[0] & CTR_TRANSLATE || kbc->s.scan_set == 1;
	length = ctrl_alt_del[set1].length;
	room = length <= (unsigned)(QUEUE_SIZE - kbc->s.queue_count);
	for (unsigned i = 0; room && i < length; i++)
		kbd_send(kbc, ctrl_alt_del[set1].codes[i]);
	advance(kbc);
	pthread_mutex_unlock(&kbc->lock);
	return room ? 0 : vc_fail(EAGAIN, "the guest does not take what was typed on its keyboard (i8042) before");
}

static void i8042_destroy(void *ctx)
{
	struct i8042 *kbc = ctx;

	pthread_mutex_destroy(&kbc->lock);
	free(kbc);
}

static const struct vcore_device_ops i8042_ops = {
    .size = sizeof i8042_ops,
    .read = i8042_read,
    .write = i8042_write,
    .reset = i8042_reset,
    .save = i8042_save,
    .load = i8042_load,
    .destroy = i8042_destroy,
};

static int i8042_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct i8042 *kbc = calloc(1, sizeof *kbc);
	int r;

	if (!kbc)
		return vc_fail(ENOMEM, "no memory for an i8042");
	kbc->env = env;
	pthread_mutex_init(&kbc->lock, NULL);
	i8042_reset(kbc);
	r = vc_dev_add(env->buses, "i8042", &i8042_ops, kbc, dev);
	if (r)
		return r; /* kbc has been destroyed */
	r = vc_dev_add_region(env->buses, NULL, *dev, VCORE_BUS_PIO, PORT_DATA, 1);
	if (!r)
		r = vc_dev_add_region(env->buses, NULL, *dev, VCORE_BUS_PIO, PORT_COMMAND, 1);
	if (r)
		vc_dev_remove(env->buses, NULL, *dev);
	return r;
}

const struct vc_device_type vc_i8042_type = {
    .name = "i8042",
    .summary = "keyboard controller, on whose keyboard only Ctrl-Alt-Del is typed; resets the machine",
    .properties = "",
    .create = i8042_create,
};
