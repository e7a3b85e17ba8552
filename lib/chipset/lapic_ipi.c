/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interrupt messages between LAPICs, and from IOAPIC and MSI: who is meant, and what it gets (SDM vol.
 * 3, 10.6, 10.11, 10.12). */
#include "chipset/lapic_priv.h"

#include "core/error.h"
#include "core/util.h"

#define DEST_ALL       0xffffffffu
#define DEST_XAPIC_ALL 0xffu

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

/* ICR low half */
#define ICR_LOGICAL 0x800u
#define ICR_ASSERT  0x4000u
#define ICR_LEVEL   0x8000u

#define MSI_ADDRESS_MASK 0xfffffffffff00000ull
#define MSI_LOGICAL      0x4u
#define MSI_REDIRECT     0x8u

/* 10.6.2.2 and 10.12.10 */
static bool logical_match(const struct vc_lapic *l, uint32_t dest)
{
	uint32_t ldr = lapic_ldr(l);

	if (dest == DEST_ALL)
		return true;
	if (lapic_is_x2apic(l))
		return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
	if (dest > 0xff)
		return false;
	ldr >>= 24;
	if (lapic_get(l, APIC_DFR) >> 28 == 0xf) /* flat */
		return dest & ldr;
	/* cluster; cluster 15 is everybody */
	return (dest >> 4 == 0xf || dest >> 4 == ldr >> 4) && (dest & ldr & 0xf);
}

static bool match(const struct vc_lapic *l, const struct vc_lapic_message *m)
{
	bool self = m->source >= 0 && l->index == (unsigned)m->source;

	if (!lapic_is_on(l))
		return false;
	switch (m->shorthand) {
	case SHORTHAND_SELF:
		return self;
	case SHORTHAND_ALL:
		return true;
	case SHORTHAND_OTHERS:
		return !self;
	}
	if (m->dest_mode)
		return logical_match(l, m->dest);
	return m->dest == DEST_ALL || m->dest == l->index;
}

static bool is_software_enabled(const struct vc_lapic *l)
{
	return lapic_get(l, APIC_SVR) & SVR_ENABLED;
}

static void receive(struct vc_lapic *l, const struct vc_lapic_message *m)
{
	switch (m->delivery) {
	case DM_FIXED:
	case DM_LOWEST:
		if (!is_software_enabled(l)) /* 10.4.7.2 */
			break;
		if (m->vector < 16)
			lapic_error(l, ESR_RECEIVE_ILLEGAL_VECTOR);
		else
			lapic_request(l, m->vector, m->level_triggered);
		break;
	case DM_SMI:
		lapic_notify(l, VC_LAPIC_SMI, 0);
		break;
	case DM_NMI:
		lapic_notify(l, VC_LAPIC_NMI, 0);
		break;
	case DM_INIT:
		lapic_notify(l, VC_LAPIC_INIT, 0);
		break;
	case DM_SIPI:
		lapic_notify(l, VC_LAPIC_SIPI, m->vector);
		break;
	case DM_EXTINT:
		atomic_fetch_or(&l->pins, PIN_EXTINT_MESSAGE);
		lapic_notify(l, VC_LAPIC_EXTINT, 0);
		break;
	}
}

static void deliver_lowest(struct vc_lapics *lapics, const struct vc_lapic_message *m)
{
	unsigned count = lapics->config.count, first = atomic_fetch_add(&lapics->turn, 1) % count;
	struct vc_lapic *best = NULL;
	uint32_t best_priority = 0;

	for (unsigned i = 0; i < count; i++) {
		struct vc_lapic *l = &lapics->lapic[(first + i) % count];
		if (!match(l, m) || !is_software_enabled(l))
			continue;
		uint32_t priority = lapic_ppr(l) & 0xf0;
		if (!best || priority < best_priority) {
			best = l;
			best_priority = priority;
		}
	}
	if (best)
		receive(best, m);
}

int vc_lapics_deliver(struct vc_lapics *lapics, const struct vc_lapic_message *message)
{
	const struct vc_lapic_message *m = message;

	if (m->delivery > DM_EXTINT || m->shorthand > SHORTHAND_OTHERS || m->source >= (int64_t)lapics->config.count)
		return vc_fail(EINVAL, "interrupt message: delivery mode %u, shorthand %u, source %d are not all possible",
		               m->delivery, m->shorthand, m->source);
	/* The release of a level carries nothing: level interrupts end by EOI, and INIT de-assert is not supported
	 * (10.6.1). */
	if (m->level_triggered && !m->assert)
		return 0;
	if (m->delivery == DM_LOWEST) {
		deliver_lowest(lapics, m);
		return 0;
	}
	/* Physical: the ID is the index, no need to ask everybody. */
	if (m->shorthand == SHORTHAND_NONE && !m->dest_mode && m->dest != DEST_ALL) {
		if (m->dest < lapics->config.count && lapic_is_on(&lapics->lapic[m->dest]))
			receive(&lapics->lapic[m->dest], m);
		return 0;
	}
	for (unsigned i = 0; i < lapics->config.count; i++)
		if (match(&lapics->lapic[i], m))
			receive(&lapics->lapic[i], m);
	return 0;
}

int vc_lapics_msi(struct vc_lapics *lapics, uint64_t address, uint32_t data)
{
	bool logical = address & MSI_LOGICAL;
	/* Bits 11:5 extend the destination to 15 bits for guests that were told so (KVM_FEATURE_MSI_EXT_DEST_ID); else they
	 * are 0. */
	uint32_t dest = (address >> 12 & 0xff) | (address >> 5 & 0x7f) << 8;
	uint8_t delivery = data >> 8 & 7;

	if ((address & MSI_ADDRESS_MASK) != VC_LAPIC_BASE)
		return vc_fail(EINVAL, "MSI address %#llx is not of the form 0xfeeXXXXX", (unsigned long long)address);
	if (!logical && dest == DEST_XAPIC_ALL)
		dest = DEST_ALL;
	/* 10.11.1: with the redirection hint one processor of the logical set is enough. */
	if (delivery == DM_FIXED && logical && (address & MSI_REDIRECT))
		delivery = DM_LOWEST;
	return vc_lapics_deliver(lapics, &(struct vc_lapic_message){
	                                     .dest = dest,
	                                     .dest_mode = logical,
	                                     .delivery = delivery,
	                                     .vector = data & 0xff,
	                                     .level_triggered = data >> 15 & 1,
	                                     .assert = data >> 14 & 1,
	                                     .source = -1,
	                                 });
}

/* Table 10-3: INIT and start-up cannot include the sender. */
static bool is_valid_shorthand(unsigned shorthand, unsigned delivery)
{
	bool includes_self = shorthand == SHORTHAND_SELF || shorthand == SHORTHAND_ALL;

	return !includes_self || (delivery != DM_INIT && delivery != DM_SIPI);
}

void lapic_send_icr(struct vc_lapic *l, uint32_t low, uint32_t dest)
{
	struct vc_lapic_message m = {
	    .dest = dest,
	    .dest_mode = !!(low & ICR_LOGICAL),
	    .delivery = low >> 8 & 7,
	    .vector = low & 0xff,
	    .assert = !!(low & ICR_ASSERT),
	    .shorthand = low >> 18 & 3,
	    .source = (int32_t)l->index,
	};

	if (!m.dest_mode && !lapic_is_x2apic(l) && dest == DEST_XAPIC_ALL)
		m.dest = DEST_ALL;
	/* The trigger mode matters for INIT de-assert only (10.6.1). */
	m.level_triggered = m.delivery == DM_INIT && (low & ICR_LEVEL);
	if (m.delivery <= DM_LOWEST && m.vector < 16)
		lapic_error(l, ESR_SEND_ILLEGAL_VECTOR);
	else if (m.delivery != DM_RESERVED && m.delivery != DM_EXTINT && is_valid_shorthand(m.shorthand, m.delivery))
		vc_lapics_deliver(l->all, &m);
}

void lapic_send_self(struct vc_lapic *l, uint8_t vector)
{
	if (vector < 16)
		lapic_error(l, ESR_SEND_ILLEGAL_VECTOR);
	else if (is_software_enabled(l))
		lapic_request(l, vector, false);
}
