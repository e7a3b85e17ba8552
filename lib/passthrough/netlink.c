/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One request to the kernel's network configuration (rtnetlink(7)): what a virtual function's port is like. */
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "passthrough/sriov.h"

/* IFLA_VFINFO_LIST > IFLA_VF_INFO > the attribute */
struct request {
	struct nlmsghdr head;
	struct ifinfomsg link;
	struct nlattr list, info, value;
	union {
		struct ifla_vf_mac mac;
		struct ifla_vf_vlan vlan;
	} u;
};

struct answer {
	struct nlmsghdr head;
	struct nlmsgerr error;
};

static void fill(struct request *q, unsigned interface, uint32_t index, const uint8_t *mac, uint32_t vlan,
                 uint32_t priority)
{
	uint16_t size = mac ? sizeof q->u.mac : sizeof q->u.vlan;

	*q = (struct request){
	    .head = {.nlmsg_type = RTM_SETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = 1},
	    .link = {.ifi_family = AF_UNSPEC, .ifi_index = (int)interface},
	    .value = {(uint16_t)(sizeof q->value + size), mac ? IFLA_VF_MAC : IFLA_VF_VLAN},
	};
	q->info = (struct nlattr){(uint16_t)(sizeof q->info + q->value.nla_len), IFLA_VF_INFO | NLA_F_NESTED};
	q->list = (struct nlattr){(uint16_t)(sizeof q->list + q->info.nla_len), IFLA_VFINFO_LIST | NLA_F_NESTED};
	q->head.nlmsg_len = (uint32_t)(offsetof(struct request, list) + q->list.nla_len);
	if (mac) {
		q->u.mac.vf = index;
		memcpy(q->u.mac.mac, mac, 6);
	} else {
		q->u.vlan = (struct ifla_vf_vlan){index, vlan, priority};
	}
}

/* 0 or -errno, as the kernel answers. */
static int ask(const struct request *q)
{
	struct answer answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), r;
	ssize_t n;

	if (fd < 0)
		return -errno;
	r = send(fd, q, q->head.nlmsg_len, 0) < 0 ? -errno : 0;
	if (r >= 0) {
		n = recv(fd, &answer, sizeof answer, 0);
		if (n < 0)
			r = -errno;
		else if (n < (ssize_t)sizeof answer || answer.head.nlmsg_type != NLMSG_ERROR)
			r = -EPROTO;
		else
			r = answer.error.error;
	}
	close(fd);
	return r;
}

int vc_netlink_set_vf(const char *interface, uint32_t index, const uint8_t *mac, uint32_t vlan, uint32_t priority)
{
	struct request q;
	unsigned number = if_nametoindex(interface);
	int r;

	if (!number)
		return vc_fail(ENODEV, "there is no network interface %s", interface);
	fill(&q, number, index, mac, vlan, priority);
	r = ask(&q);
	if (r == -EPERM)
		return vc_fail(EPERM, "%s: what its virtual functions are like takes CAP_NET_ADMIN", interface);
	return r < 0 ? vc_fail_errno(-r, "%s: its driver refuses the %s of virtual function %u", interface,
	                             mac ? "MAC address" : "VLAN", index)
	             : 0;
}
