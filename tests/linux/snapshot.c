/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots of a Linux guest: snapshot KERNEL INITRD BACKEND [CLONE-BACKEND [CPU]]. The guest is a shell on the serial
 * port (snapshot-init.sh). It is asked sums before and after snapshots, in clones, in clones of clones and after going
 * back; what it was told to remember tells them apart. Then another process does the same with what was saved to
 * files: snapshot --files DIRECTORY BACKEND. Exit status 0: all answers were right.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define ANSWER_MS 60000 /* that only a failing test waits for to its end */

struct guest {
	vcore_vm *vm;
	int in, out; /* our ends of its serial port */
	int its_in, its_out;
	char text[65536]; /* what it said since the last question */
	size_t length;
};

static void fail(const char *what)
{
	fprintf(stderr, "snapshot: %s: %s\n", what, vcore_error_message());
	exit(1);
}

static void check(int r, const char *what)
{
	if (r < 0)
		fail(what);
}

static void make_pipes(struct guest *g)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		fail("pipe");
	*g = (struct guest){.in = to[1], .its_in = to[0], .out = from[0], .its_out = from[1]};
}

static const char *uart_properties(const struct guest *g)
{
	static char text[64];

	snprintf(text, sizeof text, "input=fd:%d,output=fd:%d", g->its_in, g->its_out);
	return text;
}

static bool heard(struct guest *g, const char *text, int timeout_ms)
{
	struct pollfd p = {.fd = g->out, .events = POLLIN};

	while (!strstr(g->text, text)) {
		ssize_t n;

		if (poll(&p, 1, timeout_ms) != 1 || g->length >= sizeof g->text - 1)
			return false;
		n = read(g->out, g->text + g->length, sizeof g->text - 1 - g->length);
		if (n <= 0)
			return false;
		g->length += (size_t)n;
	}
	return true;
}

static void expect(struct guest *g, const char *who, const char *text)
{
	if (heard(g, text, ANSWER_MS))
		return;
	fprintf(stderr, "snapshot: %s: \"%s\" does not come; there is:\n%s\n", who, text, g->text);
	exit(1);
}

/* The answer does not occur in the question, which comes back as an echo. */
static void ask(struct guest *g, const char *who, const char *question, const char *answer)
{
	g->length = 0;
	memset(g->text, 0, sizeof g->text);
	if (write(g->in, question, strlen(question)) < 0 || write(g->in, "\n", 1) < 0)
		fail("asking");
	expect(g, who, answer);
}

static const char *clone_properties(void *ctx, uint32_t index, const char *type, const char *properties)
{
	return strcmp(type, "uart") == 0 ? uart_properties(ctx) : NULL;
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void make_clone(vcore_snapshot *s, struct guest *g, enum vcore_backend backend)
{
	struct vcore_clone_options o = {.size = sizeof o, .backend = backend, .ctx = g, .properties = clone_properties};
	double from;

	make_pipes(g);
	from = now_us();
	check(vcore_snapshot_clone(s, &o, &g->vm), "clone");
	check(vcore_vm_start(g->vm), "start of a clone");
	printf("snapshot: cloned and started in %.0f us\n", now_us() - from);
}

static void take(struct guest *g, vcore_snapshot **s)
{
	struct vcore_snapshot_info info = {.size = sizeof info};
	double from = now_us();

	check(vcore_snapshot_take(g->vm, s), "snapshot");
	check(vcore_snapshot_get_info(*s, &info), "info");
	printf("snapshot: taken in %.0f us, %llu of %llu KiB copied\n", now_us() - from,
	       (unsigned long long)info.memory_copied / 1024, (unsigned long long)info.memory / 1024);
}

static void go_back(struct guest *g, vcore_snapshot *s)
{
	double from = now_us();

	check(vcore_vm_reset_to(g->vm, s), "going back");
	printf("snapshot: went back in %.0f us\n", now_us() - from);
}

static enum vcore_backend backend_of(const char *name)
{
	return strcmp(name, "kvm") == 0 ? VCORE_BACKEND_KVM : VCORE_BACKEND_EMU;
}

static void boot(struct guest *g, int argc, char **argv)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = VCORE_MACHINE_MICROVM,
	                          .backend = backend_of(argv[3]),
	                          .memory = 256u << 20,
	                          .vcpus = 2,
	                          .cpu = argc > 5 ? argv[5] : "x86-64-v2"};

	make_pipes(g);
	check(vcore_vm_new(&o, &g->vm), "vm");
	check(vcore_device_add(g->vm, "uart", uart_properties(g), NULL), "uart");
	check(vcore_device_add(g->vm, "virtio-rng", NULL, NULL), "rng");
	check(vcore_device_add(g->vm, "virtio-blk", "image=null:1M", NULL), "blk");
	check(vcore_boot_linux(g->vm, argv[1], argv[2], "console=ttyS0 quiet panic=-1"), "boot");
	check(vcore_vm_start(g->vm), "start");
	expect(g, "boot", "/ # ");
	ask(g, "boot", "stty -echo; echo rea''dy", "ready");
}

static void end(struct guest *g)
{
	vcore_vm_unref(g->vm);
	close(g->in);
	close(g->out);
	close(g->its_in);
	close(g->its_out);
}

/* ---- files ---- */

static const char *const names[] = {"early", "late", "packed"};

static void name_file(char path[128], const char *directory, int n)
{
	snprintf(path, 128, "%s/%s", directory, names[n]);
}

/* False: this build cannot. */
static bool save(vcore_snapshot *s, const char *directory, int n, uint32_t flags, vcore_snapshot *parent)
{
	struct vcore_snapshot_save_options o = {.size = sizeof o, .flags = flags, .parent = parent};
	double from = now_us();
	char path[128];
	int r;

	name_file(path, directory, n);
	r = vcore_snapshot_save(s, path, &o);
	if (r == -ENOTSUP) {
		printf("snapshot: %s\n", vcore_error_message());
		return false;
	}
	check(r, path);
	printf("snapshot: saved as %s in %.0f ms\n", names[n], (now_us() - from) / 1e3);
	return true;
}

static vcore_snapshot *load(const char *directory, int n, vcore_snapshot *parent)
{
	struct vcore_snapshot_load_options o = {.size = sizeof o, .parent = parent};
	double from = now_us();
	vcore_snapshot *s;
	char path[128];

	name_file(path, directory, n);
	check(vcore_snapshot_load(path, &o, &s), path);
	printf("snapshot: %s loaded in %.1f ms\n", names[n], (now_us() - from) / 1e3);
	return s;
}

/* In a process of its own. */
static int go_on_from_files(const char *directory, const char *backend)
{
	static struct guest first, twin, packed;
	vcore_snapshot *early = load(directory, 0, NULL), *late = load(directory, 1, early), *third;
	char path[128];

	make_clone(early, &first, backend_of(backend));
	ask(&first, "from a file", "echo $who-$((11*11)); sleep 1; who=filed; date +wee''k%u", "first-121");
	expect(&first, "its clocks", "week");
	ask(&first, "its disk", "dd if=/dev/vda bs=4k count=64 iflag=direct 2>/dev/null | wc -c", "262144");
	make_clone(late, &twin, backend_of(backend));
	vcore_snapshot_unref(early);
	vcore_snapshot_unref(late);
	ask(&twin, "from an incremental file", "echo $who+$((13*13))", "twin+169");
	take(&first, &early);
	go_back(&first, early);
	ask(&first, "went back", "echo $who*$((14*14))", "filed*196");
	name_file(path, directory, 2);
	if (access(path, F_OK) == 0) {
		third = load(directory, 2, NULL);
		make_clone(third, &packed, backend_of(backend));
		vcore_snapshot_unref(third);
		ask(&packed, "from a compressed file", "echo $who+$((15*15))", "twin+225");
		end(&packed);
	}
	vcore_snapshot_unref(early);
	end(&first);
	end(&twin);
	return 0;
}

static void check_files(vcore_snapshot *early, vcore_snapshot *late, const char *backend)
{
	char directory[] = "/tmp/snapshot-linux.XXXXXX", path[128];
	int status;
	pid_t child;

	if (!mkdtemp(directory))
		fail("a directory for files");
	if (!save(early, directory, 0, 0, NULL)) {
		rmdir(directory);
		return;
	}
	save(late, directory, 1, 0, early);
	save(late, directory, 2, VCORE_SNAPSHOT_ZSTD, NULL);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "snapshot", "--files", directory, backend, NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
		fprintf(stderr, "snapshot: the process that goes on from files fails\n");
		exit(1);
	}
	for (int n = 0; n < 3; n++) {
		name_file(path, directory, n);
		unlink(path);
	}
	rmdir(directory);
}

int main(int argc, char **argv)
{
	static struct guest first, twin, other;
	vcore_snapshot *early, *late;
	enum vcore_backend to;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && strcmp(argv[1], "--files") == 0)
		return go_on_from_files(argv[2], argv[3]);
	if (argc < 4) {
		fprintf(stderr, "usage: snapshot KERNEL INITRD BACKEND [CLONE-BACKEND [CPU]]\n");
		return 64;
	}
	to = backend_of(argc > 4 ? argv[4] : argv[3]);
	boot(&first, argc, argv);
	ask(&first, "first", "who=first; echo $((6*7))", "42");
	take(&first, &early);
	ask(&first, "first goes on", "who=$who-later; echo $((7*9)) $who", "63 first-later");

	make_clone(early, &twin, to);
	ask(&twin, "twin", "echo $who-$((11*11)); sleep 1; who=twin; date +wee''k%u", "first-121");
	expect(&twin, "twin's clocks", "week");
	ask(&twin, "twin forks", "x=$(ls /proc | wc -l); [ $x -gt 10 ] && echo man''y", "many");
	ask(&twin, "twin's disk", "dd if=/dev/vda bs=4k count=64 iflag=direct 2>/dev/null | wc -c", "262144");
	ask(&twin, "twin's random numbers", "dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c", "2048");
	take(&twin, &late);
	make_clone(late, &other, backend_of(argv[3]));
	ask(&other, "clone of a clone", "echo $who+$((13*13))", "twin+169");
	end(&other);
	check_files(early, late, argv[3]);

	go_back(&first, early);
	ask(&first, "first went back", "echo $who-$((15*15))", "first-225");
	for (int n = 0; n < 20; n++) {
		go_back(&first, early);
		ask(&first, "first again", "echo $who.$((16*16)); who=$who$who", "first.256");
	}
	go_back(&first, late);
	ask(&first, "first became twin", "echo $who.$((17*17))", "twin.289");
	vcore_snapshot_unref(early);
	end(&first);
	ask(&twin, "twin alone", "echo $who/$((18*18))", "twin/324");
	end(&twin);
	vcore_snapshot_unref(late);
	printf("snapshot: all answers were right\n");
	return 0;
}
