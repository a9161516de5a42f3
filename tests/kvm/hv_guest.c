// SPDX-License-Identifier: GPL-2.0-only
#include "hv_guest.h"

static void guest_set_up(struct guest_cpu *c)
{
	guest_set_up_skip(guest_us(c->arg[HV_FIRST]), guest_us(c->arg[HV_SECOND]));
}

/* Something near instead of what is armed: that has to trap. */
static void guest_nearer(struct guest_cpu *c)
{
	guest_check_eq(guest_program(guest_rdtsc() + guest_us(c->arg[HV_FIRST])), 1);
}

static void guest_end(struct guest_cpu *c)
{
	guest_wait_fired();
	guest_linger(c->last);
	guest_still_works();
	guest_finish();
}

/* A deadline out of all ranges; the host has a look; then a near one, and again. */
void guest_far(void)
{
	struct guest_cpu *c = guest_self();

	guest_start();
	guest_check_eq(guest_program(guest_rdtsc() + c->arg[HV_TICKS]), 1);
	guest_call(GUEST_CALL_SYNC);
	guest_nearer(c);
	guest_call(GUEST_CALL_SYNC);
	guest_end(c);
}

/* The same, but it is a look that finds it; the host says when that is over. */
void guest_far_look(void)
{
	struct guest_cpu *c = guest_self();
	__u64 control;

	guest_start();
	guest_set_up_skip(guest_us(c->arg[HV_FIRST]), c->arg[HV_TICKS]);
	control = c->control;
	guest_call(GUEST_CALL_SYNC);
	while (c->control == control)
		guest_wait();
	guest_nearer(c);
	guest_end(c);
}

/* The host does something while a look is published. */
void guest_published(void)
{
	struct guest_cpu *c = guest_self();

	guest_start();
	guest_set_up(c);
	guest_call(GUEST_CALL_SYNC);
	guest_end(c);
}

/* Until it comes. */
void guest_far_wait(void)
{
	struct guest_cpu *c = guest_self();

	guest_start();
	guest_program(guest_rdtsc() + c->arg[HV_TICKS]);
	guest_call(GUEST_CALL_SYNC);
	guest_end(c);
}

/*
 * Deadlines that pass before, while or just after the host arms them.  What it
 * has published by then is not one of these, but nothing, or a guess.
 */
void guest_verge(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round, deadline, armed;

	guest_start();
	for (round = 0; round < c->arg[HV_ROUNDS]; round++) {
		/* From before now to as long as a trap may take, in steps. */
		deadline = guest_rdtsc() - guest_us(5) +
			   round * guest_us(c->arg[HV_FIRST]) / c->arg[HV_ROUNDS];
		guest_program(deadline);
		guest_wait_fired();
		armed = guest_armed();
		guest_check2(!armed || armed > deadline, armed, deadline);
		guest_judge();
	}
	guest_end(c);
}

/* What is published stands, unless it is due. */
static void guest_check_armed(__u64 armed)
{
	__u64 now = guest_armed();

	guest_check2(now == armed || guest_rdtsc() >= armed, now, armed);
}

static void guest_phase(struct guest_cpu *c, __u64 phase, __u64 armed)
{
	__u64 control = c->control;

	WRITE_ONCE(c->result[HV_PHASE], phase);
	while (c->control == control) {
		if (phase & 1)
			guest_halt();
		else
			guest_window();
		guest_check_armed(armed);
	}
}

/* Halts and is busy in turns, as the host wakes it, with a look published. */
void guest_places(void)
{
	struct guest_cpu *c = guest_self();
	__u64 i, armed;

	guest_start();
	guest_set_up(c);
	armed = guest_armed();
	guest_call(GUEST_CALL_SYNC);
	for (i = 0; i < 2 * c->arg[HV_ROUNDS]; i++)
		guest_phase(c, i + 1, armed);
	guest_end(c);
}

/* Busy, and after each look wants something later that takes no trap. */
void guest_chase_looks(void)
{
	struct guest_cpu *c = guest_self();
	__u64 armed, now;

	guest_start();
	guest_set_up(c);
	armed = guest_armed();
	guest_call(GUEST_CALL_SYNC);
	while (c->result[HV_LOOKS] < c->arg[HV_ROUNDS]) {
		guest_window();
		now = guest_armed();
		if (!c->wanted || (now && now != armed)) {
			c->result[HV_LOOKS]++;
			armed = now;
			guest_program(guest_rdtsc() + guest_us(c->arg[HV_SECOND]));
		}
	}
	guest_end(c);
}

/* One deadline after the other, each earlier: each is a trap. */
void guest_earlier(void)
{
	struct guest_cpu *c = guest_self();
	__u64 deadline, i;

	guest_start();
	deadline = guest_rdtsc() + guest_us(c->arg[HV_FIRST]);
	guest_call(GUEST_CALL_SYNC);
	for (i = 0; i < c->arg[HV_ROUNDS]; i++)
		guest_check_eq(guest_program(deadline - i * guest_us(10)), 1);
	guest_end(c);
}
