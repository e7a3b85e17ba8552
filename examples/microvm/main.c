/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm: boot a virtual machine from the command line. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "microvm.h"

#define LOOK_MS    100 /* how often a limit is looked at */
#define MIGRATE_MS 250 /* how often a migration, which the monitor begins */

void print_log(void *ctx, enum vcore_log_level level, const char *message)
{
	static const char *const names[] = {"", "error", "warning", "info", "debug", "trace"};

	/* a terminal in raw mode does not add the carriage return itself */
	fprintf(stderr, "microvm: %s: %s%s\n", names[level], message, isatty(STDERR_FILENO) ? "\r" : "");
}

static int fail(const char *what)
{
	fprintf(stderr, "microvm: %s: %s\n", what, vcore_error_message());
	return STATUS_ERROR;
}

static int print_progress(void *ctx, uint64_t done, uint64_t total)
{
	fprintf(stderr, "\rmicrovm: memory %" PRIu64 " of %" PRIu64 " MiB%s", done >> 20, total >> 20,
	        done == total ? "\n" : "");
	return 0;
}

static int make_vm(struct settings *s, struct console *console, vcore_vm **vm)
{
	enum vcore_log_level level = s->trace ? VCORE_LOG_TRACE : s->verbose ? VCORE_LOG_INFO : VCORE_LOG_WARN;
	char *text;
	int r;

	s->vm.log = print_log;
	s->vm.log_level = level;
	if (s->restore)
		return restore_vm(s, console, vm);
	if (s->incoming)
		return take_vm_in(s, console, vm);
	s->vm.memory_progress = s->verbose ? print_progress : NULL;
	if (!s->config)
		return vcore_vm_new(&s->vm, vm) < 0 ? fail("cannot make the vm") : -1;
	text = read_config(s->config);
	if (!text)
		return STATUS_ERROR;
	r = vcore_vm_new_from_json(text, vm);
	free(text);
	if (r < 0 || vcore_vm_set_log(*vm, print_log, NULL, level) < 0)
		return fail(s->config);
	return -1;
}

/* "type,k=v,..." */
static int add_device(vcore_vm *vm, const char *text)
{
	char type[64];
	size_t n = strcspn(text, ",");

	snprintf(type, sizeof type, "%.*s", (int)n, text);
	return vcore_device_add(vm, type, text[n] ? text + n + 1 : NULL, NULL) < 0 ? fail(text) : -1;
}

static int add_devices(vcore_vm *vm, struct settings *s, struct console *console)
{
	char text[4200];
	int r = -1;

	/* a description says itself which serial ports there are */
	if (!s->serial && s->config)
		s->serial = "none";
	switch (console_open(console, s->serial ? s->serial : "stdio", text, sizeof text)) {
	case 0:
		if (vcore_device_add(vm, "uart", text, NULL) < 0)
			return fail("serial port");
		break;
	case -1:
		return STATUS_USAGE;
	}
	if (s->debug_exit) {
		snprintf(text, sizeof text, "addr=%s", s->debug_exit);
		if (vcore_device_add(vm, "debug-exit", text, NULL) < 0)
			return fail("--debug-exit");
	}
	for (unsigned i = 0; r < 0 && i < s->device_count; i++)
		r = add_device(vm, s->devices[i]);
	return r;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t compared(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};

	return vcore_vm_get_info(vm, &info) < 0 ? 0 : info.compared;
}

/* How long to wait, in milliseconds; for ever: -1. */
static int patience(const struct settings *s, int64_t left)
{
	int64_t most = s->lockstep_limit ? LOOK_MS : s->monitor ? MIGRATE_MS : 1000000;

	if (left < 0 && most < 1000000)
		return (int)most;
	return (int)(left > most ? most : left);
}

/* Serve terminal, signals and the limits until the vm has ended. Returns true on time-out. */
static bool serve(vcore_vm *vm, const struct settings *s, struct console *console, int signals,
                  struct progress *progress)
{
	int64_t end = s->timeout > 0 ? now_ms() + (int64_t)(s->timeout * 1000) : INT64_MAX;
	struct pollfd fds[] = {{vcore_vm_fd(vm), POLLIN, 0}, {signals, POLLIN, 0}, {-1, POLLIN, 0}};
	bool timed_out = false;

	while (!(fds[0].revents & POLLIN)) {
		int64_t left = end == INT64_MAX ? -1 : end - now_ms();

		fds[2].fd = console->reading ? STDIN_FILENO : -1;
		if (end != INT64_MAX && left <= 0 && !timed_out) {
			timed_out = true;
			vcore_vm_stop(vm);
		}
		if (s->lockstep_limit && compared(vm) >= s->lockstep_limit)
			vcore_vm_stop(vm);
		progress_look(progress, vm);
		if (poll(fds, 3, timed_out ? -1 : patience(s, left)) < 0 && errno != EINTR)
			break;
		if (fds[1].revents & POLLIN) {
			struct signalfd_siginfo info;

			if (read(signals, &info, sizeof info) <= 0)
				continue;
			if (info.ssi_signo == SIGUSR1)
				save_snapshot(vm, s->snapshot);
			else
				vcore_vm_stop(vm);
		}
		if ((fds[2].revents & (POLLIN | POLLHUP)) && console_input(console))
			vcore_vm_stop(vm);
	}
	return timed_out;
}

static int block_signals(const struct settings *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	if (s->snapshot)
		sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

void print_stats(vcore_vm *vm)
{
	struct vcore_vm_info i = {.size = sizeof i};

	if (vcore_vm_get_info(vm, &i) < 0)
		return;
	fprintf(stderr, "microvm: backend %s, %u vcpus, %" PRIu64 " MiB, %.3f s\n", vcore_backend_name(i.backend), i.vcpus,
	        i.memory >> 20, (double)i.time_ns / 1e9);
	fprintf(stderr,
	        "microvm: exits %" PRIu64 ", port accesses %" PRIu64 ", MMIO accesses %" PRIu64 ", hypercalls %" PRIu64
	        ", interrupts %" PRIu64 "\n",
	        i.exits, i.pio, i.mmio, i.hypercalls, i.interrupts);
	if (i.instructions)
		fprintf(
		    stderr,
		    "microvm: instructions %" PRIu64 " (%.1f million/s), TLB fills %" PRIu64 ", blocks decoded %" PRIu64 "\n",
		    i.instructions, i.time_ns ? (double)i.instructions * 1e3 / (double)i.time_ns : 0, i.tlb_fills, i.blocks);
	if (i.engine == VCORE_ENGINE_JIT || i.engine == VCORE_ENGINE_PROMOTE) {
		struct vcore_op_count ops[12];
		int n = vcore_vm_get_op_counts(vm, ops, sizeof ops / sizeof ops[0]);

		fprintf(stderr,
		        "microvm: left by translated code: %" PRIu64 " calls of C functions, %" PRIu64
		        " accesses for the interpreter, %" PRIu64 " blocks not translated\n",
		        i.calls, i.bails, i.untranslated);
		fprintf(stderr, "microvm: address spaces promoted: %" PRIu64 ", stops of their processes: %" PRIu64 "\n",
		        i.promoted, i.promoted_stops);
		for (int k = 0; k < n; k++)
			fprintf(stderr, "%s %s %" PRIu64 "%s", k ? "," : "microvm: most called:", ops[k].name, ops[k].count,
			        k == n - 1 ? "\n" : "");
	}
	if (i.compared)
		fprintf(stderr, "microvm: instructions compared %" PRIu64 " (%.1f million/s)\n", i.compared,
		        i.time_ns ? (double)i.compared * 1e3 / (double)i.time_ns : 0);
	if (i.emulated)
		fprintf(stderr, "microvm: instructions that KVM left to the interpreter %" PRIu64 "\n", i.emulated);
}

int report(const struct vcore_exit *exit, bool timed_out)
{
	if (timed_out) {
		fprintf(stderr, "microvm: time-out\n");
		return STATUS_TIMEOUT;
	}
	switch (exit->reason) {
	case VCORE_EXIT_POWEROFF:
		return STATUS_POWEROFF;
	case VCORE_EXIT_RESET:
		return STATUS_RESET;
	case VCORE_EXIT_STOPPED:
		return STATUS_STOPPED;
	case VCORE_EXIT_MIGRATED:
		return STATUS_MIGRATED;
	case VCORE_EXIT_HALT:
		return STATUS_HALT;
	case VCORE_EXIT_DEBUG_EXIT:
		return (int)(exit->code << 1 | 1) & 0xff;
	case VCORE_EXIT_CRASH:
		fprintf(stderr, "microvm: the guest crashed: %s\n", exit->message);
		return STATUS_CRASH;
	default:
		fprintf(stderr, "microvm: the guest ended with exit %s at %#" PRIx64 "\n", vcore_exit_name(exit->reason),
		        exit->address);
		return STATUS_CRASH;
	}
}

/* Other programs watch and steer the vm from now on. */
static int open_monitor(vcore_vm *vm, const struct settings *s, vcore_monitor **monitor)
{
	if (s->monitor && vcore_monitor_new(vm, s->monitor, VCORE_MONITOR_REPLACE, monitor) < 0)
		return fail("--monitor");
	return -1;
}

/* The vcpus stand still until gdb lets them go. */
static int wait_for_gdb(vcore_vm *vm, const struct settings *s, vcore_gdb **gdb)
{
	struct vcore_gdb_options options = {.size = sizeof options, .wait = 1, .address = s->gdb_address};
	char address[128];

	if (vcore_gdb_new(vm, &options, gdb) < 0 || vcore_gdb_address(*gdb, address, sizeof address) < 0)
		return fail("--gdb");
	fprintf(stderr, "microvm: waiting for gdb; in gdb: target remote %s%s\n", address,
	        isatty(STDERR_FILENO) ? "\r" : "");
	return -1;
}

static void tell_of_move(vcore_vm *vm)
{
	struct vcore_migrate_info info = {.size = sizeof info};

	if (vcore_migrate_get_info(vm, &info) < 0)
		return;
	fprintf(stderr,
	        "microvm: the vm went on elsewhere: stopped for %.3f ms, %.3f ms in all, %" PRIu64
	        " bytes sent in %u rounds\n",
	        (double)info.downtime_ns / 1e6, (double)info.total_ns / 1e6, info.sent, info.rounds);
}

static int run_started(vcore_vm *vm, const struct settings *s, struct console *console, int signals)
{
	struct vcore_exit exit = {.size = sizeof exit};
	struct progress progress = {0};
	bool timed_out;

	if (vcore_vm_start(vm) < 0)
		return fail("cannot start the vm");
	timed_out = serve(vm, s, console, signals, &progress);
	if (vcore_vm_wait(vm, -1, &exit) < 0)
		return fail("waiting for the vm");
	if (exit.reason == VCORE_EXIT_MIGRATED)
		progress_finish(&progress, vm);
	if (exit.reason == VCORE_EXIT_STOPPED && s->lockstep_limit && compared(vm) >= s->lockstep_limit) {
		fprintf(stderr, "microvm: %" PRIu64 " instructions compared without a difference\n", compared(vm));
		return STATUS_POWEROFF;
	}
	if (exit.reason == VCORE_EXIT_MIGRATED)
		tell_of_move(vm);
	return report(&exit, timed_out);
}

static int run(vcore_vm *vm, const struct settings *s, struct console *console, int signals)
{
	vcore_monitor *monitor = NULL;
	vcore_gdb *gdb = NULL;
	int status;

	if (s->boot.kernel && vcore_boot(vm, &s->boot) < 0)
		return fail(s->boot.kernel);
	status = open_monitor(vm, s, &monitor);
	if (status < 0 && s->gdb)
		status = wait_for_gdb(vm, s, &gdb);
	if (status < 0)
		status = run_started(vm, s, console, signals);
	vcore_gdb_free(gdb);
	vcore_monitor_free(monitor);
	return status;
}

int main(int argc, char **argv)
{
	struct settings s = {
	    .vm = {.size = sizeof s.vm, .machine = VCORE_MACHINE_MICROVM, .memory = 512 << 20},
	    .boot = {.size = sizeof s.boot},
	};
	struct console console = {.input = -1, .guest_fd = -1};
	int signals, status;
	vcore_vm *vm = NULL;

	if (argc > 1 && !strcmp(argv[1], "monitor"))
		return monitor_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "vhost-user-serve"))
		return serve_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "sriov"))
		return sriov_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "run"))
		return run_main(argc - 1, argv + 1);
	status = parse_options(argc, argv, &s);
	if (status < 0 && s.print_config)
		status = print_config(&s);
	if (status >= 0)
		return status;
	signals = block_signals(&s);
	status = s.api_sock || s.api_file ? api_main(&s, &console, signals) : make_vm(&s, &console, &vm);
	if (status < 0 && !s.restore && !s.incoming)
		status = add_devices(vm, &s, &console);
	if (status < 0)
		status = run(vm, &s, &console, signals);
	console_close(&console);
	if (s.stats && vm)
		print_stats(vm);
	vcore_vm_unref(vm);
	close(signals);
	return status;
}
