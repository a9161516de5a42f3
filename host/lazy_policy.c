// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy TSC deadline: what the host arms.  See lazy_policy.h.
 */
#include "lazy_policy.h"

#ifdef __KERNEL__
#include <linux/math64.h>
#include <linux/string.h>
#else
#include <string.h>
#define div64_u64(a, b)		((a) / (b))
#define div_u64(a, b)		((a) / (b))
#endif

/* Rhythms that are worth it and that a vCPU can follow */
#define LAZY_PERIOD_MIN_US	50
#define LAZY_PERIOD_MAX_US	1000000

/* How far from its expected time a beat may be: part of the period, at most */
#define LAZY_TOLERANCE		16
#define LAZY_TOLERANCE_MAX_US	250

/*
 * Streams may be closer to each other than that.  A deadline belongs to the
 * nearest, and to those that are no further away by more than this; and a beat
 * that the guest has asked for is this close, in addition to what is usual.
 */
#define LAZY_SLACK_US		20

/*
 * Beats come late by the guest's jitter, hardly ever early: expect the next one
 * where the earliest of them came, and forget these slowly.
 */
#define LAZY_RISE		32

/*
 * Confidence.  A beat that was delivered says much, one that the guest trapped
 * for says a little, and a look that found nothing takes it away.  After a
 * pause one beat alone does not make a rhythm again, so a guest that is idle
 * but for single wakeups is not looked at more often than it asks for.
 */
#define LAZY_SCORE_MAX		12
#define LAZY_SCORE_TRUST	4
#define LAZY_SCORE_BEAT		3
#define LAZY_SCORE_NEW		1
#define LAZY_SCORE_WANTED	1
#define LAZY_SCORE_ACTIVE	1	/* lost: nothing due, but the guest is awake */
#define LAZY_SCORE_ASLEEP	3	/* lost: nothing has changed since */

/* Looks are at most this many doublings of the period apart */
#define LAZY_BACKOFF_MAX	6

/*
 * After that many beats the period is computed from a newer base.  A rhythm that
 * has been silent for as long is none any more; the guest may write any TSC and any
 * deadline, and the number of beats must not come back to 0.
 */
#define LAZY_BEATS_MAX		4096

/*
 * Does this guest sleep for longer than its tick?  A sleep for which it was, or would
 * have been, worth it to spare a look raises the score by 1, one for which it was not
 * lowers it, and from LAZY_IDLE_TRUST on looks are spared.  So a guest that works
 * between its halts hardly ever pays for that, and what it did then costs no more
 * than a few looks when it falls idle.
 */
#define LAZY_IDLE_MAX		12
#define LAZY_IDLE_TRUST		4
#define LAZY_IDLE_LOSS		6

static u64 lazy_us(const struct lazy_policy *policy, u32 us)
{
	return div_u64((u64)us * policy->khz, 1000);
}

static u64 lazy_min(u64 a, u64 b)
{
	return a < b ? a : b;
}

static u64 lazy_distance(u64 a, u64 b)
{
	return a > b ? a - b : b - a;
}

static u64 lazy_tolerance(const struct lazy_policy *policy, u64 period)
{
	return lazy_min(div_u64(period, LAZY_TOLERANCE),
			lazy_us(policy, LAZY_TOLERANCE_MAX_US));
}

/* How far from its beat is a deadline that is meant for it? */
static u64 lazy_spread(const struct lazy_policy *policy,
		       const struct lazy_stream *stream)
{
	return lazy_min(lazy_tolerance(policy, stream->period),
			4 * (u64)stream->jitter + lazy_us(policy, LAZY_SLACK_US));
}

/* The distance from @deadline of the beat that is nearest to it */
static u64 lazy_nearest(const struct lazy_policy *policy, u64 deadline)
{
	u64 nearest = ~0ULL;
	int i;

	for (i = 0; i < LAZY_STREAMS; i++)
		if (policy->stream[i].period)
			nearest = lazy_min(nearest,
					   lazy_distance(deadline, policy->stream[i].next));
	return nearest;
}

/* Is @deadline the beat that the stream expects, rather than another's? */
static bool lazy_stream_expects(const struct lazy_policy *policy,
				const struct lazy_stream *stream, u64 deadline,
				u64 nearest)
{
	u64 off = lazy_distance(deadline, stream->next), limit;

	if (!stream->period)
		return false;
	limit = stream->score < LAZY_SCORE_TRUST ?
		lazy_tolerance(policy, stream->period) : lazy_spread(policy, stream);
	return off <= limit && off <= nearest + lazy_us(policy, LAZY_SLACK_US);
}

/* When the guest is to find a look promised for the stream's next beat */
static u64 lazy_beat(const struct lazy_stream *stream)
{
	u64 skip = (1ULL << stream->backoff) - 1;

	return stream->next + skip * stream->period - stream->jitter;
}

static void lazy_score_lower(struct lazy_stream *stream, u64 by)
{
	stream->score -= lazy_min(stream->score, by);
}

static void lazy_score_raise(struct lazy_stream *stream, u8 by)
{
	stream->score = lazy_min(stream->score + by, LAZY_SCORE_MAX);
}

static void lazy_stream_forget(struct lazy_stream *stream)
{
	memset(stream, 0, sizeof(*stream));
}

/* So many beats have passed without a deadline. */
static void lazy_stream_skip(struct lazy_stream *stream, u64 beats)
{
	if (beats > LAZY_BEATS_MAX || stream->beats > 2 * LAZY_BEATS_MAX) {
		lazy_stream_forget(stream);
		return;
	}
	stream->next += beats * stream->period;
	stream->beats += beats;
}

/* Let beats pass that are too old for @deadline; each one costs confidence. */
static void lazy_stream_advance(const struct lazy_policy *policy,
				struct lazy_stream *stream, u64 deadline)
{
	u64 late, passed;

	late = stream->next + lazy_tolerance(policy, stream->period);
	if (deadline <= late)
		return;
	passed = div64_u64(deadline - late - 1, stream->period) + 1;
	lazy_score_lower(stream, passed);
	lazy_stream_skip(stream, passed);
}

/* Counted, not computed from the period, which may be wrong as yet */
static void lazy_stream_period(struct lazy_stream *stream, u64 deadline)
{
	stream->beats++;
	stream->period = div64_u64(deadline - stream->base, stream->beats);
	if (stream->beats > LAZY_BEATS_MAX) {
		stream->base = deadline;
		stream->beats = 0;
	}
}

/* Has it drifted to a rhythm that is none? */
static bool lazy_stream_is_odd(const struct lazy_policy *policy,
			       const struct lazy_stream *stream)
{
	return stream->period < lazy_us(policy, LAZY_PERIOD_MIN_US) / 2 ||
	       stream->period > 2 * lazy_us(policy, LAZY_PERIOD_MAX_US);
}

/* @deadline is the beat that the stream expects: the next is a period later. */
static void lazy_stream_hit(const struct lazy_policy *policy,
			    struct lazy_stream *stream, u64 deadline, u8 raise)
{
	u64 off = lazy_distance(deadline, stream->next);

	stream->jitter += ((s64)off - (s64)stream->jitter) / 8;
	if (deadline < stream->next)
		stream->next = deadline;
	else
		stream->next += off / LAZY_RISE;
	lazy_stream_period(stream, deadline);
	stream->next += stream->period;
	stream->backoff = 0;
	lazy_score_raise(stream, raise);
	if (lazy_stream_is_odd(policy, stream))
		lazy_stream_forget(stream);
}

static u64 lazy_history(const struct lazy_policy *policy, u32 age)
{
	return policy->history[(policy->seen - 1 - age) % LAZY_HISTORY];
}

/*
 * Is there an older deadline that lies as far before @middle as @deadline after,
 * give or take @tolerance?
 */
static u64 lazy_history_third(const struct lazy_policy *policy, u32 from,
			      u64 middle, u64 period, u64 tolerance)
{
	u32 age, known = lazy_min(policy->seen, LAZY_HISTORY);

	for (age = from; age < known; age++) {
		u64 first = lazy_history(policy, age);

		if (lazy_distance(middle - first, period) <= tolerance)
			return first;
	}
	return 0;
}

static void lazy_stream_create(struct lazy_policy *policy, u64 first, u64 last)
{
	struct lazy_stream *stream = &policy->stream[0];
	int i;

	for (i = 1; i < LAZY_STREAMS; i++)
		if (policy->stream[i].score < stream->score)
			stream = &policy->stream[i];
	lazy_stream_forget(stream);
	stream->period = (last - first) / 2;
	stream->base = first;
	stream->beats = 2;
	stream->next = last + stream->period;
	stream->score = LAZY_SCORE_NEW;
}

/* Three deadlines at equal distances are the beginning of a rhythm. */
static bool lazy_stream_detect(struct lazy_policy *policy, u64 deadline, u64 limit)
{
	u32 age, known = lazy_min(policy->seen, LAZY_HISTORY);

	for (age = 0; age + 1 < known; age++) {
		u64 middle = lazy_history(policy, age), first;
		u64 period = deadline - middle;

		if (middle >= deadline ||
		    period > lazy_us(policy, LAZY_PERIOD_MAX_US))
			return false;
		if (period < lazy_us(policy, LAZY_PERIOD_MIN_US))
			continue;
		first = lazy_history_third(policy, age + 1, middle, period,
					   lazy_min(limit, lazy_tolerance(policy, period)));
		if (first) {
			lazy_stream_create(policy, first, deadline);
			return true;
		}
	}
	return false;
}

/**
 * lazy_policy_init - forget everything
 * @policy: of one vCPU
 * @mode: exact or predict
 * @khz: frequency of the guest's TSC
 */
void lazy_policy_init(struct lazy_policy *policy, enum lazy_policy_mode mode,
		      u32 khz)
{
	u64 hits = policy->hits, misses = policy->misses, wasted = policy->wasted;

	memset(policy, 0, sizeof(*policy));
	policy->mode = mode;
	policy->khz = khz;
	policy->hits = hits;
	policy->misses = misses;
	policy->wasted = wasted;
}

/*
 * The time of a deadline has come: is it a beat of known rhythms, or does it
 * show a new one?
 */
static void lazy_policy_observe(struct lazy_policy *policy, u64 deadline, u8 raise)
{
	bool known = false, hit = false;
	u64 nearest;
	u32 i;

	for (i = 0; i < LAZY_STREAMS; i++)
		if (policy->stream[i].period)
			lazy_stream_advance(policy, &policy->stream[i], deadline);
	nearest = lazy_nearest(policy, deadline);
	for (i = 0; i < LAZY_STREAMS; i++) {
		struct lazy_stream *stream = &policy->stream[i];

		if (!lazy_stream_expects(policy, stream, deadline, nearest))
			continue;
		lazy_stream_hit(policy, stream, deadline, raise);
		known = true;
		hit |= policy->guess == i + 1;
	}
	/* What fits well first: among mixed rhythms, a lot fits a little. */
	if (!known && !lazy_stream_detect(policy, deadline, lazy_us(policy, LAZY_SLACK_US)))
		lazy_stream_detect(policy, deadline, ~0ULL);
	policy->hits += hit;
	policy->misses += !known;
	policy->history[policy->seen++ % LAZY_HISTORY] = deadline;
}

/* Has that time been observed already, with another deadline of the same beat? */
static bool lazy_policy_observed(const struct lazy_policy *policy, u64 deadline)
{
	return policy->seen &&
	       lazy_distance(deadline, lazy_history(policy, 0)) <
	       lazy_us(policy, LAZY_PERIOD_MIN_US) / 2;
}

/* The shortest period that is trusted; 0: none is */
static u64 lazy_shortest(const struct lazy_policy *policy)
{
	u64 shortest = 0;
	int i;

	for (i = 0; i < LAZY_STREAMS; i++) {
		const struct lazy_stream *stream = &policy->stream[i];

		if (stream->score >= LAZY_SCORE_TRUST &&
		    (!shortest || stream->period < shortest))
			shortest = stream->period;
	}
	return shortest;
}

/* Was it worth it to spare the look at @slept, or would it have been? */
static void lazy_policy_settle(struct lazy_policy *policy, bool worth)
{
	if (!policy->slept)
		return;
	if (worth)
		policy->idle = lazy_min(policy->idle + 1, LAZY_IDLE_MAX);
	else
		policy->idle -= lazy_min(policy->idle, LAZY_IDLE_LOSS);
	policy->slept = 0;
	policy->spared = false;
}

/**
 * lazy_policy_delivered - a deadline was delivered to the guest
 * @policy: of one vCPU
 * @deadline: what the guest had wanted
 */
void lazy_policy_delivered(struct lazy_policy *policy, u64 deadline)
{
	if (policy->mode != LAZY_POLICY_PREDICT)
		return;

	if (!lazy_policy_observed(policy, deadline)) {
		/* The guest's TSC was set back: nothing learned holds. */
		if (policy->seen && deadline < lazy_history(policy, 0))
			lazy_policy_init(policy, policy->mode, policy->khz);
		lazy_policy_observe(policy, deadline, LAZY_SCORE_BEAT);
	}
	policy->guess = 0;
	policy->asked = 0;
	/* Without a trap: any look that was spared is a gain. */
	lazy_policy_settle(policy, true);
}

/**
 * lazy_policy_wanted - the guest trapped for a deadline
 * @policy: of one vCPU
 * @deadline: what it wants
 *
 * If it is the next beat of a known rhythm, that goes on; this counts once for
 * each beat.  Others say nothing about a rhythm: a guest that halts wants to be
 * woken up much later, and yet has its tick again a moment after that.
 */
void lazy_policy_wanted(struct lazy_policy *policy, u64 deadline)
{
	u64 nearest = lazy_nearest(policy, deadline);
	int i;

	if (policy->mode != LAZY_POLICY_PREDICT)
		return;

	policy->guess = 0;
	for (i = 0; i < LAZY_STREAMS; i++) {
		struct lazy_stream *stream = &policy->stream[i];

		if (!lazy_stream_expects(policy, stream, deadline, nearest) ||
		    lazy_distance(deadline, stream->credited) <
		    stream->period / 2)
			continue;
		stream->credited = deadline;
		stream->next = lazy_min(stream->next, deadline);
		stream->backoff = 0;
		lazy_score_raise(stream, LAZY_SCORE_WANTED);
	}
}

/**
 * lazy_policy_looked - a look found that nothing has expired
 * @policy: of one vCPU
 * @wanted: what the guest wants; 0: nothing that is known of
 * @active: the guest has programmed something since the last look
 *
 * If the look was for a guess, that was wrong unless the beat is about to come.
 */
void lazy_policy_looked(struct lazy_policy *policy, u64 wanted, bool active)
{
	struct lazy_stream *stream;
	u64 asked = policy->asked;

	/*
	 * The guest had asked for this, and then for something else: it halts
	 * between two beats of its tick, which is no end of the rhythm.
	 */
	policy->asked = 0;
	if (asked && !lazy_policy_observed(policy, asked) &&
	    (!policy->seen || asked > lazy_history(policy, 0)))
		lazy_policy_observe(policy, asked, LAZY_SCORE_WANTED);
	if (!policy->guess)
		return;
	stream = &policy->stream[policy->guess - 1];
	if (wanted && wanted <= stream->next + lazy_spread(policy, stream))
		return;
	policy->wasted++;
	lazy_stream_skip(stream, 1ULL << stream->backoff);
	if (active) {
		stream->backoff = 0;
		lazy_score_lower(stream, LAZY_SCORE_ACTIVE);
	} else {
		stream->backoff = lazy_min(stream->backoff + 1, LAZY_BACKOFF_MAX);
		lazy_score_lower(stream, LAZY_SCORE_ASLEEP);
	}
}

/**
 * lazy_policy_arm - for which deadline is the timer to be armed?
 * @policy: of one vCPU
 * @now: the guest's TSC
 * @wanted: what the guest wants; 0: nothing that is known of
 * @advance: how long before that the timer fires
 *
 * A guess is made so that the timer fires, and a look is promised to the guest,
 * half of @advance before the earliest beats came: later ones need no trap, and
 * those that are later than that by less than @advance no second look.
 *
 * Return: @wanted, or an earlier beat that is trusted; 0: disarm.
 */
u64 lazy_policy_arm(struct lazy_policy *policy, u64 now, u64 wanted, u64 advance)
{
	u64 soon = now + lazy_us(policy, LAZY_PERIOD_MIN_US) / 2, best = wanted;
	u32 i;

	policy->guess = 0;
	policy->asked = 0;
	if (policy->mode != LAZY_POLICY_PREDICT)
		return wanted;
	policy->asked = wanted;
	if (wanted && wanted <= soon)
		return wanted;

	for (i = 0; i < LAZY_STREAMS; i++) {
		struct lazy_stream *stream = &policy->stream[i];
		u64 beat;

		if (!stream->period)
			continue;
		lazy_stream_advance(policy, stream, now);
		if (stream->score < LAZY_SCORE_TRUST)
			continue;
		beat = lazy_beat(stream) + advance - advance / 2;
		if (beat <= soon)
			beat += stream->period;
		/* A beat that the guest has asked for itself is no guess. */
		if (wanted && beat + lazy_spread(policy, stream) >= wanted)
			continue;
		if (!best || beat < best) {
			best = beat;
			policy->guess = i + 1;
			policy->asked = 0;
		}
	}
	return best;
}

/**
 * lazy_policy_asleep - a look found the guest halted, and nothing due
 * @policy: of one vCPU
 * @now: the guest's TSC
 *
 * A guest asks for its tick, and before it halts for something later, which
 * needs no trap.  If it then sleeps beyond its tick, the look for that is what
 * the trap was saved for; had the host read what is wanted when the guest
 * halted, which is an exit anyway, there would have been neither.
 */
void lazy_policy_asleep(struct lazy_policy *policy, u64 now)
{
	lazy_policy_settle(policy, true);
	policy->slept = now;
}

/**
 * lazy_policy_was_active - has the guest been awake since this was asked last?
 * @policy: of one vCPU
 * @pending: what the guest wants, as it has just been read
 * @halts: how often it has halted
 *
 * It has if it wants something else, or has halted again: what it wanted meanwhile
 * may have come and gone.  For how long it had slept is not known; that it did not
 * trap since is what a look in vain had been promised for.  One that was spared has
 * cost nothing yet.
 *
 * Return: has it?
 */
bool lazy_policy_was_active(struct lazy_policy *policy, u64 pending, u64 halts)
{
	bool active = pending != policy->last_pending || halts != policy->last_halts;

	policy->last_pending = pending;
	policy->last_halts = halts;
	if (active && !policy->spared)
		lazy_policy_settle(policy, false);
	return active;
}

/**
 * lazy_policy_spares - is what the guest wants to be armed when it halts?
 * @policy: of one vCPU
 *
 * It pays where guests sleep long.  One that is soon woken up by something else
 * traps for its tick then, for which the look would have been in time.
 */
bool lazy_policy_spares(const struct lazy_policy *policy)
{
	return policy->mode == LAZY_POLICY_PREDICT &&
	       policy->idle >= LAZY_IDLE_TRUST;
}

/**
 * lazy_policy_spare - the guest has halted, and what it wants was armed
 * @policy: of one vCPU
 * @look: what was armed before
 * @wanted: what is armed now; 0: nothing
 */
void lazy_policy_spare(struct lazy_policy *policy, u64 look, u64 wanted)
{
	policy->guess = 0;
	policy->asked = wanted;
	/* If another is spared without a trap, the sleep goes on. */
	if (policy->slept)
		return;
	policy->slept = look;
	policy->spared = look;
}

/**
 * lazy_policy_awake - the guest traps, so if it has slept it does so no longer
 * @policy: of one vCPU
 * @now: the guest's TSC
 *
 * This trap is the price of a look that was spared.  One look is not worth it,
 * the one a period later, which would have come as well, is.  After a look in
 * vain it has come anyway, and the look could have been spared.
 */
void lazy_policy_awake(struct lazy_policy *policy, u64 now)
{
	bool worth = true;

	if (policy->spared)
		worth = now >= policy->slept + lazy_shortest(policy);
	lazy_policy_settle(policy, worth);
}
