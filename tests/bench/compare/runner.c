/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs commands and measures them: /init of the benchmark guest, and an ordinary program on the host.
 *
 * Commands come on standard input, one a line: NAME, file for standard input or "-", program, arguments..., separated
 * by tabs. Each is answered by two lines, "bench: start NAME" and "bench: row NAME NANOSECONDS STATUS BYTES SUM": the
 * time from before the fork to after the wait by CLOCK_MONOTONIC, the wait status, and length and FNV-1a sum of what
 * the command wrote to standard output. End of input, or the line "end", ends it; as /init it then powers off.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define ARGUMENTS_MAX 32

static char *const environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=/", NULL};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Length and FNV-1a of a whole file; 64-bit words first, as the sum only has to tell outputs apart. */
static uint64_t sum_of(int fd, uint64_t *sum)
{
	static uint64_t buffer[8192];
	uint64_t h = 0xcbf29ce484222325u, total = 0;
	ssize_t got;

	lseek(fd, 0, SEEK_SET);
	while ((got = read(fd, buffer, sizeof buffer)) > 0) {
		memset((char *)buffer + got, 0, sizeof buffer - (size_t)got);
		for (size_t i = 0; i < ((size_t)got + 7) / 8; i++)
			h = (h ^ buffer[i]) * 0x100000001b3u;
		total += (uint64_t)got;
	}
	*sum = h;
	return total;
}

/* In the child: does not return. */
static void execute(const char *input, int output, char **argv)
{
	int in = open(strcmp(input, "-") == 0 ? "/dev/null" : input, O_RDONLY);

	if (in < 0 || dup2(in, 0) < 0 || dup2(output, 1) < 0)
		_exit(126);
	execve(argv[0], argv, environment);
	_exit(127);
}

static void run(const char *name, const char *input, char **argv)
{
	int output = memfd_create("output", MFD_CLOEXEC), status = -1;
	uint64_t start, spent, length, sum;
	pid_t child;

	printf("bench: start %s\n", name);
	fflush(stdout);
	tcdrain(1); /* the console's bytes are not to be sent in the measured time */
	start = now_ns();
	child = fork();
	if (child == 0)
		execute(input, output, argv);
	if (child > 0)
		waitpid(child, &status, 0);
	spent = now_ns() - start;
	/* the host compares its own clock with ours when this line arrives: nothing slow before it */
	printf("bench: done %s\n", name);
	fflush(stdout);
	length = sum_of(output, &sum);
	printf("bench: row %s %llu %d %llu %016llx\n", name, (unsigned long long)spent, status, (unsigned long long)length,
	       (unsigned long long)sum);
	fflush(stdout);
	close(output);
}

static void command(char *line)
{
	char *field[ARGUMENTS_MAX + 1];
	unsigned count = 0;

	for (char *f = strtok(line, "\t"); f && count < ARGUMENTS_MAX; f = strtok(NULL, "\t"))
		field[count++] = f;
	field[count] = NULL;
	if (count >= 3)
		run(field[0], field[1], field + 2);
	else
		printf("bench: bad command\n");
}

static void init(void)
{
	struct termios t;

	mount("proc", "/proc", "proc", 0, "");
	mount("sysfs", "/sys", "sysfs", 0, "");
	mount("dev", "/dev", "devtmpfs", 0, "");
	if (tcgetattr(0, &t) == 0) {
		t.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
		tcsetattr(0, TCSANOW, &t);
	}
}

static void print_tsc_khz(void)
{
	uint64_t start = now_ns(), ticks = __rdtsc(), spent;

	usleep(100000);
	ticks = __rdtsc() - ticks;
	spent = now_ns() - start;
	printf("%llu\n", (unsigned long long)(ticks * 1000000 / spent));
}

int main(int argc, char **argv)
{
	static char line[4096];

	if (argc > 1 && strcmp(argv[1], "tsc") == 0) {
		print_tsc_khz();
		return 0;
	}
	if (getpid() == 1)
		init();
	printf("bench: init %ld cpus\n", sysconf(_SC_NPROCESSORS_ONLN));
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\r\n")] = 0;
		if (strcmp(line, "end") == 0)
			break;
		if (line[0] != 0)
			command(line);
	}
	printf("bench: end\n");
	fflush(stdout);
	if (getpid() == 1) {
		tcdrain(1);
		reboot(RB_POWER_OFF);
	}
	return 0;
}
