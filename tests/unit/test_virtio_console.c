/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-console: characters both ways, slow readers, the control protocol of several ports, state in the middle. */
#include <fcntl.h>

#include "platform_env.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { F_SIZE = 1, F_MULTIPORT = 2, DEVICE_READY = 0, DEVICE_ADD, PORT_READY = 3, CONSOLE_PORT, RESIZE, OPEN, NAME };

struct control {
	uint32_t id;
	uint16_t event, value;
	uint8_t rest[24];
};

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue rx[2], tx[2], control_rx, control_tx;
static int in_fd, out_fd, in2_fd, out2_fd; /* our ends */

static int create(const char *text)
{
	struct vc_props *props;
	struct vc_dev *dev;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_console_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-console");
	vc_props_free(props);
	return r;
}

static void begin(bool ports, const char *more)
{
	int in[2], out[2], in2[2], out2[2];
	char text[256];

	platform_init(&p, VC_MIB(4));
	ck_assert(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC) && !pipe2(in2, O_CLOEXEC) && !pipe2(out2, O_CLOEXEC));
	snprintf(text, sizeof text, "input=fd:%d,output=fd:%d%s", in[0], out[1], more);
	if (ports)
		snprintf(text + strlen(text), sizeof text - strlen(text),
		         ",port1=org.test,port1_input=fd:%d,port1_output=fd:%d", in2[0], out2[1]);
	ck_assert_int_eq(create(text), 0);
	close(in[0]);
	close(out[1]);
	close(in2[0]);
	close(out2[1]);
	in_fd = in[1];
	out_fd = out[0];
	in2_fd = in2[1];
	out2_fd = out2[0];
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &rx[0], 0, 16);
	vdrv_queue(&d, &tx[0], 1, 16);
	if (ports) {
		vdrv_queue(&d, &control_rx, 2, 16);
		vdrv_queue(&d, &control_tx, 3, 16);
		vdrv_queue(&d, &rx[1], 4, 16);
		vdrv_queue(&d, &tx[1], 5, 16);
	}
	vdrv_start(&d);
	vdrv_settle(&d);
}

static void end(void)
{
	platform_fini(&p);
	close(in_fd);
	close(out_fd);
	close(in2_fd);
	close(out2_fd);
}

static void expect_output(int fd, const char *text)
{
	char got[128];
	ssize_t n = read(fd, got, sizeof got);

	ck_assert_int_eq(n, (ssize_t)strlen(text));
	ck_assert_mem_eq(got, text, (size_t)n);
}

static uint64_t put_text(const char *text)
{
	uint64_t gpa = vdrv_alloc(&d, strlen(text) + 1, 1);

	memcpy(vdrv_ptr(&d, gpa), text, strlen(text));
	return gpa;
}

START_TEST(characters)
{
	uint64_t hello, buffer;
	uint32_t written;

	begin(false, _i ? ",packed=on,worker=thread" : "");
	ck_assert_uint_eq(d.features & (F_SIZE | F_MULTIPORT), 0);
	hello = put_text("hello world");
	vdrv_do(&tx[0], (struct vdrv_buf[]){{hello, 6, false}, {hello + 6, 5, false}}, 2);
	expect_output(out_fd, "hello world");
	/* what comes before there are buffers waits */
	ck_assert_int_eq(write(in_fd, "typed", 5), 5);
	vdrv_settle(&d);
	buffer = vdrv_alloc(&d, 64, 1);
	ck_assert(vdrv_add(&rx[0], &(struct vdrv_buf){buffer, 3, true}, 1, &p));
	ck_assert(vdrv_add(&rx[0], &(struct vdrv_buf){buffer + 3, 60, true}, 1, &d));
	vdrv_kick(&rx[0]);
	ck_assert_ptr_eq(vdrv_wait(&rx[0], &written), &p);
	ck_assert_uint_eq(written, 3);
	ck_assert_ptr_eq(vdrv_wait(&rx[0], &written), &d);
	ck_assert_uint_eq(written, 2);
	ck_assert_mem_eq(vdrv_ptr(&d, buffer), "typed", 5);
	/* and a buffer waits for what comes */
	ck_assert(vdrv_add(&rx[0], &(struct vdrv_buf){buffer, 60, true}, 1, &p));
	vdrv_kick(&rx[0]);
	vdrv_settle(&d);
	ck_assert_ptr_null(vdrv_get(&rx[0], NULL));
	ck_assert_int_eq(write(in_fd, "x", 1), 1);
	ck_assert_ptr_eq(vdrv_wait(&rx[0], &written), &p);
	ck_assert_uint_eq(written, 1);
	vdrv_set_config(&d, 8, 4, 'E');
	expect_output(out_fd, "E");
	end();
}
END_TEST

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)(at * 31 + at / 251);
}

/* Nobody reads for a while; the device is saved and loaded meanwhile. Nothing is lost, and nothing comes twice. */
START_TEST(slow_reader)
{
	const uint32_t total = 300000;
	static uint8_t state[1 << 16], got[4096];
	struct vc_dev *dev;
	uint64_t gpa;
	uint32_t at = 0;
	int64_t size;

	begin(false, "");
	dev = p.buses.devices;
	gpa = vdrv_alloc(&d, total, 1);
	for (uint32_t i = 0; i < total; i++)
		((uint8_t *)vdrv_ptr(&d, gpa))[i] = pattern(i);
	ck_assert(vdrv_add(&tx[0], (struct vdrv_buf[]){{gpa, 1000, false}, {gpa + 1000, total - 1000, false}}, 2, &p));
	vdrv_kick(&tx[0]);
	vdrv_settle(&d);
	ck_assert_ptr_null(vdrv_get(&tx[0], NULL));
	size = dev->ops.save(dev->ctx, state, sizeof state);
	ck_assert_int_gt(size, 0);
	ck_assert_int_eq(dev->ops.load(dev->ctx, state, (size_t)size), 0);
	while (at < total) {
		ssize_t n = read(out_fd, got, sizeof got);

		ck_assert_int_gt(n, 0);
		for (ssize_t i = 0; i < n; i++, at++)
			if (got[i] != pattern(at))
				ck_abort_msg("byte %u is wrong", at);
		vdrv_settle(&d);
	}
	ck_assert_ptr_eq(vdrv_wait(&tx[0], NULL), &p);
	end();
}
END_TEST

static void send_control(uint32_t id, uint16_t event, uint16_t value)
{
	uint64_t gpa = vdrv_alloc(&d, 8, 4);

	memcpy(vdrv_ptr(&d, gpa), &(struct control){id, event, value, {0}}, 8);
	vdrv_do(&control_tx, &(struct vdrv_buf){gpa, 8, false}, 1);
	vdrv_settle(&d);
}

static void expect_control(uint32_t id, uint16_t event, uint16_t value, const void *rest, uint32_t length)
{
	uint32_t written;
	struct control *control = vdrv_wait(&control_rx, &written);

	ck_assert_uint_eq(written, 8 + length);
	ck_assert_uint_eq(control->id, id);
	ck_assert_uint_eq(control->event, event);
	ck_assert_uint_eq(control->value, value);
	if (length)
		ck_assert_mem_eq(control->rest, rest, length);
}

START_TEST(ports)
{
	const uint16_t size[2] = {80, 25};
	uint64_t buffer, hello;
	uint32_t written;

	begin(true, ",cols=80,rows=25");
	ck_assert_uint_eq(d.features & (F_SIZE | F_MULTIPORT), F_SIZE | F_MULTIPORT);
	ck_assert_uint_eq(vdrv_config(&d, 0, 4), 80 | 25 << 16);
	ck_assert_uint_eq(vdrv_config(&d, 4, 4), 2);
	for (unsigned i = 0; i < 12; i++) {
		uint64_t gpa = vdrv_alloc(&d, sizeof(struct control), 8);

		ck_assert(vdrv_add(&control_rx, &(struct vdrv_buf){gpa, sizeof(struct control), true}, 1, vdrv_ptr(&d, gpa)));
	}
	vdrv_kick(&control_rx);
	send_control(0xffffffff, DEVICE_READY, 1);
	expect_control(0, DEVICE_ADD, 0, NULL, 0);
	expect_control(1, DEVICE_ADD, 0, NULL, 0);
	send_control(0, PORT_READY, 1);
	expect_control(0, CONSOLE_PORT, 1, NULL, 0);
	expect_control(0, RESIZE, 0, size, sizeof size);
	expect_control(0, OPEN, 1, NULL, 0);
	send_control(7, PORT_READY, 1); /* there is none */
	send_control(1, PORT_READY, 1);
	expect_control(1, NAME, 1, "org.test", 8);
	expect_control(1, OPEN, 1, NULL, 0);
	/* input waits until the guest has opened the port */
	buffer = vdrv_alloc(&d, 64, 1);
	ck_assert_int_eq(write(in2_fd, "early", 5), 5);
	ck_assert(vdrv_add(&rx[1], &(struct vdrv_buf){buffer, 64, true}, 1, &p));
	vdrv_kick(&rx[1]);
	vdrv_settle(&d);
	ck_assert_ptr_null(vdrv_get(&rx[1], NULL));
	send_control(1, OPEN, 1);
	ck_assert_ptr_eq(vdrv_wait(&rx[1], &written), &p);
	ck_assert_uint_eq(written, 5);
	hello = put_text("hello");
	vdrv_do(&tx[1], &(struct vdrv_buf){hello, 5, false}, 1);
	expect_output(out2_fd, "hello");
	end();
}
END_TEST

START_TEST(hostile)
{
	begin(false, "");
	ck_assert(vdrv_add(&rx[0], &(struct vdrv_buf){0x1000, 10, false}, 1, &p));
	vdrv_kick(&rx[0]);
	vdrv_settle(&d);
	ck_assert(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET);
	end();
}
END_TEST

START_TEST(refusals)
{
	static const char *const bad[] = {"input=nowhere",   "output=nowhere",   "cols=80",
	                                  "port1=a,port3=c", "port1_input=null", "rows=99999"};

	platform_init(&p, VC_MIB(1));
	for (unsigned i = 0; i < VC_ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(create(bad[i]), -EINVAL);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-console");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, characters, 0, 2);
	tcase_add_test(tc, slow_reader);
	tcase_add_test(tc, ports);
	tcase_add_test(tc, hostile);
	tcase_add_test(tc, refusals);
	return platform_run("virtio-console", tc);
}
