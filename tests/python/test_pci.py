# SPDX-License-Identifier: LGPL-2.1-or-later
"""PCI functions in Python, reached by raw code on machine microvm."""
import errno

import pytest
import virtcore

CODE = 0x100000


class Card(virtcore.PciDevice):
    device = 0x11e9
    bars = {0: virtcore.Bar(4096), 2: virtcore.Bar(16, io=True)}
    msix_vectors = 2
    interrupt_pin = 1
    capabilities = [(9, b"\x08hello")]

    def __init__(self):
        self.seen = []

    def read(self, bar, offset, width):
        self.seen.append(("read", bar, offset, width))
        return 41

    def write(self, bar, offset, width, value):
        self.seen.append(("write", bar, offset, width, value))


def run(vm, code):
    """Runs code up to a write to port 0x80."""
    vm.memory[CODE] = bytes.fromhex(code + "e680 ebfe")
    vm.vcpu.regs.rip = CODE
    with vm.hook_ports(lambda event: vm.vcpu.kick(), 0x80, 1):
        assert vm.vcpu.run(30) == virtcore.Kicked()


def test_function():
    card = Card()
    with virtcore.VM(memory="16M", backend="emu") as vm:
        handle = vm.add_pci(card, "5")
        info = handle.info
        assert (info.bus, info.device, info.function) == (0, 5, 0) and handle.type == "Card" and handle in vm.devices
        vm.vcpu.set_mode("protected32")
        run(vm, "b800280080 66baf80c ef 66bafc0c ed 89c3"  # config address of 00:05.0, register 0; ebx = ID
                "b804280080 66baf80c ef 66bafc0c b803000000 ef")  # command: both spaces
        memory, ports = handle.info.bars[0], handle.info.bars[2]
        assert info.bars[0] is None and memory and ports
        # reads BAR 0, writes one more to BAR 2
        run(vm, "a1" + memory.to_bytes(4, "little").hex() + "40 66ba" + ports.to_bytes(2, "little").hex() + "ef")
        assert vm.vcpu.regs.rbx == 0x11e91234 and handle.info.command & 3 == 3
        assert card.seen == [("read", 0, 0, 4), ("write", 2, 0, 4, 42)]
        handle.irq(True)
        handle.irq(False)
        with pytest.raises(virtcore.Error) as error:
            handle.send(0)
        assert error.value.errno == errno.EAGAIN
        handle.remove()
        assert not vm._core.handles


def test_wrong():
    with virtcore.VM(machine="none", backend="emu") as vm:
        with pytest.raises(virtcore.Error) as error:
            vm.add_pci(Card())
        assert error.value.errno == errno.ENOTSUP and not vm._core.handles
    card = Card()
    card.bars = {0: virtcore.Bar(100)}
    with virtcore.VM(backend="emu") as vm:
        with pytest.raises(virtcore.Error):
            vm.add_pci(card)


def test_dma():
    with virtcore.VM(memory="16M", backend="emu") as vm:
        handle = vm.add_pci(Card())
        handle.dma_write(0x5000, b"by itself")
        assert vm.memory[0x5000:0x5009] == b"by itself" and handle.dma_read(0x5003, 6) == b"itself"
        with pytest.raises(virtcore.Error) as error:
            handle.dma_read(1 << 40, 4)
        assert error.value.errno == errno.EFAULT
        with pytest.raises(virtcore.Error, match="is on the PCI bus already"):
            vm.add_device("virtio-iommu")
    # until a guest lets it reach something
    with virtcore.VM(memory="16M", backend="emu") as vm:
        vm.add_device("virtio-iommu", bypass="off")
        handle = vm.add_pci(Card())
        with pytest.raises(virtcore.Error, match="the IOMMU blocks it"):
            handle.dma_write(0x5000, b"no")
        assert vm.memory[0x5000:0x5002] == bytes(2)
