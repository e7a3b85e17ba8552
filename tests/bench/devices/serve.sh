#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the other guest of the network rows runs.
rtt serve &
iperf3 -s -D
