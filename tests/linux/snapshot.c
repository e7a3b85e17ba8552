/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots of a Linux guest: snapshot KERNEL INITRD BACKEND [CLONE-BACKEND]. The guest is a shell on the serial port
 * (snapshot-init.sh). It is asked sums before and after snapshots, in clones, in clones of clones and after going back;
 * what it was told to remember tells them apart. Exit status 0: all answers were right.
 */
#include <stdio.h>

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

int main(int argc, char **argv)
{
	static struct shell first, twin, other;
	vcore_snapshot *early, *late;
	enum vcore_backend to;

	if (argc < 4) {
		fprintf(stderr, "usage: snapshot KERNEL INITRD BACKEND [CLONE-BACKEND]\n");
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	to = shell_backend(argc > 4 ? argv[4] : argv[3]);
	shell_boot(&first, argv);
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
