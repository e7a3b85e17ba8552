/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migration as the monitor's clients ask for it, over TCP and unix sockets. */
#include "migrating.h"
#include "monitor_client.h"

#include <arpa/inet.h>
#include <json.h>
#include <sys/socket.h>
#include <unistd.h>

static struct line l;
static vcore_vm *vm;
static vcore_monitor *monitor;
static char path[64];

static void watch(vcore_vm *of)
{
	vm = of;
	snprintf(path, sizeof path, "/tmp/virtcore-migrate-%d", (int)getpid());
	unlink(path); /* of an earlier process of that number */
	OK(vcore_monitor_new(vm, path, 0, &monitor));
	client_call(&l, path);
}

static void end(void)
{
	close(l.fd);
	vcore_monitor_free(monitor);
	vcore_vm_unref(vm);
}

/* ---- who waits ---- */

struct waiting {
	char address[100];
	_Atomic int result; /* 1: it waits */
	char error[300];
	vcore_vm *vm;
	pthread_t thread;
};

static void *wait_at(void *ctx)
{
	struct waiting *w = ctx;
	struct vcore_migrate_receive_options o = {.size = sizeof o, .address = w->address, .wait_ms = 30000};

	w->result = vcore_migrate_receive(&o, &w->vm);
	snprintf(w->error, sizeof w->error, "%s", w->result < 0 ? vcore_error_message() : "");
	return NULL;
}

/* A port that nobody has at this moment. */
static void tcp_address(char *text, size_t length, int family)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} address = {.any.sa_family = (sa_family_t)family};
	socklen_t size = family == AF_INET ? sizeof address.in : sizeof address.in6;
	int fd = socket(family, SOCK_STREAM, 0);

	if (family == AF_INET)
		address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		address.in6.sin6_addr = in6addr_loopback;
	*text = '\0';
	/* a host without that family */
	if (fd >= 0 && bind(fd, &address.any, size) == 0 && getsockname(fd, &address.any, &size) == 0)
		snprintf(text, length, family == AF_INET ? "tcp:127.0.0.1:%u" : "tcp:[::1]:%u",
		         ntohs(family == AF_INET ? address.in.sin_port : address.in6.sin6_port));
	if (fd >= 0)
		close(fd);
}

static void start_waiting(struct waiting *w)
{
	ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_at, w), 0);
}

static void send_line(const char *text)
{
	transmit(l.fd, text, strlen(text));
	transmit(l.fd, "\n", 1);
}

/* The command, until somebody listens. */
static void migrate(const struct waiting *w, const char *more)
{
	char request[400];

	snprintf(request, sizeof request, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"%s\"%s}}", w->address, more);
	for (;;) {
		const char *text;

		send_line(request);
		/* the one before may not be at its end yet */
		text = receive(&l);
		if (strstr(text, "cannot be begun"))
			continue;
		says(text, "{\"return\":{}}");
		until_says(&l, "\"event\":\"MIGRATION\",\"data\":{\"status\":\"setup\"}");
		text = until_says(&l, "\"event\":\"MIGRATION\"");
		if (!strstr(text, "failed"))
			break;
		ck_assert_msg(w->result == 1, "%s", w->error);
		api_pause_ms(2);
	}
}

static struct json_object *query(void)
{
	struct json_object *answer = json_tokener_parse(ask(&l, "{\"execute\":\"query-migrate\"}")), *value;

	ck_assert_ptr_nonnull(answer);
	ck_assert(json_object_object_get_ex(answer, "return", &value));
	json_object_get(value);
	json_object_put(answer);
	return value;
}

static uint64_t number(struct json_object *object, const char *name)
{
	struct json_object *value;

	ck_assert_msg(json_object_object_get_ex(object, name, &value), "no \"%s\"", name);
	return json_object_get_uint64(value);
}

/* ---- tests ---- */

/* Each with a limit that a host full of other work keeps too: whether a guest that writes for ever is stopped is
 * decided by it. */
#define SLOW_HOST ",\"downtime-limit\":20000"

/* Family; what is asked besides. */
static const struct {
	int family;
	uint32_t streams;
	const char *more;
} moves[] = {{AF_INET, 1, SLOW_HOST},
             {AF_INET, 3, SLOW_HOST ",\"streams\":3,\"delta\":true,\"delta-cache\":1000000,\"auto-converge\":true"},
             {AF_INET6, 2, SLOW_HOST ",\"streams\":2,\"max-time\":30000"},
             {AF_UNIX, 4, SLOW_HOST ",\"streams\":4,\"max-bandwidth\":1000000000"}};

START_TEST(moved)
{
	struct waiting w = {.result = 1};
	struct json_object *info;
	uint32_t count;

	if (moves[_i].family == AF_UNIX)
		snprintf(w.address, sizeof w.address, "unix:/tmp/virtcore-migrate-to-%d", (int)getpid());
	else
		tcp_address(w.address, sizeof w.address, moves[_i].family);
	if (!*w.address) {
		printf("no IPv6 here\n");
		return;
	}
	watch(migrating_writer(0));
	OK(vcore_vm_start(vm));
	/* so that there is something to be sent at all */
	migrating_turns(vm);
	start_waiting(&w);
	migrate(&w, moves[_i].more);
	until_says(&l, "\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}");
	pthread_join(w.thread, NULL);
	ck_assert_int_eq(w.result, 0);
	count = api_word(vm, COUNT);
	ck_assert_uint_eq(api_word(w.vm, COUNT), count);
	OK(vcore_vm_start(w.vm));
	migrating_goes_on(w.vm, count);
	vcore_vm_unref(w.vm);
	info = query();
	ck_assert_str_eq(json_object_get_string(json_object_object_get(info, "status")), "completed");
	ck_assert_uint_eq(number(info, "streams"), moves[_i].streams);
	ck_assert_uint_eq(number(info, "memory"), RAM);
	ck_assert_uint_eq(number(info, "remaining"), 0);
	ck_assert_uint_gt(number(info, "sent"), WRITER_PAGES * 4096);
	json_object_put(info);
	end();
}
END_TEST

/* A limit that is far too low: events tell how far it is, until it is cancelled. */
START_TEST(progress)
{
	struct waiting w = {.result = 1};
	struct json_object *event, *data;

	tcp_address(w.address, sizeof w.address, AF_INET);
	watch(migrating_writer(0));
	OK(vcore_vm_start(vm));
	/* so that there is something to be sent at all */
	migrating_turns(vm);
	start_waiting(&w);
	migrate(&w, ",\"max-bandwidth\":50000,\"streams\":2");
	for (uint64_t n = 0, sent = 0; n < 3; n++) {
		event = json_tokener_parse(until_says(&l, "\"event\":\"MIGRATION_PROGRESS\""));
		ck_assert(json_object_object_get_ex(event, "data", &data));
		ck_assert_str_eq(json_object_get_string(json_object_object_get(data, "status")), "active");
		ck_assert_uint_eq(number(data, "memory"), RAM);
		ck_assert_uint_gt(number(data, "sent"), sent);
		ck_assert_uint_gt(number(data, "remaining"), 0);
		sent = number(data, "sent");
		json_object_put(event);
	}
	send_line("{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"tcp:1.2.3.4:5\"}}");
	until_says(&l, "begun");
	send_line("{\"execute\":\"migrate-cancel\"}");
	until_says(&l, "\"event\":\"MIGRATION\",\"data\":{\"status\":\"canceled\"}");
	pthread_join(w.thread, NULL);
	ck_assert_int_eq(w.result, -EREMOTEIO);
	data = query();
	ck_assert_str_eq(json_object_get_string(json_object_object_get(data, "error")), "the migration was cancelled");
	json_object_put(data);
	/* its thread may not be at its end yet */
	until_command(&l, "migrate-cancel", "is not being migrated");
	migrating_goes_on(vm, api_word(vm, COUNT));
	end();
}
END_TEST

START_TEST(refused)
{
	const char *text;

	watch(api_vm(0, 1));
	command(&l, "migrate", "\\\"uri\\\" is missing");
	says(ask(&l, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"x\",\"streams\":17}}"), "a number from 0 to 16");
	says(ask(&l, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"x\",\"delta\":1}}"), "expected a boolean");
	says(ask(&l, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"x\",\"max-bandwidth\":1}}"),
	     "expected 16384 or more");
	command(&l, "query-migrate", "\"status\":\"none\"");
	says(ask(&l, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"tcp:nowhere\"}}"), "{}");
	/* from its answer on, it is this one's status */
	text = ask(&l, "{\"execute\":\"query-migrate\"}");
	while (strstr(text, "\"event\""))
		text = receive(&l);
	ck_assert_msg(!strstr(text, "none"), "%s", text);
	until_command(&l, "query-migrate", "expected tcp:HOST:PORT");
	until_command(&l, "query-migrate", "\"status\":\"failed\"");
	end();
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("monitor_migrate");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, moved, 0, (int)(sizeof moves / sizeof moves[0]));
	tcase_add_test(t, progress);
	tcase_add_test(t, refused);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return api_main(suite());
}
