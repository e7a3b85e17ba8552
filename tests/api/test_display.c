/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Displays and input devices as the program finds them; handles outlive devices and vms. */
#include "api.h"

static vcore_vm *new_vm(void)
{
	struct vcore_options o = {
	    .size = sizeof o, .machine = VCORE_MACHINE_MICROVM, .backend = VCORE_BACKEND_EMU, .memory = RAM};
	vcore_vm *vm;

	OK(vcore_vm_new(&o, &vm));
	return vm;
}

START_TEST(displays)
{
	struct vcore_display_info info = {.size = sizeof info}, unsized = {0};
	struct vcore_cursor cursor = {.size = sizeof cursor};
	vcore_display *one, *two;
	vcore_device *device;
	vcore_vm *vm = new_vm();
	uint32_t pixel;

	REFUSED(vcore_vm_find_display(vm, 0, &one), ENOENT, "the vm has 0");
	REFUSED(vcore_vm_find_display(NULL, 0, &one), EINVAL, "vm");
	OK(vcore_device_add(vm, "virtio-gpu", "width=800,height=600,transport=mmio", &device));
	OK(vcore_device_add(vm, "virtio-gpu", "width=1024,height=768", NULL));
	OK(vcore_vm_find_display(vm, 0, &one));
	OK(vcore_vm_find_display(vm, 1, &two));
	REFUSED(vcore_vm_find_display(vm, 2, &two), ENOENT, "the vm has 2");
	OK(vcore_display_get_info(one, &info));
	ck_assert_uint_eq(info.wanted_width, 800);
	ck_assert_uint_eq(info.width, 0);
	OK(vcore_display_get_info(two, &info));
	ck_assert_uint_eq(info.wanted_height, 768);
	REFUSED(vcore_display_get_info(two, &unsized), EINVAL, "size");
	REFUSED(vcore_display_copy(two, NULL, &pixel, 4, 0, NULL), ENODATA, "nothing");
	OK(vcore_display_get_cursor(two, &cursor, NULL));
	ck_assert_uint_eq(cursor.visible, 0);
	OK(vcore_display_request_size(one, 640, 480));
	OK(vcore_device_remove(device));
	REFUSED(vcore_display_request_size(one, 640, 480), ENODEV, "gone");
	vcore_display_unref(one);
	OK(vcore_vm_find_display(vm, 0, &one));
	ck_assert_ptr_eq(one, two);
	vcore_display_unref(one);
	vcore_vm_unref(vm);
	REFUSED(vcore_display_copy(two, NULL, &pixel, 4, 0, NULL), ENODATA, "nothing");
	vcore_display_unref(vcore_display_ref(two));
	vcore_display_unref(two);
	vcore_display_unref(NULL);
}
END_TEST

START_TEST(inputs)
{
	struct vcore_input_info info = {.size = sizeof info};
	static const char *const types[] = {"virtio-keyboard", "virtio-mouse", "virtio-tablet"};
	vcore_input *input = NULL;
	vcore_vm *vm = new_vm();

	for (uint32_t kind = 0; kind < 3; kind++) {
		REFUSED(vcore_vm_find_input(vm, kind, 0, &input), ENOENT, "the vm has 0");
		OK(vcore_device_add(vm, types[kind], NULL, NULL));
		OK(vcore_vm_find_input(vm, kind, 0, &input));
		OK(vcore_input_get_info(input, &info));
		ck_assert_uint_eq(info.kind, kind);
		ck_assert_uint_eq(info.ready, 0);
		REFUSED(vcore_vm_find_input(vm, kind, 1, &input), ENOENT, "the vm has 1");
		if (kind < 2)
			vcore_input_unref(input);
	}
	REFUSED(vcore_vm_find_input(vm, 3, 0, &input), EINVAL, "kind");
	REFUSED(vcore_input_move_to(input, 5, 5), ENOTCONN, "driver");
	vcore_vm_unref(vm);
	REFUSED(vcore_input_move_to(input, 5, 5), ENODEV, "gone");
	vcore_input_unref(input);
}
END_TEST

/* A clone has displays and input devices of its own, with what was asked of the first. */
START_TEST(clones)
{
	struct vcore_display_info info = {.size = sizeof info};
	vcore_display *first, *second;
	vcore_vm *vm = new_vm(), *twin;
	vcore_snapshot *snapshot;
	vcore_input *input;

	OK(vcore_device_add(vm, "virtio-gpu", "width=800,height=600", NULL));
	OK(vcore_device_add(vm, "virtio-tablet", NULL, NULL));
	OK(vcore_vm_find_display(vm, 0, &first));
	OK(vcore_display_request_size(first, 640, 480));
	OK(vcore_snapshot_take(vm, &snapshot));
	OK(vcore_snapshot_clone(snapshot, NULL, &twin));
	vcore_snapshot_unref(snapshot);
	OK(vcore_vm_find_display(twin, 0, &second));
	OK(vcore_vm_find_input(twin, VCORE_INPUT_TABLET, 0, &input));
	ck_assert_ptr_ne(first, second);
	OK(vcore_display_get_info(second, &info));
	ck_assert_uint_eq(info.wanted_width, 640);
	vcore_display_unref(first);
	vcore_display_unref(second);
	vcore_input_unref(input);
	vcore_vm_unref(vm);
	vcore_vm_unref(twin);
}
END_TEST

/* Finding, asking and being told, while devices come and go. */
static _Atomic uint32_t stop, turns;

static void changed(void *ctx, vcore_display *display, const struct vcore_display_event *event)
{
	struct vcore_display_info info = {.size = sizeof info};

	vcore_display_get_info(display, &info);
}

static void *finder(void *ctx)
{
	vcore_display *display;
	vcore_input *input;

	while (!atomic_load(&stop)) {
		if (vcore_vm_find_display(ctx, 0, &display) >= 0) {
			vcore_display_set_callback(display, changed, NULL);
			vcore_display_request_size(display, 640, 480);
			vcore_display_set_callback(display, NULL, NULL);
			vcore_display_unref(display);
		}
		if (vcore_vm_find_input(ctx, VCORE_INPUT_KEYBOARD, 0, &input) >= 0) {
			vcore_input_key(input, 30, true);
			vcore_input_unref(input);
		}
		atomic_fetch_add(&turns, 1);
	}
	return NULL;
}

START_TEST(threads)
{
	vcore_vm *vm = new_vm();
	vcore_device *gpu, *keyboard;
	pthread_t thread;

	atomic_store(&stop, 0);
	atomic_store(&turns, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, finder, vm), 0);
	for (unsigned i = 0; i < 100; i++) {
		OK(vcore_device_add(vm, "virtio-gpu", NULL, &gpu));
		OK(vcore_device_add(vm, "virtio-keyboard", NULL, &keyboard));
		api_until(&turns, i * 2);
		OK(vcore_device_remove(gpu));
		OK(vcore_device_remove(keyboard));
	}
	atomic_store(&stop, 1);
	pthread_join(thread, NULL);
	vcore_vm_unref(vm);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("display");
	TCase *tcase = tcase_create("display");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, displays);
	tcase_add_test(tcase, inputs);
	tcase_add_test(tcase, clones);
	tcase_add_test(tcase, threads);
	suite_add_tcase(suite, tcase);
	return api_main(suite);
}
