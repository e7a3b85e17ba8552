/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VM generation ID ("Virtual Machine Generation ID", Microsoft 2012): 16 bytes in guest memory, of which ACPI tells,
 * and an event when they have changed. A guest that finds new ones knows that it is not the only one with its past.
 */
#include <stdlib.h>
#include <sys/random.h>

#include "chipset/chip.h"
#include "chipset/dev_state.h"

#define STATE_VERSION 1u

struct vc_vmgenid {
	struct vc_env *env;
	struct vc_line event;
	pthread_mutex_t lock; /* protects the following, and orders writes of the ID to guest memory */
	uint8_t id[VC_VMGENID_SIZE];
	bool told; /* ACPI tells of it: the memory is not the guest's */
};

struct vmgenid_state {
	uint32_t version;
	uint8_t told, pad[3];
	uint8_t id[VC_VMGENID_SIZE];
};

static int put(struct vc_vmgenid *v)
{
	return vc_mem_write(v->env->mem, VC_VMGENID_GPA, v->id, sizeof v->id);
}

int vc_vmgenid_write(struct vc_vmgenid *v)
{
	int r;

	pthread_mutex_lock(&v->lock);
	r = put(v);
	v->told = r >= 0;
	pthread_mutex_unlock(&v->lock);
	return r;
}

static int make_id(uint8_t id[VC_VMGENID_SIZE])
{
	/* so few bytes come in one piece */
	if (getrandom(id, VC_VMGENID_SIZE, 0) != VC_VMGENID_SIZE)
		return vc_fail_errno(errno, "a random VM generation ID");
	return 0;
}

int vc_vmgenid_set(struct vc_vmgenid *v, const uint8_t *id)
{
	uint8_t fresh[VC_VMGENID_SIZE];
	int r = id ? 0 : make_id(fresh);

	if (r < 0)
		return r;
	pthread_mutex_lock(&v->lock);
	memcpy(v->id, id ? id : fresh, sizeof v->id);
	if (v->told) {
		r = put(v);
		vc_line_set(&v->event, true);
		vc_line_set(&v->event, false);
	}
	pthread_mutex_unlock(&v->lock);
	vc_line_flush(&v->event);
	return r;
}

void vc_vmgenid_get(struct vc_vmgenid *v, uint8_t id[VC_VMGENID_SIZE])
{
	pthread_mutex_lock(&v->lock);
	memcpy(id, v->id, sizeof v->id);
	pthread_mutex_unlock(&v->lock);
}

/* Until tables are written again. */
static void vmgenid_reset(void *ctx)
{
	struct vc_vmgenid *v = ctx;

	pthread_mutex_lock(&v->lock);
	v->told = false;
	pthread_mutex_unlock(&v->lock);
}

static int64_t vmgenid_save(void *ctx, void *buffer, size_t length)
{
	struct vc_vmgenid *v = ctx;
	struct vmgenid_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&v->lock);
	memcpy(state.id, v->id, sizeof state.id);
	state.told = v->told;
	pthread_mutex_unlock(&v->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

/* The same machine goes on. Who makes another one of it says so by vc_vmgenid_set(). */
static int vmgenid_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_vmgenid *v = ctx;
	struct vmgenid_state state;
	int r = vc_dev_state_in("vmgenid", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r < 0)
		return r;
	if (state.told > 1)
		return vc_fail(EINVAL, "the saved state of a vmgenid says %u: expected 0 or 1", state.told);
	pthread_mutex_lock(&v->lock);
	v->told = state.told;
	memcpy(v->id, state.id, sizeof v->id);
	pthread_mutex_unlock(&v->lock);
	return 0;
}

static void vmgenid_destroy(void *ctx)
{
	struct vc_vmgenid *v = ctx;

	pthread_mutex_destroy(&v->lock);
	free(v);
}

static const struct vcore_device_ops vmgenid_ops = {
    .size = sizeof vmgenid_ops,
    .reset = vmgenid_reset,
    .save = vmgenid_save,
    .load = vmgenid_load,
    .destroy = vmgenid_destroy,
};

int vc_vmgenid_new(struct vc_env *env, struct vc_vmgenid **out)
{
	struct vc_vmgenid *v = calloc(1, sizeof *v);
	struct vc_dev *dev;
	int r;

	if (!v)
		return vc_fail(ENOMEM, "no memory for a VM generation ID");
	v->env = env;
	pthread_mutex_init(&v->lock, NULL);
	vc_line_init(&v->event, env->irqs, VC_VMGENID_GSI, NULL);
	r = make_id(v->id);
	if (r < 0) {
		vmgenid_destroy(v);
		return r;
	}
	r = vc_dev_add(env->buses, "vmgenid", &vmgenid_ops, v, &dev);
	if (r < 0)
		return r;
	r = vc_dev_take_gsi(env->buses, dev, VC_VMGENID_GSI);
	if (r >= 0)
		*out = v;
	else
		vc_dev_remove(env->buses, NULL, dev);
	return r < 0 ? r : 0;
}
