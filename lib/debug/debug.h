/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A vm debugged by gdb, without the line to gdb: packets go in as text, replies come out. One thread uses it, the
 * server's; vcpus only leave their exits there.
 */
#ifndef VC_DEBUG_DEBUG_H
#define VC_DEBUG_DEBUG_H

#include "debug/regs.h"
#include "debug/rsp.h"
#include "vm/vm.h"

/* Of a Z packet. */
enum vc_gdb_kind { VC_GDB_SOFT, VC_GDB_HARD, VC_GDB_WRITE, VC_GDB_READ, VC_GDB_ACCESS, VC_GDB_KINDS };

/* An INT3 in guest memory. The byte belongs to the physical page, wherever it is mapped. */
struct vc_gdb_soft {
	uint64_t gva, gpa;
	uint8_t original;
};

/* One debug register. A watched range may take several. */
struct vc_gdb_hard {
	enum vc_gdb_kind kind;        /* VC_GDB_SOFT: free */
	uint64_t address;             /* aligned to length */
	uint8_t length;               /* 1, 2, 4, 8 */
	uint64_t asked, asked_length; /* as gdb gave the range */
};
#define VC_GDB_HARD_MAX 4

/* What gdb is told of a vcpu that stopped. */
struct vc_gdb_stop {
	enum { VC_GDB_NONE, VC_GDB_SIGNAL, VC_GDB_STEPPED, VC_GDB_SOFT_HIT, VC_GDB_HARD_HIT, VC_GDB_WATCH_HIT } why;
	enum vc_gdb_kind kind; /* WATCH_HIT */
	uint8_t signal;        /* SIGNAL */
	uint64_t address;      /* SOFT_HIT, HARD_HIT, WATCH_HIT: what was hit */
};

enum vc_gdb_action { VC_GDB_STAY, VC_GDB_CONTINUE, VC_GDB_STEP };

/* A vcpu: gdb's thread index + 1. */
struct vc_gdb_thread {
	bool exited;            /* `exit` is new; under vm->lock */
	struct vcore_exit exit; /* under vm->lock */
	enum vc_gdb_action action;
	struct vc_gdb_stop pending; /* not told yet */
	bool past_hard;             /* stopped before the instruction at hard_at: it is to get past that */
	uint64_t hard_at;
	struct vcore_debug debug; /* what the vcpu has */
};

struct vc_gdb {
	struct vc_debugger hook;
	struct vcore_vm *vm;
	int wake_fd; /* eventfd: readable after a vcpu stopped; owned by whoever made the session */
	bool avx;
	bool running;      /* vcpus were let go, and gdb waits for a stop */
	bool tells_breaks; /* gdb knows swbreak and hwbreak */
	uint32_t current;  /* vcpu of registers and memory */
	int64_t resumed;   /* thread of the old c and s; 0, -1: all */
	struct vc_gdb_stop last;

	struct vc_gdb_soft *soft;
	size_t soft_count, soft_room;
	struct vc_gdb_hard hard[VC_GDB_HARD_MAX];

	/* A copy of one vcpu's state, for one packet. */
	struct vc_cpu_state *state;
	uint32_t state_of;
	bool state_loaded;

	struct vc_gdb_thread *threads;
	size_t description_length;
	char description[VC_GDB_DESCRIPTION_MAX];
};

/* What comes of a packet. */
enum vc_gdb_result {
	VC_GDB_REPLY,  /* send the reply */
	VC_GDB_SILENT, /* vcpus run: the reply comes with a stop */
	VC_GDB_NO_ACK, /* send the reply, and no more acknowledgements */
	VC_GDB_DETACH, /* send the reply and let the vm go */
	VC_GDB_LEAVE,  /* let the vm go, without a reply */
};

/* session.c */
/* A reference to the vm is taken. 0, -ENOMEM, -EBUSY. */
int vc_gdb_new(struct vcore_vm *vm, int wake_fd, struct vc_gdb **gdb);
/* Detaches. */
void vc_gdb_free(struct vc_gdb *gdb);
/* gdb is there: hold the vm. */
void vc_gdb_attach(struct vc_gdb *gdb);
/* gdb is gone: everything of its own is taken out of the vm, which goes on. */
void vc_gdb_detach(struct vc_gdb *gdb);

/* commands.c: payload is followed by a zero byte */
enum vc_gdb_result vc_gdb_packet(struct vc_gdb *gdb, const char *payload, size_t length, struct vc_rsp_out *reply);
/* queries.c: packets q... and Q... */
enum vc_gdb_result vc_gdb_query(struct vc_gdb *gdb, struct vc_rsp_args *args, struct vc_rsp_out *reply);
/* monitor.c: a line of `monitor`; the answer's text, in hex */
void vc_gdb_monitor(struct vc_gdb *gdb, const char *line, struct vc_rsp_out *reply);

/* resume.c */
/* Let the vcpus go by their actions, or tell at once what one of them has to say. */
enum vc_gdb_result vc_gdb_resume(struct vc_gdb *gdb, struct vc_rsp_out *reply);
/* A vcpu stopped. False: gdb has not to be told, and all run on. */
bool vc_gdb_stopped(struct vc_gdb *gdb, struct vc_rsp_out *reply);
/* gdb wants to stop. */
void vc_gdb_interrupt(struct vc_gdb *gdb, struct vc_rsp_out *reply);
/* The vm has its final exit. */
void vc_gdb_ended(struct vc_gdb *gdb, struct vc_rsp_out *reply);
void vc_gdb_tell(struct vc_gdb *gdb, const struct vc_gdb_stop *stop, struct vc_rsp_out *reply);
/* Look at the exits of held vcpus; those that are the guest's own exceptions go to the guest. */
void vc_gdb_collect(struct vc_gdb *gdb);

/* guest.c */
/* gdb->state is that of a vcpu; until the next packet, or vc_gdb_forget(). 0, -EBUSY... */
int vc_gdb_load(struct vc_gdb *gdb, uint32_t vcpu);
/* Put gdb->state back. general: only general registers, RIP and RFLAGS have changed. */
int vc_gdb_store(struct vc_gdb *gdb, bool general);
void vc_gdb_forget(struct vc_gdb *gdb);
/* RIP with the base of CS where that counts, of gdb->state. */
uint64_t vc_gdb_linear_rip(const struct vc_gdb *gdb);
/* Guest-virtual memory of the current vcpu as the guest sees it. Bytes read, from 0 on. */
size_t vc_gdb_read(struct vc_gdb *gdb, uint64_t gva, uint8_t *buffer, size_t length);
/* All of it or -EFAULT, with the pages before the bad one written. */
int vc_gdb_write(struct vc_gdb *gdb, uint64_t gva, const uint8_t *buffer, size_t length);

/* breakpoints.c */
/* 0; -EINVAL, -ENOSPC without a debug register left, -EFAULT, -ENOMEM. What is there already is there once. */
int vc_gdb_insert(struct vc_gdb *gdb, enum vc_gdb_kind kind, uint64_t address, uint64_t length);
int vc_gdb_remove(struct vc_gdb *gdb, enum vc_gdb_kind kind, uint64_t address, uint64_t length);
void vc_gdb_remove_all(struct vc_gdb *gdb);
const struct vc_gdb_soft *vc_gdb_soft_at(const struct vc_gdb *gdb, uint64_t gpa);
/* Bytes of [gpa, +length) as they are without our INT3s, and with them. put also remembers what is under them. */
void vc_gdb_hide(const struct vc_gdb *gdb, uint64_t gpa, uint8_t *bytes, size_t length);
void vc_gdb_put(struct vc_gdb *gdb, uint64_t gpa, uint8_t *bytes, size_t length);
/* What a vcpu must be told for them. */
struct vcore_debug vc_gdb_debug(const struct vc_gdb *gdb, bool step);

#endif
