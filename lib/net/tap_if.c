/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "net/tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of newer kernels (6.2) than some headers. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { HEADER_SIZE = sizeof(struct vc_net_hdr), WIDE_HEADER_SIZE = HEADER_SIZE + 2 };

void tap_if_close(struct tap_if *tap)
{
	for (uint32_t i = 0; i < tap->count; i++)
		close(tap->fds[i]);
	tap->count = 0;
}

static unsigned long to_tun(uint32_t offloads)
{
	static const struct {
		uint32_t ours;
		unsigned long theirs;
	} rows[] = {
	    {VC_NET_TSO4, TUN_F_TSO4},
	    {VC_NET_TSO6, TUN_F_TSO6},
	    {VC_NET_ECN, TUN_F_TSO_ECN},
	    {VC_NET_UFO, TUN_F_UFO},
	    {VC_NET_USO, TUN_F_USO4 | TUN_F_USO6},
	};
	unsigned long flags = TUN_F_CSUM;

	if (!(offloads & VC_NET_CSUM))
		return 0;
	for (size_t i = 0; i < VC_ARRAY_SIZE(rows); i++)
		flags |= offloads & rows[i].ours ? rows[i].theirs : 0;
	return flags;
}

void tap_if_set_offloads(const struct tap_if *tap, uint32_t offloads)
{
	/* what the kernel does not know it refuses as a whole; less is always right */
	if (tap->has_header && ioctl(tap->fds[0], TUNSETOFFLOAD, to_tun(offloads & tap->native)) < 0)
		ioctl(tap->fds[0], TUNSETOFFLOAD, 0ul);
}

/* ---- opening ---- */

static int keep_fd(struct tap_if *tap, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (tap->count == TAP_QUEUES_MAX || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		close(fd);
		return vc_fail(EINVAL, "a tap has no more than %d queues", TAP_QUEUES_MAX);
	}
	tap->fds[tap->count++] = fd;
	return 0;
}

static int attach_queue(struct tap_if *tap, short flags)
{
	struct ifreq request = {.ifr_flags = flags};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0)
		return vc_fail_errno(errno, "net=tap: cannot open /dev/net/tun");
	memcpy(request.ifr_name, tap->name, sizeof tap->name);
	if (ioctl(fd, TUNSETIFF, &request) < 0) {
		r = vc_fail_errno(errno, "net=tap: cannot attach to interface \"%s\"", tap->name);
		close(fd);
		return r;
	}
	memcpy(tap->name, request.ifr_name, sizeof tap->name);
	return keep_fd(tap, fd);
}

static int attach(struct tap_if *tap, const char *name, uint32_t queues)
{
	short flags =
	    (short)(IFF_TAP | IFF_NO_PI | (tap->has_header ? IFF_VNET_HDR : 0) | (queues > 1 ? IFF_MULTI_QUEUE : 0));
	int r = 0;

	if (strlen(name) >= sizeof tap->name)
		return vc_fail(EINVAL, "property ifname is \"%.40s\": expected at most %zu letters", name,
		               sizeof tap->name - 1);
	memcpy(tap->name, name, strlen(name) + 1);
	for (uint32_t i = 0; r >= 0 && i < queues; i++)
		r = attach_queue(tap, flags);
	return r;
}

/* "3" or "3:4:5": a descriptor a queue. */
static int take_fds(struct tap_if *tap, const char *text, uint32_t queues)
{
	struct ifreq request;
	const char *p = text;
	int r = 0;

	do {
		char *end;
		long number = *p < '0' || *p > '9' ? -1 : strtol(p, &end, 10);
		int fd =
		    number < 0 || number > INT32_MAX || (*end && *end != ':') ? -1 : fcntl((int)number, F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			return vc_fail(EINVAL, "property fd is \"%.40s\": expected descriptors of a tap, like 3 or 3:4", text);
		r = keep_fd(tap, fd);
		p = *end ? end + 1 : NULL;
	} while (r >= 0 && p);
	if (r < 0)
		return r;
	if (ioctl(tap->fds[0], TUNGETIFF, &request) < 0)
		return vc_fail_errno(errno, "property fd: descriptor %.40s is not of a tap", text);
	if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_NO_PI))
		return vc_fail(EINVAL, "property fd: interface %.15s must be a tap without packet information",
		               request.ifr_name);
	if (tap->count != queues)
		return vc_fail(EINVAL, "property fd gives %u descriptors for %u queues", tap->count, queues);
	memcpy(tap->name, request.ifr_name, sizeof tap->name);
	tap->has_header = request.ifr_flags & IFF_VNET_HDR;
	return 0;
}

/* ---- setting up ---- */

static int set_header_size(const struct tap_if *tap, int size)
{
	for (uint32_t i = 0; tap->has_header && i < tap->count; i++)
		if (ioctl(tap->fds[i], TUNSETVNETHDRSZ, &size) < 0)
			return vc_fail_errno(errno, "net=tap: header size of %s", tap->name);
	return 0;
}

int tap_if_widen_header(const struct tap_if *tap)
{
	return set_header_size(tap, WIDE_HEADER_SIZE);
}

static void attach_or_detach(const struct tap_if *tap, uint32_t queue, bool on)
{
	struct ifreq request = {.ifr_flags = (short)(on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE)};

	/* one that is so already is refused */
	ioctl(tap->fds[queue], TUNSETQUEUE, &request);
}

void tap_if_use_queues(struct tap_if *tap, uint32_t count)
{
	for (; tap->used < count && tap->used < tap->count; tap->used++)
		attach_or_detach(tap, tap->used, true);
	for (; tap->used > count; tap->used--)
		attach_or_detach(tap, tap->used - 1, false);
}

static int set_header(struct tap_if *tap)
{
	int r = set_header_size(tap, HEADER_SIZE);

	if (r < 0 || !tap->has_header)
		return r;
	tap->native = VC_NET_OFFLOADS_ALL;
	if (ioctl(tap->fds[0], TUNSETOFFLOAD, to_tun(VC_NET_OFFLOADS_ALL)) < 0)
		tap->native &= ~VC_NET_USO;
	ioctl(tap->fds[0], TUNSETOFFLOAD, 0ul);
	return 0;
}

static int interface_ioctl(int fd, unsigned long request, struct ifreq *ifr, const char *what, const char *name)
{
	return ioctl(fd, request, ifr) < 0 ? vc_fail_errno(errno, "net=tap: %s of %s", what, name) : 0;
}

static int set_up(const struct tap_if *tap, int fd, uint64_t mtu, const char *bridge, bool up)
{
	struct ifreq ifr = {0};
	int r = 0;

	memcpy(ifr.ifr_name, tap->name, sizeof tap->name);
	if (mtu) {
		ifr.ifr_mtu = (int)mtu;
		r = interface_ioctl(fd, SIOCSIFMTU, &ifr, "MTU", tap->name);
	}
	if (r >= 0 && up) {
		r = interface_ioctl(fd, SIOCGIFFLAGS, &ifr, "flags", tap->name);
		ifr.ifr_flags |= IFF_UP;
		if (r >= 0)
			r = interface_ioctl(fd, SIOCSIFFLAGS, &ifr, "flags", tap->name);
	}
	if (r >= 0 && bridge) {
		if (strlen(bridge) >= sizeof ifr.ifr_name)
			return vc_fail(EINVAL, "property bridge is \"%.40s\": expected the name of a bridge", bridge);
		ifr.ifr_ifindex = (int)if_nametoindex(tap->name);
		memcpy(ifr.ifr_name, bridge, strlen(bridge) + 1);
		r = interface_ioctl(fd, SIOCBRADDIF, &ifr, "new port", bridge);
		if (r == -EBUSY) /* it was there before */
			r = 0;
	}
	return r;
}

static int configure(struct tap_if *tap, uint64_t mtu, const char *bridge, bool ours)
{
	int fd, r = set_header(tap);

	if (r < 0 || (!ours && !mtu && !bridge))
		return r;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return vc_fail_errno(errno, "a socket to set up %s", tap->name);
	r = set_up(tap, fd, mtu, bridge, ours);
	close(fd);
	return r;
}

int tap_if_open(struct vc_props *props, uint32_t queues, struct tap_if *tap)
{
	const char *name = vc_props_string(props, "ifname", NULL), *fds = vc_props_string(props, "fd", NULL);
	const char *bridge = vc_props_string(props, "bridge", NULL);
	uint64_t mtu;
	int r;

	*tap = (struct tap_if){0};
	r = vc_props_u64(props, "mtu", 0, 68, 65535, &mtu);
	if (r >= 0)
		r = vc_props_bool(props, "vnet_hdr", true, &tap->has_header);
	if (r < 0)
		return r;
	if (name && fds)
		return vc_fail(EINVAL, "net=tap: ifname and fd are two ways to say the same");
	r = fds ? take_fds(tap, fds, queues) : attach(tap, name ? name : "", queues);
	tap->used = tap->count;
	if (r >= 0)
		r = configure(tap, mtu, bridge, !fds);
	if (r < 0)
		tap_if_close(tap);
	return r;
}
