/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which NUMA nodes of the host a slot's pages come from: mbind(2) without libnuma. */
#include "memory/backing.h"

#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

#define NODES_MAX 1024u /* what Linux can be built for */

static const struct {
	const char *name;
	int mode;
} policies[] = {{"bind", MPOL_BIND}, {"interleave", MPOL_INTERLEAVE}, {"preferred", MPOL_PREFERRED}};

static int parse(const char *text, int *mode, uint8_t nodes[NODES_MAX / 8])
{
	size_t name = strcspn(text, ":");

	for (size_t i = 0; i < VC_ARRAY_SIZE(policies); i++) {
		if (strlen(policies[i].name) != name || strncmp(policies[i].name, text, name) || !text[name])
			continue;
		*mode = policies[i].mode;
		if (vc_mask_parse(text + name + 1, nodes, NODES_MAX) == 0)
			return 0;
	}
	return vc_fail(EINVAL,
	               "memory: numa is '%s': expected bind, interleave or preferred, a colon, and nodes below %u as in "
	               "0-1,3",
	               text, NODES_MAX);
}

int vc_backing_numa(const struct vc_slot *slot, const char *policy)
{
	unsigned long nodes[NODES_MAX / 8 / sizeof(unsigned long)];
	int mode = 0, r = parse(policy, &mode, (uint8_t *)nodes);

	if (r < 0)
		return r;
	/* the kernel takes one from the number of bits */
	if (syscall(SYS_mbind, slot->hva, slot->length, mode, nodes, NODES_MAX + 1ul, 0) == 0)
		return 0;
	if (errno == EINVAL)
		return vc_fail(EINVAL,
		               "memory: numa is '%s': expected nodes that are online, have memory and are allowed to this "
		               "process (see /sys/devices/system/node/has_memory)",
		               policy);
	if (errno == ENOSYS)
		return vc_fail(ENOTSUP, "memory: numa is '%s': this kernel has no NUMA policies", policy);
	return vc_fail_errno(errno, "memory: numa is '%s'", policy);
}
