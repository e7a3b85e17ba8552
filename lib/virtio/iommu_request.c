/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests of the IOMMU device (5.13.6): parsed, checked, and answered once they are done with. */
#include <errno.h>

#include "core/util.h"
#include "virtio/iommu.h"

enum { T_ATTACH = 1, T_DETACH = 2, T_MAP = 3, T_UNMAP = 4, T_PROBE = 5 };
enum {
	S_OK = 0,
	S_IOERR = 1,
	S_UNSUPP = 2,
	S_DEVERR = 3,
	S_INVAL = 4,
	S_RANGE = 5,
	S_NOENT = 6,
	S_NOMEM = 8,
};
enum { ATTACH_BYPASS = 1, PROBE_RESV_MEM = 1, RESV_MEM_RESERVED = 0, RESV_MEM_MSI = 1 };

struct attach {
	uint32_t head, domain, endpoint, flags, reserved;
};

struct detach {
	uint32_t head, domain, endpoint, reserved[2];
};

struct map {
	uint32_t head, domain;
	uint64_t first, last, gpa;
	uint32_t flags;
} __attribute__((packed));

struct unmap {
	uint32_t head, domain;
	uint64_t first, last;
	uint32_t reserved;
} __attribute__((packed));

struct probe {
	uint32_t head, endpoint;
	uint8_t reserved[64];
};

struct resv_mem {
	uint16_t type, length;
	uint8_t subtype, reserved[3];
	uint64_t first, last;
} __attribute__((packed));

union request {
	uint8_t type;
	struct attach attach;
	struct detach detach;
	struct map map;
	struct unmap unmap;
	struct probe probe;
};

static uint8_t status_of(int r)
{
	static const struct {
		int error;
		uint8_t status;
	} rows[] = {{-EINVAL, S_INVAL}, {-ERANGE, S_RANGE}, {-ENOENT, S_NOENT}, {-ENOMEM, S_NOMEM}, {-ENOSPC, S_NOMEM}};

	if (r >= 0)
		return S_OK;
	for (unsigned i = 0; i < VC_ARRAY_SIZE(rows); i++)
		if (rows[i].error == r)
			return rows[i].status;
	return S_DEVERR;
}

static uint8_t do_attach(struct viommu *m, const union request *request, uint8_t *properties)
{
	const struct attach *a = &request->attach;
	uint32_t known = vc_virtio_has(m->v, VIOMMU_F_BYPASS_CONFIG) ? ATTACH_BYPASS : 0;
	struct vc_iommu_endpoint *e;
	struct vc_visit visit;
	int r;

	if (a->reserved || a->flags & ~known)
		return S_INVAL;
	e = vc_pci_visit_requester(m->env->pci, a->endpoint, &visit);
	if (!e)
		return S_NOENT;
	r = vc_iommu_attach(e, a->domain, a->flags & ATTACH_BYPASS);
	vc_dev_leave(m->env->buses, &visit);
	return status_of(r);
}

static uint8_t do_detach(struct viommu *m, const union request *request, uint8_t *properties)
{
	const struct detach *d = &request->detach;
	struct vc_visit visit;
	struct vc_iommu_endpoint *e = vc_pci_visit_requester(m->env->pci, d->endpoint, &visit);
	int r;

	if (!e)
		return S_NOENT;
	r = vc_iommu_detach(e, d->domain);
	vc_dev_leave(m->env->buses, &visit);
	return status_of(r);
}

static uint8_t do_map(struct viommu *m, const union request *request, uint8_t *properties)
{
	const struct map *a = &request->map;
	uint32_t known =
	    VC_IOMMU_READ | VC_IOMMU_WRITE | (vc_virtio_has(m->v, VIOMMU_F_MMIO) ? (uint32_t)VC_IOMMU_MMIO : 0);

	if (a->flags & ~known)
		return S_INVAL;
	return status_of(vc_iommu_map(m->iommu, a->domain, &(struct vc_iommu_range){a->first, a->last, a->gpa, a->flags}));
}

static uint8_t do_unmap(struct viommu *m, const union request *request, uint8_t *properties)
{
	const struct unmap *u = &request->unmap;

	return u->reserved ? S_INVAL : status_of(vc_iommu_unmap(m->iommu, u->domain, u->first, u->last));
}

static uint8_t *put_reserved(uint8_t *to, uint8_t subtype, uint64_t first, uint64_t last)
{
	const struct resv_mem property = {
	    .type = PROBE_RESV_MEM, .length = sizeof property - 4, .subtype = subtype, .first = first, .last = last};

	memcpy(to, &property, sizeof property);
	return to + sizeof property;
}

static uint8_t do_probe(struct viommu *m, const union request *request, uint8_t *properties)
{
	struct vc_iommu_window reserved[VC_IOMMU_WINDOWS_MAX + 2];
	struct vc_iommu_endpoint *e;
	struct vc_visit visit;
	unsigned count;

	_Static_assert((VC_ARRAY_SIZE(reserved) + 1) * sizeof(struct resv_mem) <= VIOMMU_PROBE_SIZE, "all properties");
	e = vc_pci_visit_requester(m->env->pci, request->probe.endpoint, &visit);
	if (!e)
		return S_NOENT;
	count = vc_iommu_reserved(e, reserved);
	vc_dev_leave(m->env->buses, &visit);
	properties = put_reserved(properties, RESV_MEM_MSI, VC_IOMMU_MSI_FIRST, VC_IOMMU_MSI_LAST);
	for (unsigned i = 0; i < count; i++)
		properties = put_reserved(properties, RESV_MEM_RESERVED, reserved[i].first, reserved[i].last);
	return S_OK;
}

/* By type. room: what it writes before the tail. */
static const struct {
	uint8_t (*act)(struct viommu *m, const union request *request, uint8_t *properties);
	uint32_t length, room;
} kinds[] = {
    [T_ATTACH] = {do_attach, sizeof(struct attach), 0},
    [T_DETACH] = {do_detach, sizeof(struct detach), 0},
    [T_MAP] = {do_map, sizeof(struct map), 0},
    [T_UNMAP] = {do_unmap, sizeof(struct unmap), 0},
    [T_PROBE] = {do_probe, sizeof(struct probe), VIOMMU_PROBE_SIZE},
};

void viommu_request(struct viommu *m, struct vc_virtq_chain *chain)
{
	uint8_t answer[VIOMMU_PROBE_SIZE + 4] = {0};
	union request request = {0};
	uint32_t room;

	vc_iov_to_buffer(chain->out, chain->out_count, 0, &request, sizeof request);
	/* without a tail there is nothing to write a status to */
	if (request.type >= VC_ARRAY_SIZE(kinds) || !kinds[request.type].act ||
	    chain->out_bytes < kinds[request.type].length || chain->in_bytes < 4 ||
	    chain->in_bytes > kinds[request.type].room + 4) {
		vc_virtq_push(chain, 0);
		return;
	}
	room = chain->in_bytes - 4;
	answer[room] = room < kinds[request.type].room ? S_INVAL : kinds[request.type].act(m, &request, answer);
	vc_iov_from_buffer(chain->in, chain->in_count, 0, answer, chain->in_bytes);
	vc_virtq_push(chain, chain->in_bytes);
}
