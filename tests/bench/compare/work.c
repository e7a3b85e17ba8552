/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Workloads that no Debian binary has: each prints a line that depends on what it did, and nothing else.
 *   work spawn N PROGRAM ARGUMENT...   N times fork, exec and wait
 *   work pipe N                        N round trips of a byte between two processes on one CPU
 *   work syscall N                     N times getppid
 *   work touch MIB                     first touch of MIB MiB in 4 KiB pages
 *   work compute WORKERS N             N rounds of arithmetic in each of WORKERS processes, each on a CPU of its own
 */
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof set, &set);
}

static int spawn(long n, char **argv)
{
	long good = 0;

	for (long i = 0; i < n; i++) {
		int status = -1;
		pid_t child = fork();

		if (child == 0) {
			execv(argv[0], argv);
			_exit(127);
		}
		if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
			good++;
	}
	printf("%ld of %ld ended well\n", good, n);
	return good != n;
}

static int ping_pong(long n, char **argv)
{
	int there[2], back[2], status;
	unsigned char byte = 0;
	pid_t child;

	if (pin(sched_getcpu()) < 0 || pipe(there) < 0 || pipe(back) < 0)
		return 1;
	child = fork();
	if (child < 0)
		return 1;
	if (child == 0) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1) {
			byte++;
			if (write(back[1], &byte, 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	for (long i = 0; i < n; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			return 1;
	close(there[1]);
	waitpid(child, &status, 0);
	printf("%ld round trips, last byte %u\n", n, byte);
	return status != 0;
}

static int syscalls(long n, char **argv)
{
	long parent = getppid(), same = 0;

	for (long i = 0; i < n; i++)
		same += syscall(SYS_getppid) == parent;
	printf("%ld calls, %ld answers alike\n", n, same);
	return same != n;
}

static int touch(long mib, char **argv)
{
	size_t length = (size_t)mib << 20, zero = 0;
	unsigned char *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* without this Debian's kernel would fill 2 MiB at a time */
	if (p == MAP_FAILED || madvise(p, length, MADV_NOHUGEPAGE) < 0)
		return 1;
	for (size_t i = 0; i < length; i += 4096) {
		zero += p[i] == 0;
		p[i] = 1;
	}
	printf("%zu pages\n", zero);
	return munmap(p, length) < 0;
}

static uint64_t arithmetic(long n)
{
	static uint64_t table[4096];
	uint64_t x = 88172645463325252u;

	for (long i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		table[x & 4095] += x * 0x9e3779b97f4a7c15u + table[x >> 52];
	}
	for (unsigned i = 0; i < 4096; i++)
		x = x * 31 + table[i];
	return x;
}

static int compute(long workers, char **argv)
{
	long n = argv[0] ? atol(argv[0]) : 0;
	int bad = 0, status;

	for (long i = 0; i < workers; i++) {
		pid_t child = fork();

		if (child < 0)
			return 1;
		if (child == 0) {
			if (pin((int)i) < 0)
				_exit(1);
			_exit(arithmetic(n) == 0);
		}
	}
	for (long i = 0; i < workers; i++)
		bad |= wait(&status) < 0 || status != 0;
	printf("%d workers, %016llx\n", (int)workers, (unsigned long long)arithmetic(1000));
	return bad;
}

static const struct {
	const char *name;
	int (*run)(long n, char **argv);
} works[] = {{"spawn", spawn}, {"pipe", ping_pong}, {"syscall", syscalls}, {"touch", touch}, {"compute", compute}};

int main(int argc, char **argv)
{
	for (unsigned i = 0; argc >= 3 && i < sizeof works / sizeof works[0]; i++)
		if (strcmp(works[i].name, argv[1]) == 0)
			return works[i].run(atol(argv[2]), argv + 3);
	fprintf(stderr, "usage: work spawn|pipe|syscall|touch|compute NUMBER [ARGUMENT...]\n");
	return 64;
}
