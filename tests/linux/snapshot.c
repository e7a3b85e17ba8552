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

#include "shell.h"

static void make_clone(vcore_snapshot *s, struct shell *g, enum vcore_backend backend)
{
	struct vcore_clone_options o = {.size = sizeof o, .backend = backend, .ctx = g, .properties = shell_properties};
	double from;

	shell_pipes(g);
	from = shell_now_us();
	shell_check(vcore_snapshot_clone(s, &o, &g->vm), "clone");
	shell_check(vcore_vm_start(g->vm), "start of a clone");
	printf("snapshot: cloned and started in %.0f us\n", shell_now_us() - from);
}

static void take(struct shell *g, vcore_snapshot **s)
{
	struct vcore_snapshot_info info = {.size = sizeof info};
	double from = shell_now_us();

	shell_check(vcore_snapshot_take(g->vm, s), "snapshot");
	shell_check(vcore_snapshot_get_info(*s, &info), "info");
	printf("snapshot: taken in %.0f us, %llu of %llu KiB copied\n", shell_now_us() - from,
	       (unsigned long long)info.memory_copied / 1024, (unsigned long long)info.memory / 1024);
}

static void go_back(struct shell *g, vcore_snapshot *s)
{
	double from = shell_now_us();

	shell_check(vcore_vm_reset_to(g->vm, s), "going back");
	printf("snapshot: went back in %.0f us\n", shell_now_us() - from);
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
	double from = shell_now_us();
	char path[128];
	int r;

	name_file(path, directory, n);
	r = vcore_snapshot_save(s, path, &o);
	if (r == -ENOTSUP) {
		printf("snapshot: %s\n", vcore_error_message());
		return false;
	}
	shell_check(r, path);
	printf("snapshot: saved as %s in %.0f ms\n", names[n], (shell_now_us() - from) / 1e3);
	return true;
}

static vcore_snapshot *load(const char *directory, int n, vcore_snapshot *parent)
{
	struct vcore_snapshot_load_options o = {.size = sizeof o, .parent = parent};
	double from = shell_now_us();
	vcore_snapshot *s;
	char path[128];

	name_file(path, directory, n);
	shell_check(vcore_snapshot_load(path, &o, &s), path);
	printf("snapshot: %s loaded in %.1f ms\n", names[n], (shell_now_us() - from) / 1e3);
	return s;
}

/* In a process of its own. */
static int go_on_from_files(const char *directory, const char *backend)
{
	static struct shell first, twin, packed;
	vcore_snapshot *early = load(directory, 0, NULL), *late = load(directory, 1, early), *third;
	char path[128];

	make_clone(early, &first, shell_backend(backend));
	shell_ask(&first, "from a file", "echo $who-$((11*11)); sleep 1; who=filed; date +wee''k%u", "first-121");
	shell_expect(&first, "its clocks", "week");
	shell_ask(&first, "its disk", "dd if=/dev/vda bs=4k count=64 iflag=direct 2>/dev/null | wc -c", "262144");
	make_clone(late, &twin, shell_backend(backend));
	vcore_snapshot_unref(early);
	vcore_snapshot_unref(late);
	shell_ask(&twin, "from an incremental file", "echo $who+$((13*13))", "twin+169");
	take(&first, &early);
	go_back(&first, early);
	shell_ask(&first, "went back", "echo $who*$((14*14))", "filed*196");
	name_file(path, directory, 2);
	if (access(path, F_OK) == 0) {
		third = load(directory, 2, NULL);
		make_clone(third, &packed, shell_backend(backend));
		vcore_snapshot_unref(third);
		shell_ask(&packed, "from a compressed file", "echo $who+$((15*15))", "twin+225");
		shell_end(&packed);
	}
	vcore_snapshot_unref(early);
	shell_end(&first);
	shell_end(&twin);
	return 0;
}

static void check_files(vcore_snapshot *early, vcore_snapshot *late, const char *backend)
{
	char directory[] = "/tmp/snapshot-linux.XXXXXX", path[128];
	int status;
	pid_t child;

	if (!mkdtemp(directory))
		shell_fail("a directory for files");
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
	static struct shell first, twin, other;
	vcore_snapshot *early, *late;
	enum vcore_backend to;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && strcmp(argv[1], "--files") == 0)
		return go_on_from_files(argv[2], argv[3]);
	if (argc < 4) {
		fprintf(stderr, "usage: snapshot KERNEL INITRD BACKEND [CLONE-BACKEND [CPU]]\n");
		return 64;
	}
	to = shell_backend(argc > 4 ? argv[4] : argv[3]);
	shell_boot(&first, argv, argc > 5 ? argv[5] : "x86-64-v2");
	shell_ask(&first, "first", "who=first; echo $((6*7))", "42");
	take(&first, &early);
	shell_ask(&first, "first goes on", "who=$who-later; echo $((7*9)) $who", "63 first-later");

	make_clone(early, &twin, to);
	shell_ask(&twin, "twin", "echo $who-$((11*11)); sleep 1; who=twin; date +wee''k%u", "first-121");
	shell_expect(&twin, "twin's clocks", "week");
	shell_ask(&twin, "twin forks", "x=$(ls /proc | wc -l); [ $x -gt 10 ] && echo man''y", "many");
	shell_ask(&twin, "twin's disk", "dd if=/dev/vda bs=4k count=64 iflag=direct 2>/dev/null | wc -c", "262144");
	shell_ask(&twin, "twin's random numbers", "dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c", "2048");
	take(&twin, &late);
	make_clone(late, &other, shell_backend(argv[3]));
	shell_ask(&other, "clone of a clone", "echo $who+$((13*13))", "twin+169");
	shell_end(&other);
	check_files(early, late, argv[3]);

	go_back(&first, early);
	shell_ask(&first, "first went back", "echo $who-$((15*15))", "first-225");
	for (int n = 0; n < 20; n++) {
		go_back(&first, early);
		shell_ask(&first, "first again", "echo $who.$((16*16)); who=$who$who", "first.256");
	}
	go_back(&first, late);
	shell_ask(&first, "first became twin", "echo $who.$((17*17))", "twin.289");
	vcore_snapshot_unref(early);
	shell_end(&first);
	shell_ask(&twin, "twin alone", "echo $who/$((18*18))", "twin/324");
	shell_end(&twin);
	vcore_snapshot_unref(late);
	printf("snapshot: all answers were right\n");
	return 0;
}
