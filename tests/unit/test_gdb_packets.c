/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each packet does to a vm that stands still, and what it is answered. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "debug/debug.h"

#define RAM    (2u << 20)
#define TABLES 0x100000u

static vcore_vm *vm;
static struct vc_gdb *g;
static struct vc_rsp_out reply;
static enum vc_gdb_result result;

static void start(void)
{
	struct vcore_options o = {.size = sizeof o, .backend = VCORE_BACKEND_EMU, .memory = RAM, .vcpus = 3};
	struct vcore_regs regs = {.size = sizeof regs, .rip = 0x1000, .rsp = 0x8000, .rflags = 2};

	ck_assert_int_eq(vcore_vm_new(&o, &vm), 0);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_int_eq(vcore_vcpu_set_mode(vcore_vm_vcpu(vm, i), VCORE_MODE_LONG64, TABLES + i * 0x8000), 0);
		regs.rax = i;
		ck_assert_int_eq(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, i), &regs), 0);
	}
	ck_assert_int_eq(vc_gdb_new(vm, eventfd(0, EFD_NONBLOCK), &g), 0);
	vc_gdb_attach(g);
}

static void stop(void)
{
	int fd = g->wake_fd;

	vc_gdb_free(g);
	close(fd);
	vcore_vm_unref(vm);
}

static const char *raw(const char *packet, size_t length)
{
	/* in memory of its own size, so that a sanitizer sees a look behind its end */
	char *copy = malloc(length + 1);
	static char text[VC_RSP_MAX + 1];

	memcpy(copy, packet, length);
	copy[length] = '\0';
	result = vc_gdb_packet(g, copy, length, &reply);
	free(copy);
	memcpy(text, reply.payload, reply.length);
	text[reply.length] = '\0';
	return text;
}

static const char *ask(const char *packet)
{
	return raw(packet, strlen(packet));
}

static void answers(const char *packet, const char *expected)
{
	const char *text = ask(packet);

	ck_assert_msg(!strcmp(text, expected), "%s is answered \"%.200s\", expected \"%s\"", packet, text, expected);
}

static uint8_t byte_at(uint64_t gpa)
{
	uint8_t byte = 0;

	ck_assert_int_eq(vcore_memory_read(vm, gpa, &byte, 1), 0);
	return byte;
}

START_TEST(threads)
{
	answers("?", "T05thread:1;");
	answers("qC", "QC1");
	answers("qfThreadInfo", "m1,2,3");
	answers("qsThreadInfo", "l");
	answers("T3", "OK");
	answers("T4", "E16");
	answers("T0", "E16");
	answers("T", "E16");
	answers("Hg3", "OK");
	answers("qC", "QC3");
	answers("p0", "0200000000000000");
	answers("Hg0", "OK"); /* any */
	answers("qC", "QC3");
	answers("Hg4", "E16");
	answers("Hgffffffffffffffff", "E16");
	answers("Hx1", "E16");
	answers("H", "E16");
	answers("Hc-1", "OK");
	answers("qThreadExtraInfo,2", "766370752031"
	                              "2072756e6e696e67"); /* vcpu 1 running */
	answers("qThreadExtraInfo,9", "E16");
	answers("qThreadExtraInfo,", "E16");
	answers("qAttached", "1");
}
END_TEST

START_TEST(unknown_packets)
{
	static const char *const packets[] = {"",     "!", "b",   "vMustReplyEmpty", "qTStatus", "QNonStop:1", "R00",
	                                      "x0,1", "v", "\xff"};

	for (size_t i = 0; i < VC_ARRAY_SIZE(packets); i++)
		answers(packets[i], "");
}
END_TEST

START_TEST(registers)
{
	struct vcore_regs regs = {.size = sizeof regs};
	static char all[2 * VC_RSP_MAX];

	answers("p10", "0010000000000000");
	answers("P10=3412000000000000", "OK");
	answers("p10", "3412000000000000");
	ck_assert_int_eq(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs), 0);
	ck_assert_uint_eq(regs.rip, 0x1234);
	answers("P10=00000000000000a0", "E16"); /* no canonical address */
	answers("p10", "3412000000000000");
	answers("P10=34", "E16");
	answers("P10", "E16");
	answers("Pfff=00", "E16");
	answers("pfff", "E16");
	answers("p", "E16");
	answers("p-1", "E16");
	answers("P12=3333", "E16");
	/* all of them, and back */
	snprintf(all, sizeof all, "G%s", ask("g"));
	ck_assert_uint_gt(strlen(all), 1000);
	answers(all, "OK");
	ck_assert_str_eq(ask("g"), all + 1);
	memcpy(all + 1, "efbeadde00000000", 16);
	answers(all, "OK");
	answers("p0", "efbeadde00000000");
	all[strlen(all) - 1] = '\0';
	answers(all, "E16");
	answers("G", "E16");
	/* a vector register, of a vcpu that has used none: xmm0 is number 0x28 */
	answers("P28=000102030405060708090a0b0c0d0e0f", "OK");
	answers("p28", "000102030405060708090a0b0c0d0e0f");
	answers("p29", "00000000000000000000000000000000");
}
END_TEST

START_TEST(memory)
{
	/* a page border inside */
	answers("M1ffe,4:01020304", "OK");
	answers("m1ffe,4", "01020304");
	answers("m1fff,0", "");
	ck_assert_uint_eq(byte_at(0x2001), 4);
	raw("X1ffe,3:\x00\xff#", 11);
	ck_assert_uint_eq(reply.length, 2);
	answers("m1ffe,4", "00ff2304");
	raw("X1ffe,0:", 8);
	ck_assert_uint_eq(reply.length, 2);
	/* the end of memory: what there is */
	answers("m1ffffe,4", "0000");
	answers("m200000,1", "E0e");
	answers("M1fffff,2:0102", "E0e");
	answers("m800000000000,8", "E0e");
	answers("mffffffffffffffff,8", "E0e");
	/* 4 GiB are mapped; bits above that are not cut off in 64-bit mode */
	answers("m100000000,1", "E0e");
	ck_assert_uint_eq(strlen(ask("m1000,ffffffffffffffff")), VC_RSP_MAX);
	answers("m1000", "E16");
	answers("m1000,", "E16");
	answers("m,1", "E16");
	answers("M1000,2:01", "E16");
	answers("M1000,ffffffffffffffff:01", "E16");
	answers("M1000,1:0g", "E16");
	answers("X1000,2:a", "E16");
	answers("X1000,1:ab", "E16");
	answers("X1000", "E16");
}
END_TEST

START_TEST(modes)
{
	ck_assert_int_eq(vcore_vcpu_set_mode(vcore_vm_vcpu(vm, 1), VCORE_MODE_REAL, 0), 0);
	ck_assert_int_eq(vcore_vcpu_set_mode(vcore_vm_vcpu(vm, 2), VCORE_MODE_PROTECTED32, 0), 0);
	ck_assert_int_eq(vcore_memory_write(vm, 0x1000, "\x11\x22", 2), 0);
	for (int i = 2; i <= 3; i++) {
		char select[8];

		snprintf(select, sizeof select, "Hg%d", i);
		answers(select, "OK");
		answers("m1000,2", "1122");
		answers("m100001000,2", "1122"); /* addresses have 32 bits there */
		answers("p10", "0000000000000000");
		ck_assert_uint_gt(strlen(ask("g")), 1000);
		answers("P10=0020000000000000", "OK");
		answers("P10=0000000001000000", "E16");
		answers("Z0,1000,1", "OK");
		answers("z0,1000,1", "OK");
	}
	ck_assert_uint_eq(byte_at(0x1000), 0x11);
	answers("Hg2", "OK");
	answers("P12=00b80000", "OK"); /* cs of real mode */
	answers("p12", "00b80000");
}
END_TEST

START_TEST(software_breakpoints)
{
	answers("M1fff,3:909192", "OK");
	answers("Z0,2000,1", "OK");
	answers("Z0,2000,1", "OK");
	ck_assert_uint_eq(byte_at(0x2000), 0xcc);
	/* nobody sees it, and what is written there comes out when it goes */
	answers("m1fff,3", "909192");
	answers("M1fff,3:a0a1a2", "OK");
	ck_assert_uint_eq(byte_at(0x1fff), 0xa0);
	ck_assert_uint_eq(byte_at(0x2000), 0xcc);
	answers("m2000,1", "a1");
	answers("z0,2000,1", "OK");
	ck_assert_uint_eq(byte_at(0x2000), 0xa1);
	answers("z0,2000,1", "OK");
	ck_assert_uint_eq(byte_at(0x2000), 0xa1);
	/* what the guest wrote over it stays */
	answers("Z0,2000,1", "OK");
	ck_assert_int_eq(vcore_memory_write(vm, 0x2000, "\x55", 1), 0);
	answers("m2000,1", "55");
	answers("z0,2000,1", "OK");
	ck_assert_uint_eq(byte_at(0x2000), 0x55);
	answers("Z0,200000,1", "E0e");
	answers("Z0,8000000000000000,1", "E0e");
	answers("Z0", "E16");
	answers("Z0,1", "E16");
	answers("Z5,1000,1", "E16");
	answers("z9,1000,1", "E16");
	/* a byte of the guest's that is INT3 already */
	answers("M3000,1:cc", "OK");
	answers("Z0,3000,1", "OK");
	answers("m3000,1", "cc");
	answers("z0,3000,1", "OK");
	ck_assert_uint_eq(byte_at(0x3000), 0xcc);
}
END_TEST

/* Two addresses of one byte. */
START_TEST(aliases)
{
	uint64_t page = 0x2000 | 7, directory = 0x180000 | 7;

	/* the page of 2 MiB at 4 MiB becomes a table whose first page is 0x2000 */
	ck_assert_int_eq(vcore_memory_write(vm, 0x180000, &page, sizeof page), 0);
	ck_assert_int_eq(vcore_memory_write(vm, TABLES + 0x2000 + 2 * 8, &directory, sizeof directory), 0);
	answers("M2010,2:4142", "OK");
	answers("m400010,2", "4142");
	answers("Z0,2010,1", "OK");
	answers("m400010,2", "4142");
	answers("Z0,400010,1", "OK");
	answers("m2010,2", "4142");
	answers("M400010,1:43", "OK");
	answers("z0,2010,1", "OK");
	ck_assert_uint_eq(byte_at(0x2010), 0xcc);
	answers("m2010,2", "4342");
	answers("z0,400010,1", "OK");
	ck_assert_uint_eq(byte_at(0x2010), 0x43);
}
END_TEST

START_TEST(many_breakpoints)
{
	char packet[40];

	for (unsigned i = 0; i < 4096; i++) {
		snprintf(packet, sizeof packet, "Z0,%x,1", 0x10000 + i);
		answers(packet, "OK");
	}
	answers("Z0,20000,1", "E1c");
	vc_gdb_detach(g);
	for (unsigned i = 0; i < 4096; i++)
		ck_assert_uint_eq(byte_at(0x10000 + i), 0);
}
END_TEST

START_TEST(debug_registers)
{
	struct vcore_debug d;

	ck_assert_uint_eq(vc_gdb_debug(g, false).flags, 0);
	answers("Z1,1000,1", "OK");
	answers("Z1,1000,1", "OK"); /* once */
	answers("Z2,2001,1", "OK");
	answers("Z3,3000,4", "OK");
	answers("Z4,4000,8", "OK");
	answers("Z2,5000,1", "E1c");
	d = vc_gdb_debug(g, true);
	ck_assert_uint_eq(d.flags, VCORE_DEBUG_HW_BREAK | VCORE_DEBUG_SINGLE_STEP);
	ck_assert_uint_eq(d.dr[0], 0x1000);
	ck_assert_uint_eq(d.dr[1], 0x2001);
	ck_assert_uint_eq(d.dr[2], 0x3000);
	ck_assert_uint_eq(d.dr[3], 0x4000);
	/* G0 to G3; fetch; 1 written; 4 accessed; 8 accessed */
	ck_assert_uint_eq(d.dr7, 0xbf1004aa);
	answers("z2,2001,2", "OK"); /* not that one */
	answers("Z2,5000,1", "E1c");
	answers("z3,3000,4", "OK");
	/* two pieces are needed, and there is one register */
	answers("Z2,5001,2", "E1c");
	answers("Z2,5000,1", "OK");
	answers("z2,5000,1", "OK");
	answers("z1,1000,1", "OK");
	answers("Z2,5001,2", "OK");
	d = vc_gdb_debug(g, false);
	ck_assert_uint_eq(d.dr[0], 0x5001);
	ck_assert_uint_eq(d.dr[2], 0x5002);
	answers("z2,5001,2", "OK");
	answers("z4,4000,8", "OK");
	answers("z2,2001,1", "OK");
	ck_assert_uint_eq(vc_gdb_debug(g, false).flags, 0);
	answers("Z2,1000,20", "OK");
	answers("z2,1000,20", "OK");
	answers("Z2,1000,21", "E16");
	answers("Z2,1000,0", "E16");
	answers("Z2,1004,20", "E1c");
	answers("Z2,fffffffffffffff8,10", "E16");
	answers("Z2,1000,ffffffffffffffff", "E16");
	ck_assert_uint_eq(vc_gdb_debug(g, false).flags, 0);
}
END_TEST

START_TEST(resuming)
{
	answers("vCont?", "vCont;c;C;s;S");
	answers("vCont", "E16");
	answers("vCont;", "E16");
	answers("vCont;x", "E16");
	answers("vCont;c:4", "E16");
	answers("vCont;c:", "E16");
	answers("vCont;C", "E16");
	answers("vCont;s:1;c:1;q", "E16");
	answers("cxyz", "E16");
	ck_assert(!g->running);
	/* the first action for a thread counts, one without any stays */
	ask("vCont;s:2;c:2;C05:3");
	ck_assert_int_eq(result, VC_GDB_SILENT);
	ck_assert(g->running);
	ck_assert_int_eq(g->threads[0].action, VC_GDB_STAY);
	ck_assert_int_eq(g->threads[1].action, VC_GDB_STEP);
	ck_assert_int_eq(g->threads[2].action, VC_GDB_CONTINUE);
	ck_assert_uint_eq(g->threads[1].debug.flags, VCORE_DEBUG_SINGLE_STEP);
	ck_assert(vm->vcpus[0].debug_hold && !vm->vcpus[1].debug_hold);
	vc_gdb_interrupt(g, &reply);
	ck_assert_mem_eq(reply.payload, "T02thread:1;", 12);
	answers("?", "T02thread:1;");
	ck_assert(vm->vcpus[1].debug_hold);
	/* the old packets */
	answers("Hc2", "OK");
	ask("s1200");
	ck_assert_int_eq(result, VC_GDB_SILENT);
	ck_assert_int_eq(g->threads[1].action, VC_GDB_STEP);
	ck_assert_int_eq(g->threads[0].action, VC_GDB_STAY);
	vc_gdb_interrupt(g, &reply);
	answers("p10", "0012000000000000");
	answers("Hc-1", "OK");
	ask("C05;1300");
	ck_assert_int_eq(g->threads[2].action, VC_GDB_CONTINUE);
	vc_gdb_interrupt(g, &reply);
	answers("p10", "0013000000000000");
	ask("D");
	ck_assert_int_eq(result, VC_GDB_DETACH);
	ask("k");
	ck_assert_int_eq(result, VC_GDB_LEAVE);
	answers("vKill;1", "OK");
	ck_assert_int_eq(result, VC_GDB_DETACH);
}
END_TEST

/* A vcpu's exit, as its thread leaves it. */
static void leave(uint32_t vcpu, uint32_t exception, uint64_t dr6)
{
	struct vcore_exit exit = {.size = sizeof exit, .reason = VCORE_EXIT_DEBUG, .exception = exception, .dr6 = dr6};

	ck_assert(vc_vm_debug_takes(&vm->vcpus[vcpu], &exit));
}

static void reply_is(const char *expected)
{
	ck_assert_uint_eq(reply.length, strlen(expected));
	ck_assert_mem_eq(reply.payload, expected, reply.length);
}

START_TEST(stops)
{
	struct vc_cpu_state s;

	ask("qSupported:swbreak+;hwbreak+");
	answers("Z0,1000,1", "OK");
	answers("Z1,1100,1", "OK");
	answers("Z2,1200,4", "OK");
	ask("vCont;s:1;c");
	/* all at once: the step is told first, then what would not come again; the INT3 would */
	leave(0, 1, 0x4000);
	leave(1, 3, 0);
	leave(2, 1, 2); /* register 1 of ours: the watchpoint */
	ck_assert(vc_gdb_stopped(g, &reply));
	reply_is("T05thread:1;");
	ask("vCont;c");
	reply_is("T05thread:3;watch:1200;");
	ck_assert(!g->running);
	ask("vCont;c");
	ck_assert(g->running);
	leave(1, 3, 0);
	ck_assert(vc_gdb_stopped(g, &reply));
	reply_is("T05thread:2;swbreak:;");
	/* what is no longer asked for is not told; a vcpu before its breakpoint gets past it */
	answers("Hg3", "OK");
	answers("P10=0011000000000000", "OK");
	answers("Hg2", "OK"); /* then the turn is the third's */
	ask("vCont;c");
	leave(1, 3, 0);
	leave(0, 1, 1);
	leave(2, 1, 1);
	ck_assert(vc_gdb_stopped(g, &reply));
	reply_is("T05thread:3;hwbreak:;");
	answers("z1,1100,1", "OK");
	ask("vCont;c");
	ck_assert(g->running);
	ck_assert_int_eq(vc_vcpu_load(&vm->vcpus[2], &s), 0);
	ck_assert(s.rflags & VC_FLAG_RF);
	/* an INT3 and a trap of the guest's own go to the guest */
	answers("z0,1000,1", "OK");
	leave(0, 3, 0);
	leave(1, 1, 0xffff4ff0);
	ck_assert(!vc_gdb_stopped(g, &reply));
	ck_assert(g->running);
	ck_assert(!vm->vcpus[0].debug_hold);
	ck_assert_int_eq(vc_vcpu_load(&vm->vcpus[1], &s), 0);
	ck_assert(s.exception_pending);
	ck_assert_uint_eq(s.exception_vector, 1);
	ck_assert(s.dr6 & 0x4000);
	vc_gdb_interrupt(g, &reply);
}
END_TEST

/* Without gdb's word that it knows them. */
START_TEST(old_gdb)
{
	ask("qSupported:xmlRegisters=i386");
	answers("Z0,1000,1", "OK");
	ask("c");
	leave(0, 3, 0);
	ck_assert(vc_gdb_stopped(g, &reply));
	reply_is("T05thread:1;");
}
END_TEST

START_TEST(queries)
{
	char whole[VC_GDB_DESCRIPTION_MAX], part[VC_RSP_MAX + 1], packet[64];
	size_t n = 0;

	ck_assert_ptr_nonnull(strstr(ask("qSupported"), "PacketSize=4000;"));
	do {
		snprintf(packet, sizeof packet, "qXfer:features:read:target.xml:%zx,3e7", n);
		snprintf(part, sizeof part, "%s", ask(packet));
		snprintf(whole + n, sizeof whole - n, "%s", part + 1);
		n += strlen(part + 1);
	} while (part[0] == 'm');
	ck_assert_int_eq(part[0], 'l');
	ck_assert_uint_eq(n, g->description_length);
	ck_assert_mem_eq(whole, g->description, n);
	snprintf(packet, sizeof packet, "qXfer:features:read:target.xml:%zx,10", n);
	answers(packet, "l");
	snprintf(packet, sizeof packet, "qXfer:features:read:target.xml:%zx,10", n + 1);
	answers(packet, "E16");
	answers("qXfer:features:read:target.xml:ffffffffffffffff,ffffffffffffffff", "E16");
	answers("qXfer:features:read:other.xml:0,10", "E16");
	answers("qXfer:features:read:target.xml:0", "E16");
	answers("qXfer:memory-map:read::0,10", "");
	ask("QStartNoAckMode");
	ck_assert_int_eq(result, VC_GDB_NO_ACK);
}
END_TEST

/* The answer of `monitor`, as text. */
static const char *monitor(const char *line)
{
	static char text[VC_RSP_MAX];
	char packet[600];
	size_t n = 0;
	struct vc_rsp_args args;

	n = (size_t)snprintf(packet, sizeof packet, "qRcmd,");
	for (; *line; line++)
		n += (size_t)snprintf(packet + n, sizeof packet - n, "%02x", (unsigned char)*line);
	ask(packet);
	args = (struct vc_rsp_args){reply.payload, reply.payload + reply.length};
	n = reply.length / 2;
	ck_assert(vc_rsp_take_hex(&args, text, n));
	text[n] = '\0';
	return text;
}

START_TEST(monitor_commands)
{
	struct vcore_regs regs = {.size = sizeof regs};
	char line[256];

	ck_assert_ptr_nonnull(strstr(monitor("help"), "translate ADDRESS"));
	ck_assert_ptr_nonnull(strstr(monitor("info registers"), "cr3 100000"));
	ck_assert_ptr_nonnull(strstr(monitor("info vm"), "3 vcpus"));
	ck_assert_str_eq(monitor("translate 0x1234"), "guest-physical 0x1234\n");
	ck_assert_ptr_nonnull(strstr(monitor("translate 0x100000000"), "not mapped"));
	ck_assert_ptr_nonnull(strstr(monitor("translate all"), "expected"));
	ck_assert_ptr_nonnull(strstr(monitor("info registersx"), "not known"));
	ck_assert_ptr_nonnull(strstr(monitor(""), "not known"));
	memset(line, 'x', 255);
	line[255] = '\0';
	ck_assert_ptr_nonnull(strstr(monitor(line), "not known"));
	answers("qRcmd,zz", "E16");
	answers("Z0,1000,1", "OK");
	ck_assert_ptr_nonnull(strstr(monitor("reset"), "is reset"));
	ck_assert_int_eq(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs), 0);
	ck_assert_uint_eq(regs.rip, 0xfff0);
	ck_assert_uint_eq(byte_at(0x1000), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gdb packets");
	TCase *tcase = tcase_create("packets");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_test(tcase, threads);
	tcase_add_test(tcase, unknown_packets);
	tcase_add_test(tcase, registers);
	tcase_add_test(tcase, memory);
	tcase_add_test(tcase, modes);
	tcase_add_test(tcase, software_breakpoints);
	tcase_add_test(tcase, aliases);
	tcase_add_test(tcase, many_breakpoints);
	tcase_add_test(tcase, debug_registers);
	tcase_add_test(tcase, resuming);
	tcase_add_test(tcase, stops);
	tcase_add_test(tcase, old_gdb);
	tcase_add_test(tcase, queries);
	tcase_add_test(tcase, monitor_commands);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
