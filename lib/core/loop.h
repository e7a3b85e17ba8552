/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The event loop of a vm: file descriptors, timers in guest time, posted calls.
 *
 * Callbacks run on the thread that drives the loop (the library's own, started at the first use in VCORE_LOOP_THREAD
 * mode, or the program's), with no lock held. Every function may be called from any thread, callbacks included.
 * cancel/remove return only once the callback is not running (unless called from that very callback).
 */
#ifndef VC_CORE_LOOP_H
#define VC_CORE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/clock.h"

struct vc_loop;
struct vc_timer; /* made once, armed many times */
struct vc_watch;

typedef void (*vc_loop_fn)(void *ctx);
/* events: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
typedef void (*vc_watch_fn)(void *ctx, uint32_t events);

/* own_thread: start a thread when the first timer, watch or post is used. clock is borrowed. 0 or -errno. */
int vc_loop_new(struct vc_clock *clock, bool own_thread, struct vc_loop **loop);
/* Not before vc_loop_begin() is there a thread: whoever waits for the loop's doing waits until then. Before the first
 * use. */
void vc_loop_defer(struct vc_loop *loop);
int vc_loop_begin(struct vc_loop *loop); /* 0 or -errno; also when it was not deferred */
/* Stops and joins the thread, drops what is still posted; timers and watches must be gone. NULL is allowed. */
void vc_loop_free(struct vc_loop *loop);
/* Without own thread: descriptor that polls readable when there is work, and one turn. */
int vc_loop_fd(struct vc_loop *loop);
int vc_loop_run(struct vc_loop *loop, int64_t timeout_ns); /* as vcore_vm_loop_run(); a signal ends the wait too */
/* True on the thread that is now inside the loop. */
bool vc_loop_is_self(const struct vc_loop *loop);
/*
 * Nothing is called from when hold returns until release; what became due meanwhile is called then. Waits for a
 * callback that runs, but for the caller's own. Holds of several threads add up.
 */
void vc_loop_hold(struct vc_loop *loop);
void vc_loop_release(struct vc_loop *loop);
/* The clock was stopped, started or set: recompute deadlines. */
void vc_loop_clock_changed(struct vc_loop *loop);

int vc_timer_new(struct vc_loop *loop, vc_loop_fn fn, void *ctx, struct vc_timer **timer);
void vc_timer_free(struct vc_timer *timer); /* NULL is allowed */
/* One shot at guest time deadline_ns (a past one fires at once); re-arming replaces. Cheap when nothing gets earlier.
 */
void vc_timer_arm(struct vc_timer *timer, uint64_t deadline_ns);
void vc_timer_cancel(struct vc_timer *timer);

/* A descriptor that epoll refuses (regular file, /dev/null) counts as always ready, as in poll(2). */
int vc_watch_new(struct vc_loop *loop, int fd, uint32_t events, vc_watch_fn fn, void *ctx, struct vc_watch **watch);
int vc_watch_set_events(struct vc_watch *watch, uint32_t events);
void vc_watch_free(struct vc_watch *watch); /* fd stays the caller's; NULL is allowed */

/* Run fn once on the loop's thread, soon. 0 or -ENOMEM. */
int vc_loop_post(struct vc_loop *loop, vc_loop_fn fn, void *ctx);
/* Drop all posted calls of fn with ctx that have not run, and wait for a running one (unless called from it). */
void vc_loop_cancel_post(struct vc_loop *loop, vc_loop_fn fn, void *ctx);

#endif
