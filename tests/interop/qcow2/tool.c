/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Drives lib/block for the tests against qemu-img.
 *   random IMAGE MODEL SEED ROUNDS OPTIONS   random requests on both; MODEL is a raw file that has what IMAGE should
 * have create IMAGE SIZE [BACKING FORMAT] convert IMAGE OUT OPTIONS                everything that is read from IMAGE,
 * to a raw file fill IMAGE RAW OPTIONS                   everything of RAW into IMAGE write IMAGE STATE SEED writes and
 * flushes until killed; STATE tells what must be there verify IMAGE STATE                       is it? open IMAGE
 * OPTIONS                       prints the error, or ok; hold: until the end of stdin OPTIONS: "-" or key=value,...:
 * cache, aio, snapshot, overlay, readonly, resize, hold, discard, format
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "block/block.h"
#include "core/util.h"

enum { PARALLEL = 16, MAX_REQUEST = 256 * 1024, STATE_BLOCKS = 4096, STATE_BLOCK = 4096, SECTOR = 512 };

struct options {
	struct vc_block_options block;
	bool resize, hold;
};

static void die(const char *what)
{
	fprintf(stderr, "tool: %s: %s\n", what, vcore_error_message());
	exit(1);
}

static void parse(char *text, struct options *o)
{
	static const char *const caches[] = {"writeback", "writethrough", "direct", "unsafe"};

	for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
		char *value = strchr(item, '=');

		if (value)
			*value++ = '\0';
		if (!strcmp(item, "cache")) {
			for (unsigned i = 0; i < 4; i++) {
				if (!strcmp(caches[i], value))
					o->block.cache = (enum vc_block_cache)i;
			}
		} else if (!strcmp(item, "aio")) {
			o->block.aio = value;
		} else if (!strcmp(item, "snapshot")) {
			o->block.snapshot = value;
		} else if (!strcmp(item, "format")) {
			o->block.format = value;
		} else if (!strcmp(item, "overlay")) {
			o->block.overlay = true;
		} else if (!strcmp(item, "readonly")) {
			o->block.read_only = true;
		} else if (!strcmp(item, "resize")) {
			o->resize = true;
		} else if (!strcmp(item, "hold")) {
			o->hold = true;
		} else if (strcmp(item, "-")) {
			fprintf(stderr, "tool: unknown option %s\n", item);
			exit(2);
		}
	}
}

static struct vc_block *open_image(const char *path, struct options *o)
{
	struct vc_block *block;

	o->block.path = path;
	if (vc_block_open(&o->block, &block))
		die("open");
	return block;
}

static uint64_t random64(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* ---- random requests against a model ---- */

struct task {
	struct vc_block_request request;
	struct iovec iov[3];
	uint8_t *data;
	sem_t *done;
	int result;
};

static void finished(struct vc_block_request *request, int result)
{
	struct task *task = request->ctx;

	task->result = result;
	sem_post(task->done);
}

/* In up to three pieces, none of a size that disks like. */
static void split(struct task *task, uint64_t *seed)
{
	uint64_t length = task->request.length, first = random64(seed) % (length + 1), second;

	second = random64(seed) % (length - first + 1);
	task->iov[0] = (struct iovec){task->data, first};
	task->iov[1] = (struct iovec){task->data + first, second};
	task->iov[2] = (struct iovec){task->data + first + second, length - first - second};
	task->request.iov = task->iov;
	task->request.iov_count = 3;
}

/* Requests of one round have stripes of their own, which share clusters. */
static void choose(struct task *task, uint64_t *seed, uint64_t size, unsigned lane)
{
	static const enum vc_block_op ops[] = {VC_BLOCK_WRITE, VC_BLOCK_WRITE,   VC_BLOCK_WRITE, VC_BLOCK_READ,
	                                       VC_BLOCK_READ,  VC_BLOCK_DISCARD, VC_BLOCK_FLUSH, VC_BLOCK_WRITE_ZEROES};
	uint64_t sectors = size / SECTOR, start = sectors * lane / PARALLEL, end = sectors * (lane + 1) / PARALLEL;
	uint64_t at = start + random64(seed) % (end - start), most = end - at;
	uint64_t limit = 1ull << random64(seed) % 10;

	if (most > limit)
		most = limit;
	task->request.op = ops[random64(seed) % VC_ARRAY_SIZE(ops)];
	task->request.may_unmap = random64(seed) & 1;
	task->request.offset = at * SECTOR;
	task->request.length = (1 + random64(seed) % most) * SECTOR;
	if (random64(seed) % 4 == 0 && task->request.op == VC_BLOCK_WRITE)
		memset(task->data, 0, task->request.length);
	else if (task->request.op == VC_BLOCK_WRITE)
		for (uint64_t i = 0; i < task->request.length; i += 8)
			vc_st64(task->data + i, random64(seed));
	split(task, seed);
}

static void judge(struct vc_block *block, struct task *task, uint8_t *model)
{
	const struct vc_block_request *r = &task->request;

	if (task->result) {
		fprintf(stderr, "tool: op %d at %#llx + %#llx: %s\n", r->op, (unsigned long long)r->offset,
		        (unsigned long long)r->length, strerror(-task->result));
		exit(1);
	}
	if (r->op == VC_BLOCK_READ && memcmp(task->data, model + r->offset, r->length)) {
		fprintf(stderr, "tool: other data at %#llx + %#llx\n", (unsigned long long)r->offset,
		        (unsigned long long)r->length);
		exit(1);
	}
	if (r->op == VC_BLOCK_WRITE)
		memcpy(model + r->offset, task->data, r->length);
	if (r->op == VC_BLOCK_WRITE_ZEROES)
		memset(model + r->offset, 0, r->length);
	/* whatever it is now, it stays */
	if (r->op == VC_BLOCK_DISCARD && vc_block_rw(block, VC_BLOCK_READ, r->offset, model + r->offset, r->length))
		exit(1);
}

static void one_round(struct vc_block *block, uint64_t *seed, uint8_t *model, struct task *tasks, uint64_t size)
{
	sem_t done;

	sem_init(&done, 0, 0);
	for (unsigned i = 0; i < PARALLEL; i++) {
		tasks[i].done = &done;
		tasks[i].request.done = finished;
		tasks[i].request.ctx = &tasks[i];
		choose(&tasks[i], seed, size, i);
	}
	vc_block_plug(block);
	for (unsigned i = 0; i < PARALLEL; i++)
		vc_block_submit(block, &tasks[i].request);
	vc_block_unplug(block);
	for (unsigned i = 0; i < PARALLEL; i++)
		sem_wait(&done);
	for (unsigned i = 0; i < PARALLEL; i++)
		judge(block, &tasks[i], model);
}

static int run_random(const char *image, const char *path, uint64_t seed, unsigned rounds, struct options *o)
{
	static struct task tasks[PARALLEL];
	struct vc_block *block = open_image(image, o);
	uint64_t size = vc_block_size(block), room = 2 * size;
	int fd = open(path, O_RDWR);
	uint8_t *model;

	seed = seed * 2654435761u + 1;
	if (fd < 0 || ftruncate(fd, (off_t)room) < 0)
		die(path);
	model = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (unsigned i = 0; i < PARALLEL; i++)
		tasks[i].data = malloc(MAX_REQUEST);
	for (unsigned i = 0; i < rounds; i++) {
		if (o->resize && i % 3 == 2) {
			uint64_t next = (room / SECTOR / 4 + random64(&seed) % (room / SECTOR * 3 / 4)) * SECTOR;

			if (vc_block_resize(block, next))
				die("resize");
			if (next < size)
				memset(model + next, 0, size - next);
			size = next;
		}
		one_round(block, &seed, model, tasks, size);
	}
	vc_block_close(block);
	return ftruncate(fd, (off_t)size) < 0;
}

/* ---- whole images ---- */

static int copy_all(struct vc_block *block, int fd, bool in)
{
	static uint8_t buffer[MAX_REQUEST];
	uint64_t size = vc_block_size(block);

	for (uint64_t at = 0; at < size; at += sizeof buffer) {
		uint64_t n = size - at < sizeof buffer ? size - at : sizeof buffer;

		if (in && pread(fd, buffer, n, (off_t)at) != (ssize_t)n)
			return 1;
		if (vc_block_rw(block, in ? VC_BLOCK_WRITE : VC_BLOCK_READ, at, buffer, n))
			return 1;
		if (!in && pwrite(fd, buffer, n, (off_t)at) != (ssize_t)n)
			return 1;
	}
	return 0;
}

static int run_copy(const char *image, const char *raw, bool in, struct options *o)
{
	struct vc_block *block;
	int fd = open(raw, in ? O_RDONLY : O_RDWR | O_CREAT | O_TRUNC, 0644), r;

	o->block.read_only = !in;
	block = open_image(image, o);
	r = fd < 0 || copy_all(block, fd, in);
	vc_block_close(block);
	return r;
}

static int run_open(const char *image, struct options *o)
{
	struct vc_block *block;
	char byte;

	o->block.path = image;
	if (vc_block_open(&o->block, &block)) {
		printf("%s\n", vcore_error_message());
		return 1;
	}
	printf("ok %s %llu\n", vc_block_format(block), (unsigned long long)vc_block_size(block));
	fflush(stdout);
	if (o->hold)
		(void)!read(0, &byte, 1);
	vc_block_close(block);
	return 0;
}

/* ---- killed in the middle ---- */

/* In a shared mapping: it outlives the process. */
struct state {
	uint32_t issued[STATE_BLOCKS], flushed[STATE_BLOCKS]; /* generations; an odd one is zeroes */
};

static struct state *map_state(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);
	void *state;

	if (fd < 0 || ftruncate(fd, sizeof(struct state)) < 0)
		die(path);
	state = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (state == MAP_FAILED)
		die(path);
	return state;
}

static void fill_block(uint8_t *data, uint32_t block, uint32_t generation)
{
	for (unsigned i = 0; i < STATE_BLOCK; i += 8)
		vc_st64(data + i, generation ? (uint64_t)block << 32 | generation : 0);
}

static _Noreturn void run_write(const char *image, const char *path, uint64_t seed)
{
	struct options o = {{0}};
	struct vc_block *block = open_image(image, &o);
	struct state *state = map_state(path);
	static struct task tasks[PARALLEL];
	static uint32_t written[STATE_BLOCKS];
	uint64_t blocks = vc_block_size(block) / STATE_BLOCK;
	sem_t done;

	seed = seed * 2654435761u + 1;
	if (blocks > STATE_BLOCKS)
		blocks = STATE_BLOCKS;
	memcpy(written, state->flushed, sizeof written);
	sem_init(&done, 0, 0);
	for (unsigned i = 0; i < PARALLEL; i++)
		tasks[i].data = malloc(STATE_BLOCK);
	for (;;) {
		for (unsigned i = 0; i < PARALLEL; i++) {
			uint32_t n = (uint32_t)(random64(&seed) % (blocks / PARALLEL) * PARALLEL + i);
			struct task *t = &tasks[i];

			bool zeroes = random64(&seed) % 4 == 0;

			state->issued[n] = (state->issued[n] | 1) + (zeroes ? 2 : 1);
			fill_block(t->data, n, state->issued[n]);
			t->done = &done;
			t->iov[0] = (struct iovec){t->data, STATE_BLOCK};
			t->request = (struct vc_block_request){.op = zeroes ? VC_BLOCK_WRITE_ZEROES : VC_BLOCK_WRITE,
			                                       .may_unmap = true,
			                                       .offset = (uint64_t)n * STATE_BLOCK,
			                                       .length = STATE_BLOCK,
			                                       .iov = t->iov,
			                                       .iov_count = 1,
			                                       .done = finished,
			                                       .ctx = t};
			vc_block_submit(block, &t->request);
			written[n] = state->issued[n];
		}
		for (unsigned i = 0; i < PARALLEL; i++)
			sem_wait(&done);
		for (unsigned i = 0; i < PARALLEL; i++) {
			if (tasks[i].result)
				die("write");
		}
		if (random64(&seed) % 3 == 0) {
			if (vc_block_rw(block, VC_BLOCK_FLUSH, 0, NULL, 0))
				die("flush");
			memcpy(state->flushed, written, sizeof written);
		}
	}
}

static int run_verify(const char *image, const char *path)
{
	struct options o = {.block = {.read_only = true}};
	struct vc_block *block = open_image(image, &o);
	struct state *state = map_state(path);
	uint8_t data[STATE_BLOCK];
	unsigned bad = 0, flushed = 0;

	for (uint32_t n = 0; n < vc_block_size(block) / STATE_BLOCK && n < STATE_BLOCKS; n++) {
		if (vc_block_rw(block, VC_BLOCK_READ, (uint64_t)n * STATE_BLOCK, data, STATE_BLOCK))
			die("read");
		flushed += state->flushed[n] != 0;
		for (unsigned i = 0; i < STATE_BLOCK; i += 8) {
			uint64_t word = vc_ld64(data + i), generation = (uint32_t)word;
			/* zeroes were flushed, or may have been written since */
			bool zeroed =
			    !word && (!state->flushed[n] || state->flushed[n] & 1 || state->issued[n] != state->flushed[n]);

			if (!zeroed && (word >> 32 != n || generation < state->flushed[n] || generation > state->issued[n])) {
				fprintf(stderr, "tool: block %u has %#llx; flushed %u, issued %u\n", n, (unsigned long long)word,
				        state->flushed[n], state->issued[n]);
				bad++;
				break;
			}
		}
	}
	vc_block_close(block);
	printf("%u blocks were flushed, %u are wrong\n", flushed, bad);
	return bad != 0;
}

int main(int argc, char **argv)
{
	struct options o = {{0}};
	const char *verb = argc > 2 ? argv[1] : "";

	if (!strcmp(verb, "random") && argc == 7) {
		parse(argv[6], &o);
		return run_random(argv[2], argv[3], strtoull(argv[4], NULL, 0), (unsigned)atoi(argv[5]), &o);
	}
	if (!strcmp(verb, "create") && argc >= 4) {
		if (vc_block_create(argv[2], strtoull(argv[3], NULL, 0), argc > 4 ? argv[4] : NULL, argc > 5 ? argv[5] : NULL))
			die("create");
		return 0;
	}
	if ((!strcmp(verb, "convert") || !strcmp(verb, "fill")) && argc == 5) {
		parse(argv[4], &o);
		return run_copy(argv[2], argv[3], verb[0] == 'f', &o);
	}
	if (!strcmp(verb, "write") && argc == 5)
		run_write(argv[2], argv[3], strtoull(argv[4], NULL, 0));
	if (!strcmp(verb, "verify") && argc == 4)
		return run_verify(argv[2], argv[3]);
	if (!strcmp(verb, "open") && argc == 4) {
		parse(argv[3], &o);
		return run_open(argv[2], &o);
	}
	fprintf(stderr, "usage: see tool.c\n");
	return 2;
}
