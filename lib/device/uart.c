/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 16550A UART (National Semiconductor PC16550D data sheet), wired as a PC's COM port: OUT2 lets its interrupt through.
 * Characters leave at once, into a bounded buffer; while that is full THRE stays clear. Characters come in as fast as
 * the FIFO takes them.
 */
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "device/device.h"
#include "device/stream.h"

/* Registers; the first two are the divisor while LCR_DLAB is set. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, REG_COUNT };

enum {
	IER_RDI = 0x01,
	IER_THRI = 0x02,
	IER_RLSI = 0x04,
	IER_MSI = 0x08,
	IER_BITS = 0x0f,

	IIR_NONE = 0x01,
	IIR_LINE_STATUS = 0x06,
	IIR_DATA = 0x04,
	IIR_TIMEOUT = 0x0c,
	IIR_THRE = 0x02,
	IIR_MODEM = 0x00,
	IIR_FIFOS = 0xc0,

	FCR_ENABLE = 0x01,
	FCR_CLEAR_RX = 0x02,
	FCR_CLEAR_TX = 0x04,
	FCR_STORED = 0xc9, /* enable, DMA mode, trigger level */

	LCR_DATA_BITS = 0x03,
	LCR_STOP = 0x04,
	LCR_PARITY = 0x08,
	LCR_DLAB = 0x80,

	MCR_DTR = 0x01,
	MCR_RTS = 0x02,
	MCR_OUT1 = 0x04,
	MCR_OUT2 = 0x08,
	MCR_LOOP = 0x10,
	MCR_BITS = 0x1f,

	LSR_DR = 0x01,
	LSR_OE = 0x02,
	LSR_THRE = 0x20,
	LSR_TEMT = 0x40,

	MSR_DCTS = 0x01,
	MSR_DDSR = 0x02,
	MSR_TERI = 0x04,
	MSR_DDCD = 0x08,
	MSR_DELTAS = 0x0f,
	MSR_CTS = 0x10,
	MSR_DSR = 0x20,
	MSR_RI = 0x40,
	MSR_DCD = 0x80,

	FIFO_SIZE = 16,
	DIVISOR_RESET = 12, /* 9600 baud */
	BASE_BAUD = 115200,
	STATE_VERSION = 1,
};

/* What a snapshot holds; all fields fixed in width. */
struct uart_regs {
	uint32_t version;
	uint16_t divisor;
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t overrun;         /* LSR_OE or 0 */
	uint8_t thre_pending;    /* the THRE interrupt, until IIR says so or THR is written */
	uint8_t timeout_pending; /* characters have waited for long below the trigger level */
	uint8_t fifo_count;
	uint8_t fifo[FIFO_SIZE]; /* oldest first */
};

struct uart {
	struct vc_env *env;
	unsigned irq;
	struct vc_output *output;
	struct vc_input *input;
	struct vc_timer *timer; /* character timeout */
	struct vc_pty pty;
	bool has_pty;
	/* Protects all below. Taken before the locks of output, input and loop; held while the interrupt line is driven, so
	 * that its changes keep their order. */
	pthread_mutex_t lock;
	struct uart_regs regs;
	uint64_t timeout_at; /* guest ns; 0: no timeout is running */
	bool tx_full;        /* output takes no more for now */
	bool irq_level;
};

/* ---- interrupts ---- */

static unsigned fifo_capacity(const struct uart_regs *regs)
{
	return regs->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned trigger_level(const struct uart_regs *regs)
{
	static const uint8_t levels[4] = {1, 4, 8, 14};

	return regs->fcr & FCR_ENABLE ? levels[regs->fcr >> 6] : 1;
}

/* The interrupt of the highest priority (data sheet, table III), in the low four bits of IIR. */
static uint8_t pending_interrupt(const struct uart_regs *regs)
{
	if (regs->ier & IER_RLSI && regs->overrun)
		return IIR_LINE_STATUS;
	if (regs->ier & IER_RDI && regs->fifo_count >= trigger_level(regs))
		return IIR_DATA;
	if (regs->ier & IER_RDI && regs->timeout_pending)
		return IIR_TIMEOUT;
	if (regs->ier & IER_THRI && regs->thre_pending)
		return IIR_THRE;
	if (regs->ier & IER_MSI && regs->msr & MSR_DELTAS)
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_irq(struct uart *uart)
{
	bool level = uart->regs.mcr & MCR_OUT2 && pending_interrupt(&uart->regs) != IIR_NONE;

	if (level != uart->irq_level) {
		uart->irq_level = level;
		vc_irq_set(uart->env->irqs, uart->irq, level);
	}
}

/* ---- receiver ---- */

static uint64_t character_ns(const struct uart_regs *regs)
{
	unsigned bits = 1 + 5 + (regs->lcr & LCR_DATA_BITS) + !!(regs->lcr & LCR_PARITY) + (regs->lcr & LCR_STOP ? 2 : 1);
	unsigned divisor = regs->divisor ? regs->divisor : 1;

	return bits * (uint64_t)divisor * 1000000000 / BASE_BAUD;
}

/* The receiver FIFO has got or lost characters: with some below the trigger level, the timeout of four character times
 * begins anew. */
static void receiver_changed(struct uart *uart)
{
	struct uart_regs *regs = &uart->regs;
	bool waits = regs->fcr & FCR_ENABLE && regs->fifo_count && regs->fifo_count < trigger_level(regs);

	regs->timeout_pending = 0;
	uart->timeout_at = 0;
	if (waits) {
		uart->timeout_at = vc_clock_now(uart->env->clock) + 4 * character_ns(regs);
		vc_timer_arm(uart->timer, uart->timeout_at);
	}
	/* in loopback mode the line is cut off */
	if (regs->fifo_count < fifo_capacity(regs) && !(regs->mcr & MCR_LOOP))
		vc_input_resume(uart->input);
	else
		vc_input_pause(uart->input);
}

static void timeout(void *ctx)
{
	struct uart *uart = ctx;

	pthread_mutex_lock(&uart->lock);
	/* may have been put off since the timer fired */
	if (uart->timeout_at && vc_clock_now(uart->env->clock) >= uart->timeout_at) {
		uart->timeout_at = 0;
		uart->regs.timeout_pending = 1;
		update_irq(uart);
	}
	pthread_mutex_unlock(&uart->lock);
}

static void receive(struct uart *uart, uint8_t byte)
{
	struct uart_regs *regs = &uart->regs;

	if (regs->fifo_count == fifo_capacity(regs)) {
		regs->overrun = LSR_OE;
		/* a FIFO keeps what it has; without one the new character takes the old one's place */
		if (regs->fcr & FCR_ENABLE)
			return;
		regs->fifo_count = 0;
	}
	regs->fifo[regs->fifo_count++] = byte;
}

static void input_ready(void *ctx)
{
	struct uart *uart = ctx;
	uint8_t data[FIFO_SIZE];
	size_t n;

	pthread_mutex_lock(&uart->lock);
	if (uart->regs.mcr & MCR_LOOP)
		n = 0;
	else
		n = vc_input_read(uart->input, data, fifo_capacity(&uart->regs) - uart->regs.fifo_count);
	for (size_t i = 0; i < n; i++)
		receive(uart, data[i]);
	if (n) {
		receiver_changed(uart);
		update_irq(uart);
	}
	pthread_mutex_unlock(&uart->lock);
}

static uint8_t read_data(struct uart *uart)
{
	struct uart_regs *regs = &uart->regs;
	uint8_t byte = regs->fifo[0];

	if (!regs->fifo_count)
		return 0;
	regs->fifo_count--;
	memmove(regs->fifo, regs->fifo + 1, regs->fifo_count);
	receiver_changed(uart);
	return byte;
}

/* ---- transmitter ---- */

static void output_ready(void *ctx)
{
	struct uart *uart = ctx;

	pthread_mutex_lock(&uart->lock);
	uart->tx_full = !vc_output_room(uart->output);
	if (!uart->tx_full)
		uart->regs.thre_pending = 1;
	update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
}

static void write_data(struct uart *uart, uint8_t byte)
{
	/* The interrupt goes away, and comes again when the character has left: an edge for the interrupt controller. */
	uart->regs.thre_pending = 0;
	update_irq(uart);
	if (uart->regs.mcr & MCR_LOOP) {
		receive(uart, byte);
		receiver_changed(uart);
	} else {
		vc_output_put(uart->output, byte);
		uart->tx_full = !vc_output_room(uart->output);
	}
	uart->regs.thre_pending = !uart->tx_full;
}

/* ---- modem lines ---- */

/* The lines as they are now: a cable with everything asserted, or in loopback mode our own outputs. */
static uint8_t modem_lines(uint8_t mcr)
{
	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (uint8_t)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) | (mcr & MCR_OUT1 ? MSR_RI : 0) |
	                 (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_mcr(struct uart *uart, uint8_t value)
{
	struct uart_regs *regs = &uart->regs;
	uint8_t lines = modem_lines(value & MCR_BITS), changed = lines ^ (regs->msr & ~MSR_DELTAS);

	regs->mcr = value & MCR_BITS;
	regs->msr = (uint8_t)((regs->msr & MSR_DELTAS) | lines);
	/* a delta bit lies four below its line; RI counts only where it ends */
	regs->msr |= (changed & ~MSR_RI) >> 4;
	if (changed & MSR_RI && !(lines & MSR_RI))
		regs->msr |= MSR_TERI;
	receiver_changed(uart);
}

/* ---- registers ---- */

static void write_ier(struct uart *uart, uint8_t value)
{
	struct uart_regs *regs = &uart->regs;
	uint8_t changed = regs->ier ^ value;

	regs->ier = value & IER_BITS;
	/* enabling the THRE interrupt while the transmitter is empty raises it */
	if (changed & IER_THRI)
		regs->thre_pending = value & IER_THRI && !uart->tx_full;
}

static void write_fcr(struct uart *uart, uint8_t value)
{
	struct uart_regs *regs = &uart->regs;
	bool toggled = (regs->fcr ^ value) & FCR_ENABLE;

	/* the other bits are taken only together with enable */
	if (toggled || (value & FCR_ENABLE && value & FCR_CLEAR_RX))
		regs->fifo_count = 0;
	regs->fcr = value & FCR_ENABLE ? value & FCR_STORED : 0;
	receiver_changed(uart);
}

static uint8_t read_iir(struct uart *uart)
{
	uint8_t pending = pending_interrupt(&uart->regs);

	if (pending == IIR_THRE)
		uart->regs.thre_pending = 0;
	return pending | (uart->regs.fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(struct uart *uart)
{
	uint8_t lsr = uart->regs.overrun;

	if (uart->regs.fifo_count)
		lsr |= LSR_DR;
	if (!uart->tx_full || uart->regs.mcr & MCR_LOOP)
		lsr |= LSR_THRE | LSR_TEMT;
	uart->regs.overrun = 0;
	return lsr;
}

static uint8_t read_msr(struct uart *uart)
{
	uint8_t msr = uart->regs.msr;

	uart->regs.msr &= ~MSR_DELTAS;
	return msr;
}

static uint8_t read_register(struct uart *uart, unsigned reg)
{
	struct uart_regs *regs = &uart->regs;
	bool dlab = regs->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		return dlab ? (uint8_t)regs->divisor : read_data(uart);
	case REG_IER:
		return dlab ? (uint8_t)(regs->divisor >> 8) : regs->ier;
	case REG_IIR_FCR:
		return read_iir(uart);
	case REG_LCR:
		return regs->lcr;
	case REG_MCR:
		return regs->mcr;
	case REG_LSR:
		return read_lsr(uart);
	case REG_MSR:
		return read_msr(uart);
	case REG_SCR:
		return regs->scr;
	default:
		return 0xff;
	}
}

static void write_register(struct uart *uart, unsigned reg, uint8_t value)
{
	struct uart_regs *regs = &uart->regs;
	bool dlab = regs->lcr & LCR_DLAB;

	if (reg == REG_DATA && dlab)
		regs->divisor = (uint16_t)((regs->divisor & 0xff00) | value);
	else if (reg == REG_DATA)
		write_data(uart, value);
	else if (reg == REG_IER && dlab)
		regs->divisor = (uint16_t)((regs->divisor & 0x00ff) | value << 8);
	else if (reg == REG_IER)
		write_ier(uart, value);
	else if (reg == REG_IIR_FCR)
		write_fcr(uart, value);
	else if (reg == REG_LCR)
		regs->lcr = value;
	else if (reg == REG_MCR)
		write_mcr(uart, value);
	else if (reg == REG_SCR)
		regs->scr = value;
}

/* ---- the device ---- */

static void uart_read(void *ctx, struct vcore_io *io)
{
	struct uart *uart = ctx;

	io->data = 0;
	pthread_mutex_lock(&uart->lock);
	/* wider accesses are bytes to successive ports, as on ISA */
	for (unsigned i = 0; i < io->width; i++)
		io->data |= (uint64_t)read_register(uart, (unsigned)io->offset + i) << (8 * i);
	update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
}

static void uart_write(void *ctx, struct vcore_io *io)
{
	struct uart *uart = ctx;

	pthread_mutex_lock(&uart->lock);
	for (unsigned i = 0; i < io->width; i++)
		write_register(uart, (unsigned)io->offset + i, (uint8_t)(io->data >> (8 * i)));
	update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
	vc_output_report(uart->output);
}

static void uart_reset(void *ctx)
{
	struct uart *uart = ctx;

	pthread_mutex_lock(&uart->lock);
	uart->regs = (struct uart_regs){.version = STATE_VERSION, .divisor = DIVISOR_RESET, .msr = modem_lines(0)};
	receiver_changed(uart);
	update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
}

static int64_t uart_save(void *ctx, void *buffer, size_t length)
{
	struct uart *uart = ctx;
	struct uart_regs regs;

	pthread_mutex_lock(&uart->lock);
	regs = uart->regs;
	pthread_mutex_unlock(&uart->lock);
	memset(regs.fifo + regs.fifo_count, 0, sizeof regs.fifo - regs.fifo_count);
	return vc_dev_state_out(buffer, length, &regs, sizeof regs);
}

static bool valid_state(const struct uart_regs *regs)
{
	return !(regs->ier & ~IER_BITS) && !(regs->mcr & ~MCR_BITS) && !(regs->fcr & ~FCR_STORED) &&
	       (regs->fcr & FCR_ENABLE || !regs->fcr) && !(regs->overrun & ~LSR_OE) && regs->thre_pending <= 1 &&
	       regs->timeout_pending <= 1 && regs->fifo_count <= fifo_capacity(regs);
}

static int uart_load(void *ctx, const void *buffer, size_t length)
{
	struct uart *uart = ctx;
	struct uart_regs regs;
	int r = vc_dev_state_in("uart", STATE_VERSION, &regs, sizeof regs, buffer, length);

	if (r)
		return r;
	if (!valid_state(&regs))
		return vc_fail(EINVAL, "the saved state of a uart holds what its registers cannot");
	pthread_mutex_lock(&uart->lock);
	uart->regs = regs;
	receiver_changed(uart);
	uart->regs.timeout_pending = regs.timeout_pending;
	uart->tx_full = !vc_output_room(uart->output);
	update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
	return 0;
}

static void uart_destroy(void *ctx)
{
	struct uart *uart = ctx;

	vc_input_close(uart->input);
	vc_output_close(uart->output);
	vc_timer_free(uart->timer);
	if (uart->has_pty)
		vc_pty_close(&uart->pty);
	pthread_mutex_destroy(&uart->lock);
	free(uart);
}

static const struct vcore_device_ops uart_ops = {
    .size = sizeof uart_ops,
    .read = uart_read,
    .write = uart_write,
    .reset = uart_reset,
    .save = uart_save,
    .load = uart_load,
    .destroy = uart_destroy,
};

struct config {
	uint64_t addr, irq;
	const char *input, *output;
	bool pty;
};

static int read_config(struct vc_props *props, struct config *config)
{
	int r = vc_props_u64(props, "addr", 0x3f8, 0, 0x10000 - REG_COUNT, &config->addr);

	/* COM1 and COM3 have IRQ 4, COM2 and COM4 IRQ 3 */
	if (!r)
		r = vc_props_u64(props, "irq", config->addr & 0x100 ? 4 : 3, 0, VC_GSI_COUNT - 1, &config->irq);
	if (!r)
		r = vc_props_bool(props, "pty", false, &config->pty);
	if (r)
		return r;
	config->input = vc_props_string(props, "input", NULL);
	config->output = vc_props_string(props, "output", NULL);
	if (config->pty && (config->input || config->output))
		return vc_fail(EINVAL, "uart: with pty=on there is no other input or output");
	return 0;
}

static int open_streams(struct uart *uart, const struct config *config)
{
	struct vc_env *env = uart->env;
	int r;

	if (config->pty) {
		r = vc_pty_open(&uart->pty);
		if (r)
			return r;
		uart->has_pty = true;
		vc_log(env->log, VCORE_LOG_INFO, "uart at %#llx: %s", (unsigned long long)config->addr, uart->pty.path);
		r = vc_output_open_pty(env, &uart->pty, &uart->output);
		return r ? r : vc_input_open_pty(env, &uart->pty, input_ready, uart, &uart->input);
	}
	r = vc_output_open(env, config->output ? config->output : "null", output_ready, uart, &uart->output);
	return r ? r : vc_input_open(env, config->input ? config->input : "null", input_ready, uart, &uart->input);
}

static int uart_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct config config;
	struct uart *uart;
	int r = read_config(props, &config);

	if (r)
		return r;
	uart = calloc(1, sizeof *uart);
	if (!uart)
		return vc_fail(ENOMEM, "no memory for a uart");
	uart->env = env;
	uart->irq = (unsigned)config.irq;
	pthread_mutex_init(&uart->lock, NULL);
	r = vc_timer_new(env->loop, timeout, uart, &uart->timer);
	if (!r)
		r = open_streams(uart, &config);
	if (r) {
		uart_destroy(uart);
		return r;
	}
	r = vc_dev_add(env->buses, "uart", &uart_ops, uart, dev);
	if (r)
		return r; /* uart has been destroyed */
	uart_reset(uart);
	r = vc_dev_add_region(env->buses, NULL, *dev, VCORE_BUS_PIO, config.addr, REG_COUNT);
	if (r)
		vc_dev_remove(env->buses, NULL, *dev);
	return r;
}

const struct vc_device_type vc_uart_type = {
    .name = "uart",
    .summary = "16550A serial port",
    .properties = "addr    first I/O port (0x3f8)\n"
                  "irq     interrupt (4 for COM1 and COM3, 3 for COM2 and COM4)\n"
                  "input   null, stdin, fd:N or file:PATH (null)\n"
                  "output  null, stdout, stderr, fd:N or file:PATH (null)\n"
                  "pty     on: both through a new pty, whose path the log tells (off)\n",
    .create = uart_create,
};
