/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interrupts and the descriptors that carry them. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <fcntl.h>

#include "vm/vm.h"

/* ---- the library's own controllers as the sink ---- */

/* A line reaches both controllers, as on a PC; the timer's IRQ 0 is wired to IOAPIC pin 2. */
static void user_set(void *ctx, unsigned gsi, bool level)
{
	struct vcore_vm *vm = ctx;

	if (vm->pic && gsi < 16 && gsi != 2)
		vc_pic_set(vm->pic, gsi, level);
	if (vm->ioapic)
		vc_ioapic_set(vm->ioapic, gsi == 0 ? 2 : gsi, level);
}

static int user_msi(void *ctx, uint64_t address, uint32_t data)
{
	struct vcore_vm *vm = ctx;

	return vc_lapics_msi(vm->lapics, address, data);
}

const struct vc_irq_sink vc_user_irq_sink = {.set = user_set, .msi = user_msi};

int vcore_irq_set(vcore_vm *vm, uint32_t gsi, bool level)
{
	return vm ? vc_irq_set(&vm->irqs, gsi, level) : vc_fail(EINVAL, "vcore_irq_set: no vm given");
}

int vcore_msi_send(vcore_vm *vm, uint64_t address, uint32_t data)
{
	return vm ? vc_msi_send(&vm->irqs, address, data) : vc_fail(EINVAL, "vcore_msi_send: no vm given");
}

/* ---- ioeventfd: always in the bus, so that an access the interpreter makes finds it; in the kernel too where it can
 * ---- */

/* Writing to, or waiting for, anything else would do harm. A host without /proc is believed. */
static int check_eventfd(int fd, const char *what)
{
	char path[32], target[32];
	ssize_t n;

	if (fcntl(fd, F_GETFD) < 0)
		return vc_fail_errno(errno, "%s: descriptor %d", what, fd);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof target - 1);
	if (n < 0)
		return 0;
	target[n] = '\0';
	return strcmp(target, "anon_inode:[eventfd]") ? vc_fail(EINVAL, "%s: descriptor %d is no eventfd", what, fd) : 0;
}

static int check_ioeventfd(enum vcore_bus bus, uint64_t address, uint32_t width)
{
	if (bus > VCORE_BUS_MMIO)
		return vc_fail(EINVAL, "ioeventfd: bus is %d: expected 0 (ports) or 1 (MMIO)", bus);
	if (width != 0 && width != 1 && width != 2 && width != 4 && width != 8)
		return vc_fail(EINVAL, "ioeventfd: width is %u: expected 0, 1, 2, 4 or 8", width);
	if (bus == VCORE_BUS_PIO && address > 0xffff)
		return vc_fail(EINVAL, "ioeventfd: port %#llx: expected 0 to 0xffff", (unsigned long long)address);
	return 0;
}

int vcore_ioeventfd_add(vcore_vm *vm, enum vcore_bus bus, uint64_t address, uint32_t width, const uint64_t *match,
                        int fd)
{
	struct vc_ioeventfd e = {.address = address,
	                         .match = match ? *match : 0,
	                         .width = width,
	                         .bus = bus,
	                         .has_match = match != NULL,
	                         .fd = fd};
	int r;

	if (!vm || fd < 0)
		return vc_fail(EINVAL, "vcore_ioeventfd_add: a vm and an eventfd are needed");
	if (match && !width)
		return vc_fail(EINVAL, "vcore_ioeventfd_add: a value to match needs a width");
	r = check_ioeventfd(bus, address, width);
	if (r < 0 || (r = check_eventfd(fd, "vcore_ioeventfd_add")) < 0)
		return r;
	pthread_mutex_lock(&vm->doorbells);
	r = vc_ioeventfd_add(&vm->buses, NULL, &e);
	if (r >= 0 && vm->bvm.ops->ioeventfd) {
		r = vm->bvm.ops->ioeventfd(&vm->bvm, &e, true);
		if (r < 0)
			vc_ioeventfd_remove(&vm->buses, NULL, &e);
	}
	pthread_mutex_unlock(&vm->doorbells);
	return r;
}

int vcore_ioeventfd_remove(vcore_vm *vm, enum vcore_bus bus, uint64_t address, uint32_t width, const uint64_t *match)
{
	struct vc_ioeventfd e = {.address = address,
	                         .match = match ? *match : 0,
	                         .width = width,
	                         .bus = bus,
	                         .has_match = match != NULL,
	                         .fd = -1};

	int r;

	if (!vm)
		return vc_fail(EINVAL, "vcore_ioeventfd_remove: no vm given");
	pthread_mutex_lock(&vm->doorbells);
	/* the kernel wants the descriptor again: the one the bus keeps refers to the same eventfd */
	pthread_mutex_lock(&vm->buses.lock);
	for (uint32_t i = 0; i < vm->buses.ioeventfd_count; i++) {
		const struct vc_ioeventfd *k = &vm->buses.ioeventfds[i];

		if (k->bus == e.bus && k->address == e.address && k->width == e.width && k->has_match == e.has_match &&
		    k->match == e.match)
			e.fd = k->fd;
	}
	pthread_mutex_unlock(&vm->buses.lock);
	if (e.fd >= 0 && vm->bvm.ops->ioeventfd)
		vm->bvm.ops->ioeventfd(&vm->bvm, &e, false);
	r = vc_ioeventfd_remove(&vm->buses, NULL, &e);
	pthread_mutex_unlock(&vm->doorbells);
	return r;
}

int vc_vm_doorbell(void *ctx, const struct vc_ioeventfd *e, bool add)
{
	struct vcore_vm *vm = ctx;
	int r;

	pthread_mutex_lock(&vm->doorbells);
	r = vm->bvm.ops->ioeventfd(&vm->bvm, e, add);
	pthread_mutex_unlock(&vm->doorbells);
	return r;
}

/* ---- irqfd ---- */

static void irqfd_ready(void *ctx, uint32_t events)
{
	struct vc_irqfd *f = ctx;
	uint64_t count;

	if (!(events & EPOLLIN) || read(f->fd, &count, sizeof count) != sizeof count)
		return;
	if (f->gsi >= 0)
		vc_irq_pulse(&f->vm->irqs, (unsigned)f->gsi);
	else
		vc_msi_send(&f->vm->irqs, f->address, f->data);
}

static struct vc_irq_route route_of(const struct vc_irqfd *f)
{
	return (struct vc_irq_route){f->fd, -1, f->gsi, f->address, f->data};
}

/* A line of SPLIT goes through the library's own IOAPIC and PIC. */
static bool kernel_routes(const struct vcore_vm *vm, int gsi)
{
	return vm->bvm.irqchip == VCORE_IRQCHIP_FULL || (vm->bvm.irqchip == VCORE_IRQCHIP_SPLIT && gsi < 0);
}

int vc_vm_irqfd(void *ctx, const struct vc_irq_route *route, bool add)
{
	struct vcore_vm *vm = ctx;

	return kernel_routes(vm, route->gsi) ? vm->bvm.ops->irqfd(&vm->bvm, route, add) : -ENOTSUP;
}

int vc_vm_registers(void *ctx, const struct vc_registers *registers, bool add)
{
	struct vcore_vm *vm = ctx;

	return vm->bvm.ops->registers(&vm->bvm, registers, add);
}

static void irqfd_free(struct vc_irqfd *f)
{
	const struct vc_irq_route route = route_of(f);

	vc_watch_free(f->watch);
	if (!f->watch && f->vm->bvm.ops->irqfd)
		f->vm->bvm.ops->irqfd(&f->vm->bvm, &route, false);
	close(f->fd);
	free(f);
}

static int irqfd_connect(struct vc_irqfd *f)
{
	const struct vc_irq_route route = route_of(f);
	struct vcore_vm *vm = f->vm;

	if (vm->bvm.ops->irqfd && kernel_routes(vm, f->gsi))
		return vm->bvm.ops->irqfd(&vm->bvm, &route, true);
	return vc_watch_new(vm->loop, f->fd, EPOLLIN, irqfd_ready, f, &f->watch);
}

static int irqfd_add(struct vcore_vm *vm, const struct vc_irqfd *model)
{
	struct vc_irqfd *f;
	int r;

	if (!vm->irqs.sink)
		return vc_fail(ENOTSUP, "irqfd: this vm has no interrupt controllers");
	r = check_eventfd(model->caller_fd, "irqfd");
	if (r < 0)
		return r;
	f = malloc(sizeof *f);
	if (!f)
		return vc_fail(ENOMEM, "no memory for an irqfd");
	*f = *model;
	f->fd = fcntl(f->caller_fd, F_DUPFD_CLOEXEC, 0);
	if (f->fd < 0) {
		r = vc_fail_errno(errno, "irqfd: descriptor %d", f->caller_fd);
		free(f);
		return r;
	}
	pthread_mutex_lock(&vm->lock);
	for (struct vc_irqfd *o = vm->irqfds; o; o = o->next)
		if (o->caller_fd == f->caller_fd)
			r = vc_fail(EEXIST, "irqfd: descriptor %d is in use already", f->caller_fd);
	if (r >= 0)
		r = irqfd_connect(f);
	if (r >= 0) {
		f->next = vm->irqfds;
		vm->irqfds = f;
	}
	pthread_mutex_unlock(&vm->lock);
	if (r < 0) {
		close(f->fd);
		free(f);
	}
	return r;
}

int vcore_irqfd_add(vcore_vm *vm, uint32_t gsi, int fd)
{
	struct vc_irqfd f = {.vm = vm, .caller_fd = fd, .gsi = (int)gsi};

	if (!vm || gsi >= VC_GSI_COUNT)
		return vc_fail(EINVAL, "vcore_irqfd_add: gsi is %u: expected 0 to %u", gsi, VC_GSI_COUNT - 1);
	return irqfd_add(vm, &f);
}

int vcore_irqfd_add_msi(vcore_vm *vm, uint64_t address, uint32_t data, int fd)
{
	struct vc_irqfd f = {.vm = vm, .caller_fd = fd, .gsi = -1, .address = address, .data = data};

	if (!vm || address >> 20 != 0xfee)
		return vc_fail(EINVAL, "vcore_irqfd_add_msi: address is %#llx: expected 0xfeeXXXXX",
		               (unsigned long long)address);
	return irqfd_add(vm, &f);
}

int vcore_irqfd_remove(vcore_vm *vm, int fd)
{
	struct vc_irqfd *found = NULL;

	if (!vm)
		return vc_fail(EINVAL, "vcore_irqfd_remove: no vm given");
	pthread_mutex_lock(&vm->lock);
	for (struct vc_irqfd **p = &vm->irqfds; *p; p = &(*p)->next) {
		if ((*p)->caller_fd != fd)
			continue;
		found = *p;
		*p = found->next;
		break;
	}
	pthread_mutex_unlock(&vm->lock);
	if (!found)
		return vc_fail(ENOENT, "irqfd: descriptor %d is not in use", fd);
	irqfd_free(found);
	return 0;
}

void vc_vm_free_irqfds(struct vcore_vm *vm)
{
	while (vm->irqfds) {
		struct vc_irqfd *f = vm->irqfds;

		vm->irqfds = f->next;
		irqfd_free(f);
	}
}
