/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A guest that runs a guest of its own, with SVM or VMX.  "Inner" is that one,
 * which has the same memory, page tables and interrupt handlers.
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

enum nested_exit {
	NESTED_EXIT_INTR,
	NESTED_EXIT_CALL,	/* the inner guest has asked for it */
};

/**
 * struct nested_vendor - how a guest is run
 * @start: makes the CPU ready for it
 * @init: the next entry begins there, on that stack; with or without an exit
 *	for interrupts
 * @run: enters it, once
 * @call: leaves it, from inside
 */
struct nested_vendor {
	void (*start)(void);
	void (*init)(void (*code)(void), void *stack, int intercept_intr);
	enum nested_exit (*run)(void);
	void (*call)(void);
};

extern const struct nested_vendor nested_svm, nested_vmx;
/* To be set before a VM is created. */
extern const struct nested_vendor *nested_vendor;

/* What SGDT and SIDT store. */
struct nested_table {
	__u16 limit;
	__u64 base;
} __attribute__((packed));

#define NESTED_REG(name)						\
	({								\
		__u64 _value;						\
									\
		asm volatile("mov %%" #name ", %0" : "=r"(_value));	\
		_value;							\
	})

void guest_nested(void);
void guest_nested_cancel(void);
void guest_nested_own(void);

#endif /* _LAZY_TEST_NESTED_GUEST_H */
