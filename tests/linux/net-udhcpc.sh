#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What udhcpc runs in the guest of the network tests.
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route add default via "${router%% *}"
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
