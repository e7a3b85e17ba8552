/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The requests to /dev/vhost-net and /dev/vhost-vsock. */
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "vhost/kernel.h"

static const char *path_of(const struct vc_kernel_device *d)
{
	return d->tap >= 0 ? "/dev/vhost-net" : "/dev/vhost-vsock";
}

static int ask(const struct vc_kernel_device *d, unsigned long request, const char *name, void *argument)
{
	return ioctl(d->fd, request, argument) < 0 ? vc_fail_errno(errno, "%s: %s", path_of(d), name) : 0;
}

static int open_device(struct vc_kernel_device *d)
{
	const char *path = path_of(d);
	int r;

	d->fd = open(path, O_RDWR | O_CLOEXEC);
	if (d->fd < 0)
		return vc_fail_errno(errno, "cannot open %s%s", path,
		                     errno == EACCES || errno == EPERM ? " (group kvm, or a udev rule, gives access)"
		                                                       : " (kernel module vhost_net or vhost_vsock)");
	r = ask(d, VHOST_SET_OWNER, "VHOST_SET_OWNER", NULL);
	if (r >= 0)
		r = ask(d, VHOST_GET_FEATURES, "VHOST_GET_FEATURES", &d->features);
	if (r >= 0 && !(d->features & VC_VIRTIO_F_VERSION_1))
		r = vc_fail(ENOTSUP, "%s: features %#llx: expected VERSION_1 among them", path,
		            (unsigned long long)d->features);
	if (r < 0)
		vc_kernel_close(d);
	return r;
}

int vc_kernel_open_net(struct vc_kernel_device *d, int tap)
{
	d->tap = tap;
	return open_device(d);
}

int vc_kernel_open_vsock(struct vc_kernel_device *d, uint64_t cid)
{
	int r;

	d->tap = -1;
	r = open_device(d);
	if (r < 0)
		return r;
	if (ioctl(d->fd, VHOST_VSOCK_SET_GUEST_CID, &cid) < 0) {
		r = vc_fail_errno(errno, "/dev/vhost-vsock: context ID %llu%s", (unsigned long long)cid,
		                  errno == EADDRINUSE ? " is another guest's" : "");
		vc_kernel_close(d);
	}
	return r;
}

void vc_kernel_close(struct vc_kernel_device *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

int vc_kernel_set_features(const struct vc_kernel_device *d, uint64_t features)
{
	return ask(d, VHOST_SET_FEATURES, "VHOST_SET_FEATURES", &features);
}

int vc_kernel_set_memory(const struct vc_kernel_device *d, const struct vc_kernel_table *t)
{
	uint64_t log = (uintptr_t)t->log;
	int r = ask(d, VHOST_SET_MEM_TABLE, "VHOST_SET_MEM_TABLE", t->memory);

	return r >= 0 && log ? ask(d, VHOST_SET_LOG_BASE, "VHOST_SET_LOG_BASE", &log) : r;
}

int vc_kernel_set_ring(const struct vc_kernel_device *d, unsigned n, const struct vc_kernel_ring *ring)
{
	struct vhost_vring_state size = {n, ring->queue.size}, base = {n, ring->queue.base};
	struct vhost_vring_file kick = {n, ring->queue.bell}, call = {n, ring->queue.call};
	struct vhost_vring_addr addresses = {
	    .index = n,
	    .desc_user_addr = (uintptr_t)ring->descriptors,
	    .avail_user_addr = (uintptr_t)ring->driver,
	    .used_user_addr = (uintptr_t)ring->device,
	};
	const struct {
		unsigned long request;
		const char *name;
		void *argument;
	} requests[] = {
	    {VHOST_SET_VRING_NUM, "VHOST_SET_VRING_NUM", &size},
	    {VHOST_SET_VRING_BASE, "VHOST_SET_VRING_BASE", &base},
	    {VHOST_SET_VRING_ADDR, "VHOST_SET_VRING_ADDR", &addresses},
	    {VHOST_SET_VRING_CALL, "VHOST_SET_VRING_CALL", &call},
	    {VHOST_SET_VRING_KICK, "VHOST_SET_VRING_KICK", &kick},
	};
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < VC_ARRAY_SIZE(requests); i++)
		r = ask(d, requests[i].request, requests[i].name, requests[i].argument);
	return r;
}

int vc_kernel_get_base(const struct vc_kernel_device *d, unsigned n, uint16_t *base)
{
	struct vhost_vring_state state = {n, 0};
	int r = ask(d, VHOST_GET_VRING_BASE, "VHOST_GET_VRING_BASE", &state);

	*base = (uint16_t)state.num;
	return r;
}

int vc_kernel_run(const struct vc_kernel_device *d, unsigned n, bool on)
{
	struct vhost_vring_file backend = {n, on ? d->tap : -1};
	int running = on;

	if (d->tap >= 0)
		return ask(d, VHOST_NET_SET_BACKEND, "VHOST_NET_SET_BACKEND", &backend);
	return n ? 0 : ask(d, VHOST_VSOCK_SET_RUNNING, "VHOST_VSOCK_SET_RUNNING", &running);
}
