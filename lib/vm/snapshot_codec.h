/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A snapshot without the contents of its memory as bytes: for files, and for migration. */
#ifndef VC_VM_SNAPSHOT_CODEC_H
#define VC_VM_SNAPSHOT_CODEC_H

#include "vm/snapshot.h"

/* *data is the caller's to free(). 0; -ENOMEM; -ENOTSUP: a build without json-c */
int vc_snapshot_encode(const struct vcore_snapshot *snapshot, uint8_t **data, size_t *length);
/*
 * What vc_snapshot_encode() made; bytes may follow. All is checked but what only a vm can check: vcpu and device states
 * are taken apart by those who load them. The slots have no images: the caller gives each its own before the snapshot
 * is used, or drops it by vcore_snapshot_unref(). 0; -EINVAL cut off, altered, of another version or contradictory;
 * -ENOTSUP a CPU feature that this library does not know, or a build without json-c; -ENOMEM
 */
int vc_snapshot_decode(const uint8_t *data, size_t length, struct vcore_snapshot **snapshot);

/* snapshot_header.c: the section HEAD as text. NULL with a sentence; free() */
char *vc_snapshot_header_write(const struct vcore_snapshot *snapshot);
/* Fills in all but the states, which have room then: vcpu, device[].state of device[].length, and slots. The caller
 * drops the snapshot on failure. */
int vc_snapshot_header_read(const char *text, struct vcore_snapshot *snapshot);

#endif
