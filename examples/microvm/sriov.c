/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm sriov: the host's virtual functions. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "microvm.h"

static int fail_usage(const char *what)
{
	fprintf(stderr, "microvm sriov: %s (see microvm sriov --help)\n", what);
	return STATUS_USAGE;
}

static int done(int r)
{
	if (r >= 0)
		return 0;
	fprintf(stderr, "microvm sriov: %s\n", vcore_error_message());
	return STATUS_ERROR;
}

static bool number(const char *text, uint32_t *value)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	*value = (uint32_t)n;
	return end != text && !*end && n <= UINT32_MAX && *text != '-';
}

static void print_function(const struct vcore_sriov_function *f, const char *indent)
{
	printf("%s%s %04x:%04x class %06x, ", indent, f->address, f->vendor, f->device, f->class_code);
	if (f->driver[0])
		printf("driver %s", f->driver);
	else
		printf("no driver");
	if (f->interface[0])
		printf(", interface %s", f->interface);
	if (f->group >= 0)
		printf(", IOMMU group %d", f->group);
	else
		printf(", in no IOMMU group");
	if (f->total)
		printf(", %u of %u virtual functions", f->count, f->total);
	putchar('\n');
}

static int list(char **words)
{
	struct vcore_sriov_function f = {.size = sizeof f};
	int r;

	(void)words;
	for (uint32_t i = 0; (r = vcore_sriov_list(i, &f)) >= 0; i++) {
		char address[sizeof f.address];

		print_function(&f, "");
		memcpy(address, f.address, sizeof address);
		for (uint32_t k = 0; vcore_sriov_list_virtual(address, k, &f) >= 0; k++) {
			printf("  %u: ", k);
			print_function(&f, "");
		}
	}
	return r == -ENOENT ? 0 : done(r);
}

static int create(char **words)
{
	uint32_t count;

	return number(words[1], &count) ? done(vcore_sriov_create(words[0], count)) : fail_usage("a number is needed");
}

static int destroy(char **words)
{
	return done(vcore_sriov_destroy(words[0]));
}

static int bind_function(char **words)
{
	char driver[64];
	int r = vcore_sriov_bind(words[0], driver, sizeof driver);

	if (r > 0)
		printf("%s was with %s%s: \"microvm sriov release %s%s%s\" gives it back\n", words[0],
		       driver[0] ? "driver " : "no driver", driver, words[0], driver[0] ? " " : "", driver);
	return done(r);
}

static int release(char **words)
{
	return done(vcore_sriov_release(words[0], words[1]));
}

static int set_mac(char **words)
{
	unsigned b[6];
	uint32_t index;
	uint8_t mac[6];
	int end = 0;

	if (!number(words[1], &index) ||
	    sscanf(words[2], "%2x:%2x:%2x:%2x:%2x:%2x%n", b, b + 1, b + 2, b + 3, b + 4, b + 5, &end) != 6 || words[2][end])
		return fail_usage("a number and a MAC address like 52:54:00:12:34:56 are needed");
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return done(vcore_sriov_set_mac(words[0], index, mac));
}

static int set_vlan(char **words)
{
	uint32_t index, vlan, priority = 0;

	if (!number(words[1], &index) || !number(words[2], &vlan) || (words[3] && !number(words[3], &priority)))
		return fail_usage("numbers are needed");
	return done(vcore_sriov_set_vlan(words[0], index, vlan, priority));
}

static const struct {
	const char *name;
	int least, most; /* words behind it */
	int (*run)(char **words);
	const char *arguments, *help;
} commands[] = {
    {"list", 0, 0, list, "", "functions of the host that can have virtual ones, and those"},
    {"create", 2, 2, create, "PF COUNT", "make so many virtual functions"},
    {"destroy", 1, 1, destroy, "PF", "take all of them away"},
    {"mac", 3, 3, set_mac, "PF N MAC", "the MAC address of virtual function N, from 0"},
    {"vlan", 3, 4, set_vlan, "PF N VLAN [PRIORITY]", "the VLAN it is in; 0: none"},
    {"bind", 1, 1, bind_function, "ADDRESS", "give a function, any, to driver vfio-pci, for --device vfio-pci"},
    {"release", 1, 2, release, "ADDRESS [DRIVER]", "take it from vfio-pci, and give it to DRIVER"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static int print_usage(void)
{
	printf("usage: microvm sriov COMMAND ...\n"
	       "Virtual functions of the host's PCI devices, by addresses like 0000:01:00.0. All but list take root.\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-8s %-21s %s\n", commands[i].name, commands[i].arguments, commands[i].help);
	printf("\nA guest gets one by --device vfio-pci,host=ADDRESS, or with rebind=on without \"bind\" before.\n");
	return 0;
}

int sriov_main(int argc, char **argv)
{
	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
		return print_usage();
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		if (argc - 2 < commands[i].least || argc - 2 > commands[i].most)
			return fail_usage(commands[i].arguments[0] ? commands[i].arguments : "no more words are expected");
		return commands[i].run(argv + 2);
	}
	return fail_usage("there is no such command");
}
