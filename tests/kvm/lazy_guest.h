/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest sides of lazy_test's scenarios. */
#ifndef _LAZY_TEST_LAZY_GUEST_H
#define _LAZY_TEST_LAZY_GUEST_H

#include "guest.h"

/* What guest_operation() does while a deadline is wanted. */
enum guest_op {
	OP_NONE,		/* nothing: it is the host that does something */
	OP_READ_BACK,
	OP_DISABLE,
	OP_MOVE,
	OP_ENABLE_AGAIN,
	OP_PLAIN_LATER,
	OP_PLAIN_EARLIER,
	OP_CANCEL,
	OP_CANCEL_HALTED,
	OP_GIVE_UP,		/* cancel, with or without a trap */
	OP_MSR_ZERO,
	OP_ONESHOT,
	OP_PERIODIC,
	OP_MASK,
	OP_SPIV,
	OP_APIC_BASE,
	OP_TSC_FORWARD,
	OP_TSC_BACK,
	OP_TSC_ADJUST_FORWARD,
	OP_TSC_ADJUST_BACK,
	OP_BAD_VALUES,
	OP_FRESH,		/* program another deadline */
	OP_LATER,		/* the same, but later than what is wanted */
	OP_DISTRUST,		/* near, then later than an armed that is a lie */
};

/* Arguments of guest_rounds(): deadlines in microseconds from now. */
#define ARG_ROUNDS	0
#define ARG_STEPS	1
#define MAX_STEPS	(GUEST_MAX_ARGS - ARG_STEPS)

/* Arguments of guest_operation(). */
#define ARG_OP		0
#define ARG_FIRST_MS	1
#define ARG_SECOND_MS	2
#define ARG_BAD		3	/* the value to try, for OP_BAD_VALUES */
#define ARG_BACK	3	/* set by the host: the record's memory is back */
#define ARG_KEPT	3	/* set by the host: the deadline has been restored */

/* How guest_neighbours() lays out the record and what else KVM writes to. */
#define ARG_OVERLAP	1	/* all at the record itself */

/* An enemy's number, to draw other values than the last one. */
#define ARG_NUMBER	7

/* Set by one vCPU for the others. */
extern int guest_flag;

/* For other guests of the kind: to begin, to end, and what is described there. */
void guest_start(void);
void guest_finish(void);
void guest_linger(__u64 until);
void guest_set_up_skip(__u64 first, __u64 second);
void guest_still_works(void);
__u64 guest_armed(void);

void guest_rounds(void);
void guest_rhythm(void);
void guest_enabled(void);
void guest_enable_armed(void);
void guest_trap(void);
void guest_operation(void);
void guest_restored(void);
void guest_refused(void);
void guest_refused_no_apic(void);
void guest_hole(void);
void guest_strand(void);
void guest_rely(void);
void guest_unread(void);
void guest_init_ipi(void);
void guest_scribble(void);
void guest_storm(void);
void guest_move(void);
void guest_again(void);
void guest_give_up(void);
void guest_tell(void);
void guest_lose(void);
void guest_one_record(void);
void guest_random_msr(void);
void guest_neighbours(void);
void guest_toggle(void);

#endif /* _LAZY_TEST_LAZY_GUEST_H */
