/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who follows the memory map besides the backend. */
#include "memory/memory.h"

void vc_mem_watch(struct vc_mem *mem, struct vc_mem_watcher *watcher)
{
	pthread_mutex_lock(&mem->watchers_lock);
	watcher->next = mem->watchers;
	mem->watchers = watcher;
	pthread_mutex_unlock(&mem->watchers_lock);
}

void vc_mem_unwatch(struct vc_mem *mem, struct vc_mem_watcher *watcher)
{
	pthread_mutex_lock(&mem->watchers_lock);
	for (struct vc_mem_watcher **at = &mem->watchers; *at; at = &(*at)->next) {
		if (*at != watcher)
			continue;
		*at = watcher->next;
		break;
	}
	pthread_mutex_unlock(&mem->watchers_lock);
}

void vc_mem_tell_changed(struct vc_mem *mem)
{
	pthread_mutex_lock(&mem->watchers_lock);
	for (struct vc_mem_watcher *w = mem->watchers; w; w = w->next)
		w->changed(w->ctx);
	pthread_mutex_unlock(&mem->watchers_lock);
}

void vc_mem_tell_logs(struct vc_mem *mem)
{
	pthread_mutex_lock(&mem->watchers_lock);
	for (struct vc_mem_watcher *w = mem->watchers; w; w = w->next)
		if (w->logs_changed)
			w->logs_changed(w->ctx);
	pthread_mutex_unlock(&mem->watchers_lock);
}

void vc_mem_tell_sync(struct vc_mem *mem, struct vc_slot *slot)
{
	pthread_mutex_lock(&mem->watchers_lock);
	for (struct vc_mem_watcher *w = mem->watchers; w; w = w->next)
		if (w->sync_dirty)
			w->sync_dirty(w->ctx, slot);
	pthread_mutex_unlock(&mem->watchers_lock);
}
