/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file vhost-user back-end: a device of the library's served to the guest of another program, such as QEMU.
 *
 * No vm is involved. The library listens on a unix socket; a virtual machine monitor connects (QEMU: `-chardev
 * socket,id=c,path=SOCKET -device vhost-user-blk-pci,chardev=c`), gives its guest's memory, and the device serves the
 * guest's queues there. The guest's memory must be shared and of fixed size: QEMU's `memory-backend-memfd,share=on`.
 *
 * One front-end at a time; when it is gone the next one may connect, and finds the device as it was made, a disk with
 * what was written. A front-end that breaks the rules is turned out with a line in the log. One that reconnects finds a
 * new process as well where the old one has died: what was in flight is done once more (QEMU: chardev option
 * reconnect=1). Its vm may move to another host while the device is used (the pages that are written are logged).
 */
#ifndef VIRTCORE_VHOST_USER_H
#define VIRTCORE_VHOST_USER_H

#include <virtcore/log.h>
#include <virtcore/switch.h>
#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** A device that is served. Owned by the program. */
typedef struct vcore_vhost_user vcore_vhost_user;

struct vcore_vhost_user_options {
	uint32_t size;
	uint32_t log_level; /**< enum vcore_log_level: up to which messages are given to log */
	vcore_log_fn log;   /**< NULL: none; called from any thread */
	void *log_ctx;
	const char *switch_name; /**< under which a virtio-net finds sw (net=switch,switch=NAME); NULL: no switch */
	vcore_switch *sw;        /**< a reference is taken */
	/**
	 * 1: memory that the front-end could shrink is accepted, such as files. Only for front-ends that are trusted: one
	 * that does shrink it ends this process by SIGBUS.
	 */
	uint32_t allow_unsealed;
	uint32_t pad;
};

/**
 * Make a device and serve it, on a thread of the library's, until vcore_vhost_user_free().
 *
 * @param type       "virtio-blk", "virtio-net" (one pair of queues, without the control queue), "virtio-console" or
 *                   "virtio-rng"
 * @param properties as of vcore_device_add(), but for those of transports
 * @param socket     path of the unix socket, which is made, mode 0600, and removed at the end; one on which nobody
 *                   listens any more is replaced. "fd:N": a descriptor, which is duplicated: a listening socket, or a
 *                   connection, after whose end there is no other
 * @param options    NULL: defaults
 * @param server     out
 * @return 0; -ENOENT a type that cannot be served (the message lists those that can); -EINVAL a wrong property or
 *         socket, by name; -EADDRINUSE, -EACCES and other errnos of making the socket; errno of what the device opens;
 *         -EAGAIN no thread can be made; -ENOMEM
 */
VCORE_API int vcore_vhost_user_serve(const char *type, const char *properties, const char *socket,
                                     const struct vcore_vhost_user_options *options, vcore_vhost_user **server);

/**
 * The device that is served, for vcore_block_resize(): the front-end is told of the new size, if it has given a channel
 * for that (QEMU does). Valid until vcore_vhost_user_free().
 */
VCORE_API vcore_device *vcore_vhost_user_device(vcore_vhost_user *server);

/**
 * Stop serving: a front-end that is connected sees its connection close, what is in flight is done, the device goes
 * away. Any thread but one of the library's. NULL is allowed.
 */
VCORE_API void vcore_vhost_user_free(vcore_vhost_user *server);

VCORE_END_DECLS
#endif
