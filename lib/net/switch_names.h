/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The switches that a vm knows by name; property switch=NAME of a NIC finds them. */
#ifndef VC_NET_SWITCH_NAMES_H
#define VC_NET_SWITCH_NAMES_H

#include <pthread.h>
#include <virtcore/switch.h>

struct vc_switch_names {
	pthread_mutex_t lock; /* protects first */
	struct vc_switch_name *first;
};

void vc_switch_names_init(struct vc_switch_names *names);
void vc_switch_names_fini(struct vc_switch_names *names);
/* Takes a reference. -EEXIST: the name is another's. */
int vc_switch_names_add(struct vc_switch_names *names, const char *name, vcore_switch *sw);
/* A new reference, or NULL. */
vcore_switch *vc_switch_find(struct vc_switch_names *names, const char *name);

#endif
