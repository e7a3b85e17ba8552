# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of tests/bench/migration.py: machines (who is moved), report (what comes out), guest.c (what runs in them)."""
