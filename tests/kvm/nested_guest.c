// SPDX-License-Identifier: GPL-2.0-only
#include "nested_guest.h"

#define PAGE_SIZE	4096

/*
 * The exit may come as early as KVM's timers do: the rest is waited for where the
 * interrupt is injected, whose handler is the judge of it.
 */
#define ADVANCE_MAX_US	5

/* Looks that the inner guest waits for in INNER_CHASE. */
#define CHASED_LOOKS	10

static char inner_stack[2 * PAGE_SIZE] __attribute__((aligned(16)));
/* When the inner guest may give up waiting for an interrupt. */
static __u64 inner_end;

const struct nested_vendor *nested_vendor;

static void nested_init(void (*code)(void), int intercept_intr)
{
	/* As after a call. */
	nested_vendor->init(code, inner_stack + sizeof(inner_stack) - 8,
			    intercept_intr);
}

/* One entry; an interrupt that led to its exit is pending then. */
static enum nested_exit nested_run(void)
{
	struct guest_cpu *c = guest_self();
	enum nested_exit exit = nested_vendor->run();

	c->result[NESTED_RUNS]++;
	if (exit == NESTED_EXIT_INTR)
		c->result[NESTED_INTR]++;
	return exit;
}

static void nested_start(void)
{
	guest_start();
	nested_vendor->start();
}

static void inner_look(struct guest_cpu *c, __u64 *armed)
{
	__u64 now = READ_ONCE(c->record->armed);

	if (now && now != *armed) {
		c->result[NESTED_LOOKS]++;
		*armed = now;
	}
}

/* The inner guest: waits to be interrupted, for as long as it may. */
static void inner_code(void)
{
	struct guest_cpu *c = guest_self();
	__u64 armed = READ_ONCE(c->record->armed), seen;
	int what = c->arg[ARG_INNER], chase = what == INNER_CHASE;

	if (what == INNER_PROGRAM)
		guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
				  guest_us(c->arg[ARG_SECOND_US]));
	if (what == INNER_CALL)
		guest_call(GUEST_CALL_SYNC);
	while (guest_rdtsc() < inner_end) {
		if (what == INNER_HALT) {
			asm volatile("hlt" : : : "memory");
			continue;
		}
		seen = c->result[NESTED_LOOKS];
		inner_look(c, &armed);
		if (!chase || seen == c->result[NESTED_LOOKS])
			continue;
		if (c->result[NESTED_LOOKS] % CHASED_LOOKS == 0)
			chase = 0;
		else
			guest_program(guest_rdtsc() +
				      2 * guest_us(c->arg[ARG_FIRST_US]));
	}
	for (;;)
		nested_vendor->call();
}

/*
 * Its deadline expires while the inner guest runs, after looks that find nothing
 * due.  One exit of the inner guest, and not before the deadline that is wanted.
 */
void guest_nested(void)
{
	struct guest_cpu *c = guest_self();
	enum nested_exit exit;
	__u64 round, now;

	nested_start();
	for (round = 0; round < c->arg[ARG_ROUNDS]; round++) {
		nested_init(inner_code, 1);
		inner_end = ~0ULL;
		if (c->arg[ARG_INNER] != INNER_PROGRAM)
			guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
					  guest_us(c->arg[ARG_SECOND_US]));
		exit = nested_run();
		now = guest_rdtsc();
		guest_check_eq(exit, NESTED_EXIT_INTR);
		guest_check2(now + guest_us(ADVANCE_MAX_US) >= c->wanted, now,
			     c->wanted);
		guest_wait_fired();
		guest_judge();
	}
	guest_check_eq(c->result[NESTED_INTR], c->arg[ARG_ROUNDS]);
	guest_linger(c->last);
	guest_finish();
}

/* Nothing is wanted any more: a look, and nothing that the inner guest sees. */
void guest_nested_cancel(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round;

	nested_start();
	for (round = 0; round < c->arg[ARG_ROUNDS]; round++) {
		nested_init(inner_code, 1);
		guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
				  guest_us(c->arg[ARG_SECOND_US]));
		inner_end = c->wanted + guest_ms(5);
		guest_check_eq(guest_cancel(), 0);
		guest_check_eq(nested_run(), NESTED_EXIT_CALL);
		guest_judge();
	}
	guest_check_eq(c->result[NESTED_INTR], 0);
	guest_finish();
}

/* Interrupts are the inner guest's own: there is no exit at all. */
void guest_nested_own(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round;

	nested_start();
	for (round = 0; round < c->arg[ARG_ROUNDS]; round++) {
		nested_init(inner_code, 0);
		guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
				  guest_us(c->arg[ARG_SECOND_US]));
		inner_end = c->wanted + guest_ms(2);
		guest_check_eq(nested_run(), NESTED_EXIT_CALL);
		guest_check_eq(c->wanted, 0);
		guest_judge();
	}
	guest_check_eq(c->result[NESTED_INTR], 0);
	guest_finish();
}
