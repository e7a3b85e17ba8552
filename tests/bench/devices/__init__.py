# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of tests/bench/devices.py: rows (what is measured), machines (who runs it), report (what comes out)."""
