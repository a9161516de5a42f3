// SPDX-License-Identifier: GPL-2.0-only
#include "lazy_guest.h"

#define ATTEMPTS	30

int guest_flag;

static struct lazy_tscdeadline_record *guest_record(void)
{
	return guest_self()->record;
}

__u64 guest_armed(void)
{
	return READ_ONCE(guest_record()->armed);
}

/* The pause lets a host with one CPU run the vCPU that is to set the flag. */
static void guest_await_flag(void)
{
	while (!READ_ONCE(guest_flag))
		guest_pause();
}

/* What has been is not the question any more. */
static void guest_forget(struct guest_cpu *c)
{
	c->wanted = 0;
	c->grace = 0;
	c->early = 0;
	c->stray = 0;
	c->good = c->programmed - c->replaced;
}

void guest_start(void)
{
	guest_apic_init();
	guest_enable();
}

void guest_finish(void)
{
	guest_judge();
	for (;;)
		guest_call(GUEST_CALL_DONE);
}

/* A while longer, so that an interrupt too many can come. */
void guest_linger(__u64 until)
{
	guest_wait_until(until + guest_ms(2));
	guest_judge();
}

/*
 * Bring about the state all is about: a look is published, and a later
 * deadline is wanted that the host has not been told of.  Under emulation a
 * first deadline can be over before the second is stored: try again then.
 */
void guest_set_up_skip(__u64 first, __u64 second)
{
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		__u64 now = guest_rdtsc();

		guest_program(now + first);
		if (!guest_program(now + second) && guest_armed())
			return;
		guest_wait_fired();
		guest_judge();
	}
	guest_fail(__LINE__, "nothing is published (armed, pending)",
		   guest_armed(), guest_record()->pending);
}

void guest_still_works(void)
{
	struct guest_cpu *c = guest_self();
	__u64 value;

	if (c->dialect == GUEST_PLAIN ||
	    guest_rdmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, &value)) {
		guest_program(guest_rdtsc() + guest_ms(10));
	} else {
		if (!value)
			guest_enable();
		guest_set_up_skip(guest_ms(10), guest_ms(20));
	}
	guest_wait_fired();
	guest_linger(c->last);
}

/* Rounds of: program all steps one after the other, wait for the last. */
void guest_rounds(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round;
	int i;

	guest_start();
	for (round = 0; round < c->arg[ARG_ROUNDS]; round++) {
		__u64 latest = 0;

		for (i = ARG_STEPS; i < GUEST_MAX_ARGS && c->arg[i]; i++) {
			__s64 us = c->arg[i];
			__u64 now = guest_rdtsc();
			__u64 deadline = us < 0 ?
					 guest_before(now, guest_us(-us)) :
					 now + guest_us(us);

			guest_program(deadline);
			if (deadline > latest)
				latest = deadline;
			guest_window();
		}
		guest_wait_fired();
		guest_judge();
		guest_linger(latest);
	}
	guest_finish();
}

/* A steady rhythm, each deadline from the last one; then silence. */
void guest_rhythm(void)
{
	struct guest_cpu *c = guest_self();
	__u64 step = guest_us(c->arg[ARG_STEPS]), next, i;

	guest_start();
	next = guest_rdtsc() + step;
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		guest_program(next);
		guest_wait_fired();
		guest_judge();
		while (next <= guest_rdtsc())
			next += step;
	}
	/* What is over at once: the guess for the next beat is no leftover. */
	guest_program(guest_rdtsc());
	guest_check_eq(c->disproved, 0);
	guest_wait_fired();
	guest_judge();
	guest_linger(guest_rdtsc() + 10 * step);
	guest_still_works();
	guest_finish();
}

/* What enabling leaves behind. */
void guest_enabled(void)
{
	struct lazy_tscdeadline_record *record = guest_record();
	__u64 value = (__u64)record | LAZY_TSCDEADLINE_MSR_ENABLED;
	unsigned int i;

	guest_apic_init();
	guest_check_eq(guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE), 0);
	guest_enable();
	guest_check_eq(guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE), value);
	guest_check_eq(READ_ONCE(record->armed), 0);
	guest_check_eq(record->pending, 0);
	guest_check_eq(record->flags, 0);
	guest_check_eq(record->version, LAZY_TSCDEADLINE_VERSION);
	guest_check_eq(record->features, LAZY_TSCDEADLINE_F_CANCEL |
		       LAZY_TSCDEADLINE_F_COUNT);
	guest_check_eq(record->count, 0);
	for (i = 0; i < ARRAY_SIZE(record->pad); i++)
		guest_check_eq(record->pad[i], 0);
	guest_disable();
	guest_check_eq(guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE), 0);
	guest_check_eq(READ_ONCE(record->armed), 0);
	/* Off: what the record says is nobody's business any more. */
	guest_check_eq(guest_program(guest_rdtsc() + guest_ms(10)), 1);
	guest_check_eq(READ_ONCE(record->armed), 0);
	guest_wait_fired();
	guest_enable();
	guest_still_works();
	guest_finish();
}

/* A deadline that was armed before the feature was must survive that. */
void guest_enable_armed(void)
{
	guest_apic_init();
	guest_write_plain(guest_rdtsc() + guest_ms(20));
	guest_enable();
	guest_wait_fired();
	guest_linger(guest_self()->last);
	guest_still_works();
	guest_finish();
}

void guest_trap(void)
{
	struct lazy_tscdeadline_record *record = guest_record();
	__u64 now, deadline, armed, i;
	__u32 count;

	guest_start();
	for (i = 0; i < 5; i++) {
		now = guest_rdtsc();
		deadline = now + guest_ms(50);
		count = READ_ONCE(record->count);
		guest_check2(guest_program(deadline) || i, 0, READ_ONCE(record->armed));
		armed = READ_ONCE(record->armed);
		guest_check2(armed && armed <= deadline, armed, deadline);
		guest_check2(armed > now, armed, now);
		guest_check2(i || READ_ONCE(record->count) != count, 0, count);
		guest_check_eq(record->pending, deadline);
		guest_wait_fired();
		guest_judge();
	}
	guest_finish();
}

static void guest_check_refused(__u64 value)
{
	struct lazy_tscdeadline_record *record = guest_record();
	__u64 before, after;

	before = guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE);
	guest_check2(guest_wrmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, value), value,
		     before);
	after = guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE);
	guest_check2(before == after, before, after);
	guest_check_eq(record->version, LAZY_TSCDEADLINE_VERSION);
}

static void guest_dropped(__u64 until)
{
	guest_drop();
	guest_linger(until);
}

/* What was published in the old time must not stay; in the new one it may. */
static void guest_write_tsc(int adjust, int back)
{
	__u64 delta = guest_ms(5), before = guest_armed();

	if (back)
		delta = -delta;
	if (adjust)
		guest_wrmsr(GUEST_MSR_TSC_ADJUST,
			    guest_rdmsr(GUEST_MSR_TSC_ADJUST) + delta);
	else
		guest_wrmsr(GUEST_MSR_TSC, guest_rdtsc() + delta);
	guest_check2(guest_armed() != before, before, guest_record()->pending);
}

static void guest_switch_mode(__u32 lvtt, __u64 second)
{
	guest_apic_write(GUEST_APIC_LVTT, lvtt);
	guest_check_eq(guest_armed(), 0);
	guest_dropped(second);
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
	guest_mb();
}

static void guest_do_operation(int op, __u64 second)
{
	struct lazy_tscdeadline_record *record = guest_record();
	struct guest_cpu *c = guest_self();
	__u64 base;

	switch (op) {
	case OP_NONE:
		break;
	case OP_READ_BACK:
		guest_check_eq(guest_rdmsr(GUEST_MSR_TSC_DEADLINE), second);
		break;
	case OP_DISABLE:
		guest_disable();
		guest_check_eq(guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE), 0);
		guest_check_eq(READ_ONCE(record->armed), 0);
		break;
	case OP_MOVE:
		c->record += GUEST_MAX_CPUS;
		guest_enable();
		guest_check_eq(READ_ONCE(record->armed), 0);
		break;
	case OP_ENABLE_AGAIN:
		guest_wrmsr(MSR_KVM_LAZY_TSCDEADLINE,
			    guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE));
		break;
	case OP_PLAIN_LATER:
		guest_write_plain(second + guest_ms(20));
		guest_check_eq(READ_ONCE(record->armed), 0);
		break;
	case OP_PLAIN_EARLIER:
		guest_write_plain(guest_rdtsc() + guest_ms(10));
		guest_check_eq(READ_ONCE(record->armed), 0);
		guest_wait_fired();
		guest_dropped(second);
		break;
	case OP_CANCEL:
		guest_check_eq(guest_cancel(), 0);
		guest_dropped(second);
		break;
	case OP_CANCEL_HALTED:
		guest_check_eq(guest_cancel(), 0);
		guest_halt_until(second + guest_ms(2));
		guest_check(c->control);
		break;
	case OP_GIVE_UP:
		guest_cancel();
		guest_dropped(second);
		break;
	case OP_MSR_ZERO:
		guest_wrmsr(GUEST_MSR_TSC_DEADLINE, 0);
		guest_check_eq(READ_ONCE(record->armed), 0);
		guest_dropped(second);
		break;
	case OP_ONESHOT:
		guest_switch_mode(GUEST_LVTT_ONESHOT, second);
		break;
	case OP_PERIODIC:
		guest_switch_mode(GUEST_LVTT_PERIODIC, second);
		break;
	case OP_MASK:
		guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE |
				 GUEST_LVTT_MASKED);
		guest_check_eq(READ_ONCE(record->armed), 0);
		guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
		break;
	case OP_SPIV:
		guest_apic_write(GUEST_APIC_SPIV, GUEST_SPIV_DISABLE);
		guest_check_eq(READ_ONCE(record->armed), 0);
		guest_apic_write(GUEST_APIC_SPIV, GUEST_SPIV_ENABLE);
		/* Software disable has masked it. */
		guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
		break;
	case OP_APIC_BASE:
		base = guest_rdmsr(GUEST_MSR_APIC_BASE);
		base &= ~(__u64)(GUEST_APIC_BASE_EXTD | GUEST_APIC_BASE_ENABLE);
		guest_wrmsr(GUEST_MSR_APIC_BASE, base);
		guest_check_eq(READ_ONCE(record->armed), 0);
		guest_apic_init();
		/* On hardware the deadline is gone, KVM keeps it: ask again. */
		guest_program(second + guest_ms(10));
		break;
	case OP_TSC_FORWARD:
	case OP_TSC_BACK:
		guest_write_tsc(0, op == OP_TSC_BACK);
		break;
	case OP_TSC_ADJUST_FORWARD:
	case OP_TSC_ADJUST_BACK:
		guest_write_tsc(1, op == OP_TSC_ADJUST_BACK);
		break;
	case OP_BAD_VALUES:
		guest_check_refused(c->arg[ARG_BAD]);
		break;
	case OP_FRESH:
		/* What was wanted may have come through or not. */
		guest_drop();
		guest_program(guest_rdtsc() + guest_ms(30));
		break;
	case OP_LATER:
		guest_program(second + guest_ms(20));
		break;
	case OP_DISTRUST:
		/* The host has put a promise there that is not KVM's. */
		base = guest_armed();
		guest_check(base > second);
		guest_program(guest_rdtsc() + guest_ms(20));
		guest_check_eq(guest_armed(), base);
		guest_wait_fired();
		guest_judge();
		guest_program(base + guest_ms(10));
		break;
	default:
		guest_fail(__LINE__, "unknown operation", op, 0);
	}
}

/*
 * While a look is published and a later deadline wanted, do one thing in the
 * guest (arg[ARG_OP]), after the host has done one thing (GUEST_CALL_SYNC).
 */
void guest_operation(void)
{
	struct guest_cpu *c = guest_self();
	__u64 second;

	guest_start();
	/* The TSC was 0 not long ago: leave room for setting it back. */
	guest_wait_until(guest_ms(10));
	guest_set_up_skip(guest_ms(c->arg[ARG_FIRST_MS]),
			  guest_ms(c->arg[ARG_SECOND_MS]));
	second = c->wanted;
	guest_call(GUEST_CALL_SYNC);
	guest_do_operation(c->arg[ARG_OP], second);
	guest_wait_fired();
	guest_linger(second > c->last ? second : c->last);
	if (c->arg[ARG_OP] == OP_DISABLE)
		guest_check_eq(guest_armed(), 0);
	guest_still_works();
	guest_finish();
}

/*
 * While a look is published and a later deadline wanted, the guest goes on with
 * another vCPU, which was given the timer (ARG_KEPT), or not.
 */
void guest_restored(void)
{
	struct guest_cpu *c = guest_self();
	__u64 second;

	guest_start();
	guest_set_up_skip(guest_ms(c->arg[ARG_FIRST_MS]),
			  guest_ms(c->arg[ARG_SECOND_MS]));
	second = c->wanted;
	guest_call(GUEST_CALL_SYNC);
	if (READ_ONCE(c->arg[ARG_KEPT]))
		guest_wait_fired();
	else
		guest_drop();
	guest_linger(second > c->last ? second : c->last);
	guest_still_works();
	guest_finish();
}

/* A host without the feature, or one that hides it from this guest. */
void guest_refused(void)
{
	__u64 value, gpa = (__u64)guest_record();

	guest_apic_init();
	guest_check(guest_rdmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, &value));
	guest_check(guest_wrmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, 0));
	guest_check(guest_wrmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, gpa |
				     LAZY_TSCDEADLINE_MSR_ENABLED));
	guest_program(guest_rdtsc() + guest_ms(10));
	guest_check_eq(guest_armed(), 0);
	guest_wait_fired();
	guest_finish();
}

void guest_refused_no_apic(void)
{
	__u64 gpa = (__u64)guest_record();

	guest_check(guest_wrmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, gpa |
				     LAZY_TSCDEADLINE_MSR_ENABLED));
	guest_check_eq(guest_record()->version, 0);
	guest_finish();
}

/* The record's memory is gone for a time; whatever comes, something must. */
void guest_hole(void)
{
	struct guest_cpu *c = guest_self();
	__u64 before;

	guest_start();
	guest_set_up_skip(guest_ms(c->arg[ARG_FIRST_MS]),
			  guest_ms(c->arg[ARG_SECOND_MS]));
	before = c->fired;
	guest_call(GUEST_CALL_SYNC);
	while (c->fired == before)
		guest_wait();
	guest_call(GUEST_CALL_SYNC);
	/* Whether that one was early is not the question: the host was blind. */
	guest_wait_until(guest_rdtsc() + guest_ms(c->arg[ARG_SECOND_MS]));
	guest_forget(c);
	guest_still_works();
	guest_finish();
}

/* A look is published; what is wanted then, and is still to be written, is earlier. */
static __u64 guest_set_up_earlier(__u64 first, __u64 earlier)
{
	__u64 deadline;

	guest_start();
	guest_set_up_skip(first, guest_ms(guest_self()->arg[ARG_SECOND_MS]));
	deadline = guest_rdtsc() + earlier;
	WRITE_ONCE(guest_record()->pending, deadline);
	guest_call(GUEST_CALL_SYNC);
	return deadline;
}

/* What is wanted comes, once, and all goes on. */
static void guest_goes_on(void)
{
	guest_wait_fired();
	guest_linger(guest_self()->last);
	guest_still_works();
	guest_finish();
}

/*
 * A look is published when the guest wants something earlier, and traps for it; but
 * the record's memory is gone just then, so what is published cannot be withdrawn.
 * When it is there again the look must not be relied upon, or must come.
 */
void guest_strand(void)
{
	struct guest_cpu *c = guest_self();
	__u64 first = guest_ms(c->arg[ARG_FIRST_MS]);

	guest_write_plain(guest_set_up_earlier(first, first / 4));
	guest_call(GUEST_CALL_SYNC);
	guest_wait_fired();
	guest_judge();
	guest_program(guest_rdtsc() + 2 * first);
	guest_goes_on();
}

/*
 * The same, but the memory is back before the host knows, and what was written is
 * over: the guest relies on what it was promised (an RFC guest also if that is over).
 */
void guest_rely(void)
{
	struct guest_cpu *c = guest_self();
	__u64 first = guest_ms(c->arg[ARG_FIRST_MS]), fired;
	int trap;

	guest_write_plain(guest_set_up_earlier(first, first / 8));
	guest_wait_fired();
	guest_judge();
	if (c->arg[ARG_OP] == OP_LATER) {
		/* Nobody knows what is wanted when the look is due: an interrupt. */
		fired = c->fired;
		while (c->fired == fired)
			guest_window();
		c->stray = 0;
		c->early = 0;
	}
	WRITE_ONCE(c->result[0], 1);
	while (!READ_ONCE(c->arg[ARG_BACK]))
		guest_window();
	trap = guest_program(guest_rdtsc() + 2 * first);
	/* Ours does not rely on what is over: on a slow machine it may be. */
	guest_check(c->dialect != GUEST_RFC || !trap);
	/* There is no look any more, but KVM_RUN returns. */
	if (c->arg[ARG_OP] == OP_LATER)
		guest_call(GUEST_CALL_SYNC);
	guest_goes_on();
}

/*
 * A look is published, the record's memory is gone for a moment, and just then the
 * host has a reason to withdraw.  The guest knows nothing of that.
 */
void guest_unread(void)
{
	struct guest_cpu *c = guest_self();
	__u64 first = guest_ms(c->arg[ARG_FIRST_MS]);

	guest_start();
	guest_set_up_skip(first, guest_ms(c->arg[ARG_SECOND_MS]));
	guest_call(GUEST_CALL_SYNC);
	guest_program(guest_rdtsc() + first / 8);
	guest_wait_fired();
	guest_judge();
	guest_program(guest_rdtsc() + 2 * first);
	guest_goes_on();
}

/* vCPU 1 is in lazy mode, halted or busy, when vCPU 0 resets it. */
void guest_init_ipi(void)
{
	struct guest_cpu *c = guest_self();

	if (c->id) {
		guest_start();
		guest_set_up_skip(guest_ms(c->arg[ARG_FIRST_MS]),
				  guest_ms(c->arg[ARG_SECOND_MS]));
		WRITE_ONCE(guest_flag, 1);
		guest_wait_fired();
		guest_fail(__LINE__, "the INIT came too late or not at all", 0, 0);
	}
	guest_apic_init();
	guest_await_flag();
	guest_wait_until(guest_rdtsc() + guest_ms(2));
	/* INIT, level, to the vCPU with APIC ID 1. */
	guest_wrmsr(0x800 + GUEST_APIC_ICR, 1ULL << 32 | 0x4500);
	guest_wait_until(guest_rdtsc() + guest_ms(5));
	guest_finish();
}

static __u64 guest_random(__u64 *state)
{
	__u64 x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x;
}

static __u64 guest_evil_value(__u64 *state)
{
	__u64 x = guest_random(state), now = guest_rdtsc();

	switch (x >> 8 & 7) {
	case 0:
		return 0;
	case 1:
		return ~0ULL;
	case 2:
		return 1ULL << 63;
	case 3:
		return now - (x >> 48);
	case 4:
		return now + (x >> 52);
	case 5:
		return now + (x >> 44);
	case 6:
		return now;
	default:
		return x;
	}
}

static void guest_wake(int cpu)
{
	guest_wrmsr(0x800 + GUEST_APIC_ICR, (__u64)cpu << 32 |
		    GUEST_CONTROL_VECTOR);
}

static void guest_scribbler(struct guest_cpu *c)
{
	struct lazy_tscdeadline_record *victim = guest_cpus[0].record;
	__u32 *words = (__u32 *)victim;
	__u64 i, state = 88172645463325252ULL;

	guest_apic_init();
	guest_await_flag();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		WRITE_ONCE(victim->pending, guest_evil_value(&state));
		if (i & 1)
			WRITE_ONCE(victim->armed, guest_evil_value(&state));
		if (i % 64 == 0)
			WRITE_ONCE(words[4 + state % 12], guest_random(&state));
		if (i % 512 == 0)
			guest_wake(0);
	}
	WRITE_ONCE(guest_flag, 2);
	guest_wake(0);
	guest_finish();
}

static void guest_recover(struct guest_cpu *c)
{
	/* Let what is under way arrive, then judge again from here. */
	guest_disable();
	guest_wrmsr(GUEST_MSR_TSC_DEADLINE, 0);
	guest_wait_until(guest_rdtsc() + guest_ms(5));
	guest_forget(c);
	guest_enable();
	guest_still_works();
	guest_finish();
}

/* vCPU 1 writes nonsense into the record of vCPU 0 while that uses it. */
void guest_scribble(void)
{
	struct guest_cpu *c = guest_self();
	__u64 state = 362436069;

	if (c->id)
		guest_scribbler(c);
	guest_start();
	WRITE_ONCE(guest_flag, 1);
	while (READ_ONCE(guest_flag) == 1) {
		__u64 ticks = guest_us(guest_random(&state) % 3000);

		guest_program(guest_rdtsc() + ticks);
		if (c->wait == GUEST_HALT)
			guest_halt();
		else
			guest_wait_until(guest_rdtsc() + ticks);
	}
	guest_recover(c);
}

/* Until vCPU 0 has had enough, and not while it programs. */
static void guest_stormer(struct guest_cpu *c)
{
	struct lazy_tscdeadline_record *victim = guest_cpus[0].record;
	__u64 ahead = guest_us(c->arg[ARG_STEPS]);
	int flag;

	while ((flag = READ_ONCE(guest_flag)) != 2) {
		if (flag)
			WRITE_ONCE(victim->pending, guest_rdtsc() + ahead);
		/* Of a host with one CPU, the other vCPU needs a share. */
		guest_pause();
	}
	WRITE_ONCE(guest_flag, 3);
	guest_finish();
}

/*
 * vCPU 1 keeps the deadline of vCPU 0 just ahead of the host's looks: there must
 * be an interrupt all the same.  It goes on until there were as many as wanted.
 */
void guest_storm(void)
{
	struct guest_cpu *c = guest_self();
	__u64 before, i;

	if (c->id)
		guest_stormer(c);
	guest_start();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		before = c->fired;
		guest_program(guest_rdtsc() + guest_ms(5));
		WRITE_ONCE(guest_flag, 1);
		while (c->fired == before)
			guest_wait();
		WRITE_ONCE(guest_flag, 0);
	}
	WRITE_ONCE(guest_flag, 2);
	/* Its last store may come much later. */
	while (READ_ONCE(guest_flag) != 3)
		guest_pause();
	guest_recover(c);
}

/*
 * As guest_storm(), but it moves the deadline itself, without a trap, until the
 * host has seen enough.
 */
void guest_move(void)
{
	struct guest_cpu *c = guest_self();
	__u64 ahead = guest_us(c->arg[ARG_STEPS]), before;

	guest_start();
	while (READ_ONCE(c->arg[ARG_ROUNDS])) {
		before = c->fired;
		guest_program(guest_rdtsc() + ahead);
		while (c->fired == before) {
			WRITE_ONCE(guest_record()->pending, guest_rdtsc() + ahead);
			guest_window();
		}
		guest_call(GUEST_CALL_SYNC);
	}
	guest_recover(c);
}

/* What was delivered is wanted once more: it is past, and fires at once. */
void guest_again(void)
{
	struct guest_cpu *c = guest_self();
	__u64 deadline, i;

	guest_start();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		deadline = guest_rdtsc() + guest_us(c->arg[ARG_STEPS]);
		guest_program(deadline);
		guest_wait_fired();
		guest_check_eq(guest_program(deadline), 1);
		guest_wait_fired();
		guest_judge();
	}
	guest_linger(c->last);
	guest_finish();
}

/*
 * While one interrupt is in the APIC, the next deadline passes, is held by the host
 * as a plain one and given up.  The first comes; where that took no trap (ours), the
 * second may.
 */
void guest_give_up(void)
{
	struct guest_cpu *c = guest_self();
	__u64 deadline, before, most, i;

	guest_start();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		before = c->fired;
		guest_enable();
		guest_program(guest_rdtsc() + guest_us(c->arg[ARG_STEPS]));
		while (!guest_is_requested())
			guest_pause();
		guest_disable();
		deadline = guest_rdtsc() + guest_us(c->arg[ARG_STEPS]);
		guest_check_eq(guest_program(deadline), 1);
		while (guest_rdtsc() < deadline)
			guest_pause();
		most = guest_cancel() ? 1 : 2;
		guest_linger(deadline);
		guest_check2(c->fired > before && c->fired - before <= most,
			     c->fired, before);
	}
	guest_finish();
}

/* The memory goes while nothing is published, and a deadline is written. */
void guest_lose(void)
{
	guest_start();
	guest_call(GUEST_CALL_SYNC);
	guest_write_plain(guest_rdtsc() + guest_ms(10));
	guest_wait_fired();
	guest_linger(guest_self()->last);
	guest_call(GUEST_CALL_SYNC);
	guest_still_works();
	guest_finish();
}

/* What keeps the host from publishing, one after the other, for it to tell. */
void guest_tell(void)
{
	guest_start();
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE | GUEST_LVTT_MASKED);
	guest_call(GUEST_CALL_SYNC);
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_ONESHOT);
	guest_call(GUEST_CALL_SYNC);
	guest_apic_write(GUEST_APIC_SPIV, GUEST_SPIV_DISABLE);
	guest_call(GUEST_CALL_SYNC);
	guest_apic_write(GUEST_APIC_SPIV, GUEST_SPIV_ENABLE);
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
	guest_mb();
	guest_call(GUEST_CALL_SYNC);
	guest_still_works();
	guest_finish();
}

/*
 * All vCPUs use the record of the first one, which keeps none of them from
 * recovering with a record of its own.
 */
void guest_one_record(void)
{
	struct guest_cpu *c = guest_self();
	struct lazy_tscdeadline_record *own = c->record;
	__u64 state = 521288629 + c->id, i;

	c->record = guest_cpus[0].record;
	guest_start();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		__u64 ticks = guest_us(guest_random(&state) % 3000);

		guest_program(guest_rdtsc() + ticks);
		guest_wait_until(guest_rdtsc() + ticks);
		if (i % 16 == 15)
			guest_enable();
	}
	/* Nobody may share it any more when the first one goes on with it. */
	guest_disable();
	__atomic_add_fetch(&guest_flag, 1, __ATOMIC_SEQ_CST);
	while (READ_ONCE(guest_flag) < (int)c->arg[ARG_STEPS])
		guest_window();
	c->record = own;
	guest_recover(c);
}

#define GUEST_MSR_KVM_CLOCK	0x4b564d01
#define GUEST_MSR_KVM_STEAL	0x4b564d03
#define GUEST_MSR_KVM_PV_EOI	0x4b564d04

static void guest_set_neighbours(__u64 clock, __u64 steal, __u64 eoi)
{
	guest_wrmsr(GUEST_MSR_KVM_CLOCK, clock);
	guest_wrmsr(GUEST_MSR_KVM_STEAL, steal);
	guest_wrmsr(GUEST_MSR_KVM_PV_EOI, eoi);
}

/*
 * KVM's clock, steal time and end-of-interrupt flag are in the page of the
 * record, as is allowed; or in the record itself, as it is not.
 */
void guest_neighbours(void)
{
	struct guest_cpu *c = guest_self();
	__u64 base = (__u64)c->record, off = c->arg[ARG_OVERLAP] ? 0 : 1024;
	__u64 state = 88172645463325252ULL, i;

	guest_start();
	guest_set_neighbours((base + off) | 1, (base + 2 * off) | 1,
			     (base + 3 * off) | 1);
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		__u64 ticks = guest_us(guest_random(&state) % 3000);

		if (off) {
			guest_set_up_skip(guest_ms(5), guest_ms(10));
			guest_wait_fired();
			guest_linger(c->last);
			continue;
		}
		guest_program(guest_rdtsc() + ticks);
		guest_wait_until(guest_rdtsc() + ticks);
		if (i % 16 == 15)
			guest_enable();
	}
	guest_set_neighbours(0, 0, 0);
	if (!off)
		guest_recover(c);
	guest_still_works();
	guest_finish();
}

static int guest_may_be_record(__u64 value)
{
	__u64 gpa = value & LAZY_TSCDEADLINE_MSR_GPA_MASK;

	return gpa >= GUEST_RECORD_GPA && gpa < GUEST_RECORD_GPA + GUEST_RECORD_SIZE;
}

/*
 * Nothing; a record; any value; any address; any value near the records.  Not the
 * rest of the guest's memory, to which the host would be right to write.
 */
static __u64 guest_random_msr_value(__u64 *state)
{
	__u64 value = guest_random(state), kind = guest_random(state) % 5;
	__u64 offset = value % GUEST_RECORD_SIZE;

	switch (kind) {
	case 0:
		return 0;
	case 1:
		return ((GUEST_RECORD_GPA + offset) & LAZY_TSCDEADLINE_MSR_GPA_MASK) |
		       LAZY_TSCDEADLINE_MSR_ENABLED;
	case 2:
		value = (value & LAZY_TSCDEADLINE_MSR_GPA_MASK) |
			LAZY_TSCDEADLINE_MSR_ENABLED;
		break;
	case 3:
		value = GUEST_RECORD_GPA - GUEST_RECORD_SIZE +
			value % (3 * GUEST_RECORD_SIZE);
		break;
	}
	return value < GUEST_RECORD_GPA - GUEST_RECORD_SIZE ? 0 : value;
}

static int guest_is_good_value(__u64 value)
{
	__u64 all = LAZY_TSCDEADLINE_MSR_GPA_MASK | LAZY_TSCDEADLINE_MSR_ENABLED;

	if (!value)
		return 1;
	return value & LAZY_TSCDEADLINE_MSR_ENABLED && !(value & ~all) &&
	       guest_may_be_record(value);
}

static void guest_try_msr(struct guest_cpu *c, __u64 value)
{
	__u64 before = guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE);
	int refused = guest_wrmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, value);

	guest_check2((refused == 0) == guest_is_good_value(value), value, before);
	guest_check_eq(guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE), refused ? before : value);
	if (refused)
		return;
	c->disproved = 0;
	if (value)
		c->record = (void *)(value & LAZY_TSCDEADLINE_MSR_GPA_MASK);
}

/*
 * The MSR takes what it may, and is as it was after the rest; meanwhile deadlines
 * come as they should.
 */
void guest_random_msr(void)
{
	struct guest_cpu *c = guest_self();
	__u64 state = 88172645463325252ULL + c->arg[ARG_NUMBER], i;

	guest_start();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		guest_try_msr(c, guest_random_msr_value(&state));
		guest_program(guest_rdtsc() + guest_us(guest_random(&state) % 500));
		if (i & 1)
			guest_window();
		guest_judge();
	}
	guest_wait_fired();
	guest_linger(c->last);
	guest_enable();
	guest_still_works();
	guest_finish();
}

/* Enabled, moved, disabled, and deadlines wanted all the while. */
void guest_toggle(void)
{
	struct guest_cpu *c = guest_self();
	struct lazy_tscdeadline_record *own = c->record;
	__u64 state = 362436069 + c->id, i;

	guest_start();
	for (i = 0; i < c->arg[ARG_ROUNDS]; i++) {
		/* In any of the pages, at the place that is its own in each. */
		c->record = (void *)((__u64)own + (guest_random(&state) & 3) * 4096);
		guest_enable();
		guest_program(guest_rdtsc() + guest_us(guest_random(&state) % 300));
		guest_window();
		if (i & 1)
			guest_disable();
		if (i % 8 == 7)
			guest_wrmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, GUEST_NOWHERE_GPA | 1);
	}
	c->record = own;
	guest_recover(c);
}
