/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fw_cfg: named and numbered blobs for firmware and test kernels (interface: QEMU docs/specs/fw_cfg.rst). A selector
 * port, a data port that gives one byte an access, and a DMA register pair.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "chipset/chipset.h"
#include "chipset/dev_state.h"

enum {
	PORT_SELECTOR = 0x510, /* and data at +1 */
	PORT_DMA = 0x514,      /* 64 bits, big-endian: high half first, writing the low half starts */

	KEY_SIGNATURE = 0x0000,
	KEY_ID = 0x0001,
	KEY_FILE_DIR = 0x0019,
	KEY_FILE_FIRST = 0x0020,
	KEY_MASK = 0xbfff,        /* bit 14 used to ask for the write channel, which is no more */
	KEY_NUMBER_MASK = 0x3fff, /* without bit 15, "architecture's own" */

	ID_TRADITIONAL = 1u << 0,
	ID_DMA = 1u << 1,

	DMA_ERROR = 1u << 0,
	DMA_READ = 1u << 1,
	DMA_SKIP = 1u << 2,
	DMA_SELECT = 1u << 3,
	DMA_WRITE = 1u << 4,

	MAX_FILES = 256,
	STATE_VERSION = 1,
};
static const char dma_signature[8] = "QEMU CFG";

struct item {
	uint16_t key;
	uint8_t *data; /* NULL: in fd */
	int fd;
	uint64_t start; /* in fd */
	size_t length;
	struct item *next;
};

/* The directory as the guest reads it; all big-endian. */
struct file {
	uint32_t size;
	uint16_t key, reserved;
	char name[56];
};
struct directory {
	uint32_t count;
	struct file files[MAX_FILES];
};

struct vc_fw_cfg {
	struct vc_env *env;
	pthread_mutex_t lock; /* protects all below */
	struct item *items;
	struct directory directory;
	unsigned file_count;
	uint16_t selected;
	uint64_t offset; /* in the selected item; may lie behind its end */
	uint64_t dma_address;
};

struct fw_cfg_state {
	uint32_t version;
	uint32_t selected;
	uint64_t offset, dma_address;
};

static struct item *find(struct vc_fw_cfg *fw, uint16_t key)
{
	struct item *item = fw->items;

	while (item && item->key != key)
		item = item->next;
	return item;
}

/* The item of that key, empty. NULL: no memory. */
static struct item *fresh_item(struct vc_fw_cfg *fw, uint16_t key)
{
	struct item *item = find(fw, key);

	if (!item) {
		item = calloc(1, sizeof *item);
		if (!item)
			return NULL;
		item->fd = -1;
		item->key = key;
		item->next = fw->items;
		fw->items = item;
	}
	free(item->data);
	if (item->fd >= 0)
		close(item->fd);
	item->data = NULL;
	item->fd = -1;
	item->length = 0;
	return item;
}

static int put_item(struct vc_fw_cfg *fw, uint16_t key, const void *data, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);
	struct item *item = copy ? fresh_item(fw, key) : NULL;

	if (!item) {
		free(copy);
		return vc_fail(ENOMEM, "no memory for fw_cfg item %#x of %zu bytes", key, length);
	}
	if (length)
		memcpy(copy, data, length);
	item->data = copy;
	item->length = length;
	return 0;
}

int vc_fw_cfg_add_fd(struct vc_fw_cfg *fw, uint16_t key, int fd, uint64_t start, uint32_t length)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct item *item;

	if (own < 0)
		return vc_fail_errno(errno, "fw_cfg item %#x: descriptor %d", key, fd);
	pthread_mutex_lock(&fw->lock);
	item = fresh_item(fw, key);
	if (item) {
		item->fd = own;
		item->start = start;
		item->length = length;
	}
	pthread_mutex_unlock(&fw->lock);
	if (item)
		return 0;
	close(own);
	return vc_fail(ENOMEM, "no memory for fw_cfg item %#x", key);
}

int vc_fw_cfg_add(struct vc_fw_cfg *fw, uint16_t key, const void *data, size_t length)
{
	unsigned number = key & KEY_NUMBER_MASK;
	int r;

	if (key & ~KEY_MASK || key == KEY_FILE_DIR ||
	    (!(key & ~KEY_NUMBER_MASK) && number >= KEY_FILE_FIRST && number < KEY_FILE_FIRST + MAX_FILES))
		return vc_fail(EINVAL, "fw_cfg key %#x is not free for an item of the machine's", key);
	if (length > UINT32_MAX)
		return vc_fail(E2BIG, "fw_cfg item %#x has %zu bytes, at most 4 GiB - 1 fit", key, length);
	pthread_mutex_lock(&fw->lock);
	r = put_item(fw, key, data, length);
	pthread_mutex_unlock(&fw->lock);
	return r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

/* A new file's entry at the end, or the one of that name. Firmware searches the directory; sorted, it is the same in
 * every run. */
static struct file *file_named(struct vc_fw_cfg *fw, const char *name)
{
	struct file *file;

	for (unsigned i = 0; i < fw->file_count; i++) {
		if (!strcmp(fw->directory.files[i].name, name))
			return &fw->directory.files[i];
	}
	file = &fw->directory.files[fw->file_count];
	memset(file, 0, sizeof *file);
	file->key = htobe16((uint16_t)(KEY_FILE_FIRST + fw->file_count));
	memcpy(file->name, name, strlen(name) + 1);
	return file;
}

static int put_file(struct vc_fw_cfg *fw, const char *name, const void *data, size_t length)
{
	struct file *file;
	int r;

	if (fw->file_count == MAX_FILES)
		return vc_fail(ENOSPC, "fw_cfg has no room for file '%s': it holds %u", name, fw->file_count);
	file = file_named(fw, name);
	r = put_item(fw, be16toh(file->key), data, length);
	if (r)
		return r;
	file->size = htobe32((uint32_t)length);
	if (file == &fw->directory.files[fw->file_count])
		fw->file_count++;
	fw->directory.count = htobe32(fw->file_count);
	qsort(fw->directory.files, fw->file_count, sizeof *file, compare_names);
	return put_item(fw, KEY_FILE_DIR, &fw->directory, sizeof fw->directory.count + fw->file_count * sizeof *file);
}

int vc_fw_cfg_add_file(struct vc_fw_cfg *fw, const char *name, const void *data, size_t length)
{
	size_t name_length = strlen(name);
	int r;

	if (!name_length || name_length >= sizeof fw->directory.files[0].name)
		return vc_fail(EINVAL, "fw_cfg file name '%s' has %zu characters, expected 1 to 55", name, name_length);
	if (length > UINT32_MAX)
		return vc_fail(E2BIG, "fw_cfg file '%s' has %zu bytes, at most 4 GiB - 1 fit", name, length);
	pthread_mutex_lock(&fw->lock);
	r = put_file(fw, name, data, length);
	pthread_mutex_unlock(&fw->lock);
	return r;
}

static void select_key(struct vc_fw_cfg *fw, uint16_t key)
{
	fw->selected = key & KEY_MASK;
	fw->offset = 0;
}

/* Bytes of an item. What a file has no more reads as zeros: it may shrink behind our back. */
static void item_read(const struct item *item, uint64_t offset, uint8_t *buffer, uint32_t length)
{
	uint32_t done = 0;

	if (item->data) {
		memcpy(buffer, item->data + offset, length);
		return;
	}
	while (done < length) {
		ssize_t n = pread(item->fd, buffer + done, length - done, (off_t)(item->start + offset + done));

		if (n <= 0)
			break;
		done += (uint32_t)n;
	}
	memset(buffer + done, 0, length - done);
}

/* Move on by `length`. *available: how many of these bytes the returned item has from *offset on; behind its end, or in
 * no item, all reads as zeros. */
static const struct item *advance(struct vc_fw_cfg *fw, uint32_t length, uint64_t *offset, uint32_t *available)
{
	const struct item *item = find(fw, fw->selected);

	*offset = fw->offset;
	*available = 0;
	fw->offset = *offset + length < *offset ? UINT64_MAX : *offset + length;
	if (item && *offset < item->length)
		*available = item->length - *offset < length ? (uint32_t)(item->length - *offset) : length;
	return item;
}

static uint8_t read_byte(struct vc_fw_cfg *fw)
{
	uint8_t byte = 0;
	uint32_t available;
	uint64_t offset;
	const struct item *item = advance(fw, 1, &offset, &available);

	if (available)
		item_read(item, offset, &byte, 1);
	return byte;
}

static int dma_read(struct vc_fw_cfg *fw, uint64_t gpa, uint32_t length)
{
	uint8_t buffer[VC_PAGE_SIZE];
	uint32_t available;
	uint64_t offset;
	const struct item *item = advance(fw, length, &offset, &available);
	int r = 0;

	length -= available;
	while (!r && available) {
		uint32_t piece = available < sizeof buffer ? available : (uint32_t)sizeof buffer;

		item_read(item, offset, buffer, piece);
		r = vc_mem_write(fw->env->mem, gpa, buffer, piece);
		gpa += piece;
		offset += piece;
		available -= piece;
	}
	return r || !length ? r : vc_mem_fill(fw->env->mem, gpa, 0, length);
}

/*
 * FWCfgDmaAccess at the address written: u32 control, u32 length, u64 address, big-endian. Control becomes 0, or the
 * error bit. False: the request itself is not in memory.
 */
static bool dma_run(struct vc_fw_cfg *fw)
{
	const uint64_t at = fw->dma_address;
	uint32_t available, control, length, result = 0;
	uint8_t request[16];
	uint64_t gpa, offset;

	fw->dma_address = 0;
	if (vc_mem_read(fw->env->mem, at, request, sizeof request))
		return false;
	control = be32toh(vc_ld32(request));
	length = be32toh(vc_ld32(request + 4));
	gpa = be64toh(vc_ld64(request + 8));
	if (control & DMA_SELECT)
		select_key(fw, (uint16_t)(control >> 16));
	if (control & DMA_READ)
		result = dma_read(fw, gpa, length) ? DMA_ERROR : 0;
	else if (control & DMA_WRITE)
		result = DMA_ERROR; /* none of the items is writable */
	else if (control & DMA_SKIP)
		advance(fw, length, &offset, &available);
	result = htobe32(result);
	return !vc_mem_write(fw->env->mem, at, &result, sizeof result);
}

/* As dma_run(), if this write starts one. */
static bool dma_write_register(struct vc_fw_cfg *fw, const struct vcore_io *io)
{
	unsigned offset = (unsigned)(io->address - PORT_DMA);
	uint32_t value = be32toh((uint32_t)io->data);

	if (io->width == 8 && offset == 0) {
		fw->dma_address = be64toh(io->data);
		return dma_run(fw);
	}
	if (io->width == 4 && offset == 0)
		fw->dma_address = (uint64_t)value << 32;
	if (io->width == 4 && offset == 4) {
		fw->dma_address |= value;
		return dma_run(fw);
	}
	return true;
}

static void fw_cfg_read(void *ctx, struct vcore_io *io)
{
	struct vc_fw_cfg *fw = ctx;
	unsigned offset = (unsigned)(io->address - PORT_DMA);

	io->data = vc_width_mask(io->width);
	if (io->address >= PORT_DMA) {
		io->data = 0;
		memcpy(&io->data, dma_signature + offset, io->width <= 8 - offset ? io->width : 8 - offset);
	} else if (io->address == PORT_SELECTOR + 1 && io->width == 1) {
		pthread_mutex_lock(&fw->lock);
		io->data = read_byte(fw);
		pthread_mutex_unlock(&fw->lock);
	}
}

static void fw_cfg_write(void *ctx, struct vcore_io *io)
{
	struct vc_fw_cfg *fw = ctx;
	bool answered = true;

	pthread_mutex_lock(&fw->lock);
	if (io->address >= PORT_DMA)
		answered = dma_write_register(fw, io);
	else if (io->address == PORT_SELECTOR && io->width == 2)
		select_key(fw, (uint16_t)io->data);
	pthread_mutex_unlock(&fw->lock);
	if (!answered)
		vc_log(fw->env->log, VCORE_LOG_WARN, "fw_cfg: the guest's DMA request is not in memory");
}

static void fw_cfg_reset(void *ctx)
{
	struct vc_fw_cfg *fw = ctx;

	pthread_mutex_lock(&fw->lock);
	select_key(fw, KEY_SIGNATURE);
	fw->dma_address = 0;
	pthread_mutex_unlock(&fw->lock);
}

static int64_t fw_cfg_save(void *ctx, void *buffer, size_t length)
{
	struct vc_fw_cfg *fw = ctx;
	struct fw_cfg_state state = {.version = STATE_VERSION};

	pthread_mutex_lock(&fw->lock);
	state.selected = fw->selected;
	state.offset = fw->offset;
	state.dma_address = fw->dma_address;
	pthread_mutex_unlock(&fw->lock);
	return vc_dev_state_out(buffer, length, &state, sizeof state);
}

static int fw_cfg_load(void *ctx, const void *buffer, size_t length)
{
	struct vc_fw_cfg *fw = ctx;
	struct fw_cfg_state state;
	int r = vc_dev_state_in("fw-cfg", STATE_VERSION, &state, sizeof state, buffer, length);

	if (r)
		return r;
	if (state.selected & ~(uint32_t)KEY_MASK)
		return vc_fail(EINVAL, "the saved state of a fw-cfg selects key %#x, which cannot be", state.selected);
	pthread_mutex_lock(&fw->lock);
	fw->selected = (uint16_t)state.selected;
	fw->offset = state.offset;
	fw->dma_address = state.dma_address;
	pthread_mutex_unlock(&fw->lock);
	return 0;
}

static void fw_cfg_destroy(void *ctx)
{
	struct vc_fw_cfg *fw = ctx;

	for (struct item *item = fw->items, *next; item; item = next) {
		next = item->next;
		free(item->data);
		if (item->fd >= 0)
			close(item->fd);
		free(item);
	}
	pthread_mutex_destroy(&fw->lock);
	vc_pages_free(fw, sizeof *fw);
}

static const struct vcore_device_ops fw_cfg_ops = {
    .size = sizeof fw_cfg_ops,
    .read = fw_cfg_read,
    .write = fw_cfg_write,
    .reset = fw_cfg_reset,
    .save = fw_cfg_save,
    .load = fw_cfg_load,
    .destroy = fw_cfg_destroy,
};

static int add_own_items(struct vc_fw_cfg *fw)
{
	const uint32_t id = ID_TRADITIONAL | ID_DMA; /* little-endian, unlike the rest */
	int r = put_item(fw, KEY_SIGNATURE, "QEMU", 4);

	if (!r)
		r = put_item(fw, KEY_ID, &id, sizeof id);
	if (!r)
		r = put_item(fw, KEY_FILE_DIR, &fw->directory, sizeof fw->directory.count);
	return r;
}

int vc_fw_cfg_new(struct vc_env *env, struct vc_fw_cfg **out)
{
	struct vc_fw_cfg *fw = vc_pages_new(sizeof *fw);
	struct vc_dev *dev;
	int r;

	if (!fw)
		return vc_fail(ENOMEM, "no memory for fw_cfg");
	fw->env = env;
	pthread_mutex_init(&fw->lock, NULL);
	r = vc_dev_add(env->buses, "fw-cfg", &fw_cfg_ops, fw, &dev);
	if (r)
		return r; /* fw has been destroyed */
	r = add_own_items(fw);
	if (!r)
		r = vc_dev_add_region(env->buses, NULL, dev, VCORE_BUS_PIO, PORT_SELECTOR, 2);
	if (!r)
		r = vc_dev_add_region(env->buses, NULL, dev, VCORE_BUS_PIO, PORT_DMA, 8);
	if (r) {
		vc_dev_remove(env->buses, NULL, dev);
		return r;
	}
	*out = fw;
	return 0;
}
