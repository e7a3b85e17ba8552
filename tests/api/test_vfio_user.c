/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device type vfio-user in a vm, driven by a guest that does single accesses on request. */
#include "api.h"

#include <time.h>

#include "../unit/vfio_server.h"

#define ECAM(offset) (0xe0008000u + (offset)) /* of device 1 */
#define HAND         0xd0000000u              /* the guest's orders */
#define MORE         0x40000000u              /* where memory is added */

enum { IOAPIC = 0xfec00000, INTX_VECTOR = 0x51, MSI_VECTOR = 0x61 };
enum hand { NOTHING, STORE, LOAD, OUT, IN };
enum { WHAT = 0, WHERE = 4, VALUE = 8, RESULT = 12 };

static struct vfs s;
static vcore_vm *vm;
static vcore_device *device;
static uint32_t bars[4];

/* ---- the guest: it fetches what it is to do from a device of the test's, and tells that what came of it ---- */

static const uint8_t hands[] = {
    0xfb,                               /*     sti */
    0x8b, 0x0d, 0x00, 0x00, 0x00, 0xd0, /* 1:  mov ecx, [HAND + WHAT] */
    0x85, 0xc9,                         /*     test ecx, ecx */
    0x74, 0xf6,                         /*     jz 1 */
    0x8b, 0x15, 0x04, 0x00, 0x00, 0xd0, /*     mov edx, [HAND + WHERE] */
    0xa1, 0x08, 0x00, 0x00, 0xd0,       /*     mov eax, [HAND + VALUE] */
    0x49, 0x74, 0x09,                   /*     dec ecx; jz store */
    0x49, 0x74, 0x0a,                   /*     dec ecx; jz load */
    0x49, 0x74, 0x0b,                   /*     dec ecx; jz out */
    0xed, 0xeb, 0x09,                   /*     in eax, dx; jmp done */
    0x89, 0x02, 0xeb, 0x05,             /* store: mov [edx], eax; jmp done */
    0x8b, 0x02, 0xeb, 0x01,             /* load: mov eax, [edx]; jmp done */
    0xef,                               /* out: out dx, eax */
    0xa3, 0x0c, 0x00, 0x00, 0xd0,       /* done: mov [HAND + RESULT], eax */
    0xeb, 0xcf,                         /* jmp 1 */
};

static struct {
	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t ordered, done;
	enum hand what;
	uint32_t address, value, result;
	bool busy;
} order = {.lock = PTHREAD_MUTEX_INITIALIZER, .ordered = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static struct timespec later(long ns)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += ns % SECOND;
	t.tv_sec += ns / SECOND + t.tv_nsec / SECOND;
	t.tv_nsec %= SECOND;
	return t;
}

/* It waits a little where there is nothing to do; interrupts come in between. */
static void hand_read(void *ctx, struct vcore_io *io)
{
	struct timespec until = later(1000000);

	pthread_mutex_lock(&order.lock);
	if (io->offset == WHAT && order.what == NOTHING)
		pthread_cond_timedwait(&order.ordered, &order.lock, &until);
	io->data = io->offset == WHAT ? order.what : io->offset == WHERE ? order.address : order.value;
	if (io->offset == WHAT)
		order.what = NOTHING;
	pthread_mutex_unlock(&order.lock);
}

static void hand_write(void *ctx, struct vcore_io *io)
{
	pthread_mutex_lock(&order.lock);
	order.result = (uint32_t)io->data;
	order.busy = false;
	pthread_cond_signal(&order.done);
	pthread_mutex_unlock(&order.lock);
}

static int64_t hand_save(void *ctx, void *buffer, size_t length)
{
	return 0;
}

static const struct vcore_device_ops hand_ops = {
    .size = sizeof hand_ops, .read = hand_read, .write = hand_write, .save = hand_save};

static void ask_guest(enum hand what, uint32_t address, uint32_t value)
{
	pthread_mutex_lock(&order.lock);
	order.what = what;
	order.address = address;
	order.value = value;
	order.busy = true;
	pthread_cond_signal(&order.ordered);
	pthread_mutex_unlock(&order.lock);
}

static uint32_t guest(enum hand what, uint32_t address, uint32_t value)
{
	struct timespec until = later(LONG);
	int r = 0;

	ask_guest(what, address, value);
	pthread_mutex_lock(&order.lock);
	while (order.busy && !r)
		r = pthread_cond_timedwait(&order.done, &order.lock, &until);
	value = order.result;
	pthread_mutex_unlock(&order.lock);
	ck_assert_int_eq(r, 0);
	return value;
}

static void store(uint32_t address, uint32_t value)
{
	guest(STORE, address, value);
}

static uint32_t load(uint32_t address)
{
	return guest(LOAD, address, 0);
}

/* ---- the vm ---- */

static void make_vm(int backend)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = api_backend(backend),
	                          .memory = 4 * RAM,
	                          .memory_kind = VCORE_MEMORY_MEMFD,
	                          .vcpus = 1};

	OK(vcore_vm_new(&o, &vm));
	OK(vcore_io_add(vm, VCORE_BUS_MMIO, HAND, 16, &hand_ops, NULL, NULL));
}

static int add_device(const char *more)
{
	char text[256];

	snprintf(text, sizeof text, "socket=%s%s%s", s.path, strstr(more, "timeout_ms") ? "" : ",timeout_ms=20000", more);
	return vcore_device_add(vm, "vfio-user", text, &device);
}

static void set_up_device(void)
{
	store(ECAM(4), 7);
	for (unsigned i = 0; i < 4; i++)
		bars[i] = load(ECAM(0x10 + 4 * i)) & ~15u;
}

static void run(void)
{
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, hands, sizeof hands);
	api_tables(vm, 0, true);
	OK(vcore_vm_start(vm));
	store(0xfee000f0u, 0x1ff); /* the local APIC */
	set_up_device();
}

static void begin(int backend, const char *more)
{
	vfs_init(&s);
	vfs_start(&s);
	make_vm(backend);
	OK(add_device(more));
	run();
}

static void end(void)
{
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
	vfs_stop(&s);
	vfs_fini(&s);
}

/* ---- tests ---- */

/* Pages that can be mapped, and the one between that cannot. */
static void check_bar2(void)
{
	for (uint32_t at = 0; at < VFS_BAR2; at += VFS_TRAPPED) {
		store(bars[2] + at + 8, 0x10000 + at);
		ck_assert_uint_eq(*(uint32_t *)(s.bar2 + at + 8), 0x10000 + at);
		*(uint32_t *)(s.bar2 + at + 12) = at + 1;
		ck_assert_uint_eq(load(bars[2] + at + 12), at + 1);
	}
}

START_TEST(registers)
{
	unsigned reads;

	begin(_i, "");
	ck_assert_uint_eq(load(ECAM(0)), 0x0f5e1af4);
	ck_assert_uint_eq(load(ECAM(8)) >> 8, 0xff0000);
	ck_assert_uint_eq(load(bars[0] + VFS_ID), VFS_ID_VALUE);
	store(bars[0] + VFS_SCRATCH, 0x12345678);
	ck_assert_uint_eq(s.registers[VFS_SCRATCH / 4], 0x12345678);
	guest(OUT, bars[1] + 4, 0xcafe);
	ck_assert_uint_eq(s.ports[5] << 8 | s.ports[4], 0xcafe);
	ck_assert_uint_eq(guest(IN, bars[1] + 4, 0), 0xcafe);
	check_bar2();
	/* with INTx all accesses are seen, with MSI-X not */
	store(ECAM(0x40), 0x80000011u);
	reads = s.commands[VC_VFIO_USER_REGION_READ];
	check_bar2();
	if (!strcmp(api_backend_word(_i), "kvm"))
		ck_assert_uint_eq(s.commands[VC_VFIO_USER_REGION_READ], reads + 1);
	end();
}
END_TEST

static void copy(uint32_t how, uint32_t source, uint32_t target, uint32_t length)
{
	store(bars[0] + VFS_SOURCE, source);
	store(bars[0] + VFS_TARGET, target);
	store(bars[0] + VFS_LENGTH, length);
	store(bars[0] + VFS_COPY, how);
}

static void check_copy(uint32_t how, uint32_t source, uint32_t target)
{
	uint8_t data[5000], copied[5000];

	for (unsigned i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 13 + how + (target >> 12));
	OK(vcore_memory_write(vm, source, data, sizeof data));
	copy(how, source, target, sizeof data);
	ck_assert_uint_eq(load(bars[0] + VFS_STATUS), 1);
	OK(vcore_memory_read(vm, target, copied, sizeof copied));
	ck_assert_mem_eq(data, copied, sizeof data);
}

/* By what is mapped and by messages; also to memory that comes while the guest runs, and goes. */
START_TEST(dma)
{
	struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_MEMFD, .fd = -1};
	vcore_slot *slot;
	unsigned maps;

	begin(_i, "");
	check_copy(1, 0x200000, 0x300000);
	check_copy(2, 0x200000, 0x310000);
	maps = s.map_count;
	OK(vcore_memory_add(vm, MORE, RAM, VCORE_MEM_RWX, &o, &slot));
	ck_assert_uint_eq(s.map_count, maps + 1);
	check_copy(1, 0x200000, MORE);
	check_copy(2, MORE, 0x320000);
	OK(vcore_memory_remove(slot));
	for (int i = 0; i < 10000 && s.map_count > maps; i++)
		api_pause_ms(1);
	ck_assert_uint_eq(s.map_count, maps);
	copy(1, MORE, 0x200000, 8);
	ck_assert_uint_eq(load(bars[0] + VFS_STATUS), 2);
	copy(2, MORE, 0x200000, 8);
	ck_assert_uint_eq(load(bars[0] + VFS_STATUS), 2);
	end();
}
END_TEST

START_TEST(message_interrupts)
{
	begin(_i, "");
	for (uint32_t i = 0; i < 2; i++) {
		store(bars[3] + 16 * i, 0xfee00000);
		store(bars[3] + 16 * i + 4, 0);
		store(bars[3] + 16 * i + 8, MSI_VECTOR + i);
		store(bars[3] + 16 * i + 12, i); /* the second is masked */
	}
	store(ECAM(0x40), 0x80000011u);
	store(bars[0] + VFS_RAISE, 0);
	api_until_count(vm, MSI_VECTOR, 1);
	store(bars[0] + VFS_RAISE, 1);
	store(bars[0] + VFS_RAISE, 0);
	api_until_count(vm, MSI_VECTOR, 2);
	ck_assert_uint_eq(api_count(vm, MSI_VECTOR + 1), 0);
	store(bars[3] + 16 + 12, 0);
	api_until_count(vm, MSI_VECTOR + 1, 1);
	/* at the end of a copy */
	store(bars[0] + VFS_VECTOR, 1);
	check_copy(1, 0x200000, 0x300000);
	api_until_count(vm, MSI_VECTOR + 1, 2);
	store(ECAM(0x40), 0x11u);
	/* MSI: vector 2 of 4 */
	store(ECAM(0x54), 0xfee00000);
	store(ECAM(0x5c), 0x70);
	store(ECAM(0x50), 0x00210005);
	store(bars[0] + VFS_RAISE, 2);
	api_until_count(vm, 0x72, 1);
	end();
}
END_TEST

/* The pin as an edge, so that the guest's hand goes on while it is up. */
START_TEST(line)
{
	struct vcore_pci_info info = {.size = sizeof info};

	begin(_i, "");
	OK(vcore_pci_get_info(device, &info));
	store(IOAPIC, 0x11 + 2 * info.gsi);
	store(IOAPIC + 0x10, 0);
	store(IOAPIC, 0x10 + 2 * info.gsi);
	store(IOAPIC + 0x10, INTX_VECTOR);
	store(bars[0] + VFS_LEVEL, 1);
	api_until_count(vm, INTX_VECTOR, 1);
	/* an access that does not serve it: it is there again */
	load(bars[0]);
	api_until_count(vm, INTX_VECTOR, 2);
	store(bars[0] + VFS_LEVEL, 0);
	load(bars[0]);
	store(bars[0] + VFS_LEVEL, 1);
	api_until_count(vm, INTX_VECTOR, 3);
	end();
}
END_TEST

START_TEST(resets)
{
	unsigned before;

	begin(_i, "");
	before = load(bars[0] + VFS_RESETS);
	ck_assert_uint_ge(before, 1); /* at the beginning */
	store(bars[0] + VFS_SCRATCH, 1);
	OK(vcore_vm_pause(vm));
	OK(vcore_vm_reset(vm));
	ck_assert_uint_eq(s.registers[VFS_RESETS / 4], before + 1);
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, hands, sizeof hands);
	api_tables(vm, 0, true);
	OK(vcore_vm_resume(vm));
	ck_assert_uint_eq(load(ECAM(4)) & 7, 0);
	set_up_device();
	ck_assert_uint_eq(load(bars[0] + VFS_ID), VFS_ID_VALUE);
	ck_assert_uint_eq(load(bars[0] + VFS_SCRATCH), 0);
	check_copy(1, 0x200000, 0x300000);
	end();
}
END_TEST

static void check_alive_without(void)
{
	ck_assert_uint_eq(load(bars[0] + VFS_ID), UINT32_MAX);
	store(bars[0] + VFS_SCRATCH, 1);
	store(bars[2], 1);
	store(0x7000, 99);
	ck_assert_uint_eq(load(0x7000), 99);
}

static void drop_vm(void)
{
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
}

START_TEST(killed)
{
	begin(_i, "");
	store(bars[2], 1);
	vfs_stop(&s);
	check_alive_without();
	/* the guest may go on with memory and interrupts as it likes */
	store(ECAM(0x40), 0x80000011u);
	store(ECAM(4), 0);
	store(ECAM(4), 6);
	OK(vcore_device_remove(device));
	ck_assert_uint_eq(load(bars[0] + VFS_ID), UINT32_MAX);
	drop_vm();
}
END_TEST

/* One that is silent costs one timeout. */
START_TEST(silent)
{
	unsigned reads;

	begin(_i, ",timeout_ms=1000"); /* which a busy host keeps up with before the server is silent */
	s.fault_at = VC_VFIO_USER_REGION_READ;
	s.fault = VFS_SILENT;
	check_alive_without();
	end();

	/* a stop while an access waits */
	vfs_init(&s);
	vfs_start(&s);
	make_vm(_i);
	OK(add_device(",timeout_ms=1000"));
	run();
	s.fault_at = VC_VFIO_USER_REGION_READ;
	s.fault = VFS_SILENT;
	reads = s.commands[VC_VFIO_USER_REGION_READ];
	ask_guest(LOAD, bars[0], 0);
	for (int i = 0; i < 10000 && s.commands[VC_VFIO_USER_REGION_READ] == reads; i++)
		api_pause_ms(1);
	end();
}
END_TEST

START_TEST(refusals)
{
	struct vcore_memory_options o = {.size = sizeof o, .kind = VCORE_MEMORY_ANON, .fd = -1};
	vcore_snapshot *snap = NULL;
	vcore_vm *bare = api_vm(_i, 1);
	char text[256];

	vfs_init(&s);
	make_vm(_i);
	REFUSED(add_device(""), ENOENT, s.path);
	REFUSED(vcore_device_add(vm, "vfio-user", "", NULL), EINVAL, "socket");
	vfs_start(&s);
	REFUSED(add_device(",map_bars=yes"), EINVAL, "map_bars");
	REFUSED(add_device(",dma=fast"), EINVAL, "dma");
	REFUSED(add_device(",colour=red"), EINVAL, "colour");
	REFUSED(add_device(",addr=77"), EINVAL, "77");
	snprintf(text, sizeof text, "socket=%s", s.path);
	REFUSED(vcore_device_add(bare, "vfio-user", text, NULL), ENOTSUP, "no PCI");
	vcore_vm_unref(bare);
	OK(vcore_memory_add(vm, MORE, RAM, VCORE_MEM_RWX, &o, NULL));
	REFUSED(add_device(""), EINVAL, "memory_kind");
	OK(add_device(",dma=messages"));
	REFUSED(vcore_snapshot_take(vm, &snap), ENOTSUP, "vfio-user");
	run();
	check_copy(2, 0x200000, MORE);
	copy(1, 0x200000, 0x300000, 8);
	ck_assert_uint_eq(load(bars[0] + VFS_STATUS), 2);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vfio_user");
	TCase *tcase = tcase_create("vfio_user");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, registers);
	EACH(tcase, dma);
	EACH(tcase, message_interrupts);
	EACH(tcase, line);
	EACH(tcase, resets);
	EACH(tcase, killed);
	EACH(tcase, silent);
	EACH(tcase, refusals);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
