/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A vfio-user server of the tests' own, on a thread, that can be told to misbehave. Its device, 1af4:0f5e:
 *   BAR 0, memory, 4 KiB: registers as below
 *   BAR 1, 16 ports: bytes that keep what is written
 *   BAR 2, memory, 16 KiB: bytes likewise; all but its second page can be mapped
 *   BAR 3, memory, 4 KiB: MSI-X table at 0, pending bits at 0x800; INTA#, MSI and MSI-X of VECTORS vectors
 * What must not happen aborts with a sentence.
 */
#ifndef VFIO_SERVER_H
#define VFIO_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "passthrough/user_message.h"

/* Registers, of 4 bytes each */
enum {
	VFS_ID = 0x00, /* reads VFS_ID_VALUE */
	VFS_SCRATCH = 0x04,
	VFS_SOURCE = 0x08, /* 64 bits: of a copy */
	VFS_TARGET = 0x10, /* 64 bits */
	VFS_LENGTH = 0x18,
	VFS_COPY = 0x1c,   /* written: 1: by what is mapped, 2: by messages; then the vector is raised, if it is not ~0 */
	VFS_STATUS = 0x20, /* of the last copy: 1: done, 2: failed */
	VFS_VECTOR = 0x24,
	VFS_RAISE = 0x28,  /* written: that vector of MSI-X or MSI */
	VFS_LEVEL = 0x2c,  /* of INTA# */
	VFS_RESETS = 0x30, /* how many there have been */

	VFS_ID_VALUE = 0x56465330,
	VFS_VECTORS = 12, /* more than go beside one message */
	VFS_BAR2 = 0x4000,
	VFS_TRAPPED = 0x1000, /* the page of BAR 2 that cannot be mapped */
	VFS_MAPS = 32,
};

enum vfs_fault {
	VFS_NONE,
	VFS_REFUSE,
	VFS_REFUSE_ODD, /* with an error that is none */
	VFS_SILENT,
	VFS_CLOSE, /* instead of a reply */
	VFS_CLOSE_INSIDE,
	VFS_WRONG_ID,
	VFS_WRONG_COMMAND,
	VFS_WRONG_TYPE,
	VFS_SHORT, /* half of the payload */
	VFS_LONG,
	VFS_HUGE, /* a size that no message has */
	VFS_TINY, /* a size less than a header's */
	VFS_MANY_FDS,
	VFS_TWICE,   /* the reply comes again when nobody asked */
	VFS_FLOOD,   /* commands, and no reply */
	VFS_UNKNOWN, /* a command that there is not, then the reply */
	VFS_OUTSIDE, /* asks for memory that it was not given, then the reply */
	VFS_FAULTS,
};

struct vfs_map {
	uint64_t address, size;
	uint32_t flags;
	uint8_t *map; /* NULL: it is not shared */
};

struct vfs {
	char path[108];
	int listener, connection, wake, own; /* own: where its commands go */
	pthread_t thread;
	_Atomic bool quit;
	/* How it is: set before vfs_start() */
	bool twin, unsealed, no_capabilities, cannot_reset;
	const char *capabilities;  /* NULL: what is usual */
	_Atomic uint32_t fault_at; /* command */
	_Atomic enum vfs_fault fault;
	/* What it has */
	uint8_t config[256], ports[16], *bar2;
	uint32_t registers[64];
	int bar2_fd;
	int fds[3][VFS_VECTORS];
	bool masked; /* INTA# */
	struct vfs_map maps[VFS_MAPS];
	_Atomic unsigned map_count;
	_Atomic unsigned connections, commands[32], asked, refused; /* of its own: asked, and refused */
	_Atomic uint32_t last_width;                                /* of a register's access */
};

/* With a name of its own for the socket. */
void vfs_init(struct vfs *s);
void vfs_start(struct vfs *s);
/* Closes the connection and goes away, as if it were killed. It may be started again. */
void vfs_stop(struct vfs *s);
void vfs_fini(struct vfs *s);
/* Serve until the process is killed; s->path is set. */
void vfs_serve(struct vfs *s);

#endif
