/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot-compat DIRECTORY                 restores the files of all versions there
 * snapshot-compat --make DIRECTORY VERSION  makes those of this version, as VERSION-NAME.snapshot
 *
 * A released version's files stay as they are; those of one that is not released yet are made anew when something in
 * them changes.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/virtcore.h>

#define CODE   0x1000u
#define DATA   0x2000u
#define PORT   0x80u
#define MEMORY (4u << 12)

struct kind {
	const char *name;
	uint32_t machine;
	const char *const *devices; /* type, properties */
	const uint8_t *code;
	size_t length;
	const uint8_t *answers; /* what it writes to PORT when restored: the last again, then further ones */
	uint32_t count;
};

static const char *const no_devices[] = {NULL};
static const char *const devices[] = {"uart",
                                      "input=null,output=null",
                                      "debugcon",
                                      "addr=0x402,output=null",
                                      "virtio-rng",
                                      "",
                                      "virtio-blk",
                                      "image=null:1M",
                                      "virtio-balloon",
                                      "transport=pci",
                                      "virtio-net",
                                      "net=none,transport=pci,mac=52:54:00:00:00:01",
                                      NULL};

/* Counts in memory and tells. */
static const uint8_t counts[] = {
    0xfe, 0x05, 0x00, 0x20, 0x00, 0x00, /* 1: incb DATA */
    0xa0, 0x00, 0x20, 0x00, 0x00,       /* mov DATA, %al */
    0xe6, PORT,                         /* out %al, $PORT */
    0xeb, 0xf1,                         /* jmp 1b */
};
static const uint8_t counted[] = {1, 2, 3};

/* Sets registers of the UART, the PIC and CMOS, tells that it has, and then what is there. */
static const uint8_t asks[] = {
    0xba, 0xff, 0x03, 0x00, 0x00, /* mov $0x3ff, %edx: scratch */
    0xb0, 0x5a, 0xee,             /* mov $0x5a, %al; out %al, %dx */
    0xb0, 0xa5, 0xe6, 0x21,       /* PIC's mask */
    0xb0, 0x40, 0xe6, 0x70,       /* mov $0x40, %al; out %al, $0x70 */
    0xb0, 0x77, 0xe6, 0x71,       /* mov $0x77, %al; out %al, $0x71 */
    0xe6, PORT,                   /* out %al, $PORT */
    0xec, 0xe6, PORT,             /* in %dx, %al; out %al, $PORT */
    0xe4, 0x21, 0xe6, PORT,       /* in $0x21, %al; out %al, $PORT */
    0xe4, 0x71, 0xe6, PORT,       /* in $0x71, %al; out %al, $PORT */
    0xf4,
};
static const uint8_t asked[] = {0x77, 0x5a, 0xa5, 0x77};

static const struct kind kinds[] = {
    {"none", VCORE_MACHINE_NONE, no_devices, counts, sizeof counts, counted, sizeof counted},
    {"microvm", VCORE_MACHINE_MICROVM, devices, asks, sizeof asks, asked, sizeof asked},
};

static void fail(const char *what)
{
	fprintf(stderr, "snapshot-compat: %s: %s\n", what, vcore_error_message());
	exit(1);
}

static void check(int r, const char *what)
{
	if (r < 0)
		fail(what);
}

/* What the guest writes to the port next. */
static uint8_t answer(vcore_vm *vm, const char *what)
{
	struct vcore_exit exit = {.size = sizeof exit};

	check(vcore_vcpu_run(vcore_vm_vcpu(vm, 0), 10000000000, &exit), what);
	if (exit.reason != VCORE_EXIT_PIO || exit.address != PORT) {
		fprintf(stderr, "snapshot-compat: %s: the guest left by %s\n", what, vcore_exit_name(exit.reason));
		_Exit(1);
	}
	return (uint8_t)exit.data;
}

/* ---- making ---- */

static void make(const struct kind *kind, const char *path)
{
	struct vcore_options o = {.size = sizeof o,
	                          .machine = kind->machine,
	                          .backend = VCORE_BACKEND_EMU,
	                          .memory = MEMORY,
	                          .cpu = "x86-64-v2",
	                          .unhandled = VCORE_UNHANDLED_EXIT};
	struct vcore_regs regs = {.size = sizeof regs, .rip = CODE, .rflags = 2};
	vcore_snapshot *snapshot;
	vcore_vm *vm;

	check(vcore_vm_new(&o, &vm), path);
	for (const char *const *d = kind->devices; *d; d += 2)
		check(vcore_device_add(vm, d[0], d[1], NULL), d[0]);
	check(vcore_memory_write(vm, CODE, kind->code, kind->length), path);
	check(vcore_vcpu_set_mode(vcore_vm_vcpu(vm, 0), VCORE_MODE_PROTECTED32, 0), path);
	check(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs), path);
	answer(vm, path);
	check(vcore_snapshot_take(vm, &snapshot), path);
	check(vcore_snapshot_save(snapshot, path, NULL), path);
	vcore_snapshot_unref(snapshot);
	vcore_vm_unref(vm);
}

static int make_all(const char *directory, const char *version)
{
	char path[4096];

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		snprintf(path, sizeof path, "%s/%s-%s.snapshot", directory, version, kinds[i].name);
		make(&kinds[i], path);
	}
	return 0;
}

/* ---- restoring ---- */

static void restore(const struct kind *kind, const char *path)
{
	vcore_snapshot *snapshot;
	vcore_vm *vm;

	check(vcore_snapshot_load(path, NULL, &snapshot), path);
	check(vcore_snapshot_clone(snapshot, NULL, &vm), path);
	for (uint32_t i = 0; i < kind->count; i++) {
		uint8_t said = answer(vm, path);

		if (said == kind->answers[i])
			continue;
		fprintf(stderr, "snapshot-compat: %s: answer %u is %#x, expected %#x\n", path, i, said, kind->answers[i]);
		exit(1);
	}
	vcore_vm_unref(vm);
	vcore_snapshot_unref(snapshot);
	printf("%s: restored\n", path);
}

/* Whether it is the snapshot of that kind. */
static int is_of(const char *file, const char *kind)
{
	char end[64];
	size_t length;

	snprintf(end, sizeof end, "-%s.snapshot", kind);
	length = strlen(end);
	return strlen(file) > length && !strcmp(file + strlen(file) - length, end);
}

static int restore_all(const char *directory)
{
	DIR *all = opendir(directory);
	struct dirent *entry;
	char path[4096];
	int count = 0;

	while (all && (entry = readdir(all)))
		for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
			if (is_of(entry->d_name, kinds[i].name)) {
				snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
				restore(&kinds[i], path);
				count++;
			}
	if (all)
		closedir(all);
	if (!count)
		fprintf(stderr, "snapshot-compat: there are no snapshots in %s\n", directory);
	return !count;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--make"))
		return make_all(argv[2], argv[3]);
	if (argc == 2)
		return restore_all(argv[1]);
	fprintf(stderr, "usage: snapshot-compat DIRECTORY\n       snapshot-compat --make DIRECTORY VERSION\n");
	return 64;
}
