/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm vhost-user-serve: one of the library's devices for the guest of another program. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "microvm.h"

struct service {
	const char *socket, *device, *switch_name;
	int help, verbose, allow_unsealed, commands;
};

/* Commands on standard input, line by line. */
struct input {
	char text[256];
	size_t length;
};

static void print_help(void)
{
	printf("usage: microvm vhost-user-serve --socket PATH --device TYPE,K=V... [OPTION...]\n\n"
	       "Serves a device to another virtual machine monitor by vhost-user, such as QEMU:\n"
	       "  qemu-system-x86_64 -object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m \\\n"
	       "    -m 1G -chardev socket,id=c,path=PATH -device vhost-user-blk-pci,chardev=c\n\n"
	       "  --socket PATH      where the monitor connects; fd:N: a descriptor that is open already\n"
	       "  --device TYPE,K=V  virtio-blk, virtio-net, virtio-console or virtio-rng; `microvm --device TYPE,help`\n"
	       "                     lists its properties (those of transports are not for this)\n"
	       "  --switch NAME      a switch, for virtio-net,net=switch,switch=NAME\n"
	       "  --allow-unsealed   memory that the monitor could shrink, as a file's, is accepted: a monitor that does\n"
	       "                     so ends this program\n"
	       "  --commands         lines of standard input are commands: \"resize SIZE\" gives a disk another size\n"
	       "  --verbose          tell of front-ends that come and go\n"
	       "  --help             this text\n\n"
	       "It ends by SIGINT, SIGTERM or SIGHUP.\n");
}

static int bad_usage(const char *what)
{
	fprintf(stderr, "microvm vhost-user-serve: %s; --help lists the options\n", what);
	return STATUS_USAGE;
}

static int parse(int argc, char **argv, struct service *s)
{
	const struct option options[] = {
	    {"socket", required_argument, NULL, 's'},   {"device", required_argument, NULL, 'd'},
	    {"switch", required_argument, NULL, 'w'},   {"allow-unsealed", no_argument, &s->allow_unsealed, 1},
	    {"commands", no_argument, &s->commands, 1}, {"verbose", no_argument, &s->verbose, 1},
	    {"help", no_argument, &s->help, 1},         {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 's')
			s->socket = optarg;
		else if (c == 'd')
			s->device = optarg;
		else if (c == 'w')
			s->switch_name = optarg;
		else if (c)
			return STATUS_USAGE;
	}
	if (s->help) {
		print_help();
		return STATUS_POWEROFF;
	}
	if (optind < argc || !s->socket || !s->device)
		return bad_usage("--socket and --device are needed, and nothing but options");
	return -1;
}

static int fail(const char *what)
{
	fprintf(stderr, "microvm: %s: %s\n", what, vcore_error_message());
	return STATUS_ERROR;
}

static int begin(const struct service *s, vcore_vhost_user **server)
{
	struct vcore_vhost_user_options options = {
	    .size = sizeof options,
	    .log = print_log,
	    .log_level = s->verbose ? VCORE_LOG_INFO : VCORE_LOG_WARN,
	    .switch_name = s->switch_name,
	    .allow_unsealed = (uint32_t)s->allow_unsealed,
	};
	size_t n = strcspn(s->device, ",");
	char type[64];
	int r;

	snprintf(type, sizeof type, "%.*s", (int)n, s->device);
	if (s->switch_name && vcore_switch_new(&options.sw) < 0)
		return fail("--switch");
	r = vcore_vhost_user_serve(type, s->device[n] ? s->device + n + 1 : NULL, s->socket, &options, server);
	vcore_switch_unref(options.sw);
	return r < 0 ? fail(s->device) : -1;
}

static void obey(vcore_vhost_user *server, const char *line)
{
	static const char resize[] = "resize ";
	uint64_t size;

	if (strncmp(line, resize, sizeof resize - 1))
		fprintf(stderr, "microvm: command \"%s\": expected \"resize SIZE\"\n", line);
	else if (take_size("commands resize", line + sizeof resize - 1, &size) < 0 &&
	         vcore_block_resize(vcore_vhost_user_device(server), size) < 0)
		fail("resize");
}

/* False: there are no more. */
static bool read_commands(vcore_vhost_user *server, struct input *in)
{
	ssize_t n = read(STDIN_FILENO, in->text + in->length, sizeof in->text - in->length);
	char *end;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	in->length += (size_t)n;
	while ((end = memchr(in->text, '\n', in->length))) {
		size_t used = (size_t)(end + 1 - in->text);

		*end = '\0';
		obey(server, in->text);
		in->length -= used;
		memmove(in->text, end + 1, in->length);
	}
	if (in->length == sizeof in->text)
		in->length = 0; /* no command is so long */
	return true;
}

/* Until a signal comes. */
static int attend(const struct service *s, vcore_vhost_user *server, const sigset_t *signals)
{
	struct pollfd p[2] = {{.fd = signalfd(-1, signals, SFD_CLOEXEC), .events = POLLIN},
	                      {.fd = s->commands ? STDIN_FILENO : -1, .events = POLLIN}};
	struct input input = {.length = 0};

	if (p[0].fd < 0) {
		fprintf(stderr, "microvm: signals: %s\n", strerror(errno));
		return STATUS_ERROR;
	}
	while (!(p[0].revents & POLLIN)) {
		if (poll(p, 2, -1) > 0 && p[1].revents && !read_commands(server, &input))
			p[1].fd = -1;
	}
	close(p[0].fd);
	return STATUS_POWEROFF;
}

int serve_main(int argc, char **argv)
{
	struct service s = {0};
	vcore_vhost_user *server = NULL;
	int status = parse(argc, argv, &s);
	sigset_t set;

	if (status >= 0)
		return status;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	status = begin(&s, &server);
	if (status >= 0)
		return status;
	status = attend(&s, server, &set);
	vcore_vhost_user_free(server);
	return status;
}
