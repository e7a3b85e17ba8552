/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory for host code: one object mapped twice, never writable and executable at one address. */
#ifndef VC_EMU_CODEMAP_H
#define VC_EMU_CODEMAP_H

#include <stddef.h>
#include <stdint.h>

/* what: what it is for, in errors and as the object's name. Backed as it is used. 0, or -errno with both NULL. */
int emu_codemap_new(const char *what, size_t size, uint8_t **write, uint8_t **execute);
/* NULLs are left alone. */
void emu_codemap_free(uint8_t *write, uint8_t *execute, size_t size);

#endif
