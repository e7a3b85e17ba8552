#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# display.sh DIR MICROVM mmio|pci [OPTION...]
# Boots Debian's kernel with a virtio GPU, keyboard, mouse and tablet. It passes when its drivers bind to them, what is written to /dev/fb0 is what
# screendump saves, pixel by pixel, and what the monitor types and points is read from /dev/input. The cloud kernel has no DRM, so it is the full one,
# in DIR. 77 where there is none to be had.
set -u
dir=$1 microvm=$2 transport=$3
shift 3
. "$(dirname "$0")/common.sh"
need python3
find_kernel amd64
make_initrd "display-$transport" display-init.sh "virtio_$transport virtio-gpu virtio_input evdev"

work=$(mktemp -d)
log=$work/log
mkfifo "$work/console"
timeout -s KILL 200 "$microvm" --kernel "$kernel" --initrd "$initrd" \
	--cmdline "console=ttyS0 quiet panic=-1 vt.global_cursor_default=0" --memory 384M --cpus 2 --timeout 150 --monitor "$work/socket" \
	--device "virtio-gpu,transport=$transport,width=640,height=480" --device "virtio-keyboard,transport=$transport" \
	--device "virtio-mouse,transport=$transport,packed=on" --device "virtio-tablet,transport=$transport" \
	"$@" <>"$work/console" >"$log" 2>&1 &
vm=$!
trap 'kill $vm 2>/dev/null; rm -rf "$work"' EXIT

fail() {
	tr -d '\r' <"$log"
	echo "display.sh $transport: $*"
	exit 1
}
await() { # await TEXT PATTERN
	for _ in $(seq 1500); do
		grep -qE -- "$2" "$log" && return
		kill -0 $vm 2>/dev/null || fail "no $1; microvm has ended"
		sleep 0.1
	done
	fail "no $1"
}
monitor() {
	"$microvm" monitor "$work/socket" "$@" || fail "monitor $*"
}
# The picture as the guest wrote it against a PPM or PNG file.
same() {
	python3 - "$1" <<'PY'
import struct, sys, zlib
W, H = 640, 480
data = "".join(f"{n}\n" for n in range(1, 400001)).encode()[:W * H * 4]
rgb = bytearray(W * H * 3)
rgb[0::3], rgb[1::3], rgb[2::3] = data[2::4], data[1::4], data[0::4]
file = open(sys.argv[1], "rb").read()
if file.startswith(b"\x89PNG\r\n\x1a\n"):
    at, packed = 8, b""
    while at < len(file):
        length, kind = struct.unpack(">I4s", file[at:at + 8])
        body = file[at + 8:at + 8 + length]
        if zlib.crc32(kind + body) != struct.unpack(">I", file[at + 8 + length:at + 12 + length])[0]:
            sys.exit("a check sum is wrong")
        if kind == b"IHDR" and struct.unpack(">IIBBBBB", body) != (W, H, 8, 2, 0, 0, 0):
            sys.exit("another header")
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    rows = zlib.decompress(packed)
    pixels = b"".join(rows[y * (1 + 3 * W) + 1:(y + 1) * (1 + 3 * W)] for y in range(H))
else:
    head = b"P6\n%d %d\n255\n" % (W, H)
    pixels = file[len(head):] if file.startswith(head) else b""
sys.exit(pixels != bytes(rgb))
PY
}

await "drivers" '^display: init'
await "picture" '^display: drawn'
# the driver flushes a little later
for turn in $(seq 100); do
	monitor screendump "$work/picture.ppm" >/dev/null
	same "$work/picture.ppm" && break
	[ "$turn" != 100 ] || fail "another picture"
	sleep 0.1
done
monitor screendump filename="$work/picture" format=png >/dev/null
if same "$work/picture"; then png="PPM and PNG"; else fail "another picture as PNG"; fi
monitor query-displays | grep -q '"width": *640' || fail "query-displays does not say 640"

await "listener" '^display: listening'
monitor send-key shift,a >/dev/null
monitor input-send-event '[{"type":"rel","data":{"axis":"x","value":-5}},{"type":"rel","data":{"axis":"y","value":7}},{"type":"btn","data":{"down":true,"button":"right"}}]' >/dev/null
monitor input-send-event '[{"type":"btn","data":{"down":false,"button":"right"}}]' >/dev/null
monitor input-send-event '[{"type":"abs","data":{"axis":"x","value":1234}},{"type":"abs","data":{"axis":"y","value":32767}}]' >/dev/null
await "light" '^display: light'
for turn in $(seq 100); do
	monitor query-inputs | grep -q '"caps"' && break
	[ "$turn" != 100 ] || fail "the light is not seen"
	sleep 0.1
done
monitor display-resize 320 200 >/dev/null
await "mode" '^display: mode 320x200'
echo >"$work/console"
wait $vm
status=$?

tr -d '\r' <"$log" >"$log.text"
bad=
expect() { # expect TEXT PATTERN
	grep -qE -- "$2" "$log.text" || bad="$bad no $1;"
}
[ "$status" = 0 ] || bad="$bad microvm ended with $status;"
expect "GPU" '^display: device 0x0010 driver virtio_gpu$'
expect "input" '^display: device 0x0012 driver virtio_input$'
expect "frame buffer" '^display: fb virtio_gpudrmfb 640,480 2560 32$'
expect "keyboard's lights and repeat" '^display: keyboard 120003$'
expect "tablet's axes" '^display: tablet f$'
for name in keyboard mouse tablet; do
	sed -n "s/^display: $name \(-*[0-9]* -*[0-9]* -*[0-9]*\)\$/\1/p" "$log.text" | tr '\n' ',' >"$work/$name"
done
[ "$(cat "$work/keyboard")" = "1 42 1,0 0 0,1 30 1,0 0 0,1 30 0,0 0 0,1 42 0,0 0 0," ] || bad="$bad other keys: $(cat "$work/keyboard");"
[ "$(cat "$work/mouse")" = "2 0 -5,2 1 7,1 273 1,0 0 0,1 273 0," ] || bad="$bad another mouse: $(cat "$work/mouse");"
[ "$(cat "$work/tablet")" = "3 0 1234,3 1 32767,0 0 0," ] || bad="$bad another tablet: $(cat "$work/tablet");"
trouble=$(grep -E 'BUG|WARNING|Oops|Call Trace|soft lockup|\*ERROR\*' "$log.text" | head -n 3)
[ -z "$trouble" ] || bad="$bad $trouble;"
[ -z "$bad" ] || fail "$bad"
echo "display.sh $transport: picture ($png), keyboard, mouse and tablet"
