/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions as endpoints of an IOMMU. */
#include "bus/iommu_priv.h"
#include "bus/pci_priv.h"
#include "core/error.h"

enum { BEHIND_PORT = 1u << 31 }; /* of a place: the port's devfn is in bits 8 to 15 */

/* Caller holds pci->lock. Parts of the machine and ports do no DMA: they may be there before. */
static const struct vc_pci_function *find_early(const struct vc_pci *pci)
{
	const struct vc_pci_function *f = pci->all;

	while (f && (f->dev->fixed || f->child))
		f = f->next;
	return f;
}

/* Functions that are there; they have come before anything else could be behind it. */
static int take_early(struct vc_pci *pci, struct vc_iommu *iommu)
{
	int r = 0;

	for (struct vc_pci_function *f = pci->all; r >= 0 && f; f = f->next)
		r = iommu_endpoint_new(iommu, f, f->dev, &f->endpoint);
	if (r >= 0)
		return 0;
	for (struct vc_pci_function *f = pci->all; f; f = f->next)
		if (f->endpoint) {
			iommu_endpoint_free(f->endpoint);
			f->endpoint = NULL;
		}
	return r;
}

/* Caller holds pci->lock. */
static int make(struct vc_pci *pci, const struct vc_log *log)
{
	const struct vc_pci_function *early = find_early(pci);
	struct vc_iommu *iommu;
	int r;

	if (early)
		return vc_fail(
		    EBUSY, "an IOMMU has to be there before the devices behind it: device %u (%s) is on the PCI bus already",
		    early->dev->id, early->dev->type);
	r = vc_iommu_new(pci->config.buses, log, &iommu);
	if (r < 0)
		return r;
	r = take_early(pci, iommu);
	if (r < 0)
		vc_iommu_free(iommu);
	else
		pci->iommu = iommu;
	return r;
}

int vc_pci_make_iommu(struct vc_pci *pci, const struct vc_log *log, struct vc_iommu **iommu)
{
	int r;

	pthread_mutex_lock(&pci->lock);
	r = pci->iommu ? 0 : make(pci, log);
	*iommu = pci->iommu;
	pthread_mutex_unlock(&pci->lock);
	return r;
}

struct vc_iommu *vc_pci_iommu(struct vc_pci *pci)
{
	struct vc_iommu *iommu;

	pthread_mutex_lock(&pci->lock);
	iommu = pci->iommu;
	pthread_mutex_unlock(&pci->lock);
	return iommu;
}

struct vc_iommu_endpoint *vc_pci_endpoint(const struct vc_pci_function *f)
{
	return f->endpoint;
}

int pci_join_iommu(struct vc_pci *pci, struct vc_pci_function *f)
{
	struct vc_iommu *iommu = vc_pci_iommu(pci);

	return iommu ? iommu_endpoint_new(iommu, f, f->dev, &f->endpoint) : 0;
}

void pci_leave_iommu(struct vc_pci_function *f)
{
	if (f->endpoint)
		iommu_endpoint_free(f->endpoint);
}

uint32_t vc_pci_requester(struct vc_pci_function *f)
{
	struct vcore_pci_info info;

	vc_pci_get_info(f, &info);
	return info.bus << 8 | VC_PCI_DEVFN(info.device, info.function);
}

struct vc_iommu_endpoint *vc_pci_visit_requester(struct vc_pci *pci, uint32_t requester, struct vc_visit *visit)
{
	struct vc_iommu_endpoint *found = NULL;
	struct vc_pci_function *f;
	struct pci_bus *bus;

	if (requester > 0xffff)
		return NULL;
	pthread_mutex_lock(&pci->lock);
	bus = pci_find_bus(pci, requester >> 8);
	f = bus ? bus->functions[requester & 0xff] : NULL;
	if (f && f->endpoint && vc_dev_visit(pci->config.buses, visit, f->dev))
		found = f->endpoint;
	pthread_mutex_unlock(&pci->lock);
	return found;
}

uint32_t vc_pci_place(const struct vc_pci_function *f)
{
	return f->bus->port ? BEHIND_PORT | f->bus->port->devfn << 8 | f->devfn : f->devfn;
}

struct vc_iommu_endpoint *vc_pci_endpoint_at(struct vc_pci *pci, uint32_t place)
{
	struct vc_iommu_endpoint *found = NULL;
	const struct pci_bus *bus = &pci->root;

	pthread_mutex_lock(&pci->lock);
	if (place & BEHIND_PORT) {
		const struct vc_pci_function *port = pci->root.functions[place >> 8 & 0xff];

		bus = port ? port->child : NULL;
	}
	if (bus && !(place & ~(BEHIND_PORT | 0xffffu)) && bus->functions[place & 0xff])
		found = bus->functions[place & 0xff]->endpoint;
	pthread_mutex_unlock(&pci->lock);
	return found;
}
