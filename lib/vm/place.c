/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where and how the host runs a vcpu's thread: CPUs, scheduling, control group. */
#include "vm/vm.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/props.h"

#define MASK_MAX 1024u /* bytes: 8192 CPUs, which is the most Linux can be built for */

bool vc_place_is_set(const struct vc_placement *p)
{
	return p->cpus || p->scheduled || p->cgroup >= 0;
}

void vc_place_fini(struct vc_placement *p)
{
	free(p->cpus);
	free(p->cgroup_path);
	if (p->cgroup >= 0)
		close(p->cgroup);
}

/* The thread that runs it, or 0; one that was just made is waited for. Caller holds the lock. */
static uint32_t thread_of(struct vcore_vcpu *v)
{
	while (v->placing)
		pthread_cond_wait(&v->vm->changed, &v->vm->lock);
	return atomic_load(&v->thread_id);
}

/* ---- CPUs ---- */

static int place_cpus(uint32_t index, uint32_t thread_id, const void *mask, size_t bytes)
{
	if (syscall(SYS_sched_setaffinity, (pid_t)thread_id, bytes, mask) == 0)
		return 0;
	if (errno == EINVAL)
		return vc_fail(EINVAL, "vcpu %u: none of its CPUs is online and allowed to this process", index);
	return vc_fail_errno(errno, "vcpu %u: its CPUs", index);
}

/* Caller holds the lock. */
static int change_cpus(struct vcore_vcpu *v, const void *mask, size_t bytes)
{
	size_t room = VC_ALIGN_UP(bytes, sizeof(unsigned long));
	uint32_t thread_id = thread_of(v);
	uint8_t everywhere[MASK_MAX];
	uint8_t *copy = NULL;
	int r = 0;

	memset(everywhere, 0xff, sizeof everywhere);
	if (mask) {
		copy = calloc(1, room);
		if (!copy)
			return vc_fail(ENOMEM, "no memory for the CPUs of vcpu %u", v->b.index);
		memcpy(copy, mask, bytes);
	}
	if (thread_id)
		r = place_cpus(v->b.index, thread_id, copy ? copy : everywhere, copy ? room : sizeof everywhere);
	if (r < 0) {
		free(copy);
		return r;
	}
	free(v->place.cpus);
	v->place.cpus = copy;
	v->place.cpus_bytes = room;
	return 0;
}

int vcore_vcpu_set_affinity(vcore_vcpu *v, const void *mask, size_t bytes)
{
	bool any = false;
	int r;

	if (!v)
		return vc_fail(EINVAL, "vcore_vcpu_set_affinity: no vcpu given");
	if (mask && (!bytes || bytes > MASK_MAX))
		return vc_fail(EINVAL, "vcore_vcpu_set_affinity: the mask has %zu bytes: expected 1 to %u", bytes, MASK_MAX);
	for (size_t i = 0; mask && i < bytes; i++)
		any |= ((const uint8_t *)mask)[i] != 0;
	if (mask && !any)
		return vc_fail(EINVAL, "vcore_vcpu_set_affinity: there is no CPU in the mask");
	pthread_mutex_lock(&v->vm->lock);
	r = change_cpus(v, mask, mask ? bytes : 0);
	pthread_mutex_unlock(&v->vm->lock);
	return r;
}

int vcore_vcpu_set_cpus(vcore_vcpu *v, const char *list)
{
	uint8_t mask[MASK_MAX];
	int r;

	if (!v || !list)
		return vc_fail(EINVAL, "vcore_vcpu_set_cpus: a vcpu and a list are needed");
	if (!*list)
		return vcore_vcpu_set_affinity(v, NULL, 0);
	r = vc_mask_parse(list, mask, MASK_MAX * 8);
	if (r < 0)
		return vc_fail(EINVAL, "CPUs '%s': expected numbers below %u and ranges, such as 0-3,8", list, MASK_MAX * 8);
	return vcore_vcpu_set_affinity(v, mask, sizeof mask);
}

/* ---- scheduling ---- */

static const struct {
	const char *name;
	int policy;
	bool real_time, nice;
} policies[] = {
    [VCORE_SCHED_OTHER] = {"other", SCHED_OTHER, false, true},
    [VCORE_SCHED_BATCH] = {"batch", SCHED_BATCH, false, true},
    [VCORE_SCHED_IDLE] = {"idle", SCHED_IDLE, false, false},
    [VCORE_SCHED_FIFO] = {"fifo", SCHED_FIFO, true, false},
    [VCORE_SCHED_RR] = {"rr", SCHED_RR, true, false},
};

static int check_schedule(const struct vcore_schedule *s)
{
	if (s->policy >= VC_ARRAY_SIZE(policies))
		return vc_fail(EINVAL, "schedule.policy is %u: expected 0 to %zu", s->policy, VC_ARRAY_SIZE(policies) - 1);
	if (policies[s->policy].real_time ? s->priority < 1 || s->priority > 99 : s->priority)
		return vc_fail(EINVAL, "schedule.priority is %u: expected %s with policy %s", s->priority,
		               policies[s->policy].real_time ? "1 to 99" : "0", policies[s->policy].name);
	if (policies[s->policy].nice ? s->nice < -20 || s->nice > 19 : s->nice)
		return vc_fail(EINVAL, "schedule.nice is %d: expected %s with policy %s", s->nice,
		               policies[s->policy].nice ? "-20 to 19" : "0", policies[s->policy].name);
	return 0;
}

static int place_schedule(uint32_t index, uint32_t thread_id, const struct vcore_schedule *s)
{
	const struct sched_param param = {.sched_priority = (int)s->priority};
	struct sched_param old_param;
	pid_t tid = (pid_t)thread_id;
	int old = sched_getscheduler(tid), error;

	sched_getparam(tid, &old_param);
	if (sched_setscheduler(tid, policies[s->policy].policy, &param) < 0) {
		if (errno == EPERM && policies[s->policy].real_time)
			return vc_fail(EPERM, "vcpu %u: policy %s with priority %u needs CAP_SYS_NICE, or RLIMIT_RTPRIO of as much",
			               index, policies[s->policy].name, s->priority);
		return vc_fail_errno(errno, "vcpu %u: scheduling policy %s", index, policies[s->policy].name);
	}
	if (!policies[s->policy].nice || setpriority(PRIO_PROCESS, thread_id, s->nice) == 0)
		return 0;
	error = errno;
	sched_setscheduler(tid, old, &old_param);
	if (error == EACCES || error == EPERM)
		return vc_fail(EPERM, "vcpu %u: nice %d needs CAP_SYS_NICE, or RLIMIT_NICE of %d", index, s->nice,
		               20 - s->nice);
	return vc_fail_errno(error, "vcpu %u: nice %d", index, s->nice);
}

int vcore_vcpu_set_schedule(vcore_vcpu *v, const struct vcore_schedule *in)
{
	struct vcore_schedule s;
	uint32_t thread_id;
	int r;

	if (!v || vc_struct_in(&s, sizeof s, in) < 0)
		return vc_fail(EINVAL, "vcore_vcpu_set_schedule: a vcpu and a schedule with its size set are needed");
	r = check_schedule(&s);
	if (r < 0)
		return r;
	pthread_mutex_lock(&v->vm->lock);
	thread_id = thread_of(v);
	if (thread_id)
		r = place_schedule(v->b.index, thread_id, &s);
	if (r >= 0) {
		v->place.schedule = s;
		v->place.scheduled = true;
	}
	pthread_mutex_unlock(&v->vm->lock);
	return r;
}

/* ---- control group ---- */

/* What cgroup.type says, without its newline. */
static void read_type(const char *directory, char type[32])
{
	char path[4200];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof path, "%.4096s/cgroup.type", directory);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, type, 31);
		close(fd);
	}
	type[n > 0 ? n : 0] = '\0';
	type[strcspn(type, "\n")] = '\0';
}

static int open_cgroup(const char *directory)
{
	struct statfs fs;
	char path[4200];
	int fd;

	if (statfs(directory, &fs) < 0)
		return vc_fail_errno(errno, "control group '%s'", directory);
	if (fs.f_type != CGROUP2_SUPER_MAGIC)
		return vc_fail(EINVAL, "control group '%s': no directory of a cgroup v2 file system", directory);
	snprintf(path, sizeof path, "%.4096s/cgroup.threads", directory);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? vc_fail_errno(errno, "control group: '%s' cannot be written", path) : fd;
}

static int place_cgroup(uint32_t index, uint32_t thread_id, int fd, const char *directory)
{
	char text[16], type[32];
	int length = snprintf(text, sizeof text, "%u", thread_id), error;

	if (write(fd, text, (size_t)length) == length)
		return 0;
	error = errno;
	read_type(directory, type);
	if (error == EOPNOTSUPP)
		return vc_fail(EOPNOTSUPP,
		               "vcpu %u: control group '%s' has cgroup.type \"%s\": expected \"threaded\" below the group of "
		               "this process, and no controller there that threads cannot have",
		               index, directory, type);
	if (error == EACCES || error == EPERM)
		return vc_fail_errno(error,
		                     "vcpu %u: control group '%s': cgroup.procs of the group that it and this process's have "
		                     "in common must be writable",
		                     index, directory);
	return vc_fail_errno(error, "vcpu %u: control group '%s' of type \"%s\"", index, directory, type);
}

/* Caller holds the lock. On failure fd and path are the caller's still. */
static int change_cgroup(struct vcore_vcpu *v, int fd, char *path)
{
	uint32_t thread_id = thread_of(v);
	int r = thread_id && fd >= 0 ? place_cgroup(v->b.index, thread_id, fd, path) : 0;

	if (r < 0)
		return r;
	if (v->place.cgroup >= 0)
		close(v->place.cgroup);
	free(v->place.cgroup_path);
	v->place.cgroup = fd;
	v->place.cgroup_path = path;
	return 0;
}

int vcore_vcpu_set_cgroup(vcore_vcpu *v, const char *path)
{
	char *copy = NULL;
	int fd = -1, r;

	if (!v)
		return vc_fail(EINVAL, "vcore_vcpu_set_cgroup: no vcpu given");
	if (path) {
		fd = open_cgroup(path);
		if (fd < 0)
			return fd;
		copy = strdup(path);
		if (!copy) {
			close(fd);
			return vc_fail(ENOMEM, "no memory for the control group of vcpu %u", v->b.index);
		}
	}
	pthread_mutex_lock(&v->vm->lock);
	r = change_cgroup(v, fd, copy);
	pthread_mutex_unlock(&v->vm->lock);
	if (r < 0) {
		free(copy);
		if (fd >= 0)
			close(fd);
	}
	return r;
}

/* ---- all of it ---- */

static int place_thread(const struct vcore_vcpu *v, uint32_t thread_id)
{
	const struct vc_placement *p = &v->place;
	int r = 0;

	/* the group first: it may allow other CPUs */
	if (p->cgroup >= 0)
		r = place_cgroup(v->b.index, thread_id, p->cgroup, p->cgroup_path);
	if (r >= 0 && p->cpus)
		r = place_cpus(v->b.index, thread_id, p->cpus, p->cpus_bytes);
	if (r >= 0 && p->scheduled)
		r = place_schedule(v->b.index, thread_id, &p->schedule);
	return r;
}

void vc_vcpu_find_place(struct vcore_vcpu *v)
{
	struct vcore_vm *vm = v->vm;
	int r;

	pthread_mutex_lock(&vm->lock);
	r = place_thread(v, atomic_load(&v->thread_id));
	if (r < 0 && !vm->place_error) {
		vm->place_error = r;
		snprintf(vm->place_message, sizeof vm->place_message, "%s", vcore_error_message());
	}
	v->placing = false;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

/* policy, priority and nice; *given: one of them is there. */
static int take_schedule(struct vc_props *props, struct vcore_schedule *s, bool *given)
{
	const char *policy = vc_props_string(props, "policy", NULL), *nice = vc_props_string(props, "nice", NULL);
	uint64_t priority = 0;
	char *end = NULL;
	int r = vc_props_u64(props, "priority", 0, 0, 99, &priority);

	if (r < 0)
		return r;
	*given = policy || nice || priority;
	s->priority = (uint32_t)priority;
	while (policy && s->policy < VC_ARRAY_SIZE(policies) && strcmp(policies[s->policy].name, policy))
		s->policy++;
	if (s->policy == VC_ARRAY_SIZE(policies))
		return vc_fail(EINVAL, "policy=%s: expected other, batch, idle, fifo or rr", policy);
	s->nice = nice ? (int32_t)strtol(nice, &end, 10) : 0;
	return nice && (!*nice || *end) ? vc_fail(EINVAL, "nice=%s: expected -20 to 19", nice) : 0;
}

static int place_by(struct vcore_vcpu *v, struct vc_props *props)
{
	const char *cpus = vc_props_string(props, "cpus", NULL), *cgroup = vc_props_string(props, "cgroup", NULL);
	struct vcore_schedule s = {.size = sizeof s};
	bool scheduled;
	int r = take_schedule(props, &s, &scheduled);

	if (r >= 0)
		r = vc_props_finish(props, "vcpu");
	if (r >= 0 && cgroup)
		r = vcore_vcpu_set_cgroup(v, cgroup);
	if (r >= 0 && cpus)
		r = vcore_vcpu_set_cpus(v, cpus);
	if (r >= 0 && scheduled)
		r = vcore_vcpu_set_schedule(v, &s);
	return r;
}

int vcore_vcpu_place(vcore_vcpu *v, const char *properties)
{
	struct vc_props *props;
	int r;

	if (!v)
		return vc_fail(EINVAL, "vcore_vcpu_place: no vcpu given");
	r = vc_props_parse(properties, &props);
	if (r < 0)
		return r;
	r = place_by(v, props);
	vc_props_free(props);
	return r;
}

int vc_vm_place(struct vcore_vm *vm, const char *const *places)
{
	int r = 0;

	for (; r >= 0 && places && *places; places++) {
		const char *properties = strchr(*places, ',');
		char *end;
		unsigned long index = strtoul(*places, &end, 10);
		bool all = !strncmp(*places, "all,", 4);

		if (!properties || (!all && (end != properties || **places < '0' || **places > '9' || index >= vm->bvm.vcpus)))
			return vc_fail(EINVAL,
			               "options.vcpu_places: '%s': expected a vcpu below %u or \"all\", a comma, properties",
			               *places, vm->bvm.vcpus);
		for (uint32_t i = 0; r >= 0 && i < vm->bvm.vcpus; i++)
			if (all || i == index)
				r = vcore_vcpu_place(&vm->vcpus[i], properties + 1);
	}
	return r;
}

/* ---- as text ---- */

struct text {
	char *bytes;
	size_t length, used;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *format, ...)
{
	size_t room = t->used < t->length ? t->length - t->used : 0;
	va_list args;

	va_start(args, format);
	t->used += (size_t)vsnprintf(room ? t->bytes + t->used : NULL, room, format, args);
	va_end(args);
}

static bool has_cpu(const struct vc_placement *p, size_t cpu)
{
	return cpu / 8 < p->cpus_bytes && (((const uint8_t *)p->cpus)[cpu / 8] >> cpu % 8 & 1);
}

/* Ranges; a comma inside a property is doubled. */
static void add_cpus(struct text *t, const struct vc_placement *p)
{
	const char *before = "cpus=";

	for (size_t first = 0, last; first < p->cpus_bytes * 8; first = last + 1) {
		last = first;
		if (!has_cpu(p, first))
			continue;
		while (has_cpu(p, last + 1))
			last++;
		add(t, "%s%zu", before, first);
		if (last > first)
			add(t, "-%zu", last);
		before = ",,";
	}
}

static void add_schedule(struct text *t, const struct vcore_schedule *s)
{
	add(t, "%spolicy=%s", t->used ? "," : "", policies[s->policy].name);
	if (policies[s->policy].real_time)
		add(t, ",priority=%u", s->priority);
	if (s->nice)
		add(t, ",nice=%d", s->nice);
}

static void add_cgroup(struct text *t, const char *path)
{
	add(t, "%scgroup=", t->used ? "," : "");
	for (; *path; path++)
		add(t, *path == ',' ? "%c," : "%c", *path);
}

int vcore_vcpu_get_place(vcore_vcpu *v, char *text, size_t length)
{
	struct text t = {text, length, 0};

	if (!v || (length && !text))
		return vc_fail(EINVAL, "vcore_vcpu_get_place: a vcpu and room for the text are needed");
	if (length)
		text[0] = '\0';
	pthread_mutex_lock(&v->vm->lock);
	if (v->place.cpus)
		add_cpus(&t, &v->place);
	if (v->place.scheduled)
		add_schedule(&t, &v->place.schedule);
	if (v->place.cgroup_path)
		add_cgroup(&t, v->place.cgroup_path);
	pthread_mutex_unlock(&v->vm->lock);
	return (int)t.used;
}
