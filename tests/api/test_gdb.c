/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The gdb stub as program and gdb meet it, with a gdb of a few lines. The real one is in tests/gdb. */
#include "api.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static vcore_vm *vm;
static vcore_gdb *gdb;
static char path[64];
static int line; /* the connection */

/* ---- a small gdb ---- */

static int dial(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
	return fd;
}

static void transmit(const char *bytes, size_t length)
{
	ck_assert_int_eq(send(line, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void send_packet(const char *packet)
{
	char frame[600];
	uint8_t sum = 0;
	int n;

	for (const char *p = packet; *p; p++)
		sum += (uint8_t)*p;
	n = snprintf(frame, sizeof frame, "$%s#%02x", packet, sum);
	transmit(frame, (size_t)n);
}

/* The next byte, or -1 at the end of the connection. */
static int next_byte(void)
{
	struct pollfd fd = {line, POLLIN, 0};
	unsigned char byte;

	ck_assert_msg(poll(&fd, 1, 30000) == 1, "the stub does not answer");
	return recv(line, &byte, 1, 0) == 1 ? byte : -1;
}

/* The next packet's payload, or "closed". */
static const char *receive(void)
{
	static char payload[20000];
	size_t n = 0;
	int c;

	while ((c = next_byte()) != '$')
		if (c < 0)
			return "closed";
	while ((c = next_byte()) != '#' && n < sizeof payload - 1) {
		ck_assert_int_ge(c, 0);
		payload[n++] = (char)c;
	}
	payload[n] = '\0';
	next_byte();
	next_byte();
	return payload;
}

static const char *ask(const char *packet)
{
	send_packet(packet);
	return receive();
}

static void answers(const char *packet, const char *expected)
{
	const char *text = ask(packet);

	ck_assert_msg(!strcmp(text, expected), "%s is answered \"%.100s\", expected \"%s\"", packet, text, expected);
}

static void call(void)
{
	line = dial();
	answers("qSupported:swbreak+;hwbreak+",
	        "PacketSize=4000;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+");
}

static uint64_t rip(void)
{
	unsigned char bytes[8] = {0};
	const char *text = ask("p10");
	uint64_t value = 0;

	ck_assert_uint_eq(strlen(text), 16);
	for (int i = 0; i < 8; i++)
		sscanf(text + 2 * i, "%2hhx", &bytes[i]);
	memcpy(&value, bytes, 8);
	return value;
}

static void interrupt(const char *expected)
{
	transmit("\003", 1);
	ck_assert_str_eq(receive(), expected);
}

/* ---- vms ---- */

static void stub(bool wait)
{
	struct vcore_gdb_options o = {.size = sizeof o, .wait = wait};
	char address[80], shown[80];

	snprintf(path, sizeof path, "/tmp/virtcore-gdb-%d", (int)getpid());
	snprintf(address, sizeof address, "unix:%s", path);
	unlink(path);
	o.address = address;
	OK(vcore_gdb_new(vm, &o, &gdb));
	OK(vcore_gdb_address(gdb, shown, sizeof shown));
	ck_assert_str_eq(shown, path);
}

static void end(void)
{
	close(line);
	vcore_gdb_free(gdb);
	ck_assert_int_ne(access(path, F_OK), 0);
	vcore_vm_unref(vm);
}

static void make(int backend, uint32_t vcpus, const uint8_t *code, size_t length)
{
	vm = api_vm(backend, vcpus);
	for (uint32_t i = 0; i < vcpus; i++)
		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE, code, length);
}

static uint32_t cell(void)
{
	uint32_t value = 0;

	OK(vcore_memory_read(vm, 0x6000, &value, sizeof value));
	return value;
}

/* It runs: the loop's cell changes. */
static void runs(void)
{
	uint32_t before = cell();

	for (int i = 0; i < 10000 && cell() == before; i++)
		api_pause_ms(1);
	ck_assert_uint_ne(cell(), before);
}

static void stands(void)
{
	uint32_t before = cell();

	api_pause_ms(30);
	ck_assert_uint_eq(cell(), before);
}

/* l: inc dword [0x6000]; nop; jmp l */
#define LOOP     CODE_BYTES(0xff, 0x05, 0x00, 0x60, 0, 0, 0x90, 0xeb, 0xf7)
#define LOOP_NOP (CODE + 6)

/* ---- tests ---- */

START_TEST(addresses)
{
	static const char *const bad[] = {"",       "1234",        "tcp:",        "tcp:1234", "host:1",        ":",
	                                  ":65536", ":-1",         ":1x",         ": 1",      "127.0.0.1:1:2", "[::1]",
	                                  "[::1:5", "[1.2.3.4]:5", "300.0.0.1:5", "::1:5",    "unix:"};
	struct vcore_gdb_options o = {.size = sizeof o};
	char text[200];
	vcore_gdb *g;
	int whole;

	vm = api_vm(_i, 1);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		o.address = bad[i];
		REFUSED(vcore_gdb_new(vm, &o, &g), EINVAL, "expected");
		ck_assert_ptr_null(g);
	}
	memset(text, 'x', sizeof text - 1);
	memcpy(text, "unix:", 5);
	text[sizeof text - 1] = '\0';
	o.address = text;
	REFUSED(vcore_gdb_new(vm, &o, &g), EINVAL, "107");
	o.address = "unix:/no/such/directory/socket";
	REFUSED(vcore_gdb_new(vm, &o, &g), ENOENT, "gdb");
	o.address = "203.0.113.1:0"; /* nobody's */
	REFUSED(vcore_gdb_new(vm, &o, &g), EADDRNOTAVAIL, "gdb");
	for (int i = 0; i < 3; i++) {
		static const char *const good[] = {":0", "tcp:localhost:0", "127.0.0.1:0"};

		o.address = good[i];
		OK(vcore_gdb_new(vm, &o, &g));
		OK(vcore_gdb_address(g, text, sizeof text));
		ck_assert_msg(!strncmp(text, "127.0.0.1:", 10) && atoi(text + 10) > 0, "%s", text);
		whole = (int)strlen(text);
		ck_assert_int_eq(vcore_gdb_address(g, text, 4), whole);
		ck_assert_str_eq(text, "127");
		vcore_gdb_free(g);
	}
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(refusals)
{
	struct vcore_gdb_options o = {.size = sizeof o, .address = ":0"};
	struct vcore_debug d = {.size = sizeof d};
	vcore_gdb *g, *second;
	char text[8];

	vm = api_vm(_i, 1);
	REFUSED(vcore_gdb_new(NULL, &o, &g), EINVAL, "vm");
	REFUSED(vcore_gdb_new(vm, &o, NULL), EINVAL, "place");
	REFUSED(vcore_gdb_address(NULL, text, 8), EINVAL, "stub");
	o.size = 0;
	REFUSED(vcore_gdb_new(vm, &o, &g), EINVAL, "size");
	o.size = sizeof o;
	OK(vcore_gdb_new(vm, &o, &g));
	REFUSED(vcore_gdb_address(g, NULL, 8), EINVAL, "place");
	REFUSED(vcore_gdb_new(vm, &o, &second), EBUSY, "already");
	REFUSED(vcore_vcpu_set_debug(vcore_vm_vcpu(vm, 0), &d), EBUSY, "gdb");
	/* the stub keeps the vm */
	vcore_vm_unref(vm);
	vcore_gdb_free(g);
	vcore_gdb_free(NULL);
}
END_TEST

START_TEST(socket_in_the_way)
{
	struct vcore_gdb_options o = {.size = sizeof o};
	char address[80];
	vcore_gdb *g;

	make(_i, 1, LOOP);
	stub(false);
	snprintf(address, sizeof address, "unix:%s", path);
	o.address = address;
	{
		vcore_vm *other = api_vm(_i, 1);

		REFUSED(vcore_gdb_new(other, &o, &g), EADDRINUSE, "gdb");
		vcore_vm_unref(other);
	}
	line = dial(); /* still there */
	end();
}
END_TEST

START_TEST(waits_for_gdb)
{
	make(_i, 1, LOOP);
	stub(true);
	OK(vcore_vm_start(vm));
	stands();
	call();
	answers("?", "T05thread:1;");
	ck_assert_uint_eq(rip(), CODE);
	answers("Z1,1006,1", "OK");
	if (!api_is_poor_kvm(_i, "RF")) {
		for (uint32_t i = 1; i <= 3; i++) {
			answers("vCont;c", "T05thread:1;hwbreak:;");
			ck_assert_uint_eq(rip(), LOOP_NOP);
			ck_assert_uint_eq(cell(), i);
			/* it stays where it is, and a step gets past it */
			answers("vCont;s:1", "T05thread:1;");
			ck_assert_uint_eq(rip(), LOOP_NOP + 1);
		}
	}
	answers("z1,1006,1", "OK");
	send_packet("vCont;c");
	runs();
	OK(vcore_vm_stop(vm));
	ck_assert_str_eq(receive(), "W00");
	end();
}
END_TEST

START_TEST(software_breakpoint)
{
	make(_i, 1, LOOP);
	OK(vcore_vm_start(vm));
	runs();
	stub(false);
	runs();
	call(); /* holds it */
	stands();
	answers("Z0,1006,1", "OK");
	answers("vCont;c", "T05thread:1;swbreak:;");
	ck_assert_uint_eq(rip(), LOOP_NOP);
	answers("m1006,1", "90");
	answers("z0,1006,1", "OK");
	answers("vCont;s", "T05thread:1;");
	ck_assert_uint_eq(rip(), LOOP_NOP + 1);
	answers("vCont;s", "T05thread:1;");
	ck_assert_uint_eq(rip(), CODE);
	answers("P0=7856341200000000", "OK");
	answers("vCont;s", "T05thread:1;");
	answers("p0", "7856341200000000");
	/* gdb goes without a word: its breakpoints go with it */
	answers("Z0,1006,1", "OK");
	close(line);
	runs();
	call();
	answers("m1006,1", "90");
	ck_assert(rip() >= CODE && rip() < CODE + 9);
	answers("D", "OK");
	runs();
	end();
}
END_TEST

/* The guest's own INT3 is the guest's while gdb has one elsewhere. */
START_TEST(own_int3)
{
	/* l: int3; inc dword [0x6000]; jmp l; nop */
	make(_i, 1, CODE_BYTES(0xcc, 0xff, 0x05, 0x00, 0x60, 0, 0, 0xeb, 0xf7, 0x90));
	api_tables(vm, 0, false);
	stub(true);
	OK(vcore_vm_start(vm));
	call();
	answers("Z0,1009,1", "OK");
	send_packet("vCont;c");
	runs();
	api_until_count(vm, 3, 5);
	interrupt("T02thread:1;");
	ck_assert(api_count(vm, 3) - cell() <= 1);
	end();
}
END_TEST

START_TEST(interrupts)
{
	struct vcore_vm_info a = {.size = sizeof a}, b = {.size = sizeof b};

	make(_i, 2, LOOP);
	stub(false);
	OK(vcore_vm_start(vm));
	call();
	for (int i = 0; i < 5; i++) {
		send_packet("vCont;c");
		runs();
		interrupt("T02thread:1;");
		stands();
	}
	OK(vcore_vm_get_info(vm, &a));
	api_pause_ms(20);
	OK(vcore_vm_get_info(vm, &b));
	ck_assert_uint_eq(a.time_ns, b.time_ns);
	/* one of two: the other stands */
	answers("Hg2", "OK");
	answers("P10=0010000000000000", "OK");
	send_packet("vCont;c:1");
	runs();
	transmit("\003", 1);
	ck_assert_str_eq(receive(), "T02thread:2;");
	ck_assert_uint_eq(rip(), CODE);
	/* a packet while it runs is nothing */
	send_packet("vCont;c");
	send_packet("g");
	send_packet("Z0,1000,1");
	runs();
	interrupt("T02thread:2;");
	answers("m1000,1", "ff");
	end();
}
END_TEST

START_TEST(beside_pause_and_stop)
{
	struct vcore_exit exit = {.size = sizeof exit};

	make(_i, 2, LOOP);
	stub(false);
	OK(vcore_vm_start(vm));
	OK(vcore_vm_pause(vm));
	call();
	OK(vcore_vm_resume(vm));
	stands(); /* gdb holds it */
	OK(vcore_vm_pause(vm));
	send_packet("vCont;c");
	stands(); /* the program does */
	OK(vcore_vm_resume(vm));
	runs();
	interrupt("T02thread:1;");
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
	/* it can be looked at still, and not be run */
	ck_assert(rip() >= CODE && rip() < CODE + 9);
	answers("vCont;c", "W00");
	end();
}
END_TEST

START_TEST(kill_by_gdb)
{
	struct vcore_exit exit = {.size = sizeof exit};

	make(_i, 2, LOOP);
	stub(true);
	OK(vcore_vm_start(vm));
	call();
	if (_i)
		send_packet("k");
	else
		answers("vKill;1", "OK");
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_uint_eq(exit.reason, VCORE_EXIT_STOPPED);
	end();
}
END_TEST

START_TEST(crash_and_end)
{
	/* ud2 without an IDT */
	make(_i, 1, CODE_BYTES(0x0f, 0x0b));
	stub(true);
	OK(vcore_vm_start(vm));
	call();
	answers("vCont;c", "X06");
	end();
}
END_TEST

/* The end of the stub sends gdb away, and the guest goes on as if it had not been there. */
START_TEST(free_while_held)
{
	make(_i, 2, LOOP);
	stub(true);
	OK(vcore_vm_start(vm));
	call();
	answers("Z0,1006,1", "OK");
	answers("Z2,6100,4", "OK");
	answers("vCont;s:2", "T05thread:2;");
	vcore_gdb_free(gdb);
	ck_assert_str_eq(receive(), "closed");
	close(line);
	runs();
	stub(false);
	call();
	end();
}
END_TEST

/* ---- vcpus that the program runs ---- */

struct runner {
	vcore_vcpu *vcpu;
	struct vcore_exit exit;
	int result;
};

static void *run_vcpu(void *arg)
{
	struct runner *r = arg;

	r->exit.size = sizeof r->exit;
	r->result = vcore_vcpu_run(r->vcpu, -1, &r->exit);
	return NULL;
}

START_TEST(run_by_the_program)
{
	struct runner runners[2] = {0};
	pthread_t threads[2];

	make(_i, 2, LOOP);
	stub(true);
	for (int i = 0; i < 2; i++) {
		runners[i].vcpu = vcore_vm_vcpu(vm, (uint32_t)i);
		pthread_create(&threads[i], NULL, run_vcpu, &runners[i]);
	}
	stands();
	call();
	ck_assert_uint_eq(rip(), CODE);
	answers("vCont;s:1", "T05thread:1;");
	ck_assert_uint_eq(rip(), LOOP_NOP);
	answers("Z0,1006,1", "OK");
	answers("P10=0010000000000000", "OK");
	answers("vCont;c:1", "T05thread:1;swbreak:;");
	answers("z0,1006,1", "OK");
	send_packet("vCont;c");
	runs();
	interrupt("T02thread:1;");
	stands();
	answers("D", "OK");
	runs();
	for (int i = 0; i < 2; i++) {
		vcore_vcpu_kick(runners[i].vcpu);
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(runners[i].result, 0);
		ck_assert_uint_eq(runners[i].exit.reason, VCORE_EXIT_KICKED);
	}
	end();
}
END_TEST

/* ---- peers that mean ill ---- */

START_TEST(second_gdb)
{
	struct pollfd fd = {-1, POLLIN, 0};
	char byte;

	make(_i, 1, LOOP);
	stub(false);
	call();
	fd.fd = dial();
	ck_assert_int_eq(poll(&fd, 1, 30000), 1);
	ck_assert_int_eq(recv(fd.fd, &byte, 1, 0), 0);
	close(fd.fd);
	answers("qC", "QC1");
	end();
}
END_TEST

START_TEST(bad_line)
{
	make(_i, 1, LOOP);
	stub(false);
	line = dial();
	/* a wrong checksum is asked for again, a reply that was lost is sent again */
	transmit("$qC#00", 6);
	ck_assert_int_eq(next_byte(), '-');
	transmit("$qC#b4", 6);
	ck_assert_int_eq(next_byte(), '+');
	ck_assert_str_eq(receive(), "QC1");
	transmit("-", 1);
	ck_assert_str_eq(receive(), "QC1");
	transmit("+", 1);
	answers("QStartNoAckMode", "OK");
	transmit("$qC#00-+\003$qC#b4", 15);
	ck_assert_str_eq(receive(), "QC1"); /* to the good one alone */
	end();
}
END_TEST

/* It asks and asks, and never reads. */
START_TEST(deaf_gdb)
{
	make(_i, 1, LOOP);
	stub(false);
	line = dial();
	for (int i = 0; i < 20000; i++)
		if (send(line, "$m0,2000#1d", 11, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
	vcore_gdb_free(gdb);
	close(line);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(coming_and_going)
{
	make(_i, 2, LOOP);
	stub(false);
	OK(vcore_vm_start(vm));
	for (int i = 0; i < 30; i++) {
		line = dial();
		if (i % 3 == 0)
			send_packet("vCont;c");
		if (i % 3 == 1)
			transmit("$vCont;s:2#b0\003", 14);
		close(line);
	}
	runs();
	line = dial();
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gdb");
	TCase *tcase = tcase_create("gdb");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, addresses);
	EACH(tcase, refusals);
	EACH(tcase, socket_in_the_way);
	EACH(tcase, waits_for_gdb);
	EACH(tcase, software_breakpoint);
	EACH(tcase, own_int3);
	EACH(tcase, interrupts);
	EACH(tcase, beside_pause_and_stop);
	EACH(tcase, kill_by_gdb);
	EACH(tcase, crash_and_end);
	EACH(tcase, free_while_held);
	EACH(tcase, run_by_the_program);
	EACH(tcase, second_gdb);
	EACH(tcase, bad_line);
	EACH(tcase, deaf_gdb);
	EACH(tcase, coming_and_going);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
