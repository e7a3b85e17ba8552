/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * kvm-exit [ROUNDS [EXITS]]: an MMIO or port write handled by a device callback, against a bare KVM_RUN loop that does
 * the same. In turn, round by round, so that a drifting machine moves both. Prints JSON.
 */
#include <stdio.h>
#include <virtcore/virtcore.h>

#include "bare.h"

/* l: out 0x10, al; jmp l     and     l: mov [0x10000000], eax; jmp l */
static const uint8_t pio_code[] = {0xe6, 0x10, 0xeb, 0xfc};
static const uint8_t mmio_code[] = {0xa3, 0x00, 0x00, 0x00, 0x10, 0xeb, 0xf9};

struct counter {
	uint64_t count, limit;
	vcore_vcpu *vcpu;
};

static void on_write(void *ctx, struct vcore_io *io)
{
	struct counter *c = ctx;

	if (++c->count == c->limit)
		vcore_vcpu_kick(c->vcpu);
}

static double bare_round(struct bare *b, uint64_t exits)
{
	volatile uint64_t count = 0;
	uint64_t start = now_ns();

	while (count < exits) {
		if (ioctl(b->vcpu, KVM_RUN, 0) < 0)
			return -1;
		switch (b->run->exit_reason) {
		case KVM_EXIT_IO:
		case KVM_EXIT_MMIO:
			count++;
			break;
		default:
			return -1;
		}
	}
	return (double)(now_ns() - start) / (double)exits;
}

static double library_round(vcore_vcpu *vcpu, struct counter *c, uint64_t exits)
{
	struct vcore_exit exit = {.size = sizeof exit};
	uint64_t start = now_ns();

	c->count = 0;
	c->limit = exits;
	if (vcore_vcpu_run(vcpu, -1, &exit) < 0 || exit.reason != VCORE_EXIT_KICKED)
		return -1;
	return (double)(now_ns() - start) / (double)exits;
}

static vcore_vm *make_vm(const uint8_t *code, size_t length, struct counter *c)
{
	struct vcore_options o = {.size = sizeof o, .backend = VCORE_BACKEND_KVM};
	struct vcore_device_ops ops = {.size = sizeof ops, .write = on_write};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rflags = 2};
	vcore_vm *vm;

	if (vcore_vm_new(&o, &vm) < 0)
		return NULL;
	c->vcpu = vcore_vm_vcpu(vm, 0);
	if (vcore_memory_add(vm, 0, 2 << 20, VCORE_MEM_RWX, NULL, NULL) < 0 ||
	    vcore_memory_write(vm, 0x1000, code, length) < 0 ||
	    vcore_io_add(vm, VCORE_BUS_MMIO, 0x10000000, 0x1000, &ops, c, NULL) < 0 ||
	    vcore_io_add(vm, VCORE_BUS_PIO, 0x10, 1, &ops, c, NULL) < 0 ||
	    vcore_vcpu_set_mode(c->vcpu, VCORE_MODE_PROTECTED32, 0) < 0 || vcore_vcpu_set_regs(c->vcpu, &regs) < 0) {
		vcore_vm_unref(vm);
		return NULL;
	}
	return vm;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof *values, compare_doubles);
	return values[n / 2];
}

static int measure(const char *name, const uint8_t *code, size_t length, int rounds, uint64_t exits)
{
	double *bare_ns = calloc((size_t)rounds, sizeof(double)), *ours_ns = calloc((size_t)rounds, sizeof(double)),
	       *ratio = calloc((size_t)rounds, sizeof(double));
	struct counter c = {0};
	vcore_vm *vm = make_vm(code, length, &c);
	struct bare b;

	if (!vm || bare_open(&b, 2 << 20, code, length, 0x1000) < 0) {
		fprintf(stderr, "kvm-exit: %s\n", vcore_error_message());
		return 1;
	}
	bare_round(&b, exits);
	library_round(c.vcpu, &c, exits);
	for (int i = 0; i < rounds; i++) {
		bare_ns[i] = bare_round(&b, exits);
		ours_ns[i] = library_round(c.vcpu, &c, exits);
		ratio[i] = ours_ns[i] / bare_ns[i];
	}
	printf("{\"name\": \"%s\", \"bare_ns\": %.1f, \"ours_ns\": %.1f, \"ratio\": %.4f}\n", name, median(bare_ns, rounds),
	       median(ours_ns, rounds), median(ratio, rounds));
	bare_close(&b);
	vcore_vm_unref(vm);
	free(bare_ns);
	free(ours_ns);
	free(ratio);
	return 0;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 31;
	uint64_t exits = argc > 2 ? strtoull(argv[2], NULL, 0) : 2000;

	return measure("kvm-exit-port", pio_code, sizeof pio_code, rounds, exits) ||
	       measure("kvm-exit-mmio", mmio_code, sizeof mmio_code, rounds, exits);
}
