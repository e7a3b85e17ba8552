/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rtt serve: sends every UDP datagram to port 7 back. rtt ADDRESS COUNT BYTES: sends as many, one after the other, each
 * once the one before has come back, and prints the median and the mean round trip in microseconds, and how many got
 * lost. rtt flood ADDRESS MILLISECONDS BYTES: sends as many as it can for so long; broadcasts are allowed.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7, BYTES_MAX = 1400, LOST_MAX = 20 };

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int serve(int fd)
{
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	char data[BYTES_MAX];

	if (bind(fd, (struct sockaddr *)&peer, sizeof peer) < 0)
		return 1;
	for (;;) {
		socklen_t length = sizeof peer;
		ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&peer, &length);

		if (n >= 0)
			sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&peer, length);
	}
}

static int flood(int fd, const char *address, unsigned milliseconds, unsigned bytes)
{
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	double end = now_us() + milliseconds * 1e3;
	char data[BYTES_MAX] = {0};
	int on = 1;

	if (bytes > sizeof data || inet_pton(AF_INET, address, &peer.sin_addr) != 1 ||
	    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) < 0)
		return 1;
	while (now_us() < end)
		for (unsigned i = 0; i < 64; i++)
			sendto(fd, data, bytes, 0, (struct sockaddr *)&peer, sizeof peer);
	return 0;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int measure(int fd, const char *address, unsigned count, unsigned bytes)
{
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct timeval second = {.tv_sec = 1};
	double *times = calloc(count, sizeof *times), sum = 0;
	char data[BYTES_MAX] = {0};
	unsigned n = 0, lost = 0;

	if (!times || bytes < sizeof n || bytes > sizeof data || inet_pton(AF_INET, address, &peer.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0)
		return 1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
	while (n < count && lost < LOST_MAX) {
		double start = now_us();
		unsigned got;

		memcpy(data, &n, sizeof n);
		if (send(fd, data, bytes, 0) < 0 || recv(fd, data, sizeof data, 0) < 0) {
			lost++;
			continue;
		}
		memcpy(&got, data, sizeof got);
		if (got != n)
			continue; /* an answer to one that was given up */
		times[n] = now_us() - start;
		sum += times[n++];
	}
	if (n < count)
		return 1;
	qsort(times, n, sizeof times[0], compare);
	printf("rtt: median %.1f mean %.1f lost %u\n", times[n / 2], sum / n, lost);
	return 0;
}

int main(int argc, char **argv)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (argc == 2 && !strcmp(argv[1], "serve"))
		return serve(fd);
	if (argc == 5 && !strcmp(argv[1], "flood"))
		return flood(fd, argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	if (argc == 4 && atoi(argv[2]) > 0)
		return measure(fd, argv[1], (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]));
	fprintf(stderr, "usage: rtt serve | rtt ADDRESS COUNT BYTES | rtt flood ADDRESS MILLISECONDS BYTES\n");
	return 2;
}
