/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Booting: from the program's paths to a loaded guest with its memory map, ACPI tables and fw_cfg. */
#include <virtcore/boot.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bus/iommu.h"
#include "vm/vm.h"

#define IMAGE_MAX        VC_GIB(1)
#define RSDP_GPA         0xe0000u
#define TABLES_GPA       0xe1000u
#define TABLES_MAX       0x10000u
#define MEMORY_MAX       32u
#define EBDA_START       0x9fc00u
#define BDA_COM1         0x400u
#define BDA_EBDA_SEGMENT 0x40eu
#define BDA_BASE_MEMORY  0x413u
#define MODULES_MAX      VC_ARRAY_SIZE(((struct vc_boot_input *)0)->modules)

/* fw_cfg's well-known keys, as QEMU's documentation names them. */
enum fw_key {
	FW_RAM_SIZE = 0x03,
	FW_NB_CPUS = 0x05,
	FW_KERNEL_SIZE = 0x08,
	FW_INITRD_SIZE = 0x0b,
	FW_MAX_CPUS = 0x0f,
	FW_KERNEL_DATA = 0x11,
	FW_INITRD_DATA = 0x12,
	FW_CMDLINE_SIZE = 0x14,
	FW_CMDLINE_DATA = 0x15,
	FW_SETUP_SIZE = 0x17,
	FW_SETUP_DATA = 0x18,
};

/* Paths of the last boot, so that a reset can repeat it. */
struct vc_boot_record {
	struct vcore_boot_options options;
	uint32_t module_count;
};

/* Files of one boot, read into memory. */
struct files {
	uint8_t *data[2 + MODULES_MAX];
	uint32_t count;
};

static void files_free(struct files *files)
{
	for (uint32_t i = 0; i < files->count; i++)
		free(files->data[i]);
	files->count = 0;
}

static int files_read(struct files *files, const char *path, const uint8_t **data, uint64_t *length)
{
	uint8_t *bytes;
	int r = vc_read_file(path, IMAGE_MAX, &bytes, length);

	if (r < 0)
		return r;
	files->data[files->count++] = bytes;
	*data = bytes;
	return 0;
}

/* "path arguments": the file's name ends at the first space. */
static int read_module(struct files *files, const char *text, struct vc_boot_input *in)
{
	uint32_t n = in->module_count;
	char *path;
	int r;

	if (n == MODULES_MAX)
		return vc_fail(E2BIG, "boot: more than %zu modules", MODULES_MAX);
	path = strndup(text, strcspn(text, " "));
	if (!path)
		return vc_fail(ENOMEM, "no memory for a module's path");
	r = files_read(files, path, &in->modules[n].data, &in->modules[n].length);
	free(path);
	in->modules[n].string = text;
	in->module_count += r >= 0;
	return r;
}

static int gather(const struct vcore_boot_options *o, struct files *files, struct vc_boot_input *in)
{
	int r = 0;

	in->cmdline = o->cmdline ? o->cmdline : "";
	in->address = o->address;
	if (o->kernel_data) {
		in->kernel = o->kernel_data;
		in->kernel_length = o->kernel_length;
	} else if (o->kernel) {
		r = files_read(files, o->kernel, &in->kernel, &in->kernel_length);
	} else {
		r = vc_fail(EINVAL, "boot: no kernel given");
	}
	if (r >= 0 && o->initrd_data) {
		in->initrd = o->initrd_data;
		in->initrd_length = o->initrd_length;
	} else if (r >= 0 && o->initrd) {
		r = files_read(files, o->initrd, &in->initrd, &in->initrd_length);
	}
	for (const char *const *m = o->modules; r >= 0 && m && *m; m++)
		r = read_module(files, *m, in);
	return r;
}

/* ---- what the guest is told of its machine ---- */

static uint32_t make_e820(struct vcore_vm *vm, struct vc_e820 map[8])
{
	uint32_t n = 0;
	uint64_t low = vm->ram_low;

	map[n++] = (struct vc_e820){0, low < EBDA_START ? low : EBDA_START, 1};
	if (low > EBDA_START)
		map[n++] = (struct vc_e820){EBDA_START, 0xa0000 - EBDA_START, 2};
	if (low > 0x100000) {
		map[n++] = (struct vc_e820){0xe0000, 0x20000, 2};
		map[n++] = (struct vc_e820){0x100000, low - 0x100000, 1};
	}
	if (vm->ram_high)
		map[n++] = (struct vc_e820){VC_GIB(4), vm->ram_high, 1};
	if (vm->bvm.env.pci)
		map[n++] = (struct vc_e820){VC_PCI_ECAM_BASE, VC_PCI_ECAM_SIZE, 2};
	return n;
}

/* The words of the BIOS data area that kernels read: COM1, the extended BIOS data area's segment, KiB of base memory;
 * and the latter's size in KiB. */
static int write_bios_data(struct vcore_vm *vm)
{
	const uint16_t com1 = 0x3f8, ebda = EBDA_START >> 4, base = EBDA_START >> 10;
	const uint8_t ebda_size = 1;
	int r = vc_mem_write(&vm->mem, BDA_COM1, &com1, sizeof com1);

	if (r >= 0)
		r = vc_mem_write(&vm->mem, BDA_EBDA_SEGMENT, &ebda, sizeof ebda);
	if (r >= 0)
		r = vc_mem_write(&vm->mem, BDA_BASE_MEMORY, &base, sizeof base);
	return r < 0 ? r : vc_mem_write(&vm->mem, EBDA_START, &ebda_size, sizeof ebda_size);
}

static bool has_device(struct vcore_vm *vm, const char *type)
{
	bool found = false;

	pthread_mutex_lock(&vm->buses.lock);
	for (const struct vc_dev *d = vm->buses.devices; d; d = d->next)
		found |= !strcmp(d->type, type);
	pthread_mutex_unlock(&vm->buses.lock);
	return found;
}

/* Devices that only ACPI can tell of; _UIDs count. */
static uint32_t list_devices(struct vcore_vm *vm, struct vc_acpi_device list[VC_GSI_COUNT])
{
	uint32_t count = 0;

	pthread_mutex_lock(&vm->buses.lock);
	for (const struct vc_dev *d = vm->buses.devices; d && count < VC_GSI_COUNT; d = d->next) {
		if (!d->hid || d->removing)
			continue;
		list[count] = (struct vc_acpi_device){.hid = d->hid,
		                                      .uid = count,
		                                      .base = d->base,
		                                      .length = d->length,
		                                      .gsi = d->gsi,
		                                      .io = d->bus == VCORE_BUS_PIO};
		count++;
	}
	pthread_mutex_unlock(&vm->buses.lock);
	return count;
}

/* RAM, and what may come beside it; as much as there is room for. */
static uint32_t list_memory(struct vcore_vm *vm, struct vc_acpi_memory list[MEMORY_MAX])
{
	uint32_t count = 0;

	list[count++] = (struct vc_acpi_memory){.length = vm->ram_low};
	if (vm->ram_high)
		list[count++] = (struct vc_acpi_memory){.start = VC_GIB(4), .length = vm->ram_high};
	vc_mem_rdlock(&vm->mem);
	for (const struct vc_mem_range *range = vm->mem.ranges; range && count < MEMORY_MAX; range = range->next)
		if (range->hotplug)
			list[count++] = (struct vc_acpi_memory){range->gpa, range->length, true};
	vc_mem_unlock(&vm->mem);
	return count;
}

/* The guest finds it at a place on bus 0, as a table says. */
static void tell_iommu(struct vcore_vm *vm, struct vc_acpi_config *config)
{
	struct vc_iommu *iommu = vm->bvm.env.pci ? vc_pci_iommu(vm->bvm.env.pci) : NULL;
	struct vc_pci_function *f = iommu ? vc_iommu_function(iommu) : NULL;

	config->has_iommu = f != NULL;
	config->iommu_devfn = f ? (uint16_t)vc_pci_requester(f) : 0;
}

static int write_acpi(struct vcore_vm *vm, uint64_t *rsdp_gpa)
{
	struct vc_acpi_device devices[VC_GSI_COUNT];
	struct vc_acpi_memory memory[MEMORY_MAX];
	bool absent[VC_MAX_VCPUS];
	struct vc_acpi_config config = {
	    .vcpus = vm->bvm.vcpus,
	    .absent = absent,
	    .has_cpu_hotplug = vm->cpu_hotplug != NULL,
	    .reduced = vm->no_legacy,
	    .has_8259 = !vm->no_legacy,
	    .has_hpet = vm->has_hpet,
	    .has_i8042 = !vm->no_legacy,
	    .has_rtc = !vm->no_legacy,
	    .has_uart = has_device(vm, "uart"),
	    .has_pci = vm->bvm.env.pci != NULL,
	    .pci_window64 = vm->bvm.env.pci ? vc_pci_window64(vm->bvm.env.pci) : (struct vc_pci_window){0},
	    .rsdp_gpa = RSDP_GPA,
	    .tables_gpa = TABLES_GPA,
	    .devices = devices,
	    .device_count = list_devices(vm, devices),
	    .has_vmgenid = vm->vmgenid != NULL,
	    .memory = memory,
	    .memory_count = list_memory(vm, memory),
	};
	uint8_t rsdp[36], *tables = malloc(TABLES_MAX);
	int64_t length;
	int r;

	if (!tables)
		return vc_fail(ENOMEM, "no memory for the ACPI tables");
	for (uint32_t i = 0; i < vm->bvm.vcpus; i++)
		absent[i] = !atomic_load(&vm->vcpus[i].present);
	tell_iommu(vm, &config);
	length = vc_acpi_build(&config, tables, TABLES_MAX, rsdp);
	r = length < 0 ? (int)length : vc_mem_write(&vm->mem, TABLES_GPA, tables, (uint64_t)length);
	if (r >= 0)
		r = vc_mem_write(&vm->mem, RSDP_GPA, rsdp, sizeof rsdp);
	if (r >= 0 && vm->vmgenid)
		r = vc_vmgenid_write(vm->vmgenid);
	if (r >= 0)
		r = vc_fw_cfg_add_file(vm->fw_cfg, "etc/acpi/rsdp", rsdp, sizeof rsdp);
	if (r >= 0)
		r = vc_fw_cfg_add_file(vm->fw_cfg, "etc/acpi/tables", tables, (size_t)length);
	free(tables);
	*rsdp_gpa = RSDP_GPA;
	return r;
}

static int add_u32(struct vc_fw_cfg *fw, uint16_t key, uint32_t value)
{
	return vc_fw_cfg_add(fw, key, &value, sizeof value);
}

static int add_e820_file(struct vc_fw_cfg *fw, const struct vc_boot_input *in)
{
	uint8_t table[8 * 20];

	for (uint32_t i = 0; i < in->e820_count; i++) {
		vc_st64(table + i * 20, in->e820[i].start);
		vc_st64(table + i * 20 + 8, in->e820[i].length);
		vc_st32(table + i * 20 + 16, in->e820[i].type);
	}
	return vc_fw_cfg_add_file(fw, "etc/e820", table, in->e820_count * 20);
}

/* A piece of a file, which stays there, or of memory, which is copied. */
static int add_piece(struct vc_fw_cfg *fw, enum fw_key size_key, enum fw_key data_key, const char *path,
                     const uint8_t *data, uint64_t start, uint64_t length)
{
	int fd, r = add_u32(fw, size_key, (uint32_t)length);

	if (r < 0 || !length)
		return r;
	if (!path)
		return vc_fw_cfg_add(fw, data_key, data + start, length);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vc_fail_errno(errno, "cannot open '%s'", path);
	r = vc_fw_cfg_add_fd(fw, data_key, fd, start, (uint32_t)length);
	close(fd);
	return r;
}

/* Firmware takes a bzImage in two parts: the real-mode setup, and the rest. */
static uint64_t setup_length(const struct vc_boot_input *in)
{
	uint64_t sectors;

	if (in->kernel_length < 0x206 || vc_ld32(in->kernel + 0x202) != 0x53726448) /* "HdrS" */
		return 0;
	sectors = in->kernel[0x1f1] ? in->kernel[0x1f1] : 4;
	return (sectors + 1) * 512 < in->kernel_length ? (sectors + 1) * 512 : in->kernel_length;
}

static int add_images(struct vc_fw_cfg *fw, const struct vcore_boot_options *o, const struct vc_boot_input *in)
{
	const char *kernel = o->kernel_data ? NULL : o->kernel, *initrd = o->initrd_data ? NULL : o->initrd;
	uint64_t setup = setup_length(in);
	int r = add_piece(fw, FW_SETUP_SIZE, FW_SETUP_DATA, kernel, in->kernel, 0, setup);

	if (r >= 0)
		r = add_piece(fw, FW_KERNEL_SIZE, FW_KERNEL_DATA, kernel, in->kernel, setup, in->kernel_length - setup);
	if (r >= 0)
		r = add_piece(fw, FW_INITRD_SIZE, FW_INITRD_DATA, initrd, in->initrd, 0, in->initrd_length);
	return r;
}

static int fill_fw_cfg(struct vcore_vm *vm, const struct vcore_boot_options *o, const struct vc_boot_input *in)
{
	struct vc_fw_cfg *fw = vm->fw_cfg;
	uint64_t ram = vm->ram_low + vm->ram_high;
	uint16_t cpus = (uint16_t)vc_vm_present(vm), most = (uint16_t)vm->bvm.vcpus;
	int r = vc_fw_cfg_add(fw, FW_RAM_SIZE, &ram, sizeof ram);

	if (r >= 0)
		r = vc_fw_cfg_add(fw, FW_NB_CPUS, &cpus, sizeof cpus);
	if (r >= 0)
		r = vc_fw_cfg_add(fw, FW_MAX_CPUS, &most, sizeof most);
	if (r >= 0)
		r = add_images(fw, o, in);
	if (r >= 0)
		r = add_u32(fw, FW_CMDLINE_SIZE, (uint32_t)strlen(in->cmdline) + 1);
	if (r >= 0)
		r = vc_fw_cfg_add(fw, FW_CMDLINE_DATA, in->cmdline, strlen(in->cmdline) + 1);
	return r < 0 ? r : add_e820_file(fw, in);
}

/* ---- loading ---- */

static int load(struct vcore_vm *vm, const struct vcore_boot_options *o, struct vc_boot_input *in)
{
	struct vc_cpu_state *state;
	struct vc_e820 map[8];
	int r = 0;

	in->ram_low = vm->ram_low;
	in->ram_high = vm->ram_high;
	in->e820 = map;
	in->e820_count = make_e820(vm, map);
	if (vm->machine->has_chipset && vm->ram_low >= VC_MIB(1)) {
		r = write_bios_data(vm);
		if (r >= 0)
			r = write_acpi(vm, &in->rsdp_gpa);
		if (r >= 0)
			r = fill_fw_cfg(vm, o, in);
	}
	if (r < 0)
		return r;
	state = malloc(sizeof *state);
	if (!state)
		return vc_fail(ENOMEM, "no memory for a vcpu's state");
	vc_cpu_state_reset(state, true);
	r = vc_load(&vm->mem, o->image, in, state);
	if (r >= 0)
		r = vc_vcpu_put_state(&vm->vcpus[0], state);
	free(state);
	return r;
}

static int boot(struct vcore_vm *vm, const struct vcore_boot_options *o)
{
	struct vc_boot_input in = {0};
	struct files files = {0};
	int r = gather(o, &files, &in);

	if (r >= 0)
		r = load(vm, o, &in);
	files_free(&files);
	return r;
}

/* ---- the record for reset ---- */

void vc_boot_forget(struct vcore_vm *vm)
{
	struct vc_boot_record *record = vm->boot;
	struct vcore_boot_options *o;

	if (!record)
		return;
	o = &record->options;
	for (uint32_t i = 0; i < record->module_count; i++)
		free((char *)(uintptr_t)o->modules[i]);
	free((void *)(uintptr_t)o->modules);
	free((char *)(uintptr_t)o->kernel);
	free((char *)(uintptr_t)o->initrd);
	free((char *)(uintptr_t)o->cmdline);
	free(record);
	vm->boot = NULL;
}

static bool copy_string(const char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

static int remember(struct vcore_vm *vm, const struct vcore_boot_options *o)
{
	struct vc_boot_record *record;
	const char **modules;
	uint32_t n = 0;
	bool ok;

	vc_boot_forget(vm);
	if (o->kernel_data || o->initrd_data)
		return 0;
	record = calloc(1, sizeof *record);
	modules = calloc(MODULES_MAX + 1, sizeof *modules);
	if (!record || !modules) {
		free(record);
		free(modules);
		return vc_fail(ENOMEM, "no memory for the boot options");
	}
	record->options = *o;
	record->options.modules = modules;
	vm->boot = record;
	ok = copy_string(&record->options.kernel, o->kernel);
	ok &= copy_string(&record->options.initrd, o->initrd);
	ok &= copy_string(&record->options.cmdline, o->cmdline);
	while (ok && o->modules && o->modules[n] && n < MODULES_MAX) {
		ok = copy_string(&modules[n], o->modules[n]);
		record->module_count = ++n;
	}
	if (ok)
		return 0;
	vc_boot_forget(vm);
	return vc_fail(ENOMEM, "no memory for the boot options");
}

int vc_boot_again(struct vcore_vm *vm)
{
	return vm->boot ? boot(vm, &vm->boot->options) : 0;
}

int vcore_boot(vcore_vm *vm, const struct vcore_boot_options *options)
{
	struct vcore_boot_options o;
	int r;

	if (!vm || vc_struct_in(&o, sizeof o, options) < 0)
		return vc_fail(EINVAL, "vcore_boot: a vm and options with their size set are needed");
	if (o.image > VCORE_IMAGE_FLAT)
		return vc_fail(EINVAL, "vcore_boot: image is %u: expected 0 to %u", o.image, VCORE_IMAGE_FLAT);
	r = vc_vm_claim(vm, "vcore_boot");
	if (r < 0)
		return r;
	r = boot(vm, &o);
	if (r >= 0)
		r = remember(vm, &o);
	atomic_store(&vm->booted, r >= 0);
	vc_vm_release(vm);
	return r;
}

int vcore_boot_linux(vcore_vm *vm, const char *kernel, const char *initrd, const char *cmdline)
{
	struct vcore_boot_options o = {.size = sizeof o, .kernel = kernel, .initrd = initrd, .cmdline = cmdline};

	return vcore_boot(vm, &o);
}
