/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm run: its command line. */
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

enum run_option {
	OPT_ENV = 1,
	OPT_TTY,
	OPT_NET,
	OPT_TIMEOUT,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_BACKEND,
	OPT_ENGINE,
	OPT_STATUS_FD,
	OPT_HELP,
};

#define TEXT(member) .text = offsetof(struct run_settings, member)
#define FLAG(member) .flag = offsetof(struct run_settings, member)

static const struct option_row rows[] = {
    {"env", "NAME[=VALUE]", OPT_ENV,
     "a variable of the command's environment; NAME alone: as it is here; may be repeated", .letter = 'e'},
    {"workdir", "DIR", 0, "the command's working directory (default: /)", TEXT(cwd), .letter = 'w'},
    {"user", "USER[:GROUP]", 0, "who runs it: numbers, or names of the root's /etc/passwd and /etc/group (default: 0)",
     TEXT(user), .letter = 'u'},
    {"tty", NULL, OPT_TTY, "give it a terminal, of the size of this one, in place of three streams", FLAG(tty),
     .letter = 't'},
    {"net", "KIND", OPT_NET, "none, or user: to wherever this host can connect to (default: none)"},
    {"writable", NULL, 0, "what it writes stays in ROOTFS; default: it is gone with the vm", FLAG(writable)},
    {"timeout", "SECONDS", OPT_TIMEOUT, "end the vm after that time"},
    {"memory", "SIZE", OPT_MEMORY, "guest memory, with K, M or G (default: 512M)"},
    {"cpus", "N", OPT_CPUS, "vcpus (default: 1)"},
    {"cpu", "MODEL", 0, "CPU model, as for microvm", TEXT(vm.cpu)},
    {"backend", "NAME", OPT_BACKEND, "auto, kvm or emu (default: auto)"},
    {"engine", "NAME", OPT_ENGINE, "of backend emu, as for microvm"},
    {"kernel", "FILE", 0, "kernel (default: $VIRTCORE_KERNEL, or the newest one that will do)", TEXT(kernel)},
    {"modules", "DIR", 0,
     "its modules (default: lib/modules/VERSION beside its boot directory, or of this host); none: all is built in",
     TEXT(modules)},
    {"cmdline", "TEXT", 0, "further words on the kernel's command line", TEXT(cmdline)},
    {"hostname", "NAME", 0, "the guest's name (default: " DEFAULT_HOSTNAME ")", TEXT(hostname)},
    {"status-fd", "N", OPT_STATUS_FD,
     "write a line there when it has ended: exited N, killed N, timeout, or failed N SENTENCE, which is then not "
     "printed"},
    {"verbose", NULL, 0, "print what the library decides, and the guest's kernel messages", FLAG(verbose)},
    {"help", NULL, OPT_HELP, "print this"},
};
#define ROWS (sizeof rows / sizeof rows[0])

static void print_help(void)
{
	printf("usage: microvm run [OPTION...] ROOTFS -- COMMAND [ARGUMENT...]\n\n"
	       "Runs a command in a virtual machine of its own whose root is the directory ROOTFS. Standard input, output "
	       "and\n"
	       "error are the command's; signals go to it.\n\n");
	print_options(rows, ROWS);
	printf("\nThe kernel is the newest that has 9P (Debian: linux-image-amd64; the cloud kernel has not), with "
	       "modules.dep:\n"
	       "of ~/.local/share/virtcore (boot/vmlinuz-VERSION and lib/modules/VERSION), or of this host.\n"
	       "With --tty: Ctrl-A x ends the vm, Ctrl-A Ctrl-A sends Ctrl-A.\n"
	       "\nExit status: the command's; %d + N when signal N ended it; %d time-out; %d it could not be run; %d it "
	       "cannot "
	       "be\nexecuted; %d it was not found.\n",
	       RUN_SIGNAL, RUN_TIMEOUT, RUN_FAILED, RUN_NOT_EXECUTABLE, RUN_NOT_FOUND);
}

/* NAME alone is passed on, if it is there. */
static int take_variable(const char *value, struct run_settings *s)
{
	const char *here = strchr(value, '=') ? NULL : getenv(value);
	char *pair;

	if (!*value || *value == '=')
		return bad("env", value, "NAME=VALUE or NAME");
	if (!strchr(value, '=') && !here)
		return -1;
	if (s->variable_count == MAX_VARIABLES)
		return bad("env", value, "at most 1024 variables");
	/* argv and the environment outlive us */
	s->variables[s->variable_count++] = here ? (asprintf(&pair, "%s=%s", value, here) < 0 ? value : pair) : value;
	return -1;
}

static int take_net(const char *value, struct run_settings *s)
{
	static const struct word kinds[] = {{"none", 0}, {"user", 1}, {0}};
	uint32_t kind = 0;
	int status = take_word("net", value, kinds, &kind);

	s->network = kind;
	return status;
}

static int take_fd(const char *value, int *fd)
{
	char *end;
	long n = strtol(value, &end, 10);

	if (end == value || *end || n < 0 || n > 1 << 20)
		return bad("status-fd", value, "the number of a descriptor");
	*fd = (int)n;
	return -1;
}

static int take(int id, const char *value, void *settings)
{
	struct run_settings *s = settings;

	switch (id) {
	case OPT_ENV:
		return take_variable(value, s);
	case OPT_TTY:
		return isatty(STDIN_FILENO) ? -1 : bad("tty", "", "standard input to be a terminal");
	case OPT_NET:
		return take_net(value, s);
	case OPT_TIMEOUT:
		return take_timeout(value, &s->timeout);
	case OPT_MEMORY:
		return take_size("memory", value, &s->vm.memory);
	case OPT_CPUS:
		return take_cpus("cpus", value, &s->vm.vcpus);
	case OPT_BACKEND:
		return take_word("backend", value, backends, &s->vm.backend);
	case OPT_ENGINE:
		return take_word("engine", value, engines, &s->vm.engine);
	case OPT_STATUS_FD:
		return take_fd(value, &s->status_fd);
	case OPT_HELP:
		print_help();
		return 0;
	}
	return STATUS_USAGE;
}

static int misplaced(const char *option)
{
	fprintf(stderr, "microvm: %s stands behind ROOTFS: options come before it, or belong to the command behind --\n",
	        option);
	return STATUS_USAGE;
}

/* ROOTFS [--] COMMAND ... */
static int take_command(int argc, char **argv, struct run_settings *s)
{
	if (optind < argc)
		s->rootfs = argv[optind++];
	if (optind < argc && !strcmp(argv[optind], "--"))
		optind++;
	else if (optind < argc && argv[optind][0] == '-')
		return misplaced(argv[optind]);
	s->argv = argv + optind;
	if (s->rootfs && *s->rootfs && optind < argc)
		return -1;
	fprintf(stderr,
	        "microvm: run needs a directory and a command: microvm run ROOTFS -- COMMAND (see microvm run --help)\n");
	return STATUS_USAGE;
}

int parse_run_options(int argc, char **argv, struct run_settings *s)
{
	int status = read_options(argc, argv, rows, ROWS, take, s);

	return status >= 0 ? status : take_command(argc, argv, s);
}
