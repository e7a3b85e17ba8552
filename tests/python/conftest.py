# SPDX-License-Identifier: LGPL-2.1-or-later
"""What tests share."""
import faulthandler

import pytest
import virtcore

faulthandler.enable()
CODE = 0x1000


@pytest.fixture
def bare():
    """bare(code, **options): a vm of machine none with code at CODE, in flat 32-bit mode."""
    vms = []

    def make(code, **options):
        vm = virtcore.VM(**{"machine": "none", "backend": "emu", "memory": "2M", **options})
        vms.append(vm)
        vm.memory[CODE] = bytes.fromhex(code)
        for vcpu in vm.vcpus:
            vcpu.set_mode("protected32")
            vcpu.regs.rip = CODE
        return vm
    yield make
    for vm in vms:
        vm.close()
