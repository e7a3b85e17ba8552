#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# In the guest of crash.sh and migrate.sh, for so many seconds: on the first half of the disk fio writes, and reads back what it has written. The second
# half is read into the page cache bit by bit: pages that only whoever serves the disk has written, and that have to be the same at the end.
exec 3</dev/vda # or its pages are forgotten when nobody has it open
echo "verify: begin"
fio --name=verify --filename=/dev/vda --size=32m --direct=1 --ioengine=libaio --iodepth=16 --thread --rw=randwrite --bs=8k --verify=crc32c \
	--verify_backlog=256 --verify_fatal=1 --verify_state_save=0 --time_based --runtime="$1" --output-format=terse >/tmp/fio 2>&1 &
fio=$!
for piece in $(seq 128 255); do
	dd if=/dev/vda of=/dev/null bs=256k skip="$piece" count=1 2>/dev/null
	usleep $(($1 * 6000))
done
wait $fio
echo "verify: fio $?"
grep -v '^3;' /tmp/fio
echo "verify: cached $(dd if=/dev/vda bs=256k skip=128 2>/dev/null | md5sum | cut -d ' ' -f 1)"
echo "verify: sum $(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | md5sum | cut -d ' ' -f 1)"
echo "verify: end"
poweroff -f
