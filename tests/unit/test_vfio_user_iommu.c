/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A device that a vfio-user server serves, behind the guest's IOMMU: the server is told of what is mapped, and of
 * nothing else. */
#include <virtcore/error.h>

#include "bus/iommu.h"
#include "core/props.h"
#include "passthrough/user_device.h"
#include "platform_env.h"
#include "vfio_server.h"

enum { RAM = 1 << 20, PAGE = 4096, BAR0 = VC_PHYSICAL_BAR0 };
enum { BY_MAPPING = 1, BY_MESSAGES = 2, DONE = 1, FAILED = 2 };

static struct platform_env p;
static struct vfs s;
static struct vc_physical *physical;
static struct vc_iommu *iommu;
static struct vc_iommu_endpoint *endpoint;
static struct vc_slot *ram;

static void ignore_fault(void *ctx, const struct vc_iommu_fault *fault) {}

static void begin(bool shares)
{
	struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_MEMFD, .fd = -1};
	const struct vc_user_settings settings = {s.path, 20000, VC_USER_MAP_NONE, shares};
	static const struct vc_log log; /* several threads log */
	struct vc_user_device *d;
	struct vc_props *props;
	struct vc_dev *dev;

	platform_init(&p, 0);
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, 0, RAM, VCORE_MEM_RWX, &o, &ram), 0);
	ck_assert_int_eq(vc_pci_make_iommu(p.env.pci, &p.log, &iommu), 0);
	ck_assert_int_eq(vc_iommu_set_driver(iommu, &(struct vc_iommu_driver){.fault = ignore_fault}, 4096), 0);
	vfs_init(&s);
	vfs_start(&s);
	ck_assert_int_eq(vc_user_device_new(&log, &settings, -1, &d), 0);
	physical = &d->physical;
	ck_assert_int_eq(vc_props_parse("", &props), 0);
	ck_assert_msg(vc_passthrough_add(&p.env, props, "vfio-user", physical, &dev) == 0, "%s", vcore_error_message());
	vc_props_free(props);
	endpoint = vc_pci_endpoint(vc_pci_function_of(dev));
}

static void end(void)
{
	platform_fini(&p);
	vfs_stop(&s);
	vfs_fini(&s);
}

static void set(uint64_t at, uint64_t value, uint32_t width)
{
	ck_assert_int_eq(physical->ops->region_write(physical, BAR0, at, &value, width), 0);
}

/* The status. */
static uint32_t copy(uint32_t how, uint64_t source, uint64_t target, uint32_t length)
{
	uint32_t status;

	set(VFS_SOURCE, source, 8);
	set(VFS_TARGET, target, 8);
	set(VFS_LENGTH, length, 4);
	set(VFS_COPY, how, 4);
	ck_assert_int_eq(physical->ops->region_read(physical, BAR0, VFS_STATUS, &status, sizeof status), 0);
	return status;
}

static int map(uint64_t iova, uint64_t gpa, uint64_t length, uint32_t flags)
{
	return vc_iommu_map(iommu, 1, &(struct vc_iommu_range){iova, iova + length - 1, gpa, flags});
}

/* Forms: the server maps the memory, or asks for it. */
START_TEST(follows)
{
	uint32_t how = _i ? BY_MAPPING : BY_MESSAGES;

	begin(_i);
	for (unsigned i = 0; i < 4 * PAGE; i++)
		ram->hva[i] = (uint8_t)(i * 7 + i / PAGE);
	ck_assert_uint_eq(s.map_count, 1);
	ck_assert_uint_eq(copy(how, 0, 0x10000, PAGE), DONE);
	ck_assert_int_eq(vc_iommu_attach(endpoint, 1, false), 0);
	ck_assert_uint_eq(s.map_count, 0);
	ck_assert_uint_eq(copy(how, 0, 0x20000, PAGE), FAILED);
	ck_assert_int_eq(map(0x80000000, PAGE, PAGE, VC_IOMMU_READ), 0);
	ck_assert_int_eq(map(0x90000000, 0x30000, 2 * PAGE, VC_IOMMU_READ | VC_IOMMU_WRITE), 0);
	ck_assert_uint_eq(s.map_count, 2);
	ck_assert_uint_eq(copy(how, 0x80000000, 0x90000000 + 100, PAGE), DONE);
	ck_assert_mem_eq(ram->hva + PAGE, ram->hva + 0x30000 + 100, PAGE);
	/* what is not to be written, what is not mapped, and what is not mapped any more */
	ck_assert_uint_eq(copy(how, 0x90000000, 0x80000000, 8), FAILED);
	ck_assert_uint_eq(copy(how, PAGE, 0x90000000, 8), FAILED);
	ck_assert_int_eq(vc_iommu_unmap(iommu, 1, 0x80000000, 0x80000fff), 0);
	ck_assert_uint_eq(s.map_count, 1);
	ck_assert_uint_eq(copy(how, 0x80000000, 0x90000000, 8), FAILED);
	vc_iommu_clear(iommu);
	ck_assert_uint_eq(s.map_count, 1);
	ck_assert_uint_eq(copy(how, 0, 0x20000, PAGE), DONE);
	end();
}
END_TEST

/* A server that takes no more is a device that fails; the guest's other requests go on. */
START_TEST(refuses)
{
	begin(true);
	ck_assert_int_eq(vc_iommu_attach(endpoint, 1, false), 0);
	s.fault_at = VC_VFIO_USER_DMA_MAP;
	s.fault = VFS_REFUSE;
	ck_assert_int_eq(map(0x80000000, 0, PAGE, 3), -EIO);
	s.fault = VFS_NONE;
	/* the fault is in the reply: this server has taken it */
	ck_assert_uint_eq(s.map_count, 1);
	ck_assert_int_eq(map(0x90000000, 0, PAGE, 3), 0);
	ck_assert_uint_eq(s.map_count, 2);
	/* one that is gone is no hindrance */
	vfs_stop(&s);
	ck_assert_int_eq(vc_iommu_unmap(iommu, 1, 0x90000000, 0x90000fff), 0);
	vc_iommu_clear(iommu);
	platform_fini(&p);
	vfs_fini(&s);
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("vfio-user-iommu");

	tcase_add_loop_test(cases, follows, 0, 2);
	tcase_add_test(cases, refuses);
	return platform_run("vfio-user-iommu", cases);
}
