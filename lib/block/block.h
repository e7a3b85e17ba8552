/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disk images: raw files and block devices, qcow2, and copy-on-write overlays over either.
 *
 * An image is opened once and used from any thread. Requests are asynchronous: io_uring where the host has it, a pool
 * of threads elsewhere. Two writers of one file are refused (F_OFD_SETLK, the byte ranges that QEMU uses, so that each
 * sees the other).
 */
#ifndef VC_BLOCK_BLOCK_H
#define VC_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct vc_block;

enum vc_block_cache {
	VC_BLOCK_WRITEBACK,    /* the host's page cache; the guest flushes */
	VC_BLOCK_WRITETHROUGH, /* every write is flushed */
	VC_BLOCK_DIRECT,       /* O_DIRECT, unaligned requests bounced */
	VC_BLOCK_UNSAFE,       /* flushes are ignored */
};

struct vc_block_options {
	const char *path;     /* "null:SIZE": no file, reads as zeroes, writes vanish; for measuring */
	const char *format;   /* "raw", "qcow2", "null"; NULL or "auto": by the file's magic */
	const char *snapshot; /* qcow2: ID or name of an internal snapshot to read; NULL: the present */
	bool read_only;
	bool overlay; /* writes go to a temporary qcow2-like overlay that vanishes with the vm; the file stays as it is */
	bool ignore_discard; /* discards are not passed on to the host file */
	bool no_lock;
	enum vc_block_cache cache;
	uint32_t threads; /* of the pool where there is no io_uring; 0: 4 */
	const char *aio;  /* "io_uring", "threads"; NULL: what is best */
};

/* 0; -errno with a message that names the file and what is wrong. -EAGAIN/-EWOULDBLOCK: locked by another. */
int vc_block_open(const struct vc_block_options *options, struct vc_block **block);
/* Waits for what is in flight, flushes, closes. NULL is allowed. */
void vc_block_close(struct vc_block *block);
uint64_t vc_block_size(const struct vc_block *block);        /* bytes, a multiple of 512 */
uint32_t vc_block_sector_size(const struct vc_block *block); /* physical block size hint: 512 or 4096 */
const char *vc_block_format(const struct vc_block *block);
const char *vc_block_path(const struct vc_block *block);
bool vc_block_read_only(const struct vc_block *block);
/* Grow or shrink, while requests run: those beyond the new end fail. -ENOTSUP, -EINVAL, errno of the file. */
int vc_block_resize(struct vc_block *block, uint64_t size);

enum vc_block_op {
	VC_BLOCK_READ,
	VC_BLOCK_WRITE,
	VC_BLOCK_FLUSH,
	VC_BLOCK_DISCARD,      /* offset, length; contents are undefined afterwards */
	VC_BLOCK_WRITE_ZEROES, /* may_unmap: the space may be given back */
};
#define VC_BLOCK_OPS 5u /* how many there are */

/* "read", "write-zeroes" ... */
extern const char *const vc_block_op_names[VC_BLOCK_OPS];

/* Owned by the caller; stays put until done is called. */
struct vc_block_request {
	enum vc_block_op op;
	bool may_unmap;
	uint64_t offset, length; /* multiples of 512 within the size, else -EINVAL */
	const struct iovec *iov; /* READ, WRITE: `length` bytes in all */
	unsigned iov_count;
	/* result: 0 or -errno. On any thread, also the submitting one inside vc_block_submit(). */
	void (*done)(struct vc_block_request *request, int result);
	void *ctx;
	/* of the image's implementation, while in flight: no request needs memory of its own */
	void *priv[24];
};
void vc_block_submit(struct vc_block *block, struct vc_block_request *request);
/* Between these, submissions may be collected; the last end sends them. They nest, per thread that submits. */
void vc_block_plug(struct vc_block *block);
void vc_block_unplug(struct vc_block *block);
/* The same, waiting: for loaders and tests. 0 or -errno. */
int vc_block_rw(struct vc_block *block, enum vc_block_op op, uint64_t offset, void *data, uint64_t length);

/* A new qcow2 (v3) file. backing, backing_format: NULL: none. size 0: that of the backing file. -EEXIST */
int vc_block_create(const char *path, uint64_t size, const char *backing, const char *backing_format);

/* Told of host errors on the image ("event" of the monitor); NULL: nobody. Any thread. */
void vc_block_on_error(struct vc_block *block, void (*fn)(void *ctx, enum vc_block_op op, uint64_t offset, int error),
                       void *ctx);

#endif
