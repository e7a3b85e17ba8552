/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kinds of network backings: one row each. */
#include "config.h"
#include "net/net_priv.h"

const struct vc_net_kind *const vc_net_kinds[] = {
    &vc_net_none_kind,
    &vc_net_socket_kind,
    &vc_net_switch_kind,
    &vc_net_tap_kind,
#ifdef VC_HAVE_SLIRP
    &vc_net_user_kind,
#endif
    NULL,
};
