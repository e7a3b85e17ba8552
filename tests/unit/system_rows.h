/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A machine in a mode, and rows of what an instruction does there: for the tests of system instructions. */
#ifndef SYSTEM_ROWS_H
#define SYSTEM_ROWS_H

#include "emu_machine.h"

static struct machine *m;

static void setup(void)
{
	m = machine_new();
}
static void teardown(void)
{
	machine_free(m);
}

#define LE32(v) (uint8_t)(v), (uint8_t)((v) >> 8), (uint8_t)((v) >> 16), (uint8_t)((v) >> 24)

/* A row's expectation: fault 0 is none. */
#define ck_row(o, row, n)                                                                                            \
	ck_assert_msg((row)[n].fault ? (o).what == RAISED && (o).vector == (row)[n].fault && (o).error == (row)[n].error \
	                             : (o).what == RAN,                                                                  \
	              "row %u: vector %u error %#x (%s)", n, (o).vector, (o).error, (o).what == RAN ? "ran" : "raised")

enum mode { REAL, PROT0, PROT3, LONG0, LONG3 };

static void enter(enum mode mode)
{
	switch (mode) {
	case REAL:
		enter_real(m);
		break;
	case PROT0:
	case PROT3:
		enter_protected(m, mode == PROT3 ? 3 : 0);
		break;
	default:
		enter_long(m, mode == LONG3 ? 3 : 0);
	}
}

#endif
