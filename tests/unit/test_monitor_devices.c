/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's view of devices whose guest we play: what they count, how they are changed, what they report, and that
 * one in a slot goes when the guest lets go of it. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <check.h>

#include "virtio_driver.h"
#include "vm/monitor.h"

enum { T_IN = 0, T_OUT = 1, IOERR = 1 };
enum { DISK = 1 << 20, MEMORY = 32 << 20, HEAP = 16 << 20 };
enum { PORT = VC_PCI_DEVFN(9, 0), SLOT_CONTROL = VC_PCI_CAPABILITIES + 24, LISTEN = 0x1029, POWER_OFF = 0x400 };

static vcore_vm *vm;
static vcore_monitor *monitor;
static struct vdrv d;
static int client;
static char image[64], lines[1 << 16];
static size_t received;

/* ---- the monitor's other end ---- */

static const char *receive(void)
{
	static char text[sizeof lines];
	struct pollfd fd = {client, POLLIN, 0};
	char *end;

	while (!(end = memchr(lines, '\n', received))) {
		ck_assert_msg(poll(&fd, 1, 30000) == 1, "the monitor does not answer");
		ssize_t n = recv(client, lines + received, sizeof lines - received, 0);

		ck_assert_int_gt(n, 0);
		received += (size_t)n;
	}
	memcpy(text, lines, (size_t)(end - lines));
	text[end - lines] = '\0';
	received -= (size_t)(end + 1 - lines);
	memmove(lines, end + 1, received);
	return text;
}

static void says(const char *text, const char *expected)
{
	ck_assert_msg(strstr(text, expected), "\"%.3000s\" does not say %s", text, expected);
}

static void ask(const char *command, const char *arguments, const char *expected)
{
	char request[256];
	int n = snprintf(request, sizeof request, "{\"execute\":\"%s\",\"arguments\":{%s}}\n", command, arguments);

	const char *answer;

	ck_assert_int_eq(send(client, request, (size_t)n, MSG_NOSIGNAL), n);
	/* a second has gone by: there may be another such event */
	do
		answer = receive();
	while (strstr(answer, "BLOCK_IO_ERROR"));
	says(answer, expected);
}

static uint32_t add(const char *type, const char *properties)
{
	uint32_t id;

	ck_assert_msg(vc_vm_add_device(vm, type, properties, NULL, &id) == 0, "%s", vcore_error_message());
	says(receive(), "\"DEVICE_ADDED\"");
	return id;
}

/* A command whose first argument is a device. */
static void ask_of(const char *command, uint32_t id, const char *arguments, const char *expected)
{
	char text[128];

	snprintf(text, sizeof text, "\"id\":%u%s", id, arguments);
	ask(command, text, expected);
}

static void begin(void)
{
	struct vcore_options options = {.size = sizeof options,
	                                .machine = VCORE_MACHINE_MICROVM,
	                                .backend = VCORE_BACKEND_EMU,
	                                .memory = MEMORY,
	                                .loop = VCORE_LOOP_PROGRAM};
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	snprintf(un.sun_path, sizeof un.sun_path, "/tmp/virtcore-devices-%d", (int)getpid());
	ck_assert_int_eq(vcore_vm_new(&options, &vm), 0);
	ck_assert_int_eq(vcore_monitor_new(vm, un.sun_path, VCORE_MONITOR_REPLACE, &monitor), 0);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&un, sizeof un), 0);
	received = 0;
	says(receive(), "\"QMP\"");
	ask("capabilities", "", "{\"return\":{}}");
}

static void end(void)
{
	close(client);
	vcore_monitor_free(monitor);
	vcore_vm_unref(vm);
}

/* ---- disks ---- */

static struct vdrv_queue q;
static uint64_t header, data;

static uint32_t add_disk(void)
{
	char properties[128];
	uint32_t id;
	int fd;

	snprintf(image, sizeof image, "/tmp/virtcore-disk-XXXXXX");
	fd = mkstemp(image);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, DISK), 0);
	close(fd);
	snprintf(properties, sizeof properties, "image=%s,aio=threads", image);
	id = add("virtio-blk", properties);
	vdrv_attach(&d, &vm->bvm.env, HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 64);
	vdrv_start(&d);
	header = vdrv_alloc(&d, 32, 16);
	data = vdrv_alloc(&d, 4096, 512);
	return id;
}

static uint8_t transfer(uint32_t type, uint64_t sector, uint32_t length)
{
	struct vdrv_buf bufs[3] = {{header, 16, false}, {data, length, type == T_IN}, {header + 16, 1, true}};
	uint8_t *h = vdrv_ptr(&d, header);

	vc_st32(h, type);
	vc_st64(h + 8, sector);
	vdrv_do(&q, bufs, 3);
	return h[16];
}

START_TEST(disk)
{
	uint32_t id;

	begin();
	id = add_disk();
	ck_assert_uint_eq(transfer(T_OUT, 0, 4096), 0);
	ck_assert_uint_eq(transfer(T_OUT, 8, 512), 0);
	ck_assert_uint_eq(transfer(T_IN, 0, 1024), 0);
	ask("query-devices", "",
	    "\"statistics\":{\"size\":1048576,\"reads\":1,\"read_bytes\":1024,\"writes\":2,\"write_bytes\":4608,"
	    "\"flushes\":0,\"discards\":0,\"read_errors\":0,\"write_errors\":0,\"flush_errors\":0,");
	/* another size: the driver is told, and may use it */
	vdrv_take_isr(&d);
	ask_of("block-resize", id, ",\"size\":2097152", "{\"return\":{}}");
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), 2 * DISK / 512);
	ck_assert_uint_eq(transfer(T_OUT, DISK / 512, 512), 0);
	ask_of("block-resize", id, ",\"size\":1000", "\"InvalidArgument\"");
	ask_of("block-resize", id, ",\"size\":-1", "\"InvalidArgument\"");
	ask_of("block-resize", id, "", "\\\"size\\\" is missing");
	ask_of("block-resize", 1, ",\"size\":4096", "\"NotSupported\"");
	ask_of("block-resize", id + 1, ",\"size\":4096", "\"NotFound\"");
	end();
	unlink(image);
}
END_TEST

struct told {
	unsigned count;
	vcore_device *device;
	struct vcore_block_error error;
	char image[64];
};

static void on_error(void *ctx, vcore_device *device, const struct vcore_block_error *error)
{
	struct told *told = ctx;

	told->count++;
	told->device = device;
	told->error = *error;
	snprintf(told->image, sizeof told->image, "%s", error->image);
}

/* The file's descriptor is one that we find and replace, by one for which there is never room. */
static void fill_host(void)
{
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	char link[64], text[128];

	ck_assert_int_ge(full, 0);
	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		n = readlink(link, text, sizeof text - 1);
		if (n > 0 && (size_t)n == strlen(image) && !memcmp(text, image, (size_t)n))
			ck_assert_int_eq(dup2(full, fd), fd);
	}
	close(full);
}

START_TEST(disk_errors)
{
	struct told told = {0};
	const char *event;
	char id_text[32];
	uint32_t id;

	begin();
	ck_assert_int_eq(vcore_vm_set_block_error(NULL, on_error, &told), -EINVAL);
	ck_assert_int_eq(vcore_vm_set_block_error(vm, on_error, &told), 0);
	id = add_disk();
	fill_host();
	ck_assert_uint_eq(transfer(T_OUT, 8, 512), IOERR);
	event = receive();
	snprintf(id_text, sizeof id_text, "\"id\":%u,", id);
	says(event, "\"event\":\"BLOCK_IO_ERROR\"");
	says(event, id_text);
	says(event, "\"type\":\"virtio-blk\",\"operation\":\"write\",\"offset\":4096,\"errno\":28,"
	            "\"error\":\"No space left on device\",\"errors\":1,\"action\":\"report\"}");
	ck_assert_uint_eq(told.count, 1);
	ck_assert_str_eq(vcore_device_type(told.device), "virtio-blk");
	ck_assert_int_eq(told.error.error, ENOSPC);
	ck_assert_uint_eq(told.error.offset, 4096);
	ck_assert_str_eq(vcore_block_operation_name(told.error.operation), "write");
	ck_assert_str_eq(told.image, image);
	/* many of a kind are counted, not told one by one */
	for (int i = 0; i < 100; i++)
		ck_assert_uint_eq(transfer(T_OUT, 8, 512), IOERR);
	ck_assert_uint_lt(told.count, 100); /* as many as there were seconds */
	ask("query-devices", "", "\"write_errors\":101,");
	ck_assert_str_eq(vcore_block_operation_name(99), "unknown");
	end();
	unlink(image);
}
END_TEST

/* ---- cards, ports, balloons ---- */

START_TEST(card)
{
	enum { STATUS_AT = 6 };
	struct vdrv_queue tx;
	uint64_t frame;
	uint32_t id;

	begin();
	id = add("virtio-net", "");
	vdrv_attach(&d, &vm->bvm.env, HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &tx, 1, 16);
	vdrv_start(&d);
	frame = vdrv_alloc(&d, 128, 16);
	vdrv_do(&tx, &(struct vdrv_buf){frame, 20 + 60, false}, 1);
	ask("query-devices", "", "\"statistics\":{\"link\":1,\"tx_frames\":1,\"tx_bytes\":60,");
	ck_assert_uint_eq(vdrv_config(&d, STATUS_AT, 2), 1);
	vdrv_take_isr(&d);
	ask_of("net-link", id, ",\"up\":false", "{\"return\":{}}");
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert_uint_eq(vdrv_config(&d, STATUS_AT, 2), 0);
	vdrv_do(&tx, &(struct vdrv_buf){frame, 20 + 60, false}, 1);
	ask("query-devices", "", "\"statistics\":{\"link\":0,\"tx_frames\":1,\"tx_bytes\":60,\"tx_dropped\":");
	vdrv_take_isr(&d);
	ask_of("net-link", id, ",\"up\":true", "{\"return\":{}}");
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert_uint_eq(vdrv_config(&d, STATUS_AT, 2), 1);
	ask_of("net-link", id, ",\"up\":1", "expected a boolean");
	ask_of("net-new-mac", id, "", "{\"return\":{}}");
	ask_of("net-new-mac", 1, "", "expected a virtio-net");
	ask_of("net-link", 1, ",\"up\":true", "expected a network card");
	end();
}
END_TEST

START_TEST(console_and_balloon)
{
	struct vdrv_queue tx;
	uint64_t text;
	uint32_t id;

	begin();
	add("virtio-console", "");
	vdrv_attach(&d, &vm->bvm.env, HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &tx, 1, 16);
	vdrv_start(&d);
	text = vdrv_alloc(&d, 16, 16);
	vdrv_do(&tx, &(struct vdrv_buf){text, 5, false}, 1);
	ask("query-devices", "", "\"statistics\":{\"sent_bytes\":5,\"received_bytes\":0}");
	id = add("virtio-balloon", "");
	ask_of("balloon", id, ",\"target\":1048576", "{\"return\":{}}");
	ask("query-devices", "", "\"statistics\":{\"target\":1048576,\"actual\":0,");
	ask_of("balloon", 1, ",\"target\":1048576", "is no virtio-balloon");
	end();
}
END_TEST

/* ---- slots ---- */

static void put_slot_control(uint16_t value)
{
	vc_pci_config_write(vm->bvm.env.pci, 0, PORT, SLOT_CONTROL, 2, value);
}

static bool is_there(void)
{
	return vc_pci_config_read(vm->bvm.env.pci, 1, 0, 0, 4) != UINT32_MAX;
}

static void assert_removed(uint32_t id)
{
	char text[64];

	snprintf(text, sizeof text, "\"DEVICE_REMOVED\",\"data\":{\"id\":%u,", id);
	says(receive(), text);
	ck_assert(!is_there());
}

START_TEST(slot)
{
	uint32_t id;

	begin();
	add("pci-root-port", "addr=9");
	/* nobody looks at the button: it goes at once */
	id = add("virtio-rng", "addr=9/0");
	ask_of("device-remove", id, "", "{\"return\":{}}");
	assert_removed(id);
	put_slot_control(LISTEN);
	id = add("virtio-rng", "addr=9/0");
	ask_of("device-remove", id, "", "{\"return\":{\"leaving\":true}}");
	/* an event would come before the answer */
	ask("query-devices", "", "\"leaving\":true");
	ck_assert(is_there());
	ask_of("device-remove", id, "", "\"Busy\"");
	put_slot_control(LISTEN | POWER_OFF);
	assert_removed(id);
	ask_of("device-remove", id, "", "\"NotFound\"");
	/* in a slot without power there is nobody to be asked */
	id = add("virtio-rng", "addr=9/0");
	ask_of("device-remove", id, "", "{\"return\":{}}");
	assert_removed(id);
	put_slot_control(LISTEN);
	id = add("virtio-rng", "addr=9/0");
	ask_of("device-remove", id, ",\"force\":true", "{\"return\":{}}");
	assert_removed(id);
	/* a guest that switches power by itself gives nothing away */
	id = add("virtio-rng", "addr=9/0");
	put_slot_control(LISTEN | POWER_OFF);
	put_slot_control(LISTEN);
	ck_assert(is_there());
	/* a reset takes the request back */
	ask_of("device-remove", id, "", "{\"return\":{\"leaving\":true}}");
	ck_assert_int_eq(vcore_vm_reset(vm), 0);
	says(receive(), "\"RESET\"");
	put_slot_control(LISTEN | POWER_OFF);
	put_slot_control(LISTEN);
	ck_assert(is_there());
	ask_of("device-remove", id, "", "{\"return\":{\"leaving\":true}}");
	put_slot_control(LISTEN | POWER_OFF);
	assert_removed(id);
	end();
}
END_TEST

/* Devices come and go, and are counted, while another thread asks what they have counted. */
static void *add_and_remove(void *arg)
{
	_Atomic bool *done = arg;

	for (int i = 0; i < 200; i++) {
		uint32_t id;

		if (vc_vm_add_device(vm, "virtio-rng", NULL, NULL, &id) == 0)
			vc_vm_remove_device(vm, id, true);
	}
	atomic_store(done, true);
	return NULL;
}

START_TEST(coming_and_going)
{
	_Atomic bool done = false;
	struct json_object *result;
	pthread_t thread;

	begin();
	pthread_create(&thread, NULL, add_and_remove, &done);
	while (!atomic_load(&done)) {
		struct vc_mon_call call = {.vm = vm};

		ck_assert_int_eq(vc_mon_find("query-devices")->run(&call), 0);
		result = call.result;
		ck_assert_uint_gt(json_object_array_length(result), 0);
		json_object_put(result);
	}
	pthread_join(thread, NULL);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("monitor_devices");
	TCase *tc = tcase_create("monitor_devices");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, disk);
	tcase_add_test(tc, disk_errors);
	tcase_add_test(tc, card);
	tcase_add_test(tc, console_and_balloon);
	tcase_add_test(tc, slot);
	tcase_add_test(tc, coming_and_going);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
