/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order in which metadata reaches the disk: see qcow2.h. */
#include "block/qcow2.h"

static bool dirty(const struct qcow2_array *array)
{
	return array->dirty_first < array->dirty_end;
}

/* Also makes the data of clusters durable that the L2 tables are going to point to. */
int qcow2_before_l2(struct qcow2 *q)
{
	int r = qcow2_cache_write(&q->refcount_cache);

	if (!r)
		r = vc_file_flush(q->file);
	if (r || !dirty(&q->reftable))
		return r;
	r = qcow2_write_array(q, &q->reftable);
	return r ? r : vc_file_flush(q->file);
}

int qcow2_write_back(struct qcow2 *q)
{
	int r;

	if (!q->l2_cache.dirty && !dirty(&q->l1) && !dirty(&q->reftable))
		return qcow2_cache_write(&q->refcount_cache);
	r = qcow2_before_l2(q);
	if (!r)
		r = qcow2_cache_write(&q->l2_cache);
	if (r || !dirty(&q->l1))
		return r;
	r = vc_file_flush(q->file);
	return r ? r : qcow2_write_array(q, &q->l1);
}

int qcow2_flush_locked(struct qcow2 *q)
{
	int r = atomic_load(&q->corrupt) ? -EIO : qcow2_write_back(q);

	if (!r)
		r = vc_file_flush(q->file);
	return r ? r : qcow2_apply_freed(q);
}

int qcow2_flush(struct qcow2 *q)
{
	int r;

	pthread_mutex_lock(&q->meta_lock);
	if (q->freed_count) {
		r = qcow2_flush_locked(q);
		pthread_mutex_unlock(&q->meta_lock);
		return r;
	}
	r = atomic_load(&q->corrupt) ? -EIO : qcow2_write_back(q);
	pthread_mutex_unlock(&q->meta_lock);
	return r ? r : vc_file_flush(q->file);
}
