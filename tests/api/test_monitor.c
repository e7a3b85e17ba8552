/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor as its clients meet it, the unfriendly ones included. */
#include "monitor_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define CLIENTS_MAX    16

static vcore_vm *vm;
static vcore_monitor *monitor;
static char path[64];

/* ---- clients ---- */

static struct line first, second;

static int dial(void)
{
	return client_dial(path);
}

static void greet(struct line *l)
{
	client_greet(l, path);
}

static void call(struct line *l)
{
	client_call(l, path);
}

/* ---- vms ---- */

static void watch(vcore_vm *of)
{
	vm = of;
	snprintf(path, sizeof path, "/tmp/virtcore-monitor-%d", (int)getpid());
	unlink(path); /* of an earlier process of that number */
	OK(vcore_monitor_new(vm, path, 0, &monitor));
}

/* A vm that runs until it is stopped, after a reset as well. */
static void spinning(int backend)
{
	watch(api_vm(backend, 2));
	OK(vcore_memory_add(vm, 0xfffff000, 0x1000, VCORE_MEM_RX, NULL, NULL));
	OK(vcore_memory_write(vm, 0xfffffff0, "\xeb\xfe", 2));
	for (uint32_t i = 0; i < 2; i++)
		api_load(vm, i, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xeb, 0xfe));
	OK(vcore_vm_start(vm));
}

static void end(void)
{
	vcore_monitor_free(monitor);
	vcore_vm_unref(vm);
	ck_assert_int_eq(access(path, F_OK), -1);
}

/* ---- tests ---- */

START_TEST(birth)
{
	struct stat info;
	char longer[300];
	vcore_monitor *other;
	int stale = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	watch(api_vm(_i, 1));
	ck_assert_int_eq(stat(path, &info), 0);
	ck_assert_uint_eq(info.st_mode & 0777, 0600);
	REFUSED(vcore_monitor_new(vm, path, 0, &other), EADDRINUSE, "the monitor");
	REFUSED(vcore_monitor_new(vm, path, VCORE_MONITOR_REPLACE, &other), EADDRINUSE, "the monitor");
	REFUSED(vcore_monitor_new(vm, "/no/such/directory/socket", 0, &other), ENOENT, "the monitor");
	REFUSED(vcore_monitor_new(vm, "", 0, &other), EINVAL, "1 to");
	memset(longer, 'x', sizeof longer);
	longer[sizeof longer - 1] = '\0';
	REFUSED(vcore_monitor_new(vm, longer, 0, &other), EINVAL, "1 to");
	REFUSED(vcore_monitor_new(vm, "/tmp/x", 2, &other), EINVAL, "flags");
	REFUSED(vcore_monitor_new(NULL, path, 0, &other), EINVAL, "vm");
	ck_assert_ptr_null(other);
	vcore_monitor_free(NULL);
	end();

	/* one that a program left behind when it was killed */
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	ck_assert_int_eq(bind(stale, (struct sockaddr *)&un, sizeof un), 0);
	close(stale);
	vm = api_vm(_i, 1);
	REFUSED(vcore_monitor_new(vm, path, 0, &monitor), EADDRINUSE, "the monitor");
	OK(vcore_monitor_new(vm, path, VCORE_MONITOR_REPLACE, &monitor));
	call(&first);
	end();
	ck_assert_str_eq(receive(&first), "closed");
}
END_TEST

START_TEST(negotiation)
{
	watch(api_vm(_i, 1));
	greet(&first);
	command(&first, "query-status", "\"CapabilitiesNeeded\"");
	command(&first, "nonsense", "\"CapabilitiesNeeded\"");
	says(ask(&first, "{\"execute\":\"capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}"),
	     "[\\\"oob\\\"]: expected none");
	says(ask(&first, "{\"execute\":\"capabilities\",\"arguments\":{\"enable\":[]},\"id\":{\"a\":[1]}}"),
	     "{\"return\":{},\"id\":{\"a\":[1]}}");
	command(&first, "query-status", "{\"return\":{\"status\":\"created\",\"running\":false}}");
	end();
}
END_TEST

START_TEST(arguments)
{
	watch(api_vm(_i, 1));
	call(&first);
	command(&first, "nonsense", "\"CommandNotFound\",\"desc\":\"there is no command \\\"nonsense\\\"");
	command(&first, "device-remove", "argument \\\"id\\\" is missing");
	says(ask(&first, "{\"execute\":\"device-remove\",\"arguments\":{\"id\":\"1\"}}"),
	     "\\\"1\\\": expected a number from 0 to");
	says(ask(&first, "{\"execute\":\"device-remove\",\"arguments\":{\"id\":-1}}"), "is -1: expected a number");
	says(ask(&first, "{\"execute\":\"device-remove\",\"arguments\":{\"id\":18446744073709551615}}"),
	     "expected a number");
	says(ask(&first, "{\"execute\":\"device-remove\",\"arguments\":{\"id\":1.5}}"), "expected a number");
	says(ask(&first, "{\"execute\":\"device-remove\",\"arguments\":{\"id\":99}}"),
	     "\"NotFound\",\"desc\":\"there is no device 99");
	says(ask(&first, "{\"execute\":\"device-remove\",\"arguments\":{\"id\":1,\"ip\":1}}"),
	     "unknown argument \\\"ip\\\": expected one of id");
	says(ask(&first, "{\"execute\":\"pause\",\"arguments\":{\"now\":null}}"),
	     "unknown argument \\\"now\\\": expected none");
	says(ask(&first, "{\"execute\":\"device-add\",\"arguments\":{\"type\":null}}"),
	     "\\\"type\\\" is null: expected a string");
	says(ask(&first, "{\"execute\":\"device-add\",\"arguments\":{\"type\":\"warp\"}}"),
	     "there is no device type \\\"warp\\\"");
	says(ask(&first, "{\"execute\":\"device-add\",\"arguments\":{\"type\":\"uart\",\"properties\":[]}}"),
	     "expected an object");
	says(
	    ask(&first, "{\"execute\":\"device-add\",\"arguments\":{\"type\":\"debug-exit\",\"properties\":{\"prot\":1}}}"),
	    "has no property 'prot'");
	says(ask(&first, "{\"execute\":\"inject-nmi\",\"arguments\":{\"cpu\":7}}"), "\"error\"");
	command(&first, "pause", "\"InvalidArgument\",\"desc\":\"vcore_vm_pause: the vm was never started\"");
	command(&first, "quit", "\"error\"");
	command(&first, "powerdown", "\"NotSupported\"");
	end();
}
END_TEST

START_TEST(lists)
{
	const char *text;

	watch(api_vm(_i, 2));
	call(&first);
	command(&first, "query-version", "{\"return\":{\"virtcore\":\"");
	text = ask(&first, "{\"execute\":\"query-commands\"}");
	says(text, "{\"name\":\"device-remove\",\"help\":\"remove a device");
	says(text, "tells when\",\"arguments\":[{\"name\":\"id\",\"type\":\"number\",\"needed\":true");
	says(text, "\"query-commands\"");
	command(&first, "help", "query-status         whether the vm runs");
	says(ask(&first, "{\"execute\":\"help\",\"arguments\":{\"command\":\"device-add\"}}"), "type=string");
	says(ask(&first, "{\"execute\":\"help\",\"arguments\":{\"command\":\"x\"}}"), "\"NotFound\"");
	command(&first, "query-cpus", "[{\"index\":0,\"state\":\"idle\",\"place\":\"\",\"stats\":{\"run_ns\":0,");
	command(&first, "query-memory", "{\"gpa\":0,\"size\":2097152,\"kind\":\"");
	command(&first, "query-memory", "\"flags\":[\"read\",\"write\",\"execute\"");
	command(&first, "query-memory", "\"resident\":");
	command(&first, "query-memory-total", "{\"return\":{\"size\":2097152,\"resident\":");
	command(&first, "query-stats", "\"vcpus\":2");
	command(&first, "query-stats", api_backend_word(_i));
	command(&first, "device-types", "{\"name\":\"debug-exit\",\"help\":\"");
	command(&first, "device-types", "{\"name\":\"addr\",\"help\":\"");
	end();
}
END_TEST

START_TEST(life)
{
	spinning(_i);
	call(&first);
	call(&second);
	command(&first, "query-status", "\"running\",\"running\":true");
	/* which a thread knows once it runs */
	until_command(&first, "query-cpus", "{\"index\":0,\"state\":\"running\",\"thread-id\":");
	command(&first, "pause", "{\"return\":{}}");
	says(receive(&first), "{\"event\":\"STOP\",\"data\":{},\"timestamp\":{\"seconds\":");
	says(receive(&second), "{\"event\":\"STOP\"");
	command(&second, "query-status", "\"paused\",\"running\":false");
	command(&second, "query-cpus", "{\"index\":0,\"state\":\"paused\"");
	command(&second, "resume", "{\"return\":{}}");
	says(receive(&first), "\"RESUME\"");
	says(receive(&second), "\"RESUME\"");
	command(&first, "resume", "not paused");
	command(&first, "reset", "{\"return\":{}}");
	says(receive(&first), "\"STOP\"");
	says(receive(&first), "\"RESET\"");
	says(receive(&first), "\"RESUME\"");
	command(&first, "query-status", "\"running\"");
	vcore_vm_stop(vm);
	OK(vcore_vm_wait(vm, LONG, NULL));
	end();
}
END_TEST

START_TEST(ending)
{
	spinning(_i);
	call(&first);
	command(&first, "quit", "{\"return\":{}}");
	says(receive(&first), "{\"event\":\"SHUTDOWN\",\"data\":{\"reason\":\"stopped\",\"cpu\":0}");
	OK(vcore_vm_wait(vm, LONG, NULL));
	command(&first, "query-status", "\"exited\",\"running\":false,\"exit\":\"stopped\"");
	command(&first, "query-cpus", "\"ended\"");
	command(&first, "reset", "\"Busy\",\"desc\":\"vcore_vm_reset: the vm has ended");
	/* the end is still there for the program */
	OK(vcore_vm_wait(vm, LONG, NULL));
	end();
}
END_TEST

START_TEST(crash)
{
	watch(api_vm(_i, 1));
	call(&first);
	/* no IDT, and UD2 */
	api_load(vm, 0, VCORE_MODE_LONG64, CODE, CODE_BYTES(0x0f, 0x0b));
	OK(vcore_vm_start(vm));
	says(receive(&first), "{\"event\":\"CRASH\",\"data\":{\"reason\":\"crash\",\"cpu\":0,\"message\":\"");
	OK(vcore_vm_wait(vm, LONG, NULL));
	/* what there is to be told is told although the monitor ends at once */
	OK(vcore_vm_reset(vm));
	end();
	says(receive(&first), "\"RESET\"");
	ck_assert_str_eq(receive(&first), "closed");
}
END_TEST

/* The id in an answer or event. */
static unsigned id_in(const char *text)
{
	const char *at = strstr(text, "\"id\":");

	ck_assert_ptr_nonnull(at);
	return (unsigned)strtoul(at + 5, NULL, 10);
}

static void remove_device(unsigned id, const char *expected)
{
	char request[100];

	snprintf(request, sizeof request, "{\"execute\":\"device-remove\",\"arguments\":{\"id\":%u}}", id);
	says(ask(&first, request), expected);
}

START_TEST(devices)
{
	struct api_device model = {.value = 7};
	vcore_device *own, *handle;
	unsigned id;

	watch(api_vm(_i, 1));
	call(&first);
	id = id_in(ask(
	    &first, "{\"execute\":\"device-add\",\"arguments\":{\"type\":\"debug-exit\",\"properties\":{\"addr\":1281}}}"));
	says(receive(&first), "{\"event\":\"DEVICE_ADDED\",\"data\":{\"id\":");
	command(&first, "query-devices",
	        "\"type\":\"debug-exit\",\"removable\":true,\"regions\":[{\"bus\":\"pio\",\"start\":1281,\"length\":");
	says(ask(&first,
	         "{\"execute\":\"device-add\",\"arguments\":{\"type\":\"debug-exit\",\"properties\":{\"addr\":1281}}}"),
	     "\"Exists\"");
	remove_device(id, "{\"return\":{}}");
	says(receive(&first), "\"DEVICE_REMOVED\"");
	remove_device(id, "\"NotFound\"");
	/* the program's own, and those it has a handle to, are its to remove */
	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0xd0000000, 0x1000, &api_device_ops, &model, &own));
	remove_device(id_in(receive(&first)), "the program's own");
	OK(vcore_device_add(vm, "debug-exit", NULL, &handle));
	remove_device(id_in(receive(&first)), "the program's own");
	OK(vcore_device_remove(handle));
	says(receive(&first), "\"DEVICE_REMOVED\",\"data\":{\"id\":");
	OK(vcore_device_remove(own));
	says(receive(&first), "\"custom\"");
	OK(vcore_device_add(vm, "debug-exit", NULL, NULL));
	remove_device(id_in(receive(&first)), "{\"return\":{}}");
	end();
}
END_TEST

/* What is asked of devices that are not there, or that no driver of the guest's serves. */
START_TEST(screens)
{
	static const struct {
		const char *request, *expected;
	} rows[] = {
	    {"screendump\",\"arguments\":{\"filename\":\"/tmp/x.bmp\",\"format\":\"bmp\"}", "expected ppm or png"},
	    {"screendump\",\"arguments\":{\"filename\":\"/no/such/place\"}", "the guest shows nothing"},
	    {"screendump\",\"arguments\":{\"filename\":\"/tmp/x\",\"display\":1}", "\"NotFound\""},
	    {"display-resize\",\"arguments\":{\"width\":800,\"height\":5}", "expected 32 to 4095"},
	    {"display-resize\",\"arguments\":{\"width\":800,\"height\":600}", "{\"return\":{}}"},
	    {"query-displays\",\"arguments\":{}", "{\"width\":0,\"height\":0,\"wanted-width\":800,\"wanted-height\":600"},
	    {"query-inputs\",\"arguments\":{}", "{\"kind\":\"keyboard\",\"ready\":false,\"room\":0,\"leds\":[]}"},
	    {"send-key\",\"arguments\":{\"keys\":[\"ctrl\",{\"type\":\"qcode\",\"data\":\"a\"}]}",
	     "no driver of the guest's"},
	    {"send-key\",\"arguments\":{\"keys\":[]}", "expected 1 to 16"},
	    {"send-key\",\"arguments\":{\"keys\":[\"warp\"]}", "there is no key \\\"warp\\\""},
	    {"send-key\",\"arguments\":{\"keys\":[5]}", "a key is 5: expected its name"},
	    {"send-key\",\"arguments\":{\"keys\":[{\"type\":\"number\",\"data\":5}]}", "expected its name"},
	    {"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"btn\",\"data\":{\"down\":true,\"button\":\"left\"}}"
	     "]}",
	     "there is no virtcore tablet"},
	    {"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"rel\",\"data\":{\"axis\":\"x\",\"value\":1}}]}",
	     "there is no virtcore mouse"},
	    {"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"rel\",\"data\":{\"axis\":\"z\",\"value\":1}}]}",
	     "axis"},
	    {"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"key\",\"data\":{\"key\":\"a\"}}]}", "down"},
	    {"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"warp\",\"data\":{}}]}", "key, btn, rel or abs"},
	    {"input-send-event\",\"arguments\":{\"events\":[null,1]}", "key, btn, rel or abs"},
	    {"input-send-event\",\"arguments\":{\"events\":[]}", "{\"return\":{}}"},
	};
	char request[256];

	watch(api_microvm(_i, VCORE_IRQCHIP_AUTO, 1));
	call(&first);
	says(ask(&first, "{\"execute\":\"screendump\",\"arguments\":{\"filename\":\"x\"}}"),
	     "there is no display 0: the vm has 0");
	command(&first, "query-displays", "{\"return\":[]}");
	OK(vcore_device_add(vm, "virtio-gpu", NULL, NULL));
	OK(vcore_device_add(vm, "virtio-keyboard", NULL, NULL));
	receive(&first);
	receive(&first);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		snprintf(request, sizeof request, "{\"execute\":\"%s}", rows[i].request);
		says(ask(&first, request), rows[i].expected);
	}
	end();
}
END_TEST

START_TEST(memory)
{
	watch(api_microvm(_i, VCORE_IRQCHIP_AUTO, 1));
	call(&first);
	command(&first, "query-balloon", "the vm has no virtio-balloon");
	command(&first, "query-virtio-mem", "the vm has no virtio-mem");
	OK(vcore_device_add(vm, "virtio-balloon", "target=8M", NULL));
	OK(vcore_device_add(vm, "virtio-mem", "size=1G", NULL));
	says(receive(&first), "DEVICE_ADDED");
	says(receive(&first), "DEVICE_ADDED");
	command(&first, "query-balloon", "\"target\":8388608,\"actual\":0,\"discarded\":0,\"updates\":0}");
	says(ask(&first, "{\"execute\":\"balloon\",\"arguments\":{\"target\":4096}}"), "{\"return\":{}}");
	command(&first, "query-balloon", "\"target\":4096,");
	says(ask(&first, "{\"execute\":\"balloon\",\"arguments\":{\"target\":35184372088832}}"), "16 TiB");
	says(ask(&first, "{\"execute\":\"balloon\",\"arguments\":{\"target\":0,\"id\":1}}"),
	     "device 1 is no virtio-balloon");
	says(ask(&first, "{\"execute\":\"virtio-mem\",\"arguments\":{\"size\":134217728}}"), "{\"return\":{}}");
	command(&first, "query-virtio-mem",
	        "\"address\":4294967296,\"region_size\":1073741824,\"block_size\":2097152,\"requested_size\":134217728,"
	        "\"plugged_size\":0}");
	says(ask(&first, "{\"execute\":\"virtio-mem\",\"arguments\":{\"size\":5}}"), "multiple");
	says(ask(&first, "{\"execute\":\"virtio-mem\"}"), "size");
	says(ask(&first, "{\"execute\":\"set-generation-id\",\"arguments\":{\"generation_id\":"
	                 "\"000102030405060708090a0b0c0d0eFF\"}}"),
	     "{\"return\":{}}");
	command(&first, "query-generation-id", "\"000102030405060708090a0b0c0d0eff\"");
	command(&first, "set-generation-id", "{\"return\":{}}");
	says(ask(&first, "{\"execute\":\"set-generation-id\",\"arguments\":{\"generation_id\":\"0x12\"}}"),
	     "32 hexadecimal");
	end();
}
END_TEST

START_TEST(panic)
{
	watch(api_vm(_i, 1));
	OK(vcore_device_add(vm, "pvpanic", "action=pause", NULL));
	call(&first);
	/* mov dx, 0x505; mov al, 2; out dx, al; mov al, 1; out dx, al; jmp . */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE,
	         CODE_BYTES(0xba, 0x05, 0x05, 0, 0, 0xb0, 2, 0xee, 0xb0, 1, 0xee, 0xeb, 0xfe));
	OK(vcore_vm_start(vm));
	says(receive(&first), "{\"event\":\"GUEST_CRASHLOADED\",\"data\":{\"action\":\"none\"}");
	says(receive(&first), "{\"event\":\"GUEST_PANICKED\",\"data\":{\"action\":\"pause\"}");
	says(receive(&first), "\"STOP\"");
	command(&first, "resume", "{\"return\":{}}");
	says(receive(&first), "\"RESUME\"");
	OK(vcore_vm_stop(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	end();
}
END_TEST

static vcore_vm *pluggable(int backend)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = api_backend(backend),
	                          .memory = 4 * RAM,
	                          .max_vcpus = 2};
	vcore_vm *new;

	OK(vcore_vm_new(&o, &new));
	return new;
}

START_TEST(cpus)
{
	watch(pluggable(_i));
	call(&first);
	command(&first, "query-cpus", "{\"index\":1,\"state\":\"absent\"");
	says(ask(&first, "{\"execute\":\"cpu-plug\",\"arguments\":{\"cpu\":1}}"), "{\"return\":{}}");
	says(receive(&first), "{\"event\":\"CPU_PLUGGED\",\"data\":{\"cpu\":1}");
	says(ask(&first, "{\"execute\":\"cpu-plug\",\"arguments\":{\"cpu\":1}}"), "\"Exists\"");
	says(ask(&first, "{\"execute\":\"cpu-plug\",\"arguments\":{\"cpu\":2}}"), "no vcpu 2");
	says(ask(&first,
	         "{\"execute\":\"cpu-place\",\"arguments\":{\"cpu\":1,\"properties\":{\"policy\":\"batch\",\"nice\":2}}}"),
	     "{\"return\":{}}");
	command(&first, "query-cpus", "\"place\":\"policy=batch,nice=2\"");
	says(ask(&first, "{\"execute\":\"cpu-place\",\"arguments\":{\"cpu\":1,\"properties\":{\"colour\":\"red\"}}}"),
	     "colour");
	says(ask(&first, "{\"execute\":\"cpu-unplug\",\"arguments\":{\"cpu\":1}}"), "{\"return\":{}}");
	says(receive(&first), "{\"event\":\"CPU_UNPLUGGED\",\"data\":{\"cpu\":1}");
	says(ask(&first, "{\"execute\":\"cpu-unplug\",\"arguments\":{\"cpu\":0}}"), "vcpu 0");
	end();
}
END_TEST

START_TEST(malformed)
{
	static const char *const lines[] = {"{",
	                                    "}",
	                                    "nonsense",
	                                    "[1,2]",
	                                    "null",
	                                    "17",
	                                    "\"execute\"",
	                                    "{}",
	                                    "{\"execute\":1}",
	                                    "{\"execute\":\"pause\"} {\"execute\":\"pause\"}",
	                                    "{\"execute\":\"pause\",\"arguments\":[]}",
	                                    "{\"execute\":\"pause\",\"argument\":{}}",
	                                    "{\"execute\":\"pa\xff\"}",
	                                    "{'execute':'pause'}"};
	char deep[3 * 40 + 1] = "";

	watch(api_vm(_i, 1));
	call(&first);
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		says(ask(&first, lines[i]), "\"ProtocolError\"");
	for (int i = 0; i < 40; i++)
		strcat(deep, "[[[");
	says(ask(&first, deep), "\"ProtocolError\"");
	transmit(first.fd, "{\0}\n", 4);
	says(receive(&first), "zero byte");
	says(ask(&first, "{\"execute\":1,\"id\":5}"), "\"id\":5");
	/* blank lines are not answered, pieces are put together */
	transmit(first.fd, "\n  \r\n\n{\"execute\":", 17);
	transmit(first.fd, "\"query-version\"}\r\n{\"execute\":\"query-version\"}\n", 46);
	says(receive(&first), "{\"return\"");
	says(receive(&first), "{\"return\"");
	/* what is quoted of the client's is cut anywhere: the answer is still JSON in UTF-8 */
	says(ask(&first, "{\"execute\":\"\xc3\xa4\xc3\xa4\"}"), "\\\"????\\\"");
	end();
}
END_TEST

START_TEST(long_lines)
{
	char *line = malloc(3 * LINE_MAX_BYTES);

	ck_assert_ptr_nonnull(line);
	watch(api_vm(_i, 1));
	call(&first);
	memset(line, ' ', 3 * LINE_MAX_BYTES);
	memcpy(line, "{\"execute\":\"query-version\"", 26);
	line[LINE_MAX_BYTES - 2] = '}';
	line[LINE_MAX_BYTES - 1] = '\n';
	transmit(first.fd, line, LINE_MAX_BYTES);
	says(receive(&first), "{\"return\"");
	line[LINE_MAX_BYTES - 1] = ' ';
	line[3 * LINE_MAX_BYTES - 1] = '\n';
	transmit(first.fd, line, 3 * LINE_MAX_BYTES);
	says(receive(&first), "too long");
	command(&first, "query-version", "{\"return\"");
	free(line);
	end();
}
END_TEST

START_TEST(many_clients)
{
	int fds[CLIENTS_MAX];

	watch(api_vm(_i, 1));
	for (int i = 0; i < CLIENTS_MAX; i++) {
		greet(&second);
		fds[i] = second.fd;
	}
	first = (struct line){.fd = dial()};
	says(receive(&first), "\"Busy\"");
	ck_assert_str_eq(receive(&first), "closed");
	close(first.fd);
	/* who leaves makes room, after a while that is not ours to know */
	close(fds[0]);
	do {
		first = (struct line){.fd = dial()};
	} while (!strstr(receive(&first), "QMP"));
	command(&first, "capabilities", "return");
	for (int i = 1; i < CLIENTS_MAX; i++)
		close(fds[i]);
	end();
}
END_TEST

/* One that asks and does not read is not listened to; it costs nobody else anything, and all its answers are there. */
START_TEST(does_not_read)
{
	static const char request[] = "{\"execute\":\"query-commands\"}\n";
	unsigned asked = 0;

	watch(api_vm(_i, 1));
	call(&first);
	call(&second);
	while (send(first.fd, request, sizeof request - 1, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof request - 1)
		asked++;
	command(&second, "query-status", "return");
	for (unsigned i = 0; i < asked; i++)
		says(receive(&first), "{\"return\":[");
	end();
}
END_TEST

/* ... and one that lets events wait is dropped in the end. */
START_TEST(lets_events_wait)
{
	vcore_device *device;

	watch(api_vm(_i, 1));
	call(&first);
	call(&second);
	for (unsigned i = 0; i < 6000; i++) {
		OK(vcore_device_add(vm, "debug-exit", NULL, &device));
		says(receive(&second), "\"DEVICE_ADDED\"");
		OK(vcore_device_remove(device));
		says(receive(&second), "\"DEVICE_REMOVED\"");
	}
	while (strcmp(receive(&first), "closed"))
		;
	command(&second, "query-status", "return");
	end();
}
END_TEST

/* Its last words are answered. */
START_TEST(half_closed)
{
	watch(api_vm(_i, 1));
	call(&first);
	transmit(first.fd, "{\"execute\":\"query-version\"}\n{\"execute\":\"query-status\"}\n{\"exec", 61);
	shutdown(first.fd, SHUT_WR);
	says(receive(&first), "virtcore");
	says(receive(&first), "created");
	ck_assert_str_eq(receive(&first), "closed");
	end();
}
END_TEST

/* ---- threads ---- */

static _Atomic uint32_t at_work;

/* Asks for all kinds of things until the monitor is gone, and does not care for the answers. */
static void *client_thread(void *arg)
{
	static const char *const names[] = {"pause",       "query-cpus",   "resume", "query-devices",
	                                    "query-stats", "query-memory", "reset"};
	char text[4096];
	int fd = dial();

	for (unsigned i = 0;; i++) {
		snprintf(text, sizeof text, "{\"execute\":\"capabilities\"}\n{\"execute\":\"%s\"}\n", names[i % 7]);
		if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 || recv(fd, text, sizeof text, 0) <= 0)
			break;
		atomic_fetch_add(&at_work, 1);
	}
	close(fd);
	return NULL;
}

START_TEST(threads)
{
	pthread_t clients[2];
	vcore_device *device;

	atomic_store(&at_work, 0);
	spinning(_i);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&clients[i], NULL, client_thread, NULL), 0);
	for (unsigned i = 0; i < 50; i++) {
		OK(vcore_device_add(vm, "debug-exit", NULL, &device));
		vcore_vm_pause(vm);
		OK(vcore_device_remove(device));
		vcore_vm_resume(vm);
	}
	api_until(&at_work, 20);
	/* while both are at it, and the vm before the monitor */
	vcore_vm_stop(vm);
	vcore_vm_unref(vm);
	vcore_monitor_free(monitor);
	for (int i = 0; i < 2; i++)
		pthread_join(clients[i], NULL);
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

static void free_monitor(struct api_device *device, struct vcore_io *io)
{
	if (atomic_load(&device->writes) == 1)
		vcore_monitor_free(monitor);
}

/* From a vcpu's callback, while the monitor's thread waits for that vcpu to pause. */
START_TEST(free_from_callback)
{
	struct api_device model = {.hook = free_monitor};

	watch(api_vm(_i, 1));
	call(&first);
	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x40000000, 0x1000, &api_device_ops, &model, NULL));
	/* mov [0x40000000], eax; jmp to it */
	api_load(vm, 0, VCORE_MODE_PROTECTED32, CODE, CODE_BYTES(0xa3, 0, 0, 0, 0x40, 0xeb, 0xf9));
	OK(vcore_vm_start(vm));
	api_until(&model.writes, 2);
	while (strcmp(receive(&first), "closed"))
		;
	vcore_vm_stop(vm);
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
	while (access(path, F_OK) == 0)
		api_pause_ms(1);
}
END_TEST

static vcore_monitor *to_free;

static void free_on_reset(void *ctx)
{
	vcore_monitor_free(to_free);
	to_free = NULL;
}

/* From a callback that a command of the monitor's own has called. */
START_TEST(free_from_command)
{
	struct vcore_device_ops ops = {.size = sizeof ops, .reset = free_on_reset};

	watch(api_vm(_i, 1));
	call(&first);
	to_free = monitor;
	OK(vcore_io_add(vm, VCORE_BUS_MMIO, 0x40000000, 0x1000, &ops, NULL, NULL));
	says(receive(&first), "DEVICE_ADDED");
	command(&first, "reset", "{\"return\":{}}");
	says(receive(&first), "\"RESET\"");
	ck_assert_str_eq(receive(&first), "closed");
	vcore_vm_unref(vm);
	while (access(path, F_OK) == 0)
		api_pause_ms(1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("monitor");
	TCase *tcase = tcase_create("monitor");
	vcore_vm *probe = NULL;
	int r;

	if (vcore_vm_new(NULL, &probe) < 0)
		return 1;
	r = vcore_monitor_new(probe, "/tmp/virtcore-monitor-probe", VCORE_MONITOR_REPLACE, &monitor);
	vcore_monitor_free(monitor);
	vcore_vm_unref(probe);
	if (r == -ENOTSUP) {
		printf("SKIP: %s\n", vcore_error_message());
		return 77;
	}
	tcase_set_timeout(tcase, 120);
	EACH(tcase, birth);
	EACH(tcase, negotiation);
	EACH(tcase, arguments);
	EACH(tcase, lists);
	EACH(tcase, life);
	EACH(tcase, ending);
	EACH(tcase, crash);
	EACH(tcase, devices);
	EACH(tcase, screens);
	EACH(tcase, memory);
	EACH(tcase, panic);
	EACH(tcase, cpus);
	EACH(tcase, malformed);
	EACH(tcase, long_lines);
	EACH(tcase, many_clients);
	EACH(tcase, does_not_read);
	EACH(tcase, lets_events_wait);
	EACH(tcase, half_closed);
	EACH(tcase, threads);
	EACH(tcase, free_from_callback);
	EACH(tcase, free_from_command);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
