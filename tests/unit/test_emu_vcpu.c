/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The run loop of backend emu: exits and their restart, events and shadows, debugging, halts, requests, start-up, MSRs,
 * paravirtual services. */
#include <pthread.h>
#include <unistd.h>

#include "emu_world.h"

/* Where things lie in the 64-bit test machine. */
enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	GDT = 0x3000,
	IDT = 0x4000,
	TSS = 0x5000,
	HANDLERS = 0x6000, /* 16 bytes a vector: mov al, vector; out 0xe0, al; iretq */
	STACK = 0x9000,
	CODE = 0x10000,
	DATA = 0x20000,
	PAGE_FOR_PV = 0x30000,
};
#define NOBODY     0xe0000000ull
#define EVENT_PORT 0xe0u

struct machine {
	struct world *w;
	struct emu_vcpu *c;
	struct vc_bvcpu *v;
	struct vcore_exit exit;
	struct vc_cpu_state state;
	struct vc_loop *loop;
};

static void put64(struct world *w, uint64_t gpa, uint64_t value)
{
	vc_mem_write(&w->mem, gpa, &value, 8);
}

static void build_tables(struct world *w)
{
	for (unsigned i = 0; i < 4; i++)
		put64(w, PDPT + i * 8, (uint64_t)i << 30 | 0x87);
	put64(w, PML4, PDPT | 7);
	put64(w, GDT + 0x08, 0x00209b0000000000ull);
	put64(w, GDT + 0x10, 0x00cf93000000ffffull);
	put64(w, GDT + 0x18, 0x0020fb0000000000ull);
	put64(w, GDT + 0x20, 0x00cff3000000ffffull);
	for (unsigned n = 0; n < 256; n++) {
		uint8_t code[] = {0xb0, (uint8_t)n, 0xe6, EVENT_PORT, 0x48, 0xcf};

		vc_mem_write(&w->mem, HANDLERS + 16 * n, code, sizeof code);
		put64(w, IDT + 16 * n, (uint64_t)(HANDLERS + 16 * n) | 0x08u << 16 | 0xee00ull << 32);
		put64(w, IDT + 16 * n + 8, 0);
	}
	put64(w, TSS + 4, STACK);
}

static void machine_state(struct machine *m, const void *code, size_t length)
{
	struct vc_cpu_state *s = &m->state;

	vc_mem_write(&m->w->mem, CODE, code, length);
	vc_cpu_state_reset(s, true);
	vc_cpu_state_long64(s, PML4);
	s->gdtr = (struct vc_table){.base = GDT, .limit = 0x27};
	s->idtr = (struct vc_table){.base = IDT, .limit = 0xfff};
	s->tr = (struct vc_segment){.base = TSS, .limit = 0x67, .selector = 0x28, .attr = 0x8b};
	s->seg[VC_CS].selector = 0x08;
	s->seg[VC_SS].selector = s->seg[VC_DS].selector = s->seg[VC_ES].selector = 0x10;
	s->rip = CODE;
	s->gpr[VC_RSP] = STACK;
	ck_assert_int_eq(vc_backend_emu.set_state(m->v, s), 0);
}

static struct machine *machine_new(unsigned vcpus, enum vcore_unhandled unhandled)
{
	struct machine *m = aligned_alloc(64, VC_ALIGN_UP(sizeof *m, 64));

	memset(m, 0, sizeof *m);
	m->w = world_new(vcpus, unhandled);
	m->v = &m->w->vcpu[0];
	m->c = world_cpu(m->w, 0);
	m->exit.size = sizeof m->exit;
	build_tables(m->w);
	return m;
}

static void machine_free(struct machine *m)
{
	world_free(m->w);
	free(m);
}

static enum vcore_exit_reason run(struct machine *m)
{
	ck_assert_int_eq(vc_backend_emu.run(m->v, &m->exit), 0);
	vc_backend_emu.get_state(m->v, &m->state);
	return m->exit.reason;
}

/* Start `code`, run to the first exit. */
static enum vcore_exit_reason start(struct machine *m, const void *code, size_t length)
{
	machine_state(m, code, length);
	return run(m);
}
#define START(m, ...)                                 \
	__extension__({                                   \
		static const uint8_t code_[] = {__VA_ARGS__}; \
		start(m, code_, sizeof code_);                \
	})
#define LOAD(m, ...)                                  \
	__extension__({                                   \
		static const uint8_t code_[] = {__VA_ARGS__}; \
		machine_state(m, code_, sizeof code_);        \
	})

/* The exit is the handler of this vector telling that it runs. */
static bool is_event(const struct machine *m, unsigned vector)
{
	return m->exit.reason == VCORE_EXIT_PIO && m->exit.address == EVENT_PORT && m->exit.data == vector;
}

/* ---- exits ---- */

START_TEST(halt)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* mov eax, 5; hlt; inc eax; hlt */
	ck_assert_int_eq(START(m, 0xb8, 5, 0, 0, 0, 0xf4, 0xff, 0xc0, 0xf4), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.rip, CODE + 6);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], 5);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], 6);
	machine_free(m);
}
END_TEST

START_TEST(ports)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* mov dx, 0x1234; in ax, dx; out dx, eax; hlt */
	ck_assert_int_eq(START(m, 0x66, 0xba, 0x34, 0x12, 0x66, 0xed, 0xef, 0xf4), VCORE_EXIT_PIO);
	ck_assert(m->exit.address == 0x1234 && m->exit.width == 2 && !m->exit.is_write);
	ck_assert_uint_eq(m->state.rip, CODE + 4);
	m->exit.data = 0xabcd;
	ck_assert_int_eq(run(m), VCORE_EXIT_PIO);
	ck_assert(m->exit.address == 0x1234 && m->exit.width == 4 && m->exit.is_write);
	ck_assert_uint_eq(m->exit.data & 0xffff, 0xabcd);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	machine_free(m);
}
END_TEST

/* Each iteration of a repeated string instruction is an exit; what is done stays done. */
START_TEST(port_strings)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	static const uint8_t want[4] = {10, 11, 12, 13};
	uint8_t got[5];

	/* mov edi, DATA; mov esi, DATA; mov ecx, 4; mov edx, 0x77; rep insb; mov ecx, 2; rep outsw; hlt */
	LOAD(m, 0xbf, 0, 0, 2, 0, 0xbe, 0, 0, 2, 0, 0xb9, 4, 0, 0, 0, 0xba, 0x77, 0, 0, 0, 0xf3, 0x6c, 0xb9, 2, 0, 0, 0,
	     0xf3, 0x66, 0x6f, 0xf4);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(run(m), VCORE_EXIT_PIO);
		ck_assert(m->exit.address == 0x77 && m->exit.width == 1 && !m->exit.is_write);
		ck_assert_uint_eq(m->state.gpr[VC_RCX], 4 - i);
		m->exit.data = 10 + i;
	}
	ck_assert_int_eq(run(m), VCORE_EXIT_PIO);
	vc_mem_read(&m->w->mem, DATA, got, 5);
	ck_assert(!memcmp(got, want, 4) && got[4] == 0);
	ck_assert(m->exit.is_write && m->exit.width == 2 && m->exit.data == 0x0b0a);
	ck_assert_int_eq(run(m), VCORE_EXIT_PIO);
	ck_assert_uint_eq(m->exit.data, 0x0d0c);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	machine_free(m);
}
END_TEST

START_TEST(mmio)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* mov ebx, NOBODY; add dword [rbx], 3; hlt */
	ck_assert_int_eq(START(m, 0xbb, 0, 0, 0, 0xe0, 0x83, 0x03, 3, 0xf4), VCORE_EXIT_MMIO);
	ck_assert(m->exit.address == NOBODY && m->exit.width == 4 && !m->exit.is_write);
	m->exit.data = 39;
	ck_assert_int_eq(run(m), VCORE_EXIT_MMIO);
	ck_assert(m->exit.is_write && m->exit.data == 42);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	/* mov ebx, NOBODY; push [rbx]; pop [rbx + 8]; hlt */
	ck_assert_int_eq(START(m, 0xbb, 0, 0, 0, 0xe0, 0xff, 0x33, 0x8f, 0x43, 8, 0xf4), VCORE_EXIT_MMIO);
	m->exit.data = 0x1122334455667788ull;
	ck_assert_int_eq(run(m), VCORE_EXIT_MMIO);
	ck_assert(m->exit.is_write && m->exit.address == NOBODY + 8 && m->exit.data == 0x1122334455667788ull);
	ck_assert_uint_eq(m->state.gpr[VC_RSP], STACK - 8);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.gpr[VC_RSP], STACK);
	machine_free(m);
}
END_TEST

/* The program may look at and change registers between an exit and its answer. */
START_TEST(state_between)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* 1: out 0x80, al; jmp 1b */
	ck_assert_int_eq(START(m, 0xe6, 0x80, 0xeb, 0xfc), VCORE_EXIT_PIO);
	m->state.gpr[VC_RAX] = 7;
	ck_assert_int_eq(vc_backend_emu.set_state(m->v, &m->state), 0);
	ck_assert_int_eq(run(m), VCORE_EXIT_PIO);
	ck_assert_uint_eq(m->exit.data, 7);
	/* Elsewhere: the instruction that left is not finished. */
	static const uint8_t hlt = 0xf4;
	vc_mem_write(&m->w->mem, CODE + 100, &hlt, 1);
	m->state.rip = CODE + 100;
	ck_assert_int_eq(vc_backend_emu.set_state(m->v, &m->state), 0);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	machine_free(m);
}
END_TEST

START_TEST(triple_fault)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	LOAD(m, 0x0f, 0x0b);
	m->state.idtr.limit = 0;
	vc_backend_emu.set_state(m->v, &m->state);
	ck_assert_int_eq(run(m), VCORE_EXIT_CRASH);
	ck_assert_uint_eq(m->exit.crash, VCORE_CRASH_TRIPLE_FAULT);
	ck_assert_uint_ne(m->exit.message[0], 0);
	machine_free(m);
}
END_TEST

START_TEST(faults)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* ud2 */
	START(m, 0x0f, 0x0b);
	ck_assert(is_event(m, VC_UD));
	/* xor ecx, ecx; div ecx */
	START(m, 0x31, 0xc9, 0xf7, 0xf1);
	ck_assert(is_event(m, VC_DE));
	/* mov rax, [5 GiB]: not mapped */
	START(m, 0x48, 0xa1, 0, 0, 0, 0x40, 1, 0, 0, 0);
	ck_assert(is_event(m, VC_PF));
	ck_assert_uint_eq(m->state.cr2, VC_GIB(5));
	/* int 0x41 */
	START(m, 0xcd, 0x41);
	ck_assert(is_event(m, 0x41));
	machine_free(m);
}
END_TEST

/* ---- requests ---- */

START_TEST(kick)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	LOAD(m, 0xf4);
	vc_bvcpu_request(m->v, VC_REQ_KICK);
	ck_assert_int_eq(run(m), VCORE_EXIT_KICKED);
	ck_assert_uint_eq(m->state.rip, CODE);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	LOAD(m, 0xf4);
	vc_bvcpu_request(m->v, VC_REQ_PAUSE);
	ck_assert_int_eq(run(m), VCORE_EXIT_NONE);
	vc_bvcpu_request(m->v, VC_REQ_TIMEOUT);
	ck_assert_int_eq(run(m), VCORE_EXIT_TIMEOUT);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	/* A kick between an exit and its answer comes behind the instruction. */
	ck_assert_int_eq(START(m, 0xe4, 0x80, 0xf4), VCORE_EXIT_PIO);
	m->exit.data = 9;
	vc_bvcpu_request(m->v, VC_REQ_KICK);
	ck_assert_int_eq(run(m), VCORE_EXIT_KICKED);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], 9);
	ck_assert_uint_eq(m->state.rip, CODE + 2);
	machine_free(m);
}
END_TEST

static void *kick_later(void *arg)
{
	usleep(20000);
	vc_bvcpu_request(arg, VC_REQ_KICK);
	return NULL;
}

START_TEST(kick_from_outside)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	pthread_t thread;

	/* jmp self */
	LOAD(m, 0xeb, 0xfe);
	pthread_create(&thread, NULL, kick_later, m->v);
	ck_assert_int_eq(run(m), VCORE_EXIT_KICKED);
	pthread_join(thread, NULL);
	/* rep stosb over 16 MiB, again and again */
	LOAD(m, 0xbf, 0, 0, 0x40, 0, 0xb9, 0, 0, 0, 1, 0xf3, 0xaa, 0xeb, 0xf2);
	pthread_create(&thread, NULL, kick_later, m->v);
	ck_assert_int_eq(run(m), VCORE_EXIT_KICKED);
	pthread_join(thread, NULL);
	machine_free(m);
}
END_TEST

/* ---- interrupts ---- */

START_TEST(interrupts)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* nop; nop; sti; nop; nop; hlt */
	LOAD(m, 0x90, 0x90, 0xfb, 0x90, 0x90, 0xf4);
	ck_assert_int_eq(vc_backend_emu.interrupt(m->v, 0x50), 0);
	ck_assert_int_eq(vc_backend_emu.interrupt(m->v, 0x51), -EBUSY);
	run(m);
	ck_assert(is_event(m, 0x50));
	/* STI holds it back for one instruction. */
	uint64_t rip = vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]);
	ck_assert_uint_eq(rip, CODE + 4);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	/* sti; hlt: the halt is ended at once. */
	LOAD(m, 0xfb, 0xf4, 0xf4);
	vc_backend_emu.interrupt(m->v, 0x52);
	run(m);
	ck_assert(is_event(m, 0x52));
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 2);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.rip, CODE + 3);
	/* With IF clear HLT ends the run, and the interrupt stays. */
	LOAD(m, 0xf4, 0xfb, 0x90, 0xf4);
	vc_backend_emu.interrupt(m->v, 0x53);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	ck_assert(m->state.interrupt_injected && m->state.interrupt_vector == 0x53);
	run(m);
	ck_assert(is_event(m, 0x53));
	/* sti; mov ss, eax: the second shadow follows the first. eax = 0x10. */
	LOAD(m, 0xb8, 0x10, 0, 0, 0, 0xfb, 0x8e, 0xd0, 0x90, 0x90, 0xf4);
	vc_backend_emu.interrupt(m->v, 0x54);
	run(m);
	ck_assert(is_event(m, 0x54));
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 9);
	machine_free(m);
}
END_TEST

START_TEST(nmi)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	LOAD(m, 0x90, 0xf4, 0xf4);
	vc_bvcpu_request(m->v, VC_REQ_NMI);
	run(m);
	ck_assert(is_event(m, VC_NMI));
	/* Another one waits for the IRET. */
	vc_bvcpu_request(m->v, VC_REQ_NMI);
	ck_assert_uint_eq(m->state.nmi_masked, 1);
	run(m);
	ck_assert(is_event(m, VC_NMI));
	ck_assert_uint_eq(m->state.gpr[VC_RSP], STACK - 40);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.nmi_masked, 0);
	machine_free(m);
}
END_TEST

/* ---- debugging ---- */

START_TEST(trap_flag)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* 0: pushfq; 1: or dword [rsp], 0x100; 8: nop; 9: popfq; 10: nop; 11: mov eax, edx; 13: nop; hlt */
	LOAD(m, 0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x90, 0x9d, 0x90, 0x89, 0xd0, 0x90, 0xf4);
	/* The first trap is behind the instruction that follows POPF. */
	for (unsigned i = 0; i < 3; i++) {
		run(m);
		ck_assert_msg(is_event(m, VC_DB), "%u: reason %u", i, m->exit.reason);
		ck_assert(m->state.dr6 & EMU_DR6_BS);
		ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + (i == 0 ? 11u : i == 1 ? 13u : 14u));
	}
	machine_free(m);
}
END_TEST

/* A load of SS holds the trap back until the instruction behind it; INT n takes none. */
START_TEST(trap_flag_exceptions)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* mov ecx, 0x10; mov ss, ecx; nop; nop; hlt */
	LOAD(m, 0xb9, 0x10, 0, 0, 0, 0x8e, 0xd1, 0x90, 0x90, 0xf4);
	m->state.rflags |= VC_FLAG_TF;
	vc_backend_emu.set_state(m->v, &m->state);
	run(m);
	ck_assert(is_event(m, VC_DB));
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 5);
	run(m);
	ck_assert(is_event(m, VC_DB));
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 8);
	/* int 0x41 */
	LOAD(m, 0xcd, 0x41, 0xf4);
	m->state.rflags |= VC_FLAG_TF;
	vc_backend_emu.set_state(m->v, &m->state);
	run(m);
	ck_assert(is_event(m, 0x41));
	ck_assert_uint_eq(m->state.rflags & VC_FLAG_TF, 0);
	ck_assert_uint_eq(m->state.gpr[VC_RSP], STACK - 40);
	machine_free(m);
}
END_TEST

START_TEST(guest_breakpoints)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* mov [DATA], eax; nop; mov eax, [DATA]; nop; hlt */
	LOAD(m, 0xa3, 0, 0, 2, 0, 0, 0, 0, 0, 0x90, 0x8b, 0x04, 0x25, 0, 0, 2, 0, 0x90, 0xf4);
	m->state.dr[0] = DATA;
	m->state.dr[1] = DATA + 2;
	m->state.dr[2] = CODE + 17;
	/* 0: write, 4 bytes; 1: read or write, 2 bytes; 2: execution */
	m->state.dr7 = 0x400 | 2 | 8 | 32 | 0xdu << 16 | 0x7u << 20;
	vc_backend_emu.set_state(m->v, &m->state);
	run(m);
	ck_assert(is_event(m, VC_DB));
	ck_assert_uint_eq(m->state.dr6 & 0xf, 3);
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 9);
	run(m);
	ck_assert(is_event(m, VC_DB));
	ck_assert_uint_eq(m->state.dr6 & 0xf, 2);
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 17);
	/* The instruction breakpoint is a fault. Its handler must set RF; this one does not, so it hits again. */
	for (unsigned i = 0; i < 2; i++) {
		run(m);
		ck_assert(is_event(m, VC_DB));
		ck_assert_uint_eq(m->state.dr6 & 0xf, 4);
		ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 17);
	}
	m->w->ram->hva[m->state.gpr[VC_RSP] + 18] |= 1;
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	machine_free(m);
}
END_TEST

START_TEST(single_step)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	static const unsigned at[] = {1, 4, 6, 7};

	/* nop; push 3; pop rcx; 4: jmp +0; nop; hlt */
	LOAD(m, 0x90, 0x6a, 3, 0x59, 0xeb, 0, 0x90, 0xf4);
	struct vcore_debug d = {.size = sizeof d, .flags = VCORE_DEBUG_SINGLE_STEP};
	vc_backend_emu.set_debug(m->v, &d);
	for (unsigned i = 0, n = 0; i < 5; i++) {
		ck_assert_int_eq(run(m), VCORE_EXIT_DEBUG);
		ck_assert_uint_eq(m->exit.exception, VC_DB);
		ck_assert_uint_eq(m->exit.address, m->state.rip);
		if (m->state.rip != CODE + 3)
			ck_assert_uint_eq(m->state.rip, CODE + at[n++]);
	}
	d.flags = 0;
	vc_backend_emu.set_debug(m->v, &d);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	/* The guest saw nothing of it. */
	ck_assert_uint_eq(m->state.rflags & VC_FLAG_TF, 0);
	ck_assert_uint_eq(m->state.dr6 & EMU_DR6_BS, 0);
	machine_free(m);
}
END_TEST

START_TEST(program_breakpoints)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	struct vcore_debug d = {.size = sizeof d, .flags = VCORE_DEBUG_SW_BREAK | VCORE_DEBUG_HW_BREAK};

	/* nop; int3; mov [DATA], eax (9 bytes); nop; hlt */
	LOAD(m, 0x90, 0xcc, 0xa3, 0, 0, 2, 0, 0, 0, 0, 0, 0x90, 0xf4);
	d.dr[0] = DATA;
	d.dr[1] = CODE + 11;
	d.dr7 = 0x400 | 1 | 4 | 0xdu << 16;
	vc_backend_emu.set_debug(m->v, &d);
	ck_assert_int_eq(run(m), VCORE_EXIT_DEBUG);
	ck_assert_uint_eq(m->exit.exception, VC_BP);
	ck_assert_uint_eq(m->state.rip, CODE + 1);
	m->state.rip++;
	vc_backend_emu.set_state(m->v, &m->state);
	ck_assert_int_eq(run(m), VCORE_EXIT_DEBUG);
	ck_assert_uint_eq(m->exit.exception, VC_DB);
	ck_assert_uint_eq(m->exit.dr6 & 0xf, 1);
	ck_assert_uint_eq(m->state.rip, CODE + 11);
	ck_assert_int_eq(run(m), VCORE_EXIT_DEBUG);
	ck_assert_uint_eq(m->exit.dr6 & 0xf, 2);
	ck_assert_uint_eq(m->state.rip, CODE + 11);
	/* It was told once. */
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	machine_free(m);
}
END_TEST

/* ---- code that changes itself ---- */

START_TEST(self_modifying)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* lea rbx, [rip + 4]; mov byte [rbx], 42; mov al, 0; hlt: the store hits the immediate behind it, in the same
	 * block. */
	ck_assert_int_eq(START(m, 0x48, 0x8d, 0x1d, 4, 0, 0, 0, 0xc6, 0x03, 42, 0xb0, 0, 0xf4), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.gpr[VC_RAX] & 0xff, 42);
	/* A loop that increments its own immediate: mov ecx, 50; 5: add eax, 0 (imm32 at 6, opcode 05); inc dword [rip -
	 * 10]; loop 5b; hlt */
	ck_assert_int_eq(
	    START(m, 0xb9, 50, 0, 0, 0, 0x05, 0, 0, 0, 0, 0xff, 0x05, 0xf6, 0xff, 0xff, 0xff, 0xe2, 0xf3, 0xf4),
	    VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], 50 * 49 / 2);
	/* Written from outside between two runs. */
	LOAD(m, 0xb0, 1, 0xf4, 0xeb, 0xfb);
	run(m);
	uint8_t byte = 2;
	vc_mem_write(&m->w->mem, CODE + 1, &byte, 1);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.gpr[VC_RAX] & 0xff, 2);
	machine_free(m);
}
END_TEST

/* ---- MSRs ---- */

START_TEST(msrs)
{
	static const struct {
		uint32_t index;
		uint64_t value;
		int r;
	} cases[] = {
	    {0xc0000080, 0xd01, 0},
	    {0xc0000080, 0x2000, -EINVAL},
	    {0xc0000080, 0x401, -EINVAL}, /* LME with paging */
	    {0xc0000081, ~0ull, 0},
	    {0xc0000082, 1ull << 56, -EINVAL},
	    {0xc0000082, UINT64_MAX << 47, 0},
	    {0xc0000084, 1ull << 32, -EINVAL},
	    {0xc0000100, 0x7fffffffffff, 0},
	    {0xc0000101, 1ull << 56, -EINVAL},
	    {0xc0000102, 0xfeffffffffffffff, -EINVAL},
	    {0xc0000103, 5, 0},
	    {0xc0000103, 1ull << 32, -EINVAL},
	    {0x174, 0x10, 0},
	    {0x175, 1ull << 60, -EINVAL},
	    {0x176, 0x1000, 0},
	    {0x277, 0x0007040600070406, 0},
	    {0x277, 2, -EINVAL},
	    {0x277, 8, -EINVAL},
	    {0x200, 6, 0},
	    {0x200, 2, -EINVAL},
	    {0x201, 0x800, 0},
	    {0x201, 1ull << 46, -EINVAL},
	    {0x2ff, 0xc06, 0},
	    {0x2ff, 0x100, -EINVAL},
	    {0x250, 0x0606060606060606, 0},
	    {0x250, 0x0206060606060606, -EINVAL},
	    {0xfe, 0, -EINVAL},
	    {0xfe, 0x508, 0},
	    {0x1b, 1ull << 46, -EINVAL},
	    {0xda0, 0x100, -EINVAL},
	    {0x12345678, 0, -ENOENT},
	    {0x4b564d02, 1, -ENOENT},
	    {0x4b564d03, 2, -EINVAL},
	};
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	uint64_t value = 0, tsc = 0;

	LOAD(m, 0xf4);
	for (unsigned i = 0; i < VC_ARRAY_SIZE(cases); i++) {
		ck_assert_msg(vc_backend_emu.set_msr(m->v, cases[i].index, cases[i].value) == cases[i].r, "case %u", i);
		if (cases[i].r == 0) {
			ck_assert_int_eq(vc_backend_emu.get_msr(m->v, cases[i].index, &value), 0);
			ck_assert_uint_eq(value, cases[i].value);
		}
	}
	/* TSC and TSC_ADJUST move together. */
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x3b, 0), 0);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x10, VC_GIB(1024)), 0);
	vc_backend_emu.get_msr(m->v, 0x10, &tsc);
	ck_assert(tsc >= VC_GIB(1024) && tsc < VC_GIB(1024) + 1000000000u);
	vc_backend_emu.get_msr(m->v, 0x3b, &value);
	ck_assert_uint_ne(value, 0);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x3b, 0), 0);
	vc_backend_emu.get_msr(m->v, 0x10, &value);
	ck_assert(value < VC_GIB(1024));
	machine_free(m);
}
END_TEST

START_TEST(msr_instructions)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* mov ecx, 0xc0000102; mov eax, 0x1234; xor edx, edx; wrmsr; xor eax, eax; rdmsr; hlt */
	ck_assert_int_eq(
	    START(m, 0xb9, 2, 1, 0, 0xc0, 0xb8, 0x34, 0x12, 0, 0, 0x31, 0xd2, 0x0f, 0x30, 0x31, 0xc0, 0x0f, 0x32, 0xf4),
	    VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], 0x1234);
	ck_assert_uint_eq(m->state.kernel_gs_base, 0x1234);
	/* mov ecx, 0x12345678; rdmsr */
	START(m, 0xb9, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x32);
	ck_assert(is_event(m, VC_GP));
	machine_free(m);
}
END_TEST

/* ---- paravirtual services ---- */

START_TEST(hypercalls)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* mov eax, 9; vmcall; hlt: KVM_HC_CLOCK_PAIRING is known and not offered */
	ck_assert_int_eq(START(m, 0xb8, 9, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xf4), VCORE_EXIT_HALT);
	ck_assert_int_eq((int64_t)m->state.gpr[VC_RAX], -95);
	/* mov eax, 0x77; mov ebx, 5; vmcall; hlt: the program's */
	ck_assert_int_eq(START(m, 0xb8, 0x77, 0, 0, 0, 0xbb, 5, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xf4), VCORE_EXIT_HYPERCALL);
	ck_assert(m->exit.address == 0x77 && m->exit.args[0] == 5);
	m->exit.data = 0x99;
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], 0x99);
	machine_free(m);
	m = machine_new(1, VCORE_UNHANDLED_IGNORE);
	ck_assert_int_eq(START(m, 0xb8, 0x77, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xf4), VCORE_EXIT_HALT);
	ck_assert_int_eq((int64_t)m->state.gpr[VC_RAX], -1000);
	machine_free(m);
}
END_TEST

START_TEST(kvmclock)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	uint8_t *page = m->w->ram->hva + PAGE_FOR_PV;
	uint64_t tsc = 0;

	LOAD(m, 0xf4);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x4b564d01, PAGE_FOR_PV | 1), 0);
	/* struct pvclock_vcpu_time_info: version even and not 0, TSC, time, multiplier, shift */
	ck_assert(vc_ld32(page) && !(vc_ld32(page) & 1));
	vc_backend_emu.get_msr(m->v, 0x10, &tsc);
	ck_assert(vc_ld64(page + 8) <= tsc);
	ck_assert(vc_ld64(page + 16) <= vc_clock_now(&m->w->clock));
	ck_assert_uint_eq(page[29] & 1, 1);
	/* A moved TSC changes the page. */
	uint64_t old = vc_ld64(page + 8);
	vc_backend_emu.set_msr(m->v, 0x10, VC_GIB(4096));
	ck_assert(vc_ld64(page + 8) >= VC_GIB(4096) && vc_ld64(page + 8) != old);
	/* The wall clock: seconds since 1970 at guest time 0 */
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x4b564d00, PAGE_FOR_PV + 64), 0);
	ck_assert_uint_gt(vc_ld32(page + 64 + 4), 1600000000u);
	/* Where no memory is, nothing happens. */
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x4b564d01, NOBODY | 1), 0);
	ck_assert_int_eq(run(m), VCORE_EXIT_HALT);
	machine_free(m);
}
END_TEST

/* ---- with local APICs: halts that wait, INIT and SIPI ---- */

static void lapic_event(void *ctx, unsigned index, enum vc_lapic_event event, uint8_t arg)
{
	static const uint32_t requests[] = {
	    [VC_LAPIC_IRQ] = VC_REQ_IRQ,   [VC_LAPIC_NMI] = VC_REQ_NMI, [VC_LAPIC_INIT] = VC_REQ_INIT,
	    [VC_LAPIC_SIPI] = VC_REQ_SIPI, [VC_LAPIC_SMI] = VC_REQ_SMI, [VC_LAPIC_EXTINT] = VC_REQ_IRQ};
	struct machine *m = ctx;

	atomic_store(&m->w->vcpu[index].sipi_vector, arg);
	vc_bvcpu_request(&m->w->vcpu[index], requests[event]);
}

static void lapic_eoi(void *ctx, uint8_t vector) {}

static void add_lapics(struct machine *m)
{
	struct vc_lapics_config config = {.count = m->w->vm.vcpus,
	                                  .clock = &m->w->clock,
	                                  .tsc_khz = m->w->vm.tsc_khz,
	                                  .notify = lapic_event,
	                                  .ctx = m,
	                                  .eoi = lapic_eoi};

	ck_assert_int_eq(vc_loop_new(&m->w->clock, true, &m->loop), 0);
	config.loop = m->loop;
	ck_assert_int_eq(vc_lapics_new(&config, &m->w->vm.lapics), 0);
	m->w->vm.irqchip = VCORE_IRQCHIP_USER;
	for (unsigned i = 0; i < m->w->vm.vcpus; i++) {
		m->w->vcpu[i].lapic = vc_lapics_get(m->w->vm.lapics, i);
		vc_cpu_state_reset(&m->state, i == 0);
		vc_backend_emu.set_state(&m->w->vcpu[i], &m->state);
	}
}

static void remove_lapics(struct machine *m)
{
	for (unsigned i = 0; i < m->w->vm.vcpus; i++)
		m->w->vcpu[i].lapic = NULL;
	vc_lapics_free(m->w->vm.lapics);
	vc_loop_free(m->loop);
}

/* HLT with the LAPIC's timer, in x2APIC mode by MSRs. */
START_TEST(lapic_timer)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	add_lapics(m);
	LOAD(m, 0xfb, 0xf4, 0xf4);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x1b, 0xfee00d00), 0);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x80f, 0x1ff), 0);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x832, 0x60), 0);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x83e, 0xb), 0);
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x838, 1000000), 0);
	run(m);
	ck_assert(is_event(m, 0x60));
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + m->state.gpr[VC_RSP]), CODE + 2);
	remove_lapics(m);
	machine_free(m);
}
END_TEST

/* The xAPIC page lies over memory: mov ebx, 0xfee00000; mov eax, [rbx + 0x30]; mov dword [rbx + 0x80], 0x20; mov ecx,
 * [rbx + 0x80]; mov rdx, cr8; hlt */
START_TEST(xapic_page)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	struct vc_slot *slot;

	add_lapics(m);
	ck_assert_int_eq(vc_mem_add(&m->w->mem, NULL, 0xfee00000, 0x1000, VCORE_MEM_RWX, NULL, &slot), 0);
	LOAD(m, 0xbb, 0, 0, 0xe0, 0xfe, 0x8b, 0x43, 0x30, 0xc7, 0x83, 0x80, 0, 0, 0, 0x20, 0, 0, 0, 0x8b, 0x8b, 0x80, 0, 0,
	     0, 0x44, 0x0f, 0x20, 0xc2, 0xe6, 0x80, 0xf4);
	ck_assert_int_eq(run(m), VCORE_EXIT_PIO);
	ck_assert_uint_eq(m->state.gpr[VC_RCX], 0x20);
	ck_assert_uint_eq(m->state.gpr[VC_RDX], 2);
	ck_assert_uint_eq(m->state.gpr[VC_RAX] & 0xff, 0x14);
	/* Switched off, the memory shows. */
	ck_assert_int_eq(vc_backend_emu.set_msr(m->v, 0x1b, 0xfee00100), 0);
	vc_st32(slot->hva + 0x30, 0x99);
	m->state.rip = CODE;
	m->state.apic_base = 0xfee00100;
	vc_backend_emu.set_state(m->v, &m->state);
	ck_assert_int_eq(run(m), VCORE_EXIT_PIO);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], 0x99);
	remove_lapics(m);
	machine_free(m);
}
END_TEST

static void *run_second(void *arg)
{
	struct machine *m = arg;
	struct vcore_exit exit = {.size = sizeof exit};

	vc_backend_emu.run(&m->w->vcpu[1], &exit);
	return (void *)(uintptr_t)exit.reason;
}

static void wait_for(const volatile uint32_t *word, uint32_t value)
{
	for (unsigned i = 0; i < 5000 && *word != value; i++)
		usleep(1000);
	ck_assert_uint_eq(*word, value);
}

START_TEST(start_up)
{
	struct machine *m = machine_new(2, VCORE_UNHANDLED_EXIT);
	/* cs:ip = 0x1000:0: inc dword cs:[0x100]; hlt; jmp -3 */
	static const uint8_t code[] = {0x2e, 0x66, 0xff, 0x06, 0, 1, 0xf4, 0xeb, 0xfd};
	volatile uint32_t *word = (volatile uint32_t *)(void *)(m->w->ram->hva + CODE + 0x100);
	struct vc_lapic_message init = {.dest = 1, .delivery = 5, .assert = 1, .source = -1}, sipi = init;
	pthread_t thread;
	void *reason;

	add_lapics(m);
	vc_mem_write(&m->w->mem, CODE, code, sizeof code);
	sipi.delivery = 6;
	sipi.vector = CODE >> 12;
	pthread_create(&thread, NULL, run_second, m);
	for (uint32_t n = 1; n <= 3; n++) {
		vc_lapics_deliver(m->w->vm.lapics, &init);
		usleep(2000);
		vc_lapics_deliver(m->w->vm.lapics, &sipi);
		wait_for(word, n);
		/* A second SIPI does nothing. */
		vc_lapics_deliver(m->w->vm.lapics, &sipi);
		usleep(2000);
		ck_assert_uint_eq(*word, n);
	}
	vc_bvcpu_request(&m->w->vcpu[1], VC_REQ_KICK);
	pthread_join(thread, &reason);
	ck_assert_uint_eq((uintptr_t)reason, VCORE_EXIT_KICKED);
	vc_backend_emu.get_state(&m->w->vcpu[1], &m->state);
	ck_assert_uint_eq(m->state.mp_state, VC_MP_HALTED);
	ck_assert_uint_eq(m->state.seg[VC_CS].base, CODE);
	remove_lapics(m);
	machine_free(m);
}
END_TEST

/* ---- the whole state; one step for another backend ---- */

START_TEST(state_round_trip)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);
	struct vc_cpu_state *other = aligned_alloc(64, VC_ALIGN_UP(sizeof *other, 64));

	LOAD(m, 0xf4);
	for (unsigned i = 0; i < 16; i++)
		m->state.gpr[i] = 0x0101010101010101ull * i;
	m->state.rflags |= VC_FLAG_CF | VC_FLAG_OF | VC_FLAG_ZF | VC_FLAG_ID;
	m->state.lstar = 0x1234;
	m->state.dr[3] = 0x5678;
	m->state.nmi_pending = 1;
	vc_backend_emu.set_state(m->v, &m->state);
	vc_backend_emu.get_state(m->v, other);
	ck_assert(!memcmp(m->state.gpr, other->gpr, sizeof other->gpr));
	ck_assert_uint_eq(m->state.rflags, other->rflags);
	ck_assert(!memcmp(m->state.seg, other->seg, sizeof other->seg));
	ck_assert_uint_eq(other->lstar, 0x1234);
	ck_assert_uint_eq(other->dr[3], 0x5678);
	ck_assert_uint_eq(other->nmi_pending, 1);
	free(other);
	machine_free(m);
}
END_TEST

START_TEST(emu_step)
{
	struct machine *m = machine_new(1, VCORE_UNHANDLED_EXIT);

	/* lock cmpxchg16b [rsi]; nop */
	LOAD(m, 0xf0, 0x48, 0x0f, 0xc7, 0x0e, 0x90);
	m->state.gpr[VC_RSI] = DATA;
	m->state.gpr[VC_RBX] = 7;
	m->state.gpr[VC_RCX] = 8;
	m->state.gpr[VC_RAX] = m->state.gpr[VC_RDX] = 0;
	ck_assert_int_eq(vc_emu_step(m->v, &m->state), 0);
	ck_assert_uint_eq(m->state.rip, CODE + 5);
	ck_assert(m->state.rflags & VC_FLAG_ZF);
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + DATA), 7);
	ck_assert_uint_eq(vc_ld64(m->w->ram->hva + DATA + 8), 8);
	/* A fault is delivered. */
	m->state.gpr[VC_RSI] = DATA + 8;
	m->state.rip = CODE;
	ck_assert_int_eq(vc_emu_step(m->v, &m->state), 0);
	ck_assert_uint_eq(m->state.rip, HANDLERS + 16 * VC_GP);
	/* Nobody answers, and nobody could: reads are all ones. mov eax, [rbx] */
	static const uint8_t load[] = {0x8b, 0x03};
	vc_mem_write(&m->w->mem, CODE, load, sizeof load);
	m->state.gpr[VC_RBX] = NOBODY;
	m->state.rip = CODE;
	ck_assert_int_eq(vc_emu_step(m->v, &m->state), 0);
	ck_assert_uint_eq(m->state.gpr[VC_RAX], UINT32_MAX);
	machine_free(m);
}
END_TEST

START_TEST(probe)
{
	struct vcore_backend_info info = {.size = sizeof info};

	vc_backend_emu.probe(&info);
	ck_assert_uint_eq(info.available, 1);
	ck_assert_uint_gt(info.ring0_ps, 0);
	ck_assert_uint_gt(info.ring3_ps, 0);
	ck_assert_uint_gt(info.exit_ns, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("emu_vcpu");
	TCase *t = tcase_create("vcpu");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, halt);
	tcase_add_test(t, ports);
	tcase_add_test(t, port_strings);
	tcase_add_test(t, mmio);
	tcase_add_test(t, state_between);
	tcase_add_test(t, triple_fault);
	tcase_add_test(t, faults);
	tcase_add_test(t, kick);
	tcase_add_test(t, kick_from_outside);
	tcase_add_test(t, interrupts);
	tcase_add_test(t, nmi);
	tcase_add_test(t, trap_flag);
	tcase_add_test(t, trap_flag_exceptions);
	tcase_add_test(t, guest_breakpoints);
	tcase_add_test(t, single_step);
	tcase_add_test(t, program_breakpoints);
	tcase_add_test(t, self_modifying);
	tcase_add_test(t, msrs);
	tcase_add_test(t, msr_instructions);
	tcase_add_test(t, hypercalls);
	tcase_add_test(t, kvmclock);
	tcase_add_test(t, lapic_timer);
	tcase_add_test(t, xapic_page);
	tcase_add_test(t, start_up);
	tcase_add_test(t, state_round_trip);
	tcase_add_test(t, emu_step);
	tcase_add_test(t, probe);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
