/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making the process of a promoted address space, and the code that it consists of.
 *
 * It is a fork of the caller that gives up everything: descriptors, memory, signal handlers. What goes on in it is
 * compiled into a section of its own and copied to a fixed address, so it refers to nothing but its stack.
 */
#include "backend/emu/promote/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"

#if defined(__clang__)
#define PLAIN __attribute__((no_sanitize("address", "undefined", "thread", "coverage"), no_stack_protector))
#else
#define PLAIN __attribute__((no_sanitize("address", "undefined", "thread"), no_stack_protector, optimize("O2")))
#endif
#define IN_CHILD PLAIN __attribute__((section("vc_child_code"), used, noinline))

extern const uint8_t __start_vc_child_code[] __attribute__((visibility("hidden")));
extern const uint8_t __stop_vc_child_code[] __attribute__((visibility("hidden")));
extern const uint8_t vc_child_restorer[], vc_child_begin[];

#define FLAG_EXEC         0x10u       /* MFD_EXEC, Linux 6.3 */
#define SA_RESTORER_BIT   0x04000000u /* what the C library hides */
#define SS_AUTODISARM_BIT (1u << 31)
#define RSEQ_SIGNATURE    0x53053053u
#define FD_ROOM           32 /* descriptors are moved above this before they get their places */

/* ---- in the process ---- */

PLAIN static inline __attribute__((always_inline)) int64_t call6(uint64_t number, uint64_t a, uint64_t b, uint64_t c,
                                                                 uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	int64_t result;

	__asm__ volatile("syscall"
	                 : "=a"(result)
	                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return result;
}
#define CALL1(n, a)          call6(n, (uint64_t)(a), 0, 0, 0, 0, 0)
#define CALL2(n, a, b)       call6(n, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define CALL3(n, a, b, c)    call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define CALL4(n, a, b, c, d) call6(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)

/* Every stop: tell, obey, go on. */
IN_CHILD static void handler(int signal, siginfo_t *info, void *frame)
{
	struct child_order order;
	struct child_message message;

	message.what = signal;
	message.frame = (uint64_t)frame;
	for (;;) {
		if (CALL3(SYS_write, CHILD_FD_MESSAGES, &message, sizeof message) < 0 ||
		    CALL3(SYS_read, CHILD_FD_ORDERS, &order, sizeof order) <= 0)
			CALL1(SYS_exit_group, 0);
		message.what = 0;
		for (uint32_t i = 0; i < order.count && !message.what; i++) {
			const struct child_call *c = &order.call[i];
			int64_t result = call6(c->number, c->argument[0], c->argument[1], c->argument[2], c->argument[3],
			                       c->argument[4], c->argument[5]);

			if ((uint64_t)result > -4096ull)
				message.what = result;
		}
		if (order.run && !message.what)
			return;
	}
}

/* begin: RDI, RSI: what of the upper address space stays. All else goes, this function's caller included. */
__asm__(".pushsection vc_child_code, \"ax\", @progbits\n"
        ".balign 16\n"
        ".hidden vc_child_restorer, vc_child_begin\n"
        ".globl vc_child_restorer, vc_child_begin\n"
        "vc_child_restorer:\n"
        "	mov $15, %eax\n" /* rt_sigreturn */
        "	syscall\n"
        "vc_child_begin:\n"
        "	mov $0x7fc30000, %esp\n" /* the end of the stack */
        "	mov %rdi, %rbx\n"
        "	mov %rsi, %rbp\n"
        "	mov $0x10000, %edi\n" /* up to CHILD_OWN */
        "	mov $0x7fbf0000, %esi\n"
        "	mov $11, %eax\n" /* munmap */
        "	syscall\n"
        "	mov $0x7fe00000, %edi\n" /* from there to the code */
        "	mov %rbx, %rsi\n"
        "	sub %rdi, %rsi\n"
        "	mov $11, %eax\n"
        "	syscall\n"
        "	lea (%rbx,%rbp), %rdi\n"
        "	movabs $0x7ffffffff000, %rsi\n"
        "	sub %rdi, %rsi\n"
        "	mov $11, %eax\n"
        "	syscall\n"
        "	int3\n"
        "	ud2\n"
        ".popsection\n");
_Static_assert(CHILD_STACK + CHILD_STACK_SIZE == 0x7fc30000 && CHILD_GUEST_LOW == 0x10000 && CHILD_OWN == 0x7fc00000 &&
                   CHILD_OWN + CHILD_OWN_SIZE == 0x7fe00000 && CHILD_TASK_END == 0x7ffffffff000,
               "as vc_child_begin has them");

/* ---- on the way there: still in the caller's memory, but nothing of the C library that has a state ---- */

struct birth {
	int fds[CHILD_FD_SLOT + CHILD_SLOTS_MAX];
	unsigned count;
	uint64_t code;
};

/* What rt_sigaction takes. */
struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

/* The kernel would write to the thread's area, which goes away. */
PLAIN static void leave_rseq(void)
{
	uint8_t *thread = __builtin_thread_pointer();

	if (!&__rseq_offset || !__rseq_size)
		return;
	if (CALL4(SYS_rseq, thread + __rseq_offset, 32, 1, RSEQ_SIGNATURE) < 0)
		CALL4(SYS_rseq, thread + __rseq_offset, __rseq_size, 1, RSEQ_SIGNATURE);
}

PLAIN static bool take_fds(struct birth *b)
{
	for (unsigned i = 0; i < b->count; i++) {
		b->fds[i] = (int)CALL3(SYS_fcntl, b->fds[i], F_DUPFD, FD_ROOM);
		if (b->fds[i] < 0)
			return false;
	}
	for (unsigned i = 0; i < b->count; i++)
		if (CALL3(SYS_dup3, b->fds[i], i, 0) < 0)
			return false;
	return CALL3(SYS_close_range, b->count, ~0u, 0) >= 0;
}

PLAIN static bool map(uint64_t at, uint64_t size, int protection, uint64_t offset)
{
	return (uint64_t)call6(SYS_mmap, at, size, (uint64_t)protection, MAP_SHARED | MAP_FIXED_NOREPLACE, CHILD_FD_OBJECT,
	                       offset) == at;
}

PLAIN static bool map_object(const struct birth *b)
{
	return map(CHILD_SLOTS, VC_PAGE_SIZE, PROT_READ | PROT_WRITE, CHILD_AT_SLOTS) &&
	       map(CHILD_STACK, CHILD_STACK_SIZE, PROT_READ | PROT_WRITE, CHILD_AT_STACK) &&
	       map(CHILD_HANDLER, VC_PAGE_SIZE, PROT_READ | PROT_EXEC, CHILD_AT_HANDLER) &&
	       map(CHILD_TABLE, CHILD_TABLE_SIZE * 8, PROT_READ, CHILD_AT_TABLE) &&
	       map(b->code, CHILD_CODE_SIZE, PROT_READ | PROT_EXEC, CHILD_AT_CODE);
}

PLAIN static uint64_t in_handler_page(const void *p)
{
	return CHILD_HANDLER + (uint64_t)((const uint8_t *)p - __start_vc_child_code);
}

static const uint8_t signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM, CHILD_SIGNAL_KICK};

/* Once a second it looks whether there is still somebody to tell. */
PLAIN static bool take_signals(void)
{
	struct itimerval second = {{1, 0}, {1, 0}};
	/* disarmed: wherever the guest's RSP points, frames begin at the end of the stack */
	stack_t stack = {
	    .ss_sp = (void *)(uintptr_t)CHILD_STACK, .ss_size = CHILD_STACK_SIZE, .ss_flags = (int)SS_AUTODISARM_BIT};
	struct kernel_sigaction action = {.handler = in_handler_page((const void *)handler),
	                                  .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_BIT,
	                                  .restorer = in_handler_page(vc_child_restorer),
	                                  .mask = ~0ull};
	uint64_t blocked = ~0ull;

	for (unsigned i = 0; i < sizeof signals; i++) {
		blocked &= ~(1ull << (signals[i] - 1));
		if (CALL4(SYS_rt_sigaction, signals[i], &action, 0, 8) < 0)
			return false;
	}
	return CALL2(SYS_sigaltstack, &stack, 0) >= 0 && CALL3(SYS_setitimer, ITIMER_REAL, &second, 0) >= 0 &&
	       CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, 0, 8) >= 0;
}

PLAIN static void be_born(struct birth *b)
{
	void (*begin)(uint64_t, uint64_t) = (void (*)(uint64_t, uint64_t))in_handler_page(vc_child_begin);

	if (take_fds(b) && map_object(b) && take_signals()) {
		leave_rseq();
		begin(b->code, CHILD_CODE_SIZE);
	}
	CALL1(SYS_exit_group, 1);
}

/* ---- in the vcpu's thread ---- */

/* An address for code that the guest's allocator will hardly choose: an aligned GiB far from both ends. */
static uint64_t choose_code(void)
{
	uint32_t r = 0;

	getrandom(&r, sizeof r, GRND_NONBLOCK);
	return (1024 + (uint64_t)(r % 15000)) << 30;
}

static int make_object(struct emu_child *c)
{
	int fd = memfd_create("virtcore-promoted", MFD_CLOEXEC | FLAG_EXEC);
	size_t code = (size_t)(__stop_vc_child_code - __start_vc_child_code);

	if (fd < 0)
		fd = memfd_create("virtcore-promoted", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (code > VC_PAGE_SIZE || ftruncate(fd, CHILD_SIZE) < 0)
		goto fail;
	c->object = mmap(NULL, CHILD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (c->object == MAP_FAILED)
		goto fail;
	memcpy(c->object + CHILD_AT_HANDLER, __start_vc_child_code, code);
	return fd;
fail:
	c->object = NULL;
	close(fd);
	return -ENOMEM;
}

static bool receive(struct emu_child *c)
{
	struct child_message m;
	ssize_t n;

	do
		n = read(c->messages, &m, sizeof m);
	while (n < 0 && errno == EINTR);
	/* the frame is where the kernel puts it; a process that says otherwise is not ours */
	if (n != sizeof m || m.frame < CHILD_STACK || m.frame > CHILD_STACK + CHILD_STACK_SIZE - sizeof(ucontext_t) ||
	    m.frame & 7) {
		c->alive = false;
		return false;
	}
	c->frame = (ucontext_t *)(void *)(c->object + CHILD_AT_STACK + (m.frame - CHILD_STACK));
	c->stopped_by = (int)m.what;
	return true;
}

bool child_wait(struct emu_child *c)
{
	return receive(c);
}

bool child_order(struct emu_child *c, struct child_order *order, bool run)
{
	size_t size = offsetof(struct child_order, call) + order->count * sizeof order->call[0];

	order->run = run;
	if (write(c->orders, order, size) != (ssize_t)size)
		c->alive = false;
	if (!c->alive)
		return false;
	if (run)
		return true;
	return receive(c) && c->stopped_by == 0;
}

static int start(struct emu_child *c, const int *fds, unsigned count, const int orders[2], const int messages[2],
                 int object)
{
	struct birth b = {.fds = {orders[0], messages[1], object}, .count = CHILD_FD_SLOT + count, .code = c->code};
	uint64_t all = ~0ull, old;

	memcpy(b.fds + CHILD_FD_SLOT, fds, count * sizeof *fds);
	/* no handler of the program's may run in the process */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	c->pid = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
	if (c->pid == 0)
		be_born(&b);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	return c->pid < 0 ? -EAGAIN : 0;
}

int child_new(struct emu_child *c, const int *fds, unsigned count)
{
	int orders[2] = {-1, -1}, messages[2] = {-1, -1}, object, r;

	*c = (struct emu_child){.orders = -1, .messages = -1, .alive = true, .code = choose_code()};
	if (count > CHILD_SLOTS_MAX)
		return -E2BIG;
	object = make_object(c);
	if (object < 0)
		return object;
	r = pipe2(orders, O_CLOEXEC) < 0 || pipe2(messages, O_CLOEXEC) < 0 ? -errno
	                                                                   : start(c, fds, count, orders, messages, object);
	close(object);
	if (messages[1] >= 0)
		close(messages[1]);
	c->orders = orders[1];
	c->orders_end = orders[0];
	c->messages = messages[0];
	if (r >= 0 && (!receive(c) || c->stopped_by != SIGTRAP))
		r = -ENOTSUP;
	if (r < 0)
		child_free(c);
	return r;
}

void child_free(struct emu_child *c)
{
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, __WALL);
	}
	if (c->orders >= 0) {
		close(c->orders);
		close(c->orders_end);
	}
	if (c->messages >= 0)
		close(c->messages);
	if (c->object)
		munmap(c->object, CHILD_SIZE);
	*c = (struct emu_child){.orders = -1, .messages = -1};
}
