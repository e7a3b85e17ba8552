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


def pytest_sessionfinish(session, exitstatus):
    """Where every test was skipped meson shall see it: exit status 77."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and reporter and reporter.stats.get("skipped") and not reporter.stats.get("passed"):
        session.exitstatus = 77


def pytest_terminal_summary(terminalreporter):
    """The reason is the last line then."""
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"SKIP: {report.longrepr[2]}")
