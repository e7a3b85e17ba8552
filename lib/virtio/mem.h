/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-mem's calls at run time; any thread, while the device is there. */
#ifndef VC_VIRTIO_MEM_H
#define VC_VIRTIO_MEM_H

#include <virtcore/virtio_mem.h>

struct vc_vmem;
/* Errors as the public functions have. */
int vc_vmem_resize(struct vc_vmem *vmem, uint64_t bytes);
/* All but size. */
void vc_vmem_get_info(struct vc_vmem *vmem, struct vcore_virtio_mem_info *info);

#endif
