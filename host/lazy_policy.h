/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lazy TSC deadline: what the host arms.
 *
 * A pure function of what the host has seen: no access to KVM, to the clock or
 * to guest memory, so that the same source runs in KVM, in user-space tests and
 * in the simulator.  All times are ticks of the guest's TSC.
 *
 * The exact policy arms what the guest wants.  After each expiry the next
 * deadline is a trap again, and a deadline that is earlier than the last is one
 * too.  The predict policy knows the rhythms of the deadlines that were
 * delivered (the tick, and what runs beside it) and arms the earliest of their
 * next beats before the guest asks; the write that would ask for it is skipped.
 * What it costs where the guess is wrong is a look of the host, never a
 * deadline: a look goes by what the guest wants then.
 */
#ifndef _LAZY_POLICY_H
#define _LAZY_POLICY_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdbool.h>
#include <stdint.h>
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;
typedef int64_t s64;
#endif

#define LAZY_STREAMS	4
#define LAZY_HISTORY	16

enum lazy_policy_mode {
	LAZY_POLICY_EXACT,
	LAZY_POLICY_PREDICT,
};

/**
 * struct lazy_stream - one rhythm among the delivered deadlines
 * @period: between two beats; 0: unused
 * @next: where the next beat is expected, by the earliest of the recent ones
 * @base: an early beat; @period is the mean distance since
 * @beats: how many there have been since @base, missed ones included
 * @jitter: how far beats are from where they were expected, a running mean
 * @score: confidence, 0 to LAZY_SCORE_MAX
 * @backoff: looks in a row that found the guest asleep
 * @credited: the last deadline for which a trap has raised @score
 */
struct lazy_stream {
	u64 period;
	u64 next;
	u64 base;
	u64 beats;
	u32 jitter;
	u8 score;
	u8 backoff;
	u64 credited;
};

/**
 * struct lazy_policy - what the policy remembers of one vCPU
 * @mode: exact or predict
 * @khz: frequency of the guest's TSC
 * @stream: known rhythms
 * @history: the last delivered deadlines, a ring
 * @seen: how many there have been
 * @guess: stream whose beat is armed, counted from 1; 0: none
 * @asked: what is armed because the guest wants it; 0: nothing, or a guess
 * @idle: confidence that the guest sleeps for longer than its tick, 0 to
 *	LAZY_IDLE_MAX
 * @slept: when the last look found the guest halted, or for when the look was
 *	that was spared since; 0: none, or @idle knows of it
 * @spared: which of the two it is
 * @last_pending: what the guest wanted when that was last read
 * @last_halts: how often it had halted by then
 * @hits: beats that were armed before the guest asked and were wanted
 * @misses: delivered deadlines that belong to no known rhythm
 * @wasted: looks for a beat that nobody wanted
 */
struct lazy_policy {
	enum lazy_policy_mode mode;
	u32 khz;
	struct lazy_stream stream[LAZY_STREAMS];
	u64 history[LAZY_HISTORY];
	u32 seen;
	u32 guess;
	u64 asked;
	u32 idle;
	u64 slept;
	bool spared;
	u64 last_pending;
	u64 last_halts;
	u64 hits;
	u64 misses;
	u64 wasted;
};

void lazy_policy_init(struct lazy_policy *policy, enum lazy_policy_mode mode,
		      u32 khz);
void lazy_policy_delivered(struct lazy_policy *policy, u64 deadline);
void lazy_policy_wanted(struct lazy_policy *policy, u64 deadline);
void lazy_policy_looked(struct lazy_policy *policy, u64 wanted, bool active);
u64 lazy_policy_arm(struct lazy_policy *policy, u64 now, u64 wanted, u64 advance);
void lazy_policy_asleep(struct lazy_policy *policy, u64 now);
bool lazy_policy_was_active(struct lazy_policy *policy, u64 pending, u64 halts);
bool lazy_policy_spares(const struct lazy_policy *policy);
void lazy_policy_spare(struct lazy_policy *policy, u64 look, u64 wanted);
void lazy_policy_awake(struct lazy_policy *policy, u64 now);

#endif /* _LAZY_POLICY_H */
