#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""from_help.py MICROVM VERSION [COMMAND]: the manual page of microvm, or of `microvm COMMAND`, from what it says of itself with --help, so that both say the same."""
import re
import subprocess
import sys

SEE_ALSO = {"": ["microvm-monitor 1", "microvm-run 1", "microvm-sriov 1", "microvm-vhost-user-serve 1", "libvirtcore 3"], "run": ["microvm 1", "libvirtcore 3"], "monitor": ["microvm 1"]}
NAMES = {"": "virtual machines from the command line", "run": "a command in a virtual machine of its own", "monitor": "watch and steer a running virtual machine",
         "sriov": "virtual functions of real devices", "vhost-user-serve": "devices for other virtual machine monitors"}
EXAMPLES = {
    "": ['microvm --kernel vmlinuz --initrd initrd.gz --cmdline "console=ttyS0" --memory 1G --cpus 2',
         "microvm --kernel vmlinuz --device virtio-blk,image=disk.qcow2 --device virtio-net,net=user",
         "microvm --kernel vmlinuz --initrd initrd.gz --monitor /tmp/vm"],
    "run": ["microvm run --net user / -- ls -l /etc"],
    "sriov": ["microvm sriov list", "microvm sriov create 01:00.0 2"],
    "vhost-user-serve": ["microvm vhost-user-serve --socket /tmp/disk.sock --device virtio-blk,image=disk.qcow2"],
    "monitor": ["microvm monitor /tmp/vm query-status", "microvm monitor /tmp/vm screendump guest.png"],
}


def escape(text):
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + text if text[:1] in ".'" else text


def option(line):
    """(how it is written, what it does) of a line that begins with one."""
    found = re.match(r" {2,6}((?:-\w, )?--?[\w-]+(?: [A-Z\[][^ ]*)*(?: ARGS)?)\s+(.*)", line)
    return found and (found[1], found[2])


def sentences(text):
    return map(escape, re.split(r"(?<=[\w)]\.) (?=[A-Z])", text))


def item(word):
    comma = " ," if word.endswith(",") else ""
    return ("Cm " if word.startswith("-") else "Ar ") + escape(word.rstrip(",")) + comma


def page(name, text, version):
    usage, _, rest = text.partition("\n\n")
    title = "microvm" + ("-" + name if name else "")
    out = [f".Dd November 21, 2026\n.Dt {title.upper()} 1\n.Os libvirtcore {version}", f".Sh NAME\n.Nm {title}\n.Nd {NAMES.get(name, name)}",
           ".Sh SYNOPSIS\n.Bd -literal"]
    out += [escape(line.removeprefix("usage:").strip()) for line in usage.splitlines()] + [".Ed", ".Sh DESCRIPTION"]
    listing = False
    for line in rest.splitlines():
        found = option(line)
        if found and not listing:
            out.append('.Bl -tag -width "--memory SIZE"')
        if found:
            out.append(f".It {' '.join(item(word) for word in found[0].split())}")
            out += sentences(found[1])
        elif listing and line.startswith("   "):
            out.append(escape(line.strip()))
        elif not line:
            out += [".El"] if listing else []
            out.append(".Pp")
        else:
            out += [".El\n.Pp"] if listing else []
            # a sentence a line, as the markup wants it
            out += sentences(line.strip())
            listing = False
        listing = bool(found) or listing and bool(line)
    out += [".El"] if listing else []
    if name in EXAMPLES:
        out.append(".Sh EXAMPLES\n.Bd -literal\n" + "\n".join(map(escape, EXAMPLES[name])) + "\n.Ed")
    out.append(".Sh SEE ALSO\n" + " ,\n".join(".Xr " + where for where in SEE_ALSO.get(name, ["microvm 1"])))
    lines = "\n".join(out).splitlines()
    return "\n".join(line for i, line in enumerate(lines) if line != ".Pp" or i + 1 < len(lines) and not lines[i + 1].startswith((".Pp", ".Sh", ".Bl", ".El")) and lines[i - 1] != ".Sh DESCRIPTION") + "\n"


def main():
    program, version, *command = sys.argv[1:]
    text = subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True).stdout
    sys.stdout.write(page(command[0] if command else "", text, version))


if __name__ == "__main__":
    main()
