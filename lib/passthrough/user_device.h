/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A device that a vfio-user server serves, as the physical.h that the guest-facing function works on.
 *
 * Threads: the connection is watched by a loop of the device's own, with its thread, so that what the server asks for
 * waits for nobody else, and nobody for it.
 */
#ifndef VC_PASSTHROUGH_USER_DEVICE_H
#define VC_PASSTHROUGH_USER_DEVICE_H

#include "chipset/chipset.h"
#include "passthrough/physical.h"
#include "passthrough/user.h"
#include "passthrough/user_maps.h"

enum {
	VC_USER_IRQS = 3,          /* kinds: INTx, MSI, MSI-X */
	VC_USER_VECTORS_MAX = 2048 /* of one kind */
};

/* Which files of the server's are mapped: an access behind the end of one would be our SIGBUS. */
enum vc_user_map_bars {
	VC_USER_MAP_NONE,
	VC_USER_MAP_SEALED, /* those that nobody can shrink */
	VC_USER_MAP_ANY,
};

struct vc_user_settings {
	const char *socket;
	uint64_t timeout_ms;
	enum vc_user_map_bars map_bars;
	bool shares; /* memory is given to the server; else it has to ask for every byte */
};

struct vc_user_device {
	struct vc_physical physical;
	/* Constant once it is open */
	const struct vc_log *log;
	struct vc_user_settings settings; /* socket: our copy */
	struct vc_vfio_user user;
	struct vc_physical_region regions[VC_PHYSICAL_REGIONS];
	uint32_t irq_counts[VC_USER_IRQS];
	bool can_reset;
	struct vc_clock clock;
	struct vc_loop *loop;
	struct vc_watch *watch, *twin_watch; /* changed on the loop, or while it is held */
	_Atomic bool closing;                /* the connection ends because we end it */

	struct vc_vfio_user_maps maps;

	pthread_mutex_t irq_lock; /* protects those below; held during requests that change them */
	uint32_t vectors[VC_USER_IRQS];
	int *fds[VC_USER_IRQS]; /* irq_counts of each: what the server has; -1: none */

	pthread_mutex_t events_lock; /* protects all below; before the loop's */
	pthread_cond_t told_cond;
	const struct vc_physical_events *events; /* NULL: nobody listens */
	void *events_ctx;
	bool gone, told, telling;
};

/* ---- user_open.c ---- */

/* Learn what the device is, over a connection that has begun. -errno with a sentence. */
int vc_user_device_open(struct vc_user_device *d);

/* ---- user_physical.c ---- */

extern const struct vc_physical_ops vc_user_physical_ops;
/* What r says of a request: logged where it breaks the connection. r */
int vc_user_device_check(struct vc_user_device *d, int r);
/* Of vc_vfio_user: by messages to memory that the server has been given. ctx: the vc_user_device */
extern const struct vc_vfio_user_memory vc_user_device_memory;

/* ---- user_device.c ---- */

/*
 * Learns what is there, on a connection: fd, which is taken over, or with -1 a new one to the socket. log lives as
 * long. On failure nothing is left.
 */
int vc_user_device_new(const struct vc_log *log, const struct vc_user_settings *settings, int fd,
                       struct vc_user_device **d);
void vc_user_device_free(struct vc_user_device *d);
/* On the loop, or from listen(). */
void vc_user_device_tell(void *d);

#endif
