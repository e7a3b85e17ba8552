/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/irq.h"

#include "core/error.h"

int vc_irq_set(struct vc_irqs *irqs, unsigned gsi, bool level)
{
	if (gsi >= VC_GSI_COUNT)
		return vc_fail(EINVAL, "interrupt line %u: expected 0 to %u", gsi, VC_GSI_COUNT - 1);
	if (!irqs->sink)
		return vc_fail(ENOTSUP, "interrupt line %u: this vm has no interrupt controllers", gsi);
	irqs->sink->set(irqs->ctx, gsi, level);
	return 0;
}

int vc_irq_pulse(struct vc_irqs *irqs, unsigned gsi)
{
	int r = vc_irq_set(irqs, gsi, true);

	return r < 0 ? r : vc_irq_set(irqs, gsi, false);
}

int vc_msi_send(struct vc_irqs *irqs, uint64_t address, uint32_t data)
{
	if (address >> 20 != 0xfee)
		return vc_fail(EINVAL, "MSI address %#llx: expected 0xfeeXXXXX", (unsigned long long)address);
	if (!irqs->sink)
		return vc_fail(ENOTSUP, "MSI: this vm has no interrupt controllers");
	return irqs->sink->msi(irqs->ctx, address, data);
}
