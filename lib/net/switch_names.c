/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The switches that a vm knows by name. */
#include "net/switch_names.h"

#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"

struct vc_switch_name {
	struct vc_switch_name *next;
	vcore_switch *sw;
	char name[];
};

void vc_switch_names_init(struct vc_switch_names *names)
{
	pthread_mutex_init(&names->lock, NULL);
	names->first = NULL;
}

void vc_switch_names_fini(struct vc_switch_names *names)
{
	while (names->first) {
		struct vc_switch_name *n = names->first;

		names->first = n->next;
		vcore_switch_unref(n->sw);
		free(n);
	}
	pthread_mutex_destroy(&names->lock);
}

/* Under the lock. */
static struct vc_switch_name *find(struct vc_switch_names *names, const char *name)
{
	struct vc_switch_name *n = names->first;

	while (n && strcmp(n->name, name))
		n = n->next;
	return n;
}

int vc_switch_names_add(struct vc_switch_names *names, const char *name, vcore_switch *sw)
{
	size_t size = strlen(name) + 1;
	struct vc_switch_name *n = calloc(1, sizeof *n + size), *old;
	bool same;

	if (!n)
		return vc_fail(ENOMEM, "no memory for the name of a switch");
	memcpy(n->name, name, size);
	n->sw = vcore_switch_ref(sw);
	pthread_mutex_lock(&names->lock);
	old = find(names, name);
	same = old && old->sw == sw;
	if (!old) {
		n->next = names->first;
		names->first = n;
	}
	pthread_mutex_unlock(&names->lock);
	if (!old)
		return 0;
	vcore_switch_unref(n->sw);
	free(n);
	return same ? 0 : vc_fail(EEXIST, "the vm knows another switch by the name \"%.40s\" already", name);
}

vcore_switch *vc_switch_find(struct vc_switch_names *names, const char *name)
{
	struct vc_switch_name *n;
	vcore_switch *sw;

	pthread_mutex_lock(&names->lock);
	n = find(names, name);
	sw = n ? vcore_switch_ref(n->sw) : NULL;
	pthread_mutex_unlock(&names->lock);
	return sw;
}
