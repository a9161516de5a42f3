/* SPDX-License-Identifier: GPL-2.0-only */
/* Guests for timers that fire on another CPU while the guest runs. */
#ifndef _LAZY_TEST_POSTED_GUEST_H
#define _LAZY_TEST_POSTED_GUEST_H

#include "lazy_guest.h"

/* Arguments of guest_chase(). */
#define ARG_LOOKS	0
#define ARG_LEAD_US	1

/* Results of guest_chase(): of what is between its third call of the host and the fourth */
#define CHASE_FIRED	0	/* interrupts */
#define CHASE_TRAPS	1	/* writes of the deadline */
#define CHASE_TICKS	2	/* how long that took */
#define CHASE_ALONE	3	/* the same between the first two, with no timer at all */

void guest_chase(void);
void guest_overwrite(void);

#endif /* _LAZY_TEST_POSTED_GUEST_H */
