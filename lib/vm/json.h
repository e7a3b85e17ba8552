/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The keys of a JSON description, for reading (json.c) and writing (json_print.c) it. */
#ifndef VC_VM_JSON_H
#define VC_VM_JSON_H

#include <json.h>

#include "vm/vm.h"

struct vc_json_word {
	const char *name;
	uint32_t value;
};

enum vc_json_kind {
	VC_JSON_WORD,
	VC_JSON_FLAGS,
	VC_JSON_BOOL, /* a uint32_t of 0 or 1 */
	VC_JSON_BOOL_NOT,
	VC_JSON_U32,
	VC_JSON_U64,
	VC_JSON_SIZE,
	VC_JSON_STRING, /* null: NULL */
	VC_JSON_STRINGS,
	VC_JSON_ELSEWHERE
};

/* One key: where its value goes in the options struct. */
struct vc_json_key {
	const char *name;
	enum vc_json_kind kind;
	size_t offset;
	const struct vc_json_word *words;
	uint64_t max;
};

extern const struct vc_json_word vc_json_machine_words[], vc_json_backend_words[], vc_json_engine_words[],
    vc_json_irqchip_words[], vc_json_unhandled_words[];

/* Of struct vcore_options and struct vcore_boot_options; up to a name of NULL. */
extern const struct vc_json_key vc_json_vm_keys[], vc_json_boot_keys[];

/* A description's text as an object. */
int vc_json_parse(const char *text, struct json_object **root);
/* Values into the options struct, which borrows strings from the object; an array of strings is the caller's to free.
 */
int vc_json_take(struct json_object *object, const struct vc_json_key *keys, void *options);
/* The other way round: every key of the table. */
void vc_json_put(struct json_object *object, const struct vc_json_key *keys, const void *options);
/* An array of objects with a "type". */
int vc_json_check_devices(struct json_object *devices);

#endif
