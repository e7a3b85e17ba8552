# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of tests/bench/compare.py: rows (what is measured), machines (who runs it), raw (code without a kernel), report (what comes out)."""
