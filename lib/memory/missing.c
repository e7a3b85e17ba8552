/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/missing.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/error.h"
#include "core/util.h"
#include "memory/backing.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xaa, 0x00)
#endif
#define MESSAGES 16u

/* ---- the descriptor ---- */

/* Who may open the device needs no other privilege. Kernels before 6.1 have none. */
static int open_by_device(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

	if (device < 0)
		return -1;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	close(device);
	return fd;
}

int vc_missing_open(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == EPERM)
		fd = open_by_device();
	if (fd < 0)
		return vc_fail_errno(errno == ENOENT || errno == EACCES ? EPERM : errno,
		                     "userfaultfd, which must serve KVM's and system calls' accesses too: needs "
		                     "vm.unprivileged_userfaultfd=1, access to /dev/userfaultfd (Linux 6.1), or "
		                     "CAP_SYS_PTRACE");
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		close(fd);
		return vc_fail(ENOSYS, "userfaultfd: this kernel's does not know shared memory");
	}
	return fd;
}

/* ---- slots ---- */

static const char *why_not(const struct vc_slot *slot)
{
	if (slot->host_readonly)
		return NULL;
	if (slot->kind != VCORE_MEMORY_ANON && slot->kind != VCORE_MEMORY_MEMFD)
		return "is the program's or a file's";
	if (slot->flags & (VCORE_MEM_HUGE_2M | VCORE_MEM_HUGE_1G))
		return "is of huge pages, which cannot come one by one";
	if (slot->flags & VCORE_MEM_LOCKED)
		return "is locked, so that it is always there";
	if (slot->image)
		return "is that of a snapshot";
	return atomic_load(&slot->sharers) ? "is shared with another process, which could not wait for it" : NULL;
}

int vc_missing_check(const struct vc_slot *slot)
{
	const char *why = why_not(slot);

	return why ? vc_fail(ENOTSUP, "the memory at %#llx cannot come by post-copy: it %s", (unsigned long long)slot->gpa,
	                     why)
	           : 0;
}

static struct uffdio_range range_of(const struct vc_slot *slot, uint64_t page, uint64_t count)
{
	return (struct uffdio_range){(uintptr_t)slot->hva + page * VC_PAGE_SIZE, count * VC_PAGE_SIZE};
}

int vc_missing_begin(int fd, struct vc_slot *slot)
{
	struct uffdio_register r = {.range = range_of(slot, 0, slot->length / VC_PAGE_SIZE),
	                            .mode = UFFDIO_REGISTER_MODE_MISSING};

	if (ioctl(fd, UFFDIO_REGISTER, &r) < 0)
		return vc_fail_errno(errno, "userfaultfd: for the memory at %#llx", (unsigned long long)slot->gpa);
	atomic_store(&slot->presence, VC_ARRIVING);
	return 0;
}

void vc_missing_end(int fd, struct vc_slot *slot)
{
	struct uffdio_range range = range_of(slot, 0, slot->length / VC_PAGE_SIZE);

	/* it cannot fail for memory that stays mapped */
	ioctl(fd, UFFDIO_UNREGISTER, &range);
}

int vc_missing_drop(struct vc_slot *slot, uint64_t page, uint64_t count)
{
	uint64_t at = page * VC_PAGE_SIZE, length = count * VC_PAGE_SIZE;
	off_t from = (off_t)(slot->offset + at), data;

	vc_backing_discard(slot, at, length);
	if (slot->kind != VCORE_MEMORY_MEMFD)
		return 0;
	/* a part of a large page that cannot be split is only cleared, and is there still */
	data = lseek(slot->fd, from, SEEK_DATA);
	if (data >= 0 && data < from + (off_t)length)
		return vc_fail(EBUSY, "memory at %#llx could not be emptied", (unsigned long long)(slot->gpa + at));
	return 0;
}

/* ---- filling ---- */

static int fill_some(int fd, struct uffdio_range range, const uint8_t *from, int64_t *done)
{
	struct uffdio_copy copy = {.dst = range.start, .src = (uintptr_t)from, .len = range.len};
	struct uffdio_zeropage zero = {.range = range};
	int r = from ? ioctl(fd, UFFDIO_COPY, &copy) : ioctl(fd, UFFDIO_ZEROPAGE, &zero);

	r = r < 0 ? -errno : 0;
	*done = from ? copy.copy : zero.zeropage;
	return r;
}

/* One page that was there before us. */
static void wake(int fd, uint64_t start)
{
	struct uffdio_range range = {start, VC_PAGE_SIZE};

	ioctl(fd, UFFDIO_WAKE, &range);
}

int vc_missing_fill(int fd, const struct vc_slot *slot, uint64_t page, uint64_t count, const uint8_t *from)
{
	struct uffdio_range range = range_of(slot, page, count);

	while (range.len) {
		int64_t done = 0;
		int r = fill_some(fd, range, from, &done);

		if (r == -EEXIST && done <= 0) {
			wake(fd, range.start);
			done = VC_PAGE_SIZE;
		} else if (r < 0 && r != -EAGAIN && r != -EEXIST) {
			return vc_fail_errno(-r, "userfaultfd: filling the memory at %#llx", (unsigned long long)slot->gpa);
		}
		if (done > 0) {
			range.start += (uint64_t)done;
			range.len -= (uint64_t)done;
			from = from ? from + done : NULL;
		}
	}
	return 0;
}

int vc_missing_who(int fd, uint64_t *address, unsigned room)
{
	struct uffd_msg message[MESSAGES];
	unsigned count = 0;
	ssize_t n = read(fd, message, (room < MESSAGES ? room : MESSAGES) * sizeof message[0]);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return vc_fail_errno(errno, "userfaultfd: reading");
	for (ssize_t i = 0; i < n / (ssize_t)sizeof message[0]; i++)
		if (message[i].event == UFFD_EVENT_PAGEFAULT)
			address[count++] = message[i].arg.pagefault.address;
	return (int)count;
}

/* ---- those who use memory ---- */

static bool is_arriving(const struct vc_slot *slot)
{
	return atomic_load(&slot->presence) == VC_ARRIVING && slot->missing;
}

/* Both sides: the pages before this are seen by who finds the bit cleared. */
static bool test(const uint64_t *bits, uint64_t page)
{
	return __atomic_load_n(&bits[page / 64], __ATOMIC_SEQ_CST) >> (page % 64) & 1;
}

bool vc_missing_is_absent(const struct vc_slot *slot, uint64_t gpa)
{
	return is_arriving(slot) && test(slot->missing->absent, (gpa - slot->gpa) / VC_PAGE_SIZE);
}

void vc_missing_await(struct vc_slot *slot, uint64_t gpa)
{
	atomic_fetch_add(&slot->missing->waiting, 1);
	slot->missing->want(slot->missing, (gpa - slot->gpa) / VC_PAGE_SIZE);
}

void vc_missing_leave(struct vc_slot *slot)
{
	atomic_fetch_sub(&slot->missing->waiting, 1);
}

void vc_missing_came(uint64_t *absent, uint64_t page, uint64_t count)
{
	for (uint64_t i = page; i < page + count; i++)
		__atomic_fetch_and(&absent[i / 64], ~(1ull << (i % 64)), __ATOMIC_SEQ_CST);
}

bool vc_missing_is_stalled(const struct vc_slot *slot, uint64_t at, uint64_t length)
{
	if (vc_likely(!is_arriving(slot)) || !atomic_load(&slot->missing->stalled))
		return false;
	for (uint64_t page = at / VC_PAGE_SIZE; page * VC_PAGE_SIZE < at + length; page++)
		if (test(slot->missing->absent, page))
			return true;
	return false;
}

int vc_missing_none(struct vc_mem *mem, const char *who)
{
	uint32_t worst = VC_PRESENT;

	vc_mem_rdlock(mem);
	for (uint32_t i = 0; i < mem->count; i++) {
		uint32_t presence = atomic_load(&mem->slots[i]->presence);

		worst = presence > worst ? presence : worst;
	}
	vc_mem_unlock(mem);
	if (worst == VC_LOST)
		return vc_fail(EIO, "%s: memory that was to follow by post-copy is lost", who);
	return worst ? vc_fail(EBUSY, "%s: the vm's memory is still coming, by post-copy", who) : 0;
}

bool vc_slot_touch_slow(const struct vc_slot *slot, uint64_t at, uint64_t length)
{
	for (uint64_t page = VC_ALIGN_DOWN(at, VC_PAGE_SIZE); page < at + length; page += VC_PAGE_SIZE)
		(void)*(const volatile uint8_t *)(slot->hva + page);
	return atomic_load(&slot->presence) != VC_LOST;
}
