/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /init of the guest that is moved. By words of the kernel's command line: fill=MIB of memory that is not zero, and of
 * that dirty=MB a second are written again for ever, page by page; 0: it sleeps. It says that it is ready, and once a
 * second what it has written.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t number(const char *name)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 10) : 0;
}

/* Half of what is in a page can be told from what is in others, half is all the same. */
static void fill(uint64_t *memory, uint64_t pages)
{
	uint64_t x = 88172645463325252u;

	for (uint64_t i = 0; i < pages * (PAGE / 8); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memory[i] = i % (PAGE / 8) < PAGE / 16 ? x : 0x2020202020202020u;
	}
}

static void pause_for(uint64_t ns)
{
	nanosleep(&(struct timespec){0, (long)ns}, NULL);
}

/* A page at a time, as many as are due by the clock; what could not be done in time is not made up for. */
static void dirty(uint64_t *memory, uint64_t pages, uint64_t rate)
{
	uint64_t last = now_ns(), told = last, at = 0, written = 0;

	for (;;) {
		uint64_t now = now_ns(), due = (now - last) * rate / PAGE / 1000000000u;

		if (!due) {
			pause_for(500000);
			continue;
		}
		last = now;
		due = due < rate / PAGE / 20 ? due : rate / PAGE / 20;
		for (uint64_t n = 0; n < due; n++, at = (at + 1) % pages)
			memory[at * (PAGE / 8) + n % (PAGE / 8)]++;
		written += due * PAGE;
		if (now - told < 1000000000u)
			continue;
		printf("migration: wrote %.1f MB/s\n", (double)written * 1e3 / (double)(now - told));
		told = now;
		written = 0;
	}
}

int main(void)
{
	uint64_t mib = number("fill"), rate = number("dirty") * 1000000, pages = mib << 20 >> 12;
	uint64_t *memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	setvbuf(stdout, NULL, _IONBF, 0);
	if (memory == MAP_FAILED || !mib) {
		printf("migration: no memory\n");
		return 1;
	}
	madvise(memory, mib << 20, MADV_NOHUGEPAGE);
	fill(memory, pages);
	printf("migration: ready\n");
	if (rate)
		dirty(memory, pages, rate);
	for (;;)
		sleep(1000);
}
