/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfio_server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/address.h"
#include "core/clock.h"
#include "core/util.h"

#define PATIENCE 20000000000ull

void vfs_die(const char *what)
{
	fprintf(stderr, "vfio-user server of the test: %s\n", what);
	abort();
}

/* ---- messages ---- */

void vfs_send(int fd, struct vfs_message *m, uint32_t length, const int *fds, unsigned count)
{
	struct vc_channel c = {fd, "the client"};

	/* the client may have gone */
	(void)vc_vfio_user_send(&c, &m->header, length, fds, count, vc_host_ns() + PATIENCE);
}

bool vfs_ask(struct vfs *s, uint16_t command, struct vfs_message *m, uint32_t length, struct vc_vfio_user_inbox *in)
{
	struct vc_channel c = {s->own, "the client"};

	m->header = (struct vc_vfio_user_header){.id = (uint16_t)(0x8000 + s->asked), .command = command};
	vfs_send(s->own, m, length, NULL, 0);
	if (vc_vfio_user_receive(&c, in, vc_host_ns() + PATIENCE) < 0)
		return false;
	if ((in->header->flags & VC_VFIO_USER_TYPE) != VC_VFIO_USER_REPLY || in->header->id != m->header.id)
		vfs_die("another message than the reply");
	s->asked++;
	s->refused += (in->header->flags & VC_VFIO_USER_ERROR) != 0;
	return !(in->header->flags & VC_VFIO_USER_ERROR);
}

/* ---- DMA ---- */

static bool move_by_messages(struct vfs *s, uint64_t address, uint8_t *data, uint32_t length, bool write)
{
	struct vc_vfio_user_dma_access access = {address, length};
	struct vc_vfio_user_inbox in;
	static _Thread_local struct vfs_message m;
	bool done;

	if (vc_vfio_user_inbox_init(&in) < 0)
		vfs_die("no memory");
	memcpy(m.payload, &access, sizeof access);
	if (write)
		memcpy(m.payload + sizeof access, data, length);
	done = vfs_ask(s, write ? VC_VFIO_USER_DMA_WRITE : VC_VFIO_USER_DMA_READ, &m,
	               (uint32_t)sizeof access + (write ? length : 0), &in);
	if (done && memcmp(in.payload, &access, sizeof access))
		vfs_die("the reply is to another access");
	if (done && !write && in.length != sizeof access + length)
		vfs_die("the reply has another length");
	if (done && !write)
		memcpy(data, in.payload + sizeof access, length);
	vc_vfio_user_inbox_fini(&in);
	return done;
}

static uint8_t *find_memory(struct vfs *s, uint64_t address, uint32_t length, uint32_t flag)
{
	for (unsigned i = 0; i < s->map_count; i++) {
		struct vfs_map *m = &s->maps[i];

		if (m->map && m->flags & flag && address - m->address < m->size && length <= m->size - (address - m->address))
			return m->map + (address - m->address);
	}
	return NULL;
}

static bool copy(struct vfs *s, uint32_t how)
{
	uint64_t source = vc_ld64((uint8_t *)s->registers + VFS_SOURCE);
	uint64_t target = vc_ld64((uint8_t *)s->registers + VFS_TARGET);
	uint32_t length = s->registers[VFS_LENGTH / 4];
	uint8_t data[8192], *from, *to;

	if (length > sizeof data)
		return false;
	if (how == 2)
		return move_by_messages(s, source, data, length, false) && move_by_messages(s, target, data, length, true);
	from = find_memory(s, source, length, VC_VFIO_USER_DMA_READABLE);
	to = find_memory(s, target, length, VC_VFIO_USER_DMA_WRITABLE);
	if (from && to)
		memmove(to, from, length);
	return from && to;
}

static uint32_t map(struct vfs *s, const uint8_t *payload, const int *fds, unsigned count)
{
	struct vc_vfio_user_dma_map map;
	struct vfs_map *m = &s->maps[s->map_count];

	memcpy(&map, payload, sizeof map);
	if (map.argsz != sizeof map || s->map_count == VFS_MAPS || count > 1)
		vfs_die("DMA_MAP is not as it should be");
	for (unsigned i = 0; i < s->map_count; i++)
		if (map.address < s->maps[i].address + s->maps[i].size && s->maps[i].address < map.address + map.size)
			return EEXIST;
	*m = (struct vfs_map){map.address, map.size, map.flags, NULL};
	if (count) {
		m->map = mmap(NULL, map.size, PROT_READ | (map.flags & VC_VFIO_USER_DMA_WRITABLE ? PROT_WRITE : 0), MAP_SHARED,
		              fds[0], (off_t)map.offset);
		if (m->map == MAP_FAILED)
			vfs_die("memory cannot be mapped");
	}
	s->map_count++;
	return 0;
}

static void forget(struct vfs *s, unsigned i)
{
	if (s->maps[i].map)
		munmap(s->maps[i].map, s->maps[i].size);
	s->maps[i] = s->maps[s->map_count - 1];
	s->map_count--;
}

static uint32_t unmap(struct vfs *s, const uint8_t *payload)
{
	struct vc_vfio_user_dma_unmap u;

	memcpy(&u, payload, sizeof u);
	for (unsigned i = 0; i < s->map_count; i++) {
		if (s->maps[i].address != u.address || s->maps[i].size != u.size)
			continue;
		forget(s, i);
		return 0;
	}
	vfs_die("DMA_UNMAP of what is not mapped");
	return 0;
}

/* ---- interrupts ---- */

static void signal_vector(struct vfs *s, unsigned kind, uint32_t vector)
{
	const uint64_t one = 1;

	if (vector < VFS_VECTORS && s->fds[kind][vector] >= 0 && write(s->fds[kind][vector], &one, sizeof one) < 0)
		vfs_die("an eventfd cannot be written to");
}

static void raise_vector(struct vfs *s, uint32_t vector)
{
	signal_vector(s, VFIO_PCI_MSIX_IRQ_INDEX, vector);
	signal_vector(s, VFIO_PCI_MSI_IRQ_INDEX, vector);
}

static void update_line(struct vfs *s)
{
	if (!s->registers[VFS_LEVEL / 4] || s->masked || s->fds[VFIO_PCI_INTX_IRQ_INDEX][0] < 0)
		return;
	s->masked = true;
	signal_vector(s, VFIO_PCI_INTX_IRQ_INDEX, 0);
}

static uint32_t vectors_of(uint32_t kind)
{
	return kind == VFIO_PCI_INTX_IRQ_INDEX ? 1 : kind <= VFIO_PCI_MSIX_IRQ_INDEX ? VFS_VECTORS : 0;
}

static void set_fd(struct vfs *s, uint32_t kind, uint32_t vector, int fd)
{
	if (s->fds[kind][vector] >= 0)
		close(s->fds[kind][vector]);
	s->fds[kind][vector] = fd < 0 ? -1 : dup(fd);
}

static uint32_t set_irqs(struct vfs *s, const uint8_t *payload, const int *fds, unsigned count)
{
	struct vfio_irq_set set;

	memcpy(&set, payload, sizeof set);
	if (set.index > VFIO_PCI_MSIX_IRQ_INDEX || set.start > vectors_of(set.index) ||
	    set.count > vectors_of(set.index) - set.start)
		return EINVAL;
	switch (set.flags) {
	case VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK:
		s->masked = false;
		break;
	case VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER:
		if (set.count)
			vfs_die("SET_IRQS without descriptors");
		for (uint32_t i = 0; i < vectors_of(set.index); i++)
			set_fd(s, set.index, i, -1);
		break;
	case VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER:
		if (count && count != set.count)
			vfs_die("SET_IRQS with another number of descriptors");
		for (uint32_t i = 0; i < set.count; i++)
			set_fd(s, set.index, set.start + i, count ? fds[i] : -1);
		if (set.index == VFIO_PCI_INTX_IRQ_INDEX)
			s->masked = false;
		break;
	default:
		vfs_die("SET_IRQS with flags that there are not");
	}
	update_line(s);
	return 0;
}

/* ---- regions ---- */

static const uint64_t sizes[VFIO_PCI_NUM_REGIONS] = {4096, 16, VFS_BAR2, 4096, [VFIO_PCI_CONFIG_REGION_INDEX] = 256};

static void reset(struct vfs *s)
{
	uint32_t resets = s->registers[VFS_RESETS / 4];
	uint8_t *c = s->config;

	memset(s->registers, 0, sizeof s->registers);
	s->registers[VFS_ID / 4] = VFS_ID_VALUE;
	s->registers[VFS_RESETS / 4] = resets + 1;
	s->registers[VFS_VECTOR / 4] = UINT32_MAX;
	memset(s->ports, 0, sizeof s->ports);
	memset(c, 0, sizeof s->config);
	vc_st32(c, 0x0f5e1af4);
	vc_st16(c + 6, 0x10);       /* capabilities */
	vc_st32(c + 8, 0xff000001); /* class: other */
	vc_st32(c + 0x14, 1);       /* BAR 1: ports */
	vc_st32(c + 0x18, 8);       /* BAR 2: prefetchable */
	vc_st32(c + 0x2c, 0x00421af4);
	c[0x34] = 0x40;
	c[0x3d] = 1;
	/* MSI-X, then MSI of 64 bits with masks, then power management */
	vc_st32(c + 0x40, (VFS_VECTORS - 1) << 16 | 0x5000 | 0x11);
	vc_st32(c + 0x44, 3);
	vc_st32(c + 0x48, 0x800 | 3);
	vc_st32(c + 0x50, 0x01860000 | 0x7000 | 0x05);
	vc_st32(c + 0x70, 0x00030000 | 0x01);
}

static void write_register(struct vfs *s, uint32_t at, uint32_t value)
{
	if (at / 4 >= VC_ARRAY_SIZE(s->registers) || at == VFS_ID || at == VFS_RESETS || at == VFS_STATUS)
		return;
	s->registers[at / 4] = value;
	if (at == VFS_COPY) {
		s->registers[VFS_STATUS / 4] = copy(s, value) ? 1 : 2;
		raise_vector(s, s->registers[VFS_VECTOR / 4]);
	} else if (at == VFS_RAISE) {
		raise_vector(s, value);
	} else if (at == VFS_LEVEL) {
		update_line(s);
	}
}

static uint8_t *bytes_of(struct vfs *s, uint32_t region)
{
	switch (region) {
	case 1:
		return s->ports;
	case 2:
		return s->bar2;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		return s->config;
	default:
		return NULL;
	}
}

static uint32_t access_region(struct vfs *s, const struct vc_vfio_user_region_access *a, uint8_t *data, bool write)
{
	uint8_t *bytes = bytes_of(s, a->region);

	if (a->region >= VFIO_PCI_NUM_REGIONS || a->offset > sizes[a->region] || a->count > sizes[a->region] - a->offset)
		return EINVAL;
	s->last_width = a->count;
	if (bytes && write)
		memcpy(bytes + a->offset, data, a->count);
	else if (bytes)
		memcpy(data, bytes + a->offset, a->count);
	else if (a->region == 0 && write)
		for (uint32_t i = 0; i + 4 <= a->count; i += 4)
			write_register(s, (uint32_t)a->offset + i, vc_ld32(data + i));
	else
		for (uint32_t i = 0; i < a->count; i++)
			data[i] =
			    a->region == 0 && a->offset + i < sizeof s->registers ? ((uint8_t *)s->registers)[a->offset + i] : 0;
	return 0;
}

/* Of the reply. */
static uint32_t region_info(struct vfs *s, uint8_t *payload, int *fd)
{
	struct vfio_region_info info;
	struct {
		struct vfio_region_info_cap_sparse_mmap head;
		struct vfio_region_sparse_mmap_area areas[2];
	} sparse = {
	    {{VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0}, 2, 0},
	    {{0, VFS_TRAPPED}, {VFS_TRAPPED + 0x1000, VFS_BAR2 - VFS_TRAPPED - 0x1000}},
	};
	uint32_t length = sizeof info;

	memcpy(&info, payload, sizeof info);
	if (info.index >= VFIO_PCI_NUM_REGIONS)
		return 0;
	info.size = sizes[info.index];
	info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	if (info.index == 2) {
		info.flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
		info.cap_offset = sizeof info;
		memcpy(payload + sizeof info, &sparse, sizeof sparse);
		length += (uint32_t)sizeof sparse;
		*fd = s->bar2_fd;
	}
	info.argsz = length;
	memcpy(payload, &info, sizeof info);
	return length;
}

static void irq_info(uint8_t *payload)
{
	struct vfio_irq_info info;

	memcpy(&info, payload, sizeof info);
	info.count = vectors_of(info.index);
	info.flags = VFIO_IRQ_INFO_EVENTFD | (info.index ? 0 : VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED);
	memcpy(payload, &info, sizeof info);
}

/* ---- replies ---- */

static uint32_t version(struct vfs *s, uint8_t *payload, int *fd)
{
	bool twin = s->twin && strstr((const char *)payload + 4, "twin_socket");
	const char *text = s->capabilities ? s->capabilities
	                   : twin          ? "{\"capabilities\": {\"max_msg_fds\": 8, \"max_data_xfer_size\": 1048576,"
	                                     " \"twin_socket\": {\"supported\": true, \"fd_index\": 0}}}"
	                                   : "{\"capabilities\": {\"max_msg_fds\": 8, \"max_data_xfer_size\": 1048576}}";
	uint32_t length = (uint32_t)strlen(text) + 1;
	int pair[2];

	if (vc_ld16(payload) != VC_VFIO_USER_MAJOR)
		vfs_die("another major version");
	/* only for a client that asks for it */
	if (twin) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			vfs_die("no sockets");
		s->own = pair[0];
		*fd = pair[1];
	}
	memcpy(payload + 4, text, length);
	return s->no_capabilities ? 4 : 4 + length;
}

/* The length of the reply's payload, in place of the command's; *error: a refusal. */
static uint32_t execute(struct vfs *s, uint16_t command, uint8_t *payload, const struct vc_vfio_user_inbox *in,
                        uint32_t *error, int *fd)
{
	struct vc_vfio_user_device_info info = {
	    .argsz = sizeof info,
	    .flags = VFIO_DEVICE_FLAGS_PCI | (s->cannot_reset ? 0 : VFIO_DEVICE_FLAGS_RESET),
	    .regions = VFIO_PCI_NUM_REGIONS,
	    .irqs = VFIO_PCI_NUM_IRQS,
	};
	struct vc_vfio_user_region_access access;

	memcpy(&access, payload, sizeof access);
	switch (command) {
	case VC_VFIO_USER_VERSION:
		return version(s, payload, fd);
	case VC_VFIO_USER_DMA_MAP:
		*error = map(s, payload, in->fds, in->fd_count);
		return 0;
	case VC_VFIO_USER_DMA_UNMAP:
		*error = unmap(s, payload);
		return sizeof(struct vc_vfio_user_dma_unmap);
	case VC_VFIO_USER_GET_INFO:
		memcpy(payload, &info, sizeof info);
		return sizeof info;
	case VC_VFIO_USER_GET_REGION_INFO:
		return region_info(s, payload, fd);
	case VC_VFIO_USER_GET_IRQ_INFO:
		irq_info(payload);
		return sizeof(struct vfio_irq_info);
	case VC_VFIO_USER_SET_IRQS:
		*error = set_irqs(s, payload, in->fds, in->fd_count);
		return 0;
	case VC_VFIO_USER_REGION_READ:
		*error = access_region(s, &access, payload + sizeof access, false);
		return (uint32_t)sizeof access + access.count;
	case VC_VFIO_USER_REGION_WRITE:
		*error = access_region(s, &access, payload + sizeof access, true);
		return sizeof access;
	case VC_VFIO_USER_RESET:
		reset(s);
		return 0;
	default:
		vfs_die("a command that there is not");
		return 0;
	}
}

static void serve_message(struct vfs *s, struct vc_vfio_user_inbox *in)
{
	static _Thread_local struct vfs_message m;
	uint32_t length = in->length < sizeof m.payload ? in->length : (uint32_t)sizeof m.payload, error = 0;
	int fd = -1;

	memcpy(m.payload, in->payload, length);
	m.header = *in->header;
	if (m.header.flags || m.header.command >= VC_ARRAY_SIZE(s->commands))
		vfs_die("no command");
	s->commands[m.header.command]++;
	length = execute(s, m.header.command, m.payload, in, &error, &fd);
	m.header.flags = VC_VFIO_USER_REPLY | (error ? VC_VFIO_USER_ERROR : 0);
	m.header.error = error;
	if (error)
		length = 0;
	if (m.header.command != s->fault_at || vfs_misbehave(s, s->fault, &m, &length))
		vfs_send(s->connection, &m, length, &fd, fd >= 0);
	/* the client's end of the twin socket */
	if (m.header.command == VC_VFIO_USER_VERSION && fd >= 0)
		close(fd);
}

/* ---- connections ---- */

static void drop(struct vfs *s)
{
	while (s->map_count)
		forget(s, 0);
	for (uint32_t kind = 0; kind < 3; kind++)
		for (uint32_t i = 0; i < VFS_VECTORS; i++)
			set_fd(s, kind, i, -1);
	if (s->own >= 0 && s->own != s->connection)
		close(s->own);
	if (s->connection >= 0)
		close(s->connection);
	s->own = s->connection = -1;
	s->masked = false;
}

static void serve_connection(struct vfs *s)
{
	struct vc_channel c = {s->connection, "the client"};
	struct vc_vfio_user_inbox in;

	if (vc_vfio_user_inbox_init(&in) < 0)
		vfs_die("no memory");
	s->own = s->connection;
	s->connections++;
	for (;;) {
		int r = vc_channel_wait(&c, s->wake, UINT64_MAX);

		if (r < 0 || r & 2 || vc_vfio_user_receive(&c, &in, vc_host_ns() + PATIENCE) < 0)
			break;
		serve_message(s, &in);
		vc_vfio_user_inbox_close_fds(&in);
	}
	vc_vfio_user_inbox_fini(&in);
	drop(s);
}

static void *run(void *ctx)
{
	struct vfs *s = ctx;

	while (!s->quit) {
		struct pollfd polls[] = {{s->listener, POLLIN, 0}, {s->wake, POLLIN, 0}};

		if (poll(polls, 2, -1) < 0 || polls[1].revents)
			continue;
		s->connection = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
		if (s->connection >= 0)
			serve_connection(s);
	}
	return NULL;
}

void vfs_init(struct vfs *s)
{
	static _Atomic unsigned number;

	memset(s, 0, sizeof *s);
	snprintf(s->path, sizeof s->path, "/tmp/vfio-user-%d-%u.sock", (int)getpid(), number++);
	unlink(s->path); /* of an earlier process of that number */
	s->connection = s->own = -1;
	memset(s->fds, 0xff, sizeof s->fds);
	s->twin = true;
}

static void begin(struct vfs *s)
{
	union vc_address address;

	if (vc_address_unix("test", s->path, &address) < 0)
		vfs_die("the path is too long");
	s->listener = vc_address_listen("test", &address, 4);
	s->wake = eventfd(0, EFD_CLOEXEC);
	s->bar2_fd = memfd_create("vfio-user-bar2", MFD_CLOEXEC | (s->unsealed ? 0 : MFD_ALLOW_SEALING));
	if (s->listener < 0 || s->wake < 0 || s->bar2_fd < 0 || ftruncate(s->bar2_fd, VFS_BAR2) < 0)
		vfs_die("no socket or file");
	s->bar2 = mmap(NULL, VFS_BAR2, PROT_READ | PROT_WRITE, MAP_SHARED, s->bar2_fd, 0);
	s->quit = false;
	s->registers[VFS_RESETS / 4] = UINT32_MAX;
	reset(s);
}

void vfs_start(struct vfs *s)
{
	begin(s);
	if (pthread_create(&s->thread, NULL, run, s))
		vfs_die("no thread");
}

void vfs_stop(struct vfs *s)
{
	const uint64_t one = 1;

	s->quit = true;
	if (write(s->wake, &one, sizeof one) < 0)
		vfs_die("no wake");
	pthread_join(s->thread, NULL);
	close(s->listener);
	close(s->wake);
	close(s->bar2_fd);
	munmap(s->bar2, VFS_BAR2);
	unlink(s->path);
}

void vfs_fini(struct vfs *s)
{
	unlink(s->path);
}

void vfs_serve(struct vfs *s)
{
	begin(s);
	run(s);
}
