/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash IMAGE SEED CUTS: power failures that never happened. Writes to a qcow2 image through the library and notes what
 * reaches the host file, and when it is flushed. Then, CUTS times: the image as a disk may have it after the power went
 * at a random moment: all that was flushed until then, of the rest any sectors. qemu-img must find it free of
 * corruption, and what the guest had flushed must be there.
 */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <virtcore/error.h>

#include "block/block.h"
#include "core/util.h"

enum { BLOCK = 4096, BLOCKS = 1024, PARALLEL = 12, ROUNDS = 60, MAX_OPS = 1 << 17, SECTOR = 512 };

enum kind { WRITE, HOLE, SYNC_BEGIN, SYNC_END, FLUSHED };

/* What happened to the file, in order. */
struct op {
	enum kind kind;
	uint64_t offset, length;
	uint8_t *data;   /* WRITE */
	size_t begin;    /* SYNC_END: where its SYNC_BEGIN is */
	uint32_t *state; /* FLUSHED: the generation of each block that is safe now */
};

static struct op ops[MAX_OPS];
static size_t op_count;
static pthread_mutex_t ops_lock = PTHREAD_MUTEX_INITIALIZER; /* protects both */
static uint32_t issued[BLOCKS];                              /* generations; an odd one is zeroes */
static uint64_t seed;

static size_t note(struct op op)
{
	size_t at;

	pthread_mutex_lock(&ops_lock);
	at = op_count++;
	if (op_count > MAX_OPS)
		abort();
	ops[at] = op;
	pthread_mutex_unlock(&ops_lock);
	return at;
}

/* ---- in the place of libc's: the linker's --wrap ---- */

ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length);

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
	ssize_t n = __real_pwritev64(fd, iov, count, offset);
	uint8_t *data = n > 0 ? malloc((size_t)n) : NULL;
	size_t at = 0;

	for (int i = 0; i < count && n > 0 && at < (size_t)n; i++) {
		size_t piece = iov[i].iov_len < (size_t)n - at ? iov[i].iov_len : (size_t)n - at;

		memcpy(data + at, iov[i].iov_base, piece);
		at += piece;
	}
	if (n > 0)
		note((struct op){.kind = WRITE, .offset = (uint64_t)offset, .length = (uint64_t)n, .data = data});
	return n;
}

int __wrap_fdatasync(int fd)
{
	size_t begin = note((struct op){.kind = SYNC_BEGIN});

	/* nothing has to be on the disk for this test */
	note((struct op){.kind = SYNC_END, .begin = begin});
	return 0;
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
	int r = __real_fallocate64(fd, mode, offset, length);

	if (!r)
		note((struct op){.kind = HOLE, .offset = (uint64_t)offset, .length = (uint64_t)length});
	return r;
}

/* ---- the guest ---- */

struct task {
	struct vc_block_request request;
	struct iovec iov;
	uint8_t data[BLOCK];
	sem_t *done;
};

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void finished(struct vc_block_request *request, int result)
{
	if (result)
		abort();
	sem_post(((struct task *)request->ctx)->done);
}

static void start(struct vc_block *block, struct task *task, uint32_t n)
{
	bool zeroes = random64() % 3 == 0;

	issued[n] = (issued[n] | 1) + (zeroes ? 2 : 1);
	for (unsigned i = 0; i < BLOCK; i += 8)
		vc_st64(task->data + i, (uint64_t)n << 32 | issued[n]);
	task->iov = (struct iovec){task->data, BLOCK};
	task->request = (struct vc_block_request){.op = zeroes ? VC_BLOCK_WRITE_ZEROES : VC_BLOCK_WRITE,
	                                          .may_unmap = random64() % 4 != 0,
	                                          .offset = (uint64_t)n * BLOCK,
	                                          .length = BLOCK,
	                                          .iov = &task->iov,
	                                          .iov_count = 1,
	                                          .done = finished,
	                                          .ctx = task};
	vc_block_submit(block, &task->request);
}

static void guest(struct vc_block *block)
{
	static struct task tasks[PARALLEL];
	sem_t done;

	sem_init(&done, 0, 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		/* now here, now there, so that clusters are written more than once */
		uint32_t base = (uint32_t)(random64() % (BLOCKS / 128)) * 128;

		for (unsigned i = 0; i < PARALLEL; i++) {
			tasks[i].done = &done;
			start(block, &tasks[i], base + (uint32_t)(random64() % 10) * PARALLEL + i);
		}
		for (unsigned i = 0; i < PARALLEL; i++)
			sem_wait(&done);
		if (random64() % 3)
			continue;
		if (vc_block_rw(block, VC_BLOCK_FLUSH, 0, NULL, 0))
			abort();
		note((struct op){.kind = FLUSHED, .state = memcpy(malloc(sizeof issued), issued, sizeof issued)});
	}
}

/* ---- the disk after the power has gone ---- */

static void copy(const char *from, const char *to)
{
	char command[1024];

	snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
	if (system(command))
		exit(1);
}

static void apply(int fd, const struct op *op, uint64_t at, uint64_t length)
{
	uint8_t *zeroes = op->kind == HOLE ? calloc(1, length) : NULL;

	if (__real_pwritev64(fd, &(struct iovec){zeroes ? zeroes : op->data + at, length}, 1, (off_t)(op->offset + at)) < 0)
		exit(1);
	free(zeroes);
}

/* Any of its sectors. */
static void apply_some(int fd, const struct op *op)
{
	uint64_t at = 0;
	bool all = random64() & 1;

	if (random64() & 1)
		return;
	while (at < op->length) {
		uint64_t piece = SECTOR - (op->offset + at) % SECTOR;

		piece = piece < op->length - at ? piece : op->length - at;
		if (all || random64() % 4)
			apply(fd, op, at, piece);
		at += piece;
	}
}

static void fail_at(const char *base, const char *image, size_t cut)
{
	size_t safe = 0;
	int fd;

	copy(base, image);
	fd = open(image, O_RDWR);
	for (size_t i = 0; i < cut; i++) {
		if (ops[i].kind == SYNC_END && ops[i].begin > safe)
			safe = ops[i].begin;
	}
	for (size_t i = 0; i < cut; i++) {
		if (ops[i].kind != WRITE && ops[i].kind != HOLE)
			continue;
		if (i < safe)
			apply(fd, &ops[i], 0, ops[i].length);
		else
			apply_some(fd, &ops[i]);
	}
	close(fd);
}

static const uint32_t *flushed_at(size_t cut)
{
	static const uint32_t none[BLOCKS];
	const uint32_t *state = none;

	for (size_t i = 0; i < cut; i++) {
		if (ops[i].kind == FLUSHED)
			state = ops[i].state;
	}
	return state;
}

static int verify(const char *image, const uint32_t *flushed)
{
	struct vc_block_options o = {.path = image, .read_only = true, .format = "qcow2"};
	struct vc_block *block;
	uint8_t data[BLOCK];
	int bad = 0;

	if (vc_block_open(&o, &block)) {
		fprintf(stderr, "crash: %s\n", vcore_error_message());
		return 1;
	}
	for (uint32_t n = 0; n < BLOCKS; n++) {
		bool read = !vc_block_rw(block, VC_BLOCK_READ, (uint64_t)n * BLOCK, data, BLOCK);

		for (unsigned i = 0; i < BLOCK; i += 8) {
			uint64_t word = vc_ld64(data + i);
			uint32_t generation = (uint32_t)word;
			bool zeroed = !word && (!flushed[n] || flushed[n] & 1 || issued[n] != flushed[n]);

			if (read && (zeroed || (word >> 32 == n && generation >= flushed[n] && generation <= issued[n])))
				continue;
			fprintf(stderr, "crash: block %u has %#llx, flushed was %u of %u\n", n, (unsigned long long)word,
			        flushed[n], issued[n]);
			bad = 1;
			break;
		}
	}
	vc_block_close(block);
	return bad;
}

/* 0: sound; 3: unused clusters, which are no harm. */
static int check(const char *image)
{
	char command[1024];
	int status;

	snprintf(command, sizeof command, "qemu-img check -f qcow2 '%s' >'%s.log' 2>&1", image, image);
	status = system(command);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
	if (status == 0 || status == 3)
		return 0;
	snprintf(command, sizeof command, "head -n 20 '%s.log'", image);
	return system(command) || 1;
}

int main(int argc, char **argv)
{
	struct vc_block_options o = {.path = argc > 3 ? argv[1] : "", .aio = "threads", .format = "qcow2"};
	char base[256], image[256];
	struct vc_block *block;
	int cuts = argc > 3 ? atoi(argv[3]) : 0, bad = 0;

	if (!cuts)
		return 2;
	seed = strtoull(argv[2], NULL, 0) * 2654435761u + 1;
	snprintf(base, sizeof base, "%s.base", argv[1]);
	snprintf(image, sizeof image, "%s.cut", argv[1]);
	copy(argv[1], base);
	if (vc_block_open(&o, &block)) {
		fprintf(stderr, "crash: %s\n", vcore_error_message());
		return 1;
	}
	guest(block);
	vc_block_close(block);
	for (int i = 0; i < cuts && !bad; i++) {
		size_t cut = i ? random64() % (op_count + 1) : op_count;

		fail_at(base, image, cut);
		bad = check(image) | verify(image, flushed_at(cut));
		if (bad)
			fprintf(stderr, "crash: %s, seed %s: after %zu of %zu steps\n", argv[1], argv[2], cut, op_count);
	}
	return bad;
}
