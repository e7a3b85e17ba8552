/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The PCI hierarchy: who is where, and configuration accesses. */
#include "bus/pci.h"

#include <ctype.h>
#include <stdlib.h>

#include "bus/iommu.h"
#include "bus/pci_priv.h"
#include "core/error.h"
#include "core/util.h"

int vc_pci_new(const struct vc_pci_config *config, struct vc_pci **out)
{
	struct vc_pci *pci = calloc(1, sizeof *pci);

	if (!pci)
		return vc_fail(ENOMEM, "no memory for the PCI bus");
	pci->config = *config;
	pthread_mutex_init(&pci->mapping, NULL);
	pthread_mutex_init(&pci->lock, NULL);
	pthread_mutex_init(&pci->lines_lock, NULL);
	for (unsigned i = 0; i < VC_PCI_LINES; i++)
		vc_line_init(&pci->lines[i], config->irqs, config->gsi + i, NULL);
	*out = pci;
	return 0;
}

void vc_pci_free(struct vc_pci *pci)
{
	if (!pci)
		return;
	vc_iommu_free(pci->iommu);
	pthread_mutex_destroy(&pci->lines_lock);
	pthread_mutex_destroy(&pci->lock);
	pthread_mutex_destroy(&pci->mapping);
	free(pci);
}

void vc_pci_set_window64(struct vc_pci *pci, struct vc_pci_window window)
{
	pthread_mutex_lock(&pci->lock);
	pci->window64 = window;
	pthread_mutex_unlock(&pci->lock);
}

struct vc_pci_window vc_pci_window64(const struct vc_pci *pci)
{
	return pci->window64;
}

/* ---- functions ---- */

/* A number of at most max that ends at one of the characters in ends. */
static bool parse_number(const char **text, unsigned max, const char *ends, unsigned *number)
{
	char *end;
	unsigned long value = strtoul(*text, &end, 0);
	bool good = isdigit((unsigned char)**text) && value <= max && strchr(ends, *end);

	*text = end;
	*number = (unsigned)value;
	return good;
}

/* "device", "device.function", or either as the port in "port/function"; function: -1, or behind the port. */
static int parse_address(const char *address, unsigned *devfn, int *behind)
{
	const char *text = address;
	unsigned device = 0, function = 0, inner = 0;
	bool good = parse_number(&text, 31, "./", &device);

	if (good && *text == '.') {
		text++;
		good = parse_number(&text, 7, "/", &function);
	}
	*behind = -1;
	if (good && *text == '/') {
		text++;
		good = parse_number(&text, 7, "", &inner);
		*behind = (int)inner;
	}
	if (!good || *text)
		return vc_fail(
		    EINVAL, "PCI address \"%s\": expected device or device.function, with 0 to 31 and 0 to 7, or port/function",
		    address);
	*devfn = VC_PCI_DEVFN(device, function);
	return 0;
}

static bool slot_is_free(const struct vc_pci *pci, unsigned device)
{
	for (unsigned function = 0; function < 8; function++)
		if (pci->root.functions[VC_PCI_DEVFN(device, function)])
			return false;
	return true;
}

/* Where a function goes. */
struct seat {
	struct pci_bus *bus;
	unsigned devfn;
};

/* Caller holds pci->lock, as for the next two. */
static int choose_seat(struct vc_pci *pci, struct seat *seat)
{
	for (unsigned device = 0; device < 32; device++)
		if (slot_is_free(pci, device)) {
			*seat = (struct seat){&pci->root, VC_PCI_DEVFN(device, 0)};
			return 0;
		}
	return vc_fail(ENOSPC, "PCI: all 32 device numbers are taken");
}

static int find_seat(struct vc_pci *pci, const char *address, struct seat *seat)
{
	struct vc_pci_function *port;
	int behind, r = parse_address(address, &seat->devfn, &behind);

	if (r < 0)
		return r;
	port = pci->root.functions[seat->devfn];
	seat->bus = &pci->root;
	if (behind >= 0) {
		if (!port || !port->child)
			return vc_fail(ENOENT, "PCI address %s: there is no port", address);
		*seat = (struct seat){port->child, (unsigned)behind};
	}
	if (seat->bus->functions[seat->devfn])
		return vc_fail(EEXIST, "PCI address %s is taken by device %s", address,
		               seat->bus->functions[seat->devfn]->dev->type);
	if (seat->devfn & 7 && !seat->bus->functions[seat->devfn & ~7u])
		return vc_fail(EINVAL, "PCI address %s: guests look at other functions only where function 0 is", address);
	return 0;
}

/* Every bridge passes pins on turned by the device number: interrupts behind ports are those of the port's slot. */
static unsigned line_of(const struct seat *seat, unsigned pin)
{
	unsigned line = (seat->devfn >> 3) + pin - 1;

	return (seat->bus->port ? line + (seat->bus->port->devfn >> 3) : line) % VC_PCI_LINES;
}

static int take_seat(struct vc_pci *pci, struct vc_pci_function *f, const struct seat *seat)
{
	unsigned pin = f->initial[PCI_INTERRUPT_PIN];
	int r;

	if (f->child && seat->bus->port)
		return vc_fail(ENOTSUP, "PCI: a port behind another port");
	f->devfn = seat->devfn;
	if (pin) {
		f->line = line_of(seat, pin);
		f->initial[PCI_INTERRUPT_LINE] = (uint8_t)(pci->config.gsi + f->line);
	}
	if (f->child) {
		f->child->port = f;
		pci_number_port(pci, f);
	}
	r = pci_bars_place(pci, f);
	if (r < 0)
		return r;
	pthread_mutex_lock(&f->lock);
	pci_function_to_initial(f);
	pthread_mutex_unlock(&f->lock);
	f->bus = seat->bus;
	f->bus->functions[f->devfn] = f;
	f->next = pci->all;
	pci->all = f;
	return 0;
}

static int place(struct vc_pci *pci, struct vc_pci_function *f, const char *address)
{
	struct seat seat = {&pci->root, 0};
	int r;

	pthread_mutex_lock(&pci->lock);
	r = address ? find_seat(pci, address, &seat) : choose_seat(pci, &seat);
	if (r >= 0)
		r = take_seat(pci, f, &seat);
	pthread_mutex_unlock(&pci->lock);
	if (r >= 0)
		pci_tell_port(pci, seat.bus->port);
	return r;
}

void pci_forget(struct vc_pci *pci, struct vc_pci_function *f)
{
	struct vc_pci_function **p = &pci->all;

	if (!f->bus)
		return;
	pthread_mutex_lock(&pci->mapping);
	pthread_mutex_lock(&pci->lock);
	f->bus->functions[f->devfn] = NULL;
	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	pthread_mutex_unlock(&pci->lock);
	pthread_mutex_unlock(&pci->mapping);
	pci_tell_port(pci, f->bus->port);
}

static struct vc_pci_function *new_function(struct vc_pci *pci, const struct vcore_pci_ops *ops, void *ctx)
{
	struct vc_pci_function *f = vc_pages_new(sizeof *f);

	if (!f) {
		if (ops->destroy)
			ops->destroy(ctx);
		return NULL;
	}
	f->pci = pci;
	f->ops = *ops;
	f->ctx = ctx;
	pthread_mutex_init(&f->lock, NULL);
	return f;
}

/* port, image: NULL where there is none. */
static int add(struct vc_pci *pci, const struct vcore_pci_description *description, const struct vc_pci_image *image,
               const struct vcore_pci_ops *ops, void *ctx, const struct vc_pci_port_ops *port, struct vc_dev **dev)
{
	struct vcore_pci_description d;
	struct vcore_pci_ops copy;
	struct vc_pci_function *f;
	struct vc_dev *added;
	int r;

	if (vc_struct_in(&copy, sizeof copy, ops) < 0)
		return vc_fail(EINVAL, "PCI function: ops.size is not set");
	f = new_function(pci, &copy, ctx);
	if (!f)
		return vc_fail(ENOMEM, "no memory for a PCI function");
	r = vc_struct_in(&d, sizeof d, description);
	if (r >= 0)
		r = pci_describe(f, &d, image);
	if (r >= 0 && port)
		r = pci_make_port(f, port);
	if (r < 0) {
		pci_function_ops.destroy(f);
		return r;
	}
	r = vc_dev_add(pci->config.buses, d.type ? d.type : "custom-pci", &pci_function_ops, f, &added);
	if (r < 0)
		return r; /* f has been destroyed */
	f->dev = added;
	if (dev)
		*dev = added;
	r = pci_join_iommu(pci, f);
	if (r >= 0 && image && image->begin)
		r = image->begin(f->ctx, f->endpoint);
	if (r >= 0)
		r = place(pci, f, d.address);
	if (r < 0)
		vc_dev_remove(pci->config.buses, NULL, added);
	return r;
}

int vc_pci_add(struct vc_pci *pci, const struct vcore_pci_description *description, const struct vcore_pci_ops *ops,
               void *ctx, struct vc_dev **dev)
{
	return add(pci, description, NULL, ops, ctx, NULL, dev);
}

int vc_pci_add_image(struct vc_pci *pci, const struct vcore_pci_description *description,
                     const struct vc_pci_image *image, const struct vcore_pci_ops *ops, void *ctx, struct vc_dev **dev)
{
	return add(pci, description, image, ops, ctx, NULL, dev);
}

int vc_pci_add_port(struct vc_pci *pci, const struct vcore_pci_description *description,
                    const struct vcore_pci_ops *ops, void *ctx, const struct vc_pci_port_ops *port, struct vc_dev **dev)
{
	return add(pci, description, NULL, ops, ctx, port, dev);
}

/* ---- configuration accesses ---- */

/* The function, locked; NULL: nobody is there. */
static struct vc_pci_function *lock_function(struct vc_pci *pci, unsigned number, unsigned devfn, bool *multi)
{
	struct vc_pci_function *f = NULL;
	struct pci_bus *bus;

	pthread_mutex_lock(&pci->lock);
	bus = pci_find_bus(pci, number);
	if (bus && devfn < VC_ARRAY_SIZE(bus->functions))
		f = bus->functions[devfn];
	*multi = false;
	for (unsigned i = devfn + 1; f && !(devfn & 7) && i < devfn + 8; i++)
		*multi |= bus->functions[i] != NULL;
	if (f)
		pthread_mutex_lock(&f->lock);
	pthread_mutex_unlock(&pci->lock);
	return f;
}

/* Bits that are not kept but computed. */
static uint8_t config_byte(const struct vc_pci_function *f, uint32_t offset, bool multi)
{
	uint8_t byte = f->config[offset];

	if (offset == PCI_HEADER_TYPE && multi)
		byte |= PCI_HEADER_MULTI;
	if (offset == PCI_STATUS && f->intx)
		byte |= PCI_STATUS_INTERRUPT;
	return byte;
}

static bool is_own(const struct vc_pci_function *f, uint32_t offset)
{
	return offset >= VC_PCI_CAPABILITIES && offset < f->own_end;
}

/* Inside one doubleword. */
static uint32_t read_piece(struct vc_pci *pci, unsigned bus, unsigned devfn, uint32_t offset, unsigned width)
{
	bool multi, ask;
	struct vc_pci_function *f = offset < VC_PCI_CONFIG_SIZE ? lock_function(pci, bus, devfn, &multi) : NULL;
	struct vc_visit visit;
	uint32_t value = 0;

	if (!f)
		return (uint32_t)vc_width_mask(width);
	for (unsigned i = 0; i < width; i++)
		value |= (uint32_t)config_byte(f, offset + i, multi) << (8 * i);
	ask = f->ops.config_read && is_own(f, offset) && vc_dev_visit(pci->config.buses, &visit, f->dev);
	pthread_mutex_unlock(&f->lock);
	if (ask) {
		f->ops.config_read(f->ctx, offset, width, &value);
		vc_dev_leave(pci->config.buses, &visit);
	}
	return value;
}

static void store(struct vc_pci_function *f, uint32_t offset, unsigned width, uint32_t value)
{
	for (unsigned i = 0; i < width; i++) {
		uint8_t bits = f->writable[offset + i];

		f->config[offset + i] = (uint8_t)((f->config[offset + i] & ~bits) | (value >> (8 * i) & bits));
	}
}

/* Inside one doubleword. */
static void write_piece(struct vc_pci *pci, unsigned bus, unsigned devfn, uint32_t offset, unsigned width,
                        uint32_t value)
{
	bool multi, tell, messages, moved;
	struct vc_pci_function *f = offset < VC_PCI_CONFIG_SIZE ? lock_function(pci, bus, devfn, &multi) : NULL;
	struct vc_line *line;
	struct vc_visit visit;
	uint8_t before[PCI_CAPABILITY_LIST];

	if (!f)
		return;
	memcpy(before, f->config, sizeof before);
	store(f, offset, width, value);
	moved = memcmp(before + PCI_COMMAND, f->config + PCI_COMMAND, 2) ||
	        memcmp(before + PCI_BAR, f->config + PCI_BAR, sizeof before - PCI_BAR); /* of a bridge: windows */
	pci_line_update(f);
	pci_send_pending(f);
	tell = f->ops.config_write && (f->whole || is_own(f, offset));
	messages = atomic_load(&f->message_changed) && (moved || offset >= VC_PCI_CAPABILITIES); /* MSI and MSI-X */
	if ((tell || messages) && !vc_dev_visit(pci->config.buses, &visit, f->dev))
		tell = messages = false;
	line = &pci->lines[f->line];
	pthread_mutex_unlock(&f->lock);
	/* without a visit f may be gone now */
	vc_line_flush(line);
	if (moved)
		pci_bars_sync(pci);
	if (tell)
		f->ops.config_write(f->ctx, offset, width, value);
	if (messages)
		pci_tell_message(f, VC_PCI_EVERY_VECTOR);
	if (tell || messages)
		vc_dev_leave(pci->config.buses, &visit);
}

uint64_t vc_pci_config_read(struct vc_pci *pci, unsigned bus, unsigned devfn, uint32_t offset, unsigned width)
{
	uint64_t value = 0;

	for (unsigned done = 0, n; done < width; done += n) {
		n = 4 - (offset + done) % 4;
		n = n < width - done ? n : width - done;
		value |= (uint64_t)read_piece(pci, bus, devfn, offset + done, n) << (8 * done);
	}
	return value;
}

void vc_pci_config_write(struct vc_pci *pci, unsigned bus, unsigned devfn, uint32_t offset, unsigned width,
                         uint64_t data)
{
	for (unsigned done = 0, n; done < width; done += n) {
		n = 4 - (offset + done) % 4;
		n = n < width - done ? n : width - done;
		write_piece(pci, bus, devfn, offset + done, n, (uint32_t)(data >> (8 * done)));
	}
}
