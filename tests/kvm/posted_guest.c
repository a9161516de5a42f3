// SPDX-License-Identifier: GPL-2.0-only
#include "posted_guest.h"

/*
 * Keep one step ahead of the host: whenever a look has armed what was wanted,
 * want something later.  So each look finds nothing due, and no write traps.
 */
void guest_chase(void)
{
	struct guest_cpu *c = guest_self();
	__u64 lead = guest_us(c->arg[ARG_LEAD_US]), fired, traps;
	__u64 looks = 0, last, armed, begin;

	guest_start();
	guest_call(GUEST_CALL_SYNC);
	begin = guest_rdtsc();
	guest_wait_until(begin + c->arg[ARG_LOOKS] * lead);
	c->result[CHASE_ALONE] = guest_rdtsc() - begin;
	guest_call(GUEST_CALL_SYNC);
	guest_set_up_skip(lead, 2 * lead);
	guest_call(GUEST_CALL_SYNC);
	begin = guest_rdtsc();
	fired = c->fired;
	traps = c->traps;
	last = READ_ONCE(c->record->armed);
	while (looks < c->arg[ARG_LOOKS]) {
		guest_window();
		armed = READ_ONCE(c->record->armed);
		if (armed == last && c->wanted)
			continue;
		if (armed && c->wanted) {
			looks++;
			guest_program(guest_rdtsc() + 2 * lead);
		} else if (!c->wanted) {
			/* Too slow: begin again. */
			guest_set_up_skip(lead, 2 * lead);
		}
		last = READ_ONCE(c->record->armed);
	}
	c->result[CHASE_FIRED] = c->fired - fired;
	c->result[CHASE_TRAPS] = c->traps - traps;
	c->result[CHASE_TICKS] = guest_rdtsc() - begin;
	guest_call(GUEST_CALL_SYNC);
	guest_wait_fired();
	guest_linger(c->last);
	guest_finish();
}

/*
 * What the host has published is overwritten: it must deliver what it had armed,
 * due or not, and leave the memory alone.  A trap makes it a record again.
 */
void guest_overwrite(void)
{
	struct guest_cpu *c = guest_self();
	__u64 i, before;

	guest_start();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		guest_set_up_skip(guest_ms(10), guest_ms(30));
		before = c->fired;
		WRITE_ONCE(c->record->armed, ~0ULL);
		while (c->fired == before)
			guest_wait();
		guest_check_eq(READ_ONCE(c->record->armed), ~0ULL);
		/* The early one was asked for. */
		c->early = 0;
		guest_write_plain(guest_rdtsc() + guest_ms(5));
		WRITE_ONCE(c->record->armed, 0);
		guest_wait_fired();
		guest_judge();
	}
	guest_finish();
}
