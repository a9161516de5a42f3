/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest sides of the tests of where the host keeps the timer. */
#ifndef _LAZY_TEST_HV_GUEST_H
#define _LAZY_TEST_HV_GUEST_H

#include "lazy_guest.h"

/* Arguments, in microseconds but for the first two. */
#define HV_ROUNDS	0
#define HV_TICKS	1	/* a deadline, in TSC ticks from now */
#define HV_FIRST	2	/* the deadline that is published, */
#define HV_SECOND	3	/* and the one that is wanted */

/* Results. */
#define HV_PHASE	0	/* odd: halts, even: is busy, until it is woken */
#define HV_LOOKS	1	/* looks that the guest has seen in the record */

void guest_far(void);
void guest_far_look(void);
void guest_published(void);
void guest_far_wait(void);
void guest_verge(void);
void guest_places(void);
void guest_chase_looks(void);
void guest_earlier(void);

#endif /* _LAZY_TEST_HV_GUEST_H */
