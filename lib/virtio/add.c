/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A virtio device from its properties. */
#include <errno.h>

#include "core/error.h"
#include "core/util.h"
#include "virtio/virtio.h"

static const struct transport {
	const char *name;
	int (*add)(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
	           uint64_t ring_features, struct vc_virtio **out, struct vc_dev **dev);
} transports[] = {
    {"mmio", vc_virtio_mmio_add},
    {"pci", vc_virtio_pci_add},
};

static int find_transport(const struct vc_env *env, struct vc_props *props, struct transport *transport)
{
	const char *name = vc_props_string(props, "transport", env->pci ? "pci" : "mmio");

	for (unsigned i = 0; i < VC_ARRAY_SIZE(transports); i++) {
		if (!strcmp(name, transports[i].name)) {
			*transport = transports[i];
			return 0;
		}
	}
	return vc_fail(EINVAL, "property transport=%s: expected mmio or pci", name);
}

static int read_worker(struct vc_props *props, struct vc_virtio_config *config)
{
	const char *word = vc_props_string(props, "worker", config->worker_threads ? "thread" : "loop");

	config->worker_threads = !strcmp(word, "thread");
	return config->worker_threads || !strcmp(word, "loop")
	           ? 0
	           : vc_fail(EINVAL, "property worker=%s: expected loop or thread", word);
}

/* Properties that switch a ring feature. */
static int read_rings(struct vc_props *props, uint64_t *features)
{
	static const struct {
		const char *key;
		uint64_t feature;
		bool fallback;
	} rings[] = {
	    {"packed", VC_VIRTIO_F_RING_PACKED, false},
	    {"event_idx", VC_VIRTIO_F_EVENT_IDX, true},
	    {"indirect", VC_VIRTIO_F_INDIRECT_DESC, true},
	};
	bool on;
	int r = 0;

	*features = VC_VIRTIO_F_RING_RESET;
	for (unsigned i = 0; r >= 0 && i < VC_ARRAY_SIZE(rings); i++) {
		r = vc_props_bool(props, rings[i].key, rings[i].fallback, &on);
		*features |= on ? rings[i].feature : 0;
	}
	return r;
}

int vc_virtio_add(struct vc_env *env, struct vc_props *props, const struct vc_virtio_config *config,
                  struct vc_virtio **out, struct vc_dev **dev)
{
	struct vc_virtio_config copy = *config;
	struct transport transport = {"host", env->virtio_host ? env->virtio_host->add : NULL};
	uint64_t features;
	int r = env->virtio_host ? 0 : find_transport(env, props, &transport);

	if (r >= 0)
		r = read_worker(props, &copy);
	if (r >= 0)
		r = read_rings(props, &features);
	if (r < 0) {
		config->ops->destroy(config->ctx);
		return r;
	}
	r = transport.add(env, props, &copy, features, out, dev);
	if (r < 0)
		return r;
	(*dev)->hold = vc_virtio_hold;
	(*dev)->hold_ctx = *out;
	/* from here on it can be found */
	vc_dev_set_frontend(env->buses, *dev, config->ctx, config->ops->statistics);
	return 0;
}
