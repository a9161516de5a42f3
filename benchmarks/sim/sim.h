/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The simulator: what vCPUs want of their timers, and what the host makes of it
 * under each arming policy.  The policy is the host's own source; what is around
 * it here is a model of host/lazy_tscdeadline.c and of the guest's driver.
 */
#ifndef _SIM_H
#define _SIM_H

#include "../../host/lazy_policy.h"

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#endif

#define SIM_NEVER	(~0ull)

enum sim_mode {
	SIM_OFF,		/* every deadline is written to the MSR */
	SIM_EXACT,
	SIM_PREDICT,
	SIM_MODES
};

extern const char * const sim_mode_names[SIM_MODES];

/**
 * struct sim_counts - what happened to one vCPU or to many
 * @wants: deadlines that the guest programmed or gave up
 * @writes: of these: written to the MSR, a VM exit each
 * @looks: expiries of the host's timer
 * @expired: of these: something was delivered
 * @rearmed: of these: the guest wanted something later, or a guess was armed
 * @disarmed: of these: it wanted nothing
 * @spared: looks, by arming what is wanted when the vCPU halts
 * @wasted: looks for a guess that was wrong
 * @floor: deadlines not published: too many short looks
 * @streak: at most so many looks in a row found nothing and saw no write
 * @lost: deadlines with no timer armed in time (a broken promise)
 * @early: interrupts before their deadline, or with nothing wanted
 * @late: deadlines armed or published later than the guest can bear
 */
struct sim_counts {
	u64 wants, writes;
	u64 looks, expired, rearmed, disarmed, spared, wasted, floor, streak;
	u64 lost, early, late;
};

/**
 * struct sim_peak - how many writes and looks fall into each ms of the host
 * @bins: one for each ms
 * @size: how many
 */
struct sim_peak {
	u32 *bins;
	u32 size;
};

/**
 * struct sim_vcpu - one vCPU, its record and the host's part of it
 * @mode: the arming policy
 * @policy: its state
 * @n: what happened
 * @peak: where to note when; NULL: nowhere
 * @phase: added to the time for @peak
 * @count_from: nothing is counted before
 * @count_to: nor from then on
 * @advance: how long before a deadline the host's timer is to fire, in ticks
 * @lateness: how much later than that it does
 * @delay: from a look to the interrupt it leads to
 * @floor_slot: what the bucket of short looks leaks one of
 * @waiting: the guest's deadline; 0: delivered, or none
 * @crossing: an interrupt may cross with a write: the one of the deadline that it
 *	replaces, or the second one of what was delivered meanwhile
 * @pending: of the record
 * @published: the record's "armed"
 * @deadline: what the host's timer is armed for; 0: it is not
 * @armed_at: since when
 * @look: expiry is a look
 * @delivered: as in the host, like the next three
 * @halts: how often it has halted
 * @last_look: up to which the bucket has leaked
 * @short_looks: its level
 * @streak: looks since the guest was interrupted or programmed something
 * @halted_until: it sleeps until then, or until its timer expires; 0: it does not
 */
struct sim_vcpu {
	enum sim_mode mode;
	struct lazy_policy policy;
	struct sim_counts n;
	struct sim_peak *peak;
	u64 phase;
	u64 count_from, count_to;
	u64 advance, lateness, delay, floor_slot;
	u64 waiting;
	bool crossing;
	u64 pending, published;
	u64 deadline, armed_at;
	bool look;
	u64 delivered, last_look;
	u32 halts;
	u32 short_looks;
	u64 streak;
	u64 halted_until;
};

/**
 * struct sim_state - what the lab's host knew of a vCPU when a trace began
 * @now: when that was
 * @pending: what the guest wanted
 * @halted_until: of struct sim_vcpu, like the others down to @halts
 * @seen: of struct lazy_policy, like the rest
 */
struct sim_state {
	u64 now, pending, halted_until;
	u64 published, deadline, look, delivered, last_look, short_looks, halts;
	u64 seen, guess, asked, idle, slept, spared, last_pending, last_halts;
	struct lazy_stream stream[LAZY_STREAMS];
	u64 history[LAZY_HISTORY];
};

void sim_vcpu_init(struct sim_vcpu *v, enum sim_mode mode, u32 khz, u64 advance);
void sim_vcpu_begin(struct sim_vcpu *v, const struct sim_state *state);
u64 sim_vcpu_fires(const struct sim_vcpu *v);
bool sim_vcpu_fire(struct sim_vcpu *v, u64 *now);
bool sim_vcpu_want(struct sim_vcpu *v, u64 now, u64 deadline);
void sim_vcpu_write(struct sim_vcpu *v, u64 now, u64 deadline);
void sim_vcpu_program(struct sim_vcpu *v, u64 now, u64 deadline);
void sim_vcpu_halt(struct sim_vcpu *v, u64 now, u64 until);
void sim_counts_add(struct sim_counts *sum, const struct sim_counts *n);

/**
 * struct sim_host - what is the same for all vCPUs of a synthetic rhythm
 * @advance_ns: KVM's timer_advance_ns
 * @late_ns: how late its timers are at most, evenly distributed
 * @jitter_ns: the same of the guest's conversion from ns to TSC
 */
struct sim_host {
	u32 advance_ns, late_ns, jitter_ns;
};

/**
 * struct sim_rhythm - a line of rhythms.tbl
 * @name: what it is called
 * @tick_us: period of the tick
 * @timer_us: period of a thread's timer; 0: none
 * @busy_us: mean time between wakeup and halt; 0: never awake
 * @idle_us: mean time halted; 0: never
 * @wheel_us: mean distance of other timers, which fall upon ticks
 * @mix: "NAME:WEIGHT ..." of other rhythms instead; or empty
 */
struct sim_rhythm {
	char name[24];
	u32 tick_us, timer_us, busy_us, idle_us, wheel_us;
	char mix[160];
};

#define SIM_RHYTHMS	32

struct sim_rhythms {
	struct sim_rhythm rhythm[SIM_RHYTHMS];
	int count;
};

bool sim_rhythms_read(struct sim_rhythms *rhythms, const char *path);
const struct sim_rhythm *sim_rhythm_find(const struct sim_rhythms *rhythms,
					 const char *name);
const struct sim_rhythm *sim_rhythm_pick(const struct sim_rhythms *rhythms,
					 const struct sim_rhythm *rhythm, u64 n);
void sim_rhythm_run(struct sim_vcpu *v, const struct sim_rhythm *rhythm,
		    const struct sim_host *host, u64 seed, u64 ns);

/**
 * struct sim_want - a line of a trace
 * @at: when the guest wanted something
 * @deadline: what; 0: nothing any more
 * @trap: how long it took to the host if that was a write; 0: it was none
 * @lates: how often the host's timer fired before the next line
 */
struct sim_want {
	u64 at, deadline, trap;
	u32 lates;
};

/**
 * struct sim_halt - another line of a trace
 * @at: when the vCPU halted
 * @until: when it went on
 */
struct sim_halt {
	u64 at, until;
};

/**
 * struct sim_late - an expiry of the host's timer
 * @late: how late it was
 * @delay: how long after that the interrupt came that it led to; 0: at once, or none
 */
struct sim_late {
	u64 late, delay;
};

#define SIM_TRACE_VCPUS	8

/**
 * struct sim_trace_vcpu - a vCPU of a trace
 * @advance: KVM's timer_advance_ns, in ticks
 * @known: is it known how it begins?
 * @state: if so, how
 * @wants: its lines
 * @count: how many
 * @halt: when it halted
 * @halts: how often
 * @late: how late the host's timers were, of all lines
 * @first_lates: of these: before the first line
 * @lates: how many these are
 * @at: the time of the last line
 */
struct sim_trace_vcpu {
	u64 advance;
	bool known;
	struct sim_state state;
	struct sim_want *wants;
	u32 count;
	struct sim_halt *halt;
	u32 halts;
	struct sim_late *late;
	u32 first_lates, lates;
	u64 at;
};

/**
 * struct sim_trace - what benchmarks/record has recorded
 * @workload: of the guest
 * @mode: what the lab's host was set to
 * @khz: frequency of the guest's TSC
 * @start: TSC at which it starts
 * @count_from: the lab has counted from then
 * @count_to: until then
 * @lab: what
 * @vcpu: the deadlines of each
 * @vcpus: how many
 */
struct sim_trace {
	char workload[24];
	enum sim_mode mode;
	u32 khz;
	u64 start, count_from, count_to;
	struct sim_counts lab;
	struct sim_trace_vcpu vcpu[SIM_TRACE_VCPUS];
	int vcpus;
};

bool sim_trace_read(struct sim_trace *trace, const char *path);
void sim_trace_free(struct sim_trace *trace);
void sim_trace_run(struct sim_vcpu *v, const struct sim_trace *trace, int vcpu);
bool sim_mode_find(enum sim_mode *mode, const char *name);

#endif /* _SIM_H */
