/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vhost-user's numbers, as both ends know them. */
#ifndef VC_VHOST_PROTOCOL_H
#define VC_VHOST_PROTOCOL_H

#include <stdint.h>

/* Among the device's features */
#define VC_VHOST_F_LOG_ALL  (1ull << 26) /* what the back-end writes is marked in the log */
#define VC_VHOST_F_PROTOCOL (1ull << 30) /* there are protocol features */

/* Protocol features */
#define VC_VHOST_P_MQ           (1ull << 0)
#define VC_VHOST_P_LOG_SHMFD    (1ull << 1)
#define VC_VHOST_P_REPLY_ACK    (1ull << 3)
#define VC_VHOST_P_BACKEND_REQ  (1ull << 5)
#define VC_VHOST_P_CONFIG       (1ull << 9)
#define VC_VHOST_P_INFLIGHT     (1ull << 12)
#define VC_VHOST_P_RESET_DEVICE (1ull << 13)
#define VC_VHOST_P_MEM_SLOTS    (1ull << 15)
#define VC_VHOST_P_STATUS       (1ull << 16)

enum { VC_VHOST_CONFIG_MAX = 256, VC_VHOST_REGIONS_MAX = 8 /* of one memory table */ };

/* Requests of the front-end */
enum {
	VC_VHOST_GET_FEATURES = 1,
	VC_VHOST_SET_FEATURES = 2,
	VC_VHOST_SET_OWNER = 3,
	VC_VHOST_RESET_OWNER = 4,
	VC_VHOST_SET_MEM_TABLE = 5,
	VC_VHOST_SET_LOG_BASE = 6,
	VC_VHOST_SET_LOG_FD = 7,
	VC_VHOST_SET_VRING_NUM = 8,
	VC_VHOST_SET_VRING_ADDR = 9,
	VC_VHOST_SET_VRING_BASE = 10,
	VC_VHOST_GET_VRING_BASE = 11,
	VC_VHOST_SET_VRING_KICK = 12,
	VC_VHOST_SET_VRING_CALL = 13,
	VC_VHOST_SET_VRING_ERR = 14,
	VC_VHOST_GET_PROTOCOL_FEATURES = 15,
	VC_VHOST_SET_PROTOCOL_FEATURES = 16,
	VC_VHOST_GET_QUEUE_NUM = 17,
	VC_VHOST_SET_VRING_ENABLE = 18,
	VC_VHOST_SET_BACKEND_REQ_FD = 21,
	VC_VHOST_GET_CONFIG = 24,
	VC_VHOST_SET_CONFIG = 25,
	VC_VHOST_GET_INFLIGHT_FD = 31,
	VC_VHOST_SET_INFLIGHT_FD = 32,
	VC_VHOST_RESET_DEVICE = 34,
	VC_VHOST_GET_MAX_MEM_SLOTS = 36,
	VC_VHOST_ADD_MEM_REG = 37,
	VC_VHOST_REM_MEM_REG = 38,
	VC_VHOST_SET_STATUS = 39,
	VC_VHOST_GET_STATUS = 40,

	VC_VHOST_REQUESTS,
};

/* Among the back-end's own */
enum { VC_VHOST_BACKEND_CONFIG_CHANGE = 2 };

enum {
	VC_VHOST_VRING_NO_FD = 1 << 8, /* beside the index of a queue in SET_VRING_KICK and the like */
	VC_VHOST_DEFAULT_QUEUES = 2,   /* without VC_VHOST_P_MQ */
	VC_VHOST_CONFIG_HEADER = 12,
};

struct vc_vhost_wire_region {
	uint64_t gpa, length, address, offset;
};

/* "SET_MEM_TABLE"; "?" for what is no request. */
const char *vc_vhost_request_name(uint32_t request);

#endif
