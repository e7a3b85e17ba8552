/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Both ends of the test of virtio-vsock, static so that the same program runs in the guest:
 *   vsock guest-echo PORT                listens there and sends back what one connection says
 *   vsock guest-send PORT BYTES          connects to the host's port, sends so many and compares what comes back
 *   vsock send-to CID PORT BYTES         the same, to the guest of that context ID, as soon as it answers
 *   vsock host-echo PATH                 as guest-echo, at a unix socket
 *   vsock host-send PATH PORT BYTES      as guest-send, to the guest's port by way of the device's unix socket
 * What was sent is random-looking and never kept: it is made a second time to be compared.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum { BLOCK = 60000, PATIENCE_MS = 150000, RETRY_MS = 100, HOST = 2 };

static int fail(const char *what)
{
	printf("vsock: %s: %s\n", what, strerror(errno));
	return 1;
}

static uint8_t next_byte(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return (uint8_t)(*state >> 24);
}

static int listen_there(const struct sockaddr *address, socklen_t length)
{
	int fd = socket(address->sa_family, SOCK_STREAM, 0);

	return fd < 0 || bind(fd, address, length) < 0 || listen(fd, 1) < 0 ? -1 : fd;
}

static int echo(const struct sockaddr *address, socklen_t length)
{
	static uint8_t block[BLOCK];
	unsigned long total = 0;
	int listener = listen_there(address, length), fd = listener < 0 ? -1 : accept(listener, NULL, NULL);
	ssize_t n;

	if (fd < 0)
		return fail("listening");
	while ((n = read(fd, block, sizeof block)) > 0) {
		total += (unsigned long)n;
		for (ssize_t at = 0, m; at < n; at += m)
			if ((m = write(fd, block + at, (size_t)(n - at))) <= 0)
				return fail("write");
	}
	close(fd);
	printf("vsock: echoed %lu\n", total);
	return n < 0;
}

/* Sends and receives at the same time, for neither side may keep all of it; then tells of its end, and waits for the
 * other's. */
static int exchange(int fd, unsigned long bytes)
{
	static uint8_t out[BLOCK], in[BLOCK];
	unsigned long sent = 0, received = 0;
	uint32_t made = 1, checked = 1;
	size_t have = 0, at = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < bytes ? POLLOUT : 0))};
		ssize_t n;

		if (poll(&p, 1, PATIENCE_MS) <= 0)
			return fail("nothing happens");
		if (p.revents & POLLIN) {
			n = recv(fd, in, sizeof in, MSG_DONTWAIT);
			if (n == 0)
				break;
			for (ssize_t i = 0; i < n; i++)
				if (in[i] != next_byte(&checked))
					return fail("another byte came back");
			received += n > 0 ? (unsigned long)n : 0;
		}
		if (!(p.revents & POLLOUT) || sent == bytes)
			continue;
		if (at == have)
			for (at = have = 0; have < BLOCK && have < bytes - sent; have++)
				out[have] = next_byte(&made);
		n = send(fd, out + at, have - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return fail("send");
		at += n > 0 ? (size_t)n : 0;
		sent += n > 0 ? (unsigned long)n : 0;
		if (sent == bytes)
			shutdown(fd, SHUT_WR);
	}
	printf("vsock: sent %lu, %lu came back\n", sent, received);
	return received != bytes;
}

static int guest_send(unsigned port, unsigned long bytes)
{
	struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		return fail("connecting to the host");
	return exchange(fd, bytes);
}

static int send_to(unsigned cid, unsigned port, unsigned long bytes)
{
	struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};

	for (unsigned i = 0; i < PATIENCE_MS / RETRY_MS; i++) {
		int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

		if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
			return exchange(fd, bytes);
		close(fd);
		poll(NULL, 0, RETRY_MS);
	}
	return fail("the guest does not answer");
}

/* The answer of the device, a line; -1: it has closed, for nobody listens there yet. */
static int call(const struct sockaddr_un *un, const char *port)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char byte = 0;

	if (connect(fd, (const struct sockaddr *)un, sizeof *un) == 0 && dprintf(fd, "CONNECT %s\n", port) > 0)
		while (read(fd, &byte, 1) == 1 && byte != '\n')
			;
	if (byte == '\n')
		return fd;
	close(fd);
	return -1;
}

static int host_send(const struct sockaddr_un *un, const char *port, unsigned long bytes)
{
	int fd = -1;

	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; fd < 0 && i < PATIENCE_MS / RETRY_MS; i++) {
		fd = call(un, port);
		if (fd < 0)
			poll(NULL, 0, RETRY_MS);
	}
	return fd < 0 ? fail("the guest does not answer") : exchange(fd, bytes);
}

int main(int argc, char **argv)
{
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	if (argc < 3 || strlen(argv[2]) >= sizeof un.sun_path)
		return 2;
	strcpy(un.sun_path, argv[2]);
	vm.svm_port = (unsigned)atoi(argv[2]);
	if (!strcmp(argv[1], "guest-echo"))
		return echo((struct sockaddr *)&vm, sizeof vm);
	if (!strcmp(argv[1], "host-echo"))
		return echo((struct sockaddr *)&un, sizeof un);
	if (!strcmp(argv[1], "guest-send") && argc == 4)
		return guest_send(vm.svm_port, strtoul(argv[3], NULL, 0));
	if (!strcmp(argv[1], "send-to") && argc == 5)
		return send_to(vm.svm_port, (unsigned)atoi(argv[3]), strtoul(argv[4], NULL, 0));
	if (!strcmp(argv[1], "host-send") && argc == 5)
		return host_send(&un, argv[3], strtoul(argv[4], NULL, 0));
	return 2;
}
