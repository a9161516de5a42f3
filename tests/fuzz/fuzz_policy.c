// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuzzes what is pure: host/lazy_policy.c and the inline functions of
 * abi/lazy_tscdeadline.h.  libFuzzer chooses the calls; ASan and UBSan watch
 * them.  There are two kinds of input:
 *
 * calls	any function with any values, as a guest may have any TSC and any
 *		deadline: no undefined behaviour, no division by 0, and nothing
 *		is armed later than what is wanted
 * protocol	a guest and a host as they are meant to be, on one timer: a
 *		deadline that needs no trap is delivered, none too early, and the
 *		host leaves an idle guest alone after a bounded number of looks
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../abi/lazy_tscdeadline.h"
#include "../../host/lazy_policy.c"

#define assert_that(cond, ...)						\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "fuzz_policy.c:%d: %s: ", __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);			\
			fputc('\n', stderr);				\
			abort();					\
		}							\
	} while (0)

#define MAX_STEPS	4096
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Looks for nothing that a guest may cost which has gone to sleep for good. */
#define MAX_IDLE_LOOKS	(LAZY_STREAMS * (LAZY_SCORE_MAX / LAZY_SCORE_ASLEEP + 1))

struct input {
	const u8 *data;
	size_t left;
};

static u64 take(struct input *in, size_t bytes)
{
	u64 value = 0;

	if (bytes > in->left)
		bytes = in->left;
	memcpy(&value, in->data, bytes);
	in->data += bytes;
	in->left -= bytes;
	return value;
}

/* Frequencies that a VMM may choose, from 1 kHz to 5 GHz. */
static u32 take_khz(struct input *in)
{
	static const u32 khz[] = { 1, 20, 999, 1000000, 2100000, 5000000 };

	return khz[take(in, 1) % ARRAY_SIZE(khz)];
}

/*
 * Anything.
 */
static u64 take_tsc(struct input *in, u64 base)
{
	switch (take(in, 1) % 6) {
	case 0:
		return take(in, 8);
	case 1:
		return base + take(in, 2);
	case 2:
		return base + take(in, 4);
	case 3:
		return base - take(in, 3);
	case 4:
		return 0;
	default:
		return base;
	}
}

static void check_policy(const struct lazy_policy *policy)
{
	int i;

	assert_that(policy->guess <= LAZY_STREAMS, "guess %u", policy->guess);
	assert_that(policy->idle <= LAZY_IDLE_MAX, "idle %u", policy->idle);
	assert_that(policy->slept || !policy->spared, "spared, and no sleep");
	for (i = 0; i < LAZY_STREAMS; i++) {
		assert_that(policy->stream[i].score <= LAZY_SCORE_MAX, "stream %d", i);
		assert_that(policy->stream[i].backoff <= LAZY_BACKOFF_MAX, "stream %d", i);
		assert_that(policy->stream[i].beats <= 3 * LAZY_BEATS_MAX + 1, "stream %d", i);
	}
}

static void fuzz_calls(struct input *in)
{
	struct lazy_policy policy = { 0 };
	u64 now = take(in, 8), wanted = 0, armed = 0;
	int i;

	lazy_policy_init(&policy, take(in, 1) & 1 ? LAZY_POLICY_PREDICT :
			 LAZY_POLICY_EXACT, take_khz(in));
	for (i = 0; i < MAX_STEPS && in->left; i++) {
		switch (take(in, 1) % 10) {
		case 0:
			now = take_tsc(in, now);
			break;
		case 1:
			lazy_policy_delivered(&policy, take_tsc(in, now));
			break;
		case 2:
			lazy_policy_wanted(&policy, take_tsc(in, now));
			break;
		case 3:
			lazy_policy_looked(&policy, take_tsc(in, now), take(in, 1) & 1);
			break;
		case 4:
			wanted = take_tsc(in, now);
			armed = lazy_policy_arm(&policy, now, wanted, take(in, 3));
			assert_that(!wanted || (armed && armed <= wanted),
				    "wanted %#llx armed %#llx", (unsigned long long)wanted,
				    (unsigned long long)armed);
			break;
		case 5:
			/* Beats, so that there are streams at all. */
			lazy_policy_delivered(&policy, now += take(in, 2) * 64);
			break;
		case 6:
			lazy_policy_asleep(&policy, take_tsc(in, now));
			break;
		case 7:
			if (lazy_policy_spares(&policy))
				lazy_policy_spare(&policy, armed, take_tsc(in, now));
			break;
		case 8:
			lazy_policy_awake(&policy, take_tsc(in, now));
			break;
		case 9:
			lazy_policy_was_active(&policy, take_tsc(in, now), take(in, 1));
			break;
		}
		check_policy(&policy);
	}
}

/*
 * One vCPU that obeys the protocol, and the host's state machine around the
 * policy, in order: no more than UPDATE, KICK, a halt and what follows an injection.
 */
struct vcpu {
	struct lazy_policy policy;
	u64 now, advance;
	u64 pending;		/* the record */
	u64 published;
	u64 timer;		/* what the host has armed; 0: nothing */
	u64 wanted;		/* what the guest waits for; 0: nothing */
	u64 delivered;
	u32 halts;
	bool halted;
};

/* The moment at which the host's timer fires. */
static u64 fires(const struct vcpu *v)
{
	return v->timer > v->advance ? v->timer - v->advance : 1;
}

static void arm(struct vcpu *v, u64 wanted)
{
	v->timer = lazy_policy_arm(&v->policy, v->now, wanted, v->advance);
	assert_that(!wanted || (v->timer && v->timer <= wanted), "armed later than wanted");
	assert_that(wanted || !v->timer || v->timer > v->now, "a guess in the past");
	v->published = v->timer ? fires(v) : 0;
}

static void deliver(struct vcpu *v, u64 deadline)
{
	assert_that(v->wanted, "an interrupt that nobody wants");
	assert_that(v->wanted == deadline, "the wrong deadline");
	v->wanted = 0;
}

/* What is not delivered will be: the timer fires in time for it. */
static void check_armed(const struct vcpu *v)
{
	if (v->wanted)
		assert_that(v->timer && fires(v) <= v->wanted, "a deadline is lost");
	if (v->published)
		assert_that(fires(v) <= v->published, "published later than the look");
}

static void look(struct vcpu *v)
{
	u64 pending = v->pending, wanted = pending == v->delivered ? 0 : pending;
	bool active = lazy_policy_was_active(&v->policy, pending, v->halts);

	v->published = 0;
	v->timer = 0;
	if (wanted && wanted <= v->now + v->advance) {
		if (v->now < wanted)
			v->now = wanted;	/* KVM waits before it enters */
		v->delivered = wanted;
		lazy_policy_delivered(&v->policy, wanted);
		deliver(v, wanted);
		arm(v, 0);
	} else {
		lazy_policy_looked(&v->policy, wanted, active);
		if (v->halted)
			lazy_policy_asleep(&v->policy, v->now);
		arm(v, wanted);
	}
}

/* The guest halts: what it wants by now may be armed instead of an earlier look. */
static void halt(struct vcpu *v)
{
	u64 wanted = v->pending == v->delivered ? 0 : v->pending;

	v->halted = true;
	v->halts++;
	if (!v->published || !lazy_policy_spares(&v->policy) ||
	    (wanted && wanted <= v->timer))
		return;
	lazy_policy_was_active(&v->policy, v->pending, v->halts);
	lazy_policy_spare(&v->policy, v->timer, wanted);
	v->timer = wanted;
	v->published = wanted ? fires(v) : 0;
}

/* Time goes on; the host's timer fires when it is due, or a little later. */
static void pass(struct vcpu *v, u64 until, u64 late)
{
	int i;

	for (i = 0; i < MAX_STEPS && v->timer && fires(v) <= until; i++) {
		if (v->now < fires(v))
			v->now = fires(v);
		v->now += late;
		look(v);
		check_armed(v);
	}
	if (v->now < until)
		v->now = until;
}

static void program(struct vcpu *v, u64 deadline)
{
	v->halted = false;
	v->pending = deadline;
	v->wanted = deadline;
	if (!lazy_tscdeadline_must_trap(v->published, deadline, v->now)) {
		assert_that(v->timer && fires(v) <= deadline, "skipped, and nobody looks");
		return;
	}
	v->delivered = 0;
	v->published = 0;
	v->timer = 0;
	lazy_policy_awake(&v->policy, v->now);
	lazy_policy_wanted(&v->policy, deadline);
	arm(v, deadline);
	/* Expired when it is armed: a look at once. */
	if (fires(v) <= v->now)
		look(v);
}

static void cancel(struct vcpu *v)
{
	int trap;

	v->pending = 0;
	trap = lazy_tscdeadline_cancel_must_trap(LAZY_TSCDEADLINE_F_CANCEL,
						 v->published, v->wanted, v->now);
	v->wanted = 0;
	v->halted = false;
	if (!trap)
		return;
	v->delivered = 0;
	v->published = 0;
	v->timer = 0;
}

/* Nothing is wanted any more: how often does the host look? */
static void check_idle(struct vcpu *v)
{
	int looks = 0;

	cancel(v);
	while (v->timer) {
		if (v->now < fires(v))
			v->now = fires(v);
		look(v);
		assert_that(++looks <= MAX_IDLE_LOOKS, "looks for a guest that sleeps");
	}
}

static void fuzz_protocol(struct input *in)
{
	u64 us, period = 0, late = 0, beat = 0;
	struct vcpu v = { .now = 1 };
	u32 khz;
	int i;

	memset(&v.policy, 0, sizeof(v.policy));
	do {
		khz = take_khz(in);
	} while (khz < 1000 && in->left);
	if (khz < 1000)
		return;
	us = khz / 1000;
	v.advance = take(in, 1) % 6 * us;
	v.now = take(in, 5) + 1;
	lazy_policy_init(&v.policy, take(in, 1) & 1 ? LAZY_POLICY_PREDICT :
			 LAZY_POLICY_EXACT, khz);
	for (i = 0; i < MAX_STEPS && in->left; i++) {
		switch (take(in, 1) % 9) {
		case 0:
			program(&v, v.now + 1 + take(in, 2) * us);
			break;
		case 1:
			program(&v, v.now - take(in, 1) % v.now);
			break;
		case 2:
			cancel(&v);
			break;
		case 3:
			pass(&v, v.now + take(in, 2) * us, late);
			break;
		case 4:
			late = take(in, 1) * us / 8;
			break;
		case 5:
			period = (take(in, 2) % 10000 + 50) * us;
			beat = v.now;
			break;
		case 6:		/* the guest follows a rhythm */
			if (!period)
				break;
			while (beat <= v.now)
				beat += period;
			program(&v, beat + take(in, 1) % 16 * us / 4);
			pass(&v, v.wanted, late);
			break;
		case 7:
			check_idle(&v);
			break;
		case 8:
			halt(&v);
			break;
		}
		check_armed(&v);
		check_policy(&v.policy);
	}
	check_idle(&v);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, size };

	if (take(&in, 1) & 1)
		fuzz_calls(&in);
	else
		fuzz_protocol(&in);
	return 0;
}
