/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a switch has learned: behind which port an address of a VLAN is. Bounded, ages. Readers take no lock: each
 * bucket has a sequence number, odd while a writer is in it; a writer that finds another one there gives up, for the
 * next frame teaches the same.
 */
#ifndef VC_NET_MAC_TABLE_H
#define VC_NET_MAC_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	MAC_TABLE_BUCKETS = 1024,
	MAC_TABLE_WAYS = 4,
	MAC_TABLE_AGE = 300, /* seconds (IEEE 802.1Q, 8.8.3) */
	MAC_TABLE_PORTS = 256,
	MAC_TABLE_PORT_MAX = 1024, /* entries of one port: one that makes addresses up does not push out the others' */
};

/* Address in the low 48 bits as loaded, VLAN above. */
typedef uint64_t vc_mac_key;

struct vc_mac_entry {
	_Atomic uint64_t key;   /* 0: none (address 0 of VLAN 0 is nobody's) */
	_Atomic uint64_t value; /* port << 32 | second it was last seen in */
};

struct vc_mac_bucket {
	_Atomic uint32_t sequence;
	struct vc_mac_entry entries[MAC_TABLE_WAYS];
};

struct vc_mac_table {
	_Atomic int32_t used[MAC_TABLE_PORTS]; /* entries of each port */
	struct vc_mac_bucket buckets[MAC_TABLE_BUCKETS];
};

/* The port, or -1. now: seconds of any steady clock. */
int vc_mac_find(struct vc_mac_table *table, vc_mac_key key, uint32_t now);
void vc_mac_learn(struct vc_mac_table *table, vc_mac_key key, unsigned port, uint32_t now);
/* Nobody uses the table meanwhile. */
void vc_mac_forget(struct vc_mac_table *table, unsigned port);

#endif
