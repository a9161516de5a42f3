// SPDX-License-Identifier: GPL-2.0-only
/*
 * One vCPU: the guest's driver, the record, and the host's timer.  Functions
 * are named after those of host/lazy_tscdeadline.c that they stand for.
 */
#include <string.h>

#include "sim.h"
#include "../../abi/lazy_tscdeadline.h"

/* See host/lazy_tscdeadline.c; the slot is KVM's min_timer_period_us. */
#define SIM_SHORT_LOOKS		16
#define SIM_FLOOR_US		200

const char * const sim_mode_names[SIM_MODES] = {
	[SIM_OFF]	= "off",
	[SIM_EXACT]	= "exact",
	[SIM_PREDICT]	= "predict",
};

static const enum lazy_policy_mode sim_policies[SIM_MODES] = {
	[SIM_OFF]	= LAZY_POLICY_EXACT,
	[SIM_EXACT]	= LAZY_POLICY_EXACT,
	[SIM_PREDICT]	= LAZY_POLICY_PREDICT,
};

/**
 * sim_mode_find - the mode of that name
 * @mode: where to put it
 * @name: "off", "exact" or "predict"
 *
 * Return: is there one?
 */
bool sim_mode_find(enum sim_mode *mode, const char *name)
{
	int i;

	for (i = 0; i < SIM_MODES; i++) {
		if (strcmp(sim_mode_names[i], name))
			continue;
		*mode = i;
		return true;
	}
	return false;
}

/**
 * sim_vcpu_init - a vCPU whose timer is not in use
 * @v: what is to be set up
 * @mode: the arming policy
 * @khz: frequency of the guest's TSC, the unit of all times
 * @advance: KVM's timer_advance_ns, in ticks
 */
void sim_vcpu_init(struct sim_vcpu *v, enum sim_mode mode, u32 khz, u64 advance)
{
	memset(v, 0, sizeof(*v));
	v->mode = mode;
	v->advance = advance;
	v->floor_slot = (u64)khz * SIM_FLOOR_US / 1000;
	v->count_to = SIM_NEVER;
	lazy_policy_init(&v->policy, sim_policies[mode], khz);
}

/**
 * sim_counts_add - add up
 * @sum: what is added to
 * @n: what is added
 */
void sim_counts_add(struct sim_counts *sum, const struct sim_counts *n)
{
	sum->wants += n->wants;
	sum->writes += n->writes;
	sum->looks += n->looks;
	sum->expired += n->expired;
	sum->rearmed += n->rearmed;
	sum->disarmed += n->disarmed;
	sum->spared += n->spared;
	sum->wasted += n->wasted;
	sum->floor += n->floor;
	sum->streak = sum->streak > n->streak ? sum->streak : n->streak;
	sum->lost += n->lost;
	sum->early += n->early;
	sum->late += n->late;
}

/* Promises hold at all times; the rest is counted in a window. */
static bool sim_counted(const struct sim_vcpu *v, u64 now)
{
	return now >= v->count_from && now < v->count_to;
}

static void sim_note(struct sim_vcpu *v, u64 now)
{
	u64 ms;

	if (!v->peak)
		return;
	ms = (now + v->phase) / v->policy.khz;
	if (ms < v->peak->size)
		v->peak->bins[ms]++;
}

/* When the timer of @deadline is to fire, which is what may be published */
static u64 sim_advanced(const struct sim_vcpu *v, u64 deadline)
{
	return deadline > v->advance ? deadline - v->advance : 1;
}

static u64 sim_due(const struct sim_vcpu *v, u64 lateness)
{
	u64 due = sim_advanced(v, v->deadline) + lateness;

	return due > v->armed_at ? due : v->armed_at;
}

/**
 * sim_vcpu_fires - when will the host's timer fire?
 * @v: the vCPU
 *
 * Return: the time; SIM_NEVER: it is not armed.
 */
u64 sim_vcpu_fires(const struct sim_vcpu *v)
{
	return v->deadline ? sim_due(v, v->lateness) : SIM_NEVER;
}

/* What the guest waits for has to be looked at when it is due, not later. */
static void sim_check(struct sim_vcpu *v, u64 now)
{
	u64 bound = v->waiting > now ? v->waiting : now;

	if (!v->waiting)
		return;
	v->n.lost += !v->deadline;
	v->n.late += v->deadline && sim_due(v, 0) > bound;
}

static void sim_publish(struct sim_vcpu *v, u64 deadline)
{
	v->published = sim_advanced(v, deadline);
}

static void sim_arm(struct sim_vcpu *v, u64 wanted, u64 now, bool publish)
{
	u64 deadline = wanted;

	if (publish) {
		deadline = lazy_policy_arm(&v->policy, now, wanted, v->advance);
		v->n.late += wanted && deadline > wanted;
		if (deadline)
			sim_publish(v, deadline);
	}
	v->deadline = deadline;
	v->armed_at = now;
	v->look = deadline;
}

static bool sim_hit_floor(struct sim_vcpu *v, u64 now)
{
	u64 leaked = (now - v->last_look) / v->floor_slot;

	if (leaked >= v->short_looks) {
		v->short_looks = 0;
		v->last_look = now;
	} else {
		v->short_looks -= leaked;
		v->last_look += leaked * v->floor_slot;
	}
	return ++v->short_looks >= SIM_SHORT_LOOKS;
}

static void sim_look_rearm(struct sim_vcpu *v, u64 wanted, u64 now, bool active,
			   bool published)
{
	bool floor = sim_hit_floor(v, now), counted = sim_counted(v, now);
	u64 wasted = v->policy.wasted;

	if (++v->streak > v->n.streak)
		v->n.streak = v->streak;
	lazy_policy_looked(&v->policy, wanted, active);
	if (now < v->halted_until)
		lazy_policy_asleep(&v->policy, now);
	sim_arm(v, wanted, now, published && !floor);
	v->n.floor += floor && published && counted && v->look;
	v->n.wasted += counted ? v->policy.wasted - wasted : 0;
	v->n.rearmed += counted && v->look;
	v->n.disarmed += counted && !v->look;
}

/* The interrupt comes at *now; nothing may come before it is due. */
static void sim_deliver(struct sim_vcpu *v, u64 deadline, u64 *now)
{
	if (*now < deadline)
		*now = deadline;
	v->n.early += !v->crossing && (!v->waiting || *now < v->waiting);
	v->n.expired += sim_counted(v, *now);
	v->waiting = 0;
	v->deadline = 0;
	v->halted_until = 0;
	v->streak = 0;
}

static void sim_look_expired(struct sim_vcpu *v, u64 deadline, u64 *now,
			     bool published)
{
	v->look = false;
	v->delivered = deadline;
	lazy_policy_delivered(&v->policy, deadline);
	sim_deliver(v, deadline, now);
	/* The next beat is armed when that has been injected. */
	if (published)
		sim_arm(v, 0, *now + v->delay, true);
}

static u64 sim_wanted(const struct sim_vcpu *v)
{
	return v->pending == v->delivered ? 0 : v->pending;
}

static bool sim_look(struct sim_vcpu *v, u64 *now)
{
	u64 published = v->published, wanted;
	bool active = lazy_policy_was_active(&v->policy, v->pending, v->halts);

	/* A look that the guest was promised comes no earlier. */
	v->n.late += published && published > *now;
	v->published = 0;
	wanted = sim_wanted(v);
	if (wanted && !published)
		wanted = v->deadline;
	if (wanted && wanted <= *now + v->advance) {
		sim_look_expired(v, wanted, now, published);
		return true;
	}
	sim_look_rearm(v, wanted, *now, active, published);
	return false;
}

static void sim_policy_begin(struct lazy_policy *policy, const struct sim_state *state)
{
	memcpy(policy->stream, state->stream, sizeof(policy->stream));
	memcpy(policy->history, state->history, sizeof(policy->history));
	policy->seen = state->seen;
	policy->guess = state->guess;
	policy->asked = state->asked;
	policy->idle = state->idle;
	policy->slept = state->slept;
	policy->spared = state->spared;
	policy->last_pending = state->last_pending;
	policy->last_halts = state->last_halts;
}

/**
 * sim_vcpu_begin - go on from what the lab's host knew
 * @v: set up by sim_vcpu_init(), in the lab's mode
 * @state: what it knew
 */
void sim_vcpu_begin(struct sim_vcpu *v, const struct sim_state *state)
{
	sim_policy_begin(&v->policy, state);
	v->pending = state->pending;
	v->published = state->published;
	v->deadline = state->deadline;
	v->armed_at = state->now;
	v->look = state->look;
	v->delivered = state->delivered;
	v->last_look = state->last_look;
	v->short_looks = state->short_looks;
	v->halts = state->halts;
	v->halted_until = state->halted_until;
	v->waiting = v->look ? sim_wanted(v) : v->deadline;
}

/**
 * sim_vcpu_fire - the host's timer fires
 * @v: the vCPU
 * @now: the time; moved on to the guest's deadline if that is delivered
 *
 * Return: is the guest interrupted?
 */
bool sim_vcpu_fire(struct sim_vcpu *v, u64 *now)
{
	bool interrupt = true;

	v->n.looks += sim_counted(v, *now);
	sim_note(v, *now);
	if (v->look)
		interrupt = sim_look(v, now);
	else
		sim_deliver(v, v->deadline, now);
	sim_check(v, *now);
	return interrupt;
}

static bool sim_must_trap(const struct sim_vcpu *v, u64 now, u64 deadline,
			  u64 last)
{
	if (v->mode == SIM_OFF)
		return true;
	if (deadline)
		return lazy_tscdeadline_must_trap(v->published, deadline, now);
	return lazy_tscdeadline_cancel_must_trap(LAZY_TSCDEADLINE_F_CANCEL,
						 v->published, last, now);
}

/**
 * sim_vcpu_want - the guest tells the record what it wants
 * @v: the vCPU
 * @now: the time
 * @deadline: what; 0: nothing any more
 *
 * Return: does it have to write that?
 */
bool sim_vcpu_want(struct sim_vcpu *v, u64 now, u64 deadline)
{
	bool waiting = v->waiting, trap;
	u64 last = v->pending;

	v->n.wants += sim_counted(v, now);
	v->streak = 0;
	v->halted_until = 0;
	v->pending = deadline;
	v->waiting = deadline;
	trap = sim_must_trap(v, now, deadline, last);
	/* Until it is written, a plain one that it replaces may come. */
	v->crossing = trap && waiting;
	if (!trap)
		sim_check(v, now);
	return trap;
}

/**
 * sim_vcpu_write - UPDATE: the write has come to the host
 * @v: the vCPU
 * @now: the time
 * @deadline: what was written
 */
void sim_vcpu_write(struct sim_vcpu *v, u64 now, u64 deadline)
{
	v->n.writes += sim_counted(v, now);
	sim_note(v, now);
	/* A look on the way has delivered it: the same interrupt, once more */
	v->crossing = deadline && !v->waiting;
	v->look = false;
	v->published = 0;
	v->delivered = 0;
	v->deadline = deadline;
	v->armed_at = now;
	if (deadline && v->mode != SIM_OFF) {
		lazy_policy_awake(&v->policy, now);
		lazy_policy_wanted(&v->policy, deadline);
		v->short_looks = 0;
		sim_arm(v, deadline, now, true);
	}
	sim_check(v, now);
}

/**
 * sim_vcpu_program - the guest programs its timer, which takes no time
 * @v: the vCPU
 * @now: the time
 * @deadline: what it wants; 0: nothing any more
 */
void sim_vcpu_program(struct sim_vcpu *v, u64 now, u64 deadline)
{
	if (sim_vcpu_want(v, now, deadline))
		sim_vcpu_write(v, now, deadline);
}

static bool sim_halt_pays(const struct sim_vcpu *v, u64 wanted)
{
	return lazy_policy_spares(&v->policy) && v->look && v->published &&
	       (!wanted || wanted > v->deadline);
}

/**
 * sim_vcpu_halt - the guest halts
 * @v: the vCPU
 * @now: the time
 * @until: when something other than its timer wakes it up; SIM_NEVER: unknown
 */
void sim_vcpu_halt(struct sim_vcpu *v, u64 now, u64 until)
{
	u64 wanted = sim_wanted(v);

	v->halted_until = until;
	v->halts++;
	if (!sim_halt_pays(v, wanted))
		return;
	lazy_policy_was_active(&v->policy, v->pending, v->halts);
	lazy_policy_spare(&v->policy, v->deadline, wanted);
	v->published = 0;
	if (wanted)
		sim_publish(v, wanted);
	v->deadline = wanted;
	v->armed_at = now;
	v->look = wanted;
	v->n.spared += sim_counted(v, now);
	sim_check(v, now);
}
