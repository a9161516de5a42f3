/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest that runs a guest of its own with SVM.  "Inner" is that one, which has
 * the same memory, page tables and interrupt handlers.
 */
#ifndef _LAZY_TEST_NESTED_GUEST_H
#define _LAZY_TEST_NESTED_GUEST_H

#include "lazy_guest.h"

/* Arguments: ARG_ROUNDS, and */
#define ARG_INNER	1	/* what the inner guest does, an enum inner */
#define ARG_FIRST_US	2	/* the deadline that is published, */
#define ARG_SECOND_US	3	/* and the one that is wanted */

/* Results. */
#define NESTED_RUNS	0	/* entries of the inner guest */
#define NESTED_INTR	1	/* of these: left for an interrupt */
#define NESTED_LOOKS	2	/* looks that it has seen in the record */

enum inner {
	INNER_SPIN,
	INNER_HALT,
	INNER_CHASE,		/* wants something later after each look */
	INNER_PROGRAM,		/* programs the timer itself */
	INNER_CALL,		/* has the host do something, then spins */
};

void guest_nested(void);
void guest_nested_cancel(void);
void guest_nested_own(void);

#endif /* _LAZY_TEST_NESTED_GUEST_H */
