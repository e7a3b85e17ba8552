/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A callback of the program's that runs on the loop, with no lock held, soon after there is something to tell, and
 * never after it was taken away. What there is to tell is kept by the owner, which is reference-counted and may outlive
 * the loop. Every function may be called from any thread, the callback included.
 */
#ifndef VC_CORE_NOTICE_H
#define VC_CORE_NOTICE_H

#include <pthread.h>

#include "core/loop.h"

typedef void (*vc_notice_fn)(void); /* to be cast to what it is */

struct vc_notice {
	vc_loop_fn deliver;
	void *owner;
	pthread_mutex_t lock; /* protects all below; before the loop's */
	pthread_cond_t idle;
	struct vc_loop *loop; /* NULL: closed */
	vc_notice_fn fn;      /* NULL: none */
	void *ctx;
	bool posted, running;
	pthread_t runner; /* while running */
};

/* deliver(owner) is called on the loop: it holds a reference to the owner and asks vc_notice_begin(). */
void vc_notice_init(struct vc_notice *notice, struct vc_loop *loop, vc_loop_fn deliver, void *owner);
/* Closed before. */
void vc_notice_fini(struct vc_notice *notice);
/* Another callback; fn NULL: none. Returns once the one before does not run, unless called from it. */
void vc_notice_set(struct vc_notice *notice, vc_notice_fn fn, void *ctx);
/* There is something to tell. */
void vc_notice_raise(struct vc_notice *notice);
/* In deliver: false: nobody is to be told. Else the callback, which may be called until vc_notice_end(). */
bool vc_notice_begin(struct vc_notice *notice, vc_notice_fn *fn, void **ctx);
void vc_notice_end(struct vc_notice *notice);
/* The loop is not used any more when this returns, and no deliver runs, unless called from it. */
void vc_notice_close(struct vc_notice *notice);

#endif
