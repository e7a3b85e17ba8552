/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 16550A: registers, interrupts and their priority, FIFO triggers and timeout, loopback, host input and output that
 * stall or end. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <virtcore/error.h>

#include "device/device.h"
#include "platform_env.h"

enum {
	COM1 = 0x3f8,
	IRQ = 4,
	RBR = 0,
	THR = 0,
	IER = 1,
	IIR = 2,
	FCR = 2,
	LCR = 3,
	MCR = 4,
	LSR = 5,
	MSR = 6,
	SCR = 7
};

static struct platform_env p;
static int in_fd = -1, out_fd = -1; /* our ends */

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_uart_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "uart");
	vc_props_free(props);
	return r;
}

static void setup(void)
{
	int in[2], out[2];
	char text[64];

	platform_init(&p, 0);
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	snprintf(text, sizeof text, "input=fd:%d,output=fd:%d", in[0], out[1]);
	ck_assert_int_eq(create(text), 0);
	/* the device has its own */
	close(in[0]);
	close(out[1]);
	in_fd = in[1];
	out_fd = out[0];
}

static void teardown(void)
{
	platform_fini(&p);
	close(in_fd);
	close(out_fd);
}

static uint8_t get(unsigned reg)
{
	return (uint8_t)platform_in(&p, (uint16_t)(COM1 + reg), 1);
}

static void put(unsigned reg, uint8_t value)
{
	platform_out(&p, (uint16_t)(COM1 + reg), 1, value);
}

static void type(const char *text)
{
	ck_assert_int_eq(write(in_fd, text, strlen(text)), (ssize_t)strlen(text));
	platform_settle(&p);
}

START_TEST(registers)
{
	ck_assert_uint_eq(get(IER), 0);
	ck_assert_uint_eq(get(IIR), 0x01);
	ck_assert_uint_eq(get(LCR), 0);
	ck_assert_uint_eq(get(MCR), 0);
	ck_assert_uint_eq(get(LSR), 0x60);
	ck_assert_uint_eq(get(MSR), 0xb0);
	put(IER, 0xff);
	ck_assert_uint_eq(get(IER), 0x0f);
	put(MCR, 0xef);
	ck_assert_uint_eq(get(MCR), 0x0f);
	put(SCR, 0x5a);
	ck_assert_uint_eq(get(SCR), 0x5a);
	/* read-only */
	put(LSR, 0);
	put(MSR, 0);
	ck_assert_uint_eq(get(LSR), 0x60);
	/* the divisor has ports of its own only while DLAB is set */
	put(LCR, 0x83);
	put(0, 0x34);
	put(1, 0x12);
	ck_assert_uint_eq(platform_in(&p, COM1, 2), 0x1234);
	put(LCR, 0x03);
	ck_assert_uint_eq(get(IER), 0x0f);
	ck_assert_uint_eq(get(RBR), 0);
	/* a 16550A tells its FIFOs */
	put(FCR, 0x01);
	ck_assert_uint_eq(get(IIR) & 0xc0, 0xc0);
	put(FCR, 0x00);
	ck_assert_uint_eq(get(IIR) & 0xc0, 0);
}
END_TEST

START_TEST(output)
{
	char text[16] = "";

	put(THR, 'o');
	put(THR, 'k');
	ck_assert_int_eq(read(out_fd, text, sizeof text), 2);
	ck_assert_str_eq(text, "ok");
	/* a wide write reaches the next register, as on ISA */
	platform_out(&p, COM1 + SCR - 1, 2, 0x7700);
	ck_assert_uint_eq(get(SCR), 0x77);
}
END_TEST

START_TEST(thre_interrupt)
{
	put(MCR, 0x08);
	put(IER, 0x02);
	ck_assert_uint_eq(p.edges[IRQ], 1); /* enabling it with an empty transmitter raises it */
	ck_assert_uint_eq(get(IIR), 0x02);
	ck_assert(!p.level[IRQ]); /* reading IIR took it back */
	ck_assert_uint_eq(get(IIR), 0x01);
	put(THR, 'x');
	ck_assert_uint_eq(p.edges[IRQ], 2);
	put(THR, 'y'); /* without IIR being read: an edge again */
	ck_assert_uint_eq(p.edges[IRQ], 3);
	put(IER, 0x00);
	ck_assert(!p.level[IRQ]);
	put(IER, 0x02);
	ck_assert(p.level[IRQ]);
}
END_TEST

START_TEST(out2_gates)
{
	put(IER, 0x02);
	ck_assert_uint_eq(get(IIR), 0x02);
	put(IER, 0x00);
	put(IER, 0x02);
	ck_assert(!p.level[IRQ]);
	put(MCR, 0x08);
	ck_assert(p.level[IRQ]);
	put(MCR, 0x00);
	ck_assert(!p.level[IRQ]);
}
END_TEST

START_TEST(input_without_fifo)
{
	put(MCR, 0x08);
	put(IER, 0x01);
	type("ab");
	ck_assert(p.level[IRQ]);
	ck_assert_uint_eq(get(IIR), 0x04);
	ck_assert_uint_eq(get(LSR), 0x61);
	ck_assert_uint_eq(get(RBR), 'a');
	ck_assert_uint_eq(get(LSR), 0x60);
	ck_assert(!p.level[IRQ]);
	platform_settle(&p); /* the next one only now: nothing is lost */
	ck_assert(p.level[IRQ]);
	ck_assert_uint_eq(get(RBR), 'b');
	platform_settle(&p);
	ck_assert_uint_eq(get(LSR), 0x60);
}
END_TEST

START_TEST(trigger_level)
{
	put(MCR, 0x08);
	put(IER, 0x01);
	put(FCR, 0x81); /* 8 characters */
	type("1234567");
	ck_assert(!p.level[IRQ]);
	ck_assert_uint_eq(get(IIR), 0xc1);
	type("8");
	ck_assert(p.level[IRQ]);
	ck_assert_uint_eq(get(IIR), 0xc4);
	ck_assert_uint_eq(get(RBR), '1');
	ck_assert(!p.level[IRQ]);
	/* another level, at once */
	put(FCR, 0x41);
	ck_assert_uint_eq(get(IIR), 0xc4);
	put(FCR, 0xc1);
	ck_assert_uint_eq(get(IIR), 0xc1);
	put(FCR, 0x03); /* cleared */
	ck_assert_uint_eq(get(LSR), 0x60);
}
END_TEST

static void advance(uint64_t ns)
{
	vc_clock_set(&p.clock, vc_clock_now(&p.clock) + ns);
	vc_loop_clock_changed(p.env.loop);
	platform_settle(&p);
}

START_TEST(character_timeout)
{
	put(MCR, 0x08);
	put(IER, 0x01);
	put(LCR, 0x80);
	put(0, 0x00);
	put(1, 0x0f); /* 30 baud: a character takes a third of a second, so that no timeout comes by itself */
	put(LCR, 0x03);
	put(FCR, 0xc1);
	type("xy");
	ck_assert(!p.level[IRQ]);
	advance(900000000);
	ck_assert(!p.level[IRQ]);
	advance(500000000);
	ck_assert(p.level[IRQ]);
	ck_assert_uint_eq(get(IIR), 0xcc);
	ck_assert_uint_eq(get(RBR), 'x');
	ck_assert(!p.level[IRQ]); /* begins anew with the character that is left */
	advance(1400000000);
	ck_assert_uint_eq(get(IIR), 0xcc);
	ck_assert_uint_eq(get(RBR), 'y');
	ck_assert(!p.level[IRQ]);
	advance(5000000000);
	ck_assert_uint_eq(get(IIR), 0xc1);
}
END_TEST

START_TEST(back_pressure)
{
	char text[201];
	unsigned i;

	for (i = 0; i < sizeof text - 1; i++)
		text[i] = (char)('!' + i % 90);
	text[i] = '\0';
	put(FCR, 0xc1);
	type(text);
	for (i = 0; i < sizeof text - 1; i++) {
		ck_assert_uint_eq(get(LSR), 0x61); /* and never an overrun */
		ck_assert_uint_eq(get(RBR), (uint8_t)text[i]);
		platform_settle(&p);
	}
	ck_assert_uint_eq(get(LSR), 0x60);
	/* the other end closes with the FIFO full: the loop must not spin */
	type(text);
	close(in_fd);
	in_fd = -1;
	ck_assert_int_eq(vc_loop_run(p.env.loop, 0), 0);
	for (i = 0; i < sizeof text - 1; i++) {
		ck_assert_uint_eq(get(RBR), (uint8_t)text[i]);
		platform_settle(&p);
	}
	ck_assert_uint_eq(get(LSR), 0x60);
	ck_assert_int_eq(vc_loop_run(p.env.loop, 0), 0);
}
END_TEST

START_TEST(loopback)
{
	put(FCR, 0x01);
	put(MCR, 0x10);
	ck_assert_uint_eq(get(MSR) & 0xf0, 0);
	put(MCR, 0x1f);
	ck_assert_uint_eq(get(MSR) & 0xf0, 0xf0);
	put(THR, 'l');
	ck_assert_uint_eq(get(LSR), 0x61);
	ck_assert_uint_eq(get(RBR), 'l');
	/* host input is cut off */
	type("h");
	ck_assert_uint_eq(get(LSR), 0x60);
	put(MCR, 0x00);
	platform_settle(&p);
	ck_assert_uint_eq(get(LSR), 0x61);
	ck_assert_uint_eq(get(RBR), 'h');
	/* and so is host output */
	struct pollfd none = {.fd = out_fd, .events = POLLIN};
	ck_assert_int_eq(poll(&none, 1, 0), 0);
}
END_TEST

START_TEST(overrun)
{
	put(FCR, 0x01);
	put(MCR, 0x18);
	put(IER, 0x05);
	for (unsigned i = 0; i < 17; i++)
		put(THR, (uint8_t)i);
	ck_assert_uint_eq(get(IIR), 0xc6); /* line status before data */
	ck_assert_uint_eq(get(LSR), 0x63);
	ck_assert_uint_eq(get(LSR), 0x61); /* reading took it back */
	ck_assert_uint_eq(get(IIR), 0xc4);
	for (unsigned i = 0; i < 16; i++)
		ck_assert_uint_eq(get(RBR), i);
	ck_assert_uint_eq(get(LSR), 0x60);
	/* without FIFO the new one takes the place of the old */
	put(FCR, 0x00);
	put(THR, 1);
	put(THR, 2);
	ck_assert_uint_eq(get(LSR), 0x63);
	ck_assert_uint_eq(get(RBR), 2);
}
END_TEST

START_TEST(modem_interrupt)
{
	put(MCR, 0x1b); /* OUT2, RTS, DTR */
	get(MSR);
	put(IER, 0x08);
	ck_assert(!p.level[IRQ]);
	put(MCR, 0x19); /* RTS off: CTS changed */
	ck_assert(p.level[IRQ]);
	ck_assert_uint_eq(get(IIR), 0x00);
	ck_assert_uint_eq(get(MSR), 0xa1);
	ck_assert(!p.level[IRQ]);
	ck_assert_uint_eq(get(MSR), 0xa0);
	put(MCR, 0x1d); /* RI begins: no delta */
	ck_assert_uint_eq(get(MSR), 0xe0);
	put(MCR, 0x19); /* RI ends */
	ck_assert_uint_eq(get(MSR), 0xa4);
}
END_TEST

START_TEST(priorities)
{
	put(MCR, 0x1b);
	get(MSR);
	put(IER, 0x0f);
	put(MCR, 0x1a); /* modem */
	put(THR, 1);    /* THRE, data */
	put(THR, 2);    /* overrun */
	ck_assert_uint_eq(get(IIR), 0x06);
	get(LSR);
	ck_assert_uint_eq(get(IIR), 0x04);
	get(RBR);
	ck_assert_uint_eq(get(IIR), 0x02);
	ck_assert_uint_eq(get(IIR), 0x00);
	get(MSR);
	ck_assert_uint_eq(get(IIR), 0x01);
	ck_assert(!p.level[IRQ]);
}
END_TEST

/* Nobody reads: the buffers fill, THRE says so, nothing is lost or blocks. */
START_TEST(stalled_output)
{
	unsigned sent = 0, got = 0;
	uint8_t bytes[4096];

	put(MCR, 0x08);
	while (get(LSR) & 0x20) {
		put(THR, (uint8_t)sent++);
		ck_assert_uint_lt(sent, 1 << 20);
	}
	put(THR, 0xff); /* against the rules: dropped */
	put(IER, 0x02);
	ck_assert(!p.level[IRQ]);
	while (got < sent) {
		ssize_t n = read(out_fd, bytes, sizeof bytes);

		ck_assert_int_gt(n, 0);
		for (ssize_t i = 0; i < n; i++)
			ck_assert_uint_eq(bytes[i], (uint8_t)got++);
		platform_settle(&p);
	}
	ck_assert_uint_eq(get(LSR), 0x60);
	ck_assert(p.level[IRQ]); /* the interrupt came with the room */
}
END_TEST

START_TEST(closed_output)
{
	put(THR, 'x');
	close(out_fd);
	out_fd = -1;
	/* SIGPIPE would kill this test */
	for (unsigned i = 0; i < 10000; i++)
		put(THR, 'x');
	ck_assert_uint_eq(get(LSR), 0x60);
	ck_assert_ptr_nonnull(strstr(p.last_log, "Broken pipe"));
}
END_TEST

START_TEST(closed_socket)
{
	int fds[2];
	char text[64];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(text, sizeof text, "addr=0x2f8,input=fd:%d,output=fd:%d", fds[0], fds[0]);
	ck_assert_int_eq(create(text), 0);
	close(fds[0]);
	platform_out(&p, 0x2f8, 1, 's');
	ck_assert_int_eq(read(fds[1], text, sizeof text), 1);
	close(fds[1]);
	for (unsigned i = 0; i < 10; i++)
		platform_out(&p, 0x2f8, 1, 's');
	platform_settle(&p);
	ck_assert_uint_eq(platform_in(&p, 0x2f8 + LSR, 1), 0x60);
}
END_TEST

START_TEST(files)
{
	char directory[] = "/tmp/test_uart.XXXXXX", path[64], text[192], got[8] = "";
	FILE *file;

	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/in", directory);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs("from file", file);
	fclose(file);
	snprintf(text, sizeof text, "addr=0x2f8,input=file:%s,output=file:%s/out", path, directory);
	ck_assert_int_eq(create(text), 0);
	for (const char *c = "from file"; *c; c++) {
		platform_settle(&p);
		ck_assert_uint_eq(platform_in(&p, 0x2f8, 1), (uint8_t)*c);
	}
	platform_settle(&p);
	ck_assert_uint_eq(platform_in(&p, 0x2f8 + LSR, 1), 0x60);
	platform_out(&p, 0x2f8, 1, 'o');
	unlink(path);
	snprintf(path, sizeof path, "%s/out", directory);
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	ck_assert_ptr_nonnull(fgets(got, sizeof got, file));
	ck_assert_str_eq(got, "o");
	fclose(file);
	unlink(path);
	rmdir(directory);
	/* the other COM port's own interrupt */
	platform_out(&p, 0x2f8 + MCR, 1, 0x08);
	platform_out(&p, 0x2f8 + IER, 1, 0x02);
	ck_assert(p.level[3]);
}
END_TEST

START_TEST(pty)
{
	char path[64] = "", text[8] = "";
	int fd;

	ck_assert_int_eq(create("addr=0x2f8,pty=on"), 0);
	ck_assert_int_eq(sscanf(p.last_log, "uart at 0x2f8: %63s", path), 1);
	platform_out(&p, 0x2f8, 1, 'p');
	fd = open(path, O_RDWR | O_NOCTTY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(read(fd, text, sizeof text), 1);
	ck_assert_uint_eq(text[0], 'p');
	ck_assert_int_eq(write(fd, "q\n", 2), 2);
	for (unsigned i = 0; i < 100 && !(platform_in(&p, 0x2f8 + LSR, 1) & 1); i++)
		vc_loop_run(p.env.loop, 10000000);
	ck_assert_uint_eq(platform_in(&p, 0x2f8, 1), 'q');
	close(fd);
	/* nobody listens: characters vanish, the guest does not wait */
	for (unsigned i = 0; i < 100000; i++)
		platform_out(&p, 0x2f8, 1, 'p');
	ck_assert_uint_eq(platform_in(&p, 0x2f8 + LSR, 1) & 0x60, 0x60);
	platform_settle(&p);
	ck_assert_int_eq(create("addr=0x3e8,pty=on,output=null"), -EINVAL);
}
END_TEST

START_TEST(bad_properties)
{
	static const struct {
		const char *text;
		int error;
	} bad[] = {
	    {"", -EEXIST},
	    {"addr=0x3f9", -EEXIST},
	    {"addr=0xfff9", -EINVAL},
	    {"addr=0x2f8,irq=24", -EINVAL},
	    {"addr=0x2f8,input=stdout", -EINVAL},
	    {"addr=0x2f8,output=", -EINVAL},
	    {"addr=0x2f8,output=fd:", -EINVAL},
	    {"addr=0x2f8,output=fd:-1", -EINVAL},
	    {"addr=0x2f8,output=fd:99999999999999999999", -EINVAL},
	    {"addr=0x2f8,input=file:/nonexistent", -ENOENT},
	    {"addr=0x2f8,output=file:/", -EISDIR},
	};

	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_msg(create(bad[i].text) == bad[i].error, "'%s': %s", bad[i].text, vcore_error_message());
}
END_TEST

START_TEST(state)
{
	uint8_t saved[64], bad[64];
	size_t length;

	put(FCR, 0xc1);
	put(MCR, 0x08);
	put(IER, 0x03);
	put(SCR, 0x42);
	type("abc");
	length = platform_save(&p, saved, sizeof saved);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(get(LSR), 0x60);
	ck_assert_uint_eq(get(SCR), 0);
	ck_assert(!p.level[IRQ]);
	ck_assert_int_eq(platform_load(&p, saved, length), 0);
	ck_assert(p.level[IRQ]);
	ck_assert_uint_eq(get(SCR), 0x42);
	ck_assert_uint_eq(get(RBR), 'a');
	ck_assert_uint_eq(get(RBR), 'b');
	ck_assert_uint_eq(get(RBR), 'c');
	platform_check_load(&p);
	/* whatever a snapshot holds, nothing breaks */
	for (size_t at = 4; at < length; at++) {
		for (unsigned value = 0; value < 256; value += 3) {
			memcpy(bad, saved, length);
			bad[at] = (uint8_t)value;
			if (platform_load(&p, bad, length) < 0)
				continue;
			for (unsigned i = 0; i < 20; i++)
				get(RBR);
			put(MCR, 0x18);
			for (unsigned i = 0; i < 20; i++)
				put(THR, (uint8_t)i);
		}
	}
	memcpy(bad, saved, length);
	bad[15] = 17; /* more than the FIFO holds */
	ck_assert_int_eq(platform_load(&p, bad, length), -EINVAL);
}
END_TEST

/* The loop in its own thread, a program at the other ends, and the guest here: nothing gets lost in either direction.
 */
enum { TRAFFIC = 20000 };

static void *sender(void *arg)
{
	for (unsigned i = 0; i < TRAFFIC; i++) {
		uint8_t byte = (uint8_t)(i * 7);

		if (write(in_fd, &byte, 1) != 1)
			return "write";
	}
	return NULL;
}

static void *receiver(void *arg)
{
	unsigned got = 0;
	uint8_t bytes[100];

	while (got < TRAFFIC) {
		ssize_t n = read(out_fd, bytes, sizeof bytes);

		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] != (uint8_t)(got++ * 5))
				return "wrong byte";
		}
		if (n <= 0)
			return "read";
	}
	return NULL;
}

START_TEST(threads)
{
	unsigned sent = 0, got = 0;
	pthread_t peers[2];
	char text[64];
	int in[2], out[2];

	vc_buses_fini(&p.buses);
	vc_loop_free(p.env.loop);
	close(in_fd);
	close(out_fd);
	ck_assert_int_eq(vc_buses_init(&p.buses, &p.gate), 0);
	ck_assert_int_eq(vc_loop_new(&p.clock, true, &p.env.loop), 0);
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	in_fd = in[1];
	out_fd = out[0];
	snprintf(text, sizeof text, "input=fd:%d,output=fd:%d", in[0], out[1]);
	ck_assert_int_eq(create(text), 0);
	close(in[0]);
	close(out[1]);
	put(MCR, 0x08);
	put(IER, 0x0f);
	put(FCR, 0x81);
	ck_assert_int_eq(pthread_create(&peers[0], NULL, sender, NULL), 0);
	ck_assert_int_eq(pthread_create(&peers[1], NULL, receiver, NULL), 0);
	while (sent < TRAFFIC || got < TRAFFIC) {
		uint8_t lsr = get(LSR);

		ck_assert_uint_eq(lsr & 0x02, 0);
		if (lsr & 0x01)
			ck_assert_uint_eq(get(RBR), (uint8_t)(got++ * 7));
		if (lsr & 0x20 && sent < TRAFFIC)
			put(THR, (uint8_t)(sent++ * 5));
		get(IIR);
	}
	for (unsigned i = 0; i < 2; i++) {
		void *said;

		pthread_join(peers[i], &said);
		ck_assert_msg(!said, "%s", (const char *)said);
	}
}
END_TEST

int main(void)
{
	TCase *cases = tcase_create("uart");

	tcase_set_timeout(cases, 60);
	tcase_add_checked_fixture(cases, setup, teardown);
	tcase_add_test(cases, registers);
	tcase_add_test(cases, output);
	tcase_add_test(cases, thre_interrupt);
	tcase_add_test(cases, out2_gates);
	tcase_add_test(cases, input_without_fifo);
	tcase_add_test(cases, trigger_level);
	tcase_add_test(cases, character_timeout);
	tcase_add_test(cases, back_pressure);
	tcase_add_test(cases, loopback);
	tcase_add_test(cases, overrun);
	tcase_add_test(cases, modem_interrupt);
	tcase_add_test(cases, priorities);
	tcase_add_test(cases, stalled_output);
	tcase_add_test(cases, closed_output);
	tcase_add_test(cases, closed_socket);
	tcase_add_test(cases, files);
	tcase_add_test(cases, pty);
	tcase_add_test(cases, bad_properties);
	tcase_add_test(cases, state);
	tcase_add_test(cases, threads);
	return platform_run("uart", cases);
}
