/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm's command line: a table of options, and the help made of it. */
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "microvm.h"

static const struct word machines[] = {
    {"microvm", VCORE_MACHINE_MICROVM}, {"pc", VCORE_MACHINE_PC}, {"none", VCORE_MACHINE_NONE}, {0}};
static const struct word irqchips[] = {{"auto", VCORE_IRQCHIP_AUTO},
                                       {"user", VCORE_IRQCHIP_USER},
                                       {"split", VCORE_IRQCHIP_SPLIT},
                                       {"full", VCORE_IRQCHIP_FULL},
                                       {0}};
static const struct word memory_kinds[] = {{"anon", VCORE_MEMORY_ANON}, {"memfd", VCORE_MEMORY_MEMFD}, {0}};
static const struct word memory_flags[] = {{"huge-2m", VCORE_MEM_HUGE_2M},
                                           {"huge-1g", VCORE_MEM_HUGE_1G},
                                           {"thp", VCORE_MEM_THP},
                                           {"prealloc", VCORE_MEM_PREALLOC},
                                           {"mergeable", VCORE_MEM_MERGEABLE},
                                           {"locked", VCORE_MEM_LOCKED},
                                           {"log-dirty", VCORE_MEM_LOG_DIRTY},
                                           {0}};
static const struct word images[] = {{"auto", VCORE_IMAGE_AUTO},
                                     {"bzimage", VCORE_IMAGE_BZIMAGE},
                                     {"pvh", VCORE_IMAGE_PVH},
                                     {"elf", VCORE_IMAGE_ELF},
                                     {"multiboot", VCORE_IMAGE_MULTIBOOT},
                                     {"flat", VCORE_IMAGE_FLAT},
                                     {0}};

enum option_id {
	OPT_MODULE = 1,
	OPT_IMAGE,
	OPT_ADDRESS,
	OPT_MEMORY,
	OPT_MEMORY_FLAGS,
	OPT_MEMORY_KIND,
	OPT_MEMORY_THREADS,
	OPT_CPUS,
	OPT_MAX_CPUS,
	OPT_VCPU_PLACE,
	OPT_BACKEND,
	OPT_ENGINE,
	OPT_IRQCHIP,
	OPT_MACHINE,
	OPT_NO_LEGACY,
	OPT_IOMMU,
	OPT_DEVICE,
	OPT_DEBUG_EXIT,
	OPT_API_ID,
	OPT_TIMEOUT,
	OPT_LOCKSTEP_LIMIT,
	OPT_HELP,
	OPT_VERSION,
};

#define TEXT(member) .text = offsetof(struct settings, member)
#define FLAG(member) .flag = offsetof(struct settings, member)
#define SHAPE        FLAG(shape_given)

static const struct option_row rows[] = {
    {"kernel", "FILE", 0, "kernel: bzImage, ELF with PVH note, ELF, Multiboot 1", TEXT(boot.kernel)},
    {"initrd", "FILE", 0, "initial RAM disk", TEXT(boot.initrd)},
    {"cmdline", "TEXT", 0, "kernel command line (default: console=ttyS0)", TEXT(boot.cmdline)},
    {"module", "FILE ARGS", OPT_MODULE, "a further Multiboot module, with its arguments; may be repeated"},
    {"image", "KIND", OPT_IMAGE, "what the kernel is: auto, bzimage, pvh, elf, multiboot, flat (default: auto)"},
    {"address", "ADDRESS", OPT_ADDRESS, "where a flat image is loaded and entered"},
    {"memory", "SIZE", OPT_MEMORY, "guest memory, with K, M or G (default: 512M)", SHAPE},
    {"memory-flags", "WORD,...", OPT_MEMORY_FLAGS,
     "huge-2m, huge-1g, thp, prealloc, mergeable (KSM), locked, log-dirty; several with commas", SHAPE},
    {"memory-kind", "KIND", OPT_MEMORY_KIND,
     "anon, or memfd, which other processes can map, as vhost-user's and vfio-user's (default: anon; emu: memfd)",
     SHAPE},
    {"memory-numa", "POLICY", 0, "of the host: bind:NODES, interleave:NODES or preferred:NODE, as bind:0-1",
     TEXT(vm.memory_numa), SHAPE},
    {"memory-threads", "N", OPT_MEMORY_THREADS, "how many threads touch memory with flag prealloc (default: one a CPU)",
     SHAPE},
    {"cpus", "N", OPT_CPUS, "vcpus (default: 1)", SHAPE},
    {"max-cpus", "N", OPT_MAX_CPUS, "vcpus with those that can be plugged in later (default: as --cpus)", SHAPE},
    {"vcpu-place", "N,K=V", OPT_VCPU_PLACE,
     "where the host runs vcpu N or `all`: cpus=0-1,,3 policy=fifo priority=1 nice=5 cgroup=DIR; may be repeated",
     SHAPE},
    {"cpu", "MODEL", 0, "CPU model with +feature,-feature; `help` lists them", TEXT(vm.cpu), SHAPE},
    {"backend", "NAME", OPT_BACKEND, "auto, kvm or emu (default: auto)", FLAG(execution_given)},
    {"engine", "NAME", OPT_ENGINE, "of backend emu: auto, interp, jit, lockstep or promote (default: auto)",
     FLAG(execution_given)},
    {"irqchip", "WHERE", OPT_IRQCHIP, "interrupt controllers: auto, full (in KVM), split, user (default: auto)", SHAPE},
    {"machine", "TYPE", OPT_MACHINE, "microvm, pc or none (default: microvm)", SHAPE},
    {"no-legacy", NULL, OPT_NO_LEGACY, "leave out PIC, PIT, RTC and keyboard controller", SHAPE},
    {"iommu", "KIND", OPT_IOMMU,
     "virtio: PCI devices reach only the memory that the guest maps for them (as --device virtio-iommu before all "
     "others)",
     SHAPE},
    {"config", "FILE", 0, "take the whole machine from a JSON description (- for standard input)", TEXT(config)},
    {"device", "TYPE,K=V", OPT_DEVICE,
     "add a device; `help` lists the types, `TYPE,help` the properties of one; may be repeated"},
    {"serial", "WHERE", 0, "serial port: stdio, file:PATH, pty or none (default: stdio)", TEXT(serial)},
    {"debug-exit", "[PORT]", OPT_DEBUG_EXIT, "a port whose write ends the vm (default port: 0xf4)"},
    {"gdb", "[ADDRESS]", 0, "wait for gdb there: HOST:PORT or unix:PATH (default: 127.0.0.1:1234)", TEXT(gdb_address),
     FLAG(gdb)},
    {"monitor", "SOCKET", 0, "listen there for `microvm monitor SOCKET`, which watches and steers the vm",
     TEXT(monitor)},
    {"snapshot-save", "FILE", 0,
     "save a snapshot of the vm, which goes on, whenever SIGUSR1 comes; the monitor has it as a command",
     TEXT(snapshot)},
    {"restore", "FILE", 0,
     "go on from a snapshot, in place of --kernel and --config; --device then gives its device of that type other "
     "properties",
     TEXT(restore)},
    {"incoming", "ADDRESS", 0,
     "wait there for a vm that another microvm sends (monitor: migrate) and go on with it, in place of --kernel; "
     "unix:PATH or tcp:HOST:PORT, which only the right peer must reach, with as many connections as that asks for; "
     "--device as for --restore. By post-copy it runs before all of its memory is here: needs "
     "vm.unprivileged_userfaultfd=1, /dev/userfaultfd or CAP_SYS_PTRACE, and --monitor to go on when the connection is "
     "lost (migrate-recover)",
     TEXT(incoming)},
    {"no-verify", NULL, 0, "with --restore: do not look at the checksums of memory", FLAG(no_verify)},
    {"print-config", NULL, 0, "print the full JSON description of the machine, for --config, and end",
     FLAG(print_config)},
    {"api-sock", "SOCKET", 0,
     "serve Firecracker's HTTP API there, by which the vm is described, started and steered, in place of --kernel",
     TEXT(api_sock)},
    {"config-file", "FILE", 0, "start the vm that this file describes, as Firecracker's has it", TEXT(api_file)},
    {"no-api", NULL, 0, "with --config-file: serve no API", FLAG(no_api)},
    {"id", "NAME", OPT_API_ID, "with the API: what it calls this vm (default: anonymous-instance)"},
    {"metadata", "FILE", 0, "with the API: JSON for its metadata service", TEXT(api_metadata)},
    {"log-path", "FILE", 0, "with the API: where log lines go (default: standard error)", TEXT(api_log)},
    {"level", "LEVEL", 0, "with the API: Off, Error, Warn, Info, Debug or Trace", TEXT(api_level)},
    {"metrics-path", "FILE", 0, "with the API: where lines of figures go", TEXT(api_metrics)},
    {"no-seccomp", NULL, 0, "changes nothing: there is no filter to be left out"},
    {"timeout", "SECONDS", OPT_TIMEOUT, "end the vm after that time"},
    {"lockstep-limit", "N", OPT_LOCKSTEP_LIMIT, "with engine lockstep: end well once N instructions were compared"},
    {"stats", NULL, 0, "print counters when the vm has ended", FLAG(stats)},
    {"verbose", NULL, 0, "print what the library decides, such as the backend and why", FLAG(verbose)},
    {"trace", NULL, 0, "print every log line of the library", FLAG(trace)},
    {"version", NULL, OPT_VERSION, "print the version"},
    {"help", NULL, OPT_HELP, "print this"},
};
#define ROWS (sizeof rows / sizeof rows[0])

static void print_help(void)
{
	printf("usage: microvm --kernel FILE [OPTION...]\n"
	       "       microvm --config FILE [OPTION...]\n"
	       "       microvm --restore FILE [OPTION...]\n"
	       "       microvm --incoming ADDRESS [OPTION...]\n"
	       "       microvm --api-sock SOCKET [OPTION...]\n"
	       "       microvm run [OPTION...] ROOTFS -- COMMAND [ARGUMENT...]\n"
	       "       microvm monitor SOCKET [COMMAND [KEY=VALUE...]]\n"
	       "       microvm sriov COMMAND ...\n"
	       "       microvm vhost-user-serve --socket PATH --device TYPE,K=V... (see its --help)\n\n"
	       "Boots a virtual machine with libvirtcore.\n\n");
	print_options(rows, ROWS);
	printf(
	    "\nOn a terminal: Ctrl-A x ends the vm, Ctrl-A Ctrl-A sends Ctrl-A; every other key goes to the guest.\n"
	    "\nExit status: 0 the guest powered off; %d it asked for a reset; %d it crashed; %d it was stopped; %d it "
	    "halted (machine none); %d it has moved to another process;\n"
	    "%d time-out; an odd number (value << 1 | 1) debug-exit; %d wrong usage; %d the vm could not be made or run.\n",
	    STATUS_RESET, STATUS_CRASH, STATUS_STOPPED, STATUS_HALT, STATUS_MIGRATED, STATUS_TIMEOUT, STATUS_USAGE,
	    STATUS_ERROR);
}

/* Words one after the other, in lines of a page's width. */
static void print_wrapped(const char *const *names, size_t count)
{
	size_t column = 0;

	for (size_t i = 0; i < count; i++) {
		if (!column || column + strlen(names[i]) > 76)
			column = (size_t)printf("%s   ", column ? "\n" : "") - (column != 0);
		column += (size_t)printf(" %s", names[i]);
	}
	printf("\n");
}

static void list_gaps(const char *model)
{
	char missing[2048];

	for (const struct word *b = backends; b->name; b++) {
		int count = b->value == VCORE_BACKEND_AUTO ? 0 : vcore_cpu_missing(model, b->value, missing, sizeof missing);

		if (count)
			printf("%-12s %s here: %s%s\n", "", b->name, count < 0 ? "" : "without ",
			       count < 0 ? vcore_error_message() : missing);
		else if (b->value != VCORE_BACKEND_AUTO)
			printf("%-12s %s here: all of it\n", "", b->name);
	}
}

static void list_cpus(void)
{
	const char *name, *summary, *features[256];
	size_t count = 0;

	printf("Models, and what each backend cannot give of them on this host:\n\n");
	for (uint32_t i = 0; vcore_cpu_model(i, &name, &summary) == 0; i++) {
		printf("%-12s %s\n", name, summary);
		list_gaps(name);
	}
	while (count < sizeof features / sizeof features[0] && vcore_cpu_feature((uint32_t)count, &features[count]) == 0)
		count++;
	printf("\nFeatures to be added and removed, as in x86-64-v2,+aes,-rdrand:\n\n");
	print_wrapped(features, count);
}

static void print_indented(const char *lines)
{
	while (lines && *lines) {
		size_t n = strcspn(lines, "\n");

		printf("    %.*s\n", (int)n, lines);
		lines += n + (lines[n] == '\n');
	}
}

/* "help": the types; "TYPE,help": one with its properties. -1: neither */
static int help_devices(const char *value)
{
	const char *type, *summary, *properties, *end = strrchr(value, ',');
	bool all = !strcmp(value, "help");

	if (!all && (!end || strcmp(end, ",help")))
		return -1;
	for (uint32_t i = 0; vcore_device_describe(i, &type, &summary, &properties) == 0; i++) {
		if (all) {
			printf("%-16s %s\n", type, summary);
		} else if (strlen(type) == (size_t)(end - value) && !strncmp(type, value, strlen(type))) {
			printf("%s: %s\n", type, summary);
			print_indented(properties);
			return 0;
		}
	}
	return all ? 0 : bad("device", value, "TYPE,help with a type that `--device help` lists");
}

/* As Firecracker's: letters, digits and hyphens. */
static int take_id(const char *value, struct settings *s)
{
	static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-";

	if (!*value || strlen(value) > 64 || value[strspn(value, letters)])
		return bad("id", value, "1 to 64 letters, digits and hyphens");
	s->api_id = value;
	return -1;
}

static int add_device(struct settings *s, const char *device, bool first)
{
	unsigned at = first ? 0 : s->device_count;

	if (s->device_count == MAX_DEVICES)
		return bad("device", device, "at most 64 devices");
	memmove(&s->devices[at + 1], &s->devices[at], (s->device_count - at) * sizeof s->devices[0]);
	s->devices[at] = device;
	s->device_count++;
	return -1;
}

static int take(int id, const char *value, void *settings)
{
	struct settings *s = settings;
	int status;

	switch (id) {
	case OPT_MODULE:
		if (s->module_count == MAX_MODULES)
			return bad("module", value, "at most 15 modules");
		s->modules[s->module_count++] = value;
		s->boot.modules = s->modules;
		return -1;
	case OPT_IMAGE:
		return take_word("image", value, images, &s->boot.image);
	case OPT_ADDRESS:
		return take_size("address", value, &s->boot.address);
	case OPT_MEMORY:
		return take_size("memory", value, &s->vm.memory);
	case OPT_MEMORY_FLAGS:
		return take_words("memory-flags", value, memory_flags, &s->vm.memory_flags);
	case OPT_MEMORY_KIND:
		return take_word("memory-kind", value, memory_kinds, &s->vm.memory_kind);
	case OPT_MEMORY_THREADS:
		return take_cpus("memory-threads", value, &s->vm.memory_threads);
	case OPT_CPUS:
		return take_cpus("cpus", value, &s->vm.vcpus);
	case OPT_MAX_CPUS:
		return take_cpus("max-cpus", value, &s->vm.max_vcpus);
	case OPT_VCPU_PLACE:
		if (s->place_count == MAX_PLACES)
			return bad("vcpu-place", value, "at most 255 of them");
		s->places[s->place_count++] = value;
		s->vm.vcpu_places = s->places;
		return -1;
	case OPT_BACKEND:
		return take_word("backend", value, backends, &s->vm.backend);
	case OPT_ENGINE:
		return take_word("engine", value, engines, &s->vm.engine);
	case OPT_IRQCHIP:
		return take_word("irqchip", value, irqchips, &s->vm.irqchip);
	case OPT_MACHINE:
		return take_word("machine", value, machines, &s->vm.machine);
	case OPT_NO_LEGACY:
		s->vm.no_legacy = 1;
		return -1;
	case OPT_IOMMU:
		if (strcmp(value, "virtio") != 0)
			return bad("iommu", value, "virtio");
		return add_device(s, "virtio-iommu", true);
	case OPT_DEVICE:
		status = help_devices(value);
		return status >= 0 ? status : add_device(s, value, false);
	case OPT_DEBUG_EXIT:
		s->debug_exit = value ? value : "0xf4";
		return -1;
	case OPT_API_ID:
		return take_id(value, s);
	case OPT_TIMEOUT:
		return take_timeout(value, &s->timeout);
	case OPT_LOCKSTEP_LIMIT:
		return take_count("lockstep-limit", value, &s->lockstep_limit);
	case OPT_VERSION:
		printf("microvm (libvirtcore) %s\n", vcore_version());
		return 0;
	case OPT_HELP:
		print_help();
		return 0;
	}
	return STATUS_USAGE;
}

static int check_api(struct settings *s)
{
	if (s->config || s->boot.kernel || s->restore || s->incoming || s->device_count || s->debug_exit || s->gdb ||
	    s->monitor || s->snapshot || s->print_config) {
		fprintf(stderr,
		        "microvm: --api-sock, --config-file: the vm is described by the API: of it only backend, engine, "
		        "cpu, irqchip and serial port can be chosen\n");
		return STATUS_USAGE;
	}
	if (s->no_api && (s->api_sock || !s->api_file)) {
		fprintf(stderr, "microvm: --no-api goes with --config-file, and without --api-sock\n");
		return STATUS_USAGE;
	}
	/* as Firecracker does */
	if (!s->api_sock && !s->no_api)
		s->api_sock = "/run/firecracker.socket";
	return -1;
}

static int check(struct settings *s, int argc, char **argv)
{
	if (optind < argc) {
		fprintf(stderr, "microvm: \"%s\" is not an option (see microvm --help)\n", argv[optind]);
		return STATUS_USAGE;
	}
	if (s->vm.cpu && !strcmp(s->vm.cpu, "help"))
		return list_cpus(), 0;
	if (s->config && (s->shape_given || s->execution_given)) {
		fprintf(stderr,
		        "microvm: --config describes the whole machine: put memory, cpus, places, cpu, backend, engine, "
		        "irqchip, machine in it\n");
		return STATUS_USAGE;
	}
	if ((s->restore || s->incoming) && (s->shape_given || s->config || s->boot.kernel || s->debug_exit ||
	                                    s->print_config || (s->restore && s->incoming))) {
		fprintf(stderr, "microvm: --restore, --incoming: the machine is as it was saved: of it only backend, engine, "
		                "serial port and "
		                "devices' properties can be chosen\n");
		return STATUS_USAGE;
	}
	if (s->api_sock || s->api_file)
		return check_api(s);
	if (s->no_api || s->api_id || s->api_metadata || s->api_log || s->api_level || s->api_metrics) {
		fprintf(stderr,
		        "microvm: --no-api, --id, --metadata, --log-path, --level, --metrics-path go with --api-sock or "
		        "--config-file\n");
		return STATUS_USAGE;
	}
	if (!s->config && !s->boot.kernel && !s->restore && !s->incoming) {
		fprintf(stderr,
		        "microvm: --kernel FILE, --config FILE, --restore FILE, --incoming ADDRESS or --api-sock SOCKET is "
		        "needed (see "
		        "microvm --help)\n");
		return STATUS_USAGE;
	}
	if (s->boot.kernel && !s->boot.cmdline && s->boot.image != VCORE_IMAGE_FLAT)
		s->boot.cmdline = "console=ttyS0";
	return -1;
}

int parse_options(int argc, char **argv, struct settings *s)
{
	int status = read_options(argc, argv, rows, ROWS, take, s);

	return status >= 0 ? status : check(s, argc, argv);
}
