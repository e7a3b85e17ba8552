/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device type vfio-user: what its properties say. */
#include <string.h>

#include "core/error.h"
#include "device/device.h"
#include "passthrough/types.h"
#include "passthrough/user_device.h"

static int read_choice(struct vc_props *props, const char *key, const char *const *choices, unsigned count,
                       unsigned *choice)
{
	const char *text = vc_props_string(props, key, choices[*choice]);

	for (*choice = 0; *choice < count; ++*choice)
		if (!strcmp(text, choices[*choice]))
			return 0;
	return vc_fail(EINVAL, "vfio-user: %s '%s': expected %s, %s%s%s", key, text, choices[0], choices[1],
	               count > 2 ? " or " : "", count > 2 ? choices[2] : "");
}

static int read_settings(struct vc_props *props, struct vc_user_settings *s)
{
	static const char *const map_bars[] = {"off", "sealed", "any"}, *const dma[] = {"messages", "shared"};
	unsigned map = VC_USER_MAP_SEALED, shares = true;
	int r;

	s->socket = vc_props_string(props, "socket", NULL);
	if (!s->socket)
		return vc_fail(EINVAL, "vfio-user: socket is missing: expected the path of the server's unix socket");
	r = vc_props_u64(props, "timeout_ms", 5000, 1, 600000, &s->timeout_ms);
	if (r >= 0)
		r = read_choice(props, "map_bars", map_bars, 3, &map);
	if (r >= 0)
		r = read_choice(props, "dma", dma, 2, &shares);
	s->map_bars = (enum vc_user_map_bars)map;
	s->shares = shares;
	return r;
}

static int create(struct vc_env *env, struct vc_props *props, struct vc_dev **dev)
{
	struct vc_user_device *d;
	struct vc_user_settings s;
	int r = read_settings(props, &s);

	if (r >= 0)
		r = vc_user_device_new(env->log, &s, -1, &d);
	return r < 0 ? r : vc_passthrough_add(env, props, vc_vfio_user_type.name, &d->physical, dev);
}

const struct vc_device_type vc_vfio_user_type = {
    .name = "vfio-user",
    .summary = "a PCI device that another process serves (vfio-user)",
    .properties =
        "socket       path of the unix socket on which the server listens\n"
        "timeout_ms   how long the server may take to answer (5000)\n"
        "map_bars     files of the server's that are mapped as BARs: off; sealed: those that it cannot shrink;"
        " any (sealed)\n"
        "dma          shared: the server maps the guest's memory, which must be of memory_kind memfd; "
        "messages: it asks for every byte (shared)\n" VC_PASSTHROUGH_PROPERTIES,
    .create = create,
};
