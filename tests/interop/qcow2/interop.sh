#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# interop.sh TOOL [FACTOR]: images of qemu-img's under our driver and ours under qemu-img. FACTOR: that many times the random requests.
set -u
tool=$(realpath "$1") factor=${2:-1}
command -v qemu-img >/dev/null || { echo "SKIP: no qemu-img (Debian: qemu-utils)"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0
bad() {
	echo "FAIL: $*"
	failed=1
}
quiet() { # quiet WHAT COMMAND...
	what=$1
	shift
	"$@" >out 2>&1 || { cat out; bad "$what: $*"; return 1; }
}
sound() { # sound IMAGE: neither corrupt nor leaking
	qemu-img check -q "$1" >out 2>&1 || { cat out; bad "$2: qemu-img check $1"; }
}
same() { # same IMAGE MODEL WHAT
	quiet "$3" qemu-img compare -f qcow2 -F raw "$1" "$2"
}

# ---- random requests, then qemu-img's opinion
turn() { # turn NAME CREATE-OPTIONS TOOL-OPTIONS ROUNDS [SIZE]
	rm -f a.qcow2 model
	qemu-img create -q -f qcow2 -o "$2" a.qcow2 "${5:-4M}" || { bad "$1: create"; return; }
	truncate -s "${5:-4M}" model
	quiet "$1" "$tool" random "$PWD/a.qcow2" model $((RANDOM + 1)) $(($4 * factor)) "$3" || return
	sound a.qcow2 "$1"
	same a.qcow2 model "$1"
}
RANDOM=${SEED:-1}
turn "v3" compat=1.1 - 12
turn "v3 threads" compat=1.1 aio=threads 12
turn "v3 direct" compat=1.1 cache=direct 8
turn "v3 writethrough" compat=1.1 cache=writethrough 2
turn "v3 unsafe" compat=1.1 cache=unsafe 60 16M
turn "v3 resize" compat=1.1 resize,cache=unsafe 60
turn "v2" compat=0.10 - 10
turn "v2 resize" compat=0.10,cluster_size=4k resize,cache=unsafe 40
for bits in 1 2 4 8 16 32 64; do
	turn "refcounts of $bits bits" "compat=1.1,refcount_bits=$bits,cluster_size=512" cache=unsafe 20 1M
done
for size in 512 1k 4k 32k 256k 2M; do
	turn "clusters of $size" "compat=1.1,cluster_size=$size" resize,cache=unsafe 24 8M
done
turn "preallocated" compat=1.1,preallocation=metadata cache=unsafe 20
turn "lazy refcounts" compat=1.1,lazy_refcounts=on cache=unsafe 20

# ---- backing files: chains, raw and qcow2, shorter and longer than what is above, in another directory
overlay() { # overlay NAME BASE FORMAT SIZE CREATE-OPTIONS TOOL-OPTIONS
	rm -f top.qcow2 model
	if [ "$5" = ours ]; then
		quiet "$1" "$tool" create top.qcow2 "$4" "$2" "$3" || return
	else
		quiet "$1" qemu-img create -q -f qcow2 -o "$5" -b "$2" -F "$3" top.qcow2 "$4" || return
	fi
	qemu-img convert -O raw top.qcow2 model
	cp "$2" before
	quiet "$1" "$tool" random "$PWD/top.qcow2" model $((RANDOM + 1)) $((20 * factor)) "$6" || return
	sound top.qcow2 "$1"
	same top.qcow2 model "$1"
	cmp -s before "$2" || bad "$1: its backing file has changed"
}
mkdir -p sub
head -c 3000320 /dev/urandom >sub/base.raw
qemu-img create -q -f qcow2 -F raw -b base.raw sub/middle.qcow2 5M
qemu-io -c 'write -P 7 1M 300k' -c 'write -z 2M 64k' sub/middle.qcow2 >/dev/null
overlay "overlay on raw" sub/base.raw raw 4194304 compat=1.1 cache=unsafe
overlay "overlay on raw, ours" sub/base.raw raw 4194304 ours cache=unsafe
overlay "overlay on overlay" sub/middle.qcow2 qcow2 8388608 compat=1.1,cluster_size=4k cache=unsafe
overlay "overlay on overlay, ours" sub/middle.qcow2 qcow2 8388608 ours cache=unsafe
overlay "overlay, v2" sub/middle.qcow2 qcow2 4194304 compat=0.10 cache=unsafe
overlay "overlay, v2, resized" sub/middle.qcow2 qcow2 4194304 compat=0.10,cluster_size=4k resize,cache=unsafe
overlay "short overlay" sub/middle.qcow2 qcow2 2097152 ours resize,cache=unsafe

# ---- compressed images
for type in zlib zstd; do
	for cluster in 4k 64k 2M; do
		(cat sub/base.raw; seq 1 300000; head -c 1000000 /dev/zero) >plain
		truncate -s %512 plain
		if ! qemu-img convert -c -O qcow2 -o "compression_type=$type,cluster_size=$cluster" plain packed.qcow2 2>out; then
			echo "note: this qemu-img has no $type"
			continue
		fi
		quiet "$type $cluster" "$tool" convert packed.qcow2 back - && { cmp -s plain back || bad "$type, clusters of $cluster: other data"; }
		quiet "$type $cluster" "$tool" random "$PWD/packed.qcow2" plain 5 20 cache=unsafe
		sound packed.qcow2 "$type $cluster written"
		same packed.qcow2 plain "$type $cluster written"
	done
done

# ---- converting both ways
head -c 5000192 /dev/urandom >plain
"$tool" create ours.qcow2 5000192 && quiet "fill" "$tool" fill ours.qcow2 plain -
sound ours.qcow2 fill
same ours.qcow2 plain fill
qemu-img convert -O qcow2 -o cluster_size=1k plain theirs.qcow2
quiet convert "$tool" convert theirs.qcow2 back - && { cmp -s plain back || bad "convert: other data"; }
quiet raw "$tool" random "$PWD/back" plain 9 20 format=raw && { cmp -s back plain || bad "raw: other data"; }
quiet "raw direct" "$tool" random "$PWD/back" plain 10 20 format=raw,cache=direct && { cmp -s back plain || bad "raw direct: other data"; }

# ---- snapshots: readable, and unharmed by what is written afterwards
for compat in 0.10 1.1; do
	qemu-img create -q -f qcow2 -o compat=$compat,cluster_size=4k snap.qcow2 4M
	rm -f model && truncate -s 4M model
	quiet "snapshot" "$tool" random "$PWD/snap.qcow2" model 11 30 cache=unsafe
	cp model first
	qemu-img snapshot -c one snap.qcow2
	quiet "snapshot" "$tool" random "$PWD/snap.qcow2" model 12 30 cache=unsafe
	cp model second
	qemu-img snapshot -c two snap.qcow2
	quiet "snapshot" "$tool" random "$PWD/snap.qcow2" model 13 30 cache=unsafe
	sound snap.qcow2 "after snapshots"
	same snap.qcow2 model "after snapshots"
	for s in one:first two:second; do
		quiet "snapshot" "$tool" convert snap.qcow2 back "snapshot=${s%:*}"
		cmp -s back "${s#*:}" || bad "snapshot ${s%:*} (compat $compat): other data"
	done
	cp first back
	quiet "overlay of a snapshot" "$tool" random "$PWD/snap.qcow2" back 17 20 overlay,snapshot=one
	same snap.qcow2 model "overlay of a snapshot"
	qemu-img snapshot -a one snap.qcow2
	same snap.qcow2 first "back to snapshot one"
	qemu-img snapshot -d one snap.qcow2
	qemu-img snapshot -d two snap.qcow2
	sound snap.qcow2 "without snapshots"
	quiet "snapshots gone" "$tool" random "$PWD/snap.qcow2" first 14 20 cache=unsafe
	sound snap.qcow2 "snapshots gone"
	same snap.qcow2 first "snapshots gone"
done

# ---- refcounts that nobody has written (lazy refcounts): counted anew, snapshots and compressed clusters included
seq 1 200000 >plain
truncate -s 2M plain
qemu-img convert -c -O qcow2 -o lazy_refcounts=on,cluster_size=4k plain lazy.qcow2
qemu-img snapshot -c one lazy.qcow2
(qemu-io -c 'write -P 1 500k 300k' -c 'write -P 2 1600k 100k' -c flush -c abort lazy.qcow2; true) >/dev/null 2>&1
qemu-img check -q lazy.qcow2 >/dev/null 2>&1 && echo "note: this qemu-img wrote the refcounts"
cp lazy.qcow2 before
quiet "lazy refcounts, reading" "$tool" convert lazy.qcow2 back -
cmp -s lazy.qcow2 before || bad "an image opened for reading has changed"
quiet "lazy refcounts" "$tool" open lazy.qcow2 -
sound lazy.qcow2 "lazy refcounts"
same lazy.qcow2 back "lazy refcounts"
quiet "lazy refcounts" "$tool" random "$PWD/lazy.qcow2" back 16 20 cache=unsafe
sound lazy.qcow2 "lazy refcounts, written"
same lazy.qcow2 back "lazy refcounts, written"

# ---- overlay=on leaves the file alone
cp theirs.qcow2 before
qemu-img convert -O raw theirs.qcow2 plain
quiet "overlay=on" "$tool" random "$PWD/theirs.qcow2" plain 15 20 overlay
cmp -s before theirs.qcow2 || bad "overlay=on: the image has changed"

# ---- what is refused, by name
refused() { # refused PATTERN IMAGE OPTIONS
	"$tool" open "$2" "$3" >out 2>&1 && bad "$2 $3 was opened"
	grep -qE -- "$1" out || { cat out; bad "$2 $3: expected \"$1\""; }
}
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64k e.qcow2 1M && refused 'bit 4 \(extended L2' e.qcow2 -
qemu-img create -q -f qcow2 -o data_file=data.raw,data_file_raw=on d.qcow2 1M && refused 'bit 2 \(an external data' d.qcow2 -
qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s c.qcow2 1M && refused 'encrypted' c.qcow2 -
refused 'no snapshot' snap.qcow2 snapshot=nine
cp theirs.qcow2 corrupt.qcow2
printf '\2' | dd of=corrupt.qcow2 bs=1 seek=79 conv=notrunc status=none
refused 'marked as corrupt' corrupt.qcow2 -
quiet "corrupt, reading" "$tool" open corrupt.qcow2 readonly
qemu-img create -q -f qcow2 loop.qcow2 1M && qemu-img rebase -u -F qcow2 -b loop.qcow2 loop.qcow2 && refused 'own backing' loop.qcow2 -
mkfifo fifo && refused 'neither a regular' fifo -

# ---- locks: two writers, a writer and a reader; two readers are fine
coproc "$tool" open theirs.qcow2 hold
read -r line <&"${COPROC[0]}"
[ "${line%% *}" = ok ] || bad "holding an image: $line"
refused 'locked' theirs.qcow2 -
refused 'locked' theirs.qcow2 readonly
qemu-img check -q theirs.qcow2 >out 2>&1 && bad "qemu-img opened what we write"
grep -q 'lock' out || { cat out; bad "qemu-img was refused for another reason"; }
qemu-img info -U theirs.qcow2 >out 2>&1 || bad "qemu-img info -U"
echo >&"${COPROC[1]}"
wait "$COPROC_PID"
coproc { qemu-io theirs.qcow2; }
pid=$COPROC_PID
read -r -n 8 line <&"${COPROC[0]}"
refused 'locked' theirs.qcow2 -
echo quit >&"${COPROC[1]}"
wait "$pid"
quiet "unlocked again" "$tool" open theirs.qcow2 -

[ $failed = 0 ] && echo "qcow2: as qemu-img sees it"
exit $failed
