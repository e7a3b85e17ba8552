/* SPDX-License-Identifier: LGPL-2.1-or-later */
/**
 * @file A network switch inside the process: NICs of any vms plug into it with the property net=switch,switch=NAME.
 *
 * It learns which addresses are behind which port (IEEE 802.1Q), floods what it does not know, and keeps VLANs apart: a
 * port's property vlan=N names the VLAN of its untagged frames, trunk=LIST those that it carries tagged. Ports come and
 * go with their NICs while frames fly.
 *
 * Broadcast control. storm=N lets N frames a second in at a port that go to more than one other: broadcast, multicast,
 * and such as are for an address that nobody has been heard with; a burst may have as many. Multicast goes to those
 * ports alone whose NICs ask for its address, or for all; unknown unicast to those that are promiscuous or ask for it.
 * What is over the limit counts as in_dropped.
 *
 * A guest without room. Nothing is kept in the switch. A frame for such a guest stays in its sender's transmit queue,
 * and those behind it with it, until there is room, for hold=MS of the receiving port at most (10; 0: not at all);
 * then it is dropped and counts as out_dropped there. That time comes back at half the speed at which it is used: a
 * guest that takes little keeps those that send to it from their work for a third of the time. A frame that goes to
 * many waits for nobody, and a guest whose driver is not there is not waited for.
 */
#ifndef VIRTCORE_SWITCH_H
#define VIRTCORE_SWITCH_H

#include <virtcore/types.h>

VCORE_BEGIN_DECLS

/** A switch. Reference-counted: the program, the vms that know it by name, and the NICs in it hold it. */
typedef struct vcore_switch vcore_switch;

/** Make a switch without ports. @return 0; -ENOMEM */
VCORE_API int vcore_switch_new(vcore_switch **sw);
/** Take one more reference. @return sw */
VCORE_API vcore_switch *vcore_switch_ref(vcore_switch *sw);
/** Give a reference back. NULL is allowed. */
VCORE_API void vcore_switch_unref(vcore_switch *sw);

/**
 * Let NICs of the vm find the switch under a name. The vm takes a reference.
 * @param sw NULL: a new switch, of this vm alone
 * @return 0; -EEXIST when the vm knows another one by that name; -EINVAL for an empty name; -ENOMEM
 */
VCORE_API int vcore_vm_add_switch(vcore_vm *vm, const char *name, vcore_switch *sw);

/** One port, seen from the switch: in from the NIC, out to it. */
struct vcore_switch_port {
	uint32_t size;
	uint32_t index;   /**< of the port; it keeps it as long as it is plugged in */
	uint32_t vlan;    /**< of untagged frames */
	uint32_t running; /**< 1: the NIC's driver is at work */
	uint8_t mac[6];   /**< as the NIC was configured */
	uint8_t pad[2];
	uint32_t learned; /**< addresses known to be behind it */
	uint64_t in_frames, in_bytes;
	uint64_t in_dropped; /**< for a VLAN that the port has not, as too much of a storm, and malformed */
	uint64_t out_frames, out_bytes;
	uint64_t out_dropped; /**< the NIC had no room */
};

/** The first port whose index is not below `index`. port->size set by the caller. @return 0; -ENOENT when there is none
 */
VCORE_API int vcore_switch_get_port(vcore_switch *sw, uint32_t index, struct vcore_switch_port *port);

VCORE_END_DECLS
#endif
