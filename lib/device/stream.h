/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where characters of a device go to and come from on the host: null, stdin, stdout, stderr, a descriptor, a file, a
 * pty. Descriptors are duplicated and never switched to non-blocking mode, for others share them; still no call here
 * blocks.
 */
#ifndef VC_DEVICE_STREAM_H
#define VC_DEVICE_STREAM_H

#include "chipset/chipset.h"

/* One pty in raw mode: its master side, and the path that others open. */
struct vc_pty {
	int master;
	int slave; /* kept open, so that the master does not hang up while nobody else has it open */
	char path[64];
};
int vc_pty_open(struct vc_pty *pty);
void vc_pty_close(struct vc_pty *pty);

/* Output with a bounded buffer. All calls from any thread. */
struct vc_output;
/*
 * spec: "null", "stdout", "stderr", "fd:N" or "file:PATH". ready: called on the loop's thread, without locks, when
 * there is room again after vc_output_room() had been false, or vc_output_write() had not taken all.
 */
int vc_output_open(struct vc_env *env, const char *spec, vc_loop_fn ready, void *ctx, struct vc_output **out);
/* The pty's master: what nobody reads is dropped once the pty's own buffer is full. pty outlives the output. */
int vc_output_open_pty(struct vc_env *env, const struct vc_pty *pty, struct vc_output **out);
void vc_output_close(struct vc_output *out); /* NULL is allowed. Not while holding a lock that ready takes */
/* Drops the byte when there is no room. */
void vc_output_put(struct vc_output *out, uint8_t byte);
bool vc_output_room(struct vc_output *out);
/* Takes as much as there is room for, and returns how much; after less than all, ready is called (it must be there). */
size_t vc_output_write(struct vc_output *out, const void *data, size_t length);
/* Logs, once, that the output is gone. Without locks: the log calls the program. Cheap when there is nothing to say. */
void vc_output_report(struct vc_output *out);

/* Input. read, pause and resume are called under a lock of the owner's, which `ready` takes itself. */
struct vc_input;
/* spec: "null", "stdin", "fd:N" or "file:PATH". ready: there may be something to read; called on the loop's thread,
 * without locks. */
int vc_input_open(struct vc_env *env, const char *spec, vc_loop_fn ready, void *ctx, struct vc_input **in);
int vc_input_open_pty(struct vc_env *env, const struct vc_pty *pty, vc_loop_fn ready, void *ctx, struct vc_input **in);
void vc_input_close(struct vc_input *in); /* NULL is allowed. Not while holding a lock that ready takes */
/* What is there now, at most length bytes; 0: nothing. */
size_t vc_input_read(struct vc_input *in, uint8_t *data, size_t length);
/* No calls of ready until resume, which must be called for it to go on. */
void vc_input_pause(struct vc_input *in);
void vc_input_resume(struct vc_input *in);

#endif
