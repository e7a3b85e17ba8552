/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interrupts of the device as the guest has programmed them. The device writes to an eventfd a vector. Where the kernel
 * can, it turns that into the guest's message itself (irqfd): nothing of it is seen here. Where it cannot, or while the
 * guest has masked the vector, the loop reads the eventfd, and lib/bus sends the message or keeps it pending. An
 * eventfd counts what comes while it changes hands.
 *
 * INTx is level-triggered: the device is masked until the guest is done with it. The kernel tells when that is. Without
 * it, every access to the device is taken for it, for which accesses must come as calls.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <virtcore/error.h>

#include "core/error.h"
#include "core/util.h"

#include "passthrough/passed.h"

enum { COMMAND_INTX_OFF = 1 << 10, MSI_CONTROL = 2 };

static const unsigned irq_of[] = {
    [VC_PASSED_INTX] = VC_PHYSICAL_INTX, [VC_PASSED_MSI] = VC_PHYSICAL_MSI, [VC_PASSED_MSIX] = VC_PHYSICAL_MSIX};

static struct vc_pci_function *function_of(const struct vc_passed *passed)
{
	return vc_pci_function_of(passed->dev);
}

/* ---- through the loop ---- */

static void take_intx(struct vc_passed *passed)
{
	vc_pci_irq_set(function_of(passed), true);
	/* after it, so that the access that finds it finds the line up */
	atomic_store(&passed->irqs.asserted, true);
	vc_pci_irq_flush(function_of(passed));
}

static void vector_ready(void *ctx, uint32_t events)
{
	struct vc_passed_vector *v = ctx;
	struct vc_passed *passed = v->passed;
	uint64_t count;

	if (!(events & EPOLLIN) || read(v->fd, &count, sizeof count) != sizeof count)
		return;
	atomic_fetch_add(&passed->irqs.by_loop, 1);
	vc_passed_dma_wrote(passed);
	if (!vc_pci_msi_send(function_of(passed), v->number) && vc_pci_has_pin(function_of(passed)))
		take_intx(passed);
}

/* Lower the line, and let the device raise it again. */
static void serve_intx(struct vc_passed *passed)
{
	struct vc_physical *p = passed->physical;

	vc_pci_irq_set(function_of(passed), false);
	vc_pci_irq_flush(function_of(passed));
	if (p->ops->intx_unmask(p) < 0 && !atomic_load(&passed->gone))
		vc_log(passed->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
}

void vc_passed_irqs_accessed(struct vc_passed *passed)
{
	if (atomic_load_explicit(&passed->irqs.asserted, memory_order_relaxed) &&
	    atomic_exchange(&passed->irqs.asserted, false))
		serve_intx(passed);
}

/* ---- vectors, with the lock held ---- */

static void detach(struct vc_passed_vector *v)
{
	struct vc_env *env = v->passed->env;

	if (v->direct)
		env->irqfd(env->machine_ctx, &v->route, false);
	v->direct = false;
	vc_watch_free(v->watch);
	v->watch = NULL;
}

/* By that route through the kernel, else through the loop. */
static void attach(struct vc_passed_vector *v, const struct vc_irq_route *route)
{
	struct vc_env *env = v->passed->env;

	if (route && env->irqfd && env->irqfd(env->machine_ctx, route, true) >= 0) {
		v->route = *route;
		v->direct = true;
		atomic_fetch_add(&v->passed->irqs.by_kernel, 1);
	} else if (vc_watch_new(env->loop, v->fd, EPOLLIN, vector_ready, v, &v->watch) < 0) {
		vc_log(env->log, VCORE_LOG_ERROR, "%s: interrupt %u is lost: %s", v->passed->physical->name, v->number,
		       vcore_error_message());
	}
}

static bool same(const struct vc_irq_route *a, const struct vc_irq_route *b)
{
	return a->address == b->address && a->data == b->data;
}

/* A message vector goes where the guest wants it now. */
static void direct_message(struct vc_passed_vector *v)
{
	struct vc_irq_route route = {.fd = v->fd, .resample = -1, .gsi = -1};
	bool sends = vc_pci_message(function_of(v->passed), v->number, &route.address, &route.data);

	if (v->direct ? sends && same(&v->route, &route) : v->watch && !(sends && v->passed->env->irqfd))
		return;
	detach(v);
	attach(v, sends ? &route : NULL);
}

static int make_eventfd(struct vc_passed *passed)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd >= 0 ? fd : vc_fail_errno(errno, "%s: an eventfd for an interrupt", passed->physical->name);
}

static void close_vectors(struct vc_passed_irqs *irqs)
{
	for (uint32_t i = 0; i < irqs->count; i++) {
		detach(&irqs->vectors[i]);
		close(irqs->vectors[i].fd);
	}
	free(irqs->vectors);
	irqs->vectors = NULL;
	irqs->count = 0;
	if (irqs->resample >= 0)
		close(irqs->resample);
	irqs->resample = -1;
}

static int open_vectors(struct vc_passed *passed, uint32_t count)
{
	struct vc_passed_irqs *irqs = &passed->irqs;

	irqs->vectors = calloc(count, sizeof irqs->vectors[0]);
	if (!irqs->vectors)
		return vc_fail(ENOMEM, "%s: no memory for %u interrupts", passed->physical->name, count);
	while (irqs->count < count) {
		int fd = make_eventfd(passed);

		if (fd < 0)
			return fd;
		irqs->vectors[irqs->count] = (struct vc_passed_vector){.passed = passed, .number = irqs->count, .fd = fd};
		irqs->count++;
	}
	return 0;
}

static int give_vectors(struct vc_passed *passed, unsigned irq)
{
	struct vc_passed_irqs *irqs = &passed->irqs;
	int *fds = calloc(irqs->count, sizeof *fds), r;

	if (!fds)
		return vc_fail(ENOMEM, "%s: no memory for %u interrupts", passed->physical->name, irqs->count);
	for (uint32_t i = 0; i < irqs->count; i++)
		fds[i] = irqs->vectors[i].fd;
	r = passed->physical->ops->irq_set(passed->physical, irq, irqs->count, fds);
	free(fds);
	return r;
}

/* The kernel knows when the guest is done with the line; false: it does not. */
static bool direct_intx(struct vc_passed *passed)
{
	struct vc_physical *p = passed->physical;
	struct vc_passed_vector *v = &passed->irqs.vectors[0];
	struct vc_irq_route route = {.fd = v->fd, .resample = -1};
	struct vcore_pci_info info;

	if (!passed->env->irqfd || !p->ops->intx_unmask_by)
		return false;
	vc_pci_get_info(function_of(passed), &info);
	route.gsi = (int)info.gsi;
	route.resample = passed->irqs.resample = make_eventfd(passed);
	if (route.resample < 0)
		return false;
	attach(v, &route);
	if (v->direct && p->ops->intx_unmask_by(p, route.resample) >= 0)
		return true;
	detach(v);
	return false;
}

/* ---- modes ---- */

static enum vc_passed_mode wanted_mode(struct vc_passed *passed)
{
	struct vcore_pci_info info;

	if (atomic_load(&passed->gone))
		return VC_PASSED_OFF;
	vc_pci_get_info(function_of(passed), &info);
	if (info.msi)
		return info.msi == 2 ? VC_PASSED_MSIX : VC_PASSED_MSI;
	return vc_pci_has_pin(function_of(passed)) && !(info.command & COMMAND_INTX_OFF) ? VC_PASSED_INTX : VC_PASSED_OFF;
}

static uint32_t count_of(struct vc_passed *passed, enum vc_passed_mode mode)
{
	const struct vc_passed_config *c = &passed->config;
	uint32_t given, offered;
	uint8_t control[2];

	if (mode != VC_PASSED_MSI)
		return mode == VC_PASSED_MSIX ? c->description.msix_vectors : 1;
	vc_pci_own_config(function_of(passed), c->image.msi + MSI_CONTROL, control, sizeof control);
	given = vc_ld16(control) >> 4 & 7;
	offered = vc_ld16(control) >> 1 & 7;
	return 1u << (given < offered ? given : offered);
}

static void switch_off(struct vc_passed *passed)
{
	struct vc_passed_irqs *irqs = &passed->irqs;
	struct vc_physical *p = passed->physical;

	if (irqs->mode == VC_PASSED_OFF)
		return;
	if (irqs->resample >= 0)
		p->ops->intx_unmask_by(p, -1);
	if (p->ops->irq_set(p, irq_of[irqs->mode], 0, NULL) < 0 && !atomic_load(&passed->gone))
		vc_log(passed->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
	close_vectors(irqs);
	atomic_store(&irqs->asserted, false);
	vc_pci_irq_set(function_of(passed), false);
	vc_pci_irq_flush(function_of(passed));
	irqs->mode = VC_PASSED_OFF;
}

static void switch_on(struct vc_passed *passed, enum vc_passed_mode mode)
{
	struct vc_passed_irqs *irqs = &passed->irqs;
	int r = open_vectors(passed, count_of(passed, mode));

	if (r >= 0)
		r = give_vectors(passed, irq_of[mode]);
	if (r < 0) {
		vc_log(passed->env->log, VCORE_LOG_ERROR, "%s: it cannot interrupt: %s", passed->physical->name,
		       vcore_error_message());
		close_vectors(irqs);
		return;
	}
	irqs->mode = mode;
	if (mode == VC_PASSED_INTX && !direct_intx(passed)) {
		vc_passed_registers_trap(passed, true);
		attach(&irqs->vectors[0], NULL);
	}
}

void vc_passed_irqs_update(struct vc_passed *passed)
{
	struct vc_passed_irqs *irqs = &passed->irqs;
	enum vc_passed_mode mode;

	pthread_mutex_lock(&irqs->lock);
	mode = wanted_mode(passed);
	if (mode != irqs->mode) {
		switch_off(passed);
		vc_passed_registers_trap(passed, false);
		if (mode != VC_PASSED_OFF)
			switch_on(passed, mode);
	}
	if (irqs->mode >= VC_PASSED_MSI)
		for (uint32_t i = 0; i < irqs->count; i++)
			direct_message(&irqs->vectors[i]);
	pthread_mutex_unlock(&irqs->lock);
}

void vc_passed_irqs_changed(void *ctx, uint32_t vector)
{
	struct vc_passed *passed = ctx;
	struct vc_passed_irqs *irqs = &passed->irqs;

	if (vector == VC_PCI_EVERY_VECTOR) {
		vc_passed_irqs_update(passed);
		return;
	}
	pthread_mutex_lock(&irqs->lock);
	if (irqs->mode == VC_PASSED_MSIX && vector < irqs->count)
		direct_message(&irqs->vectors[vector]);
	pthread_mutex_unlock(&irqs->lock);
}

void vc_passed_irqs_init(struct vc_passed *passed)
{
	pthread_mutex_init(&passed->irqs.lock, NULL);
	passed->irqs.resample = -1;
}

void vc_passed_irqs_fini(struct vc_passed *passed)
{
	switch_off(passed);
	pthread_mutex_destroy(&passed->irqs.lock);
}
