/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm run: its command line. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

enum run_option {
	OPT_KERNEL = 256,
	OPT_MODULES,
	OPT_CMDLINE,
	OPT_NET,
	OPT_WRITABLE,
	OPT_HOSTNAME,
	OPT_TIMEOUT,
	OPT_MEMORY,
	OPT_CPUS,
	OPT_CPU,
	OPT_BACKEND,
	OPT_ENGINE,
	OPT_STATUS_FD,
	OPT_VERBOSE,
	OPT_HELP,
};

static const struct {
	const char *name, *argument;
	int id; /* a letter: the short form */
	const char *help;
} rows[] = {
    {"env", "NAME[=VALUE]", 'e', "a variable of the command's environment; NAME alone: as it is here; may be repeated"},
    {"workdir", "DIR", 'w', "the command's working directory (default: /)"},
    {"user", "USER[:GROUP]", 'u',
     "who runs it: numbers, or names of the root's /etc/passwd and /etc/group (default: 0)"},
    {"tty", NULL, 't', "give it a terminal, of the size of this one, in place of three streams"},
    {"net", "KIND", OPT_NET, "none, or user: to wherever this host can connect to (default: none)"},
    {"writable", NULL, OPT_WRITABLE, "what it writes stays in ROOTFS; default: it is gone with the vm"},
    {"timeout", "SECONDS", OPT_TIMEOUT, "end the vm after that time"},
    {"memory", "SIZE", OPT_MEMORY, "guest memory, with K, M or G (default: 512M)"},
    {"cpus", "N", OPT_CPUS, "vcpus (default: 1)"},
    {"cpu", "MODEL", OPT_CPU, "CPU model, as for microvm"},
    {"backend", "NAME", OPT_BACKEND, "auto, kvm or emu (default: auto)"},
    {"engine", "NAME", OPT_ENGINE, "of backend emu, as for microvm"},
    {"kernel", "FILE", OPT_KERNEL, "kernel (default: $VIRTCORE_KERNEL, or the newest one that will do)"},
    {"modules", "DIR", OPT_MODULES,
     "its modules (default: lib/modules/VERSION beside its boot directory, or of this host); none: all is built in"},
    {"cmdline", "TEXT", OPT_CMDLINE, "further words on the kernel's command line"},
    {"hostname", "NAME", OPT_HOSTNAME, "the guest's name (default: " DEFAULT_HOSTNAME ")"},
    {"status-fd", "N", OPT_STATUS_FD,
     "write a line there when it has ended: exited N, killed N, timeout, or failed N SENTENCE, which is then not "
     "printed"},
    {"verbose", NULL, OPT_VERBOSE, "print what the library decides, and the guest's kernel messages"},
    {"help", NULL, OPT_HELP, "print this"},
};
#define ROWS (sizeof rows / sizeof rows[0])

static void print_help(void)
{
	printf("usage: microvm run [OPTION...] ROOTFS -- COMMAND [ARGUMENT...]\n\n"
	       "Runs a command in a virtual machine of its own whose root is the directory ROOTFS. Standard input, output "
	       "and\n"
	       "error are the command's; signals go to it.\n\n");
	for (size_t i = 0; i < ROWS; i++) {
		char left[48];

		snprintf(left, sizeof left, "%s%c%s--%s %s", rows[i].id < 256 ? "-" : "", rows[i].id < 256 ? rows[i].id : ' ',
		         rows[i].id < 256 ? ", " : "   ", rows[i].name, rows[i].argument ? rows[i].argument : "");
		printf("  %-26s %s\n", left, rows[i].help);
	}
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

static int take(int id, const char *value, struct run_settings *s)
{
	switch (id) {
	case 'e':
		return take_variable(value, s);
	case 'w':
		s->cwd = value;
		return -1;
	case 'u':
		s->user = value;
		return -1;
	case 't':
		s->tty = true;
		return isatty(STDIN_FILENO) ? -1 : bad("tty", "", "standard input to be a terminal");
	case OPT_NET:
		return take_net(value, s);
	case OPT_WRITABLE:
		s->writable = true;
		return -1;
	case OPT_TIMEOUT:
		return take_timeout(value, &s->timeout);
	case OPT_MEMORY:
		return take_size("memory", value, &s->vm.memory);
	case OPT_CPUS:
		return take_cpus("cpus", value, &s->vm.vcpus);
	case OPT_CPU:
		s->vm.cpu = value;
		return -1;
	case OPT_BACKEND:
		return take_word("backend", value, backends, &s->vm.backend);
	case OPT_ENGINE:
		return take_word("engine", value, engines, &s->vm.engine);
	case OPT_KERNEL:
		s->kernel = value;
		return -1;
	case OPT_MODULES:
		s->modules = value;
		return -1;
	case OPT_CMDLINE:
		s->cmdline = value;
		return -1;
	case OPT_HOSTNAME:
		s->hostname = value;
		return -1;
	case OPT_STATUS_FD:
		return take_fd(value, &s->status_fd);
	case OPT_VERBOSE:
		s->verbose = true;
		return -1;
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
	struct option options[ROWS + 1] = {0};
	int id, status;

	for (size_t i = 0; i < ROWS; i++)
		options[i] =
		    (struct option){rows[i].name, rows[i].argument ? required_argument : no_argument, NULL, rows[i].id};
	while ((id = getopt_long(argc, argv, "+e:w:u:t", options, NULL)) != -1) {
		if (id == '?')
			return STATUS_USAGE;
		status = take(id, optarg, s);
		if (status >= 0)
			return status;
	}
	return take_command(argc, argv, s);
}
