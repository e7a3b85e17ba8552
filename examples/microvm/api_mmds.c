/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The metadata store, as the host sees it. */
#include "api_mmds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api.h"

int mmds_new(struct mmds **out)
{
	struct mmds *mmds = calloc(1, sizeof *mmds);

	if (!mmds)
		return -1;
	pthread_mutex_init(&mmds->lock, NULL);
	*out = mmds;
	return getrandom(mmds->key, sizeof mmds->key, 0) == sizeof mmds->key ? 0 : -1;
}

void mmds_free(struct mmds *mmds)
{
	if (!mmds)
		return;
	mmds_net_close(mmds);
	json_object_put(mmds->store);
	pthread_mutex_destroy(&mmds->lock);
	free(mmds);
}

const char *mmds_error(const struct mmds *mmds)
{
	return mmds->error;
}

bool mmds_serves(struct json_object *config, const char *iface)
{
	struct json_object *names = api_member(config, "network_interfaces");

	for (size_t i = 0; names && i < json_object_array_length(names); i++)
		if (!strcmp(json_object_get_string(json_object_array_get_idx(names, i)), iface))
			return true;
	return false;
}

/* Takes the value. False: it is too large, with the reply set. */
static bool keep(struct mmds *mmds, struct json_object *value, struct api_reply *reply)
{
	size_t length;

	json_object_to_json_string_length(value, JSON_C_TO_STRING_PLAIN, &length);
	if (length > API_BODY_MAX) {
		json_object_put(value);
		api_fault(reply, "The MMDS patch request doesn't fit.");
		reply->status = 413;
		return false;
	}
	json_object_put(mmds->store);
	mmds->store = value;
	return true;
}

void api_get_mmds(struct api *api, const struct api_handler *handler, const struct api_call *call,
                  struct api_reply *reply)
{
	struct mmds *mmds = api->mmds;

	pthread_mutex_lock(&mmds->lock);
	reply->status = 200;
	/* a copy, for an object is used by one thread only */
	reply->body = NULL;
	if (!mmds->store || json_object_deep_copy(mmds->store, &reply->body, NULL) < 0)
		reply->body = json_object_new_object();
	pthread_mutex_unlock(&mmds->lock);
}

void api_put_mmds(struct api *api, const struct api_handler *handler, const struct api_call *call,
                  struct api_reply *reply)
{
	pthread_mutex_lock(&api->mmds->lock);
	keep(api->mmds, json_object_get(call->body), reply);
	pthread_mutex_unlock(&api->mmds->lock);
}

/* RFC 7396: a new object, of what there was and the patch. Its depth is that of what api_parse_json() let in. */
static struct json_object *merge(struct json_object *target, struct json_object *patch)
{
	struct json_object *merged;

	if (!json_object_is_type(patch, json_type_object))
		return json_object_get(patch);
	merged = json_object_new_object();
	if (json_object_is_type(target, json_type_object)) {
		json_object_object_foreach(target, name, value)
		{
			json_object_object_add(merged, name, json_object_get(value));
		}
	}
	json_object_object_foreach(patch, key, change)
	{
		if (change)
			json_object_object_add(merged, key, merge(api_member(merged, key), change));
		else
			json_object_object_del(merged, key);
	}
	return merged;
}

void api_patch_mmds(struct api *api, const struct api_handler *handler, const struct api_call *call,
                    struct api_reply *reply)
{
	pthread_mutex_lock(&api->mmds->lock);
	if (api->mmds->store)
		keep(api->mmds, merge(api->mmds->store, call->body), reply);
	else
		api_fault(reply, "The MMDS data store is not initialized.");
	pthread_mutex_unlock(&api->mmds->lock);
}
