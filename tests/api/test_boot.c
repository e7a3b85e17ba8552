/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Booting through the API: flat, ELF, Multiboot; from memory and from files; damaged images; reset boots again. */
#include "api.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* mov al, 0x2a; out 0xf4, al; hlt: means the same in every mode */
static const uint8_t say_42[] = {0xb0, 0x2a, 0xe6, 0xf4, 0xf4};

static vcore_vm *machine(int backend)
{
	vcore_vm *vm = api_microvm(backend, VCORE_IRQCHIP_AUTO, 1);

	OK(vcore_device_add(vm, "debug-exit", NULL, NULL));
	return vm;
}

static uint32_t ends_with(vcore_vm *vm)
{
	struct vcore_exit exit = {.size = sizeof exit};

	OK(vcore_vm_start(vm));
	OK(vcore_vm_wait(vm, LONG, &exit));
	ck_assert_msg(exit.reason == VCORE_EXIT_DEBUG_EXIT, "exit %s: %s", vcore_exit_name(exit.reason), exit.message);
	return exit.code;
}

static struct vcore_boot_options image_at(const void *data, size_t length)
{
	return (struct vcore_boot_options){
	    .size = sizeof(struct vcore_boot_options), .kernel_data = data, .kernel_length = length};
}

/* ---- images ---- */

/* The same image in both classes, which differ in the widths of the fields. */
#define MAKE_ELF(name, bits, class, machine)                                           \
	static size_t name(uint8_t *out)                                                   \
	{                                                                                  \
		Elf##bits##_Ehdr e = {.e_ident = {0x7f, 'E', 'L', 'F', class, ELFDATA2LSB, 1}, \
		                      .e_type = ET_EXEC,                                       \
		                      .e_machine = machine,                                    \
		                      .e_version = 1,                                          \
		                      .e_entry = 0x100000,                                     \
		                      .e_phoff = sizeof e,                                     \
		                      .e_ehsize = sizeof e,                                    \
		                      .e_phentsize = sizeof(Elf##bits##_Phdr),                 \
		                      .e_phnum = 1};                                           \
		Elf##bits##_Phdr p = {.p_type = PT_LOAD,                                       \
		                      .p_flags = 7,                                            \
		                      .p_offset = 0x100,                                       \
		                      .p_vaddr = 0x100000,                                     \
		                      .p_paddr = 0x100000,                                     \
		                      .p_filesz = sizeof say_42,                               \
		                      .p_memsz = 0x1000};                                      \
                                                                                       \
		memcpy(out, &e, sizeof e);                                                     \
		memcpy(out + sizeof e, &p, sizeof p);                                          \
		memcpy(out + 0x100, say_42, sizeof say_42);                                    \
		return 0x100 + sizeof say_42;                                                  \
	}

MAKE_ELF(make_elf64, 64, ELFCLASS64, EM_X86_64)
MAKE_ELF(make_elf32, 32, ELFCLASS32, EM_386)

/* Says 42 if EAX is Multiboot's magic, else the low byte of EAX. */
static size_t make_multiboot(uint8_t *out)
{
	static const uint8_t code[] = {0x3d, 0x02, 0xb0, 0xad, 0x2b, /* cmp eax, 0x2badb002 */
	                               0x75, 0x02,                   /* jne +2 */
	                               0xb0, 0x2a, 0xe6, 0xf4, 0xf4};
	const uint32_t header[] = {0x1badb002, 1u << 16, -(0x1badb002u + (1u << 16)), 0x100000, 0x100000, 0, 0, 0x100020};

	memcpy(out, header, sizeof header);
	memcpy(out + 0x20, code, sizeof code);
	return 0x20 + sizeof code;
}

static const struct {
	const char *name;
	size_t (*make)(uint8_t *out);
	uint32_t image;
} images[] = {{"ELF64", make_elf64, VCORE_IMAGE_ELF},
              {"ELF32", make_elf32, VCORE_IMAGE_ELF},
              {"Multiboot", make_multiboot, VCORE_IMAGE_MULTIBOOT}};
#define IMAGES (sizeof images / sizeof images[0])

START_TEST(flat)
{
	struct vcore_boot_options o = image_at(say_42, sizeof say_42);
	vcore_vm *vm = machine(_i);

	REFUSED(vcore_boot(vm, &o), EINVAL, ""); /* never told by its bytes */
	o.image = VCORE_IMAGE_FLAT;
	o.address = 0x100000;
	REFUSED(vcore_boot(vm, &o), EINVAL, "0x100000");
	o.address = 0x7c00;
	OK(vcore_boot(vm, &o));
	ck_assert_uint_eq(ends_with(vm), 42);
	/* booted from memory: it is gone with a reset */
	OK(vcore_vm_reset(vm));
	ck_assert_uint_eq(api_rip(vm), 0xfff0);
	OK(vcore_boot(vm, &o));
	ck_assert_uint_eq(api_rip(vm), 0x7c00);
	ck_assert_uint_eq(ends_with(vm), 42);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(told_by_their_bytes)
{
	uint8_t bytes[0x200];

	for (size_t i = 0; i < IMAGES; i++) {
		vcore_vm *vm = machine(_i);
		struct vcore_boot_options o;

		memset(bytes, 0, sizeof bytes);
		o = image_at(bytes, images[i].make(bytes));
		for (int named = 0; named < 2; named++) {
			o.image = named ? images[i].image : VCORE_IMAGE_AUTO;
			o.cmdline = "one two";
			OK(vcore_boot(vm, &o));
			ck_assert_uint_eq(ends_with(vm), 42);
			OK(vcore_vm_reset(vm));
		}
		vcore_vm_unref(vm);
	}
}
END_TEST

static void write_file(const char *path, const void *data, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, length), (ssize_t)length);
	close(fd);
}

START_TEST(reset_boots_files_again)
{
	char path[] = "/tmp/virtcore-boot-XXXXXX";
	uint8_t bytes[0x200] = {0};
	size_t length = make_elf64(bytes);
	struct vcore_boot_options o = {.size = sizeof o, .kernel = path, .cmdline = "x"};
	vcore_vm *vm = machine(_i);
	int fd = mkstemp(path);

	close(fd);
	write_file(path, bytes, length);
	OK(vcore_boot(vm, &o));
	o.kernel = NULL; /* was copied */
	ck_assert_uint_eq(ends_with(vm), 42);
	/* the guest may have destroyed it meanwhile, and the file may be another */
	OK(vcore_memory_write(vm, 0x100000, "\xf4\xf4\xf4", 3));
	bytes[0x101] = 0x2b;
	write_file(path, bytes, length);
	OK(vcore_vm_reset(vm));
	ck_assert_uint_eq(ends_with(vm), 43);
	/* while paused, too */
	OK(vcore_vm_reset(vm));
	OK(vcore_memory_write(vm, 0x100000, "\xeb\xfe", 2));
	OK(vcore_vm_start(vm));
	OK(vcore_vm_pause(vm));
	OK(vcore_vm_reset(vm));
	OK(vcore_vm_resume(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	/* a file that is gone is the reset's error; the vm can be booted anew */
	unlink(path);
	REFUSED(vcore_vm_reset(vm), ENOENT, path);
	o = image_at(bytes, length);
	OK(vcore_boot(vm, &o));
	ck_assert_uint_eq(ends_with(vm), 43);
	vcore_vm_unref(vm);
}
END_TEST

/* Every prefix of an image, and every byte of its headers changed: a sentence or a vm, never a crash. */
START_TEST(damaged)
{
	uint8_t good[0x200], bytes[0x200];
	vcore_vm *vm = machine(_i);
	unsigned refused = 0;

	for (size_t i = 0; i < IMAGES; i++) {
		size_t length;

		memset(good, 0, sizeof good);
		length = images[i].make(good);
		for (size_t n = 0; n < length; n++) {
			struct vcore_boot_options o = image_at(good, n);

			refused += vcore_boot(vm, &o) < 0;
		}
		for (size_t n = 0; n < 0x80; n++) {
			struct vcore_boot_options o = image_at(bytes, length);
			int r;

			memcpy(bytes, good, sizeof bytes);
			bytes[n] ^= 0xff;
			r = vcore_boot(vm, &o);
			refused += r < 0;
			ck_assert(r >= 0 || strlen(vcore_error_message()) > 10);
		}
	}
	ck_assert_uint_gt(refused, 300);
	vcore_vm_unref(vm);
}
END_TEST

START_TEST(refusals)
{
	uint8_t bytes[0x200] = {0};
	struct vcore_boot_options o = image_at(bytes, make_elf64(bytes));
	vcore_vm *vm = machine(_i);

	REFUSED(vcore_boot(NULL, &o), EINVAL, "vm");
	REFUSED(vcore_boot(vm, NULL), EINVAL, "options");
	REFUSED(vcore_boot(vm, &(struct vcore_boot_options){0}), EINVAL, "size");
	REFUSED(vcore_boot(vm, &(struct vcore_boot_options){.size = sizeof o}), EINVAL, "no kernel");
	o.image = 6;
	REFUSED(vcore_boot(vm, &o), EINVAL, "image is 6");
	o.image = VCORE_IMAGE_BZIMAGE;
	REFUSED(vcore_boot(vm, &o), EINVAL, "bzImage");
	o.image = VCORE_IMAGE_AUTO;
	o.initrd = "/no/such/initrd";
	REFUSED(vcore_boot(vm, &o), ENOENT, "/no/such/initrd");
	REFUSED(vcore_boot_linux(vm, "/no/such/kernel", NULL, NULL), ENOENT, "/no/such/kernel");
	REFUSED(vcore_boot_linux(vm, "/dev/null", NULL, NULL), EINVAL, "");
	REFUSED(vcore_boot_linux(vm, "/", NULL, NULL), EINVAL, "regular file");
	/* does not fit */
	((Elf64_Phdr *)(bytes + sizeof(Elf64_Ehdr)))->p_memsz = 1ull << 40;
	o.initrd = NULL;
	ck_assert_int_lt(vcore_boot(vm, &o), 0);
	((Elf64_Phdr *)(bytes + sizeof(Elf64_Ehdr)))->p_memsz = 0x1000;
	/* not while it runs */
	OK(vcore_boot(vm, &(struct vcore_boot_options){.size = sizeof o,
	                                               .kernel_data = "\xeb\xfe",
	                                               .kernel_length = 2,
	                                               .image = VCORE_IMAGE_FLAT,
	                                               .address = 0x7c00}));
	OK(vcore_vm_start(vm));
	REFUSED(vcore_boot(vm, &o), EBUSY, "runs");
	OK(vcore_vm_pause(vm));
	OK(vcore_boot(vm, &o));
	OK(vcore_vm_resume(vm));
	OK(vcore_vm_wait(vm, LONG, NULL));
	vcore_vm_unref(vm);
}
END_TEST

/* A bare machine boots into memory of its own. */
START_TEST(bare_machine)
{
	uint8_t bytes[0x200] = {0};
	struct vcore_boot_options o = image_at(bytes, make_elf64(bytes));
	vcore_vm *vm = api_vm(_i, 1);

	OK(vcore_boot(vm, &o));
	ck_assert_uint_eq(api_run(vm, VCORE_EXIT_PIO).data, 42);
	vcore_vm_unref(vm);
}
END_TEST

/* The command line and modules of Multiboot reach the guest. */
START_TEST(multiboot_info)
{
	char path[] = "/tmp/virtcore-module-XXXXXX", module[80], text[64] = "";
	const char *modules[] = {module, NULL};
	uint8_t bytes[0x200] = {0};
	struct vcore_boot_options o = image_at(bytes, make_multiboot(bytes));
	struct vcore_regs regs = {.size = sizeof regs};
	uint32_t info[13], mod[4];
	vcore_vm *vm = machine(_i);
	int fd = mkstemp(path);

	ck_assert_int_eq(write(fd, "module text", 11), 11);
	close(fd);
	snprintf(module, sizeof module, "%s its arguments", path);
	o.cmdline = "kernel arguments";
	o.modules = modules;
	OK(vcore_boot(vm, &o));
	unlink(path);
	OK(vcore_vcpu_get_regs(vcore_vm_vcpu(vm, 0), &regs));
	ck_assert_uint_eq(regs.rax, 0x2badb002);
	OK(vcore_memory_read(vm, regs.rbx, info, sizeof info));
	ck_assert_uint_eq(info[0] & 0x4d, 0x4d); /* memory, command line, modules, memory map */
	OK(vcore_memory_read(vm, info[4], text, sizeof text - 1));
	ck_assert_ptr_nonnull(strstr(text, "kernel arguments"));
	ck_assert_uint_eq(info[5], 1);
	OK(vcore_memory_read(vm, info[6], mod, sizeof mod));
	ck_assert_uint_eq(mod[1] - mod[0], 11);
	memset(text, 0, sizeof text);
	OK(vcore_memory_read(vm, mod[0], text, 11));
	ck_assert_str_eq(text, "module text");
	OK(vcore_memory_read(vm, mod[2], text, sizeof text - 1));
	ck_assert_ptr_nonnull(strstr(text, "its arguments"));
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("boot");
	TCase *tcase = tcase_create("boot");

	tcase_set_timeout(tcase, 60);
	EACH(tcase, flat);
	EACH(tcase, told_by_their_bytes);
	EACH(tcase, reset_boots_files_again);
	EACH(tcase, damaged);
	EACH(tcase, refusals);
	EACH(tcase, bare_machine);
	EACH(tcase, multiboot_info);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
