/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Firecracker's API over HTTP on a unix socket: libmicrohttpd takes requests apart, one thread serves them in turn. */
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api.h"

enum {
	CLIENTS_MAX = 16,
	CLIENT_MEMORY = 65536, /* bytes of its request line and headers */
	CLIENT_SECONDS = 300,  /* that it may be idle */
	BACKLOG = 16,
};

struct api_http {
	struct api *api;
	struct MHD_Daemon *daemon;
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

/* A request as it comes in. */
struct request {
	size_t length;
	bool too_long;
	char body[API_BODY_MAX];
};

static enum MHD_Result send_reply(struct MHD_Connection *connection, const struct api_reply *reply)
{
	size_t length = 0;
	const char *text = reply->body ? json_object_to_json_string_length(
	                                     reply->body, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length)
	                               : "";
	struct MHD_Response *response =
	    MHD_create_response_from_buffer(length, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_SERVER, "Firecracker API");
	if (reply->body)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	result = MHD_queue_response(connection, (unsigned)reply->status, response);
	MHD_destroy_response(response);
	return result;
}

static void collect(struct request *request, const char *data, size_t length)
{
	if (length > sizeof request->body - request->length) {
		request->too_long = true;
		return;
	}
	memcpy(request->body + request->length, data, length);
	request->length += length;
}

static enum MHD_Result serve(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *length, void **state)
{
	struct api_http *http = ctx;
	struct request *request = *state;
	struct api_reply reply = {0};
	enum MHD_Result result;

	if (!request) {
		*state = request = malloc(sizeof *request);
		if (!request)
			return MHD_NO;
		request->length = 0;
		request->too_long = false;
		return MHD_YES;
	}
	if (*length) {
		collect(request, data, *length);
		*length = 0;
		return MHD_YES;
	}
	if (request->too_long) {
		api_fault(&reply, "Request payload is larger than the limit of %d allowed by server.", API_BODY_MAX);
		reply.status = 413;
	} else {
		api_handle(http->api, method, url, request->body, request->length, &reply);
	}
	result = send_reply(connection, &reply);
	json_object_put(reply.body);
	return result;
}

static void finished(void *ctx, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode reason)
{
	free(*state);
	*state = NULL;
}

/* -1 with errno set. */
static int listen_at(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool bound = false;

	if (fd < 0)
		return -1;
	errno = ENAMETOOLONG;
	if (*path && strlen(path) < sizeof un.sun_path) {
		memcpy(un.sun_path, path, strlen(path) + 1);
		bound = fchmod(fd, 0600) == 0 && bind(fd, (struct sockaddr *)&un, sizeof un) == 0;
	}
	if (bound && listen(fd, BACKLOG) == 0)
		return fd;
	if (bound)
		unlink(path);
	close(fd);
	return -1;
}

int api_http_start(struct api *api, const char *path, struct api_http **out)
{
	struct api_http *http = calloc(1, sizeof *http);
	int fd = http ? listen_at(path) : -1;

	if (fd < 0) {
		fprintf(stderr, "microvm: --api-sock %s: %s\n", path, strerror(errno));
		free(http);
		return -1;
	}
	http->api = api;
	memcpy(http->path, path, strlen(path) + 1);
	http->daemon =
	    MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve, http,
	                     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CLIENTS_MAX,
	                     MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CLIENT_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT,
	                     (unsigned)CLIENT_SECONDS, MHD_OPTION_NOTIFY_COMPLETED, finished, NULL, MHD_OPTION_END);
	if (!http->daemon) {
		fprintf(stderr, "microvm: --api-sock %s: the HTTP server cannot be started\n", path);
		unlink(path);
		close(fd);
		free(http);
		return -1;
	}
	*out = http;
	return 0;
}

void api_http_stop(struct api_http *http)
{
	if (!http)
		return;
	MHD_stop_daemon(http->daemon); /* closes the socket */
	unlink(http->path);
	free(http);
}
