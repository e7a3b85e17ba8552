/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The network: addresses are what libslirp gives the first guest. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"

#define CARD          "eth0"
#define RESOLVER      "/etc/resolv.conf"
#define RESOLVER_TEXT "nameserver 10.0.2.3\n"

static void set_address(struct sockaddr *to, const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET};

	inet_pton(AF_INET, text, &in.sin_addr);
	memcpy(to, &in, sizeof in);
}

static void bring_up(int fd, const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};

	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		fail(RUN_FAILED, "cannot bring %s up: %s", name, strerror(errno));
}

static void set_card(int fd, unsigned long what, const char *address)
{
	struct ifreq request = {.ifr_name = CARD};

	set_address(&request.ifr_addr, address);
	if (ioctl(fd, what, &request) < 0)
		fail(RUN_FAILED, "cannot give %s the address %s: %s", CARD, address, strerror(errno));
}

static void set_route(int fd)
{
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};

	set_address(&route.rt_dst, "0.0.0.0");
	set_address(&route.rt_genmask, "0.0.0.0");
	set_address(&route.rt_gateway, "10.0.2.2");
	if (ioctl(fd, SIOCADDRT, &route) < 0)
		fail(RUN_FAILED, "cannot set the default route: %s", strerror(errno));
}

static bool write_resolver(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	bool written = fd >= 0 && write(fd, RESOLVER_TEXT, sizeof RESOLVER_TEXT - 1) == sizeof RESOLVER_TEXT - 1;

	if (fd >= 0)
		close(fd);
	return written;
}

/*
 * A root that is the host's own keeps its file: ours lies over it. Often the file is a link into /run that leads
 * nowhere here, which is replaced where that stays in the guest. Without /etc there is nothing to do.
 */
static void set_resolver(bool writable)
{
	const char *ours = "/dev/shm/.resolv.conf";

	if (!write_resolver(ours))
		return;
	if (mount(ours, RESOLVER, NULL, MS_BIND, NULL) < 0) {
		if (!writable)
			unlink(RESOLVER);
		write_resolver(RESOLVER);
	}
	unlink(ours);
}

void start_network(const struct task *task)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	sethostname(task->hostname, strlen(task->hostname));
	bring_up(fd, "lo");
	if (task->network) {
		set_card(fd, SIOCSIFADDR, "10.0.2.15");
		set_card(fd, SIOCSIFNETMASK, "255.255.255.0");
		bring_up(fd, CARD);
		set_route(fd);
		set_resolver(task->writable);
	}
	close(fd);
}
