/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Doorbells that the kernel rings: where they are as BARs move, that they wake loop and threads, and, on each backend
 * of this host, that a write of a vcpu's is served, on kvm without a call of the device. */
#include <stdio.h>
#include <unistd.h>

#include "platform_env.h"
#include "virtio/types.h"
#include "virtio_driver.h"
#include "vm/vm.h"

enum { BELLS_MAX = 8, RAM = 4 << 20, HEAP = 1 << 20, CODE = 0x1000, NOTIFY_AT = 0x3000 };
enum { BAR4 = 0x20, COMMAND = 4, MEMORY = 2, REGISTERS = 0xf8000000 };

/* ---- a kernel of ours ---- */

struct bells {
	struct vc_ioeventfd list[BELLS_MAX];
	unsigned count;
};

static struct bells bells;

static int doorbell(void *ctx, const struct vc_ioeventfd *e, bool add)
{
	for (unsigned i = 0; i < bells.count; i++) {
		const struct vc_ioeventfd *k = &bells.list[i];

		if (k->address != e->address || k->match != e->match)
			continue;
		ck_assert(!add && k->fd == e->fd);
		bells.list[i] = bells.list[--bells.count];
		return 0;
	}
	ck_assert(add && bells.count < BELLS_MAX);
	bells.list[bells.count++] = *e;
	return 0;
}

static int has_bell(uint64_t address, uint64_t match)
{
	for (unsigned i = 0; i < bells.count; i++)
		if (bells.list[i].address == address && bells.list[i].match == match)
			return bells.list[i].fd;
	return -1;
}

static void ring(int fd)
{
	const uint64_t one = 1;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, &one, sizeof one), sizeof one);
}

/* ---- a vm that does not run ---- */

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;

static struct vc_dev *add_rng(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	ck_assert_int_eq(vc_virtio_rng_type.create(&p.env, props, &dev), 0);
	vc_props_free(props);
	return dev;
}

static void start_driver(struct vc_env *env)
{
	vdrv_attach(&d, env, HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 16);
	vdrv_start(&d);
}

static void offer(void)
{
	ck_assert(vdrv_add(&q, &(struct vdrv_buf){vdrv_alloc(&d, 64, 16), 64, true}, 1, &q));
}

static void served(void)
{
	uint32_t written;

	ck_assert_ptr_eq(vdrv_wait(&q, &written), &q);
	ck_assert_uint_eq(written, 64);
}

static const char *const workers[] = {"loop", "thread"};

START_TEST(mmio)
{
	char text[64];
	struct vc_dev *dev;

	platform_init(&p, RAM);
	p.env.doorbell = doorbell;
	snprintf(text, sizeof text, "transport=mmio,addr=0xd0000000,worker=%s", workers[_i]);
	dev = add_rng(text);
	ck_assert_uint_eq(bells.count, 1);
	ck_assert_uint_eq(bells.list[0].width, 4);
	ck_assert(bells.list[0].has_match);
	start_driver(&p.env);
	for (int i = 0; i < 20; i++) {
		offer();
		ring(has_bell(0xd0000050, 0));
		served();
	}
	/* the other way goes on */
	offer();
	vdrv_kick(&q);
	served();
	/* of no harm when nobody is there */
	vdrv_reset(&d);
	ring(has_bell(0xd0000050, 0));
	platform_settle(&p);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(bells.count, 0);
	platform_fini(&p);
}
END_TEST

START_TEST(pci)
{
	const unsigned devfn = VC_PCI_DEVFN(1, 0);
	struct vc_dev *dev;

	platform_init(&p, RAM);
	p.env.doorbell = doorbell;
	ck_assert_int_eq(vc_pci_host_new(&p.env), 0);
	dev = add_rng(_i ? "worker=thread,addr=1" : "worker=loop,addr=1");
	ck_assert_uint_eq(bells.count, 0); /* its BAR is not enabled */
	start_driver(&p.env);
	ck_assert_uint_eq(bells.count, 1);
	offer();
	ring(has_bell(d.base + NOTIFY_AT, 0));
	served();
	/* with the BAR it moves, and goes */
	vc_pci_config_write(p.env.pci, 0, devfn, BAR4, 4, REGISTERS);
	ck_assert_uint_eq(bells.count, 1);
	offer();
	ring(has_bell(REGISTERS + NOTIFY_AT, 0));
	served();
	vc_pci_config_write(p.env.pci, 0, devfn, COMMAND, 2, 0);
	ck_assert_uint_eq(bells.count, 0);
	vc_pci_config_write(p.env.pci, 0, devfn, COMMAND, 2, MEMORY);
	ck_assert_uint_eq(bells.count, 1);
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_uint_eq(bells.count, 0);
	platform_fini(&p);
}
END_TEST

/* ---- backends ---- */

static const struct {
	enum vcore_backend backend;
	const char *device;
	bool pci;
} rows[] = {
    {VCORE_BACKEND_EMU, "transport=mmio", false},
    {VCORE_BACKEND_EMU, "addr=1,worker=thread", true},
    {VCORE_BACKEND_KVM, "transport=mmio,worker=thread", false},
    {VCORE_BACKEND_KVM, "transport=mmio", false},
    {VCORE_BACKEND_KVM, "addr=1,worker=thread", true},
    {VCORE_BACKEND_KVM, "addr=1", true},
};

/* mov dword [address], 0; out 0xf4, al */
static void run_doorbell(vcore_vm *vm, uint32_t address)
{
	uint8_t code[] = {0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0xe6, 0xf4};
	struct vcore_regs regs = {.size = sizeof regs, .rip = CODE, .rsp = 0x8000, .rflags = 2};
	struct vcore_exit exit = {.size = sizeof exit};
	vcore_vcpu *vcpu = vcore_vm_vcpu(vm, 0);

	vc_st32(code + 2, address);
	ck_assert_int_eq(vcore_memory_write(vm, CODE, code, sizeof code), 0);
	ck_assert_int_eq(vcore_vcpu_set_mode(vcpu, VCORE_MODE_PROTECTED32, 0), 0);
	ck_assert_int_eq(vcore_vcpu_set_regs(vcpu, &regs), 0);
	ck_assert_int_eq(vcore_vcpu_run(vcpu, 30000000000, &exit), 0);
	ck_assert_str_eq(vcore_exit_name(exit.reason), vcore_exit_name(VCORE_EXIT_DEBUG_EXIT));
}

static uint64_t mmio_accesses(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};

	ck_assert_int_eq(vcore_vm_get_info(vm, &info), 0);
	return info.mmio;
}

START_TEST(backends)
{
	struct vcore_options options = {.size = sizeof options,
	                                .machine = VCORE_MACHINE_MICROVM,
	                                .backend = rows[_i].backend,
	                                .memory = RAM,
	                                .loop = VCORE_LOOP_PROGRAM};
	bool kvm = rows[_i].backend == VCORE_BACKEND_KVM;
	uint64_t before;
	vcore_vm *vm;
	int r = vcore_vm_new(&options, &vm);

	if (kvm && r < 0) {
		printf("no kvm here: %s\n", vcore_error_message());
		return;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(vcore_device_add(vm, "debug-exit", NULL, NULL), 0);
	ck_assert_int_eq(vcore_device_add(vm, "virtio-rng", rows[_i].device, NULL), 0);
	if (rows[_i].pci)
		vc_pci_config_write(vm->bvm.env.pci, 0, VC_PCI_DEVFN(1, 0), BAR4, 8, REGISTERS);
	start_driver(&vm->bvm.env);
	offer();
	before = mmio_accesses(vm);
	run_doorbell(vm, (uint32_t)d.base + (rows[_i].pci ? NOTIFY_AT : VDRV_QUEUE_NOTIFY));
	ck_assert_uint_eq(mmio_accesses(vm) - before, kvm ? 0 : 1);
	served();
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("doorbell");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, mmio, 0, VC_ARRAY_SIZE(workers));
	tcase_add_loop_test(tc, pci, 0, VC_ARRAY_SIZE(workers));
	tcase_add_loop_test(tc, backends, 0, VC_ARRAY_SIZE(rows));
	return platform_run("doorbell", tc);
}
