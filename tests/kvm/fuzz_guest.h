/* SPDX-License-Identifier: GPL-2.0-only */
/* Random operations on the timer, each judged against a reference model. */
#ifndef _LAZY_TEST_FUZZ_GUEST_H
#define _LAZY_TEST_FUZZ_GUEST_H

#include "guest.h"

/* Arguments of guest_fuzz(). */
#define FUZZ_ARG_SEED	0
#define FUZZ_ARG_OPS	1

/* Results, up to date whenever the host looks at them. */
#define FUZZ_DONE	0	/* operations so far */
#define FUZZ_LAST	1	/* the last of them, an index of fuzz_ops */
#define FUZZ_HOST	2	/* what the guest asks the host for */
#define FUZZ_TRAIL	3	/* the last operations, a byte each, latest lowest */

/* What the host does at GUEST_CALL_SYNC. */
enum fuzz_host {
	FUZZ_GET_LAPIC,
	FUZZ_GET_MSRS,
	FUZZ_SET_LAPIC,
	FUZZ_REPLACE_MEMORY,
	FUZZ_SLOT,
	FUZZ_NR_HOST,
};

enum fuzz_op {
	FUZZ_SOON, FUZZ_FAR, FUZZ_PAST, FUZZ_LATER, FUZZ_EARLIER, FUZZ_AGAIN,
	FUZZ_CANCEL, FUZZ_WAIT, FUZZ_IDLE, FUZZ_PLAIN, FUZZ_TOGGLE, FUZZ_MOVE,
	FUZZ_MASK, FUZZ_MODE, FUZZ_READ, FUZZ_CALL_HOST,
	FUZZ_NR_OPS,
};

void guest_fuzz(void);

#endif /* _LAZY_TEST_FUZZ_GUEST_H */
