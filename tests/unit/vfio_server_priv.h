/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between vfio_server.c and its misbehaviour. */
#ifndef VFIO_SERVER_PRIV_H
#define VFIO_SERVER_PRIV_H

#include "vfio_server.h"

struct vfs_message {
	struct vc_vfio_user_header header;
	uint8_t payload[16384];
};

void vfs_die(const char *what);
void vfs_send(int fd, struct vfs_message *m, uint32_t length, const int *fds, unsigned count);
/* A command of the server's own; its answer is in the inbox. False: refused. */
bool vfs_ask(struct vfs *s, uint16_t command, struct vfs_message *m, uint32_t length, struct vc_vfio_user_inbox *in);
/* Make something else of a reply with so much payload. False: nothing more is to be sent. */
bool vfs_misbehave(struct vfs *s, enum vfs_fault fault, struct vfs_message *m, uint32_t *length);

#endif
