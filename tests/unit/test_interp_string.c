/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interpreter: string instructions, of memory and of ports. */
#include "interp_guest.h"

/* ---- string instructions ---- */

static void fill(uint64_t at, size_t n)
{
	for (size_t k = 0; k < n; k++)
		bytes(at)[k] = (uint8_t)(k * 7 + (k >> 8));
}

GUEST(rep_movsb, "rep movsb; ud2");
GUEST(rep_movsq, "rep movsq; ud2");
/* Against a loop over bytes: every distance and direction, over several pages. */
START_TEST(test_rep_movs_overlaps)
{
	static uint8_t model[0x8000];
	static const int distances[] = {0, 1, 3, 7, 8, 9, 64, 100, 4096, 5000, -1, -8, -13, -4097};
	for (unsigned k = 0; k < 4 * VC_ARRAY_SIZE(distances); k++) {
		bool down = k & 1, wide = k & 2;
		unsigned size = wide ? 8 : 1, count = wide ? 1501 : 12003;
		uint64_t from = DATA + 0x4000 + 13, to = from + (uint64_t)(int64_t)distances[k / 4];
		int64_t step = down ? -(int64_t)size : size;
		fill(DATA, 0x8000 * 2);
		if (down) {
			from += (count - 1) * size;
			to += (count - 1) * size;
		}
		memcpy(model, (void *)(DATA + 0x2000), sizeof model);
		for (unsigned e = 0; e < count; e++) {
			uint64_t v = 0;
			memcpy(&v, model + (from + (uint64_t)(step * e) - DATA - 0x2000), size);
			memcpy(model + (to + (uint64_t)(step * e) - DATA - 0x2000), &v, size);
		}
		put(wide ? rep_movsq : rep_movsb, wide ? rep_movsq_end : rep_movsb_end, CODE);
		*gpr(VC_RSI) = from;
		*gpr(VC_RDI) = to;
		*gpr(VC_RCX) = count;
		c->s.rflags = 2 | (down ? VC_FLAG_DF : 0);
		run_to(CODE + (wide ? 3 : 2));
		ck_assert_uint_eq(*gpr(VC_RCX), 0);
		ck_assert_uint_eq(*gpr(VC_RSI), from + (uint64_t)(step * count));
		ck_assert_uint_eq(*gpr(VC_RDI), to + (uint64_t)(step * count));
		ck_assert_msg(!memcmp(model, (void *)(DATA + 0x2000), sizeof model), "distance %d, %s, size %u",
		              distances[k / 4], down ? "down" : "up", size);
	}
}
END_TEST

/* A fault in the middle leaves what was done, and the instruction can go on. */
START_TEST(test_rep_movs_fault)
{
	uint64_t *pte = small_pages(ABSENT);
	for (unsigned k = 0; k < 8; k++)
		pte[k] = k < 2 ? (DATA + 0x10000 + k * 4096) | 0x67 : 0;
	emu_tlb_flush_all(c);
	fill(DATA, 0x4000);
	PUT(rep_movsb, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RDI) = ABSENT + 0x10;
	*gpr(VC_RCX) = 0x3000;
	expect_fault(world_run(w), VC_PF, CODE);
	ck_assert_uint_eq(c->exc.cr2, ABSENT + 0x2000);
	ck_assert_uint_eq(*gpr(VC_RDI), ABSENT + 0x2000);
	ck_assert_uint_eq(*gpr(VC_RSI), DATA + 0x1ff0);
	ck_assert_uint_eq(*gpr(VC_RCX), 0x3000 - 0x1ff0);
	pte[2] = (DATA + 0x12000) | 0x67;
	pte[3] = (DATA + 0x13000) | 0x67;
	run_to(CODE + 2);
	ck_assert(!memcmp(bytes(DATA), bytes(DATA + 0x10010), 0x3000));
}
END_TEST

START_TEST(test_rep_movs_stepping)
{
	PUT(rep_movsb, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RDI) = DATA + 0x100;
	*gpr(VC_RCX) = 3;
	for (unsigned k = 1; k <= 3; k++) {
		ck_assert_int_eq(world_step(w), EMU_STOP_EVENTS);
		ck_assert_uint_eq(c->s.rip, k < 3 ? CODE : CODE + 2);
		ck_assert_uint_eq(*gpr(VC_RCX), 3 - k);
		ck_assert_uint_eq(*gpr(VC_RSI), DATA + k);
	}
}
END_TEST

GUEST(rep_lods, "rep lodsb; ud2");
START_TEST(test_rep_is_interruptible)
{
	pthread_t thread;
	PUT(rep_lods, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RCX) = ~0ull >> 1; /* a wrapping read of the mapped 4 GiB would fault much later than the kick */
	ck_assert_int_eq(pthread_create(&thread, NULL, kick_later, NULL), 0);
	enum emu_stop stop = world_run(w);
	pthread_join(thread, NULL);
	if (stop == EMU_STOP_EVENTS)
		ck_assert_uint_eq(c->s.rip, CODE);
	ck_assert_uint_eq(*gpr(VC_RCX) + (*gpr(VC_RSI) - DATA), ~0ull >> 1);
}
END_TEST

GUEST(compare_strings, "repe cmpsb; ud2");
GUEST(scan_string, "repne scasw; ud2");
START_TEST(test_compare_and_scan)
{
	memset(bytes(DATA), 'a', 0x4000);
	memset(bytes(DATA + 0x8000), 'a', 0x4000);
	bytes(DATA)[0x2345] = 'b';
	PUT(compare_strings, CODE);
	*gpr(VC_RSI) = DATA;
	*gpr(VC_RDI) = DATA + 0x8000;
	*gpr(VC_RCX) = 0x4000;
	run_to(CODE + 2);
	ck_assert_uint_eq(*gpr(VC_RSI), DATA + 0x2346);
	ck_assert_uint_eq(*gpr(VC_RCX), 0x4000 - 0x2346);
	ck_assert_uint_eq(c->aflags & (VC_FLAG_ZF | VC_FLAG_CF), 0);
	PUT(scan_string, CODE);
	vc_st16(bytes(DATA + 0x8001 + 0x1fff), 0x1234); /* crosses a page */
	*gpr(VC_RDI) = DATA + 0x8000 + 0x1000;
	*gpr(VC_RAX) = 0x1234;
	*gpr(VC_RCX) = 0x4000;
	bytes(DATA + 0x8000)[0x2000] = 0x34;
	bytes(DATA + 0x8000)[0x2001] = 0x12;
	run_to(CODE + 3);
	ck_assert_uint_eq(*gpr(VC_RDI), DATA + 0x8000 + 0x2002);
	ck_assert(c->aflags & VC_FLAG_ZF);
	/* a count of zero does nothing */
	*gpr(VC_RCX) = 0;
	c->aflags = VC_FLAG_CF;
	c->s.rip = CODE;
	run_to(CODE + 3);
	ck_assert_uint_eq(c->aflags, VC_FLAG_CF);
}
END_TEST

GUEST(movs32, "rep movsb es:[edi], ds:[esi]; ud2");
START_TEST(test_string_address_size_32)
{
	fill(DATA, 0x2000);
	PUT(movs32, CODE);
	*gpr(VC_RSI) = 0x1111111100000000 | DATA;
	*gpr(VC_RDI) = 0x2222222200000000 | (DATA + 0x4000);
	*gpr(VC_RCX) = 0x3333333300001234;
	run_to(CODE + 3);
	ck_assert_uint_eq(*gpr(VC_RSI), DATA + 0x1234);
	ck_assert_uint_eq(*gpr(VC_RDI), DATA + 0x4000 + 0x1234);
	ck_assert_uint_eq(*gpr(VC_RCX), 0);
	ck_assert(!memcmp(bytes(DATA), bytes(DATA + 0x4000), 0x1234));
}
END_TEST

/* ---- ports ---- */

struct port_log {
	unsigned reads, writes;
	uint64_t last;
};
static void port_read(void *ctx, struct vcore_io *io)
{
	struct port_log *p = ctx;
	io->data = 0xa0 + p->reads++;
}
static void port_write(void *ctx, struct vcore_io *io)
{
	struct port_log *p = ctx;
	p->writes++;
	p->last = io->data;
}
GUEST(ports, "mov dx, 0x80; mov rdi, rbx; mov ecx, 3; rep insb; mov rsi, rbx; mov ecx, 3; rep outsb; ud2");
GUEST(port_fault, "insb");
START_TEST(test_string_ports)
{
	struct port_log log = {0};
	struct vcore_device_ops ops = {.size = sizeof ops, .read = port_read, .write = port_write};
	struct vc_dev *dev;
	ck_assert_int_eq(vc_dev_add(&w->buses, "ports", &ops, &log, &dev), 0);
	ck_assert_int_eq(vc_dev_add_region(&w->buses, NULL, dev, VCORE_BUS_PIO, 0x80, 1), 0);
	*gpr(VC_RBX) = DATA;
	PUT(ports, CODE);
	ck_assert_int_eq(world_run(w), EMU_STOP_EXCEPTION);
	ck_assert_uint_eq(c->exc.vector, VC_UD);
	ck_assert_uint_eq(log.reads, 3);
	ck_assert_uint_eq(log.writes, 3);
	ck_assert_uint_eq(log.last, 0xa2);
	ck_assert(!memcmp(bytes(DATA), "\xa0\xa1\xa2", 3));
	/* no port is read for a store that would fault */
	unmap(ABSENT);
	*gpr(VC_RDI) = ABSENT;
	PUT(port_fault, CODE);
	expect_fault(world_run(w), VC_PF, CODE);
	ck_assert_uint_eq(log.reads, 3);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
	    test_rep_movs_overlaps, test_rep_movs_fault,         test_rep_movs_stepping, test_rep_is_interruptible,
	    test_compare_and_scan,  test_string_address_size_32, test_string_ports,
	};
	return run_tests("interp_string", tests, VC_ARRAY_SIZE(tests));
}
