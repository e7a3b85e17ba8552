/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A PCI function in place of a device that is not ours: its configuration space made fit for the guest (config.c), its
 * BARs forwarded or given to the guest as they are (registers.c), its interrupts (interrupts.c), and the guest's memory
 * for its DMA (dma.c).
 *
 * Removing it does not wait for the guest: what the device still does ends with its reset and with its mappings.
 */
#include <stdio.h>
#include <stdlib.h>

#include <virtcore/error.h>

#include "core/error.h"
#include "core/props.h"
#include "core/util.h"

#include "passthrough/passed.h"

enum {
	COMMAND = 4,
	COMMAND_END = 6,
	COMMAND_MEMORY = 1 << 1,
	COMMAND_PASSED = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 10, /* I/O, memory, bus master, INTx off */
};

/* ---- BARs ---- */

static void bar_read(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct vc_passed *passed = ctx;
	struct vc_physical *p = passed->physical;
	const struct vc_physical_region *region = &passed->registers.bars[bar].region;
	uint64_t data = 0;

	atomic_fetch_add_explicit(&passed->accesses, 1, memory_order_relaxed);
	if (!atomic_load(&passed->gone) && io->offset < region->size && io->width <= region->size - io->offset &&
	    p->ops->region_read(p, VC_PHYSICAL_BAR0 + bar, io->offset, &data, io->width) >= 0)
		io->data = data;
	else
		io->data = vc_width_mask(io->width);
	vc_passed_irqs_accessed(passed);
}

static void bar_write(void *ctx, uint32_t bar, struct vcore_io *io)
{
	struct vc_passed *passed = ctx;
	struct vc_physical *p = passed->physical;
	const struct vc_physical_region *region = &passed->registers.bars[bar].region;

	atomic_fetch_add_explicit(&passed->accesses, 1, memory_order_relaxed);
	/* what fails is lost, as on a bus where nobody answers */
	if (!atomic_load(&passed->gone) && io->offset < region->size && io->width <= region->size - io->offset)
		p->ops->region_write(p, VC_PHYSICAL_BAR0 + bar, io->offset, &io->data, io->width);
	vc_passed_irqs_accessed(passed);
}

/* ---- configuration space ---- */

static void config_read(void *ctx, uint32_t offset, uint32_t width, uint32_t *value)
{
	struct vc_passed *passed = ctx;
	struct vc_physical *p = passed->physical;
	uint8_t bytes[4], device[4];

	if (atomic_load(&passed->gone)) {
		*value = (uint32_t)vc_width_mask(width);
		return;
	}
	vc_st32(bytes, *value);
	for (uint32_t i = 0; i < width; i++)
		if (vc_passed_config_is_live(&passed->config, offset + i, 1)) {
			if (p->ops->region_read(p, VC_PHYSICAL_CONFIG, offset, device, width) < 0)
				return;
			break;
		}
	for (uint32_t i = 0; i < width; i++)
		if (vc_passed_config_is_live(&passed->config, offset + i, 1))
			bytes[i] = device[i];
	*value = vc_ld32(bytes) & (uint32_t)vc_width_mask(width);
}

/* What the device must know of the command register, which the guest has written. */
static void pass_command(struct vc_passed *passed)
{
	struct vc_physical *p = passed->physical;
	struct vcore_pci_info info;
	uint8_t command[2];
	int r;

	vc_pci_get_info(vc_pci_function_of(passed->dev), &info);
	vc_st16(command, (uint16_t)(info.command & COMMAND_PASSED));
	if (!(info.command & COMMAND_MEMORY))
		vc_passed_registers_decode(passed, false);
	r = p->ops->region_write(p, VC_PHYSICAL_CONFIG, COMMAND, command, sizeof command);
	if (r >= 0 && info.command & COMMAND_MEMORY && !atomic_load(&passed->gone))
		vc_passed_registers_decode(passed, true);
	else if (r < 0 && !atomic_load(&passed->gone))
		vc_log(passed->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
}

static void config_write(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
	struct vc_passed *passed = ctx;
	struct vc_physical *p = passed->physical;
	uint8_t bytes[4];

	if (offset < COMMAND_END && offset + width > COMMAND)
		pass_command(passed);
	if (vc_passed_config_is_live(&passed->config, offset, width)) {
		vc_st32(bytes, value);
		p->ops->region_write(p, VC_PHYSICAL_CONFIG, offset, bytes, width);
	}
}

/* ---- life ---- */

static void reset_device(struct vc_passed *passed)
{
	struct vc_physical *p = passed->physical;
	int r = passed->reset ? p->ops->reset(p) : 0;

	if (r == -ENOTSUP)
		vc_log(passed->env->log, VCORE_LOG_INFO, "%s stays as it is: %s", p->name, vcore_error_message());
	else if (r < 0 && !atomic_load(&passed->gone))
		vc_log(passed->env->log, VCORE_LOG_WARN, "%s", vcore_error_message());
}

/* The registers are as at power-on: no BAR is anywhere, and the device is no bus master. */
static void pass_reset(void *ctx)
{
	struct vc_passed *passed = ctx;

	vc_passed_irqs_update(passed);
	pass_command(passed);
	reset_device(passed);
}

static void on_gone(void *ctx, const char *why)
{
	struct vc_passed *passed = ctx;

	vc_log(passed->env->log, VCORE_LOG_ERROR, "%s is gone: %s", passed->physical->name, why);
	atomic_store(&passed->gone, true);
	vc_passed_registers_trap(passed, true);
	vc_passed_registers_decode(passed, false);
}

/* On the loop. The device may be no more when this returns. */
static void let_go(void *ctx)
{
	struct vc_passed *passed = ctx;
	struct vc_env *env = passed->env;

	atomic_store(&passed->letting_go, false);
	env->machine->wanted(env->machine_ctx, passed->dev->id);
}

static void on_wanted(void *ctx)
{
	struct vc_passed *passed = ctx;
	struct vc_env *env = passed->env;

	vc_log(env->log, VCORE_LOG_WARN, "%s: its owner wants it back: device %u (%s) is to be removed",
	       passed->physical->name, passed->dev->id, passed->type);
	/* this may be another thread, for which let_go() waits: it waits for nothing */
	if (env->machine && env->machine->wanted && !atomic_exchange(&passed->letting_go, true) &&
	    vc_loop_post(env->loop, let_go, passed) < 0)
		atomic_store(&passed->letting_go, false);
}

static const struct vc_physical_events events = {.wanted = on_wanted, .gone = on_gone};

/* How it went: whether the kernel did what it can. */
static void log_counts(struct vc_passed *passed)
{
	vc_log(passed->env->log, VCORE_LOG_INFO,
	       "%s: %llu accesses came as calls, %llu interrupts through the loop; %llu vectors went to the kernel",
	       passed->physical->name, (unsigned long long)atomic_load(&passed->accesses),
	       (unsigned long long)atomic_load(&passed->irqs.by_loop),
	       (unsigned long long)atomic_load(&passed->irqs.by_kernel));
}

static void pass_destroy(void *ctx)
{
	struct vc_passed *passed = ctx;
	struct vc_physical *p = passed->physical;

	p->ops->listen(p, NULL, NULL);
	vc_loop_cancel_post(passed->env->loop, let_go, passed);
	vc_passed_irqs_fini(passed);
	vc_passed_registers_fini(passed);
	/* what the device still does ends here; one that the guest never had has nothing to do, and a sentence to keep */
	if (passed->whole) {
		log_counts(passed);
		reset_device(passed);
	}
	vc_passed_dma_end(passed);
	pthread_mutex_destroy(&passed->dma.lock);
	pthread_mutex_destroy(&passed->registers.lock);
	p->ops->destroy(p);
	free(passed);
}

static unsigned pass_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct vc_passed *passed = ctx;
	uint32_t direct = 0;

	pthread_mutex_lock(&passed->irqs.lock);
	for (uint32_t i = 0; i < passed->irqs.count; i++)
		direct += passed->irqs.vectors[i].direct;
	pthread_mutex_unlock(&passed->irqs.lock);
	stats[0] = (struct vc_stat){"accesses", atomic_load(&passed->accesses)};
	stats[1] = (struct vc_stat){"interrupts_by_loop", atomic_load(&passed->irqs.by_loop)};
	stats[2] = (struct vc_stat){"vectors_in_kernel", direct};
	stats[3] = (struct vc_stat){"dma_bytes", atomic_load(&passed->dma.bytes)};
	stats[4] = (struct vc_stat){"dma_mappings", atomic_load(&passed->dma.mapped)};
	return 5;
}

static const struct vcore_pci_ops pass_ops = {
    .size = sizeof pass_ops,
    .read = bar_read,
    .write = bar_write,
    .config_read = config_read,
    .config_write = config_write,
    .reset = pass_reset,
    .destroy = pass_destroy,
};

/* ---- making ---- */

static int read_irqs(struct vc_physical *p, struct vc_passed_source *source)
{
	int r = p->ops->irq_count(p, VC_PHYSICAL_INTX, &source->intx);

	if (r >= 0)
		r = p->ops->irq_count(p, VC_PHYSICAL_MSI, &source->msi);
	if (r >= 0)
		r = p->ops->irq_count(p, VC_PHYSICAL_MSIX, &source->msix);
	return r;
}

static int read_regions(struct vc_passed *passed, struct vc_passed_source *source)
{
	struct vc_physical *p = passed->physical;
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < VCORE_PCI_BARS; i++) {
		r = p->ops->region_info(p, VC_PHYSICAL_BAR0 + i, &passed->registers.bars[i].region);
		source->regions[i] = r < 0 ? 0 : passed->registers.bars[i].region.size;
	}
	return r;
}

static int read_device(struct vc_passed *passed, bool integrated)
{
	struct vc_physical *p = passed->physical;
	struct vc_passed_source source = {.name = p->name, .integrated = integrated};
	struct vc_physical_region space;
	uint8_t *bytes = calloc(1, VC_PCI_CONFIG_SIZE);
	int r = bytes ? p->ops->region_info(p, VC_PHYSICAL_CONFIG, &space) : vc_fail(ENOMEM, "no memory for a device");

	if (r >= 0 && space.size < 256)
		r = vc_fail(EINVAL, "%s: its configuration space has %llu bytes: expected 256 or 4096", p->name,
		            (unsigned long long)space.size);
	if (r >= 0) {
		source.length = space.size >= VC_PCI_CONFIG_SIZE ? VC_PCI_CONFIG_SIZE : 256;
		r = p->ops->region_read(p, VC_PHYSICAL_CONFIG, 0, bytes, source.length);
	}
	if (r >= 0)
		r = read_irqs(p, &source);
	if (r >= 0)
		r = read_regions(passed, &source);
	source.bytes = bytes;
	if (r >= 0)
		r = vc_passed_config_make(&passed->config, &source);
	free(bytes);
	return r;
}

/* A guest that runs may use the function as soon as it is there: the device is as after power-on then. */
static int make_quiet(struct vc_passed *passed)
{
	static const uint8_t off[2];
	struct vc_physical *p = passed->physical;

	reset_device(passed);
	return p->ops->region_write(p, VC_PHYSICAL_CONFIG, COMMAND, off, sizeof off);
}

/* As for vc_pci_image: ... and reaches memory. */
static int pass_begin(void *ctx, struct vc_iommu_endpoint *endpoint)
{
	return vc_passed_dma_begin(ctx, endpoint);
}

/* All but the function itself. */
static int set_up(struct vc_passed *passed, struct vc_props *props, const char *address)
{
	int r = vc_props_bool(props, "reset", true, &passed->reset);

	if (r >= 0 && !passed->env->pci)
		r = vc_fail(ENOTSUP, "%s: this machine type has no PCI", passed->type);
	if (r >= 0)
		r = read_device(passed, !address || !strchr(address, '/'));
	if (r >= 0)
		r = vc_passed_registers_init(passed);
	return r < 0 ? r : make_quiet(passed);
}

static int add(struct vc_passed *passed, const char *address, struct vc_dev **dev)
{
	struct vcore_pci_description *d = &passed->config.description;
	struct vc_pci_function *f;
	int r;

	d->type = passed->type;
	d->address = address;
	passed->config.image.begin = pass_begin;
	r = vc_pci_add_image(passed->env->pci, d, &passed->config.image, &pass_ops, passed, &passed->dev);
	if (r < 0)
		return r;
	*dev = passed->dev;
	/* its state is the device's, where nobody can fetch it */
	passed->dev->ops.save = NULL;
	passed->dev->ops.load = NULL;
	f = vc_pci_function_of(passed->dev);
	vc_pci_on_move(f, vc_passed_registers_moved);
	vc_pci_on_message(f, vc_passed_irqs_changed);
	vc_passed_irqs_update(passed);
	vc_dev_set_frontend(passed->env->buses, passed->dev, passed, pass_statistics);
	passed->whole = true;
	passed->physical->ops->listen(passed->physical, &events, passed);
	return 0;
}

int vc_passthrough_add(struct vc_env *env, struct vc_props *props, const char *type, struct vc_physical *physical,
                       struct vc_dev **dev)
{
	const char *address = vc_props_string(props, "addr", NULL);
	struct vc_passed *passed = calloc(1, sizeof *passed);
	int r;

	if (!passed) {
		physical->ops->destroy(physical);
		return vc_fail(ENOMEM, "no memory for a %s", type);
	}
	passed->env = env;
	passed->physical = physical;
	passed->type = type;
	pthread_mutex_init(&passed->dma.lock, NULL);
	pthread_mutex_init(&passed->registers.lock, NULL);
	vc_passed_irqs_init(passed);
	r = set_up(passed, props, address);
	if (r < 0) {
		pass_destroy(passed);
		return r;
	}
	return add(passed, address, dev);
}
