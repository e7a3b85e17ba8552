#!/bin/sh
# /init of the example guest. On the kernel command line, quickstart: say that we are there and power off; otherwise: a shell.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
read -r cmdline </proc/cmdline
echo "libvirtcore guest: $(uname -sr), $(nproc) CPUs, $(awk '/MemTotal/ {print int($2/1024)}' /proc/meminfo) MiB, init reached"
case " $cmdline " in
*" quickstart "*) poweroff -f ;;
esac
echo "Type poweroff -f to leave."
setsid cttyhack sh
poweroff -f
