/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * IOMMU device (5.13): has the guest decide what the functions of the PCI bus may reach; bus/iommu.h does it. Requests
 * that take something away wait for who still uses it, on this device's own thread.
 */
#include "virtio/iommu.h"

#include <errno.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/util.h"
#include "virtio/types.h"

enum { CONFIG_BYPASS = 36, QUEUE_SIZE = 256 };

struct viommu_config {
	uint64_t page_size_mask;
	uint64_t input_first, input_last;
	uint32_t domain_first, domain_last;
	uint32_t probe_size;
	uint8_t bypass, reserved[3];
};

struct fault_event {
	uint8_t reason, reserved[3];
	uint32_t flags, endpoint, reserved1;
	uint64_t address;
};
#define FAULT_HAS_ADDRESS (1u << 8)

/* ---- faults ---- */

static void take_fault(void *ctx, const struct vc_iommu_fault *fault)
{
	struct viommu *m = ctx;

	pthread_mutex_lock(&m->lock);
	if (m->count < VIOMMU_FAULTS_MAX)
		m->faults[(m->first + m->count++) % VIOMMU_FAULTS_MAX] = *fault;
	else
		m->lost++;
	pthread_mutex_unlock(&m->lock);
	vc_virtio_wake(m->v, VIOMMU_EVENTQ);
}

static bool next_fault(struct viommu *m, struct vc_iommu_fault *fault)
{
	bool found;

	pthread_mutex_lock(&m->lock);
	found = m->count > 0;
	if (found) {
		*fault = m->faults[m->first];
		m->first = (m->first + 1) % VIOMMU_FAULTS_MAX;
		m->count--;
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static bool has_fault(struct viommu *m)
{
	bool has;

	pthread_mutex_lock(&m->lock);
	has = m->count > 0;
	pthread_mutex_unlock(&m->lock);
	return has;
}

/* A buffer that is too small gets nothing, and the next report. */
static void tell_fault(struct viommu *m, struct vc_virtq_chain *chain)
{
	struct vc_iommu_fault fault;
	struct fault_event event;
	uint32_t written = 0;

	if (chain->in_bytes >= sizeof event && next_fault(m, &fault)) {
		event = (struct fault_event){.reason = (uint8_t)fault.reason,
		                             .flags = fault.access | FAULT_HAS_ADDRESS,
		                             .endpoint = fault.endpoint,
		                             .address = fault.iova};
		written = (uint32_t)vc_iov_from_buffer(chain->in, chain->in_count, 0, &event, sizeof event);
	}
	vc_virtq_push(chain, written);
}

/* ---- the device ---- */

static uint64_t viommu_features(void *ctx)
{
	return VIOMMU_F_INPUT_RANGE | VIOMMU_F_DOMAIN_RANGE | VIOMMU_F_MAP_UNMAP | VIOMMU_F_PROBE | VIOMMU_F_MMIO |
	       VIOMMU_F_BYPASS_CONFIG;
}

static void viommu_config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
	struct viommu *m = ctx;
	struct viommu_config config = {
	    .page_size_mask = ~(uint64_t)(VC_IOMMU_PAGE - 1),
	    .input_last = vc_iommu_last(m->iommu),
	    .domain_last = UINT32_MAX,
	    .probe_size = VIOMMU_PROBE_SIZE,
	    .bypass = vc_iommu_bypass(m->iommu),
	};

	memcpy(data, (const uint8_t *)&config + offset, length);
}

/* A byte is all that a driver may write. */
static void viommu_config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
	struct viommu *m = ctx;
	uint8_t value = *(const uint8_t *)data;

	if (offset == CONFIG_BYPASS && length == 1 && value <= 1 && vc_virtio_has(m->v, VIOMMU_F_BYPASS_CONFIG))
		vc_iommu_set_bypass(m->iommu, value);
}

static void viommu_notify(void *ctx, struct vc_virtq *q)
{
	struct viommu *m = ctx;
	bool events = vc_virtq_index(q) == VIOMMU_EVENTQ;
	struct vc_virtq_chain *chain;

	do {
		vc_virtq_notify_off(q);
		while ((!events || has_fault(m)) && vc_virtq_pop(q, &chain) > 0) {
			if (events)
				tell_fault(m, chain);
			else
				viommu_request(m, chain);
		}
		vc_virtq_flush(q);
		/* a buffer for reports waits until there is one */
	} while (vc_virtq_notify_on(q) && (!events || has_fault(m)));
}

static void viommu_reset(void *ctx)
{
	struct viommu *m = ctx;

	vc_iommu_clear(m->iommu);
	pthread_mutex_lock(&m->lock);
	m->count = 0;
	pthread_mutex_unlock(&m->lock);
}

static void viommu_vm_reset(void *ctx)
{
	struct viommu *m = ctx;

	vc_iommu_set_bypass(m->iommu, m->bypass_at_first);
}

static int64_t viommu_save(void *ctx, void *buffer, size_t length)
{
	return vc_iommu_save(((struct viommu *)ctx)->iommu, buffer, length);
}

static int viommu_load(void *ctx, const void *buffer, size_t length)
{
	struct viommu *m = ctx;

	return vc_iommu_load(m->iommu, m->env->pci, buffer, length);
}

static unsigned viommu_statistics(void *ctx, struct vc_stat stats[VC_STATS_MAX])
{
	struct viommu *m = ctx;
	struct vc_iommu_counts counts;

	vc_iommu_count(m->iommu, &counts);
	stats[0] = (struct vc_stat){"domains", counts.domains};
	stats[1] = (struct vc_stat){"mappings", counts.mappings};
	stats[2] = (struct vc_stat){"faults", counts.faults};
	pthread_mutex_lock(&m->lock);
	stats[3] = (struct vc_stat){"faults_lost", m->lost};
	pthread_mutex_unlock(&m->lock);
	return 4;
}

static void viommu_destroy(void *ctx)
{
	struct viommu *m = ctx;

	if (m->iommu)
		vc_iommu_set_driver(m->iommu, NULL, 0);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct vc_virtio_ops viommu_ops = {
    .type = "virtio-iommu",
    .id = VC_VIRTIO_IOMMU,
    .pci_class = 0x080600, /* base system peripheral: IOMMU */
    .config_size = sizeof(struct viommu_config),
    .in_order = true,
    .untranslated = true,
    .features = viommu_features,
    .config_read = viommu_config_read,
    .config_write = viommu_config_write,
    .reset = viommu_reset,
    .notify = viommu_notify,
    .save = viommu_save,
    .load = viommu_load,
    .vm_reset = viommu_vm_reset,
    .statistics = viommu_statistics,
    .destroy = viommu_destroy,
};

/* ---- making ---- */

struct settings {
	bool bypass;
	uint64_t mappings;
};

static int read_settings(const struct vc_env *env, struct vc_props *props, struct settings *s)
{
	const char *transport = vc_props_string(props, "transport", "pci"),
	           *worker = vc_props_string(props, "worker", NULL);
	const char *address = vc_props_string(props, "addr", "");
	int r;

	if (!env->pci)
		return vc_fail(ENOTSUP, "a virtio-iommu stands between PCI devices and memory: this machine has no PCI");
	if (strcmp(transport, "pci") != 0)
		return vc_fail(EINVAL, "virtio-iommu: property transport=%s: expected pci", transport);
	if (worker && strcmp(worker, "thread") != 0)
		return vc_fail(EINVAL, "virtio-iommu: property worker=%s: expected thread, for it waits for other devices",
		               worker);
	if (strchr(address, '/'))
		return vc_fail(EINVAL, "virtio-iommu: property addr=%s: expected a place on bus 0, where its number is fixed",
		               address);
	r = vc_props_bool(props, "bypass", true, &s->bypass);
	return r < 0 ? r : vc_props_u64(props, "mappings", VC_IOMMU_MAPPINGS, 1, 1u << 22, &s->mappings);
}

/* m->iommu is set once it is ours. */
static int take_iommu(struct viommu *m, const struct settings *s)
{
	struct vc_iommu *iommu;
	int r = vc_pci_make_iommu(m->env->pci, m->env->log, &iommu);

	if (r < 0)
		return r;
	r = vc_iommu_set_driver(iommu, &(struct vc_iommu_driver){.fault = take_fault, .ctx = m}, (uint32_t)s->mappings);
	if (r >= 0) {
		m->iommu = iommu;
		vc_iommu_set_bypass(iommu, s->bypass);
	}
	return r;
}

static int viommu_create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	static const uint16_t sizes[VIOMMU_QUEUES] = {QUEUE_SIZE, QUEUE_SIZE};
	struct vc_virtio_config config = {
	    .ops = &viommu_ops, .queues = VIOMMU_QUEUES, .sizes = sizes, .worker_threads = true};
	struct settings s;
	struct viommu *m;
	int r = read_settings(env, props, &s);

	if (r < 0)
		return r;
	m = calloc(1, sizeof *m);
	if (!m)
		return vc_fail(ENOMEM, "no memory for a virtio-iommu");
	m->env = env;
	m->bypass_at_first = s.bypass;
	pthread_mutex_init(&m->lock, NULL);
	r = take_iommu(m, &s);
	if (r < 0) {
		viommu_destroy(m);
		return r;
	}
	config.ctx = m;
	r = vc_virtio_add(env, props, &config, &m->v, dev);
	if (r >= 0)
		vc_iommu_set_function(m->iommu, vc_pci_function_of(*dev));
	return r;
}

const struct vc_device_type vc_virtio_iommu_type = {
    .name = "virtio-iommu",
    .summary = "what PCI devices reach of memory is the guest's choice; added before the devices behind it",
    .properties = "bypass     on: devices that no driver of it has taken charge of reach all memory (on)\n"
                  "mappings   how many there may be at once (65536)\n"
                  "packed     on: packed virtqueues are offered (off)\n"
                  "event_idx  notifications at a chosen point of a queue are offered (on)\n"
                  "indirect   indirect descriptors are offered (on)\n"
                  "addr       device or device.function on bus 0 (free one)\n",
    .create = viommu_create,
};
