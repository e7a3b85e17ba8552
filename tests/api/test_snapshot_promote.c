/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Promoted address spaces of vms whose memory is a snapshot's, which other processes cannot map until it is the vm's
 * own. */
#include "api.h"

#define MEMORY  (16u << 20)
#define PROGRAM 0x20000u
#define COUNT   0x30000u
#define MIRROR  0x30004u
#define SCRATCH 0x31000u /* the test's */
#define BUFFER  0x40000u
#define PAGES   32u
#define PATTERN 0x200000u /* to the end, but for every other 2 MiB */

/*
 *   turn: inc dword [COUNT]; mov eax, [COUNT]; mov edi, BUFFER; mov ecx, PAGES
 *   page: mov [rdi], eax; add rdi, 4096; dec ecx; jnz page; mov [MIRROR], eax; jmp turn
 */
static const uint8_t writer[] = {0xff, 0x04, 0x25, 0x00, 0x00, 0x03, 0x00, 0x8b, 0x04, 0x25, 0x00, 0x00,
                                 0x03, 0x00, 0xbf, 0x00, 0x00, 0x04, 0x00, 0xb9, 32,   0x00, 0x00, 0x00,
                                 0x89, 0x07, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0xff, 0xc9, 0x75,
                                 0xf3, 0x89, 0x04, 0x25, 0x04, 0x00, 0x03, 0x00, 0xeb, 0xd2};

/* ---- a guest that computes in ring 3 ---- */

/* All of memory in large pages, for everybody, and nothing else: the process needs addresses of its own. */
static void map_memory(vcore_vm *vm)
{
	uint64_t table[512] = {0};

	for (uint64_t i = 0; i < MEMORY / 0x200000; i++)
		table[i] = i * 0x200000 | 0x87;
	OK(vcore_memory_write(vm, TABLES + 0x2000, table, sizeof table));
	memset(table, 0, sizeof table);
	table[0] = (TABLES + 0x2000) | 7;
	OK(vcore_memory_write(vm, TABLES + 0x1000, table, sizeof table));
	table[0] = (TABLES + 0x1000) | 7;
	OK(vcore_memory_write(vm, TABLES, table, sizeof table));
}

static void enter_ring_3(vcore_vm *vm)
{
	struct vcore_sregs sregs = {.size = sizeof sregs};

	OK(vcore_vcpu_get_sregs(vcore_vm_vcpu(vm, 0), &sregs));
	sregs.cs.selector = 0x33;
	sregs.cs.attributes |= 3 << 5;
	sregs.ss.selector = 0x2b;
	sregs.ss.attributes |= 3 << 5;
	OK(vcore_vcpu_set_sregs(vcore_vm_vcpu(vm, 0), &sregs));
}

static bool has_pattern(uint64_t at)
{
	return at >= PATTERN && at / 0x200000 % 2;
}

static uint32_t pattern(uint64_t at)
{
	return (uint32_t)(at * 0x9e3779b1u) | 1;
}

static vcore_vm *computing(void)
{
	struct vcore_options o = {.size = sizeof o, .backend = VCORE_BACKEND_EMU, .engine = VCORE_ENGINE_PROMOTE};
	struct vcore_memory_options m = {.size = sizeof m, .kind = VCORE_MEMORY_MEMFD, .fd = -1};
	vcore_vm *vm;

	OK(vcore_vm_new(&o, &vm));
	OK(vcore_memory_add(vm, 0, MEMORY, VCORE_MEM_RWX, &m, NULL));
	for (uint64_t at = 0; at < MEMORY; at += 4096) {
		uint32_t word = pattern(at);

		if (has_pattern(at))
			OK(vcore_memory_write(vm, at, &word, sizeof word));
	}
	api_load(vm, 0, VCORE_MODE_LONG64, PROGRAM, writer, sizeof writer);
	map_memory(vm);
	enter_ring_3(vm);
	return vm;
}

static uint64_t promoted(vcore_vm *vm)
{
	struct vcore_vm_info info = {.size = sizeof info};

	/* counters are told when the vcpu leaves */
	vcore_vcpu_kick(vcore_vm_vcpu(vm, 0));
	OK(vcore_vm_get_info(vm, &info));
	return info.promoted;
}

/* It runs on, and is promoted once more; meanwhile somebody else writes too. */
static void until_promoted(vcore_vm *vm, uint64_t before)
{
	static uint32_t scratch;
	uint32_t read;

	for (unsigned n = 0; promoted(vm) <= before; n++) {
		ck_assert_msg(n < 30000, "no address space is promoted any more");
		scratch++;
		OK(vcore_memory_write(vm, SCRATCH, &scratch, sizeof scratch));
		api_pause_ms(n < 100 ? 0 : 1);
		OK(vcore_memory_read(vm, SCRATCH, &read, sizeof read));
		ck_assert_uint_eq(read, scratch);
	}
}

static void until_turned(vcore_vm *vm, uint32_t turns)
{
	uint32_t from = api_word(vm, MIRROR);

	for (unsigned n = 0; api_word(vm, MIRROR) - from < turns; n++) {
		ck_assert_uint_lt(n, 30000);
		api_pause_ms(1);
	}
}

/* Of a guest that stands: all that it wrote is there. Returns its count. */
static uint32_t check(vcore_vm *vm)
{
	uint32_t count = api_word(vm, COUNT), mirror = api_word(vm, MIRROR);

	ck_assert(mirror == count || mirror == count - 1);
	for (uint32_t page = 0; page < PAGES; page++) {
		uint32_t value = api_word(vm, BUFFER + page * 4096);

		ck_assert_msg(value == count || value == count - 1, "page %u: %u, count %u", page, value, count);
	}
	for (uint64_t at = PATTERN; at < MEMORY; at += 4096)
		ck_assert_uint_eq(api_word(vm, at), has_pattern(at) ? pattern(at) : 0);
	return count;
}

static uint32_t paused(vcore_vm *vm)
{
	uint32_t count;

	OK(vcore_vm_pause(vm));
	count = check(vm);
	OK(vcore_vm_resume(vm));
	return count;
}

static vcore_snapshot *take(vcore_vm *vm)
{
	vcore_snapshot *s;

	OK(vcore_snapshot_take(vm, &s));
	return s;
}

/* A twin has just what was in the snapshot, and is promoted too. */
static void check_twin(vcore_snapshot *s, uint32_t least, uint32_t most)
{
	vcore_vm *twin;
	uint32_t count;

	OK(vcore_snapshot_clone(s, NULL, &twin));
	count = check(twin);
	ck_assert_uint_ge(count, least);
	ck_assert_uint_le(count, most);
	OK(vcore_vm_start(twin));
	until_promoted(twin, 0);
	until_turned(twin, 10);
	ck_assert_uint_ge(paused(twin), count + 10);
	vcore_vm_unref(twin);
}

/* ---- hosts that let nobody do it ---- */

static _Atomic bool impossible;

static void listen_to(void *ctx, enum vcore_log_level level, const char *message)
{
	if (strstr(message, "no address space can be promoted here"))
		atomic_store(&impossible, true);
}

/* A vm whose guest runs promoted; NULL: not on this host, as a line says. */
static vcore_vm *running(void)
{
	vcore_vm *vm = computing();

	OK(vcore_vm_set_log(vm, listen_to, NULL, VCORE_LOG_INFO));
	OK(vcore_vm_start(vm));
	while (!atomic_load(&impossible) && !promoted(vm))
		api_pause_ms(1);
	if (!atomic_load(&impossible))
		return vm;
	printf("no address space can be promoted on this host: not tested\n");
	vcore_vm_unref(vm);
	return NULL;
}

/* ---- tests ---- */

START_TEST(goes_on)
{
	vcore_vm *vm = running();
	vcore_snapshot *first, *second, *third;
	uint32_t counts[4];
	uint64_t before;

	if (!vm)
		return;
	until_turned(vm, 10);
	counts[0] = paused(vm);
	before = promoted(vm);
	first = take(vm);
	until_promoted(vm, before);
	until_turned(vm, 10);
	counts[1] = paused(vm);
	/* now what was written since, by memory that is its own: it stays promoted */
	before = promoted(vm);
	second = take(vm);
	until_promoted(vm, before);
	until_turned(vm, 10);
	counts[2] = paused(vm);
	third = take(vm);
	until_turned(vm, 10);
	counts[3] = paused(vm);
	check_twin(first, counts[0], counts[1]);
	check_twin(second, counts[1], counts[2]);
	check_twin(third, counts[2], counts[3]);
	/* back to the one it derives from, and to another one */
	OK(vcore_vm_pause(vm));
	OK(vcore_vm_reset_to(vm, third));
	ck_assert_uint_le(check(vm), counts[3]);
	OK(vcore_vm_reset_to(vm, first));
	ck_assert_uint_le(check(vm), counts[1]);
	before = promoted(vm);
	OK(vcore_vm_resume(vm));
	until_promoted(vm, before);
	until_turned(vm, 10);
	paused(vm);
	vcore_vm_unref(vm);
	check_twin(second, counts[1], counts[2]);
	vcore_snapshot_unref(first);
	vcore_snapshot_unref(second);
	vcore_snapshot_unref(third);
}
END_TEST

/* Snapshots and rewinding at any moment of the copying, and the end of the vm too. */
START_TEST(interrupted)
{
	vcore_vm *vm = running();

	if (!vm)
		return;
	for (unsigned n = 0; n < 30; n++) {
		vcore_snapshot *s = take(vm);
		vcore_vm *twin;

		OK(vcore_snapshot_clone(s, NULL, &twin));
		check(twin);
		OK(vcore_vm_start(twin));
		until_turned(vm, n % 5);
		until_turned(twin, n % 4);
		if (n % 3 == 0) {
			OK(vcore_vm_pause(vm));
			OK(vcore_vm_reset_to(vm, s));
			check(vm);
			OK(vcore_vm_resume(vm));
		}
		paused(twin);
		vcore_vm_unref(twin);
		vcore_snapshot_unref(s);
	}
	paused(vm);
	vcore_vm_unref(vm);
}
END_TEST

/* Who has the address may write at any time: that memory stays where it is. */
START_TEST(given)
{
	vcore_vm *vm = running();
	vcore_snapshot *s;
	uint64_t before;
	void *at;

	if (!vm)
		return;
	OK(vcore_memory_hva(vm, SCRATCH, 8, &at));
	s = take(vm);
	before = promoted(vm);
	until_turned(vm, 100);
	ck_assert_uint_eq(promoted(vm), before);
	paused(vm);
	vcore_vm_unref(vm);
	vcore_snapshot_unref(s);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("snapshot_promote");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, goes_on);
	tcase_add_test(t, interrupted);
	tcase_add_test(t, given);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return api_main(suite());
}
