/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>

#include "net/user.h"

enum { PREFIX_MIN = 8, PREFIX_MAX = 27, ROUTER = 2, NAME_SERVER = 3, GUEST = 15 };

struct subnet {
	struct in_addr network, mask;
};

static struct in_addr member(const struct subnet *subnet, uint32_t number)
{
	return (struct in_addr){subnet->network.s_addr | htonl(number)};
}

static int parse_subnet(const char *text, struct subnet *subnet)
{
	char address[INET_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	char *end = NULL;
	long prefix = slash && slash[1] >= '0' && slash[1] <= '9' ? strtol(slash + 1, &end, 10) : -1;

	if (!slash || (size_t)(slash - text) >= sizeof address || prefix < PREFIX_MIN || prefix > PREFIX_MAX || *end)
		return vc_fail(EINVAL, "property subnet is \"%.40s\": expected ADDRESS/PREFIX, the prefix from %d to %d", text,
		               PREFIX_MIN, PREFIX_MAX);
	snprintf(address, sizeof address, "%.*s", (int)(slash - text), text);
	subnet->mask.s_addr = htonl(UINT32_MAX << (32 - prefix));
	if (inet_pton(AF_INET, address, &subnet->network) != 1 || subnet->network.s_addr & ~subnet->mask.s_addr)
		return vc_fail(EINVAL, "property subnet is \"%.40s\": expected the first address of a subnet", text);
	return 0;
}

/* ---- forwarded ports ---- */

struct end {
	struct in_addr address;
	int port;
};

/* "ADDRESS:PORT" or ":PORT". */
static bool parse_end(const char *text, size_t length, struct end *end)
{
	char copy[INET_ADDRSTRLEN + 8], *colon, *rest;

	if (length >= sizeof copy)
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	colon = strchr(copy, ':');
	if (!colon || colon[1] < '0' || colon[1] > '9')
		return false;
	*colon = '\0';
	end->port = (int)strtoul(colon + 1, &rest, 10);
	if (*rest || strlen(colon + 1) > 5 || end->port < 1 || end->port > 65535)
		return false;
	return !*copy || inet_pton(AF_INET, copy, &end->address) == 1;
}

static int add_forward(Slirp *slirp, const char *text, size_t length, struct in_addr guest)
{
	const char *dash = memchr(text, '-', length);
	bool udp = length > 4 && !strncmp(text, "udp:", 4);
	struct end from = {.address.s_addr = htonl(INADDR_ANY)}, to = {.address = guest};

	if (!dash || dash - text < 4 || (!udp && strncmp(text, "tcp:", 4)) ||
	    !parse_end(text + 4, (size_t)(dash - text) - 4, &from) ||
	    !parse_end(dash + 1, length - (size_t)(dash - text) - 1, &to))
		return vc_fail(EINVAL, "property hostfwd has \"%.*s\": expected tcp:[ADDRESS]:PORT-[ADDRESS]:PORT, or udp",
		               (int)length, text);
	if (slirp_add_hostfwd(slirp, udp, from.address, from.port, to.address, to.port) < 0)
		return vc_fail_errno(errno, "property hostfwd: cannot forward \"%.*s\"", (int)length, text);
	return 0;
}

static int add_forwards(Slirp *slirp, const char *text, struct in_addr guest)
{
	int r = 0;

	while (r >= 0 && *text) {
		size_t length = strcspn(text, ";");

		r = add_forward(slirp, text, length, guest);
		text += length + (text[length] == ';');
	}
	return r;
}

/* ---- */

int user_slirp_new(struct vc_props *props, const SlirpCb *callbacks, void *opaque, Slirp **slirp)
{
	const char *forwards = vc_props_string(props, "hostfwd", "");
	const char *network = vc_props_string(props, "subnet", "10.0.2.0/24");
	const char *hostname = vc_props_string(props, "hostname", NULL);
	SlirpConfig config = {.version = 4, .in_enabled = true, .vprefix_len = 64, .vhostname = hostname};
	bool restricted, ipv6;
	struct subnet subnet;
	int r = vc_props_bool(props, "restrict", false, &restricted);

	if (r >= 0)
		r = vc_props_bool(props, "ipv6", true, &ipv6);
	if (r >= 0)
		r = parse_subnet(network, &subnet);
	if (r < 0)
		return r;
	config.restricted = restricted;
	config.in6_enabled = ipv6;
	config.vnetwork = subnet.network;
	config.vnetmask = subnet.mask;
	config.vhost = member(&subnet, ROUTER);
	config.vnameserver = member(&subnet, NAME_SERVER);
	config.vdhcp_start = member(&subnet, GUEST);
	inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &config.vhost6);
	inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
	*slirp = slirp_new(&config, callbacks, opaque);
	if (!*slirp)
		return vc_fail(EINVAL, "libslirp refuses the configuration");
	return add_forwards(*slirp, forwards, config.vdhcp_start);
}
