/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Live migration to another process over a unix socket: migrate [-n TURNS] [-m MIB]. A guest of that much memory, half
 * of it in use, that halts (idle) or writes a page every 39 us, 100 MB/s (busy). Prints downtime and total time, each
 * with its distribution.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <virtcore/virtcore.h>

#define CODE   0x1000u
#define BUFFER 0x1000000u
#define PAGE   4096u
#define TURNS  1000u /* at most */

/* jmp to itself after a hlt that nothing ends would end the vm: the idle guest waits by pause */
static const uint8_t idle_code[] = {0xf3, 0x90, 0xeb, 0xfc};

/*
 * again: mov edi, BUFFER
 * next:  rdtsc; mov esi, eax
 * spin:  rdtsc; sub eax, esi; cmp eax, 39062; jb spin
 *        mov [edi], eax; add edi, 4096; cmp edi, END; jb next; jmp again
 */
static uint8_t busy_code[] = {0xbf, 0x00, 0x00, 0x00, 0x01, 0x0f, 0x31, 0x89, 0xc6, 0x0f, 0x31, 0x29, 0xf0,
                              0x3d, 0x96, 0x98, 0x00, 0x00, 0x72, 0xf5, 0x89, 0x07, 0x81, 0xc7, 0x00, 0x10,
                              0x00, 0x00, 0x81, 0xff, 0x00, 0x00, 0x00, 0x00, 0x72, 0xe1, 0xeb, 0xda};
#define END_AT 30

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "migrate: %s: %s\n", what, vcore_error_message());
	exit(1);
}

static vcore_vm *make(uint64_t memory, const uint8_t *code, size_t length)
{
	/* 1 GHz: 39062 of its ticks are 39 us */
	struct vcore_options o = {.size = sizeof o, .backend = VCORE_BACKEND_EMU, .memory = memory, .tsc_khz = 1000000};
	struct vcore_regs regs = {.size = sizeof regs, .rip = CODE, .rsp = 0x8000, .rflags = 2};
	vcore_vm *vm;

	check(vcore_vm_new(&o, &vm), "vm");
	for (uint64_t at = BUFFER; at < BUFFER + memory / 2; at += PAGE)
		check(vcore_memory_write(vm, at, &at, sizeof at), "memory");
	check(vcore_memory_write(vm, CODE, code, length), "code");
	check(vcore_vcpu_set_mode(vcore_vm_vcpu(vm, 0), VCORE_MODE_PROTECTED32, 0), "mode");
	check(vcore_vcpu_set_regs(vcore_vm_vcpu(vm, 0), &regs), "registers");
	check(vcore_vm_start(vm), "start");
	return vm;
}

static pid_t receiver(int fd[2])
{
	struct vcore_migrate_receive_options o = {.size = sizeof o};
	vcore_vm *vm;
	pid_t pid;

	check(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), "sockets");
	pid = fork();
	check(pid, "fork");
	if (pid)
		return close(fd[1]), pid;
	close(fd[0]);
	o.fd = fd[1];
	check(vcore_migrate_receive(&o, &vm), "receiving");
	check(vcore_vm_start(vm), "start");
	vcore_vm_unref(vm);
	exit(0);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const char *guest, const char *what, double *ms, unsigned turns)
{
	qsort(ms, turns, sizeof *ms, by_value);
	printf("migrate %s: %s min %.2f, median %.2f, p90 %.2f, max %.2f ms\n", guest, what, ms[0], ms[turns / 2],
	       ms[turns * 9 / 10], ms[turns - 1]);
}

static void measure(const char *guest, uint64_t memory, unsigned turns, const uint8_t *code, size_t length)
{
	static double down[TURNS], total[TURNS];
	struct vcore_migrate_info info = {.size = sizeof info};

	for (unsigned n = 0; n < turns; n++) {
		struct vcore_migrate_options o = {.size = sizeof o};
		int fd[2];
		/* before there are threads */
		pid_t pid = receiver(fd);
		vcore_vm *vm = make(memory, code, length);

		usleep(100000);
		o.fd = fd[0];
		check(vcore_migrate_send(vm, &o), "sending");
		check(vcore_migrate_get_info(vm, &info), "info");
		down[n] = (double)info.downtime_ns / 1e6;
		total[n] = (double)info.total_ns / 1e6;
		vcore_vm_unref(vm);
		close(fd[0]);
		waitpid(pid, NULL, 0);
	}
	print(guest, "downtime", down, turns);
	print(guest, "total", total, turns);
	printf("migrate %s: last: %u rounds, %llu MiB sent\n", guest, info.rounds, (unsigned long long)info.sent >> 20);
}

int main(int argc, char **argv)
{
	uint64_t memory = 256;
	unsigned turns = 20;
	uint32_t end;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int c; (c = getopt(argc, argv, "n:m:")) != -1;) {
		if (c == 'n')
			turns = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 'm')
			memory = strtoul(optarg, NULL, 0);
		else
			return 64;
	}
	if (turns < 1 || turns > TURNS || memory < 64 || memory > 2048)
		return 64;
	memory <<= 20;
	end = (uint32_t)(BUFFER + memory / 2);
	memcpy(busy_code + END_AT, &end, sizeof end);
	measure("idle", memory, turns, idle_code, sizeof idle_code);
	measure("busy", memory, turns, busy_code, sizeof busy_code);
	return 0;
}
