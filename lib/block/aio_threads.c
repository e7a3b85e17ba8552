/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool: threads that take jobs from one list. They are there from the start, so that a program may forbid itself
 * to make any later. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "block/aio.h"
#include "core/error.h"

struct vc_pool {
	pthread_mutex_t lock; /* protects the list and stopping */
	pthread_cond_t work;
	struct vc_job *first, **last;
	bool stopping;
	unsigned count;
	pthread_t threads[];
};

static struct vc_job *take(struct vc_pool *pool)
{
	struct vc_job *job;

	pthread_mutex_lock(&pool->lock);
	while (!pool->first && !pool->stopping)
		pthread_cond_wait(&pool->work, &pool->lock);
	job = pool->first;
	if (job) {
		pool->first = job->next;
		if (!pool->first)
			pool->last = &pool->first;
	}
	pthread_mutex_unlock(&pool->lock);
	return job;
}

static void *worker(void *arg)
{
	struct vc_pool *pool = arg;
	struct vc_job *job;

	pthread_setname_np(pthread_self(), "virtcore-block");
	while ((job = take(pool)))
		job->run(job);
	return NULL;
}

static int start(struct vc_pool *pool, unsigned threads)
{
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (pool->count < threads && !r) {
		r = pthread_create(&pool->threads[pool->count], NULL, worker, pool);
		if (!r)
			pool->count++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int vc_pool_new(unsigned threads, struct vc_pool **out)
{
	struct vc_pool *pool = calloc(1, sizeof *pool + threads * sizeof pool->threads[0]);
	int r;

	if (!pool)
		return vc_fail(ENOMEM, "no memory for %u threads of disk I/O", threads);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pool->last = &pool->first;
	r = start(pool, threads);
	if (r) {
		vc_pool_free(pool);
		return vc_fail_errno(r, "%u threads of disk I/O", threads);
	}
	*out = pool;
	return 0;
}

void vc_pool_free(struct vc_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->count; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

void vc_pool_run(struct vc_pool *pool, struct vc_job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&pool->lock);
	*pool->last = job;
	pool->last = &job->next;
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}
