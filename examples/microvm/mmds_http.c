/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The metadata service: answers to the guest's HTTP requests, of version 1 (anybody) and 2 (who has a token). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "api.h"
#include "api_mmds.h"

enum {
	TTL_MAX = 21600,    /* seconds */
	TOKEN_LETTERS = 32, /* the second when it ends, and a keyed hash of that, in hexadecimal */
	BODY_MAX = MMDS_ANSWER_MAX - 512,
};

struct request {
	char *method, *path;
	const char *token, *ttl, *accept;
	bool forwarded;
};

struct answer {
	int status;
	const char *type;
	char *header; /* a further line; "" */
	const char *body;
	size_t length;
};

/* ---- requests ---- */

static long content_length(const char *text, const char *end)
{
	const char *line = strstr(text, "\r\n");
	unsigned long length = 0;

	while (line && line < end) {
		line += 2;
		if (!strncasecmp(line, "content-length:", 15))
			length = strtoul(line + 15, NULL, 10);
		line = strstr(line, "\r\n");
	}
	return length > MMDS_REQUEST_MAX ? -1 : (long)length;
}

long mmds_request_length(const char *text, size_t length)
{
	const char *end = strlen(text) == length ? strstr(text, "\r\n\r\n") : NULL;
	long body;
	size_t whole;

	if (!end)
		return strlen(text) < length || length >= MMDS_REQUEST_MAX ? -1 : 0;
	body = content_length(text, end);
	whole = (size_t)(end + 4 - text) + (size_t)(body > 0 ? body : 0);
	if (body < 0 || whole > MMDS_REQUEST_MAX)
		return -1;
	return length >= whole ? (long)whole : 0;
}

/* The value, when it is that header; leading blanks are no part of it. */
static const char *header(const char *line, const char *name)
{
	size_t length = strlen(name);

	if (strncasecmp(line, name, length) != 0 || line[length] != ':')
		return NULL;
	line += length + 1;
	return line + strspn(line, " \t");
}

static void take_header(struct request *request, const char *line)
{
	static const struct {
		const char *name;
		size_t offset;
	} rows[] = {
	    {"X-metadata-token", offsetof(struct request, token)},
	    {"X-aws-ec2-metadata-token", offsetof(struct request, token)},
	    {"X-metadata-token-ttl-seconds", offsetof(struct request, ttl)},
	    {"X-aws-ec2-metadata-token-ttl-seconds", offsetof(struct request, ttl)},
	    {"Accept", offsetof(struct request, accept)},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *value = header(line, rows[i].name);

		if (value)
			*(const char **)((char *)request + rows[i].offset) = value;
	}
	request->forwarded |= header(line, "X-Forwarded-For") != NULL;
}

/* In place: lines become strings. */
static bool parse(char *text, struct request *request)
{
	char *line = text, *end, *version;

	*request = (struct request){.accept = ""};
	end = strstr(line, "\r\n");
	if (!end)
		return false;
	*end = '\0';
	request->method = line;
	request->path = strchr(line, ' ');
	version = request->path ? strchr(request->path + 1, ' ') : NULL;
	if (!version)
		return false;
	*request->path++ = *version = '\0';
	for (line = end + 2; (end = strstr(line, "\r\n")) && end > line; line = end + 2) {
		*end = '\0';
		take_header(request, line);
	}
	return *request->path == '/';
}

/* ---- tokens ---- */

/* SipHash-2-4 (Aumasson, Bernstein 2012) of one word, by half of the key. */
static uint64_t sip(const uint8_t key[16], uint64_t word)
{
	uint64_t k[2], v[4];

	memcpy(k, key, sizeof k);
	v[0] = k[0] ^ 0x736f6d6570736575;
	v[1] = k[1] ^ 0x646f72616e646f6d;
	v[2] = k[0] ^ 0x6c7967656e657261;
	v[3] = k[1] ^ 0x7465646279746573;
	const uint64_t blocks[] = {word, 8ull << 56, 0};
	for (unsigned b = 0; b < 3; b++) {
		v[3] ^= b < 2 ? blocks[b] : 0;
		v[2] ^= b < 2 ? 0 : 0xff;
		for (unsigned round = 0; round < (b < 2 ? 2 : 4); round++) {
			v[0] += v[1];
			v[2] += v[3];
			v[1] = (v[1] << 13 | v[1] >> 51) ^ v[0];
			v[3] = (v[3] << 16 | v[3] >> 48) ^ v[2];
			v[0] = v[0] << 32 | v[0] >> 32;
			v[2] += v[1];
			v[0] += v[3];
			v[1] = (v[1] << 17 | v[1] >> 47) ^ v[2];
			v[3] = (v[3] << 21 | v[3] >> 43) ^ v[0];
			v[2] = v[2] << 32 | v[2] >> 32;
		}
		v[0] ^= b < 2 ? blocks[b] : 0;
	}
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static void print_token(const struct mmds *mmds, uint64_t end, char text[TOKEN_LETTERS + 1])
{
	snprintf(text, TOKEN_LETTERS + 1, "%016llx%016llx", (unsigned long long)end,
	         (unsigned long long)sip(mmds->key, end));
}

static bool is_valid(const struct mmds *mmds, const char *token)
{
	char wanted[TOKEN_LETTERS + 1];
	unsigned different = 0;
	uint64_t end;

	if (strlen(token) != TOKEN_LETTERS)
		return false;
	snprintf(wanted, sizeof wanted, "%.16s", token);
	end = strtoull(wanted, NULL, 16);
	print_token(mmds, end, wanted);
	/* in a time that tells nothing */
	for (unsigned i = 0; i < TOKEN_LETTERS; i++)
		different |= (unsigned)(wanted[i] ^ token[i]);
	return !different && end > now_seconds();
}

/* ---- answers ---- */

static size_t print_answer(const struct answer *answer, char out[MMDS_ANSWER_MAX])
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {{200, "OK"},        {400, "Bad Request"},        {401, "Unauthorized"},
	               {404, "Not Found"}, {405, "Method Not Allowed"}, {501, "Not Implemented"}};
	const char *phrase = "";
	int head;

	for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
		if (phrases[i].status == answer->status)
			phrase = phrases[i].phrase;
	head = snprintf(out, MMDS_ANSWER_MAX,
	                "HTTP/1.1 %d %s\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Type: %s\r\n%s"
	                "Content-Length: %zu\r\n\r\n",
	                answer->status, phrase, answer->type, answer->header, answer->length);

	memcpy(out + head, answer->body, answer->length);
	return (size_t)head + answer->length;
}

static void say(struct answer *answer, int status, const char *sentence)
{
	answer->status = status;
	answer->body = sentence;
	answer->length = strlen(sentence);
}

/* What a path of names and indices leads to; NULL. */
static struct json_object *look_up(struct json_object *value, char *path)
{
	char *rest = NULL;

	for (char *name = strtok_r(path, "/", &rest); value && name; name = strtok_r(NULL, "/", &rest)) {
		char *end;
		unsigned long index = strtoul(name, &end, 10);

		if (json_object_is_type(value, json_type_object))
			value = api_member(value, name);
		else if (json_object_is_type(value, json_type_array) && !*end && *name >= '0' && *name <= '9')
			value = json_object_array_get_idx(value, index);
		else
			value = NULL;
	}
	return value;
}

/* As EC2 does: the names of an object, a line each; a string as it is. False: it is neither, or too long. */
static bool print_plain(struct json_object *value, char *out, size_t room, size_t *length)
{
	size_t used = 0;

	if (json_object_is_type(value, json_type_string)) {
		*length = (size_t)json_object_get_string_len(value);
		if (*length > room)
			return false;
		memcpy(out, json_object_get_string(value), *length);
		return true;
	}
	if (!json_object_is_type(value, json_type_object))
		return false;
	json_object_object_foreach(value, name, member)
	{
		int n = snprintf(out + used, room - used, "%s%s%s", used ? "\n" : "", name,
		                 json_object_is_type(member, json_type_object) ? "/" : "");

		if (n < 0 || (size_t)n >= room - used)
			return false;
		used += (size_t)n;
	}
	*length = used;
	return true;
}

static void get(struct mmds *mmds, const struct request *request, struct answer *answer, char body[BODY_MAX])
{
	struct json_object *value = look_up(mmds->store, request->path);
	bool json = !mmds->imds && strstr(request->accept, "application/json");

	if (!value) {
		say(answer, 404, "Resource not found.");
	} else if (json) {
		say(answer, 200,
		    json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		answer->type = "application/json";
		if (answer->length > BODY_MAX)
			say(answer, 501, "The value is too long.");
	} else if (print_plain(value, body, BODY_MAX, &answer->length)) {
		answer->status = 200;
		answer->body = body;
	} else {
		say(answer, 501, "Cannot retrieve value. The value has an unsupported type.");
	}
}

/* A token is all that can be put. */
static void put(struct mmds *mmds, const struct request *request, struct answer *answer, char body[BODY_MAX])
{
	unsigned long seconds = request->ttl ? strtoul(request->ttl, NULL, 10) : 0;

	if (request->forwarded) {
		say(answer, 400, "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For");
	} else if (strcmp(request->path, "/latest/api/token") != 0) {
		say(answer, 404, "Resource not found.");
	} else if (!request->ttl) {
		say(answer, 400,
		    "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
		    "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.");
	} else if (seconds < 1 || seconds > TTL_MAX || request->ttl[strspn(request->ttl, "0123456789")]) {
		say(answer, 400, "Invalid time to live value provided for token: please provide a value between 1 and 21600.");
	} else {
		print_token(mmds, now_seconds() + seconds, body);
		say(answer, 200, body);
		snprintf(answer->header, 64, "X-metadata-token-ttl-seconds: %lu\r\n", seconds);
	}
}

static void respond(struct mmds *mmds, char *text, struct answer *answer, char body[BODY_MAX])
{
	struct request request;

	if (!parse(text, &request)) {
		say(answer, 400, "Invalid request.");
	} else if (!strcmp(request.method, "PUT")) {
		put(mmds, &request, answer, body);
	} else if (strcmp(request.method, "GET") != 0) {
		snprintf(answer->header, 64, "Allow: GET, PUT\r\n");
		say(answer, 405, "Not allowed HTTP method.");
	} else if (mmds->v2 && !request.token) {
		say(answer, 401,
		    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify "
		    "the session token.");
	} else if (mmds->v2 && !is_valid(mmds, request.token)) {
		say(answer, 401, "MMDS token not valid.");
	} else {
		get(mmds, &request, answer, body);
	}
}

size_t mmds_answer(struct mmds *mmds, char *text, char out[MMDS_ANSWER_MAX])
{
	char header_line[64] = "";
	struct answer answer = {.type = "text/plain", .header = header_line};
	char *body = malloc(BODY_MAX);
	size_t length;

	if (!body)
		return 0;
	/* what is in the store is looked at only here and by the API */
	pthread_mutex_lock(&mmds->lock);
	respond(mmds, text, &answer, body);
	length = print_answer(&answer, out);
	pthread_mutex_unlock(&mmds->lock);
	free(body);
	return length;
}
