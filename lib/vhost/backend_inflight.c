/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory in which rings keep what is in flight: the front-end holds it while we are away. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "vhost/backend.h"

static uint64_t bytes_of_ring(const struct vcore_vhost_user *s, uint32_t size)
{
	return vc_virtq_inflight_bytes(s->features & VC_VIRTIO_F_RING_PACKED, size);
}

static int check(const struct vcore_vhost_user *s, const struct vc_vhost_wire_inflight *i)
{
	if (!i->rings || i->rings > s->ring_count || !i->size || i->size > VC_VIRTQ_MAX_SIZE)
		return vc_fail(EPROTO, "what is in flight of %u rings of %u: expected up to %u of up to %u", i->rings, i->size,
		               s->ring_count, VC_VIRTQ_MAX_SIZE);
	return 0;
}

int vc_vhost_backend_new_inflight(const struct vcore_vhost_user *s, struct vc_vhost_wire_inflight *i)
{
	int fd, r = check(s, i);

	if (r < 0)
		return r;
	i->length = i->rings * bytes_of_ring(s, i->size);
	i->offset = 0;
	fd = memfd_create("virtcore-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return vc_fail_errno(errno, "memory for what is in flight");
	if (ftruncate(fd, (off_t)i->length) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
		r = vc_fail_errno(errno, "memory for what is in flight");
		close(fd);
		return r;
	}
	return fd;
}

void vc_vhost_backend_drop_inflight(struct vcore_vhost_user *s)
{
	for (uint32_t i = 0; i < s->ring_count; i++)
		vc_virtq_set_inflight(s->v, i, NULL, 0);
	vc_vhost_backend_unshare(&s->inflight);
}

int vc_vhost_backend_set_inflight(struct vcore_vhost_user *s, const struct vc_vhost_wire_inflight *i, int fd)
{
	uint64_t bytes;
	int r = check(s, i);

	for (uint32_t n = 0; r >= 0 && n < s->ring_count; n++)
		if (s->rings[n].live)
			r = vc_fail(EPROTO, "ring %u is under way", n);
	if (r < 0)
		return r;
	bytes = bytes_of_ring(s, i->size);
	if (i->length < i->rings * bytes || i->offset % sizeof(uint64_t))
		return vc_fail(EPROTO, "what is in flight in %llu bytes at %#llx: expected %llu for %u rings",
		               (unsigned long long)i->length, (unsigned long long)i->offset,
		               (unsigned long long)(i->rings * bytes), i->rings);
	vc_vhost_backend_drop_inflight(s);
	r = vc_vhost_backend_share(s, fd, i->offset, i->length, "memory for what is in flight", &s->inflight);
	for (uint32_t n = 0; r >= 0 && n < i->rings; n++)
		if (vc_virtq_set_inflight(s->v, n, s->inflight.at + n * bytes, i->size) < 0)
			r = vc_fail(ENOMEM, "no memory for what is in flight");
	if (r < 0)
		vc_vhost_backend_drop_inflight(s);
	return r;
}
