/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which driver of the host's has a function. root: as in sysfs.h. */
#ifndef VC_PASSTHROUGH_BIND_H
#define VC_PASSTHROUGH_BIND_H

#include "passthrough/sysfs.h"

/* Bind it to vfio-pci. 1: the driver that had it ("": none) is in `driver`; 0: vfio-pci has it already; -errno. */
int vc_bind_to_vfio(const char *root, const char *address, char driver[VC_SYSFS_NAME]);
/* Take it from vfio-pci and give it to that driver; NULL: to none. */
int vc_bind_release(const char *root, const char *address, const char *driver);

#endif
