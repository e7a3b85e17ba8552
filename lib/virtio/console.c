/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Console device (5.3): port 0 is a console, further ports have names, and each goes to a stream of the host. No chain
 * is ever held: what cannot go on now is popped again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "chipset/dev_state.h"
#include "device/stream.h"
#include "virtio/types.h"
#include "virtio/virtio.h"

#define F_SIZE        (1ull << 0)
#define F_MULTIPORT   (1ull << 1)
#define F_EMERG_WRITE (1ull << 2)

enum { CONTROL_RX = 2, CONTROL_TX = 3, PORTS_MAX = 8, NAME_MAX_LENGTH = 63, STATE_VERSION = 1 };

/* Control messages (5.3.6.2) */
enum control_event {
	EVENT_DEVICE_READY = 0,
	EVENT_DEVICE_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_CONSOLE_PORT = 4,
	EVENT_RESIZE = 5,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7,
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct console_config {
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
};

/* What a snapshot holds of a port. */
struct port_state {
	uint32_t sent;   /* bytes of the oldest chain to be sent that have gone out */
	uint8_t open;    /* the guest listens */
	uint8_t pending; /* control messages to be sent: bit n, the n-th row of `messages` */
	uint8_t pad[2];
};

struct console_state {
	uint32_t version, ports;
	struct port_state port[PORTS_MAX];
};

struct port {
	struct console *console;
	uint32_t id;
	char name[NAME_MAX_LENGTH + 1];
	struct vc_output *output;
	struct vc_input *input;
	pthread_mutex_t lock;    /* protects state.open and state.pending, and the input as stream.h says */
	struct port_state state; /* sent: the transmit queue's worker */
};

struct console {
	struct vc_env *env;
	struct vc_virtio *v;
	struct console_config config;
	uint32_t ports;
	struct port port[PORTS_MAX];
	_Atomic uint64_t sent, received; /* bytes, of all ports */
};

/* Receive and transmit queue of a port: those of port 0 come before the control queues (5.3.2). */
static uint32_t rx_queue(uint32_t port)
{
	return port ? 2 + 2 * port : 0;
}

static struct port *port_of_queue(struct console *console, uint32_t n)
{
	return &console->port[n < CONTROL_RX ? 0 : n / 2 - 1];
}

/* ---- data ---- */

/* Send from where it stopped last; true: all has gone. */
static bool send_chain(struct port *port, const struct vc_virtq_chain *chain)
{
	size_t skip = port->state.sent;

	for (uint32_t i = 0; i < chain->out_count; i++) {
		const struct iovec *iov = &chain->out[i];
		size_t n;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		n = vc_output_write(port->output, (const uint8_t *)iov->iov_base + skip, iov->iov_len - skip);
		port->state.sent += (uint32_t)n;
		atomic_fetch_add_explicit(&port->console->sent, n, memory_order_relaxed);
		if (n < iov->iov_len - skip)
			return false;
		skip = 0;
	}
	port->state.sent = 0;
	return true;
}

static void transmit(struct port *port, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			if (!send_chain(port, chain)) {
				vc_virtq_unpop(chain); /* until output_ready() */
				vc_virtq_flush(q);
				return;
			}
			vc_virtq_push(chain, 0);
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
	vc_output_report(port->output);
}

static void output_ready(void *ctx)
{
	struct port *port = ctx;

	vc_virtio_wake(port->console->v, rx_queue(port->id) + 1);
}

/*
 * Nobody hears a port that the guest has not opened; the console is always open. With nothing to read now input_ready()
 * will tell, or the guest when it opens the port.
 */
static size_t read_input(struct port *port, const struct iovec *iov)
{
	size_t n = 0;

	pthread_mutex_lock(&port->lock);
	if (port->state.open || !port->id) {
		n = vc_input_read(port->input, iov->iov_base, iov->iov_len);
		if (!n)
			vc_input_resume(port->input);
	}
	pthread_mutex_unlock(&port->lock);
	return n;
}

/* True: the chain is gone. */
static bool fill_chain(struct port *port, struct vc_virtq_chain *chain)
{
	size_t n;

	if (!chain->in_count) {
		vc_virtio_broken(port->console->v, "port %u: a buffer to receive that cannot be written", port->id);
		vc_virtq_push(chain, 0);
		return true;
	}
	n = read_input(port, &chain->in[0]);
	atomic_fetch_add_explicit(&port->console->received, n, memory_order_relaxed);
	if (n)
		vc_virtq_push(chain, (uint32_t)n);
	else
		vc_virtq_unpop(chain);
	return n;
}

/* What the host has to say goes into the driver's buffers; with none left the input waits for the next notification. */
static void receive(struct port *port, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			if (!fill_chain(port, chain)) {
				vc_virtq_flush(q);
				return;
			}
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
}

static void input_ready(void *ctx)
{
	struct port *port = ctx;

	pthread_mutex_lock(&port->lock);
	vc_input_pause(port->input);
	pthread_mutex_unlock(&port->lock);
	vc_virtio_wake(port->console->v, rx_queue(port->id));
}

/* ---- control ---- */

/* What a port may have to be told, in the order in which it is sent. */
enum message { MESSAGE_ADD, MESSAGE_CONSOLE, MESSAGE_RESIZE, MESSAGE_NAME, MESSAGE_OPEN, MESSAGES };

static const struct {
	uint16_t event, value;
} messages[MESSAGES] = {
    [MESSAGE_ADD] = {EVENT_DEVICE_ADD, 0}, [MESSAGE_CONSOLE] = {EVENT_CONSOLE_PORT, 1},
    [MESSAGE_RESIZE] = {EVENT_RESIZE, 0},  [MESSAGE_NAME] = {EVENT_PORT_NAME, 1},
    [MESSAGE_OPEN] = {EVENT_PORT_OPEN, 1},
};

static void set_pending(struct port *port, uint8_t bits)
{
	pthread_mutex_lock(&port->lock);
	port->state.pending |= bits;
	pthread_mutex_unlock(&port->lock);
}

/* The next message of a port, taken; -1: none. */
static int take_message(struct port *port)
{
	int message = -1;

	pthread_mutex_lock(&port->lock);
	if (port->state.pending)
		message = __builtin_ctz(port->state.pending);
	port->state.pending &= (uint8_t)(port->state.pending - 1);
	pthread_mutex_unlock(&port->lock);
	return message;
}

static uint32_t write_message(const struct port *port, int message, const struct vc_virtq_chain *chain)
{
	struct control control = {port->id, messages[message].event, messages[message].value};
	uint16_t size[2] = {port->console->config.cols, port->console->config.rows};
	size_t n = vc_iov_from_buffer(chain->in, chain->in_count, 0, &control, sizeof control);

	if (message == MESSAGE_RESIZE)
		n += vc_iov_from_buffer(chain->in, chain->in_count, n, size, sizeof size);
	if (message == MESSAGE_NAME)
		n += vc_iov_from_buffer(chain->in, chain->in_count, n, port->name, strlen(port->name));
	return (uint32_t)n;
}

static void send_messages(struct port *port, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;
	int message;

	while ((message = take_message(port)) >= 0) {
		if (vc_virtq_pop(q, &chain) <= 0) {
			set_pending(port, (uint8_t)(1u << message));
			return;
		}
		vc_virtq_push(chain, write_message(port, message, chain));
	}
}

/* Notifications stay on: there is rarely anything to say. */
static void send_control(struct console *console, struct vc_virtq *q)
{
	for (uint32_t i = 0; i < console->ports; i++)
		send_messages(&console->port[i], q);
	vc_virtq_flush(q);
}

static void port_ready(struct port *port)
{
	const struct console_config *config = &port->console->config;

	if (port->id)
		set_pending(port, 1u << MESSAGE_NAME | 1u << MESSAGE_OPEN);
	else
		set_pending(port,
		            (uint8_t)(1u << MESSAGE_CONSOLE | 1u << MESSAGE_OPEN | (config->cols ? 1u << MESSAGE_RESIZE : 0)));
}

static void port_open(struct port *port, bool open)
{
	pthread_mutex_lock(&port->lock);
	port->state.open = open;
	pthread_mutex_unlock(&port->lock);
	vc_virtio_wake(port->console->v, rx_queue(port->id));
}

/* Unknown events, and ports that are not there, are left alone. */
static void take_control(struct console *console, const struct control *control)
{
	struct port *port = control->id < console->ports ? &console->port[control->id] : NULL;

	if (control->event == EVENT_DEVICE_READY && control->value)
		for (uint32_t i = 0; i < console->ports; i++)
			set_pending(&console->port[i], 1u << MESSAGE_ADD);
	else if (control->event == EVENT_PORT_READY && control->value && port)
		port_ready(port);
	else if (control->event == EVENT_PORT_OPEN && port)
		port_open(port, control->value);
}

static void receive_control(struct console *console, struct vc_virtq *q)
{
	struct vc_virtq_chain *chain;
	struct control control;

	do {
		vc_virtq_notify_off(q);
		while (vc_virtq_pop(q, &chain) > 0) {
			if (vc_iov_to_buffer(chain->out, chain->out_count, 0, &control, sizeof control) == sizeof control)
				take_control(console, &control);
			vc_virtq_push(chain, 0);
		}
		vc_virtq_flush(q);
	} while (vc_virtq_notify_on(q));
	vc_virtio_wake(console->v, CONTROL_RX);
}

/* ---- the device ---- */

static uint64_t console_features(void *ctx)
{
	const struct console *console = ctx;

	return F_EMERG_WRITE | (console->ports > 1 ? F_MULTIPORT : 0) | (console->config.cols ? F_SIZE : 0);
}

/* A driver begins anew. */
static int console_negotiated(void *ctx, uint64_t features)
{
	struct console *console = ctx;

	for (uint32_t i = 0; i < console->ports; i++)
		console->port[i].state = (struct port_state){0};
	return 0;
}

static void console_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	memcpy(data, (const uint8_t *)&((struct console *)ctx)->config + offset, length);
}

static void console_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	struct console *console = ctx;

	if (offset == offsetof(struct console_config, emerg_wr))
		vc_output_put(console->port[0].output, *(const uint8_t *)data);
}

static void console_notify(void *ctx, struct vc_virtq *q)
{
	struct console *console = ctx;
	uint32_t n = vc_virtq_index(q);

	if (n == CONTROL_RX)
		send_control(console, q);
	else if (n == CONTROL_TX)
		receive_control(console, q);
	else if (n & 1)
		transmit(port_of_queue(console, n), q);
	else
		receive(port_of_queue(console, n), q);
}

static int64_t console_save(void *ctx, void *buffer, size_t length)
{
	struct console *console = ctx;
	struct console_state state = {.version = STATE_VERSION, .ports = console->ports};

	for (uint32_t i = 0; i < console->ports; i++) {
		pthread_mutex_lock(&console->port[i].lock);
		state.port[i] = console->port[i].state;
		pthread_mutex_unlock(&console->port[i].lock);
	}
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int console_load(void *ctx, const void *buffer, size_t length)
{
	struct console *console = ctx;
	struct console_state state;
	int r = vc_dev_state_in("virtio-console", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r >= 0 && state.ports != console->ports)
		r = vc_fail(EINVAL, "the saved state of a virtio-console has %u ports, expected %u", state.ports,
		            console->ports);
	for (uint32_t i = 0; r >= 0 && i < console->ports; i++)
		if (state.port[i].open > 1 || state.port[i].pending >> MESSAGES)
			r = vc_fail(EINVAL, "the saved state of a virtio-console holds what its ports cannot");
	for (uint32_t i = 0; r >= 0 && i < console->ports; i++)
		console->port[i].state = state.port[i];
	return r;
}

static unsigned console_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct console *console = ctx;

	stats[0] = (struct vc_stat){"sent_bytes", atomic_load(&console->sent)};
	stats[1] = (struct vc_stat){"received_bytes", atomic_load(&console->received)};
	return 2;
}

static void console_destroy(void *ctx)
{
	struct console *console = ctx;

	for (uint32_t i = 0; i < console->ports; i++) {
		vc_input_close(console->port[i].input);
		vc_output_close(console->port[i].output);
		pthread_mutex_destroy(&console->port[i].lock);
	}
	free(console);
}

static const struct vc_virtio_ops console_ops = {
    .type = "virtio-console",
    .id = VC_VIRTIO_CONSOLE,
    .pci_class = 0x078000,
    .legacy_device = 0x1003,
    .config_size = sizeof(struct console_config),
    .in_order = true,
    .features = console_features,
    .negotiated = console_negotiated,
    .config_read = console_config_read,
    .config_write = console_config_write,
    .notify = console_notify,
    .save = console_save,
    .load = console_load,
    .statistics = console_statistics,
    .destroy = console_destroy,
};

/* ---- making ---- */

static int open_port(struct console *console, const char *name, const char *input, const char *output)
{
	struct port *port = &console->port[console->ports];
	int r;

	if (strlen(name) > NAME_MAX_LENGTH)
		return vc_fail(EINVAL, "virtio-console: the name %s has more than %d characters", name, NAME_MAX_LENGTH);
	port->console = console;
	port->id = console->ports;
	memcpy(port->name, name, strlen(name));
	pthread_mutex_init(&port->lock, NULL);
	console->ports++;
	r = vc_output_open(console->env, output, output_ready, port, &port->output);
	return r < 0 ? r : vc_input_open(console->env, input, input_ready, port, &port->input);
}

/* Ports 1 to 7, as long as they have names. */
static int open_named(struct console *console, struct vc_props *props)
{
	static const char *const keys[PORTS_MAX - 1][3] = {
	    {"port1", "port1_input", "port1_output"}, {"port2", "port2_input", "port2_output"},
	    {"port3", "port3_input", "port3_output"}, {"port4", "port4_input", "port4_output"},
	    {"port5", "port5_input", "port5_output"}, {"port6", "port6_input", "port6_output"},
	    {"port7", "port7_input", "port7_output"},
	};
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < VC_ARRAY_SIZE(keys); i++) {
		const char *name = vc_props_string(props, keys[i][0], NULL), *input;

		if (!name)
			break;
		input = vc_props_string(props, keys[i][1], "null");
		r = open_port(console, name, input, vc_props_string(props, keys[i][2], "null"));
	}
	return r;
}

static int read_size(struct console *console, struct vc_props *props)
{
	uint64_t cols = 0, rows = 0;
	int r = vc_props_u64(props, "cols", 0, 1, UINT16_MAX, &cols);

	if (r >= 0)
		r = vc_props_u64(props, "rows", 0, 1, UINT16_MAX, &rows);
	if (r >= 0 && !cols != !rows)
		r = vc_fail(EINVAL, "virtio-console: cols and rows go together");
	console->config.cols = (uint16_t)cols;
	console->config.rows = (uint16_t)rows;
	return r;
}

static int set_up(struct console *console, struct vc_props *props)
{
	int r = read_size(console, props);

	if (r >= 0) {
		const char *input = vc_props_string(props, "input", "null");

		r = open_port(console, "", input, vc_props_string(props, "output", "null"));
	}
	if (r >= 0)
		r = open_named(console, props);
	console->config.max_nr_ports = console->ports;
	return r;
}

static int console_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct console *console = calloc(1, sizeof *console);
	struct vc_virtio_config config = {.ops = &console_ops, .ctx = console};
	int r;

	if (!console)
		return vc_fail(ENOMEM, "no memory for a virtio-console");
	console->env = env;
	r = set_up(console, props);
	if (r < 0) {
		console_destroy(console);
		return r;
	}
	config.queues = console->ports > 1 ? 2 * console->ports + 2 : 2;
	return vc_virtio_add(env, props, &config, &console->v, dev);
}

const struct vc_device_type vc_virtio_console_type = {
    .name = "virtio-console",
    .summary = "console (hvc0), and further ports with names",
    .properties =
        "input      of the console: null, stdin, fd:N or file:PATH (null)\n"
        "output     null, stdout, stderr, fd:N or file:PATH (null)\n"
        "cols       width of the console in characters (not told)\n"
        "rows       height, with cols (not told)\n"
        "portN      name of port N, 1 to 7, in /dev/virtio-ports of the guest; the ports below N have names too\n"
        "portN_input   as input\n"
        "portN_output  as output\n" VC_VIRTIO_PROPERTIES,
    .create = console_create,
};
