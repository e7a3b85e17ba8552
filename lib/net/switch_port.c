/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The switch as an object, and its ports: the kind "switch" of network backings. */
#include <stdlib.h>

#include "net/switch.h"

#define NS_PER_MS 1000000ull

enum { HOLD_DEFAULT = 10, HOLD_MAX = 1000 }; /* ms */
enum { VLAN_DEFAULT = 1, VLAN_MAX = SWITCH_VLANS - 2, STORM_MAX = 1000000000 };

/* ---- the switch ---- */

int vcore_switch_new(vcore_switch **out)
{
	struct vcore_switch *sw;
	int r;

	if (!out)
		return vc_fail(EINVAL, "vcore_switch_new: no place for the switch given");
	*out = NULL;
	sw = calloc(1, sizeof *sw);
	if (!sw)
		return vc_fail(ENOMEM, "no memory for a switch");
	r = vc_gate_init(&sw->gate);
	if (r < 0) {
		free(sw);
		return r;
	}
	pthread_mutex_init(&sw->lock, NULL);
	sw->refs = 1;
	*out = sw;
	return 0;
}

vcore_switch *vcore_switch_ref(vcore_switch *sw)
{
	if (sw)
		atomic_fetch_add(&sw->refs, 1);
	return sw;
}

void vcore_switch_unref(vcore_switch *sw)
{
	if (!sw || atomic_fetch_sub(&sw->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&sw->lock);
	vc_gate_fini(&sw->gate);
	free(sw);
}

static void describe(struct vcore_switch *sw, const struct switch_port *port, struct vcore_switch_port *info)
{
	struct vc_net_counters c;

	vc_net_get_counters(port->net, &c);
	info->index = port->index;
	info->vlan = port->vlan;
	info->running = atomic_load(&port->net->running);
	memcpy(info->mac, port->net->user.mac, sizeof info->mac);
	info->learned = (uint32_t)atomic_load(&sw->table.used[port->index]);
	info->in_frames = c.tx_frames;
	info->in_bytes = c.tx_bytes;
	info->in_dropped = c.tx_dropped + atomic_load(&port->in_dropped);
	info->out_frames = c.rx_frames;
	info->out_bytes = c.rx_bytes;
	info->out_dropped = c.rx_dropped;
}

int vcore_switch_get_port(vcore_switch *sw, uint32_t index, struct vcore_switch_port *out)
{
	struct vcore_switch_port info = {.size = sizeof info};
	bool found = false;

	if (!sw || !out || out->size < sizeof out->size)
		return vc_fail(EINVAL, "vcore_switch_get_port: a switch and a port with its size set are needed");
	pthread_mutex_lock(&sw->lock);
	while (index < sw->port_end && !sw->ports[index])
		index++;
	if (index < sw->port_end) {
		describe(sw, sw->ports[index], &info);
		found = true;
	}
	pthread_mutex_unlock(&sw->lock);
	if (!found)
		return vc_fail(ENOENT, "the switch has no port %u or above", index);
	vc_struct_out(out, &info, sizeof info);
	return 0;
}

/* ---- properties ---- */

static int bad_trunk(const char *text)
{
	return vc_fail(EINVAL, "property trunk is \"%.40s\": expected all, none, or VLANs of 1 to %d like 10:20-29", text,
	               VLAN_MAX);
}

static bool parse_vlan(const char **text, unsigned long *vlan)
{
	char *end;

	if (**text < '0' || **text > '9')
		return false;
	*vlan = strtoul(*text, &end, 10);
	*text = end;
	return *vlan >= 1 && *vlan <= VLAN_MAX;
}

static void add_vlans(struct switch_port *port, unsigned long first, unsigned long last)
{
	for (; first <= last; first++)
		port->tagged[first / 64] |= 1ull << (first % 64);
}

static int parse_trunk(struct switch_port *port, const char *text)
{
	unsigned long first, last;
	const char *p = text;

	if (!strcmp(text, "none"))
		return 0;
	if (!strcmp(text, "all")) {
		add_vlans(port, 1, VLAN_MAX);
		return 0;
	}
	for (;; p++) {
		if (!parse_vlan(&p, &first))
			return bad_trunk(text);
		last = first;
		if (*p == '-' && (p++, !parse_vlan(&p, &last) || last < first))
			return bad_trunk(text);
		add_vlans(port, first, last);
		if (!*p)
			return 0;
		if (*p != ':')
			return bad_trunk(text);
	}
}

/* Without either property it is a port of an unmanaged switch: tags pass. With vlan alone, an access port. */
static int read_properties(struct switch_port *port, struct vc_props *props)
{
	bool access = vc_props_string(props, "vlan", NULL);
	uint64_t vlan, hold;
	int r = vc_props_u64(props, "vlan", VLAN_DEFAULT, 1, VLAN_MAX, &vlan);

	if (r >= 0)
		r = vc_props_u64(props, "storm", 0, 0, STORM_MAX, &port->storm_rate);
	if (r >= 0)
		r = vc_props_u64(props, "hold", HOLD_DEFAULT, 0, HOLD_MAX, &hold);
	if (r < 0)
		return r;
	port->hold = hold * NS_PER_MS;
	port->vlan = (uint16_t)vlan;
	port->storm_tokens = port->storm_rate;
	return parse_trunk(port, vc_props_string(props, "trunk", access ? "none" : "all"));
}

/* ---- the backing ---- */

static unsigned port_offer(void *ctx, unsigned queue, const struct vc_net_frame *frames, unsigned count, bool may_hold)
{
	return switch_forward(ctx, queue, frames, count, may_hold);
}

/* The NIC has room again. */
static void port_resume(void *ctx, unsigned queue)
{
	struct switch_port *port = ctx;

	pthread_mutex_lock(&port->sw->lock);
	switch_release(port->sw, port);
	pthread_mutex_unlock(&port->sw->lock);
}

static uint64_t mac_key(const uint8_t *mac)
{
	return vc_ld32(mac) | (uint64_t)vc_ld16(mac + 4) << 32;
}

static void port_set_filter(void *ctx, bool promiscuous, bool all_multicast, const uint8_t (*macs)[6], unsigned count)
{
	struct switch_port *port = ctx;

	vc_gate_begin(&port->sw->gate, NULL);
	/* more than there is room for: the NIC sorts them out itself */
	port->promiscuous = promiscuous || count > SWITCH_FILTER_MAX;
	port->all_multicast = all_multicast;
	port->filter_count = port->promiscuous ? 0 : count;
	for (uint32_t i = 0; i < port->filter_count; i++)
		port->filter[i] = mac_key(macs[i]);
	vc_gate_end(&port->sw->gate, NULL);
}

static void free_port(struct switch_port *port)
{
	for (uint32_t i = 0; i < port->queue_count; i++) {
		switch_hold_fini(&port->queues[i]);
		vc_gate_remove(&port->sw->gate, &port->queues[i].pass);
	}
	pthread_mutex_destroy(&port->storm_lock);
	vcore_switch_unref(port->sw);
	free(port);
}

static void port_close(void *ctx)
{
	struct switch_port *port = ctx;
	struct vcore_switch *sw = port->sw;

	pthread_mutex_lock(&sw->lock);
	vc_gate_begin(&sw->gate, NULL);
	sw->ports[port->index] = NULL;
	vc_mac_forget(&sw->table, port->index);
	while (sw->port_end && !sw->ports[sw->port_end - 1])
		sw->port_end--;
	vc_gate_end(&sw->gate, NULL);
	switch_release(sw, port);
	pthread_mutex_unlock(&sw->lock);
	free_port(port);
}

static const struct vc_net_ops port_ops = {
    .offer = port_offer,
    .resume = port_resume,
    .set_filter = port_set_filter,
    .close = port_close,
};

static int plug_in(struct switch_port *port)
{
	struct vcore_switch *sw = port->sw;
	uint32_t index = 0;

	pthread_mutex_lock(&sw->lock);
	while (index < SWITCH_PORTS_MAX && sw->ports[index])
		index++;
	if (index < SWITCH_PORTS_MAX) {
		vc_gate_begin(&sw->gate, NULL);
		port->index = index;
		sw->ports[index] = port;
		if (index >= sw->port_end)
			sw->port_end = index + 1;
		/* known before its first word: what is sent to it need not be flooded */
		vc_mac_learn(&sw->table, mac_key(port->net->user.mac) | (uint64_t)port->vlan << 48, index,
		             (uint32_t)(vc_host_ns() / 1000000000));
		vc_gate_end(&sw->gate, NULL);
	}
	pthread_mutex_unlock(&sw->lock);
	return index < SWITCH_PORTS_MAX ? 0 : vc_fail(ENOSPC, "the switch has no more than %d ports", SWITCH_PORTS_MAX);
}

static int find_switch(struct vc_env *env, struct vc_props *props, vcore_switch **sw)
{
	const char *name = vc_props_string(props, "switch", NULL);

	if (!name)
		return vc_fail(EINVAL, "net=switch needs a property switch=NAME");
	*sw = env->switches ? vc_switch_find(env->switches, name) : NULL;
	return *sw ? 0 : vc_fail(ENOENT, "the vm knows no switch \"%.40s\": add it first", name);
}

static int port_open(struct vc_env *env, struct vc_props *props, struct vc_net *net)
{
	uint32_t queues = net->user.queues;
	struct switch_port *port;
	vcore_switch *sw;
	int r = find_switch(env, props, &sw);

	if (r < 0)
		return r;
	port = calloc(1, sizeof *port + queues * sizeof port->queues[0]);
	if (!port) {
		vcore_switch_unref(sw);
		return vc_fail(ENOMEM, "no memory for a port of a switch");
	}
	port->sw = sw;
	port->net = net;
	port->promiscuous = true; /* until the NIC says otherwise */
	port->queue_count = queues;
	pthread_mutex_init(&port->storm_lock, NULL);
	for (uint32_t i = 0; i < queues; i++)
		vc_gate_add(&sw->gate, &port->queues[i].pass, NULL, NULL);
	r = read_properties(port, props);
	for (uint32_t i = 0; r >= 0 && i < queues; i++)
		r = switch_hold_init(&port->queues[i], port);
	if (r >= 0)
		r = plug_in(port);
	if (r < 0) {
		free_port(port);
		return r;
	}
	net->ops = &port_ops;
	net->ctx = port;
	net->native = VC_NET_OFFLOADS_ALL;
	net->rx_queues = queues;
	return 0;
}

const struct vc_net_kind vc_net_switch_kind = {
    .name = "switch",
    .summary = "a switch between NICs in this process",
    .open = port_open,
};
