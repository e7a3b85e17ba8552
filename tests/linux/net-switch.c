/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * net-switch KERNEL INITRD DIR BYTES [PROPERTIES]: two Debian guests in this process, on one switch. The first pings
 * the second and sends it a file; both say its checksum on their consoles, which are in DIR. Prints how long it took.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

enum { GUESTS = 2 };
#define TIMEOUT_NS 150000000000ll

static vcore_vm *vms[GUESTS];

static int fail(const char *what)
{
	fprintf(stderr, "net-switch: %s: %s\n", what, vcore_error_message());
	return 1;
}

static void log_line(void *ctx, enum vcore_log_level level, const char *message)
{
	fprintf(stderr, "net-switch: guest %d: %s\n", *(int *)ctx, message);
}

static int make(int n, vcore_switch *sw, char **argv, const char *more)
{
	static const char *const roles[GUESTS] = {"send net.address=10.6.0.1/24 net.peer=10.6.0.2",
	                                          "receive net.address=10.6.0.2/24"};
	static int numbers[GUESTS] = {0, 1};
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = VCORE_BACKEND_EMU,
	                          .memory = 256 << 20,
	                          .vcpus = 1,
	                          .log = log_line,
	                          .log_ctx = &numbers[n],
	                          .log_level = VCORE_LOG_WARN};
	char cmdline[400], uart[400], nic[400];

	snprintf(cmdline, sizeof cmdline, "console=ttyS0 panic=-1 net.role=%s net.bytes=%s", roles[n], argv[4]);
	snprintf(uart, sizeof uart, "output=file:%s/console%d", argv[3], n);
	snprintf(nic, sizeof nic, "net=switch,switch=lan%s%s", *more ? "," : "", more);
	if (vcore_vm_new(&o, &vms[n]) < 0)
		return fail("a vm");
	if (vcore_vm_add_switch(vms[n], "lan", sw) < 0 || vcore_device_add(vms[n], "uart", uart, NULL) < 0 ||
	    vcore_device_add(vms[n], "virtio-net", nic, NULL) < 0)
		return fail("devices");
	if (vcore_boot_linux(vms[n], argv[1], argv[2], cmdline) < 0)
		return fail("the kernel");
	return 0;
}

static int run(void)
{
	for (int n = 0; n < GUESTS; n++)
		if (vcore_vm_start(vms[n]) < 0)
			return fail("starting");
	for (int n = 0; n < GUESTS; n++) {
		struct vcore_exit exit = {.size = sizeof exit};

		if (vcore_vm_wait(vms[n], TIMEOUT_NS, &exit) < 0)
			return fail("waiting");
		if (exit.reason != VCORE_EXIT_POWEROFF) {
			fprintf(stderr, "net-switch: guest %d ends with %s\n", n, vcore_exit_name(exit.reason));
			return 1;
		}
	}
	return 0;
}

static void show_ports(vcore_switch *sw)
{
	struct vcore_switch_port port = {.size = sizeof port};

	for (uint32_t i = 0; vcore_switch_get_port(sw, i, &port) == 0; i = port.index + 1)
		printf("net-switch: port %u: in %llu frames, %llu bytes, out %llu frames, %llu bytes, dropped %llu and %llu\n",
		       port.index, (unsigned long long)port.in_frames, (unsigned long long)port.in_bytes,
		       (unsigned long long)port.out_frames, (unsigned long long)port.out_bytes,
		       (unsigned long long)port.in_dropped, (unsigned long long)port.out_dropped);
}

int main(int argc, char **argv)
{
	vcore_switch *sw;
	int r = 0;

	if (argc < 5 || vcore_switch_new(&sw) < 0)
		return 2;
	for (int n = 0; !r && n < GUESTS; n++)
		r = make(n, sw, argv, argc > 5 ? argv[5] : "");
	if (!r)
		r = run();
	if (!r)
		show_ports(sw);
	for (int n = 0; n < GUESTS; n++)
		vcore_vm_unref(vms[n]);
	vcore_switch_unref(sw);
	return r;
}
