/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * kill FORMAT TIMES [SEED]: a VMM is killed (SIGKILL) in the middle of writes, TIMES times; then its image must be
 * sound and have all that was flushed. The VMM is a child process with a real virtio-blk; the guest is a driver in it
 * that writes, zeroes and flushes with many requests at a time. What it knows of every sector lies in memory that
 * outlives it. FORMAT: raw, or qcow2, which qemu-img makes and checks.
 *
 * Every block has a generation that grows with each write of it; an odd one is all zeroes. After a kill a sector may
 * have any generation from the one that was flushed last to the one that was asked for last.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "block/block.h"
#include "core/util.h"
#include "virtio/types.h"
#include "virtio_driver.h"
#include "virtio_machine.h"

enum {
	BLOCK = 4096,
	BLOCKS = 4096,
	SECTOR = 512,
	DEPTH = 32,
	HEADER = 16,
	RANGE = 16,
	MEMORY = 16 << 20,
	MOST_BEFORE_KILL = 600, /* requests */
	EXIT_SKIP = 77,
};
enum { T_OUT = 1, T_FLUSH = 4, T_WRITE_ZEROES = 13, RANGE_UNMAP = 1 };

/* Shared by the processes: written by the child while it lives. */
struct known {
	struct {
		uint32_t issued, done, flushed, zeroed; /* generations; zeroed: the last odd one */
	} blocks[BLOCKS];
	_Atomic uint64_t completed, flushes; /* requests */
};

struct slot {
	uint64_t header, data;
	uint32_t type, block;
	bool busy;
};

static struct known *known;
static uint64_t seed;
static char image[64];

static uint32_t random_below(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16) % n;
}

static void die(const char *what)
{
	fprintf(stderr, "kill: %s: %s\n", what, vcore_error_message());
	exit(1);
}

/* ---- the child: a VMM, and the guest in it ---- */

static struct machine m;
static struct vdrv d;
static struct vdrv_queue q;
static struct slot slots[DEPTH];
static bool block_busy[BLOCKS], flushing, write_through;
static uint32_t to_be_flushed[BLOCKS];

/* The last one's requests may still hold the file, and with it the lock. */
static int create(const char *properties)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	struct vc_props *props;
	struct vc_dev *dev;
	int r = -EAGAIN;

	for (int i = 0; i < 500 && r == -EAGAIN; i++) {
		if (i)
			nanosleep(&pause, NULL);
		r = vc_props_parse(properties, &props);
		if (r)
			return r;
		r = vc_virtio_blk_type.create(&m.env, props, &dev);
		vc_props_free(props);
	}
	return r;
}

static void add(struct slot *slot)
{
	uint8_t *header = vdrv_ptr(&d, slot->header);
	struct vdrv_buf bufs[3] = {{slot->header, HEADER, false}};
	unsigned n = 1;

	vc_st32(header, slot->type);
	vc_st64(header + 8, slot->type == T_OUT ? (uint64_t)slot->block * (BLOCK / SECTOR) : 0);
	header[HEADER] = 0xff;
	if (slot->type != T_FLUSH)
		bufs[n++] = (struct vdrv_buf){slot->data, slot->type == T_OUT ? BLOCK : RANGE, false};
	bufs[n++] = (struct vdrv_buf){slot->header + HEADER, 1, true};
	slot->busy = true;
	if (!vdrv_add(&q, bufs, n, slot))
		die("the queue is full");
}

static void write_block(struct slot *slot)
{
	uint8_t *data = vdrv_ptr(&d, slot->data);
	bool zeroes = random_below(4) == 0;
	uint32_t block, generation;

	/* some are written far more often than others */
	do
		block = random_below(random_below(2) ? BLOCKS : BLOCKS / 16);
	while (block_busy[block]);
	generation = (known->blocks[block].issued | 1) + (zeroes ? 2 : 1);
	slot->type = zeroes ? T_WRITE_ZEROES : T_OUT;
	slot->block = block;
	block_busy[block] = true;
	if (zeroes) {
		vc_st64(data, (uint64_t)block * (BLOCK / SECTOR));
		vc_st32(data + 8, BLOCK / SECTOR);
		vc_st32(data + 12, random_below(2) ? RANGE_UNMAP : 0);
	}
	for (uint32_t i = 0; i < BLOCK && !zeroes; i += 8)
		vc_st64(data + i, (uint64_t)block << 32 | generation);
	known->blocks[block].issued = generation;
	if (zeroes)
		known->blocks[block].zeroed = generation;
	add(slot);
}

static void flush(struct slot *slot)
{
	slot->type = T_FLUSH;
	flushing = true;
	for (uint32_t i = 0; i < BLOCKS; i++)
		to_be_flushed[i] = known->blocks[i].done;
	add(slot);
}

static void completed(struct slot *slot)
{
	if (((uint8_t *)vdrv_ptr(&d, slot->header))[HEADER])
		die("the disk says that a request has failed");
	slot->busy = false;
	if (slot->type == T_FLUSH) {
		flushing = false;
		for (uint32_t i = 0; i < BLOCKS; i++)
			if (known->blocks[i].flushed < to_be_flushed[i])
				known->blocks[i].flushed = to_be_flushed[i];
		atomic_fetch_add(&known->flushes, 1);
	} else {
		block_busy[slot->block] = false;
		known->blocks[slot->block].done = known->blocks[slot->block].issued;
		if (write_through)
			known->blocks[slot->block].flushed = known->blocks[slot->block].done;
	}
	atomic_fetch_add(&known->completed, 1);
}

/* Never returns. At so many requests the parent is told, by a byte. */
static _Noreturn void guest(uint64_t until, int tell)
{
	bool told = false;

	for (;;) {
		struct slot *slot;

		for (unsigned i = 0; i < DEPTH; i++) {
			if (slots[i].busy)
				continue;
			if (!flushing && !write_through && random_below(24) == 0)
				flush(&slots[i]);
			else
				write_block(&slots[i]);
		}
		vdrv_kick(&q);
		slot = vdrv_wait(&q, NULL);
		do
			completed(slot);
		while ((slot = vdrv_get(&q, NULL)));
		if (!told && atomic_load(&known->completed) >= until)
			told = write(tell, "x", 1) == 1;
	}
}

static _Noreturn void vmm(const char *properties, uint64_t until, int tell)
{
	machine_init(&m);
	machine_add_memory(&m, 0, MEMORY, VCORE_MEM_RWX);
	if (create(properties) < 0)
		die(properties);
	vdrv_attach(&d, &m.env, VDRV_HEAP);
	if (!vdrv_negotiate(&d, ~0ull))
		die("the device refuses its own features");
	vdrv_queue(&d, &q, 0, 256);
	vdrv_start(&d);
	vdrv_interrupts(&q, false);
	for (unsigned i = 0; i < DEPTH; i++) {
		slots[i].header = vdrv_alloc(&d, HEADER + 1, 16);
		slots[i].data = vdrv_alloc(&d, BLOCK, 16);
	}
	guest(until, tell);
}

/* ---- the parent ---- */

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The exit status of a command. */
static int run(const char *format, ...)
{
	char command[256];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void make_image(const char *format)
{
	char options[64] = "";

	memset(known, 0, sizeof *known);
	unlink(image);
	if (!strcmp(format, "qcow2"))
		snprintf(options, sizeof options, "-o cluster_size=%u", 512u << random_below(8));
	if (!strcmp(format, "raw") ? run("truncate -s %d %s", BLOCK * BLOCKS, image)
	                           : run("qemu-img create -q -f %s %s %s %d", format, options, image, BLOCK * BLOCKS))
		die("making the image");
}

static bool sector_fits(uint32_t block, const uint8_t *data)
{
	uint32_t from = known->blocks[block].flushed, to = known->blocks[block].issued;
	uint64_t first = vc_ld64(data);
	uint32_t generation = (uint32_t)first;

	for (unsigned i = 8; i < SECTOR; i += 8)
		if (vc_ld64(data + i) != first)
			return false;
	if (!first)
		return !from || known->blocks[block].zeroed >= from;
	return first >> 32 == block && !(generation & 1) && generation >= from && generation <= to;
}

static bool verify(const char *format)
{
	const struct vc_block_options options = {.path = image, .format = format, .read_only = true, .no_lock = true};
	static uint8_t data[BLOCK];
	struct vc_block *block;
	bool good = true;

	if (vc_block_open(&options, &block))
		die("opening the image");
	for (uint32_t n = 0; n < BLOCKS && good; n++) {
		if (vc_block_rw(block, VC_BLOCK_READ, (uint64_t)n * BLOCK, data, BLOCK))
			die("reading the image");
		for (uint32_t at = 0; at < BLOCK && good; at += SECTOR) {
			good = sector_fits(n, data + at);
			if (!good)
				fprintf(stderr, "kill: block %u + %u has %#llx: expected a generation of %u to %u\n", n, at,
				        (unsigned long long)vc_ld64(data + at), known->blocks[n].flushed, known->blocks[n].issued);
		}
	}
	vc_block_close(block);
	return good;
}

/* What a generation was that nobody knows any more is what is there now: the next guest begins with that. */
static void settle(void)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		known->blocks[i].done = known->blocks[i].flushed;
}

/* A child that lives for a while. False: it ended by itself. */
static bool kill_one(const char *properties, uint64_t until)
{
	int tell[2], status;
	char byte;
	pid_t child;

	if (pipe(tell))
		die("no pipe");
	fflush(NULL);
	child = fork();
	if (!child) {
		close(tell[0]);
		vmm(properties, until, tell[1]);
	}
	close(tell[1]);
	if (child > 0 && read(tell[0], &byte, 1) == 1)
		kill(child, SIGKILL);
	close(tell[0]);
	return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool turn(const char *format, unsigned n)
{
	static const char *const caches[] = {"writeback", "writeback", "writeback", "writethrough"};
	const char *cache = caches[random_below(4)];
	char properties[160];
	int status;

	/* every other one goes on with the image that the last left */
	if (!n || random_below(2))
		make_image(format);
	write_through = !strcmp(cache, "writethrough");
	snprintf(properties, sizeof properties, "image=%s,format=%s,cache=%s,%spacked=%s,worker=%s", image, format, cache,
	         random_below(2) ? "aio=threads," : "", random_below(2) ? "on" : "off",
	         random_below(2) ? "thread" : "loop");
	if (!kill_one(properties, atomic_load(&known->completed) + 1 + random_below(MOST_BEFORE_KILL))) {
		fprintf(stderr, "kill: turn %u: the VMM (%s) ended by itself\n", n, properties);
		return false;
	}
	/* 0: sound; 3: leaked clusters only */
	status = strcmp(format, "raw") ? run("qemu-img check -U -q -f %s %s >check 2>&1", format, image) : 0;
	if (status != 0 && status != 3) {
		fprintf(stderr, "kill: turn %u (%s): qemu-img check says %d\n", n, properties, status);
		run("cat check >&2");
		return false;
	}
	if (!verify(format)) {
		fprintf(stderr, "kill: turn %u (%s): flushed data is lost\n", n, properties);
		return false;
	}
	settle();
	return true;
}

int main(int argc, char **argv)
{
	const char *format = argc > 1 ? argv[1] : "raw";
	unsigned times = argc > 2 ? (unsigned)atoi(argv[2]) : 20, n = 0;
	uint64_t requests = 0, flushes = 0;
	char directory[] = "/tmp/virtcore-kill-XXXXXX";

	seed = 0x9e3779b97f4a7c15ull * (argc > 3 ? strtoull(argv[3], NULL, 0) : 1);
	if (strcmp(format, "raw") && run("command -v qemu-img >/dev/null")) {
		puts("SKIP: no qemu-img (Debian: qemu-utils)");
		return EXIT_SKIP;
	}
	known = mmap(NULL, sizeof *known, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (known == MAP_FAILED || !mkdtemp(directory) || chdir(directory))
		die("a place to work in");
	snprintf(image, sizeof image, "disk.%s", format);
	while (n < times && turn(format, n))
		n++;
	requests = atomic_load(&known->completed);
	flushes = atomic_load(&known->flushes);
	if (n == times)
		run("rm -rf %s", directory);
	printf("%s: %u times killed; the last image had %llu requests and %llu flushes\n", format, n,
	       (unsigned long long)requests, (unsigned long long)flushes);
	return n == times ? 0 : 1;
}
