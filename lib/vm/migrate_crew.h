/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The threads of one side of a migration, one for each connection: they meet, and the first failure is that of all. */
#ifndef VC_VM_MIGRATE_CREW_H
#define VC_VM_MIGRATE_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct vc_mig_crew {
	int stop_fd;            /* eventfd: readable once one has failed */
	_Atomic uint64_t moved; /* of their streams */
	pthread_mutex_t lock;   /* protects what follows */
	pthread_cond_t met;
	int error; /* of the first that failed, with its sentence */
	char message[256];
	uint32_t size;     /* constant while they are at work */
	uint32_t waiting;  /* in vc_mig_crew_meet() */
	uint32_t meetings; /* that took place */
	uint32_t subject;  /* of the meeting that is to be */
};

/* 0 or -errno. */
int vc_mig_crew_init(struct vc_mig_crew *crew);
void vc_mig_crew_fini(struct vc_mig_crew *crew);
/* The caller has failed, with its sentence, and so have all. The first failure is kept, or what the other side says of
 * it: -EREMOTEIO. */
void vc_mig_crew_fail(struct vc_mig_crew *crew, int error);
/* 0, or how the first one has failed, with its sentence as the caller's. */
int vc_mig_crew_result(struct vc_mig_crew *crew);
/* Wait until all have come. 0; -ECANCELED: one has failed; -EPROTO: it is about something else for the others. */
int vc_mig_crew_meet(struct vc_mig_crew *crew, uint32_t subject);

#endif
