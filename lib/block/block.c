/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images of whatever format: opening, the way of a request to its format and back. */
#include "block/block.h"

#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/impl.h"

enum { DEFAULT_THREADS = 4, MAX_THREADS = 64 };

/* In the order of probing; raw, which takes anything, last. */
static const struct vc_block_driver *const drivers[] = {&vc_block_qcow2, &vc_block_null, &vc_block_raw};

/* ---- open ---- */

static const struct vc_block_driver *find_driver(const char *name)
{
	for (size_t i = 0; i < VC_ARRAY_SIZE(drivers); i++) {
		if (!strcmp(drivers[i]->name, name))
			return drivers[i];
	}
	return NULL;
}

static int probe(struct vc_block *block)
{
	uint8_t head[VC_BLOCK_HEAD];
	int r = vc_file_pread(block->file, 0, head, sizeof head);

	if (r)
		return vc_fail_errno(-r, "%s: reading its first sector", block->path);
	block->driver = &vc_block_raw;
	block->probed = true;
	for (size_t i = 0; i < VC_ARRAY_SIZE(drivers); i++) {
		if (drivers[i]->probe && drivers[i]->probe(head)) {
			block->driver = drivers[i];
			break;
		}
	}
	return 0;
}

static struct vc_block *new_block(const struct vc_block_options *options)
{
	struct vc_block *block = calloc(1, sizeof *block);

	if (!block)
		return NULL;
	block->path = strdup(options->path);
	if (!block->path) {
		free(block);
		return NULL;
	}
	block->read_only = options->read_only || options->snapshot;
	block->cache = options->cache;
	pthread_mutex_init(&block->lock, NULL);
	sem_init(&block->unused, 0, 0);
	atomic_init(&block->users, 1);
	return block;
}

/* What is there but a driver that is open. */
static void free_block(struct vc_block *block)
{
	if (block->backing) {
		block->backing->driver->close(block->backing);
		free_block(block->backing);
	}
	vc_aio_free(block->aio);
	vc_file_close(block->file);
	sem_destroy(&block->unused);
	pthread_mutex_destroy(&block->lock);
	free(block->path);
	free(block);
}

static bool is_auto(const char *format)
{
	return !format || !*format || !strcmp(format, "auto");
}

static int choose_driver(struct vc_block *block, const struct vc_block_options *options)
{
	if (is_auto(options->format)) {
		if (!strncmp(options->path, "null:", 5))
			block->driver = &vc_block_null;
		return 0;
	}
	block->driver = find_driver(options->format);
	return block->driver ? 0
	                     : vc_fail(EINVAL, "%s: format \"%s\": expected raw, qcow2, null or auto", options->path,
	                               options->format);
}

/* Format, file and driver; not what only the top of a chain has. */
static int open_format(struct vc_block *block, const struct vc_block_options *options)
{
	int r = choose_driver(block, options);

	if (!r && !block->file && !(block->driver && block->driver->no_file))
		r = vc_file_open(options, block->read_only, &block->file);
	if (!r && !block->driver)
		r = probe(block);
	if (!r && options->snapshot && block->driver != &vc_block_qcow2)
		r = vc_fail(EINVAL, "%s: format %s has no snapshots", options->path, block->driver->name);
	return r ? r : block->driver->open(block, options);
}

static bool same_file(const struct vc_block *a, const struct vc_block *b)
{
	struct stat x, y;

	return a->file && b->file && !fstat(a->file->fd, &x) && !fstat(b->file->fd, &y) && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* One that is its own backing, over however many others, never ends. */
static int check_chain(const struct vc_block *block)
{
	unsigned depth = 1;

	for (const struct vc_block *b = block->above; b; b = b->above, depth++) {
		if (same_file(b, block))
			return vc_fail(ELOOP, "%s: is its own backing file", block->path);
	}
	return depth <= VC_BLOCK_CHAIN_MAX
	           ? 0
	           : vc_fail(ELOOP, "%s: more than %d images on top of each other", block->path, VC_BLOCK_CHAIN_MAX);
}

/* A relative name counts from the directory of the image that says it. */
static char *resolve(const char *above, const char *path)
{
	const char *slash = strrchr(above, '/');
	size_t directory = slash ? (size_t)(slash + 1 - above) : 0, length = strlen(path);
	char *out;

	if (path[0] == '/')
		directory = 0;
	out = malloc(directory + length + 1);
	if (!out)
		return NULL;
	memcpy(out, above, directory);
	memcpy(out + directory, path, length + 1);
	return out;
}

int vc_block_open_backing(struct vc_block *above, const char *path, const char *format,
                          const struct vc_block_options *options, struct vc_block **out)
{
	char *resolved = resolve(above->path, strncmp(path, "file:", 5) ? path : path + 5);
	struct vc_block_options below = {
	    .path = resolved, .format = format, .read_only = true, .cache = options->cache, .no_lock = true};
	struct vc_block *block = resolved ? new_block(&below) : NULL;
	int r;

	if (!block) {
		free(resolved);
		return vc_fail(ENOMEM, "%s: no memory", path);
	}
	block->above = above;
	/* in a loop our own lock would be in the way */
	r = vc_file_open(&below, true, &block->file);
	if (!r)
		r = check_chain(block);
	if (!r && !options->no_lock)
		r = vc_file_lock(block->file->fd, block->path, false);
	below.no_lock = options->no_lock;
	if (!r)
		r = open_format(block, &below);
	free(resolved);
	if (r) {
		free_block(block);
		return r;
	}
	block->above = NULL;
	*out = block;
	return 0;
}

/* The image becomes the backing of a qcow2 image in a file without a name. */
static int open_overlay(struct vc_block *block, const struct vc_block_options *options)
{
	struct vc_block_options below = *options,
	                        top = {.path = options->path, .format = "qcow2", .cache = VC_BLOCK_UNSAFE};
	int r;

	below.read_only = true;
	block->backing = new_block(&below);
	if (!block->backing)
		return vc_fail(ENOMEM, "%s: no memory", options->path);
	r = open_format(block->backing, &below);
	if (r) {
		free_block(block->backing);
		block->backing = NULL;
		return r;
	}
	block->cache = VC_BLOCK_UNSAFE;
	r = vc_file_open_temporary(&block->file);
	if (r)
		return r;
	block->file->ignore_discard = options->ignore_discard;
	r = vc_qcow2_format(block->file, vc_block_size(block->backing), NULL, NULL);
	return r ? r : open_format(block, &top);
}

int vc_block_open(const struct vc_block_options *options, struct vc_block **out)
{
	struct vc_block *block;
	uint32_t threads = options->threads ? options->threads : DEFAULT_THREADS;
	int r;

	if (!options->path || !*options->path)
		return vc_fail(EINVAL, "an image has no path");
	if (threads > MAX_THREADS)
		return vc_fail(EINVAL, "%s: %u threads: expected at most %d", options->path, threads, MAX_THREADS);
	block = new_block(options);
	if (!block)
		return vc_fail(ENOMEM, "%s: no memory", options->path);
	if (options->overlay)
		block->read_only = options->read_only;
	r = options->overlay ? open_overlay(block, options) : open_format(block, options);
	if (r) {
		free_block(block);
		return r;
	}
	if (!block->driver->no_file)
		r = vc_aio_new(options->aio, threads, &block->aio);
	if (r) {
		block->driver->close(block);
		free_block(block);
		return r;
	}
	*out = block;
	return 0;
}

static void leave(struct vc_block *block)
{
	if (atomic_fetch_sub(&block->users, 1) == 1)
		sem_post(&block->unused);
}

static void wait_unused(struct vc_block *block)
{
	leave(block);
	while (sem_wait(&block->unused) < 0 && errno == EINTR)
		;
}

void vc_block_close(struct vc_block *block)
{
	if (!block)
		return;
	vc_block_rw(block, VC_BLOCK_FLUSH, 0, NULL, 0);
	wait_unused(block);
	block->driver->close(block);
	free_block(block);
}

/* ---- requests ---- */

const char *const vc_block_op_names[VC_BLOCK_OPS] = {
    [VC_BLOCK_READ] = "read",
    [VC_BLOCK_WRITE] = "write",
    [VC_BLOCK_FLUSH] = "flush",
    [VC_BLOCK_DISCARD] = "discard",
    [VC_BLOCK_WRITE_ZEROES] = "write-zeroes",
};

static void report(struct vc_block *block, const struct vc_block_request *request, int error)
{
	void (*fn)(void *ctx, enum vc_block_op op, uint64_t offset, int error);
	void *ctx;

	pthread_mutex_lock(&block->lock);
	fn = block->on_error;
	ctx = block->error_ctx;
	pthread_mutex_unlock(&block->lock);
	if (fn)
		fn(ctx, request->op, request->offset, error);
}

void vc_block_complete(struct vc_block *block, struct vc_block_request *request, int result)
{
	if (vc_unlikely(result < 0))
		report(block, request, -result);
	request->done(request, result);
	leave(block);
}

void vc_block_on_error(struct vc_block *block, void (*fn)(void *ctx, enum vc_block_op op, uint64_t offset, int error),
                       void *ctx)
{
	pthread_mutex_lock(&block->lock);
	block->on_error = fn;
	block->error_ctx = ctx;
	pthread_mutex_unlock(&block->lock);
}

static bool valid(const struct vc_block *block, const struct vc_block_request *request)
{
	uint64_t size = atomic_load_explicit(&block->size, memory_order_relaxed), bytes = 0;

	if (request->op == VC_BLOCK_FLUSH)
		return true;
	if ((request->offset | request->length) % VC_BLOCK_SECTOR || request->offset > size ||
	    request->length > size - request->offset)
		return false;
	if (request->op != VC_BLOCK_READ && request->op != VC_BLOCK_WRITE)
		return true;
	for (unsigned i = 0; i < request->iov_count; i++)
		bytes += request->iov[i].iov_len;
	return bytes == request->length;
}

void vc_block_submit(struct vc_block *block, struct vc_block_request *request)
{
	struct vc_block_state *state = vc_block_state(request);
	bool changes = request->op != VC_BLOCK_READ && request->op != VC_BLOCK_FLUSH;
	int refused = !valid(block, request) ? -EINVAL : changes && block->read_only ? -EROFS : 0;

	state->block = block;
	state->request = request;
	atomic_fetch_add_explicit(&block->users, 1, memory_order_relaxed);
	if (refused || (!request->length && request->op != VC_BLOCK_FLUSH)) {
		request->done(request, refused);
		leave(block);
		return;
	}
	block->driver->submit(block, request);
}

static void file_done(struct vc_aio_request *aio, int result)
{
	struct vc_block_state *state = VC_CONTAINER_OF(aio, struct vc_block_state, aio);

	vc_block_complete(state->block, state->request, result);
}

void vc_block_to_file(struct vc_block *block, struct vc_block_request *request, struct vc_file *file, uint64_t offset,
                      void (*done)(struct vc_aio_request *aio, int result))
{
	struct vc_aio_request *aio = &vc_block_state(request)->aio;

	*aio = (struct vc_aio_request){.file = file,
	                               .offset = offset,
	                               .op = request->op,
	                               .may_unmap = request->may_unmap,
	                               .iov_count = request->iov_count,
	                               .iov = request->iov,
	                               .length = request->length,
	                               .done = done ? done : file_done};
	vc_aio_submit(block->aio, aio);
}

void vc_block_plug(struct vc_block *block)
{
	if (block->aio)
		vc_aio_plug(block->aio);
}

void vc_block_unplug(struct vc_block *block)
{
	if (block->aio)
		vc_aio_unplug(block->aio);
}

struct waiter {
	sem_t done;
	int result;
};

static void wake(struct vc_block_request *request, int result)
{
	struct waiter *waiter = request->ctx;

	waiter->result = result;
	sem_post(&waiter->done);
}

int vc_block_rw(struct vc_block *block, enum vc_block_op op, uint64_t offset, void *data, uint64_t length)
{
	struct iovec iov = {data, length};
	struct waiter waiter = {.result = 0};
	struct vc_block_request request = {.op = op,
	                                   .may_unmap = true,
	                                   .offset = offset,
	                                   .length = length,
	                                   .iov = &iov,
	                                   .iov_count = 1,
	                                   .done = wake,
	                                   .ctx = &waiter};

	sem_init(&waiter.done, 0, 0);
	vc_block_submit(block, &request);
	while (sem_wait(&waiter.done) < 0 && errno == EINTR)
		;
	sem_destroy(&waiter.done);
	return waiter.result;
}

int vc_block_read_backing(struct vc_block *backing, uint64_t offset, const struct vc_span *span)
{
	uint64_t size = vc_block_size(backing);
	size_t there = offset >= size ? 0 : size - offset < span->length ? (size_t)(size - offset) : span->length;
	struct vc_span below = vc_span_part(span, 0, there), beyond = vc_span_part(span, there, span->length - there);

	vc_span_zero(&beyond);
	return there ? backing->driver->read(backing, offset, &below) : 0;
}

/* ---- the rest ---- */

uint64_t vc_block_size(const struct vc_block *block)
{
	return atomic_load(&block->size);
}

uint32_t vc_block_sector_size(const struct vc_block *block)
{
	return block->file ? block->file->sector_size : VC_BLOCK_SECTOR;
}

const char *vc_block_format(const struct vc_block *block)
{
	return block->driver->name;
}

const char *vc_block_path(const struct vc_block *block)
{
	return block->path;
}

bool vc_block_read_only(const struct vc_block *block)
{
	return block->read_only;
}

int vc_block_resize(struct vc_block *block, uint64_t size)
{
	if (size % VC_BLOCK_SECTOR || size > INT64_MAX)
		return vc_fail(EINVAL, "%s: size %llu: expected a multiple of 512 below 8 EiB", block->path,
		               (unsigned long long)size);
	if (block->read_only)
		return vc_fail(EROFS, "%s: is open for reading only", block->path);
	return size == vc_block_size(block) ? 0 : block->driver->resize(block, size);
}

/* The size and format of what a new image shall be based on. */
static int inspect_backing(const char *path, const char *backing, const char **format, uint64_t *size)
{
	struct vc_block above = {.path = (char *)path};
	struct vc_block_options options = {.path = backing};
	struct vc_block *block;
	int r = vc_block_open_backing(&above, backing, *format, &options, &block);

	if (r)
		return r;
	if (!*size)
		*size = vc_block_size(block);
	*format = block->driver->name;
	block->driver->close(block);
	free_block(block);
	return 0;
}

int vc_block_create(const char *path, uint64_t size, const char *backing, const char *backing_format)
{
	struct vc_file file = {.path = (char *)path, .align = 1};
	int r = backing ? inspect_backing(path, backing, &backing_format, &size) : 0;

	if (r)
		return r;
	if (size % VC_BLOCK_SECTOR || size > INT64_MAX)
		return vc_fail(EINVAL, "%s: size %llu: expected a multiple of 512 below 8 EiB", path, (unsigned long long)size);
	file.fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (file.fd < 0)
		return vc_fail_errno(errno, "%s: creating it", path);
	r = vc_qcow2_format(&file, size, backing, backing_format);
	if (r)
		unlink(path);
	close(file.fd);
	return r;
}
