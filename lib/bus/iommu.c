/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domains and endpoints: all that changes what an endpoint may reach. */
#include "bus/iommu.h"

#include <stdlib.h>
#include <sys/random.h>
#include <virtcore/error.h>

#include "bus/iommu_priv.h"
#include "core/error.h"
#include "core/util.h"

/* ---- making and freeing ---- */

int vc_iommu_new(struct vc_buses *buses, const struct vc_log *log, struct vc_iommu **out)
{
	struct vc_iommu *iommu = calloc(1, sizeof *iommu);

	if (!iommu)
		return vc_fail(ENOMEM, "no memory for an IOMMU");
	iommu->buses = buses;
	iommu->log = log;
	iommu->bypass = true;
	if (getrandom(&iommu->random, sizeof iommu->random, 0) < 0 || !iommu->random)
		iommu->random = (uintptr_t)iommu;
	pthread_mutex_init(&iommu->change, NULL);
	pthread_rwlock_init(&iommu->lock, NULL);
	pthread_mutex_init(&iommu->pool_lock, NULL);
	pthread_cond_init(&iommu->let_go, NULL);
	*out = iommu;
	return 0;
}

void vc_iommu_free(struct vc_iommu *iommu)
{
	if (!iommu)
		return;
	while (iommu->chunks) {
		struct iommu_chunk *chunk = iommu->chunks;

		iommu->chunks = chunk->next;
		free(chunk);
	}
	pthread_cond_destroy(&iommu->let_go);
	pthread_mutex_destroy(&iommu->pool_lock);
	pthread_rwlock_destroy(&iommu->lock);
	pthread_mutex_destroy(&iommu->change);
	free(iommu);
}

int iommu_endpoint_new(struct vc_iommu *iommu, struct vc_pci_function *f, struct vc_dev *dev,
                       struct vc_iommu_endpoint **out)
{
	struct vc_iommu_endpoint *e = calloc(1, sizeof *e), **at = &iommu->endpoints;

	if (!e)
		return vc_fail(ENOMEM, "no memory for a PCI function behind an IOMMU");
	e->iommu = iommu;
	e->function = f;
	e->dev = dev;
	e->version = 1; /* no cache's that is all zeros */
	e->identity.iommu = iommu;
	e->identity.range =
	    (struct vc_iommu_range){.last = UINT64_MAX - 1, .flags = VC_IOMMU_READ | VC_IOMMU_WRITE | VC_IOMMU_MMIO};
	pthread_mutex_lock(&iommu->change);
	pthread_rwlock_wrlock(&iommu->lock);
	while (*at && (*at)->dev->id < dev->id)
		at = &(*at)->next;
	e->next = *at;
	*at = e;
	pthread_rwlock_unlock(&iommu->lock);
	pthread_mutex_unlock(&iommu->change);
	*out = e;
	return 0;
}

void vc_iommu_on_revoke(struct vc_iommu_endpoint *e, void (*revoke)(void *ctx), void *ctx)
{
	pthread_rwlock_wrlock(&e->iommu->lock);
	e->revoke = revoke;
	e->revoke_ctx = ctx;
	pthread_rwlock_unlock(&e->iommu->lock);
}

/* ---- those who hold what is taken away ---- */

static void revoke(struct vc_iommu_endpoint *e)
{
	void (*call)(void *ctx);
	void *ctx;

	pthread_rwlock_rdlock(&e->iommu->lock);
	call = e->revoke;
	ctx = e->revoke_ctx;
	pthread_rwlock_unlock(&e->iommu->lock);
	if (call)
		call(ctx);
}

/* The next endpoint of a domain, from that device on, which is visited. One whose device goes lets go by itself. */
static struct vc_iommu_endpoint *visit_next(struct vc_iommu *iommu, const struct iommu_domain *domain, uint32_t id,
                                            struct vc_visit *visit)
{
	struct vc_iommu_endpoint *e;

	pthread_rwlock_rdlock(&iommu->lock);
	for (e = iommu->endpoints; e; e = e->next)
		if (e->dev->id >= id && e->domain == domain && vc_dev_visit(iommu->buses, visit, e->dev))
			break;
	pthread_rwlock_unlock(&iommu->lock);
	return e;
}

static void revoke_all(struct vc_iommu *iommu, const struct iommu_domain *domain)
{
	struct vc_iommu_endpoint *e;
	struct vc_visit visit;
	uint32_t id = 0;

	while ((e = visit_next(iommu, domain, id, &visit))) {
		revoke(e);
		id = e->dev->id + 1;
		vc_dev_leave(iommu->buses, &visit);
	}
}

/* ---- listeners; all with `change` held ---- */

static void untell_domain(struct vc_iommu_endpoint *e, const struct iommu_domain *domain, uint64_t end)
{
	const struct vc_iommu_mapping *m = iommu_tree_from(domain->root, 0);

	for (; m && m->range.first < end; m = iommu_tree_from(domain->root, m->range.last + 1))
		e->listener->unmap(e->listener_ctx, &m->range);
}

static int tell_domain(struct vc_iommu_endpoint *e, const struct iommu_domain *domain)
{
	const struct vc_iommu_mapping *m = iommu_tree_from(domain->root, 0);
	int r = 0;

	for (; r >= 0 && m; m = iommu_tree_from(domain->root, m->range.last + 1)) {
		r = e->listener->map(e->listener_ctx, &m->range);
		if (r < 0)
			untell_domain(e, domain, m->range.first);
	}
	return r < 0 ? r : 0;
}

/* What it reaches now, and that it does no more. */
static int tell(struct vc_iommu_endpoint *e)
{
	int r = 0;

	if (!e->listener)
		return 0;
	if (iommu_is_identity(e))
		r = e->listener->bypass(e->listener_ctx, true);
	else if (e->domain)
		r = tell_domain(e, e->domain);
	e->told = r >= 0;
	return r < 0 ? r : 0;
}

static void untell(struct vc_iommu_endpoint *e)
{
	if (!e->listener || !e->told)
		return;
	if (iommu_is_identity(e))
		e->listener->bypass(e->listener_ctx, false);
	else if (e->domain)
		untell_domain(e, e->domain, UINT64_MAX);
	e->told = false;
}

int vc_iommu_listen(struct vc_iommu_endpoint *e, const struct vc_iommu_listener *listener, void *ctx)
{
	int r = 0;

	pthread_mutex_lock(&e->iommu->change);
	if (e->listener)
		r = vc_fail(EBUSY, "somebody follows the IOMMU for the %s already", e->dev->type);
	if (r >= 0) {
		e->listener = listener;
		e->listener_ctx = ctx;
		r = tell(e);
		if (r < 0)
			e->listener = NULL;
	}
	pthread_mutex_unlock(&e->iommu->change);
	return r;
}

void vc_iommu_unlisten(struct vc_iommu_endpoint *e)
{
	pthread_mutex_lock(&e->iommu->change);
	untell(e);
	e->listener = NULL;
	pthread_mutex_unlock(&e->iommu->change);
}

/* ---- domains; all with `change` held, so that they can be read without `lock` ---- */

static struct iommu_domain *find_domain(struct vc_iommu *iommu, uint32_t id)
{
	struct iommu_domain *d = iommu->domains;

	while (d && d->id != id)
		d = d->next;
	return d;
}

static bool has_endpoints(const struct vc_iommu *iommu, const struct iommu_domain *domain)
{
	const struct vc_iommu_endpoint *e = iommu->endpoints;

	while (e && e->domain != domain)
		e = e->next;
	return e != NULL;
}

static void drop_empty(struct vc_iommu *iommu, struct iommu_domain *domain)
{
	struct iommu_domain **at = &iommu->domains;
	struct vc_iommu_mapping *m;

	if (!domain || has_endpoints(iommu, domain))
		return;
	pthread_rwlock_wrlock(&iommu->lock);
	while (*at != domain)
		at = &(*at)->next;
	*at = domain->next;
	pthread_rwlock_unlock(&iommu->lock);
	while ((m = iommu_tree_pop(&domain->root)))
		iommu_mapping_retire(iommu, m);
	free(domain);
}

static void switch_domain(struct vc_iommu_endpoint *e, struct iommu_domain *to)
{
	struct vc_iommu *iommu = e->iommu;
	struct iommu_domain *from = e->domain;

	untell(e);
	pthread_rwlock_wrlock(&iommu->lock);
	e->domain = to;
	atomic_fetch_add(&e->version, 1);
	pthread_rwlock_unlock(&iommu->lock);
	atomic_store(&e->logged, 0);
	drop_empty(iommu, from);
}

/* e is in no domain: a listener that does not take the bypass leaves its device with nothing. */
static void tell_bypass(struct vc_iommu_endpoint *e)
{
	if (tell(e) < 0)
		vc_log(e->iommu->log, VCORE_LOG_WARN, "%s reaches no memory: %s", e->dev->type, vcore_error_message());
}

static void move_out(struct vc_iommu_endpoint *e)
{
	switch_domain(e, NULL);
	tell_bypass(e);
}

void iommu_endpoint_free(struct vc_iommu_endpoint *e)
{
	struct vc_iommu *iommu = e->iommu;
	struct vc_iommu_endpoint **at = &iommu->endpoints;

	pthread_mutex_lock(&iommu->change);
	pthread_rwlock_wrlock(&iommu->lock);
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	pthread_rwlock_unlock(&iommu->lock);
	drop_empty(iommu, e->domain);
	pthread_mutex_unlock(&iommu->change);
	free(e);
}

static struct iommu_domain *new_domain(struct vc_iommu *iommu, uint32_t id, bool bypass)
{
	struct iommu_domain *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	*d = (struct iommu_domain){.next = iommu->domains, .id = id, .bypass = bypass};
	pthread_rwlock_wrlock(&iommu->lock);
	iommu->domains = d;
	pthread_rwlock_unlock(&iommu->lock);
	return d;
}

static int enter(struct vc_iommu_endpoint *e, uint32_t id, bool bypass)
{
	struct iommu_domain *d = find_domain(e->iommu, id);
	int r;

	if (d && d->bypass != bypass)
		return -EINVAL;
	if (!d && !(d = new_domain(e->iommu, id, bypass)))
		return -ENOMEM;
	if (d == e->domain)
		return 0;
	switch_domain(e, d);
	r = tell(e);
	if (r < 0)
		move_out(e);
	return r;
}

/* Have e let go of what it held before. With no lock. */
static void settle_endpoint(struct vc_iommu_endpoint *e, uint64_t change)
{
	revoke(e);
	iommu_settle(e->iommu, change);
}

int vc_iommu_attach(struct vc_iommu_endpoint *e, uint32_t domain, bool bypass)
{
	struct vc_iommu *iommu = e->iommu;
	uint64_t before, change;
	bool moved;
	int r;

	pthread_mutex_lock(&iommu->change);
	change = iommu_change(iommu);
	before = atomic_load(&e->version);
	r = enter(e, domain, bypass);
	moved = atomic_load(&e->version) != before;
	pthread_mutex_unlock(&iommu->change);
	if (moved)
		settle_endpoint(e, change);
	return r;
}

int vc_iommu_detach(struct vc_iommu_endpoint *e, uint32_t domain)
{
	struct vc_iommu *iommu = e->iommu;
	uint64_t change;
	bool attached;

	pthread_mutex_lock(&iommu->change);
	change = iommu_change(iommu);
	attached = e->domain && e->domain->id == domain;
	if (attached)
		move_out(e);
	pthread_mutex_unlock(&iommu->change);
	if (!attached)
		return -EINVAL;
	settle_endpoint(e, change);
	return 0;
}

/* ---- mappings ---- */

static bool is_pages(const struct vc_iommu_range *r)
{
	return VC_IS_ALIGNED(r->first | r->gpa | (r->last + 1), (uint64_t)VC_IOMMU_PAGE) && r->first < r->last &&
	       r->last <= VC_IOMMU_LAST && r->gpa <= UINT64_MAX - (r->last - r->first) &&
	       (r->last < VC_IOMMU_MSI_FIRST || r->first > VC_IOMMU_MSI_LAST);
}

static void untell_range(struct vc_iommu *iommu, const struct iommu_domain *d, const struct vc_iommu_range *range,
                         const struct vc_iommu_endpoint *end)
{
	for (struct vc_iommu_endpoint *e = iommu->endpoints; e != end; e = e->next)
		if (e->domain == d && e->listener)
			e->listener->unmap(e->listener_ctx, range);
}

static int tell_range(struct vc_iommu *iommu, const struct iommu_domain *d, const struct vc_iommu_range *range)
{
	int r = 0;

	for (struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next) {
		if (e->domain != d || !e->listener)
			continue;
		r = e->listener->map(e->listener_ctx, range);
		if (r >= 0)
			continue;
		untell_range(iommu, d, range, e);
		return r;
	}
	return 0;
}

static int add_range(struct vc_iommu *iommu, struct iommu_domain *d, const struct vc_iommu_range *range)
{
	struct vc_iommu_mapping *m = iommu_tree_below(d->root, range->last);
	int r;

	if (m && m->range.last >= range->first)
		return -EINVAL;
	m = iommu_mapping_new(iommu, range);
	if (!m)
		return -ENOMEM;
	r = tell_range(iommu, d, range);
	if (r < 0) {
		iommu_mapping_retire(iommu, m);
		return r;
	}
	pthread_rwlock_wrlock(&iommu->lock);
	iommu_tree_insert(&d->root, m);
	pthread_rwlock_unlock(&iommu->lock);
	return 0;
}

int vc_iommu_map(struct vc_iommu *iommu, uint32_t domain, const struct vc_iommu_range *range)
{
	struct iommu_domain *d;
	int r;

	if (!is_pages(range))
		return -ERANGE;
	pthread_mutex_lock(&iommu->change);
	d = find_domain(iommu, domain);
	r = !d ? -ENOENT : d->bypass ? -EINVAL : add_range(iommu, d, range);
	pthread_mutex_unlock(&iommu->change);
	return r;
}

/* A mapping that reaches over the end of a range, from below. */
static bool crosses(struct vc_iommu_mapping *root, uint64_t first, uint64_t at)
{
	const struct vc_iommu_mapping *m = iommu_tree_below(root, first);

	return m && m->range.first < at && m->range.last >= at;
}

static int cut_range(struct vc_iommu *iommu, struct iommu_domain *d, uint64_t first, uint64_t last)
{
	struct vc_iommu_mapping *cut, *m;

	if (crosses(d->root, first, first) || crosses(d->root, last, last + 1))
		return -ERANGE;
	pthread_rwlock_wrlock(&iommu->lock);
	cut = iommu_tree_cut(&d->root, first, last);
	for (struct vc_iommu_endpoint *e = iommu->endpoints; cut && e; e = e->next)
		if (e->domain == d)
			atomic_fetch_add(&e->version, 1);
	pthread_rwlock_unlock(&iommu->lock);
	while ((m = iommu_tree_pop(&cut))) {
		untell_range(iommu, d, &m->range, NULL);
		iommu_mapping_retire(iommu, m);
	}
	return 0;
}

int vc_iommu_unmap(struct vc_iommu *iommu, uint32_t domain, uint64_t first, uint64_t last)
{
	struct iommu_domain *d;
	uint64_t change;
	int r;

	if (first > last)
		return -ERANGE;
	last = last < VC_IOMMU_LAST ? last : VC_IOMMU_LAST;
	pthread_mutex_lock(&iommu->change);
	change = iommu_change(iommu);
	d = find_domain(iommu, domain);
	r = !d ? -ENOENT : d->bypass ? -EINVAL : first > last ? 0 : cut_range(iommu, d, first, last);
	pthread_mutex_unlock(&iommu->change);
	if (r >= 0 && !iommu_settled(iommu, change)) {
		revoke_all(iommu, d);
		iommu_settle(iommu, change);
	}
	return r;
}

/* ---- the whole ---- */

bool vc_iommu_bypass(struct vc_iommu *iommu)
{
	bool bypass;

	pthread_rwlock_rdlock(&iommu->lock);
	bypass = iommu->bypass;
	pthread_rwlock_unlock(&iommu->lock);
	return bypass;
}

/* `change` is held. */
static void switch_bypass(struct vc_iommu *iommu, bool on)
{
	for (struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next)
		if (!e->domain)
			untell(e);
	pthread_rwlock_wrlock(&iommu->lock);
	iommu->bypass = on;
	for (struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next)
		if (!e->domain)
			atomic_fetch_add(&e->version, 1);
	pthread_rwlock_unlock(&iommu->lock);
	for (struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next)
		if (!e->domain)
			tell_bypass(e);
}

void vc_iommu_set_bypass(struct vc_iommu *iommu, bool on)
{
	bool changed;

	pthread_mutex_lock(&iommu->change);
	changed = iommu->bypass != on;
	if (changed)
		switch_bypass(iommu, on);
	pthread_mutex_unlock(&iommu->change);
	if (changed && !on)
		revoke_all(iommu, NULL);
}

/* `change` is held. */
static void clear(struct vc_iommu *iommu)
{
	iommu_change(iommu);
	for (struct vc_iommu_endpoint *e = iommu->endpoints; e; e = e->next)
		if (e->domain)
			move_out(e);
}

void vc_iommu_clear(struct vc_iommu *iommu)
{
	bool blocked;

	pthread_mutex_lock(&iommu->change);
	blocked = iommu->domains && !iommu->bypass;
	clear(iommu);
	pthread_mutex_unlock(&iommu->change);
	/* in bypass, what is in flight would be looked up where it does not belong */
	if (blocked)
		revoke_all(iommu, NULL);
}

int vc_iommu_set_driver(struct vc_iommu *iommu, const struct vc_iommu_driver *driver, uint32_t max_mappings)
{
	int r = 0;

	pthread_mutex_lock(&iommu->change);
	if (driver && iommu->driver.fault) {
		r = vc_fail(EBUSY, "the PCI bus has an IOMMU already");
	} else {
		pthread_rwlock_wrlock(&iommu->lock);
		iommu->driver = driver ? *driver : (struct vc_iommu_driver){0};
		pthread_rwlock_unlock(&iommu->lock);
		pthread_mutex_lock(&iommu->pool_lock);
		iommu->max_mappings = max_mappings;
		pthread_mutex_unlock(&iommu->pool_lock);
	}
	if (!driver) {
		clear(iommu);
		if (!iommu->bypass)
			switch_bypass(iommu, true);
	}
	pthread_mutex_unlock(&iommu->change);
	return r;
}

void vc_iommu_set_function(struct vc_iommu *iommu, struct vc_pci_function *function)
{
	pthread_rwlock_wrlock(&iommu->lock);
	iommu->driver.function = function;
	pthread_rwlock_unlock(&iommu->lock);
}

struct vc_pci_function *vc_iommu_function(struct vc_iommu *iommu)
{
	struct vc_pci_function *function;

	pthread_rwlock_rdlock(&iommu->lock);
	function = iommu->driver.function;
	pthread_rwlock_unlock(&iommu->lock);
	return function;
}

void vc_iommu_count(struct vc_iommu *iommu, struct vc_iommu_counts *counts)
{
	*counts = (struct vc_iommu_counts){.faults = atomic_load(&iommu->faults)};
	pthread_rwlock_rdlock(&iommu->lock);
	for (const struct iommu_domain *d = iommu->domains; d; d = d->next)
		counts->domains++;
	pthread_rwlock_unlock(&iommu->lock);
	pthread_mutex_lock(&iommu->pool_lock);
	counts->mappings = iommu->mappings;
	pthread_mutex_unlock(&iommu->pool_lock);
}
