/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtio-mem: blocks in and out by the rules, memory that is there only while it is plugged, state, a hostile driver.
 */
#include <sys/mman.h>
#include <virtcore/error.h>

#include "platform_env.h"
#include "virtio/mem.h"
#include "virtio/types.h"
#include "virtio_driver.h"

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, REFUSED };
enum { PLUGGED, UNPLUGGED, MIXED };

#define BLOCK  VC_MIB(2)
#define REGION VC_GIB(1)
#define CHUNK  VC_MIB(128)

static struct platform_env p;
static struct vdrv d;
static struct vdrv_queue q;
static struct vc_dev *dev;
static struct vc_vmem *vmem;
static uint64_t region, request, answer;

static int create(const char *text)
{
	struct vc_props *props;
	int r;

	ck_assert_int_eq(vc_props_parse(text, &props), 0);
	r = vc_virtio_mem_type.create(&p.env, props, &dev);
	if (!r)
		r = vc_props_finish(props, "virtio-mem");
	vc_props_free(props);
	return r;
}

static void start(void)
{
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(vdrv_negotiate(&d, ~0ull));
	vdrv_queue(&d, &q, 0, 16);
	vdrv_start(&d);
	request = vdrv_alloc(&d, 24, 8);
	answer = vdrv_alloc(&d, 10, 8);
	region = vdrv_config(&d, 16, 8);
}

static void begin(enum vcore_memory_kind kind)
{
	platform_init(&p, VC_MIB(4));
	p.env.ram.kind = kind;
	ck_assert_int_eq(create("worker=loop,size=1G,requested=512M"), 0);
	vmem = dev->frontend;
	start();
}

/* What the device answers; the state in *state. */
static unsigned ask(unsigned type, uint64_t addr, unsigned blocks, unsigned *state)
{
	uint8_t *out = vdrv_ptr(&d, request);

	memset(out, 0, 24);
	vc_st16(out, (uint16_t)type);
	vc_st64(out + 8, addr);
	vc_st16(out + 16, (uint16_t)blocks);
	memset(vdrv_ptr(&d, answer), 0xee, 10);
	ck_assert_uint_eq(vdrv_do(&q, (struct vdrv_buf[]){{request, 24, false}, {answer, 10, true}}, 2), 10);
	if (state)
		*state = vc_ld16((uint8_t *)vdrv_ptr(&d, answer) + 8);
	return vc_ld16(vdrv_ptr(&d, answer));
}

static unsigned state_of(uint64_t addr, unsigned blocks)
{
	unsigned state;

	ck_assert_uint_eq(ask(STATE, addr, blocks, &state), ACK);
	return state;
}

static uint64_t plugged(void)
{
	struct vcore_virtio_mem_info info;

	vc_vmem_get_info(vmem, &info);
	ck_assert_uint_eq(info.plugged_size, vdrv_config(&d, 40, 8));
	ck_assert_uint_eq(info.address, region);
	return info.plugged_size;
}

static bool there(uint64_t gpa)
{
	struct vc_slot *slot = vc_mem_pin(&p.mem, gpa);

	if (slot)
		vc_mem_unpin(slot);
	return slot != NULL;
}

static unsigned resident(uint64_t gpa, uint64_t length)
{
	unsigned char in[BLOCK / VC_PAGE_SIZE];
	unsigned count = 0;

	ck_assert_uint_le(length, BLOCK);
	ck_assert_int_eq(mincore(vc_mem_ptr(&p.mem, gpa, length), length, in), 0);
	for (unsigned i = 0; i < length / VC_PAGE_SIZE; i++)
		count += in[i] & 1;
	return count;
}

START_TEST(config)
{
	begin(VCORE_MEMORY_ANON);
	ck_assert_uint_eq(d.features & 3, 2);
	ck_assert_uint_eq(vdrv_config(&d, 0, 8), BLOCK);
	ck_assert_uint_eq(region, VC_GIB(4));
	ck_assert_uint_eq(vdrv_config(&d, 24, 8), REGION);
	ck_assert_uint_eq(vdrv_config(&d, 32, 8), REGION);
	ck_assert_uint_eq(vdrv_config(&d, 40, 8), 0);
	ck_assert_uint_eq(vdrv_config(&d, 48, 8), VC_MIB(512));
	vdrv_take_isr(&d);
	ck_assert_int_eq(vc_vmem_resize(vmem, VC_MIB(256)), 0);
	ck_assert_uint_eq(vdrv_take_isr(&d), 2);
	ck_assert_uint_eq(vdrv_config(&d, 48, 8), VC_MIB(256));
	ck_assert_int_eq(vc_vmem_resize(vmem, VC_MIB(1)), -EINVAL);
	ck_assert_int_eq(vc_vmem_resize(vmem, REGION + BLOCK), -EINVAL);
	/* a driver that would read what is not there */
	vdrv_attach(&d, &p.env, VDRV_HEAP);
	ck_assert(!vdrv_negotiate(&d, ~2ull));
	/* the next one lies elsewhere, and its addresses are free again later */
	ck_assert_int_eq(create("worker=loop,size=1G"), 0);
	start();
	ck_assert_uint_eq(region, VC_GIB(5));
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_int_eq(create("worker=loop,size=1G"), 0);
	start();
	ck_assert_uint_eq(region, VC_GIB(5));
	platform_fini(&p);
}
END_TEST

START_TEST(in_and_out)
{
	begin(_i ? VCORE_MEMORY_MEMFD : VCORE_MEMORY_ANON);
	ck_assert_uint_eq(state_of(region, 512), UNPLUGGED);
	ck_assert(!there(region));
	ck_assert_uint_eq(ask(PLUG, region + BLOCK, 2, NULL), ACK);
	ck_assert_uint_eq(plugged(), 2 * BLOCK);
	ck_assert_uint_eq(p.told, 1);
	ck_assert_uint_eq(p.last_told.kind, VC_MACHINE_MEMORY_SIZE);
	ck_assert_uint_eq(p.last_told.size, 2 * BLOCK);
	ck_assert_uint_eq(p.last_told.device, dev->id);
	ck_assert_uint_eq(state_of(region + BLOCK, 2), PLUGGED);
	ck_assert_uint_eq(state_of(region, 2), MIXED);
	ck_assert(there(region + BLOCK));
	ck_assert(!there(region + CHUNK));
	ck_assert_int_eq(vc_mem_fill(&p.mem, region + BLOCK, 0x55, 2 * BLOCK), 0);
	ck_assert_uint_eq(resident(region + BLOCK, BLOCK), 512);
	/* half of it goes: the rest stays as it is */
	ck_assert_uint_eq(ask(UNPLUG, region + BLOCK, 1, NULL), ACK);
	ck_assert_uint_eq(resident(region + BLOCK, BLOCK), 0);
	ck_assert_uint_eq(*(uint8_t *)vc_mem_ptr(&p.mem, region + 2 * BLOCK, 1), 0x55);
	/* and all */
	ck_assert_uint_eq(ask(UNPLUG, region + 2 * BLOCK, 1, NULL), ACK);
	ck_assert(!there(region + 2 * BLOCK));
	ck_assert_uint_eq(plugged(), 0);
	/* across chunks */
	ck_assert_uint_eq(ask(PLUG, region + CHUNK - BLOCK, 2, NULL), ACK);
	ck_assert(there(region + CHUNK - 1) && there(region + CHUNK));
	ck_assert_uint_eq(ask(UNPLUG, region + CHUNK, 1, NULL), ACK);
	ck_assert(there(region + CHUNK - 1) && !there(region + CHUNK));
	ck_assert_uint_eq(ask(UNPLUG_ALL, 0, 0, NULL), ACK);
	ck_assert_uint_eq(p.mem.count, 1);
	ck_assert_uint_eq(plugged(), 0);
	/* as much as was asked for, and no more */
	ck_assert_uint_eq(ask(PLUG, region, 256, NULL), ACK);
	ck_assert_uint_eq(ask(PLUG, region + VC_MIB(512), 1, NULL), NACK);
	ck_assert_int_eq(vc_vmem_resize(vmem, VC_MIB(514)), 0);
	ck_assert_uint_eq(ask(PLUG, region + VC_MIB(512), 1, NULL), ACK);
	ck_assert_uint_eq(ask(PLUG, region + VC_MIB(514), 1, NULL), NACK);
	ck_assert_uint_eq(plugged(), VC_MIB(514));
	platform_fini(&p);
}
END_TEST

/* Memory of a slot that goes is given back at once, whoever still holds it. */
START_TEST(pinned)
{
	struct vc_slot *slot;
	unsigned char in[2];

	begin(VCORE_MEMORY_MEMFD);
	ck_assert_uint_eq(ask(PLUG, region, 1, NULL), ACK);
	ck_assert_int_eq(vc_mem_fill(&p.mem, region, 1, 2 * VC_PAGE_SIZE), 0);
	slot = vc_mem_pin(&p.mem, region);
	ck_assert_uint_eq(ask(UNPLUG, region, 1, NULL), ACK);
	ck_assert(!there(region));
	ck_assert_int_eq(mincore(slot->hva, sizeof in * VC_PAGE_SIZE, in), 0);
	ck_assert_uint_eq((in[0] | in[1]) & 1, 0);
	vc_mem_unpin(slot);
	platform_fini(&p);
}
END_TEST

START_TEST(refused)
{
	begin(VCORE_MEMORY_ANON);
	ck_assert_uint_eq(ask(PLUG, region, 4, NULL), ACK);
	ck_assert_uint_eq(ask(PLUG, region + 3 * BLOCK, 2, NULL), REFUSED);
	ck_assert_uint_eq(ask(UNPLUG, region + 3 * BLOCK, 2, NULL), REFUSED);
	ck_assert_uint_eq(ask(PLUG, region + BLOCK / 2, 1, NULL), REFUSED);
	ck_assert_uint_eq(ask(PLUG, region - BLOCK, 1, NULL), REFUSED);
	ck_assert_uint_eq(ask(PLUG, 0, 1, NULL), REFUSED);
	ck_assert_uint_eq(ask(PLUG, ~0ull << 21, 1, NULL), REFUSED);
	ck_assert_uint_eq(ask(STATE, region + REGION, 1, NULL), REFUSED);
	ck_assert_uint_eq(ask(STATE, region + REGION - BLOCK, 2, NULL), REFUSED);
	ck_assert_uint_eq(ask(STATE, region, 65535, NULL), REFUSED);
	ck_assert_uint_eq(ask(STATE, region, 0, NULL), REFUSED);
	ck_assert_uint_eq(ask(17, region, 1, NULL), REFUSED);
	ck_assert_uint_eq(plugged(), 4 * BLOCK);
	/* somebody else has memory there */
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, region + 2 * CHUNK + BLOCK, BLOCK, VCORE_MEM_RWX, NULL, NULL), 0);
	ck_assert_uint_eq(ask(PLUG, region + CHUNK, 65, NULL), BUSY);
	ck_assert_uint_eq(plugged(), 4 * BLOCK);
	ck_assert_uint_eq(state_of(region + CHUNK, 65), UNPLUGGED);
	ck_assert(!there(region + CHUNK));
	/* no room for an answer */
	ck_assert(vdrv_add(&q, (struct vdrv_buf[]){{request, 24, false}, {answer, 9, true}}, 2, &q));
	vdrv_kick(&q);
	vdrv_settle(&d);
	ck_assert(vdrv_status(&d) & VC_VIRTIO_S_NEEDS_RESET);
	platform_fini(&p);
}
END_TEST

START_TEST(state)
{
	static uint8_t saved[1 << 14];
	int64_t size;

	begin(VCORE_MEMORY_ANON);
	ck_assert_uint_eq(ask(PLUG, region, 1, NULL), ACK);
	ck_assert_uint_eq(ask(PLUG, region + 3 * CHUNK, 2, NULL), ACK);
	size = dev->ops.save(dev->ctx, saved, sizeof saved);
	ck_assert_int_gt(size, 0);
	ck_assert_int_eq(dev->ops.save(dev->ctx, saved, (size_t)size - 1), -ENOSPC);
	ck_assert_uint_eq(ask(UNPLUG_ALL, 0, 0, NULL), ACK);
	ck_assert_uint_eq(ask(PLUG, region + CHUNK, 1, NULL), ACK);
	ck_assert_int_eq(vc_vmem_resize(vmem, 0), 0);
	/* whoever restores the memory has put a slot there already */
	ck_assert_int_eq(vc_mem_add(&p.mem, NULL, region + 3 * CHUNK, CHUNK, VCORE_MEM_RWX, NULL, NULL), 0);
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), 0);
	ck_assert(there(region) && !there(region + CHUNK) && there(region + 3 * CHUNK));
	ck_assert_uint_eq(plugged(), 3 * BLOCK);
	ck_assert_uint_eq(vdrv_config(&d, 48, 8), VC_MIB(512));
	ck_assert_uint_eq(state_of(region + 3 * CHUNK, 3), MIXED);
	/* the device's reset keeps memory, the vm's takes it */
	vdrv_reset(&d);
	ck_assert_uint_eq(plugged(), 3 * BLOCK);
	vc_buses_reset(&p.buses);
	ck_assert_uint_eq(plugged(), 0);
	ck_assert_uint_eq(p.mem.count, 1);
	/* saved by a machine with another region */
	ck_assert_int_eq(vc_dev_remove(&p.buses, NULL, dev), 0);
	ck_assert_int_eq(create("worker=loop,size=2G"), 0);
	ck_assert_int_eq(dev->ops.load(dev->ctx, saved, (size_t)size), -EINVAL);
	platform_fini(&p);
}
END_TEST

START_TEST(properties)
{
	static const struct {
		const char *text, *sentence;
	} wrong[] = {
	    {"", "size"},
	    {"size=3M", "size"},
	    {"size=1G,requested=2G", "requested"},
	    {"size=1G,requested=1M", "requested"},
	    {"size=1G,block_size=3M", "power of 2"},
	    {"size=1G,block_size=4K", "block_size"},
	    {"size=1G,memory_addr=0x100000", "multiple"},
	    {"size=1G,memory_addr=2M", "taken"},
	    {"size=1G,memory_addr=0x3ffffff00000", "multiple"},
	    {"size=1G,memory_addr=0x3fffffe00000", "end"},
	    {"size=16384G,block_size=1G", NULL},
	    {"size=16384G,block_size=1G,transport=none", "transport"},
	};

	platform_init(&p, VC_MIB(4));
	for (unsigned i = 0; i < VC_ARRAY_SIZE(wrong); i++) {
		int r = create(wrong[i].text);

		if (!wrong[i].sentence) {
			ck_assert_int_eq(r, 0);
			continue;
		}
		ck_assert_int_lt(r, 0);
		ck_assert_msg(strstr(vcore_error_message(), wrong[i].sentence), "%s: %s", wrong[i].text, vcore_error_message());
	}
	/* failed adds have left nothing reserved */
	ck_assert_ptr_nonnull(p.mem.ranges);
	ck_assert_ptr_null(p.mem.ranges->next);
	platform_fini(&p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("virtio-mem");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, config);
	tcase_add_loop_test(tc, in_and_out, 0, 2);
	tcase_add_test(tc, pinned);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, state);
	tcase_add_test(tc, properties);
	return platform_run("virtio-mem", tc);
}
