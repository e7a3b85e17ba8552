/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the tests' vfio-user server misbehaves. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/util.h"
#include "vfio_server_priv.h"

/* A command that misbehaves with the reply to another. */
static void send_own(struct vfs *s, uint16_t command, uint64_t address)
{
	struct vc_vfio_user_dma_access access = {address, 8};
	struct vc_vfio_user_inbox in;
	struct vfs_message m;

	if (vc_vfio_user_inbox_init(&in) < 0)
		vfs_die("no memory");
	memcpy(m.payload, &access, sizeof access);
	if (vfs_ask(s, command, &m, sizeof access, &in))
		vfs_die("it is not refused");
	vc_vfio_user_inbox_fini(&in);
}

static void flood(struct vfs *s)
{
	struct vfs_message m = {.header = {.command = 99, .flags = VC_VFIO_USER_NO_REPLY, .size = 16}};

	while (send(s->connection, &m.header, sizeof m.header, MSG_NOSIGNAL) > 0)
		;
}

bool vfs_misbehave(struct vfs *s, enum vfs_fault fault, struct vfs_message *m, uint32_t *length)
{
	static const int many[] = {0, 0, 0, 0, 0, 0, 0, 0, 0};

	switch (fault) {
	case VFS_REFUSE:
	case VFS_REFUSE_ODD:
		m->header.flags |= VC_VFIO_USER_ERROR;
		m->header.error = fault == VFS_REFUSE ? EPERM : 0;
		*length = 0;
		return true;
	case VFS_SILENT:
		return false;
	case VFS_CLOSE_INSIDE:
		send(s->connection, &m->header, 7, MSG_NOSIGNAL);
		/* fall through */
	case VFS_CLOSE:
		shutdown(s->connection, SHUT_RDWR);
		return false;
	case VFS_WRONG_ID:
		m->header.id++;
		return true;
	case VFS_WRONG_COMMAND:
		m->header.command++;
		return true;
	case VFS_WRONG_TYPE:
		m->header.flags = 3;
		return true;
	case VFS_SHORT:
		*length /= 2;
		return true;
	case VFS_LONG:
		*length += 8;
		return true;
	case VFS_HUGE:
	case VFS_TINY:
		m->header.size = fault == VFS_HUGE ? UINT32_MAX : 15;
		send(s->connection, &m->header, sizeof m->header, MSG_NOSIGNAL);
		return false;
	case VFS_MANY_FDS:
		vfs_send(s->connection, m, *length, many, VC_ARRAY_SIZE(many));
		return false;
	case VFS_TWICE:
		vfs_send(s->connection, m, *length, NULL, 0);
		return true;
	case VFS_FLOOD:
		flood(s);
		return false;
	case VFS_UNKNOWN:
		send_own(s, 99, 0);
		return true;
	case VFS_OUTSIDE:
		send_own(s, VC_VFIO_USER_DMA_READ, 1ull << 50);
		send_own(s, VC_VFIO_USER_DMA_READ, UINT64_MAX - 3);
		send_own(s, VC_VFIO_USER_DMA_WRITE, 0);
		return true;
	default:
		return true;
	}
}
