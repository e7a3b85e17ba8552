#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# In the guest of crash.sh: fio writes and reads back what it has written, until some time is over, while whoever serves the disk comes and goes.
echo "verify: begin"
fio --name=verify --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=16 --thread --rw=randwrite --bs=8k --verify=crc32c --verify_backlog=256 \
	--verify_fatal=1 --verify_state_save=0 --time_based --runtime="$1" --output-format=terse >/tmp/fio 2>&1
echo "verify: fio $?"
grep -v '^3;' /tmp/fio
echo "verify: sum $(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | md5sum | cut -d ' ' -f 1)"
echo "verify: end"
poweroff -f
