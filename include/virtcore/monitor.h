/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file The monitor: a unix socket on which other programs watch and steer a vm, in JSON and in the manner of QMP.
 *
 * One JSON object a line, in both directions, of at most 65535 bytes towards the monitor. It greets with
 * {"QMP": {"version": ..., "capabilities": []}} and answers {"execute": "capabilities"} first; from then on
 * {"execute": NAME, "arguments": {...}, "id": ANY} is answered by {"return": ..., "id": ANY} or
 * {"error": {"class": ..., "desc": SENTENCE}, "id": ANY}, in the order asked, with {"event": NAME, "data": {...},
 * "timestamp": {"seconds": ..., "microseconds": ...}} in between. What is no such object is answered by an error and
 * the connection goes on. "query-commands" tells what there is, with arguments and a line of help each.
 *
 * Events: STOP, RESUME, RESET, SHUTDOWN ("reason": an exit's name), CRASH ("message"), DEVICE_ADDED and DEVICE_REMOVED
 * ("id", "type"), CPU_PLUGGED and CPU_UNPLUGGED ("cpu"), WATCHDOG, GUEST_PANICKED and GUEST_CRASHLOADED ("action": what
 * is done about it), MEMORY_DEVICE_SIZE_CHANGE ("id", "size": bytes that the guest has plugged in), BLOCK_IO_ERROR
 * ("id", "type", "operation", "offset", "errno", "error": a sentence, "errors": how many of the kind, "action":
 * "report"; at most one a second for each kind of operation of a disk), MIGRATION
 * ("status": a state's name, see migrate.h), MIGRATION_PROGRESS (what "query-migrate" tells; a few times a second while
 * memory is sent), EVENTS_LOST ("count").
 *
 * A device in the slot of a root port is removed by "device-remove" when the guest has let go of it: the answer says
 * "leaving", and DEVICE_REMOVED comes when it is gone. It stays if the guest refuses, and a reset of the vm takes the
 * request back. One that the guest cannot be asked about, or with "force", goes at once.
 *
 * Sixteen clients at most. One that does not read its answers is not listened to meanwhile; one that lets a megabyte of
 * events wait is dropped.
 */
#ifndef VIRTCORE_MONITOR_H
#define VIRTCORE_MONITOR_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** A monitor of a vm. Owned by the program. */
typedef struct vcore_monitor vcore_monitor;

enum {
	VCORE_MONITOR_REPLACE = 1u << 0, /**< a socket at that path on which nobody listens any more is removed first */
};

/**
 * Listen for clients, on a thread of the library's. Any number of monitors a vm.
 *
 * Commands run on that thread: so does what they call, such as the reset of the program's own devices. Clients may
 * remove devices that were added with vcore_device_add() by somebody who asked for no handle, those of a description
 * and their own. A vm that runs is reset by them without an exit; one that has ended is left to the program.
 * @param path    of a socket that does not exist yet, for its owner alone (mode 0600); removed at the end
 * @param flags   VCORE_MONITOR_*
 * @param monitor out; it holds a reference to the vm, which therefore lives at least until vcore_monitor_free()
 * @return 0; -EINVAL no vm or path, a path that is empty or too long, unknown flags; -EADDRINUSE, -EACCES and other
 *         errnos of making the socket; -EAGAIN no thread can be made; -ENOMEM; -ENOTSUP without json-c
 */
VCORE_API int vcore_monitor_new(vcore_vm *vm, const char *path, uint32_t flags, vcore_monitor **monitor);

/**
 * End the monitor: clients get the events there were and see their connection close. Returns once its thread is gone;
 * from inside a callback of the vm, or of a command, at once, and its thread ends by itself. NULL is allowed.
 */
VCORE_API void vcore_monitor_free(vcore_monitor *monitor);

VCORE_END_DECLS
#endif
