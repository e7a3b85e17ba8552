/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A device that a vfio-user server serves, without the function that a guest is given for it. */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <virtcore/error.h>

#include "config.h"
#include "passthrough/user_device.h"
#include "platform_env.h"
#include "vfio_server.h"

enum { RAM = 1 << 20, BAR0 = VC_PHYSICAL_BAR0, CONFIG = VC_PHYSICAL_CONFIG };

static struct platform_env p;
static struct vfs s;
static struct vc_user_device *d;
static struct vc_physical *dev;
static const struct vc_physical_ops *ops;
static struct vc_slot *ram;

/* ---- beginning and ending ---- */

static int create(enum vc_user_map_bars map_bars, bool shares, uint64_t timeout_ms)
{
	const struct vc_user_settings settings = {s.path, timeout_ms, map_bars, shares};
	static const struct vc_log log; /* several threads log: the platform's is for one */
	int r = vc_user_device_new(&log, &settings, -1, &d);

	if (r >= 0) {
		dev = &d->physical;
		ops = dev->ops;
	}
	return r;
}

static void add_ram(uint64_t gpa, uint32_t kind, uint32_t flags, struct vc_slot **slot)
{
	struct vcore_memory_options o = {.size = sizeof o, .kind = kind, .fd = -1};

	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, gpa, RAM, flags, &o, slot), 0);
}

static void prepare(void)
{
	platform_init(&p, 0);
	add_ram(0, VCORE_MEMORY_MEMFD, VCORE_MEM_RWX, &ram);
	vfs_init(&s);
}

static void begin(void)
{
	prepare();
	vfs_start(&s);
	ck_assert_msg(create(VC_USER_MAP_SEALED, true, 20000) == 0, "%s", vcore_error_message());
}

static void end(void)
{
	ops->destroy(dev);
	vfs_stop(&s);
	vfs_fini(&s);
	platform_fini(&p);
}

static uint32_t get(unsigned region, uint64_t at)
{
	uint32_t value;

	ck_assert_msg(ops->region_read(dev, region, at, &value, sizeof value) == 0, "%s", vcore_error_message());
	return value;
}

static void set(unsigned region, uint64_t at, uint32_t value)
{
	ck_assert_msg(ops->region_write(dev, region, at, &value, sizeof value) == 0, "%s", vcore_error_message());
}

static int map(struct vc_slot *slot)
{
	const struct vc_physical_dma dma = {
	    .iova = slot->gpa,
	    .length = slot->length,
	    .hva = slot->hva,
	    .fd = vc_slot_is_shareable(slot) ? slot->fd : -1,
	    .offset = slot->offset,
	    .slot = slot,
	    .gpa = slot->gpa,
	    .flags = VC_PHYSICAL_READ | (slot->flags & VCORE_MEM_W ? VC_PHYSICAL_WRITE : 0),
	};

	return ops->dma_map(dev, &dma);
}

/* The status. */
static uint32_t copy(uint32_t how, uint64_t source, uint64_t target, uint32_t length)
{
	ck_assert_int_eq(ops->region_write(dev, BAR0, VFS_SOURCE, &source, 8), 0);
	ck_assert_int_eq(ops->region_write(dev, BAR0, VFS_TARGET, &target, 8), 0);
	set(BAR0, VFS_LENGTH, length);
	set(BAR0, VFS_COPY, how);
	return get(BAR0, VFS_STATUS);
}

/* ---- registers ---- */

START_TEST(registers)
{
	static const uint32_t widths[] = {1, 2, 4, 8};
	struct vc_physical_region info;
	uint8_t config[256], bytes[8];

	begin();
	ck_assert_uint_eq(get(BAR0, VFS_ID), VFS_ID_VALUE);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t value = 0x8877665544332211ull * (i + 1), read = 0;

		ck_assert_int_eq(ops->region_write(dev, 2, 64 + i, &value, widths[i]), 0);
		ck_assert_int_eq(ops->region_read(dev, 2, 64 + i, &read, widths[i]), 0);
		ck_assert_uint_eq(read, value & vc_width_mask(widths[i]));
		ck_assert_uint_eq(s.last_width, widths[i]);
	}
	/* the configuration space in one piece */
	ck_assert_int_eq(ops->region_read(dev, CONFIG, 0, config, sizeof config), 0);
	ck_assert_uint_eq(vc_ld32(config), 0x0f5e1af4);
	ck_assert_int_eq(ops->region_info(dev, 1, &info), 0);
	ck_assert_uint_eq(info.size, 16);
	ck_assert_uint_eq(info.flags, VC_PHYSICAL_READ | VC_PHYSICAL_WRITE);
	ck_assert_uint_eq(info.area_count, 0);
	ck_assert_int_eq(ops->region_info(dev, VC_PHYSICAL_ROM, &info), 0);
	ck_assert_uint_eq(info.size, 0);
	ck_assert_int_eq(ops->region_info(dev, VC_PHYSICAL_REGIONS, &info), -EINVAL);
	/* where nothing is */
	ck_assert_int_eq(ops->region_read(dev, VC_PHYSICAL_ROM, 0, bytes, 8), -EREMOTEIO);
	ck_assert_uint_eq(vc_ld64(bytes), UINT64_MAX);
	end();
}
END_TEST

START_TEST(resets)
{
	begin();
	set(BAR0, VFS_SCRATCH, 7);
	ck_assert_uint_eq(get(BAR0, VFS_RESETS), 0);
	ck_assert_int_eq(ops->reset(dev), 0);
	ck_assert_uint_eq(get(BAR0, VFS_RESETS), 1);
	ck_assert_uint_eq(get(BAR0, VFS_SCRATCH), 0);
	end();

	prepare();
	s.cannot_reset = true;
	vfs_start(&s);
	ck_assert_int_eq(create(VC_USER_MAP_SEALED, true, 20000), 0);
	ck_assert_int_eq(ops->reset(dev), -ENOTSUP);
	end();
}
END_TEST

/* Of BAR 2, as it would be given to the guest. */
static unsigned areas_with(enum vc_user_map_bars map_bars, bool unsealed)
{
	struct vc_physical_region info;

	prepare();
	s.unsealed = unsealed;
	vfs_start(&s);
	ck_assert_int_eq(create(map_bars, true, 20000), 0);
	ck_assert_int_eq(ops->region_info(dev, 2, &info), 0);
	ck_assert_uint_eq(info.size, VFS_BAR2);
	if (info.area_count) {
		const struct vc_physical_area *a = info.areas;
		uint8_t *at;

		ck_assert_uint_eq(a[0].offset, 0);
		ck_assert_uint_eq(a[0].length, VFS_TRAPPED);
		ck_assert_uint_eq(a[1].offset, VFS_TRAPPED + 0x1000);
		ck_assert_uint_eq(a[1].length, VFS_BAR2 - VFS_TRAPPED - 0x1000);
		at =
		    mmap(NULL, a[1].length, PROT_READ | PROT_WRITE, MAP_SHARED, info.fd, (off_t)(info.fd_offset + a[1].offset));
		ck_assert(at != MAP_FAILED);
		at[5] = 0x77;
		ck_assert_uint_eq(get(2, a[1].offset + 4), 0x7700);
		munmap(at, a[1].length);
		/* it cannot be made to fault */
		ck_assert(unsealed || ftruncate(s.bar2_fd, 0) < 0);
	}
	end();
	return info.area_count;
}

START_TEST(maps_bars)
{
	ck_assert_uint_eq(areas_with(VC_USER_MAP_SEALED, false), 2);
	ck_assert_uint_eq(areas_with(VC_USER_MAP_SEALED, true), 0);
	ck_assert_uint_eq(areas_with(VC_USER_MAP_ANY, true), 2);
	ck_assert_uint_eq(areas_with(VC_USER_MAP_NONE, false), 0);
}
END_TEST

/* ---- interrupts ---- */

static bool signalled(int fd)
{
	struct pollfd poll_fd = {fd, POLLIN, 0};
	uint64_t count;

	return poll(&poll_fd, 1, 0) == 1 && read(fd, &count, sizeof count) == sizeof count;
}

static void make_fds(int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
}

static void close_fds(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
}

/* Only the vector that is raised; one without a descriptor is lost. */
static void check_vectors(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < VFS_VECTORS; i++) {
		set(BAR0, VFS_RAISE, i);
		for (unsigned j = 0; j < count; j++)
			ck_assert_msg(fds[j] < 0 || signalled(fds[j]) == (i == j), "vector %u, descriptor of %u", i, j);
	}
}

START_TEST(messages)
{
	int all[VFS_VECTORS], some[VFS_VECTORS];
	unsigned irq = _i ? VC_PHYSICAL_MSIX : VC_PHYSICAL_MSI;
	uint32_t count;

	prepare();
	/* one descriptor beside a message, or eight */
	s.no_capabilities = _i;
	s.twin = !_i;
	vfs_start(&s);
	ck_assert_msg(create(VC_USER_MAP_SEALED, true, 20000) == 0, "%s", vcore_error_message());
	make_fds(all, VFS_VECTORS);
	ck_assert_int_eq(ops->irq_count(dev, irq, &count), 0);
	ck_assert_uint_eq(count, VFS_VECTORS);
	ck_assert_int_eq(ops->irq_set(dev, irq, VFS_VECTORS + 1, all), -EINVAL);
	ck_assert_int_eq(ops->irq_set(dev, 3, 1, all), -EINVAL);

	ck_assert_int_eq(ops->irq_set(dev, irq, VFS_VECTORS, all), 0);
	check_vectors(all, VFS_VECTORS);
	/* nothing is said twice */
	count = s.commands[VC_VFIO_USER_SET_IRQS];
	ck_assert_int_eq(ops->irq_set(dev, irq, VFS_VECTORS, all), 0);
	ck_assert_uint_eq(s.commands[VC_VFIO_USER_SET_IRQS], count);
	/* holes, and less of them */
	memcpy(some, all, sizeof all);
	some[0] = some[3] = some[4] = -1;
	ck_assert_int_eq(ops->irq_set(dev, irq, 7, some), 0);
	check_vectors(some, 7);
	ck_assert_int_eq(ops->irq_set(dev, irq, VFS_VECTORS, all), 0);
	check_vectors(all, VFS_VECTORS);
	ck_assert_int_eq(ops->irq_set(dev, irq, 0, NULL), 0);
	check_vectors(all, 0);
	for (unsigned i = 0; i < VFS_VECTORS; i++)
		ck_assert(!signalled(all[i]));
	ck_assert_int_eq(ops->irq_set(dev, irq, 1, all + 1), 0);
	check_vectors(all + 1, 1);
	end();
	close_fds(all, VFS_VECTORS);
}
END_TEST

START_TEST(line)
{
	int fd;

	begin();
	make_fds(&fd, 1);
	ck_assert(ops->intx_unmask_by == NULL);
	ck_assert_int_eq(ops->irq_set(dev, VC_PHYSICAL_INTX, 1, &fd), 0);
	set(BAR0, VFS_LEVEL, 1);
	ck_assert(signalled(fd));
	set(BAR0, VFS_LEVEL, 1);
	ck_assert(!signalled(fd)); /* masked */
	ck_assert_int_eq(ops->intx_unmask(dev), 0);
	ck_assert(signalled(fd)); /* still asserted */
	set(BAR0, VFS_LEVEL, 0);
	ck_assert_int_eq(ops->intx_unmask(dev), 0);
	ck_assert(!signalled(fd));
	set(BAR0, VFS_LEVEL, 1);
	ck_assert(signalled(fd));
	ck_assert_int_eq(ops->irq_set(dev, VC_PHYSICAL_INTX, 0, NULL), 0);
	ck_assert_int_eq(ops->intx_unmask(dev), 0);
	ck_assert(!signalled(fd));
	end();
	close_fds(&fd, 1);
}
END_TEST

/* ---- memory ---- */

static void fill(uint8_t seed)
{
	for (unsigned i = 0; i < 8192; i++)
		ram->hva[i] = (uint8_t)(i * 7 + seed);
}

/* Forms: with a twin socket or not; memory that is shared, or not. */
START_TEST(copies)
{
	bool twin = _i & 1, shares = _i & 2;
	uint64_t dirty[RAM / 4096 / 64];

	prepare();
	s.twin = twin;
	vfs_start(&s);
	ck_assert_int_eq(create(VC_USER_MAP_SEALED, shares, 20000), 0);
	ck_assert_uint_eq(copy(1, 0, 0x10000, 4096), 2);
	ck_assert_uint_eq(copy(2, 0, 0x10000, 4096), 2);
	ck_assert_uint_eq(s.refused, 1);
	ck_assert_int_eq(map(ram), 0);
	ck_assert_int_eq(map(ram), -EEXIST);

	fill(1);
	ck_assert_uint_eq(copy(1, 0, 0x10000, 8192), shares ? 1 : 2);
	ck_assert(!shares || !memcmp(ram->hva, ram->hva + 0x10000, 8192));
	fill(2);
	ck_assert_int_eq(vc_mem_log_dirty(&p.mem, NULL, ram, VC_LOG_PROGRAM, true), 0);
	ck_assert_uint_eq(copy(2, 0, 0x20000, 5000), 1);
	ck_assert_mem_eq(ram->hva, ram->hva + 0x20000, 5000);
	/* what we wrote ourselves is in the log */
	ck_assert_int_eq(vc_mem_get_dirty(&p.mem, NULL, ram, VC_LOG_PROGRAM, dirty, sizeof dirty), 2);
	ck_assert_uint_eq(dirty[0], 3ull << 32);
	/* over the end */
	ck_assert_uint_eq(copy(2, RAM - 8, 0, 9), 2);
	ck_assert_uint_eq(copy(2, 0, RAM - 8, 9), 2);
	ck_assert_uint_eq(copy(2, 0, UINT64_MAX - 4, 9), 2);

	ck_assert_int_eq(ops->dma_unmap(dev, 0, RAM / 2), -ENOENT);
	ck_assert_int_eq(ops->dma_unmap(dev, 0, RAM), 0);
	ck_assert_uint_eq(copy(1, 0, 0x10000, 4096), 2);
	ck_assert_uint_eq(copy(2, 0, 0x10000, 4096), 2);
	ck_assert_uint_eq(s.map_count, 0);
	end();
}
END_TEST

/* Slots one behind the other, one of which is not to be written. */
START_TEST(several_slots)
{
	struct vc_slot *rom, *more;

	begin();
	add_ram(RAM, VCORE_MEMORY_MEMFD, VCORE_MEM_RWX, &more);
	add_ram(2 * RAM, VCORE_MEMORY_ANON, VCORE_MEM_R | VCORE_MEM_X, &rom);
	ck_assert_int_eq(map(rom), 0);
	ck_assert_int_eq(map(ram), 0);
	ck_assert_int_eq(map(more), 0);
	ck_assert_uint_eq(s.map_count, 3);
	fill(3);
	ck_assert_uint_eq(copy(2, 0, RAM - 4096, 8192), 1);
	ck_assert_mem_eq(ram->hva, ram->hva + RAM - 4096, 4096);
	ck_assert_mem_eq(ram->hva + 4096, more->hva, 4096);
	rom->hva[9] = 0x99;
	ck_assert_uint_eq(copy(2, 2 * RAM, 0, 4096), 1);
	ck_assert_uint_eq(ram->hva[9], 0x99);
	ck_assert_uint_eq(copy(2, 0, 2 * RAM, 4096), 2);
	ck_assert_uint_eq(copy(2, 0, 2 * RAM - 8, 16), 2);
	/* what is not shared cannot be reached otherwise */
	ck_assert_uint_eq(copy(1, 2 * RAM, 0, 4096), 2);
	end();
}
END_TEST

START_TEST(private_memory)
{
	struct vc_slot *slot;

	begin();
	add_ram(RAM, VCORE_MEMORY_ANON, VCORE_MEM_RWX, &slot);
	ck_assert_int_eq(map(slot), -EINVAL);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), "memory_kind"));
	ck_assert_uint_eq(s.commands[VC_VFIO_USER_DMA_MAP], 0);
	end();

	prepare();
	add_ram(RAM, VCORE_MEMORY_ANON, VCORE_MEM_RWX, &slot);
	vfs_start(&s);
	ck_assert_int_eq(create(VC_USER_MAP_SEALED, false, 20000), 0);
	ck_assert_int_eq(map(slot), 0);
	slot->hva[3] = 0x33;
	ck_assert_uint_eq(copy(2, RAM, RAM + 4096, 4096), 1);
	ck_assert_uint_eq(slot->hva[4096 + 3], 0x33);
	end();
}
END_TEST

/* ---- what servers do ---- */

struct heard {
	_Atomic unsigned gone;
	int fd;
};

static void on_gone(void *ctx, const char *why)
{
	struct heard *heard = ctx;
	const uint64_t one = 1;

	heard->gone++;
	ck_assert_ptr_nonnull(why);
	ck_assert_int_eq(write(heard->fd, &one, sizeof one), sizeof one);
}

static const struct vc_physical_events events = {.gone = on_gone};

static void await(struct heard *heard)
{
	uint64_t count;

	ck_assert_int_eq(read(heard->fd, &count, sizeof count), sizeof count);
	ck_assert_uint_eq(heard->gone, 1);
}

/* The connection is broken: nothing waits any more. */
static void check_gone(struct heard *heard)
{
	uint32_t value = 0;
	int fd;

	make_fds(&fd, 1);
	ops->listen(dev, &events, heard);
	await(heard);
	ck_assert_int_eq(ops->region_read(dev, BAR0, 0, &value, sizeof value), -ENOTCONN);
	ck_assert_uint_eq(value, UINT32_MAX);
	ck_assert_int_eq(ops->region_write(dev, BAR0, 0, &value, sizeof value), -ENOTCONN);
	ck_assert_int_eq(ops->irq_set(dev, VC_PHYSICAL_MSIX, 1, &fd), -ENOTCONN);
	ck_assert_int_eq(ops->intx_unmask(dev), -ENOTCONN);
	ck_assert_int_eq(ops->reset(dev), -ENOTCONN);
	ck_assert_int_eq(map(ram), -ENOTCONN);
	ops->listen(dev, NULL, NULL);
	close_fds(&fd, 1);
}

/* Those that a client cannot live with; the others are part of life. */
static bool is_fatal(enum vfs_fault fault)
{
	return fault != VFS_NONE && fault != VFS_REFUSE && fault != VFS_REFUSE_ODD && fault != VFS_UNKNOWN &&
	       fault != VFS_OUTSIDE;
}

START_TEST(misbehaves)
{
	enum vfs_fault fault = (enum vfs_fault)(_i / 2);
	bool slow = fault == VFS_SILENT || fault == VFS_FLOOD;
	struct heard heard = {0, eventfd(0, EFD_CLOEXEC)};
	uint32_t value = 0;
	int r;

	prepare();
	s.twin = _i % 2;
	vfs_start(&s);
	ck_assert_int_eq(create(VC_USER_MAP_SEALED, true, slow ? 100 : 20000), 0);
	s.fault_at = VC_VFIO_USER_REGION_READ;
	s.fault = fault;
	r = ops->region_read(dev, BAR0, 0, &value, sizeof value);
	ck_assert_uint_eq(value, r < 0 ? UINT32_MAX : VFS_ID_VALUE);
	if (fault == VFS_REFUSE || fault == VFS_REFUSE_ODD)
		ck_assert_int_eq(r, -EREMOTEIO);
	else if (!is_fatal(fault))
		ck_assert_int_eq(r, 0);
	else if (fault == VFS_TWICE)
		ck_assert_int_le(ops->region_read(dev, BAR0, 0, &value, sizeof value), r); /* the loop may be first */
	else
		ck_assert_int_lt(r, 0);
	if (is_fatal(fault)) {
		check_gone(&heard);
	} else {
		s.fault = VFS_NONE;
		ck_assert_uint_eq(get(BAR0, 0), VFS_ID_VALUE);
	}
	end();
	close(heard.fd);
}
END_TEST

/* At every command of the beginning. */
START_TEST(misbehaves_at_once)
{
	static const uint16_t commands[] = {VC_VFIO_USER_VERSION, VC_VFIO_USER_GET_INFO, VC_VFIO_USER_GET_REGION_INFO,
	                                    VC_VFIO_USER_GET_IRQ_INFO};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(commands); i++) {
		enum vfs_fault fault = (enum vfs_fault)_i;
		bool slow = fault == VFS_SILENT || fault == VFS_FLOOD;
		int r;

		prepare();
		s.twin = commands[i] != VC_VFIO_USER_VERSION; /* nobody listens there before the reply */
		s.fault_at = commands[i];
		s.fault = fault;
		vfs_start(&s);
		r = create(VC_USER_MAP_SEALED, true, slow ? 50 : 20000);
		if (r >= 0) {
			end();
			continue;
		}
		ck_assert_ptr_nonnull(strstr(vcore_error_message(), s.path));
		vfs_stop(&s);
		platform_fini(&p);
	}
}
END_TEST

#ifdef VC_HAVE_JSON
START_TEST(says)
{
	static const struct {
		const char *text;
		int r;
	} cases[] = {
	    {"", -EPROTO},
	    {"{}", 0},
	    {"[]", -EPROTO},
	    {"{\"capabilities\": 5}", -EPROTO},
	    {"{\"capabilities\": {}}", 0},
	    {"{\"capabilities\": {\"max_msg_fds\": -1}}", -EPROTO},
	    {"{\"capabilities\": {\"max_msg_fds\": 100000}}", 0},
	    {"{\"capabilities\": {\"max_msg_fds\": 0}}", 0},
	    {"{\"capabilities\": {\"max_data_xfer_size\": 7}}", -EPROTO},
	    {"{\"capabilities\": {\"max_data_xfer_size\": 8}}", 0},
	    {"{\"capabilities\": {\"max_data_xfer_size\": \"8\"}}", -EPROTO},
	    {"{\"capabilities\": {\"twin_socket\": {\"supported\": true}}}", -EPROTO},
	    {"{\"capabilities\": {\"twin_socket\": {\"supported\": true, \"fd_index\": 0}}}", -EPROTO},
	    {"{\"capabilities\": {\"twin_socket\": {\"supported\": false, \"fd_index\": 3}}}", 0},
	    {"{\"capabilities\": {\"twin_socket\": {\"supported\": true, \"fd_index\": -3}}}", -EPROTO},
	    {"{\"capabilities\": {\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}}", -EPROTO},
	    {"{\"capabilities\": {", -EPROTO},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(cases); i++) {
		uint8_t config[256];

		prepare();
		s.twin = false;
		s.capabilities = cases[i].text;
		vfs_start(&s);
		ck_assert_msg(create(VC_USER_MAP_SEALED, true, 20000) == cases[i].r, "%s: %s", cases[i].text,
		              vcore_error_message());
		if (cases[i].r == 0) {
			ck_assert_int_eq(ops->region_read(dev, CONFIG, 0, config, sizeof config), 0);
			ck_assert_uint_eq(vc_ld32(config), 0x0f5e1af4);
			end();
		} else {
			vfs_stop(&s);
			platform_fini(&p);
		}
	}
}
END_TEST
#endif

START_TEST(nobody_there)
{
	prepare();
	ck_assert_int_eq(create(VC_USER_MAP_SEALED, true, 20000), -ENOENT);
	ck_assert_ptr_nonnull(strstr(vcore_error_message(), s.path));
	platform_fini(&p);
}
END_TEST

START_TEST(killed)
{
	struct heard heard = {0, eventfd(0, EFD_CLOEXEC)};

	prepare();
	s.twin = _i;
	vfs_start(&s);
	ck_assert_int_eq(create(VC_USER_MAP_SEALED, true, 20000), 0);
	ck_assert_int_eq(map(ram), 0);
	ops->listen(dev, &events, &heard);
	vfs_stop(&s);
	await(&heard);
	ck_assert_uint_eq(d->maps.count, 1);
	ck_assert_int_eq(ops->dma_unmap(dev, 0, RAM), -ENOTCONN);
	ck_assert_uint_eq(d->maps.count, 0);
	/* who listens anew hears it again */
	heard.gone = 0;
	check_gone(&heard);
	ops->destroy(dev);
	platform_fini(&p);
	close(heard.fd);
}
END_TEST

/* ---- threads ---- */

static void *access_all_the_time(void *ctx)
{
	uint64_t at = (uint64_t)(uintptr_t)ctx * 8;

	for (uint32_t i = 0; i < 300; i++) {
		set(2, at, i);
		ck_assert_uint_eq(get(2, at), i);
	}
	return NULL;
}

/* Accesses of several threads while the server asks for memory and memory comes and goes. */
START_TEST(threads)
{
	pthread_t others[3];
	struct vc_slot *more;

	prepare();
	s.twin = _i;
	vfs_start(&s);
	ck_assert_int_eq(create(VC_USER_MAP_SEALED, false, 20000), 0);
	add_ram(RAM, VCORE_MEMORY_MEMFD, VCORE_MEM_RWX, &more);
	ck_assert_int_eq(map(ram), 0);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&others[i], NULL, access_all_the_time, (void *)(uintptr_t)i), 0);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_int_eq(map(more), 0);
		fill((uint8_t)i);
		ck_assert_uint_eq(copy(2, 0, RAM + 4096, 4096), 1);
		ck_assert_mem_eq(ram->hva, more->hva + 4096, 4096);
		ck_assert_int_eq(ops->dma_unmap(dev, RAM, RAM), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(others[i], NULL);
	end();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("vfio_user");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, registers);
	tcase_add_test(t, resets);
	tcase_add_test(t, maps_bars);
	tcase_add_loop_test(t, messages, 0, 2);
	tcase_add_test(t, line);
	tcase_add_loop_test(t, copies, 0, 4);
	tcase_add_test(t, several_slots);
	tcase_add_test(t, private_memory);
	tcase_add_loop_test(t, misbehaves, 2, 2 * VFS_FAULTS);
	tcase_add_loop_test(t, misbehaves_at_once, 1, VFS_FAULTS);
#ifdef VC_HAVE_JSON
	tcase_add_test(t, says);
#endif
	tcase_add_test(t, nobody_there);
	tcase_add_loop_test(t, killed, 0, 2);
	tcase_add_loop_test(t, threads, 0, 2);
	return platform_run("vfio_user", t);
}
