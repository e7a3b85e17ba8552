/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside the 9P device: p9.c has the queue, p9_request.c the messages and the session, p9_fid.c what fids stand for,
 * p9_file.c open files, p9_tree.c names and attributes, p9_state.c the session in a saved state.
 *
 * The guest sees one directory of the host and what lies beneath. A fid holds a descriptor (O_PATH) of the very file,
 * reached one component at a time from the directory's own, and no link is ever followed: neither a name that is
 * exchanged meanwhile nor a link that the guest has made leads anywhere else. Opened are plain files and directories
 * only. All of it belongs to the queue's worker; stop and destroy run when that does not.
 */
#ifndef VC_VIRTIO_P9_H
#define VC_VIRTIO_P9_H

#include <limits.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "virtio/virtio.h"

enum {
	VC_P9_MSIZE_MIN = 4096,
	VC_P9_MSIZE_MAX = 512 << 10,
	VC_P9_FIDS = 4096,
	VC_P9_BUCKETS = 256,
	VC_P9_WALK_MAX = 16,
	VC_P9_BUFFER = 8192,  /* more than any message without its data */
	VC_P9_HEADER = 7,     /* size, type, tag */
	VC_P9_DATA_AT = 11,   /* of what is read */
	VC_P9_WRITTEN_AT = 23 /* of what is to be written */
};

#define VC_P9_NO_USER UINT32_MAX

/* A file of the host, for as many fids as stand for it or for what was found in it. */
struct vc_p9_node {
	uint32_t users;
	int fd; /* O_PATH */
};

struct vc_p9_fid {
	uint32_t number, user; /* of the guest, as it has attached; VC_P9_NO_USER */
	struct vc_p9_node *node;
	struct vc_p9_node *parent; /* in which `name` was found; NULL: the root */
	char name[NAME_MAX + 1];
	int file; /* opened; -1: not */
	bool writable;
	LIST_ENTRY(vc_p9_fid) by_number;
};

struct vc_p9 {
	struct vc_virtio *v;
	uint8_t *config; /* of the device: length and letters of the tag */
	bool readonly;
	bool guest_owners; /* what the guest makes belongs to its users */
	int proc;          /* /proc/self/fd: what is opened for good is found there */
	struct vc_p9_node *root;
	struct stat root_stat;
	uint32_t msize; /* 0: there is no session */
	uint32_t fid_count;
	LIST_HEAD(, vc_p9_fid) fids[VC_P9_BUCKETS];
	_Atomic uint64_t requests, read, written; /* bytes */
	uint8_t in[VC_P9_BUFFER], out[VC_P9_BUFFER];
};

/* A message and its answer. */
struct vc_p9_request {
	struct vc_p9 *p9;
	const struct vc_virtq_chain *chain;
	uint32_t size;       /* of the message, its data included */
	uint32_t length, at; /* what p9->in has of it, and what is taken */
	bool bad;            /* it ended too early */
	uint32_t out;        /* bytes of the answer in p9->out */
	uint32_t data;       /* those behind them, in the chain already */
};

/* ---- p9_request.c ---- */

/* Does what the message says and answers; the answer's bytes, 0: it is none, or finds no room for the answer. */
uint32_t vc_p9_run(struct vc_p9 *p9, const struct vc_virtq_chain *chain);
uint64_t vc_p9_get(struct vc_p9_request *r, uint32_t bytes);
/* A string that is no longer than size - 1; 0 or -errno. */
int vc_p9_get_string(struct vc_p9_request *r, char *text, uint32_t size);
/* A name in a directory: nothing that leads elsewhere. */
int vc_p9_get_name(struct vc_p9_request *r, char name[NAME_MAX + 1]);
/* The fid of the next number; NULL: there is none. */
struct vc_p9_fid *vc_p9_get_fid(struct vc_p9_request *r);
void vc_p9_put(struct vc_p9_request *r, uint64_t value, uint32_t bytes);
void vc_p9_put_string(struct vc_p9_request *r, const char *text);
void vc_p9_put_qid(struct vc_p9_request *r, const struct stat *st);
/* Room for data in the answer, behind the count. */
uint32_t vc_p9_room(const struct vc_p9_request *r, uint32_t wanted);

/* ---- p9_fid.c ---- */

struct vc_p9_node *vc_p9_node_new(int fd); /* takes it over; NULL: no memory */
struct vc_p9_node *vc_p9_node_get(struct vc_p9_node *node);
void vc_p9_node_put(struct vc_p9_node *node); /* NULL is allowed */
struct vc_p9_fid *vc_p9_fid_find(struct vc_p9 *p9, uint32_t number);
/* One that stands for node, found as name in parent; takes both over. 0 or -errno. */
int vc_p9_fid_new(struct vc_p9 *p9, uint32_t number, uint32_t user, struct vc_p9_node *node, struct vc_p9_node *parent,
                  const char *name);
void vc_p9_fid_free(struct vc_p9 *p9, struct vc_p9_fid *fid);
void vc_p9_fid_free_all(struct vc_p9 *p9);
/* A step from a directory. 0 or -errno. */
int vc_p9_step(struct vc_p9 *p9, const struct vc_p9_node *from, const char *name, struct vc_p9_node **to);
/* The file of an O_PATH descriptor, opened: plain files and directories. A descriptor or -errno. */
int vc_p9_reopen(const struct vc_p9 *p9, int fd, int flags);
/* Is fid still called so? 0 or -errno. */
int vc_p9_check_name(const struct vc_p9_fid *fid);
/* What the guest has made, name in the directory fd, or fd itself for "": to user and group, if it may be given away.
 */
void vc_p9_give_away(const struct vc_p9 *p9, uint32_t user, uint32_t group, int fd, const char *name);

/* ---- p9_state.c: for vc_virtio_ops ---- */

/* -EBUSY: a file that the guest uses has no name by which it would be found again. */
int64_t vc_p9_save(struct vc_p9 *p9, void *buffer, size_t length);
/* The session is over before. -ENOENT and the like, with its path: a file is not there any more. */
int vc_p9_load(struct vc_p9 *p9, const void *buffer, size_t length);

/* ---- the messages: 0, or -errno that the guest hears ---- */

int vc_p9_lopen(struct vc_p9_request *r);
int vc_p9_lcreate(struct vc_p9_request *r);
int vc_p9_read(struct vc_p9_request *r);
int vc_p9_write(struct vc_p9_request *r);
int vc_p9_readdir(struct vc_p9_request *r);
int vc_p9_fsync(struct vc_p9_request *r);
int vc_p9_getattr(struct vc_p9_request *r);
int vc_p9_setattr(struct vc_p9_request *r);
int vc_p9_statfs(struct vc_p9_request *r);
int vc_p9_mkdir(struct vc_p9_request *r);
int vc_p9_mknod(struct vc_p9_request *r);
int vc_p9_symlink(struct vc_p9_request *r);
int vc_p9_readlink(struct vc_p9_request *r);
int vc_p9_link(struct vc_p9_request *r);
int vc_p9_rename(struct vc_p9_request *r);
int vc_p9_renameat(struct vc_p9_request *r);
int vc_p9_unlinkat(struct vc_p9_request *r);
int vc_p9_remove(struct vc_p9_request *r);

#endif
