/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest side of test_modes: the LAPIC timer in its other two modes. */
#ifndef _LAZY_TEST_MODE_GUEST_H
#define _LAZY_TEST_MODE_GUEST_H

#include "lazy_guest.h"

/* Arguments */
#define MODE_ROUNDS	0
#define MODE_LVTT	1	/* GUEST_LVTT_ONESHOT or _PERIODIC */
#define MODE_US		2	/* the timer's initial count, in microseconds */
#define MODE_OP		3	/* what is done half-way, an enum mode_op */

/* Results */
#define MODE_SHOTS	0	/* one-shot: interrupts */
#define MODE_PERIODS	1	/* periodic: rounds with all their interrupts */

enum mode_op {
	MODE_NONE,
	MODE_CURRENT,		/* reads the current count */
	MODE_STOP,		/* initial count 0 */
	MODE_AGAIN,		/* begins again */
	MODE_MASK,
	MODE_RECORD,		/* disables the record and enables it again */
	MODE_PENDING,		/* stores a deadline, and writes its MSR */
	MODE_SYNC,		/* has the host do something */
	MODE_DEADLINE,		/* goes to deadline mode at once */
};

void guest_mode(void);

#endif /* _LAZY_TEST_MODE_GUEST_H */
