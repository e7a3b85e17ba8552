/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Virtio devices with a driver that is the fuzzer's: byte 0 chooses the device, then come pairs of bytes, each an order
 * to the driver, and the rest is guest memory with all rings and requests. A new device is one row in `devices`.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util.h"
#include "fuzz/saved.h"
#include "unit/virtio_driver.h"
#include "unit/virtio_machine.h"
#include "virtio/gpu.h"
#include "virtio/input.h"
#include "virtio/types.h"

/* Of each queue: where its three parts lie in its piece of memory. */
enum { RAM = 0x10000, ORDERS = 40, QUEUES = 0x1000, STRIDE = 0x400, DRIVER = 0x200, DEVICE = 0x300, SIZE = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

/* What the host does to a device meanwhile. */
static void point(struct vc_dev *dev, uint8_t argument)
{
	vcore_input_key(vinput_input(dev->frontend), argument, argument & 1);
	vcore_input_move_to(vinput_input(dev->frontend), argument, argument * 100);
}

static void look(struct vc_dev *dev, uint8_t argument)
{
	static uint32_t picture[64 * 64];
	vcore_display *display = vgpu_display(dev->frontend);

	vcore_display_copy(display, NULL, picture, sizeof picture, 0, NULL);
	vcore_display_copy(display, &(struct vcore_rect){argument, 1, 8, argument}, picture, sizeof picture, 64, NULL);
	vcore_display_request_size(display, 16u * argument, 100);
}

static const struct {
	const struct vc_device_type *type;
	const char *properties;
	uint32_t queues;
	void (*host)(struct vc_dev *dev, uint8_t argument);
} devices[] = {
    {&vc_virtio_rng_type, "transport=mmio", 1},
    {&vc_virtio_console_type, "transport=mmio,cols=80,rows=25,port1=one,port2=two,port1_input=file:/dev/zero", 8},
    {&vc_virtio_console_type, "transport=mmio,packed=on", 2},
    {&vc_virtio_balloon_type, "transport=mmio,target=1M", 5},
    {&vc_virtio_balloon_type, "transport=mmio,packed=on,event_idx=off", 5},
    {&vc_virtio_net_type, "transport=mmio,mac=52:54:00:00:00:01", 3},
    {&vc_virtio_net_type, "transport=mmio,packed=on,queues=2,mac=52:54:00:00:00:02", 5},
    {&vc_virtio_vsock_type, "transport=mmio,path=%s", 3},
    {&vc_virtio_9p_type, "transport=mmio,worker=loop,tag=share,path=%s/share", 1},
    {&vc_virtio_gpu_type, "transport=mmio,memory=1M", 2, look},
    {&vc_virtio_gpu_type, "transport=mmio,memory=1M,packed=on", 2, look},
    {&vc_virtio_keyboard_type, "transport=mmio", 2, point},
    {&vc_virtio_tablet_type, "transport=mmio,packed=on", 2, point},
    {&vc_virtio_mem_type, "transport=mmio,worker=loop,size=16M,requested=10M,memory_addr=2M", 1, NULL},
    {&vc_virtio_pmem_type, "transport=mmio,worker=loop,image=%s/pmem,sparse=on", 1, NULL},
};

/* What devices find on the host: a directory of this process, with a socket for the guest's port 1, a share and a file
 * for virtio-pmem. */
static struct {
	char name[32], share[48];
	int listener;
} host;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	return remove(path);
}

static void remove_host(void)
{
	nftw(host.name, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_host(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	strcpy(host.name, "/tmp/fuzz-virtio-XXXXXX");
	host.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (host.listener < 0 || !mkdtemp(host.name))
		abort();
	atexit(remove_host);
	snprintf(host.share, sizeof host.share, "%s/share", host.name);
	snprintf(un.sun_path, sizeof un.sun_path, "%s/vsock_1", host.name);
	if (bind(host.listener, (struct sockaddr *)&un, sizeof un) < 0 || listen(host.listener, 1000) < 0)
		abort();
}

/* As it was at first. */
static void renew_host(void)
{
	char path[64];
	int fd;

	if (!*host.name)
		make_host();
	while ((fd = accept(host.listener, NULL, NULL)) >= 0)
		close(fd);
	nftw(host.share, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	snprintf(path, sizeof path, "%s/file", host.share);
	if (mkdir(host.share, 0700) < 0 || (fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) < 0)
		abort();
	close(fd);
	snprintf(path, sizeof path, "%s/pmem", host.name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 2 << 20) < 0)
		abort();
	close(fd);
}

static void add_device(struct machine *m, unsigned n)
{
	struct vc_props *props;
	struct vc_dev *dev;
	char text[160];

	renew_host();
	snprintf(text, sizeof text, devices[n].properties, host.name);
	if (vc_props_parse(text, &props) < 0 || devices[n].type->create(&m->env, props, &dev) < 0)
		abort();
	vc_props_free(props);
}

static void set_up(struct vdrv *d, uint32_t queues)
{
	static const uint32_t parts[] = {0, DRIVER, DEVICE};

	vdrv_negotiate(d, ~0ull);
	for (uint32_t q = 0; q < queues; q++) {
		vdrv_write(d, VDRV_QUEUE_SEL, q);
		vdrv_write(d, VDRV_QUEUE_SIZE, SIZE);
		for (uint32_t i = 0; i < 3; i++)
			vdrv_write(d, VDRV_QUEUE_DESC + 0x10 * i, QUEUES + q * STRIDE + parts[i]);
		vdrv_write(d, VDRV_QUEUE_READY, 1);
	}
	vdrv_start(d);
}

/* One more chain, which begins at a descriptor of the fuzzer's choice. */
static void make_available(struct vdrv *d, uint32_t q, uint8_t head)
{
	uint8_t *queue = vdrv_ptr(d, QUEUES + q * STRIDE), *ring = queue + DRIVER;
	uint16_t index = vc_ld16(ring + 2);

	vc_st16(ring + 4 + 2 * (index % SIZE), head % SIZE);
	vc_st16(ring + 2, (uint16_t)(index + 1));
	/* or, in a packed ring, that descriptor */
	vc_st16(queue + 16 * (head % SIZE) + 14, (uint16_t)((head & 0x10 ? 0x80 : 0x8000) | head >> 5));
}

static void obey(struct vdrv *d, unsigned n, uint8_t order, uint8_t argument)
{
	uint32_t q = (order >> 3) % devices[n].queues;

	switch (order & 7) {
	case 0:
	case 1:
	case 2:
		make_available(d, q, argument);
		vdrv_write(d, VDRV_QUEUE_NOTIFY, q);
		break;
	case 3:
		vdrv_write(d, VDRV_QUEUE_NOTIFY, argument);
		if (devices[n].host)
			devices[n].host(d->dev, argument);
		break;
	case 4:
		vdrv_set_config(d, argument & 63, 1u << (argument >> 6), 0x0101010101010101ull * order);
		break;
	case 5:
		vdrv_config(d, argument & 63, 1u << (argument >> 6));
		break;
	case 6:
		save_and_load(d->dev);
		break;
	default:
		vdrv_write(d, VDRV_QUEUE_SEL, q);
		vdrv_write(d, VDRV_QUEUE_RESET, 1);
	}
	/* a turn, not until all is quiet: there may be input without end */
	for (unsigned i = 0; i < 4; i++)
		vc_loop_run(d->env->loop, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct machine m;
	struct vdrv d;
	size_t rest;
	unsigned n;

	if (length < 1 + 2 * ORDERS)
		return 0;
	n = data[0] % VC_ARRAY_SIZE(devices);
	rest = length - 1 - 2 * ORDERS;
	machine_init(&m);
	machine_add_memory(&m, 0, RAM / 2, VCORE_MEM_RWX);
	machine_add_memory(&m, RAM / 2, RAM / 2, VCORE_MEM_RWX);
	machine_add_memory(&m, RAM, 0x1000, VCORE_MEM_RX);
	add_device(&m, n);
	vdrv_attach(&d, &m.env, VDRV_HEAP);
	memcpy(vdrv_ptr(&d, QUEUES), data + 1 + 2 * ORDERS, rest < RAM / 2 - QUEUES ? rest : RAM / 2 - QUEUES);
	set_up(&d, devices[n].queues);
	for (unsigned i = 0; i < ORDERS; i++)
		obey(&d, n, data[1 + 2 * i], data[2 + 2 * i]);
	machine_fini(&m);
	return 0;
}
