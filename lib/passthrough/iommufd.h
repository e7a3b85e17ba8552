/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library asks of the kernel's /dev/iommu, and of VFIO's devices as files of their own (Linux 6.6; its
 * Documentation/userspace-api/iommufd.rst): numbers and layouts, for hosts whose headers are older.
 */
#ifndef VC_PASSTHROUGH_IOMMUFD_H
#define VC_PASSTHROUGH_IOMMUFD_H

#include <stdint.h>
#include <sys/ioctl.h>

#define VC_IOMMUFD_DESTROY     _IO(';', 0x80)
#define VC_IOMMUFD_IOAS_ALLOC  _IO(';', 0x81)
#define VC_IOMMUFD_IOVA_RANGES _IO(';', 0x84)
#define VC_IOMMUFD_MAP         _IO(';', 0x85)
#define VC_IOMMUFD_UNMAP       _IO(';', 0x86)
#define VC_VFIO_BIND_IOMMUFD   _IO(';', 118)
#define VC_VFIO_ATTACH_IOAS    _IO(';', 119)

struct vc_iommufd_destroy {
	uint32_t size, id;
};

struct vc_iommufd_ioas_alloc {
	uint32_t size, flags, id; /* id: given */
};

struct vc_iommufd_iova_range {
	uint64_t first, last;
};

struct vc_iommufd_iova_ranges {
	uint32_t size, ioas;
	uint32_t count; /* room; then how many there are */
	uint32_t reserved;
	uint64_t ranges;    /* address of vc_iommufd_iova_range */
	uint64_t alignment; /* given: of what is mapped */
};

enum { VC_IOMMUFD_FIXED = 1 << 0, VC_IOMMUFD_WRITE = 1 << 1, VC_IOMMUFD_READ = 1 << 2 };
struct vc_iommufd_map {
	uint32_t size, flags, ioas, reserved;
	uint64_t address, length, iova;
};

struct vc_iommufd_unmap {
	uint32_t size, ioas;
	uint64_t iova, length;
};

struct vc_vfio_bind {
	uint32_t size, flags;
	int32_t iommufd;
	uint32_t id; /* given */
};

struct vc_vfio_attach {
	uint32_t size, flags, ioas;
};

/* Of VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, for a device that was opened so: in place of groups there are these. */
enum { VC_VFIO_RESET_BY_DEVICE = 1 << 0 };
#define VC_VFIO_RESET_NOT_OURS UINT32_MAX

#endif
