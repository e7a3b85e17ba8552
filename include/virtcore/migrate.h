/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file Live migration: a vm that runs moves to another process, of this host or another one, and goes on there.
 *
 * Memory is sent while the guest runs, and again what it writes meanwhile, until what is left can be sent within the
 * downtime limit. Then the guest is stopped, the rest and the states of vcpus and devices follow, and the other side
 * goes on. Both sides need a build with json-c.
 *
 * Pages go over one connection or several, which count as one: when one breaks, the migration has failed. After a
 * failure all of them are shut down.
 *
 * Exactly one side runs. The source gives the vm up by one last message, sent when the other side has said that it is
 * whole; whatever fails or is cancelled before that, the source goes on and the other side frees all. If the connection
 * breaks between that message and its acknowledgement, nobody can know from it whether the other side runs: the
 * source's vm stays paused then, and vcore_migrate_send() says -ENOTRECOVERABLE. The program asks the other side and
 * calls vcore_vm_resume() or drops the vm.
 *
 * Post-copy (VCORE_MIGRATE_BY_POSTCOPY) ends also for a guest that writes faster than memory is sent: it goes over
 * before all of its memory has, each page is sent once more at most, and what the guest touches there first. It needs
 * userfaultfd on the destination, which must serve KVM's and system calls' accesses too: vm.unprivileged_userfaultfd=1,
 * access to /dev/userfaultfd (Linux 6.1), or CAP_SYS_PTRACE; and memory of the library's own that is not locked, of
 * huge pages, or shared with other processes (vhost-user). A destination that cannot says so before anything moves.
 * There vcore_migrate_receive() returns when the source has given the vm up, and it is run as any other while memory
 * comes (VCORE_MIGRATE_POSTCOPY); snapshots, going back to one, and migrating on are -EBUSY until it is there.
 * Cancelling works up to the handover. From there on neither side alone has the guest. If the connection breaks then,
 * both keep what they have (VCORE_MIGRATE_INTERRUPTED), and go on over another one by vcore_migrate_recover(), as often
 * as it takes. Meanwhile the destination's vm runs until it touches what is not there, and waits for that; the source's
 * stays held as it was at the handover, and vcore_migrate_send() says -ENOLINK. The same happens to the source when the
 * destination's vm is dropped meanwhile, unless that has ended: then it needs no more.
 * Either side gives up by vcore_migrate_cancel() (VCORE_MIGRATE_LOST). The destination's vm ends then with
 * VCORE_EXIT_CRASH, VCORE_CRASH_MEMORY_LOST and a sentence, and nothing more of it leaves for its devices. The source's
 * is paused as at the handover. The guest is lost with that: what it did on the other side, with disks and networks, is
 * not in the source's memory, from where it must not go on unless the program knows better.
 *
 * The stream is neither encrypted nor authenticated: who can reach a waiting address can send it a machine, with
 * devices that name files of the host (give them properties of your own, see struct vcore_clone_options). Use sockets
 * that only the right peer can reach. What is cut off, altered, or not what it should be is refused.
 */
#ifndef VIRTCORE_MIGRATE_H
#define VIRTCORE_MIGRATE_H

#include <virtcore/snapshot.h>
#include <virtcore/types.h>
#include <virtcore/vm.h>

VCORE_BEGIN_DECLS

enum vcore_migrate_state {
	VCORE_MIGRATE_NONE = 0,      /**< never asked for */
	VCORE_MIGRATE_SETUP = 1,     /**< the other side makes the machine */
	VCORE_MIGRATE_ACTIVE = 2,    /**< memory is sent, the guest runs */
	VCORE_MIGRATE_STOPPED = 3,   /**< the guest is held: the rest is sent */
	VCORE_MIGRATE_COMPLETED = 4, /**< the other side has the vm */
	VCORE_MIGRATE_FAILED = 5,    /**< the vm goes on here */
	VCORE_MIGRATE_CANCELED = 6,  /**< likewise */
	VCORE_MIGRATE_UNDECIDED = 7, /**< paused: the connection broke at the handover, see above */
	VCORE_MIGRATE_POSTCOPY = 8,  /**< the other side runs, and memory follows; there: it comes */
	VCORE_MIGRATE_LOST = 9,      /**< that was given up: see above. Here: paused; there: ended */
	VCORE_MIGRATE_INTERRUPTED =
	    10,                        /**< that broke, and waits for vcore_migrate_recover(). Here: held; there: it runs */
	VCORE_MIGRATE_RECOVERING = 11, /**< vcore_migrate_recover() looks for the other side */
};

/** "none", "setup", "active", "stopped", "completed", "failed", "canceled", "undecided", "postcopy", "lost",
 * "interrupted", "recovering"; "?" for another value. */
VCORE_API const char *vcore_migrate_state_name(uint32_t state);

/** How far a migration is, or how it ended. Of one vm, the last one. */
struct vcore_migrate_info {
	uint32_t size;
	uint32_t state;       /**< enum vcore_migrate_state */
	uint32_t rounds;      /**< times that memory was gone through */
	uint32_t throttle;    /**< percent of time that vcpus are kept from running, now */
	uint64_t memory;      /**< bytes in all slots */
	uint64_t remaining;   /**< bytes still to be sent, as far as known */
	uint64_t sent;        /**< bytes written to the connections */
	uint64_t pages;       /**< pages of 4 KiB sent with contents, again ones included */
	uint64_t zero_pages;  /**< pages of zeroes that were sent as such or not at all */
	uint64_t rate;        /**< bytes of memory a second, lately */
	uint64_t expected_ns; /**< downtime, were the guest stopped now */
	uint64_t downtime_ns; /**< from the stop to the other side's word; COMPLETED */
	uint64_t total_ns;    /**< so far, or at its end */
	char error[256];      /**< FAILED, CANCELED, UNDECIDED, LOST, INTERRUPTED: why; else empty */
	uint64_t delta_pages; /**< those of `pages` of which only what is different was sent, if anything was */
	uint64_t saved;       /**< bytes that deltas and compression have kept off the connections */
	uint32_t streams;     /**< connections */
	uint64_t wanted;      /**< pages that somebody waited for after the switch to post-copy */
};

enum vcore_migrate_flags {
	/** A guest that writes faster than memory is sent is slowed down: its vcpus are kept from running for a growing
	 *  part of the time, 20% at first, 99% at most. Only of a vm that was started with vcore_vm_start(). */
	VCORE_MIGRATE_AUTO_CONVERGE = 1u << 0,
	/** Pages are compressed with zstd. Both sides need a build with it; one without says so. */
	VCORE_MIGRATE_ZSTD = 1u << 1,
	/** Of a page that was sent before and is still remembered, only what is different is sent. */
	VCORE_MIGRATE_DELTA = 1u << 2,
	/** Post-copy may be used, when `postcopy_rounds` are over or vcore_migrate_postcopy() says so. */
	VCORE_MIGRATE_BY_POSTCOPY = 1u << 3,
};

struct vcore_migrate_options {
	uint32_t size;
	uint32_t flags;       /**< enum vcore_migrate_flags */
	const char *address;  /**< "unix:PATH", "tcp:HOST:PORT" (numeric host) to connect to; NULL: fd */
	int32_t fd;           /**< a connected stream socket, duplicated; looked at only without an address */
	uint32_t timeout_ms;  /**< how long nothing may move on the connection; 0: 10,000 */
	uint64_t bandwidth;   /**< bytes a second while the guest runs, 16 KiB or more for each connection; 0: no limit */
	uint64_t downtime_us; /**< the guest is stopped when the rest takes no longer than this by estimate; 0: 50,000 */
	uint64_t max_time_ms; /**< give up when the guest could not be stopped by then; 0: no limit */
	/** Told after each round and a few times a second, on the calling thread, without a lock held. Anything but 0
	 *  cancels. NULL: nobody is. */
	int (*progress)(void *ctx, const struct vcore_migrate_info *info);
	void *ctx;
	uint32_t streams;        /**< connections to the address, each with a thread of its own here and there; 0: 1; at
	                              most 16 */
	uint32_t more_fd_count;  /**< at most 15 */
	const int32_t *more_fds; /**< without an address: further sockets that are connected to the same receiver,
	                              duplicated; it has as many, in any order */
	uint64_t delta_cache;    /**< DELTA: bytes of pages to remember; 0: 64 MiB */
	/** VCORE_MIGRATE_BY_POSTCOPY: the guest goes over after so many rounds of pre-copy that were not enough. 0: at
	 * once; UINT32_MAX: only by vcore_migrate_postcopy() */
	uint32_t postcopy_rounds;
	uint32_t reserved; /**< 0 */
};

/**
 * Move a vm to who waits in vcore_migrate_receive(). Returns when it is there, or when that has failed; a program that
 * wants to do something else meanwhile calls it on a thread of its own.
 *
 * The vm runs, is paused, or was never started; of one whose vcpus the program runs itself, none may be inside
 * vcore_vcpu_run() at the beginning and at the stop. Memory slots may neither come nor go meanwhile, nor may snapshots
 * be taken. After success the vm ends with VCORE_EXIT_MIGRATED and its devices are reset: it must not be run on.
 * A paused vm arrives like any other: who receives decides about starting it.
 *
 * Disk images are not moved: both sides open them. With a locked image the other side names in its properties a copy,
 * or opens it without a lock.
 *
 * @return 0: the other side has the vm; -ECANCELED vcore_migrate_cancel() or progress; -ETIMEDOUT nothing moved, or
 *         max_time_ms is over; -EREMOTEIO the other side gave up, with its sentence; -ENOTRECOVERABLE, -ENOLINK see
 * above; -EALREADY the vm is being sent already; -EBUSY slots have changed, or as vcore_snapshot_take(); -ENOTSUP a
 *         device cannot be saved (named), or a build without json-c, or zstd is asked for and not there; -EINVAL;
 * -EPROTO no such peer, or another version; errno of the connection. In all cases but -ENOTRECOVERABLE and -ENOLINK the
 * vm goes on as before.
 */
VCORE_API int vcore_migrate_send(vcore_vm *vm, const struct vcore_migrate_options *options);

/**
 * The guest of a migration that was begun with VCORE_MIGRATE_BY_POSTCOPY goes over now, without waiting for the rest of
 * its memory. From any thread; returns at once. @return 0; -ENOENT there is none; -EINVAL it was begun without
 */
VCORE_API int vcore_migrate_postcopy(vcore_vm *vm);

/**
 * The migration of this vm, if there is one, ends soon with -ECANCELED, unless the other side has the vm already.
 * Likewise a vcore_migrate_recover() that has not found the other side yet; where there is none, an interrupted
 * migration is given up, on either side. From any thread, callbacks included. @return 0; -ENOENT there is none
 */
VCORE_API int vcore_migrate_cancel(vcore_vm *vm);

/** From any thread; info->size set by the caller. @return 0; -EINVAL */
VCORE_API int vcore_migrate_get_info(vcore_vm *vm, struct vcore_migrate_info *info);

struct vcore_migrate_receive_options {
	uint32_t size;
	const char *address;   /**< "unix:PATH" (for its owner alone, mode 0600), "tcp:HOST:PORT" to listen at for one
	                            source; NULL: fd */
	int32_t fd;            /**< a connected stream socket, duplicated; shutdown(2) of it ends the call. Looked at only
	                            without an address */
	uint32_t wait_ms;      /**< for the connection; 0: no limit */
	uint32_t timeout_ms;   /**< how long nothing may come; 0: 10,000 */
	uint64_t memory_limit; /**< bytes in all slots of the machine; 0: the host's physical memory */
	const struct vcore_clone_options *clone; /**< how the vm is made; NULL: as the original */
	/** Told after each round and a few times a second while memory comes, on the calling thread, without a lock held:
	 *  state, rounds, memory, remaining, sent (here: come), pages, zero_pages, rate and total_ns are filled in.
	 *  Anything but 0 ends it: -ECANCELED. NULL: nobody is. */
	int (*progress)(void *ctx, const struct vcore_migrate_info *info);
	void *ctx;
	uint32_t more_fd_count;  /**< at most 15 */
	const int32_t *more_fds; /**< without an address: further connected sockets, duplicated. At an address, as many
	                              connections are taken as the source has */
};

/**
 * Take a vm in that vcore_migrate_send() sends. Returns when the source has given it up: it is VCORE_VM_CREATED, its
 * guest time stands, and it goes on where it was when it is started or a vcpu is run.
 *
 * @param vm out: a new reference
 * @return 0; errors, after which nothing is left of it and the source goes on: -ETIMEDOUT; -ECANCELED progress;
 * -ENOTSUP the source wants something that this build does not have; -ECONNRESET the source has gone; -EREMOTEIO it
 * gave up, with its sentence; -EPROTO what came is no migration, of another version, or altered; -E2BIG more memory
 * than the limit; otherwise as vcore_snapshot_load() and vcore_snapshot_clone()
 */
VCORE_API int vcore_migrate_receive(const struct vcore_migrate_receive_options *options, vcore_vm **vm);

struct vcore_migrate_recover_options {
	uint32_t size;
	uint32_t flags;      /**< 0 */
	const char *address; /**< the destination listens there, the source connects to it, as for vcore_migrate_receive()
	                          and vcore_migrate_send(); NULL: fd */
	int32_t fd;          /**< a connected stream socket, duplicated; looked at only without an address */
	uint32_t timeout_ms; /**< how long nothing may move on the connection; 0: 10,000 */
	uint32_t wait_ms;    /**< destination: for the connection; 0: no limit */
	uint32_t reserved;   /**< 0 */
	/** Source: as for vcore_migrate_send(), but its answer means nothing. NULL: nobody is told */
	int (*progress)(void *ctx, const struct vcore_migrate_info *info);
	void *ctx;
};

/**
 * A migration of this vm by post-copy that is VCORE_MIGRATE_INTERRUPTED goes on over another connection, one, whatever
 * it had before: called on both sides, of which the destination listens. Each makes sure that the other one has the
 * same migration, and only what has not arrived is sent. Source: returns when all of it is there, as
 * vcore_migrate_send() (also of a migration that is VCORE_MIGRATE_UNDECIDED, if it was by post-copy: that the other
 * side answers decides it). Destination: returns when it goes on; the rest comes while the vm runs
 * (VCORE_MIGRATE_POSTCOPY). After a failure nothing has changed: it can be called again. A destination that has all
 * already, of which the source has not heard, tells it.
 *
 * @return 0; -ENOENT the vm has no such migration; -EALREADY one is on its way; -ECANCELED vcore_migrate_cancel(), or
 * the destination's vm has ended; -EPROTO the other side has another migration, or is none; -EREMOTEIO the other side
 * gave up, with its sentence; -ENOLINK source: interrupted again; -ETIMEDOUT; -EINVAL; errno of the connection
 */
VCORE_API int vcore_migrate_recover(vcore_vm *vm, const struct vcore_migrate_recover_options *options);

VCORE_END_DECLS
#endif
