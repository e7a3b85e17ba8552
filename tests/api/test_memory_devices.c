/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices that bring memory, the generation ID, and what follows when a guest panics, by the public calls. */
#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void make_file(char path[40])
{
	int fd;

	strcpy(path, "/tmp/virtcore-api-pmem-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	OK(ftruncate(fd, 2 << 20));
	close(fd);
}

/* Does a slot begin there? */
static bool has_memory(vcore_vm *vm, uint64_t gpa)
{
	uint8_t byte;

	return vcore_memory_read(vm, gpa, &byte, 1) == 0;
}

START_TEST(pmem)
{
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1);
	char path[40], text[80];
	vcore_device *device;
	const uint64_t start = 4ull << 30;

	ck_assert_ptr_nonnull(vm);
	make_file(path);
	snprintf(text, sizeof text, "image=%s", path);
	OK(vcore_device_add(vm, "virtio-pmem", text, &device));
	ck_assert(has_memory(vm, start));
	OK(vcore_memory_write(vm, start, "memory", 6));
	OK(vcore_device_remove(device));
	ck_assert(!has_memory(vm, start));
	OK(vcore_device_add(vm, "virtio-pmem", text, NULL));
	REFUSED(vcore_device_add(vm, "virtio-pmem", text, NULL), EAGAIN, "locked");
	memset(text, 0, sizeof text);
	OK(vcore_memory_read(vm, start, text, 6));
	ck_assert_str_eq(text, "memory");
	/* the vm goes with the device in it */
	vcore_vm_unref(vm);
	unlink(path);
}
END_TEST

START_TEST(virtio_mem)
{
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1);
	struct vcore_virtio_mem_info info = {.size = sizeof info};
	vcore_device *device, *other;

	ck_assert_ptr_nonnull(vm);
	OK(vcore_device_add(vm, "virtio-mem", "size=1G,requested=64M", &device));
	OK(vcore_device_add(vm, "virtio-rng", NULL, &other));
	OK(vcore_virtio_mem_get_info(device, &info));
	ck_assert_uint_eq(info.address, 4ull << 30);
	ck_assert_uint_eq(info.region_size, 1u << 30);
	ck_assert_uint_eq(info.block_size, 2u << 20);
	ck_assert_uint_eq(info.requested_size, 64u << 20);
	ck_assert_uint_eq(info.plugged_size, 0);
	OK(vcore_virtio_mem_resize(device, 128 << 20));
	REFUSED(vcore_virtio_mem_resize(device, 1000), EINVAL, "multiple of 0x200000");
	REFUSED(vcore_virtio_mem_resize(device, 2ull << 30), EINVAL, "at most 0x40000000");
	REFUSED(vcore_virtio_mem_resize(other, 0), EINVAL, "virtio-rng");
	REFUSED(vcore_virtio_mem_resize(NULL, 0), EINVAL, "NULL");
	REFUSED(vcore_virtio_mem_get_info(other, &info), EINVAL, "virtio-rng");
	REFUSED(vcore_virtio_mem_get_info(device, NULL), EINVAL, "size");
	OK(vcore_virtio_mem_get_info(device, &info));
	ck_assert_uint_eq(info.requested_size, 128u << 20);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(generation_id)
{
	static const uint8_t mine[16] = "sixteen bytes...";
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1), *bare = api_vm(_i, 1);
	uint8_t first[16], second[16];

	ck_assert_ptr_nonnull(vm);
	OK(vcore_vm_get_generation_id(vm, first));
	OK(vcore_vm_set_generation_id(vm, NULL));
	OK(vcore_vm_get_generation_id(vm, second));
	ck_assert_mem_ne(first, second, 16);
	OK(vcore_vm_set_generation_id(vm, mine));
	OK(vcore_vm_get_generation_id(vm, second));
	ck_assert_mem_eq(mine, second, 16);
	REFUSED(vcore_vm_get_generation_id(vm, NULL), EINVAL, "place");
	REFUSED(vcore_vm_set_generation_id(NULL, mine), EINVAL, "no vm");
	REFUSED(vcore_vm_set_generation_id(bare, mine), ENOTSUP, "machine none");
	REFUSED(vcore_vm_get_generation_id(bare, first), ENOTSUP, "machine none");
	vcore_vm_unref(bare);
	vcore_vm_unref(vm);
}
END_TEST

/* A copy has another ID, unless it is to be the same machine. */
START_TEST(clones)
{
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1), *twin;
	struct vcore_clone_options same = {.size = sizeof same, .flags = VCORE_CLONE_SAME_IDENTITY};
	vcore_snapshot *snapshot;
	uint8_t id[16], other[16];

	ck_assert_ptr_nonnull(vm);
	OK(vcore_device_add(vm, "virtio-mem", "size=1G,requested=64M", NULL));
	OK(vcore_device_add(vm, "i6300esb", NULL, NULL));
	OK(vcore_device_add(vm, "pvpanic", NULL, NULL));
	OK(vcore_vm_get_generation_id(vm, id));
	if (vcore_snapshot_take(vm, &snapshot) == -ENOTSUP) {
		printf("%s: %s\n", api_backend_word(_i), vcore_error_message());
		vcore_vm_unref(vm);
		return;
	}
	OK(vcore_snapshot_clone(snapshot, NULL, &twin));
	OK(vcore_vm_get_generation_id(twin, other));
	ck_assert_mem_ne(id, other, 16);
	OK(vcore_vm_reset_to(twin, snapshot));
	OK(vcore_vm_get_generation_id(twin, other));
	ck_assert_mem_eq(id, other, 16);
	vcore_vm_unref(twin);
	OK(vcore_snapshot_clone(snapshot, &same, &twin));
	OK(vcore_vm_get_generation_id(twin, other));
	ck_assert_mem_eq(id, other, 16);
	vcore_vm_unref(twin);
	vcore_snapshot_unref(snapshot);
	vcore_vm_unref(vm);
}
END_TEST

/* mov dx, 0x505; mov al, 1; out dx, al; then count at 0x3000 */
static const uint8_t panics[] = {0xba, 0x05, 0x05, 0x00, 0x00, 0xb0, 0x01, 0xee,
                                 0xff, 0x05, 0x00, 0x30, 0x00, 0x00, 0xeb, 0xf8};

static vcore_vm *panicking(int backend, const char *properties)
{
	vcore_vm *vm = api_vm(backend, 2);

	OK(vcore_device_add(vm, "pvpanic", properties, NULL));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, 0x1000, panics, sizeof panics);
	api_load(vm, 1, VCORE_MODE_PROTECTED32, 0x2000, CODE_BYTES(0xeb, 0xfe));
	return vm;
}

START_TEST(panic_ends)
{
	static const struct {
		const char *properties;
		uint32_t reason;
	} ends[] = {{NULL, VCORE_EXIT_CRASH}, {"action=poweroff", VCORE_EXIT_POWEROFF}, {"action=reset", VCORE_EXIT_RESET}};

	for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		struct vcore_exit exit = {.size = sizeof exit};
		vcore_vm *vm = panicking(_i, ends[i].properties);

		OK(vcore_vm_start(vm));
		OK(vcore_vm_wait(vm, LONG, &exit));
		ck_assert_uint_eq(exit.reason, ends[i].reason);
		if (exit.reason == VCORE_EXIT_CRASH) {
			ck_assert_uint_eq(exit.crash, VCORE_CRASH_PANIC);
			ck_assert_ptr_nonnull(strstr(exit.message, "panicked"));
		}
		vcore_vm_unref(vm);
	}
}
END_TEST

/* Paused by its device, on the vcpu's thread; resumed by the program. */
START_TEST(panic_pauses)
{
	struct vcore_vm_info a = {.size = sizeof a}, b = {.size = sizeof b};
	vcore_vm *vm = panicking(_i, "action=pause");
	uint32_t count = 0;

	OK(vcore_vm_start(vm));
	while (api_state(vm) != VCORE_VM_PAUSED)
		api_pause_ms(1);
	OK(vcore_vm_get_info(vm, &a));
	api_pause_ms(5);
	OK(vcore_vm_get_info(vm, &b));
	ck_assert_uint_eq(a.time_ns, b.time_ns);
	OK(vcore_vm_pause(vm));
	OK(vcore_vm_resume(vm));
	while (count < 3) {
		OK(vcore_memory_read(vm, 0x3000, &count, sizeof count));
		api_pause_ms(1);
	}
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
}
END_TEST

/* A program that runs the vcpus itself is not held up. */
START_TEST(panic_pauses_nobody)
{
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vm *vm = panicking(_i, "action=pause");
	uint32_t count = 0;

	while (count < 3) {
		OK(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), 1000000, &exit));
		ck_assert_uint_eq(exit.reason, VCORE_EXIT_TIMEOUT);
		OK(vcore_memory_read(vm, 0x3000, &count, sizeof count));
	}
	vcore_vm_unref(vm);
}
END_TEST

#define REGISTERS 0xd0000000u /* of a virtio-net; its configuration begins with the address */

/* again: mov eax, [REGISTERS + 0x100]; mov [0x5000], eax; mov eax, [REGISTERS + 0x104]; mov [0x5004], eax; jmp again */
static const uint8_t looks[] = {0xa1, 0x00, 0x01, 0x00, 0xd0, 0xa3, 0x00, 0x50, 0x00, 0x00, 0xa1,
                                0x04, 0x01, 0x00, 0xd0, 0xa3, 0x04, 0x50, 0x00, 0x00, 0xeb, 0xea};

/* What the guest reads. */
static uint64_t guest_mac(vcore_vm *vm)
{
	static const uint8_t nothing[8];
	struct vcore_exit exit = {.size = sizeof exit};
	uint64_t mac = 0;

	OK(vcore_memory_write(vm, 0x5000, nothing, sizeof nothing));
	for (unsigned n = 0; !api_word(vm, 0x5004); n++) {
		ck_assert_uint_lt(n, 1000);
		OK(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), SECOND / 100, &exit));
	}
	/* a turn that has begun ends with the second half of the address of its begin */
	OK(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), SECOND / 100, &exit));
	OK(vcore_memory_read(vm, 0x5000, &mac, 6));
	return mac;
}

START_TEST(addresses)
{
	static const uint8_t mine[6] = {0x52, 0x54, 0, 1, 2, 3}, many[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	vcore_vm *vm = api_microvm(_i, VCORE_IRQCHIP_AUTO, 1), *twin[2], *same;
	struct vcore_clone_options fresh = {.size = sizeof fresh, .flags = VCORE_CLONE_NEW_MACS};
	vcore_device *card, *other;
	vcore_snapshot *snapshot;
	uint64_t mac[3];

	ck_assert_ptr_nonnull(vm);
	OK(vcore_device_add(vm, "virtio-net", "net=none,transport=mmio,addr=0xd0000000,mac=52:54:00:12:34:56", &card));
	OK(vcore_device_add(vm, "virtio-rng", NULL, &other));
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, looks, sizeof looks);
	ck_assert_uint_eq(guest_mac(vm), 0x563412005452ull);
	OK(vcore_net_set_mac(card, mine));
	ck_assert_uint_eq(guest_mac(vm), 0x030201005452ull);
	REFUSED(vcore_net_set_mac(card, many), EINVAL, "one station");
	REFUSED(vcore_net_set_mac(other, mine), EINVAL, "virtio-rng");
	REFUSED(vcore_net_set_mac(NULL, mine), EINVAL, "NULL");
	REFUSED(vcore_net_new_macs(NULL), EINVAL, "no vm");
	if (vcore_snapshot_take(vm, &snapshot) == -ENOTSUP) {
		printf("%s: %s\n", api_backend_word(_i), vcore_error_message());
		vcore_vm_unref(vm);
		return;
	}
	OK(vcore_snapshot_clone(snapshot, NULL, &same));
	ck_assert_uint_eq(guest_mac(same), 0x563412005452ull);
	for (int i = 0; i < 2; i++) {
		OK(vcore_snapshot_clone(snapshot, &fresh, &twin[i]));
		mac[i] = guest_mac(twin[i]);
		/* one station's, locally administered */
		ck_assert_uint_eq(mac[i] & 3, 2);
		ck_assert_uint_ne(mac[i], 0x563412005452ull);
	}
	ck_assert_uint_ne(mac[0], mac[1]);
	OK(vcore_vm_reset_to(twin[0], snapshot));
	ck_assert_uint_eq(guest_mac(twin[0]), 0x563412005452ull);
	ck_assert_int_eq(vcore_net_new_macs(twin[0]), 1);
	mac[2] = guest_mac(twin[0]);
	ck_assert(mac[2] != 0x563412005452ull && mac[2] != mac[0] && (mac[2] & 3) == 2);
	vcore_vm_unref(twin[0]);
	vcore_vm_unref(twin[1]);
	vcore_vm_unref(same);
	vcore_snapshot_unref(snapshot);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("memory-devices");
	TCase *tcase = tcase_create("memory-devices");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, pmem);
	EACH(tcase, virtio_mem);
	EACH(tcase, generation_id);
	EACH(tcase, clones);
	EACH(tcase, addresses);
	EACH(tcase, panic_ends);
	EACH(tcase, panic_pauses);
	EACH(tcase, panic_pauses_nobody);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
