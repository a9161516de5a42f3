// SPDX-License-Identifier: GPL-2.0-only
#include "mode_guest.h"

#define APIC_TMCCT	0x39
#define APIC_TDCR	0x3e
#define TDCR_BY_1	0x0b

/* KVM's APIC timer counts nanoseconds. */
#define COUNT_PER_US	1000

/* Interrupts of a periodic timer that are waited for. */
#define PERIODS		5

/* What clocks may differ by: a thousandth, and some microseconds. */
static __u64 guest_at_least(__u64 ticks)
{
	__u64 less = ticks / 1000 + guest_us(5);

	return ticks > less ? ticks - less : 0;
}

static __u64 mode_ticks(struct guest_cpu *c)
{
	return guest_us(c->arg[MODE_US]);
}

static int mode_is_periodic(struct guest_cpu *c)
{
	return c->arg[MODE_LVTT] == GUEST_LVTT_PERIODIC;
}

/* Not more interrupts than the time since then allows. */
static void mode_judge(struct guest_cpu *c, __u64 start, __u64 fired)
{
	__u64 number = c->fired - fired, now = guest_rdtsc();

	guest_check2(guest_at_least(number * mode_ticks(c)) <= now - start,
		     number, now - start);
	if (!mode_is_periodic(c))
		guest_check2(number <= 1, number, fired);
	guest_check_eq(guest_armed(), 0);
}

static void mode_wait_until(struct guest_cpu *c, __u64 tsc, __u64 start,
			    __u64 fired)
{
	while (guest_rdtsc() < tsc) {
		guest_window();
		mode_judge(c, start, fired);
	}
}

static void mode_wait_fired(struct guest_cpu *c, __u64 number, __u64 start,
			    __u64 fired)
{
	while (c->fired - fired < number) {
		guest_wait();
		mode_judge(c, start, fired);
	}
}

/* The timer counts from this time at the latest, mode_start()'s at the earliest. */
static __u64 mode_counts_since;

static __u64 mode_start(struct guest_cpu *c)
{
	__u64 start = guest_rdtsc();

	guest_apic_write(GUEST_APIC_TMICT, c->arg[MODE_US] * COUNT_PER_US);
	mode_counts_since = guest_rdtsc();
	return start;
}

/* Between what is left before and after it is read, or of the next period. */
static void mode_read_current(struct guest_cpu *c, __u64 start)
{
	__u64 before = guest_rdtsc() - mode_counts_since, after, count;
	__u64 ticks = mode_ticks(c);

	count = guest_us(guest_apic_read(APIC_TMCCT)) / COUNT_PER_US;
	after = guest_rdtsc() - start;
	guest_check2(count <= ticks, count, ticks);
	if (after >= guest_at_least(ticks))
		return;
	guest_check2(count <= ticks - guest_at_least(before), count, before);
	guest_check2(count + after + guest_us(5) >= guest_at_least(ticks), count,
		     after);
}

/* Does what is asked for; are interrupts still to come? */
static int mode_operate(struct guest_cpu *c, __u64 *start, __u64 *fired)
{
	switch (c->arg[MODE_OP]) {
	case MODE_CURRENT:
		mode_read_current(c, *start);
		return 1;
	case MODE_STOP:
		guest_apic_write(GUEST_APIC_TMICT, 0);
		guest_check_eq(guest_apic_read(APIC_TMCCT), 0);
		return 0;
	case MODE_AGAIN:
		/* The last one may have been accepted before that. */
		do {
			*start = mode_start(c);
			guest_window();
			*fired = c->fired;
		} while (guest_rdtsc() - *start > mode_ticks(c) / 2);
		return 1;
	case MODE_MASK:
		guest_apic_write(GUEST_APIC_LVTT,
				 c->arg[MODE_LVTT] | GUEST_LVTT_MASKED);
		/* One may have been accepted already. */
		guest_window();
		*fired = c->fired;
		mode_wait_until(c, guest_rdtsc() + 3 * mode_ticks(c), *start,
				*fired);
		guest_check_eq(c->fired, *fired);
		guest_apic_write(GUEST_APIC_LVTT, c->arg[MODE_LVTT]);
		return mode_is_periodic(c);
	case MODE_RECORD:
		guest_disable();
		guest_enable();
		return 1;
	case MODE_PENDING:
		WRITE_ONCE(c->record->pending, guest_rdtsc() + guest_us(50));
		guest_wrmsr(GUEST_MSR_TSC_DEADLINE, c->record->pending);
		guest_check_eq(guest_rdmsr(GUEST_MSR_TSC_DEADLINE), 0);
		return 1;
	case MODE_SYNC:
		guest_call(GUEST_CALL_SYNC);
		return 1;
	case MODE_DEADLINE:
		return 0;
	default:
		return 1;
	}
}

/* The mode is left with the timer running, if it is periodic: then it is over. */
static void mode_leave(struct guest_cpu *c)
{
	__u64 fired;

	guest_check_eq(guest_armed(), 0);
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
	guest_mb();
	guest_check_eq(guest_apic_read(GUEST_APIC_TMICT), 0);
	/* One may have been accepted already. */
	guest_window();
	fired = c->fired;
	guest_wait_until(guest_rdtsc() + 2 * mode_ticks(c));
	guest_check_eq(c->fired, fired);
	/* None of these were deadlines. */
	c->stray = 0;
}

static void mode_round(struct guest_cpu *c)
{
	__u64 start, fired = c->fired, number = mode_is_periodic(c) ? PERIODS : 1;

	guest_apic_write(GUEST_APIC_LVTT, c->arg[MODE_LVTT]);
	guest_check_eq(guest_armed(), 0);
	start = mode_start(c);
	mode_wait_until(c, start + mode_ticks(c) / 2, start, fired);
	if (!mode_operate(c, &start, &fired))
		number = 0;
	mode_wait_fired(c, number, start, fired);
	if (c->arg[MODE_OP] == MODE_STOP || !mode_is_periodic(c)) {
		/* Before it was stopped it may have expired. */
		if (!number)
			guest_window();
		number = c->fired;
		if (c->arg[MODE_OP] != MODE_DEADLINE)
			mode_wait_until(c, guest_rdtsc() + 2 * mode_ticks(c), start,
					fired);
		guest_check_eq(c->fired, number);
		c->result[MODE_SHOTS] += number - fired;
	} else if (number) {
		c->result[MODE_PERIODS]++;
	}
	mode_leave(c);
}

/* In one of the other modes for a round, then in deadline mode, and again. */
void guest_mode(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round;

	guest_start();
	guest_apic_write(APIC_TDCR, TDCR_BY_1);
	for (round = 0; round < c->arg[MODE_ROUNDS]; round++) {
		mode_round(c);
		guest_still_works();
	}
	guest_finish();
}
