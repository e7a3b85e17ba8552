/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What we ask of the front-end, on a socket that it has given. */
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost/backend.h"

void vc_vhost_backend_set_channel(struct vcore_vhost_user *s, int fd)
{
	int old;

	pthread_mutex_lock(&s->channel_lock);
	old = s->channel;
	s->channel = fd;
	pthread_mutex_unlock(&s->channel_lock);
	if (old >= 0)
		close(old);
}

/* One that does not listen is not waited for: it can read the configuration when it wants to. */
void vc_vhost_backend_tell_config(struct vcore_vhost_user *s)
{
	const struct vc_vhost_message m = {.request = VC_VHOST_BACKEND_CONFIG_CHANGE, .flags = VC_VHOST_VERSION};

	pthread_mutex_lock(&s->channel_lock);
	while (s->channel >= 0 &&
	       send(s->channel, &m, offsetof(struct vc_vhost_message, payload), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	       errno == EINTR)
		;
	pthread_mutex_unlock(&s->channel_lock);
}
