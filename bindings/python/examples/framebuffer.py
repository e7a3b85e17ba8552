#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that draws on an 8-bit frame buffer of 320 x 200 at 0xa0000, as games once did, shown as a PNG: framebuffer.py [FILE [FRAMES]]"""
import struct
import sys
import zlib

import virtcore

CODE = bytes.fromhex("bf00000a00"         # frame: mov edi, 0xa0000
                     "31d2"               # xor edx, edx             ; y
                     "31c9"               # line: xor ecx, ecx       ; x
                     "89c8" "31d0"        # dot: mov eax, ecx; xor eax, edx
                     "01d8" "aa"          # add eax, ebx; stosb      ; ebx: the frame's number
                     "41" "81f940010000"  # inc ecx; cmp ecx, 320
                     "75f0"               # jne dot
                     "42" "81fac8000000"  # inc edx; cmp edx, 200
                     "75e5"               # jne line
                     "f4"                 # hlt                      ; the picture is complete
                     "43" "ebda")         # inc ebx; jmp frame
WIDTH, HEIGHT = 320, 200


def png(pixels: bytes) -> bytes:
    """With a palette from black through red and yellow to white."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    palette = b"".join(bytes(max(0, min(255, 3 * n - 256 * k)) for k in range(3)) for n in range(256))
    lines = b"".join(b"\0" + pixels[y * WIDTH:(y + 1) * WIDTH] for y in range(HEIGHT))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)) + chunk(b"PLTE", palette)
            + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


path = sys.argv[1] if len(sys.argv) > 1 else "framebuffer.png"
with virtcore.VM(machine="none", memory="2M") as vm:
    vm.memory[0x1000] = CODE
    vm.vcpu.set_mode("protected32")
    vm.vcpu.regs.rip = 0x1000
    screen = vm.memory.view(0xa0000, WIDTH * HEIGHT)  # the guest's memory itself, no copy
    for frame in range(int(sys.argv[2]) if len(sys.argv) > 2 else 60):
        vm.vcpu.run()
    with open(path, "wb") as file:
        file.write(png(bytes(screen)))
    print(f"{path}: frame {vm.vcpu.regs.rbx + 1}")
    screen.release()
