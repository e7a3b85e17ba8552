/* SPDX-License-Identifier: LGPL-2.1-or-later */
/** @file All of libvirtcore: a full x86-64 virtual machine inside any program. */
#ifndef VIRTCORE_VIRTCORE_H
#define VIRTCORE_VIRTCORE_H

#include <virtcore/backend.h>
#include <virtcore/balloon.h>
#include <virtcore/block.h>
#include <virtcore/boot.h>
#include <virtcore/cpu.h>
#include <virtcore/device.h>
#include <virtcore/display.h>
#include <virtcore/error.h>
#include <virtcore/exit.h>
#include <virtcore/gdb.h>
#include <virtcore/hook.h>
#include <virtcore/input.h>
#include <virtcore/irq.h>
#include <virtcore/log.h>
#include <virtcore/memory.h>
#include <virtcore/migrate.h>
#include <virtcore/monitor.h>
#include <virtcore/net.h>
#include <virtcore/pci.h>
#include <virtcore/snapshot.h>
#include <virtcore/sriov.h>
#include <virtcore/switch.h>
#include <virtcore/types.h>
#include <virtcore/vcpu.h>
#include <virtcore/vhost_user.h>
#include <virtcore/virtio_mem.h>
#include <virtcore/vm.h>

#endif
