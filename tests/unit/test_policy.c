// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arming policy, host/lazy_policy.c: properties under random calls, and
 * what it saves for rhythms that guests have.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../host/lazy_policy.c"

#define KHZ		1000000u	/* a tick of the TSC is a nanosecond */
#define US		1000ull
#define MS		(1000 * US)
#define ADVANCE		(1 * US)	/* KVM's lapic_timer_advance_ns at start */
#define TIMERS		3

static int tests, failures;
static unsigned long long seed = 1;

static void report(bool ok, const char *what)
{
	tests++;
	failures += !ok;
	printf("%sok %d - %s\n", ok ? "" : "not ", tests, what);
}

static u64 random_below(u64 limit)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % limit;
}

/*
 * One vCPU and its host.  A guest timer fires every period; "thread" ones are
 * programmed again by a thread that the interrupt wakes up, so the handler
 * first programs what is left.
 */
struct timer {
	u64 period;
	u64 due;
	bool thread;
};

struct vcpu {
	struct lazy_policy policy;
	struct timer timer[TIMERS];
	u64 now;
	u64 pending;
	u64 delivered;
	u64 armed;		/* what the host's timer is for; 0: none */
	u64 jitter;
	u64 writes, looks, wasted, expiries, lost;
};

static u64 vcpu_due(const struct vcpu *v, bool threads)
{
	u64 due = 0;
	int i;

	for (i = 0; i < TIMERS; i++) {
		if (!v->timer[i].period || (v->timer[i].thread && !threads &&
					    v->timer[i].due <= v->now))
			continue;
		if (!due || v->timer[i].due < due)
			due = v->timer[i].due;
	}
	return due;
}

static void vcpu_arm(struct vcpu *v, u64 wanted)
{
	v->armed = lazy_policy_arm(&v->policy, v->now, wanted, ADVANCE);
}

static void vcpu_program(struct vcpu *v, u64 deadline)
{
	if (!deadline)
		return;
	v->pending = deadline + (v->jitter ? random_below(v->jitter) : 0);
	if (v->armed && v->armed - ADVANCE > v->now &&
	    v->pending >= v->armed - ADVANCE)
		return;
	v->writes++;
	v->delivered = 0;
	lazy_policy_wanted(&v->policy, v->pending);
	vcpu_arm(v, v->pending);
}

/* The guest's handler, then the threads that it wakes up. */
static void vcpu_interrupt(struct vcpu *v)
{
	int i;

	for (i = 0; i < TIMERS; i++)
		if (v->timer[i].period && !v->timer[i].thread)
			while (v->timer[i].due <= v->now)
				v->timer[i].due += v->timer[i].period;
	v->now += 2 * US;
	vcpu_program(v, vcpu_due(v, false));
	v->now += 10 * US;
	for (i = 0; i < TIMERS; i++) {
		if (!v->timer[i].thread || v->timer[i].due > v->now)
			continue;
		while (v->timer[i].due <= v->now)
			v->timer[i].due += v->timer[i].period;
		vcpu_program(v, vcpu_due(v, true));
	}
}

static void vcpu_look(struct vcpu *v)
{
	u64 wanted = v->pending == v->delivered ? 0 : v->pending;
	bool active = lazy_policy_was_active(&v->policy, v->pending, 0);
	u64 wasted = v->policy.wasted;

	if (v->armed - ADVANCE > v->now)
		v->now = v->armed - ADVANCE;
	v->looks++;
	v->armed = 0;
	if (!wanted || wanted > v->now + ADVANCE) {
		lazy_policy_looked(&v->policy, wanted, active);
		v->wasted += v->policy.wasted - wasted;
		vcpu_arm(v, wanted);
		return;
	}
	lazy_policy_delivered(&v->policy, wanted);
	v->delivered = wanted;
	v->now = wanted > v->now ? wanted : v->now;
	v->expiries++;
	vcpu_arm(v, 0);
	vcpu_interrupt(v);
}

static void vcpu_start(struct vcpu *v, enum lazy_policy_mode mode, u64 jitter)
{
	memset(v, 0, sizeof(*v));
	lazy_policy_init(&v->policy, mode, KHZ);
	v->now = MS;
	v->jitter = jitter;
}

static void vcpu_run(struct vcpu *v, u64 time)
{
	u64 end = v->now + time;

	vcpu_program(v, vcpu_due(v, true));
	while (v->now < end) {
		if (!v->armed) {
			v->lost++;
			return;
		}
		vcpu_look(v);
	}
}

static void vcpu_report(const char *name, const struct vcpu *v)
{
	printf("# %s: %llu expiries, %llu writes, %llu looks, %llu wasted\n", name,
	       (unsigned long long)v->expiries, (unsigned long long)v->writes,
	       (unsigned long long)v->looks, (unsigned long long)v->wasted);
}

/* A busy guest: the tick and nothing else. */
static void test_tick(void)
{
	struct vcpu v;

	vcpu_start(&v, LAZY_POLICY_PREDICT, 300);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	vcpu_run(&v, 4000 * MS);
	vcpu_report("tick", &v);
	report(!v.lost && v.expiries >= 999, "tick: every deadline is delivered");
	report(v.writes * 50 <= v.expiries, "tick: at most 0.02 writes per tick");

	vcpu_start(&v, LAZY_POLICY_EXACT, 300);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	vcpu_run(&v, 4000 * MS);
	vcpu_report("tick, exact", &v);
	report(v.writes >= v.expiries, "tick: the exact policy writes each time");
	report(v.looks == v.expiries, "tick: the exact policy looks no more often");
}

/* cyclictest beside the tick: the rhythms are mixed. */
static void test_mixed(void)
{
	struct vcpu v;

	vcpu_start(&v, LAZY_POLICY_PREDICT, 300);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	v.timer[1] = (struct timer){ 1 * MS, 5 * MS + 300 * US, true };
	vcpu_run(&v, 4000 * MS);
	vcpu_report("tick and 1 ms", &v);
	report(!v.lost && v.expiries >= 4900, "mixed: every deadline is delivered");
	report(v.writes * 5 <= v.expiries, "mixed: at most 0.2 writes per wakeup");
	report(v.looks * 2 <= v.expiries * 3, "mixed: at most 1.5 looks per wakeup");
}

/* Two rhythms that nearly coincide: each keeps its own. */
static void test_close(void)
{
	struct vcpu v;

	vcpu_start(&v, LAZY_POLICY_PREDICT, 300);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	v.timer[1] = (struct timer){ 1 * MS, 5 * MS + 50 * US, true };
	vcpu_run(&v, 4000 * MS);
	vcpu_report("tick and 1 ms, 50 us apart", &v);
	report(!v.lost && v.expiries >= 4900, "close: every deadline is delivered");
	report(v.writes * 50 <= v.expiries, "close: at most 0.02 writes per wakeup");
	report(v.looks * 10 <= v.expiries * 11, "close: at most 1.1 looks per wakeup");
}

/* A guest that halts wants something later, and yet has its tick again soon. */
static void test_halt(void)
{
	struct vcpu v;
	u64 tick;
	int i;

	vcpu_start(&v, LAZY_POLICY_PREDICT, 0);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	vcpu_run(&v, 400 * MS);
	tick = v.delivered;
	for (i = 0; i < 10; i++) {
		v.now = tick + MS + i * US;
		lazy_policy_wanted(&v.policy, tick + 100 * MS);
		vcpu_arm(&v, tick + 100 * MS);
	}
	report(v.armed <= tick + 4 * MS + ADVANCE && v.armed > tick + 3 * MS,
	       "halt: the next tick is armed all the same");

	/* Given up at each beat, it is a rhythm nevertheless. */
	vcpu_start(&v, LAZY_POLICY_PREDICT, 0);
	for (i = 0; i < 10; i++) {
		tick = (5 + 4 * i) * MS;
		v.now = tick - 2 * MS;
		lazy_policy_wanted(&v.policy, tick);
		vcpu_arm(&v, tick);
		v.now = tick;
		lazy_policy_looked(&v.policy, tick + 100 * MS, true);
	}
	vcpu_arm(&v, tick + 100 * MS);
	report(v.armed <= tick + 4 * MS + ADVANCE && v.armed > tick + 3 * MS,
	       "halt: what the guest asks for and gives up is a rhythm");
}

/*
 * cyclictest beside the tick, wherever the tick falls between two wakeups, except so close to one
 * that there is no time to arm the other.
 */
static void test_phases(void)
{
	u64 phase, worst_writes = 0, worst_looks = 0;
	bool lost = false;
	struct vcpu v;

	for (phase = 50 * US; phase <= 950 * US; phase += 25 * US) {
		vcpu_start(&v, LAZY_POLICY_PREDICT, 300);
		v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
		v.timer[1] = (struct timer){ 1 * MS, 5 * MS + phase, true };
		vcpu_run(&v, 1000 * MS);
		lost |= v.lost || v.expiries < 1200;
		if (v.writes > worst_writes)
			worst_writes = v.writes;
		if (v.looks > worst_looks)
			worst_looks = v.looks;
	}
	printf("# tick and 1 ms: at most %llu writes and %llu looks in 1000 wakeups\n",
	       (unsigned long long)worst_writes, (unsigned long long)worst_looks);
	report(!lost, "phases: every deadline is delivered");
	report(worst_writes <= 100, "phases: at most 0.1 writes per wakeup");
	report(worst_looks <= 1500, "phases: at most 1.5 looks per wakeup");
}

/* The rhythm ends: looks for it stop after a few, ever further apart. */
static void test_stop(void)
{
	struct vcpu v;
	u64 looks, last, gap = 0;

	vcpu_start(&v, LAZY_POLICY_PREDICT, 300);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	vcpu_run(&v, 400 * MS);
	report(v.armed, "stop: the next tick is armed unasked");
	v.pending = v.delivered;
	lazy_policy_was_active(&v.policy, v.pending, 0);
	looks = v.looks;
	last = v.armed;
	while (v.armed && v.looks - looks < 100) {
		vcpu_look(&v);
		if (v.armed && v.armed - last < gap)
			break;
		gap = v.armed ? v.armed - last : gap;
		last = v.armed;
	}
	printf("# %llu looks after the last tick\n",
	       (unsigned long long)(v.looks - looks));
	report(!v.armed, "stop: an idle guest is left alone");
	report(v.looks - looks <= 5, "stop: after at most five looks");
	report(gap >= 8 * MS, "stop: ever further apart");
}

/* Idle but for single wakeups: not one look more than the guest asks for. */
static void test_idle(void)
{
	struct vcpu v;
	int i;

	vcpu_start(&v, LAZY_POLICY_PREDICT, 300);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	vcpu_run(&v, 400 * MS);
	while (v.armed) {
		v.pending = v.delivered;
		vcpu_look(&v);
	}
	v.looks = 0;
	v.expiries = 0;
	v.timer[0].period = 0;
	for (i = 0; i < 100; i++) {
		/* on the grid of the tick, as timers of the timer wheel are */
		v.now += 4 * MS;
		vcpu_program(&v, (v.now / MS + 40 + random_below(400)) / 4 * 4 * MS);
		while (v.armed)
			vcpu_look(&v);
	}
	vcpu_report("idle", &v);
	report(v.expiries == 100, "idle: every deadline is delivered");
	report(v.looks <= v.expiries * 11 / 10, "idle: at most 1.1 looks for each");
}

/* After a pause a rhythm has to show itself again before it is trusted. */
static void test_pause(void)
{
	struct vcpu v;
	u64 beat;

	vcpu_start(&v, LAZY_POLICY_PREDICT, 0);
	v.timer[0] = (struct timer){ 4 * MS, 5 * MS, false };
	vcpu_run(&v, 400 * MS);
	beat = v.delivered + 1000 * MS;
	lazy_policy_delivered(&v.policy, beat);
	report(!lazy_policy_arm(&v.policy, beat, 0, ADVANCE),
	       "pause: one beat alone is not trusted");
	lazy_policy_delivered(&v.policy, beat + 4 * MS);
	report(lazy_policy_arm(&v.policy, beat + 4 * MS, 0, ADVANCE) ==
	       beat + 8 * MS + ADVANCE / 2, "pause: two are, and the third is exact");
}

/* Random calls: whatever happened before, nothing is armed too late. */
static void test_properties(enum lazy_policy_mode mode, const char *name)
{
	static const u64 periods[] = { 4 * MS, 1 * MS, 200 * US, 777 * US };
	bool late = false, past = false, none = false, inexact = false;
	struct lazy_policy policy = { 0 };
	u64 now = MS, wanted, arm;
	char what[80];
	int i;

	lazy_policy_init(&policy, mode, KHZ);
	for (i = 0; i < 1000000; i++) {
		now += random_below(2 * periods[random_below(4)]);
		wanted = random_below(4) ? now + random_below(8 * MS) : 0;
		if (!random_below(1000))
			now = MS + random_below(MS);
		if (!random_below(500))
			wanted = ~0ull - random_below(1000);
		switch (random_below(4)) {
		case 0:
			lazy_policy_delivered(&policy, now - random_below(10 * US));
			break;
		case 1:
			lazy_policy_wanted(&policy, wanted ? wanted : now);
			break;
		case 2:
			lazy_policy_looked(&policy, wanted, random_below(2));
			break;
		}
		arm = lazy_policy_arm(&policy, now, wanted, random_below(2) * ADVANCE);
		late |= wanted && arm > wanted;
		none |= wanted && !arm;
		past |= arm && arm != wanted && arm <= now;
		inexact |= mode == LAZY_POLICY_EXACT && arm != wanted;
	}
	snprintf(what, sizeof(what), "%s: never arms later than what is wanted", name);
	report(!late, what);
	snprintf(what, sizeof(what), "%s: never drops what is wanted", name);
	report(!none, what);
	snprintf(what, sizeof(what), "%s: a guess lies in the future", name);
	report(!past && !inexact, what);
}

/* It wants what it wanted, and has halted again. */
static bool wake(struct lazy_policy *policy)
{
	return lazy_policy_was_active(policy, policy->last_pending,
				      policy->last_halts + 1);
}

/* One sleep, in which there was a look at 10 ms, or it was spared */
static void sleep_until(struct lazy_policy *policy, bool spare, u64 now)
{
	if (spare)
		lazy_policy_spare(policy, 10 * MS, 100 * MS);
	else
		lazy_policy_asleep(policy, 10 * MS);
	lazy_policy_awake(policy, now);
}

/* Sleeps beyond the look, until looks are spared */
static int sleeps_until_spared(struct lazy_policy *policy)
{
	int n;

	for (n = 0; !lazy_policy_spares(policy) && n < 1000; n++)
		sleep_until(policy, false, 10 * MS);
	return n;
}

/* Looks are spared at a guest that sleeps long, however it is found out. */
static void test_spare(void)
{
	struct lazy_policy policy = { 0 };
	bool spared = false;
	int i;

	lazy_policy_init(&policy, LAZY_POLICY_PREDICT, KHZ);
	report(!lazy_policy_spares(&policy), "spare: no look of a guest that is unknown");
	report(sleeps_until_spared(&policy) == 4, "spare: after some sleeps");
	for (i = 0; i < 100; i++)
		sleep_until(&policy, true, 10 * MS);
	report(lazy_policy_spares(&policy), "spare: goes on while the guest sleeps long");
	sleep_until(&policy, true, 10 * MS - 1);
	report(lazy_policy_spares(&policy), "spare: one short sleep is forgiven");
	sleep_until(&policy, true, 10 * MS - 1);
	report(!lazy_policy_spares(&policy), "spare: two are not");
	for (i = 0; i < 1000; i++) {
		sleep_until(&policy, true, 10 * MS - 1);
		lazy_policy_asleep(&policy, 10 * MS);
		wake(&policy);
	}
	report(sleeps_until_spared(&policy) == 4,
	       "spare: what a busy guest did does not count when it is idle");
	for (i = 0; i < 1000; i++) {
		sleep_until(&policy, true, 10 * MS - (i % 4 == 0));
		spared |= i > 8 && lazy_policy_spares(&policy);
	}
	report(!spared, "spare: not if one of four sleeps is short");
	sleeps_until_spared(&policy);
	lazy_policy_asleep(&policy, 10 * MS);
	lazy_policy_init(&policy, LAZY_POLICY_PREDICT, KHZ);
	report(!lazy_policy_spares(&policy) && !policy.slept, "spare: forgotten with the rest");
	lazy_policy_init(&policy, LAZY_POLICY_EXACT, KHZ);
	sleeps_until_spared(&policy);
	report(!lazy_policy_spares(&policy), "spare: never under the exact policy");
}

static void sleep_look(struct lazy_policy *policy, u64 now)
{
	lazy_policy_looked(policy, 0, false);
	lazy_policy_asleep(policy, now);
}

static void sleep_look_active(struct lazy_policy *policy, u64 now)
{
	lazy_policy_looked(policy, 0, wake(policy));
	lazy_policy_asleep(policy, now);
}

/* Woken up and asleep again without a trap, and only then one */
static void sleep_again(struct lazy_policy *policy, u64 now)
{
	wake(policy);
	lazy_policy_spare(policy, now - 5 * MS, 3000 * MS);
	lazy_policy_awake(policy, now);
}

/* Blocked once more without having run */
static void sleep_block(struct lazy_policy *policy, u64 now)
{
	lazy_policy_spare(policy, now - 1, 3000 * MS);
	lazy_policy_awake(policy, now);
}

static void sleep_active_delivered(struct lazy_policy *policy, u64 now)
{
	wake(policy);
	lazy_policy_delivered(policy, now);
}

/*
 * A guest with a tick of 4 ms sleeps; there was a look at 2 s, or it was spared.  By
 * how much does it go up that the host trusts its sleep if this comes next, at @now?
 */
static int sleep_says(void (*next)(struct lazy_policy *, u64), bool spare, u64 now)
{
	struct lazy_policy policy = { 0 };
	int i;

	lazy_policy_init(&policy, LAZY_POLICY_PREDICT, KHZ);
	for (i = 0; i < 10; i++)
		lazy_policy_delivered(&policy, (1000 + 4 * i) * MS);
	/* A shorter rhythm that nobody trusts */
	policy.stream[1].period = MS;
	policy.stream[1].score = 1;
	policy.idle = 7;
	if (spare)
		lazy_policy_spare(&policy, 2000 * MS, 3000 * MS);
	else
		lazy_policy_asleep(&policy, 2000 * MS);
	next(&policy, now);
	return (int)policy.idle - 7;
}

/* What a guest that has a tick saves by sleeping is a look in each period. */
static void test_spare_price(void)
{
	report(sleep_says(lazy_policy_awake, true, 2000 * MS - 1) == -6,
	       "spare: woken up before, a trap");
	report(sleep_says(lazy_policy_awake, true, 2004 * MS - 1) == -6,
	       "spare: one look is not worth a trap");
	report(sleep_says(lazy_policy_awake, true, 2004 * MS) == 1, "spare: two are");
	report(sleep_says(lazy_policy_delivered, true, 3000 * MS) == 1,
	       "spare: without a trap, one is");
	report(sleep_says(sleep_again, true, 2004 * MS) == 1,
	       "spare: without a trap, a sleep that was disturbed goes on");
	report(sleep_says(lazy_policy_awake, false, 2001 * MS) == 1,
	       "spare: the trap came although there was a look");
	report(sleep_says(sleep_active_delivered, true, 3000 * MS) == 1,
	       "spare: nor does it end if what was wanted comes then");
	report(sleep_says(sleep_again, false, 2010 * MS) == -6 + 1,
	       "spare: not if a look has saved one, but the next sleep is long");
	report(sleep_says(sleep_block, false, 2001 * MS) == 1,
	       "spare: nor does blocking again end it");
	report(sleep_says(lazy_policy_delivered, false, 3000 * MS) == 1,
	       "spare: a look in vain before what was wanted");
	report(sleep_says(sleep_look, false, 2004 * MS) == 1,
	       "spare: the first of two looks in vain");
	report(sleep_says(sleep_look_active, false, 2004 * MS) == -6,
	       "spare: not if the guest was awake in between");
}

/*
 * A guest writes any TSC and any deadline: near the end of the TSC's range, the
 * beats that have passed are as many as there can be.  Their number is what a
 * period is divided by, so it may not come back to 0.
 */
static void test_beats(void)
{
	struct lazy_policy policy = { 0 };
	bool known = false;
	u64 beats = 0;
	int i, j;

	lazy_policy_init(&policy, LAZY_POLICY_PREDICT, KHZ);
	for (i = 0; i < 100000; i++) {
		if (i % 16 < 3)
			lazy_policy_delivered(&policy, (i / 16 * 100 + 1 + i % 16) * MS);
		known |= policy.stream[0].period;
		lazy_policy_wanted(&policy, policy.stream[0].next - 10 * US);
		lazy_policy_arm(&policy, ~0ULL - random_below(MS), ~0ULL, ADVANCE);
		for (j = 0; j < LAZY_STREAMS; j++)
			if (policy.stream[j].beats > beats)
				beats = policy.stream[j].beats;
	}
	report(known && beats <= 3 * LAZY_BEATS_MAX + 1, "beats: bounded, whatever the TSC");
}

int main(int argc, char **argv)
{
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	printf("# seed %llu\n", seed);
	test_tick();
	test_mixed();
	test_phases();
	test_close();
	test_halt();
	test_stop();
	test_idle();
	test_pause();
	test_spare();
	test_spare_price();
	test_beats();
	test_properties(LAZY_POLICY_EXACT, "exact");
	test_properties(LAZY_POLICY_PREDICT, "predict");
	printf("1..%d\n", tests);
	return failures != 0;
}
