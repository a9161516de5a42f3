// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy TSC deadline: the host's side of asm/kvm_lazy_tscdeadline.h.
 *
 * For each vCPU that shares a record, the local APIC timer is in one of two
 * states:
 *
 *  plain  The record says armed == 0.  The timer is what the guest wrote to
 *	   MSR_IA32_TSC_DEADLINE; when it expires, KVM injects.
 *
 *  look   When the timer expires, KVM reads from the record what the guest
 *	   wants by now, and injects, arms a later deadline, or does nothing.
 *	   Normally the record says when that will be (armed != 0), and the guest
 *	   does not trap for deadlines that are not earlier.
 *
 * Three operations move it between them, with the names that the RFC gave them:
 * UPDATE (the guest wrote the MSR), KICK (the timer expired; a "look" below) and
 * CLEAR (what is published is withdrawn: flush, cancel, reset).
 *
 * Guest memory is hostile.  Nothing but "pending" is ever taken from it; "count"
 * is increased, whatever it is, and "armed" is compared with the host's own copy
 * only in order not to write to memory that is no longer a record.  Whatever goes
 * wrong ends in the plain state, with the timer armed no later than the guest may
 * want it.
 *
 * Locking: gpc->lock (read), then lazy->lock.  The hrtimer callback, in hard
 * irq context, only tries to take the former; where that fails, or where the
 * record cannot be written from there, it leaves the look to vCPU context.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/seq_file.h>

#include "cpuid.h"
#include "lapic.h"
#include "lazy_policy.h"
#include "lazy_tscdeadline.h"
#include "x86.h"

enum lazy_verdict {
	LAZY_LOOK_PLAIN,	/* not a look: KVM injects, as ever */
	LAZY_LOOK_EXPIRED,	/* what the guest wants has expired: inject */
	LAZY_LOOK_REARM,	/* it wants a later deadline: arm that */
	LAZY_LOOK_DISARM,	/* it wants none */
	LAZY_LOOK_DEFER,	/* no access from here: look in vCPU context */
	LAZY_LOOK_LOST,		/* the record is gone: inject, to be safe */
};

enum lazy_off_reason {
	LAZY_OFF_NEVER,		/* the guest has not asked for it */
	LAZY_OFF_GUEST,		/* the guest wrote 0 to the MSR */
	LAZY_OFF_RESET,		/* INIT or RESET of the vCPU */
	LAZY_OFF_SET_LAPIC,	/* user space replaced the APIC's state */
	LAZY_OFF_UNREACHABLE,	/* no memory behind the record any more */
	LAZY_OFF_NR
};

/* A record is shared, but a deadline is not published. */
enum lazy_plain_reason {
	LAZY_PLAIN_NOT,		/* there is nothing in the way */
	LAZY_PLAIN_PARAMETER,	/* the module's parameter is N */
	LAZY_PLAIN_TSC,		/* the host's TSCs cannot be relied upon */
	LAZY_PLAIN_APIC,	/* disabled, by hardware or software */
	LAZY_PLAIN_MODE,	/* the LVTT is not in TSC-deadline mode */
	LAZY_PLAIN_MASKED,	/* the LVTT is masked */
	LAZY_PLAIN_DIRTY_RING,	/* user space has to empty it first */
	LAZY_PLAIN_VALUE,	/* pending says something else */
	LAZY_PLAIN_USER,	/* user space wrote it */
	LAZY_PLAIN_FLOOR,	/* looks came too fast */
	LAZY_PLAIN_RECORD,	/* out of reach, or it was overwritten */
	LAZY_PLAIN_NR
};

/* Where a late delivery was noticed. */
enum lazy_late_where {
	LAZY_LATE_HRTIMER,	/* the hrtimer callback */
	LAZY_LATE_VCPU,		/* expiry in vCPU context */
	LAZY_LATE_INJECTED,	/* expired in time, injected late */
};

#define CREATE_TRACE_POINTS
#include "lazy_tscdeadline_trace.h"

/*
 * A sibling vCPU can move "pending" ahead for ever, a little at a time, at no
 * cost to itself.  Looks that only re-arm fill a bucket that leaks one of them
 * per min_timer_period_us, which is what KVM grants periodic APIC timers, and
 * that a write of the MSR by the vCPU empties.  When it holds LAZY_SHORT_LOOKS,
 * the next deadline is armed without being published and is delivered whatever
 * "pending" says then (except 0).  The vCPU's own writes trap until then, so a
 * guest that really has such short timers is served exactly.
 */
#define LAZY_SHORT_LOOKS	16

/* Saturates conversions to ns: a look may come early, and then re-arms. */
#define LAZY_DELTA_MAX		div_u64(U64_MAX, USEC_PER_SEC)

static bool __read_mostly lazy_tscdeadline = true;
module_param(lazy_tscdeadline, bool, 0644);
MODULE_PARM_DESC(lazy_tscdeadline,
		 "offer lazy TSC deadlines to guests (default: Y); N also stops publishing to those that use them");

static const char * const lazy_policy_names[] = {
	[LAZY_POLICY_EXACT]	= "exact",
	[LAZY_POLICY_PREDICT]	= "predict",
};

static int lazy_tscdeadline_policy __read_mostly = LAZY_POLICY_PREDICT;

static int lazy_policy_set(const char *val, const struct kernel_param *kp)
{
	int mode = sysfs_match_string(lazy_policy_names, val);

	if (mode < 0)
		return mode;
	WRITE_ONCE(lazy_tscdeadline_policy, mode);
	return 0;
}

static int lazy_policy_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n",
			  lazy_policy_names[READ_ONCE(lazy_tscdeadline_policy)]);
}

static const struct kernel_param_ops lazy_policy_ops = {
	.set = lazy_policy_set,
	.get = lazy_policy_get,
};
module_param_cb(lazy_tscdeadline_policy, &lazy_policy_ops, NULL, 0644);
MODULE_PARM_DESC(lazy_tscdeadline_policy,
		 "exact: arm what the guest wants; predict (default): also what it will want next.  For vCPUs that enable lazy mode from now on");

static unsigned long lazy_tscdeadline_late_ns __read_mostly = 10 * NSEC_PER_MSEC;
module_param(lazy_tscdeadline_late_ns, ulong, 0644);
MODULE_PARM_DESC(lazy_tscdeadline_late_ns,
		 "count and trace deadlines of vCPUs with lazy mode that are delivered later than this (default: 10000000; 0: none)");

struct lazy_stats {
	u64 updates;		/* writes of MSR_IA32_TSC_DEADLINE */
	u64 published;		/* of these: armed != 0 was published */
	u64 plain;		/* of these: not what "pending" says */
	u64 looks_sw;		/* in the hrtimer callback */
	u64 looks_vcpu;		/* in vCPU context: hv timer, already expired */
	u64 expired;
	u64 posted;		/* of these: injected from the hrtimer callback */
	u64 rearmed;
	u64 disarmed;
	u64 deferred;
	u64 spared;		/* looks, by arming when the vCPU halted */
	u64 lost;
	u64 flushed;
	u64 late_max;		/* ticks from deadline to look that injects */
	u64 late;		/* later than the limit, under the lock */
	u64 late_injected;	/* the same, but the expiry was in time */
	u64 refused;		/* #GP: no memory for a record there */
	u64 off[LAZY_OFF_NR];	/* times lazy mode ended, by reason */
	u64 why_plain[LAZY_PLAIN_NR];	/* deadlines not published, by reason */
};

/**
 * struct kvm_lazy_tscdeadline - state of one vCPU, behind struct kvm_lapic
 * @vcpu: whose
 * @lock: protects all below but the statistics; leaf
 * @gpc: the record's page: the one in use, and a spare for a change of address
 * @cur: which of @gpc is in use
 * @msr: MSR_KVM_LAZY_TSCDEADLINE; 0: lazy mode is off
 * @published: the host's own copy of what it wrote to the record's armed field
 * @look: expiry of the timer is a look; else it is injected
 * @gone: the record's memory was gone since @published was promised: the guest may
 *	have been in it after that, without a word of the host
 * @restart: vCPU context re-armed while the hv timer is being cancelled
 * @predict: a deadline was delivered and the next may be armed unasked
 * @delivered: the deadline that was delivered last: if it still is what pending
 *	says, the guest has not asked for another; 0 after a trap
 * @last_look: guest TSC up to which the bucket has leaked
 * @short_looks: level of the bucket of looks, see LAZY_SHORT_LOOKS
 * @off_reason: why lazy mode ended the last time, enum lazy_off_reason
 * @plain_reason: why a deadline was not published the last time
 * @asked: no deadline is late by what was before: guest TSC at the last write of
 *	the MSR or change of the TSC, or at which the last look was due
 * @due: TSC from which a timer that has expired counts as late until it is
 *	injected; 0: none has, or it was late before
 * @policy: what to arm, and what it has learned
 * @stats: for debugfs
 */
struct kvm_lazy_tscdeadline {
	struct kvm_vcpu *vcpu;
	raw_spinlock_t lock;
	struct gfn_to_pfn_cache gpc[2];
	int cur;
	u64 msr;
	u64 published;
	bool look;
	bool gone;
	bool restart;
	bool predict;
	u64 delivered;
	u64 last_look;
	unsigned int short_looks;
	enum lazy_off_reason off_reason;
	enum lazy_plain_reason plain_reason;
	u64 asked;
	u64 due;
	struct lazy_policy policy;
	struct lazy_stats stats;
};

static inline struct kvm_lazy_tscdeadline *lazy_of(struct kvm_lapic *apic)
{
	/* Pairs with smp_store_release() in lazy_alloc(). */
	return apic ? smp_load_acquire(&apic->lazy) : NULL;
}

static inline struct gfn_to_pfn_cache *lazy_gpc(struct kvm_lazy_tscdeadline *lazy)
{
	return &lazy->gpc[lazy->cur];
}

static inline struct kvm_timer *lazy_timer(struct kvm_lazy_tscdeadline *lazy)
{
	return &lazy->vcpu->arch.apic->lapic_timer;
}

static inline bool lazy_is_tscdeadline(struct kvm_lazy_tscdeadline *lazy)
{
	return lazy_timer(lazy)->timer_mode == APIC_LVT_TIMER_TSCDEADLINE;
}

static inline bool lazy_lvtt_masked(struct kvm_lapic *apic)
{
	return kvm_lapic_get_reg(apic, APIC_LVTT) & APIC_LVT_MASKED;
}

static u64 lazy_advance_cycles(struct kvm_lazy_tscdeadline *lazy)
{
	return nsec_to_cycles(lazy->vcpu, lazy_timer(lazy)->timer_advance_ns);
}

/*
 * How far from now may a deadline be that is injected, for KVM to wait for it?
 * __kvm_wait_lapic_expire() waits for timer_advance_ns at most, from which it takes
 * an eighth (LAPIC_TIMER_ADVANCE_ADJUST_STEP) of how early it is first.
 */
static u64 lazy_spin_cycles(struct kvm_lazy_tscdeadline *lazy)
{
	u64 advance = lazy_advance_cycles(lazy);

	return advance - advance / 8;
}

static u64 lazy_guest_tsc(struct kvm_lazy_tscdeadline *lazy)
{
	return kvm_read_l1_tsc(lazy->vcpu, rdtsc());
}

/*
 * Ask for a look, or for the record to be published again, in vCPU context
 * before the vCPU enters the guest or goes on sleeping.  Request first, then
 * kick (if the caller is not the vCPU): the other way round the vCPU could halt
 * in between and sleep for ever, as in the RFC.  KVM_REQ_UNBLOCK is what a
 * halted vCPU wakes up for; it does not make it runnable.
 */
static void lazy_request(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_LAZY_TSCDEADLINE, vcpu);
	kvm_make_request(KVM_REQ_UNBLOCK, vcpu);
}

static inline struct lazy_tscdeadline_record *
lazy_record(struct kvm_lazy_tscdeadline *lazy)
{
	return lazy_gpc(lazy)->khva;
}

static bool __lazy_record_trylock(struct kvm_lazy_tscdeadline *lazy)
{
	struct gfn_to_pfn_cache *gpc = lazy_gpc(lazy);

	lockdep_assert_irqs_disabled();

	if (!read_trylock(&gpc->lock))
		return false;
	if (!kvm_gpc_check(gpc, sizeof(struct lazy_tscdeadline_record))) {
		read_unlock(&gpc->lock);
		return false;
	}
	raw_spin_lock(&lazy->lock);
	/* For sparse: to callers, the two locks are one. */
	__release(&lazy->lock);
	__release(&gpc->lock);
	return true;
}

static bool __lazy_record_lock(struct kvm_lazy_tscdeadline *lazy)
{
	struct gfn_to_pfn_cache *gpc = lazy_gpc(lazy);
	const size_t len = sizeof(struct lazy_tscdeadline_record);

	read_lock_irq(&gpc->lock);
	while (!kvm_gpc_check(gpc, len)) {
		read_unlock_irq(&gpc->lock);
		if (kvm_gpc_refresh(gpc, len))
			return false;
		read_lock_irq(&gpc->lock);
	}
	raw_spin_lock_irq(&lazy->lock);
	__release(&lazy->lock);
	__release(&gpc->lock);
	return true;
}

/*
 * Access to lazy_record(), kvm->srcu held.  The first is for any context with
 * interrupts disabled and is false if the record is not reachable without
 * sleeping.  The second may sleep, disables interrupts if it succeeds, and is
 * false if there is no writable memory behind the record.  The third is as the
 * second, and in addition no hrtimer callback runs or will until interrupts are
 * enabled again.
 */
#define lazy_record_trylock(lazy)					\
	__cond_lock(lazy_record, __lazy_record_trylock(lazy))
#define lazy_record_lock(lazy)						\
	__cond_lock(lazy_record, __lazy_record_lock(lazy))
#define lazy_record_lock_quiet(lazy)					\
	__cond_lock(lazy_record, __lazy_record_lock_quiet(lazy))

static void lazy_record_unlock(struct kvm_lazy_tscdeadline *lazy)
	__releases(lazy_record)
{
	__release(lazy_record);
	__acquire(&lazy->lock);
	__acquire(&lazy_gpc(lazy)->lock);
	raw_spin_unlock(&lazy->lock);
	read_unlock(&lazy_gpc(lazy)->lock);
}

/*
 * Refreshing the cache sleeps, and when the vCPU is loaded again KVM may move
 * what was an hv timer to the hrtimer (posted interrupts became possible).
 */
static bool __lazy_record_lock_quiet(struct kvm_lazy_tscdeadline *lazy)
{
	struct hrtimer *timer = &lazy_timer(lazy)->timer;

	for (;;) {
		/* In the other modes it is not ours, and there is no look. */
		if (lazy_is_tscdeadline(lazy))
			hrtimer_cancel(timer);
		if (!lazy_record_lock(lazy))
			return false;
		if (!lazy_is_tscdeadline(lazy) || !hrtimer_active(timer))
			break;
		lazy_record_unlock(lazy);
		local_irq_enable();
	}
	__release(lazy_record);
	return true;
}

/*
 * The host wrote to the record: live migration must copy it again.  KVM wants
 * to know on behalf of which running vCPU a page was dirtied, so this is for
 * vCPU context; see lazy_must_defer() for the hrtimer callback.
 */
static void lazy_record_dirty(struct kvm_lazy_tscdeadline *lazy)
{
	struct gfn_to_pfn_cache *gpc = lazy_gpc(lazy);

	mark_page_dirty_in_slot(lazy->vcpu->kvm, gpc->memslot,
				gpa_to_gfn(gpc->gpa));
}

/* Is the record's memory logged, as for a migration?  kvm->srcu held. */
static bool lazy_is_logged(struct kvm_lazy_tscdeadline *lazy)
{
	gfn_t gfn = gpa_to_gfn(lazy->msr & LAZY_TSCDEADLINE_MSR_GPA_MASK);
	struct kvm_memory_slot *slot = gfn_to_memslot(lazy->vcpu->kvm, gfn);

	return slot && kvm_slot_dirty_track_enabled(slot);
}

static bool lazy_must_defer(struct kvm_lazy_tscdeadline *lazy, bool timer_fn)
{
	struct gfn_to_pfn_cache *gpc = lazy_gpc(lazy);

	return timer_fn && (!gpc->memslot ||
			    kvm_slot_dirty_track_enabled(gpc->memslot));
}

/*
 * CLEAR: take back what the record promises, then read what the guest wants.
 * Returns false if the record does not hold what was published there: the
 * memory has been given to something else (reboot, kexec without a word to the
 * host, snapshot loaded) or is scribbled upon, and must be left alone.
 */
static bool lazy_withdraw(struct kvm_lazy_tscdeadline *lazy, u64 *pending)
{
	struct lazy_tscdeadline_record *rec = lazy_record(lazy);
	u64 armed = lazy->published;

	lazy->published = 0;
	if (armed && cmpxchg(&rec->armed, armed, 0) != armed)
		return false;
	/*
	 * Pairs with the barrier that the guest has between its store of
	 * pending and its load of armed: either it sees 0 and traps, or what
	 * it stored is seen here.
	 */
	smp_mb();
	*pending = READ_ONCE(rec->pending);
	return true;
}

/*
 * Publish that there will be a look for @deadline.  The timer fires
 * timer_advance_ns before the deadline that it is armed for, and that moment is
 * what the guest may rely upon: a deadline that differs from the last one by
 * less than the advance costs no trap.  The timer is started by the caller
 * afterwards; until then nobody can act on a value that is too early, as the
 * look that ends the promise withdraws it first.
 */
static void lazy_publish(struct kvm_lazy_tscdeadline *lazy, u64 deadline)
{
	struct lazy_tscdeadline_record *rec = lazy_record(lazy);
	u64 advance = lazy_advance_cycles(lazy);

	lazy->gone = false;
	lazy->published = deadline > advance ? deadline - advance : 1;
	/* Whatever it was: what matters is that it changes. */
	WRITE_ONCE(rec->count, READ_ONCE(rec->count) + 1);
	/* Pairs with virt_rmb() in lazy_tscdeadline_check_host() of the guest. */
	smp_wmb();
	WRITE_ONCE(rec->armed, lazy->published);
}

/*
 * Not if the callback could not tell the guest's time on another CPU (the
 * host's TSCs are not synchronised), nor if user space has to empty the dirty
 * ring first: each write to the record adds to it, and a halted vCPU does not
 * get to the exit.
 */
static enum lazy_plain_reason lazy_obstacle(struct kvm_lazy_tscdeadline *lazy)
{
	struct kvm_vcpu *vcpu = lazy->vcpu;

	if (!READ_ONCE(lazy_tscdeadline))
		return LAZY_PLAIN_PARAMETER;
	if (!vcpu->arch.virtual_tsc_khz || vcpu->arch.tsc_catchup)
		return LAZY_PLAIN_TSC;
	if (!kvm_lapic_enabled(vcpu))
		return LAZY_PLAIN_APIC;
	if (!lazy_is_tscdeadline(lazy))
		return LAZY_PLAIN_MODE;
	if (lazy_lvtt_masked(vcpu->arch.apic))
		return LAZY_PLAIN_MASKED;
	if (kvm_test_request(KVM_REQ_DIRTY_RING_SOFT_FULL, vcpu))
		return LAZY_PLAIN_DIRTY_RING;
	return LAZY_PLAIN_NOT;
}

static bool lazy_may_publish(struct kvm_lazy_tscdeadline *lazy)
{
	return lazy->msr && lazy_obstacle(lazy) == LAZY_PLAIN_NOT;
}

/* For debugfs: a deadline is armed that the guest does not find published. */
static void lazy_count_plain(struct kvm_lazy_tscdeadline *lazy,
			     enum lazy_plain_reason reason)
{
	lazy->plain_reason = reason;
	lazy->stats.why_plain[reason]++;
}

/* Count a look that only re-arms; true if there were too many lately. */
static bool lazy_hit_floor(struct kvm_lazy_tscdeadline *lazy, u64 now)
{
	u64 slot = nsec_to_cycles(lazy->vcpu, min_timer_period_us * NSEC_PER_USEC);
	u64 leaked = slot ? div64_u64(now - lazy->last_look, slot) : U64_MAX;

	/* What is less than a slot is not lost: last_look moves by whole slots. */
	if (leaked >= lazy->short_looks) {
		lazy->short_looks = 0;
		lazy->last_look = now;
	} else {
		lazy->short_looks -= leaked;
		lazy->last_look += leaked * slot;
	}
	return ++lazy->short_looks >= LAZY_SHORT_LOOKS;
}

/*
 * Has a look been promised that nothing is armed for any more, as the record was
 * out of reach when that was to be withdrawn?
 */
static bool lazy_is_stranded(struct kvm_lazy_tscdeadline *lazy)
{
	return READ_ONCE(lazy->published) && !READ_ONCE(lazy->look);
}

/* What of "pending" is still to be delivered; 0: nothing. */
static u64 lazy_wanted(struct kvm_lazy_tscdeadline *lazy, u64 pending)
{
	return pending == lazy->delivered ? 0 : pending;
}

/*
 * Choose what the timer is armed for while the guest wants @wanted (0: nothing
 * that is known of), and publish it.  Unpublished, it is armed exactly.
 */
static void lazy_arm(struct kvm_lazy_tscdeadline *lazy, u64 wanted, u64 now,
		     bool publish)
{
	u64 deadline = wanted;

	if (publish && lazy_may_publish(lazy)) {
		deadline = lazy_policy_arm(&lazy->policy, now, wanted,
					   lazy_advance_cycles(lazy));
		if (deadline)
			lazy_publish(lazy, deadline);
	}
	lazy_timer(lazy)->tscdeadline = deadline;
	lazy->look = deadline;
}

/* Nothing has expired.  Is there something to arm? */
static enum lazy_verdict lazy_look_rearm(struct kvm_lazy_tscdeadline *lazy,
					 u64 wanted, u64 now, bool active,
					 bool published)
{
	bool floor = lazy_hit_floor(lazy, now);

	lazy_policy_looked(&lazy->policy, wanted, active);
	if (kvm_vcpu_is_blocking(lazy->vcpu))
		lazy_policy_asleep(&lazy->policy, now);
	lazy_arm(lazy, wanted, now, published && !floor);
	if (floor && published && lazy->look)
		lazy_count_plain(lazy, LAZY_PLAIN_FLOOR);
	if (lazy->look) {
		lazy->stats.rearmed++;
		return LAZY_LOOK_REARM;
	}
	lazy->stats.disarmed++;
	return LAZY_LOOK_DISARM;
}

static enum lazy_verdict lazy_look_expired(struct kvm_lazy_tscdeadline *lazy,
					   u64 deadline, u64 now, u64 published)
{
	u64 due;

	lazy_timer(lazy)->tscdeadline = deadline;
	lazy->look = false;
	lazy->delivered = deadline;
	lazy->predict = published;
	lazy->stats.expired++;
	/*
	 * A deadline for which there was no trap was not earlier than what was
	 * published: what a sibling writes there makes nothing late.
	 */
	if (published > lazy->asked)
		WRITE_ONCE(lazy->asked, published);
	due = max(deadline, lazy->asked);
	if (now > due)
		lazy->stats.late_max = max(lazy->stats.late_max, now - due);
	lazy_policy_delivered(&lazy->policy, deadline);
	return LAZY_LOOK_EXPIRED;
}

static enum lazy_verdict lazy_look_lost(struct kvm_lazy_tscdeadline *lazy)
{
	lazy->look = false;
	lazy->stats.lost++;
	return LAZY_LOOK_LOST;
}

/* Has the guest, which wants @pending, been awake since the last look? */
static bool lazy_was_active(struct kvm_lazy_tscdeadline *lazy, u64 pending)
{
	/* Not each time that it blocks: it also does after a signal.  A hint. */
	u64 halts = data_race(lazy->vcpu->stat.halt_exits);

	return lazy_policy_was_active(&lazy->policy, pending, halts);
}

/*
 * KICK, with the record locked.  If something has expired, the timer's
 * tscdeadline is then what the guest wanted: the entry spin and its tuning take
 * it from there.
 *
 * A look that was not published is one after the floor was hit: only a cancel
 * is honoured then, else the deadline is what the timer was armed for.
 */
static enum lazy_verdict lazy_look(struct kvm_lazy_tscdeadline *lazy,
				   bool timer_fn)
{
	u64 published = lazy->published, pending = 0, wanted, now;
	enum lazy_verdict verdict;
	bool intact, active;

	if (!lazy->look)
		return LAZY_LOOK_PLAIN;
	if (lazy_must_defer(lazy, timer_fn))
		return LAZY_LOOK_DEFER;

	intact = lazy_withdraw(lazy, &pending);
	active = intact && lazy_was_active(lazy, pending);
	wanted = lazy_wanted(lazy, pending);
	if (wanted && !published)
		wanted = lazy_timer(lazy)->tscdeadline;
	/* Read after pending: what expires meanwhile must not be armed late. */
	now = lazy_guest_tsc(lazy);

	if (!intact)
		verdict = lazy_look_lost(lazy);
	else if (wanted && wanted <= now + lazy_spin_cycles(lazy))
		verdict = lazy_look_expired(lazy, wanted, now, published);
	else
		verdict = lazy_look_rearm(lazy, wanted, now, active, published);

	if (intact && published && !timer_fn)
		lazy_record_dirty(lazy);
	trace_kvm_lazy_tscdeadline_look(lazy->vcpu->vcpu_id, timer_fn, verdict,
					published, pending, now);
	return verdict;
}

static enum lazy_verdict lazy_look_irqoff(struct kvm_lazy_tscdeadline *lazy,
					  bool timer_fn)
{
	enum lazy_verdict verdict;

	if (!lazy_record_trylock(lazy))
		return LAZY_LOOK_DEFER;
	verdict = lazy_look(lazy, timer_fn);
	lazy_record_unlock(lazy);
	return verdict;
}

static enum lazy_verdict lazy_look_try(struct kvm_lazy_tscdeadline *lazy,
				       bool timer_fn)
{
	struct kvm *kvm = lazy->vcpu->kvm;
	enum lazy_verdict verdict;
	unsigned long flags;
	int idx;

	if (timer_fn)
		lazy->stats.looks_sw++;
	else
		lazy->stats.looks_vcpu++;

	idx = srcu_read_lock(&kvm->srcu);
	local_irq_save(flags);
	verdict = lazy_look_irqoff(lazy, timer_fn);
	local_irq_restore(flags);
	srcu_read_unlock(&kvm->srcu, idx);

	if (verdict == LAZY_LOOK_DEFER) {
		lazy->stats.deferred++;
		lazy_request(lazy->vcpu);
	}
	return verdict;
}

/*
 * Start the hrtimer for the timer's tscdeadline.  hrtimer_start() and not the
 * restart by the callback's return value: vCPU context may start it at the same
 * time, and an enqueued timer must not have its expiry changed.
 */
static void lazy_start_hrtimer(struct kvm_lazy_tscdeadline *lazy)
{
	struct kvm_timer *ktimer = lazy_timer(lazy);
	u64 deadline = READ_ONCE(ktimer->tscdeadline), now, ns = 0;
	unsigned long flags;
	ktime_t expire;

	/* Disarmed by the callback meanwhile: nothing is to be injected. */
	if (!deadline)
		return;
	local_irq_save(flags);
	/* In this order: a delay in between may not make the look an early one. */
	now = lazy_guest_tsc(lazy);
	expire = ktime_get();
	if (deadline > now) {
		ns = min(deadline - now, LAZY_DELTA_MAX) * USEC_PER_SEC;
		/* Round up: a look that is early only has to be repeated. */
		ns = div_u64(ns, lazy->vcpu->arch.virtual_tsc_khz) + 1;
		ns -= min_t(u64, ns, ktimer->timer_advance_ns);
	}
	hrtimer_start(&ktimer->timer, ktime_add_safe(expire, ns),
		      HRTIMER_MODE_ABS_HARD);
	local_irq_restore(flags);
}

static u64 lazy_ticks_to_ns(struct kvm_lazy_tscdeadline *lazy, u64 ticks)
{
	u32 khz = lazy->vcpu->arch.virtual_tsc_khz;

	if (!khz)
		return 0;
	return div_u64(ticks, khz) * NSEC_PER_MSEC +
	       div_u64(ticks % khz * NSEC_PER_MSEC, khz);
}

/* Is it later than the limit, in guest TSC?  Then count it and tell. */
static bool lazy_check_late(struct kvm_lazy_tscdeadline *lazy, u64 due,
			    enum lazy_late_where where)
{
	u64 limit = READ_ONCE(lazy_tscdeadline_late_ns), now, ns;
	struct kvm_vcpu_arch *arch = &lazy->vcpu->arch;
	unsigned long flags;

	if (!limit || !arch->virtual_tsc_khz || arch->tsc_catchup)
		return false;
	now = lazy_guest_tsc(lazy);
	if (now <= due)
		return false;
	ns = lazy_ticks_to_ns(lazy, now - due);
	if (ns <= limit)
		return false;

	raw_spin_lock_irqsave(&lazy->lock, flags);
	if (where == LAZY_LATE_INJECTED)
		lazy->stats.late_injected++;
	else
		lazy->stats.late++;
	raw_spin_unlock_irqrestore(&lazy->lock, flags);
	trace_kvm_lazy_tscdeadline_late(lazy->vcpu->vcpu_id, where, due, ns);
	return true;
}

/*
 * The watchdog's first half: the timer has expired, and what was wanted (or, of
 * a plain timer, what it was armed for) is its tscdeadline.
 */
static void lazy_watch_expiry(struct kvm_lazy_tscdeadline *lazy,
			      bool from_timer_fn)
{
	u64 due = 0;

	if (lazy_is_tscdeadline(lazy))
		due = max(READ_ONCE(lazy_timer(lazy)->tscdeadline),
			  READ_ONCE(lazy->asked));
	if (due && lazy_check_late(lazy, due,
				   from_timer_fn ? LAZY_LATE_HRTIMER :
						   LAZY_LATE_VCPU))
		due = 0;
	WRITE_ONCE(lazy->due, due);
}

/* The other half: did the vCPU get it in time? */
static void lazy_watch_injection(struct kvm_lazy_tscdeadline *lazy)
{
	u64 due = READ_ONCE(lazy->due);

	if (!due)
		return;
	WRITE_ONCE(lazy->due, 0);
	lazy_check_late(lazy, due, LAZY_LATE_INJECTED);
}

/**
 * kvm_lazy_tscdeadline_timer_fn - the hrtimer of the APIC timer fired
 * @apic: whose
 *
 * A look that finds nothing expired neither wakes the vCPU nor makes it exit:
 * the timer is started again from here.  If the record is out of reach, the
 * vCPU is asked to look itself.
 *
 * Context: hard irq, on any CPU, concurrently with the vCPU in guest mode.
 * Return: true if there is nothing to inject now.
 */
bool kvm_lazy_tscdeadline_timer_fn(struct kvm_lapic *apic)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(apic);

	if (!lazy || !READ_ONCE(lazy->look))
		return false;

	switch (lazy_look_try(lazy, true)) {
	case LAZY_LOOK_REARM:
		lazy_start_hrtimer(lazy);
		return true;
	case LAZY_LOOK_DEFER:
		kvm_vcpu_kick(apic->vcpu);
		return true;
	case LAZY_LOOK_DISARM:
		return true;
	default:
		return false;
	}
}

/* The look of an expiry in vCPU context. */
static bool lazy_has_nothing_to_inject(struct kvm_lazy_tscdeadline *lazy)
{
	struct kvm_timer *ktimer = lazy_timer(lazy);

	/*
	 * The hrtimer callback may have disarmed on another CPU while the timer
	 * was being moved to the hv timer: then there is nothing to deliver.
	 */
	if (!READ_ONCE(lazy->look))
		return lazy_is_tscdeadline(lazy) &&
		       !READ_ONCE(ktimer->tscdeadline);

	switch (lazy_look_try(lazy, false)) {
	case LAZY_LOOK_REARM:
		if (ktimer->hv_timer_in_use)
			lazy->restart = true;
		else
			lazy_start_hrtimer(lazy);
		return true;
	case LAZY_LOOK_DISARM:
	case LAZY_LOOK_DEFER:
		return true;
	default:
		return false;
	}
}

/**
 * kvm_lazy_tscdeadline_expired - the APIC timer expired
 * @apic: whose
 * @from_timer_fn: called by the hrtimer callback, which has had its look and
 *	found that there is something to inject
 *
 * The hv timer fired, or a timer was to be started whose deadline had passed.
 * To be called before anything is injected.  Where a later deadline is to be
 * armed, the hrtimer is started here; with the hv timer, which the caller is
 * about to cancel, that is left to kvm_lazy_tscdeadline_rearm().
 *
 * Context: vCPU context, preemption or interrupts disabled; or hard irq.
 * Return: true if there is nothing to inject now.
 */
bool kvm_lazy_tscdeadline_expired(struct kvm_lapic *apic, bool from_timer_fn)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(apic);

	if (!lazy)
		return false;
	if (!from_timer_fn && lazy->msr && lazy_has_nothing_to_inject(lazy))
		return true;
	lazy_watch_expiry(lazy, from_timer_fn);
	return false;
}

/**
 * kvm_lazy_tscdeadline_rearm - must the timer be started again?
 * @apic: whose
 *
 * Context: vCPU context, after kvm_lazy_tscdeadline_expired() and after the hv
 * timer has been cancelled.
 * Return: true once after a look that found a later deadline.
 */
bool kvm_lazy_tscdeadline_rearm(struct kvm_lapic *apic)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(apic);
	bool restart = lazy && lazy->restart;

	if (restart)
		lazy->restart = false;
	return restart;
}

/* The timer is not what it was: expiry is no look, nothing was delivered. */
static void lazy_forget(struct kvm_lazy_tscdeadline *lazy)
{
	lazy->look = false;
	lazy->restart = false;
	lazy->predict = false;
	lazy->delivered = 0;
}

/*
 * After an injection.  A guess is written only to a record that still is as the
 * last look has left it; a guest that wants something else by now traps.
 */
static bool lazy_may_guess(struct kvm_lazy_tscdeadline *lazy)
{
	struct lazy_tscdeadline_record *rec = lazy_record(lazy);

	return lazy->predict && !lazy->look && !lazy->published &&
	       lazy_may_publish(lazy) && !lazy_must_defer(lazy, in_hardirq()) &&
	       !READ_ONCE(rec->armed) &&
	       READ_ONCE(rec->pending) == lazy->delivered;
}

/**
 * kvm_lazy_tscdeadline_injected - the interrupt of the APIC timer was injected
 * @apic: whose; its timer is idle now
 * @may_restart: vCPU context with preemption enabled and no timer in use
 *
 * If the policy knows what the guest will ask for next, that is armed and
 * published before it asks.
 *
 * Context: as kvm_lazy_tscdeadline_expired(), or hard irq (posted interrupts).
 */
void kvm_lazy_tscdeadline_injected(struct kvm_lapic *apic, bool may_restart)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(apic);
	unsigned long flags;
	int idx;

	if (!lazy)
		return;
	lazy_watch_injection(lazy);
	if (!lazy->msr)
		return;
	if (in_hardirq())
		lazy->stats.posted++;
	if (lazy_is_stranded(lazy)) {
		/* The guest may now rely on what it was promised. */
		lazy_request(apic->vcpu);
		if (in_hardirq())
			kvm_vcpu_kick(apic->vcpu);
	}
	if (!READ_ONCE(lazy->predict))
		return;

	idx = srcu_read_lock(&apic->vcpu->kvm->srcu);
	local_irq_save(flags);
	if (lazy_record_trylock(lazy)) {
		if (lazy_may_guess(lazy)) {
			lazy_arm(lazy, 0, lazy_guest_tsc(lazy), true);
			if (lazy->look && !in_hardirq())
				lazy_record_dirty(lazy);
		}
		lazy->predict = false;
		lazy_record_unlock(lazy);
	}
	local_irq_restore(flags);
	srcu_read_unlock(&apic->vcpu->kvm->srcu, idx);

	if (!READ_ONCE(lazy->look))
		return;
	if (may_restart)
		kvm_lapic_switch_to_hv_timer(apic->vcpu);
	else if (apic->lapic_timer.hv_timer_in_use)
		lazy->restart = true;
	else
		lazy_start_hrtimer(lazy);
}

/* What keeps a deadline that was written to the MSR from being published? */
static enum lazy_plain_reason lazy_why_plain(struct kvm_lazy_tscdeadline *lazy,
					     u64 deadline, u64 pending)
{
	if (!lazy->vcpu->wants_to_run)
		return LAZY_PLAIN_USER;
	if (deadline != pending)
		return LAZY_PLAIN_VALUE;
	return lazy_obstacle(lazy);
}

/* With the record locked, and nothing published: arm @deadline. */
static void lazy_update_arm(struct kvm_lazy_tscdeadline *lazy, u64 deadline,
			    u64 pending)
{
	enum lazy_plain_reason why = lazy_why_plain(lazy, deadline, pending);
	u64 now;

	if (why != LAZY_PLAIN_NOT) {
		lazy_count_plain(lazy, why);
		lazy->stats.plain++;
		return;
	}
	now = lazy_guest_tsc(lazy);
	lazy_policy_awake(&lazy->policy, now);
	lazy_policy_wanted(&lazy->policy, deadline);
	/* The vCPU itself has paid for this one. */
	lazy->short_looks = 0;
	lazy_arm(lazy, deadline, now, true);
	lazy->stats.published++;
}

/**
 * kvm_lazy_tscdeadline_update - UPDATE: a new deadline was written to the MSR
 * @apic: whose
 * @deadline: the new value, in guest TSC ticks; 0: none
 *
 * Sets the timer's tscdeadline, and publishes the deadline if it is the one
 * that the guest has put into the record.  Any other value comes from code that
 * does not speak the protocol and is armed as it is, and so is what user space
 * writes: it may be about to copy the record elsewhere.  To be called after the
 * hrtimer has been cancelled and before the timer is started, so that an expiry
 * at once is a look as well.
 *
 * Context: vCPU context; the VMX fast path calls with interrupts disabled.  If
 * the record is out of reach the timer is plain for now, and vCPU context
 * publishes it before the guest is entered.
 */
void kvm_lazy_tscdeadline_update(struct kvm_lapic *apic, u64 deadline)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(apic);
	u64 published, pending = 0;
	unsigned long flags;
	int idx;

	if (lazy)
		WRITE_ONCE(lazy->asked, lazy_guest_tsc(lazy));
	if (!lazy || !lazy->msr) {
		apic->lapic_timer.tscdeadline = deadline;
		return;
	}

	lazy->stats.updates++;
	idx = srcu_read_lock(&apic->vcpu->kvm->srcu);
	/*
	 * No look may come between (vCPU loaded on another CPU: hv timer, or
	 * the hrtimer again if the hv timer cannot be used any more).
	 */
	local_irq_save(flags);
	hrtimer_cancel(&apic->lapic_timer.timer);
	lazy_forget(lazy);
	apic->lapic_timer.tscdeadline = deadline;
	if (!lazy_record_trylock(lazy)) {
		lazy_count_plain(lazy, LAZY_PLAIN_RECORD);
		lazy_request(apic->vcpu);
		goto out;
	}

	published = lazy->published;
	if (!lazy_withdraw(lazy, &pending)) {
		lazy_count_plain(lazy, LAZY_PLAIN_RECORD);
		lazy->stats.lost++;
	} else if (deadline) {
		lazy_update_arm(lazy, deadline, pending);
	}
	if (published || lazy->published)
		lazy_record_dirty(lazy);
	trace_kvm_lazy_tscdeadline_update(apic->vcpu->vcpu_id, deadline,
					  lazy->published);
	lazy_record_unlock(lazy);
out:
	local_irq_restore(flags);
	srcu_read_unlock(&apic->vcpu->kvm->srcu, idx);
}

/**
 * kvm_lazy_tscdeadline_cancel - CLEAR: the APIC timer has been cancelled
 * @apic: whose
 *
 * For a change of the LVTT's mode, which discards the deadline: what is
 * published is withdrawn and what is pending is forgotten.  To be called after
 * the timer has been cancelled.
 *
 * Context: vCPU context, may be atomic; what cannot be done at once is done
 * before the guest is entered.
 */
void kvm_lazy_tscdeadline_cancel(struct kvm_lapic *apic)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(apic);
	unsigned long flags;
	u64 pending;
	int idx;

	if (!lazy)
		return;

	idx = srcu_read_lock(&apic->vcpu->kvm->srcu);
	local_irq_save(flags);
	/* A look between the caller's cancelling and here may have re-armed. */
	hrtimer_cancel(&apic->lapic_timer.timer);
	lazy_forget(lazy);
	if (!lazy->published)
		goto out;
	if (lazy_record_trylock(lazy)) {
		if (lazy_withdraw(lazy, &pending))
			lazy_record_dirty(lazy);
		lazy_record_unlock(lazy);
	} else {
		lazy_request(apic->vcpu);
	}
out:
	local_irq_restore(flags);
	srcu_read_unlock(&apic->vcpu->kvm->srcu, idx);
}

/* Lazy mode is over; what was published has been withdrawn or is beyond reach. */
static void lazy_turn_off(struct kvm_lazy_tscdeadline *lazy,
			  enum lazy_off_reason reason)
{
	lazy_forget(lazy);
	lazy->published = 0;
	lazy->msr = 0;
	lazy->off_reason = reason;
	lazy->stats.off[reason]++;
	kvm_gpc_deactivate(lazy_gpc(lazy));
	trace_kvm_lazy_tscdeadline_disable(lazy->vcpu->vcpu_id, reason);
}

static void lazy_policy_reset(struct kvm_lazy_tscdeadline *lazy)
{
	lazy_policy_init(&lazy->policy, READ_ONCE(lazy_tscdeadline_policy),
			 lazy->vcpu->arch.virtual_tsc_khz);
}

/*
 * There is no record to read.  Lazy mode lasts until what was promised has been
 * withdrawn, as the guest may rely on that when its memory comes back: so the look
 * for it stays, and if what is armed is another deadline (stranded), there is one
 * again when that has been delivered.  When the look is due and the record is still
 * gone, nobody knows what is wanted, and an interrupt is what keeps the promise.
 */
static void lazy_unreachable(struct kvm_lazy_tscdeadline *lazy, bool publish)
{
	struct kvm_timer *ktimer = lazy_timer(lazy);
	u64 now = lazy_guest_tsc(lazy), deadline = ktimer->tscdeadline;

	if (!lazy->published) {
		lazy_turn_off(lazy, LAZY_OFF_UNREACHABLE);
		return;
	}
	lazy->gone = true;
	lazy_count_plain(lazy, LAZY_PLAIN_RECORD);
	if (!lazy_is_tscdeadline(lazy))
		return;
	if (lazy->look && deadline > now + lazy_spin_cycles(lazy))
		return;
	if (deadline) {
		/* By the time of another look it has been delivered. */
		lazy_forget(lazy);
		lazy->delivered = deadline;
	} else if (publish && !atomic_read(&ktimer->pending) &&
		   lazy->published > now) {
		ktimer->tscdeadline = lazy->published + lazy_advance_cycles(lazy);
		lazy->look = true;
	}
}

/*
 * A promise that was stranded has been withdrawn.  The guest may have relied on it
 * for @pending, when its memory was there again and what it had trapped for was over:
 * nothing is armed then.
 */
static bool lazy_was_relied_upon(struct kvm_lazy_tscdeadline *lazy, u64 promised,
				 u64 pending)
{
	struct kvm_timer *ktimer = lazy_timer(lazy);

	return lazy_is_tscdeadline(lazy) && lazy_wanted(lazy, pending) >= promised &&
	       !ktimer->tscdeadline && !atomic_read(&ktimer->pending);
}

/*
 * CLEAR in vCPU context, sleeping allowed: the timer's tscdeadline becomes what
 * the guest wants, and with @publish a look is promised for it again.  The
 * caller starts the timer.
 */
static void lazy_resync(struct kvm_lazy_tscdeadline *lazy, bool publish)
{
	struct kvm_timer *ktimer = lazy_timer(lazy);
	u64 published, pending = 0, now;
	bool stranded;
	int idx;

	idx = srcu_read_lock(&lazy->vcpu->kvm->srcu);
	if (!lazy_record_lock_quiet(lazy)) {
		lazy_unreachable(lazy, publish);
		goto out;
	}

	published = lazy->published;
	stranded = lazy->gone && lazy_is_stranded(lazy);
	if (stranded && ktimer->tscdeadline) {
		/*
		 * The guest may have replaced what is armed, but it may also be from
		 * code that knows nothing of pending.  Its injection has the service
		 * come again, and by then it has been delivered.
		 */
		if (publish && lazy_is_tscdeadline(lazy)) {
			lazy->delivered = ktimer->tscdeadline;
			goto unlock;
		}
		lazy->delivered = 0;
	}
	if (!lazy_withdraw(lazy, &pending)) {
		lazy_look_lost(lazy);
	} else {
		/* Unpublished look: the floor; only a cancel is honoured. */
		if (lazy->look && (published || !pending))
			ktimer->tscdeadline = lazy_wanted(lazy, pending);
		else if (stranded && lazy_was_relied_upon(lazy, published, pending))
			ktimer->tscdeadline = pending;
		lazy->look = false;
		if (lazy->policy.khz != lazy->vcpu->arch.virtual_tsc_khz)
			lazy_policy_reset(lazy);
		now = lazy_guest_tsc(lazy);
		if (publish && pending && pending == ktimer->tscdeadline &&
		    !atomic_read(&ktimer->pending) && lazy_may_publish(lazy)) {
			if (lazy_hit_floor(lazy, now))
				lazy_count_plain(lazy, LAZY_PLAIN_FLOOR);
			else
				lazy_arm(lazy, pending, now, true);
		}
	}
	lazy->predict = false;
	if (published || lazy->published)
		lazy_record_dirty(lazy);
	lazy->stats.flushed++;
	trace_kvm_lazy_tscdeadline_flush(lazy->vcpu->vcpu_id, published,
					 ktimer->tscdeadline);
unlock:
	lazy_record_unlock(lazy);
	local_irq_enable();
out:
	srcu_read_unlock(&lazy->vcpu->kvm->srcu, idx);
}

/*
 * Is the timer plain, and will it stay so?  Not yet if the hrtimer callback has
 * found something expired and goes on to inject it by itself (posted interrupts:
 * the vCPU may have left the guest and got here meanwhile) and to publish a
 * guess.  Under the lock, as the callback passes on from one of these fields to
 * another; who must not miss the guess then waits for it by hrtimer_cancel().
 */
static bool lazy_is_plain(struct kvm_lazy_tscdeadline *lazy)
{
	unsigned long flags;
	bool plain;

	raw_spin_lock_irqsave(&lazy->lock, flags);
	plain = !lazy->look && !lazy->published && !lazy->predict;
	raw_spin_unlock_irqrestore(&lazy->lock, flags);
	return plain;
}

static void lazy_restart(struct kvm_lazy_tscdeadline *lazy)
{
	if (lazy_is_tscdeadline(lazy))
		kvm_lapic_switch_to_hv_timer(lazy->vcpu);
}

/**
 * kvm_lazy_tscdeadline_flush - CLEAR: make the LAPIC timer a plain one
 * @vcpu: whose
 *
 * For whoever reads, saves or masks the timer: afterwards the timer's
 * tscdeadline is the deadline that the guest wants, the timer is armed for it,
 * the record says armed == 0 and its page is marked dirty, so the next deadline
 * traps, here or wherever the vCPU has been migrated to.
 *
 * Context: vCPU context, may sleep.
 */
void kvm_lazy_tscdeadline_flush(struct kvm_vcpu *vcpu)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

	if (!lazy || lazy_is_plain(lazy))
		return;

	lazy_resync(lazy, false);
	lazy_restart(lazy);
	if (lazy_is_stranded(lazy))
		lazy_request(vcpu);
}

/**
 * kvm_lazy_tscdeadline_lvtt - the LVTT may have been masked
 * @apic: whose
 *
 * While it is masked (also by a software disable of the APIC) every deadline
 * traps, as KVM's treatment of a masked timer goes by the MSR.
 *
 * Context: vCPU context, may sleep.
 */
void kvm_lazy_tscdeadline_lvtt(struct kvm_lapic *apic)
{
	if (lazy_lvtt_masked(apic))
		kvm_lazy_tscdeadline_flush(apic->vcpu);
}

/**
 * kvm_lazy_tscdeadline_service - handle KVM_REQ_LAZY_TSCDEADLINE
 * @vcpu: whose
 *
 * The callback could not look, the record's page had been moved, or the guest's
 * TSC was changed: read what the guest wants, publish and arm it.  An expired
 * one is injected by the timer code when it is started.
 *
 * Context: vCPU context, may sleep, before the guest is entered.
 */
void kvm_lazy_tscdeadline_service(struct kvm_vcpu *vcpu)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

	if (!lazy || !lazy->msr)
		return;

	lazy_resync(lazy, true);
	lazy_restart(lazy);
}

/**
 * kvm_lazy_tscdeadline_tsc_changed - the offset or rate of the guest's TSC changed
 * @vcpu: whose
 *
 * Context: vCPU context, any, atomic included.
 */
void kvm_lazy_tscdeadline_tsc_changed(struct kvm_vcpu *vcpu)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

	if (!lazy)
		return;
	WRITE_ONCE(lazy->asked, lazy_guest_tsc(lazy));
	WRITE_ONCE(lazy->due, 0);
	if (!lazy_is_plain(lazy))
		lazy_request(vcpu);
}

/**
 * kvm_lazy_tscdeadline_memslots - the VM's memory has changed
 * @vcpu: of that VM
 *
 * A record that was out of reach may be there again.
 *
 * Context: any thread, with kvm->slots_lock; the caller kicks the vCPU.
 */
void kvm_lazy_tscdeadline_memslots(struct kvm_vcpu *vcpu)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

	if (lazy && lazy_is_stranded(lazy))
		lazy_request(vcpu);
}

/**
 * kvm_lazy_tscdeadline_user_exit - KVM_RUN returns to user space
 * @vcpu: whose
 *
 * While memory is logged for a migration, the VMM may copy it for the last time
 * before it reads the vCPU's state, which would withdraw what is published.  It
 * does neither while the vCPU runs, so that is withdrawn here.  Looks are made in
 * vCPU context then anyway, and each costs a trap.
 *
 * Context: vCPU context, may sleep, kvm->srcu held.
 */
void kvm_lazy_tscdeadline_user_exit(struct kvm_vcpu *vcpu)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

	if (!lazy || !lazy->msr)
		return;
	if (lazy_is_logged(lazy))
		kvm_lazy_tscdeadline_flush(vcpu);
	/* The VMM may be about to bring the record's memory back. */
	if (lazy_is_stranded(lazy))
		lazy_request(vcpu);
}

/* Would a look for what is published find nothing due? */
static bool lazy_halt_pays_irqoff(struct kvm_lazy_tscdeadline *lazy)
{
	bool pays;
	u64 wanted;

	if (!lazy_record_trylock(lazy))
		return false;
	wanted = lazy_wanted(lazy, READ_ONCE(lazy_record(lazy)->pending));
	pays = lazy->look && lazy->published && lazy_may_publish(lazy) &&
	       (!wanted || wanted > lazy_timer(lazy)->tscdeadline);
	lazy_record_unlock(lazy);
	return pays;
}

static bool lazy_halt_pays(struct kvm_lazy_tscdeadline *lazy)
{
	unsigned long flags;
	bool pays;

	if (!READ_ONCE(lazy->published))
		return false;
	/* data_race: no lock for each halt, and this is but a hint. */
	if (!data_race(lazy_policy_spares(&lazy->policy)))
		return false;

	local_irq_save(flags);
	pays = lazy_halt_pays_irqoff(lazy);
	local_irq_restore(flags);
	return pays;
}

/* With the record locked: arm what the guest wants, no guess. */
static void lazy_halt_arm(struct kvm_lazy_tscdeadline *lazy)
{
	u64 published = lazy->published, pending = 0, wanted;

	if (!lazy_withdraw(lazy, &pending)) {
		/* What is armed stands, and is injected. */
		lazy_look_lost(lazy);
		return;
	}
	lazy_was_active(lazy, pending);
	wanted = lazy_wanted(lazy, pending);
	lazy_policy_spare(&lazy->policy, lazy_timer(lazy)->tscdeadline, wanted);
	if (wanted)
		lazy_publish(lazy, wanted);
	lazy_timer(lazy)->tscdeadline = wanted;
	lazy->look = wanted;
	lazy->stats.spared++;
	lazy_record_dirty(lazy);
	trace_kvm_lazy_tscdeadline_halt(lazy->vcpu->vcpu_id, published, wanted);
}

/**
 * kvm_lazy_tscdeadline_halt - the vCPU has halted and is about to sleep
 * @vcpu: whose; the hv timer is not in use
 *
 * What is armed is what the guest asked for while it ran.  It may want something
 * later by now, and until it wakes up it does not change its mind, so where the
 * policy expects a long sleep, that is armed.  If another vCPU changes the record
 * meanwhile, or the host does, the look comes as promised all the same.
 *
 * Context: vCPU context, may sleep, kvm->srcu held.
 */
void kvm_lazy_tscdeadline_halt(struct kvm_vcpu *vcpu)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);
	bool restart;

	if (!lazy || !lazy_halt_pays(lazy))
		return;
	/* This cancels the hrtimer; its callback may have looked before. */
	if (!lazy_record_lock_quiet(lazy)) {
		lazy_unreachable(lazy, true);
		lazy_start_hrtimer(lazy);
		return;
	}
	restart = lazy->look;
	if (lazy->look && lazy->published)
		lazy_halt_arm(lazy);
	restart &= lazy_timer(lazy)->tscdeadline != 0;
	lazy_record_unlock(lazy);
	local_irq_enable();
	if (restart)
		lazy_start_hrtimer(lazy);
}

static void lazy_disable(struct kvm_vcpu *vcpu, enum lazy_off_reason reason)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

	if (!lazy || !lazy->msr)
		return;
	if (!lazy_is_plain(lazy))
		lazy_resync(lazy, false);
	if (lazy->msr)
		lazy_turn_off(lazy, reason);
}

/**
 * kvm_lazy_tscdeadline_reset - INIT or RESET of the vCPU
 * @vcpu: whose
 *
 * Context: vCPU context, may sleep; the caller cancels the timer.
 */
void kvm_lazy_tscdeadline_reset(struct kvm_vcpu *vcpu)
{
	lazy_disable(vcpu, LAZY_OFF_RESET);
}

/**
 * kvm_lazy_tscdeadline_set_lapic - user space replaces the state of the APIC
 * @vcpu: whose
 *
 * System reset, a loaded snapshot, incoming migration: a VMM that does not know
 * the feature neither saves nor clears its MSR, and guest memory may have been
 * replaced as well.  Lazy mode ends; the guest has to ask for it again.
 *
 * Context: vCPU context, may sleep; the caller cancels and restarts the timer.
 */
void kvm_lazy_tscdeadline_set_lapic(struct kvm_vcpu *vcpu)
{
	lazy_disable(vcpu, LAZY_OFF_SET_LAPIC);
}

static struct kvm_lazy_tscdeadline *lazy_alloc(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic *apic = vcpu->arch.apic;
	struct kvm_lazy_tscdeadline *lazy = apic->lazy;

	BUILD_BUG_ON(sizeof(struct lazy_tscdeadline_record) !=
		     LAZY_TSCDEADLINE_ALIGN);
	BUILD_BUG_ON(PAGE_SIZE % LAZY_TSCDEADLINE_ALIGN);

	if (lazy)
		return lazy;

	lazy = kzalloc(sizeof(*lazy), GFP_KERNEL_ACCOUNT);
	if (!lazy)
		return NULL;
	lazy->vcpu = vcpu;
	raw_spin_lock_init(&lazy->lock);
	kvm_gpc_init(&lazy->gpc[0], vcpu->kvm);
	kvm_gpc_init(&lazy->gpc[1], vcpu->kvm);
	/* Pairs with smp_load_acquire() in lazy_of(). */
	smp_store_release(&apic->lazy, lazy);
	return lazy;
}

/* Tell the guest what this host can do; armed is 0 until something is armed. */
static bool lazy_offer(struct kvm_lazy_tscdeadline *lazy)
{
	struct lazy_tscdeadline_record *rec;

	if (!lazy_record_lock(lazy))
		return false;
	rec = lazy_record(lazy);
	WRITE_ONCE(rec->armed, 0);
	WRITE_ONCE(rec->features, LAZY_TSCDEADLINE_F_CANCEL |
		   LAZY_TSCDEADLINE_F_COUNT);
	WRITE_ONCE(rec->version, LAZY_TSCDEADLINE_VERSION);
	lazy_record_dirty(lazy);
	lazy_record_unlock(lazy);
	local_irq_enable();
	return true;
}

static int lazy_enable(struct kvm_vcpu *vcpu, u64 data)
{
	const size_t len = sizeof(struct lazy_tscdeadline_record);
	u64 gpa = data & LAZY_TSCDEADLINE_MSR_GPA_MASK;
	struct kvm_lazy_tscdeadline *lazy = lazy_alloc(vcpu);
	struct gfn_to_pfn_cache *spare;
	int idx, r = 1;

	if (!lazy)
		return 1;

	idx = srcu_read_lock(&vcpu->kvm->srcu);
	spare = &lazy->gpc[!lazy->cur];
	/* KVM's own memslots (APIC page, TSS) are no guest memory. */
	if (!kvm_is_visible_gfn(vcpu->kvm, gpa_to_gfn(gpa)) ||
	    kvm_gpc_activate(spare, gpa, len)) {
		/* Nothing has changed: a record in use stays in use. */
		lazy->stats.refused++;
		kvm_gpc_deactivate(spare);
		goto out;
	}

	kvm_lazy_tscdeadline_flush(vcpu);
	kvm_gpc_deactivate(lazy_gpc(lazy));
	raw_spin_lock_irq(&lazy->lock);
	lazy->cur = !lazy->cur;
	lazy->msr = data;
	lazy_forget(lazy);
	lazy->published = 0;
	lazy_policy_reset(lazy);
	raw_spin_unlock_irq(&lazy->lock);
	trace_kvm_lazy_tscdeadline_enable(vcpu->vcpu_id, gpa);

	if (lazy_offer(lazy))
		r = 0;
	else
		lazy_turn_off(lazy, LAZY_OFF_UNREACHABLE);
out:
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
	return r;
}

/*
 * Is there such an MSR?  With the module's parameter switched off, only for
 * vCPUs that use it already.
 */
static bool lazy_offered(struct kvm_vcpu *vcpu)
{
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

	return guest_pv_has(vcpu, KVM_FEATURE_LAZY_TSCDEADLINE) &&
	       lapic_in_kernel(vcpu) &&
	       (READ_ONCE(lazy_tscdeadline) || (lazy && lazy->msr));
}

/**
 * kvm_lazy_tscdeadline_set_msr - write of MSR_KVM_LAZY_TSCDEADLINE
 * @vcpu: whose
 * @data: 0, or the record's guest-physical address and
 *	LAZY_TSCDEADLINE_MSR_ENABLED
 *
 * Context: vCPU context, may sleep.
 * Return: 0; 1 or KVM_MSR_RET_UNSUPPORTED: #GP, and nothing has changed (unless
 * user space has taken the memory of the new record away meanwhile: then lazy
 * mode is off).
 */
int kvm_lazy_tscdeadline_set_msr(struct kvm_vcpu *vcpu, u64 data)
{
	if (!lazy_offered(vcpu))
		return KVM_MSR_RET_UNSUPPORTED;

	if (!data) {
		struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);

		kvm_lazy_tscdeadline_flush(vcpu);
		if (lazy && lazy->msr)
			lazy_turn_off(lazy, LAZY_OFF_GUEST);
		return 0;
	}
	if (!(data & LAZY_TSCDEADLINE_MSR_ENABLED) ||
	    data & ~(LAZY_TSCDEADLINE_MSR_GPA_MASK |
		     LAZY_TSCDEADLINE_MSR_ENABLED))
		return 1;
	if (!READ_ONCE(lazy_tscdeadline))
		return 1;
	return lazy_enable(vcpu, data);
}

/**
 * kvm_lazy_tscdeadline_get_msr - read of MSR_KVM_LAZY_TSCDEADLINE
 * @vcpu: whose
 * @data: what was written last; 0 if lazy mode has ended since
 *
 * Context: vCPU context.
 * Return: 0 or KVM_MSR_RET_UNSUPPORTED.
 */
int kvm_lazy_tscdeadline_get_msr(struct kvm_vcpu *vcpu, u64 *data)
{
	struct kvm_lazy_tscdeadline *lazy;

	if (!lazy_offered(vcpu))
		return KVM_MSR_RET_UNSUPPORTED;

	lazy = lazy_of(vcpu->arch.apic);
	*data = lazy ? lazy->msr : 0;
	return 0;
}

/**
 * kvm_lazy_tscdeadline_cpuid - the feature's bit in KVM_CPUID_FEATURES.EAX
 *
 * Return: the bit, or 0 where the module's parameter says no.
 */
u32 kvm_lazy_tscdeadline_cpuid(void)
{
	return READ_ONCE(lazy_tscdeadline) ?
	       BIT(KVM_FEATURE_LAZY_TSCDEADLINE) : 0;
}

/**
 * kvm_lazy_tscdeadline_destroy - the vCPU goes away
 * @apic: whose; its hrtimer has been cancelled
 *
 * Context: may sleep.
 */
void kvm_lazy_tscdeadline_destroy(struct kvm_lapic *apic)
{
	struct kvm_lazy_tscdeadline *lazy = apic->lazy;

	if (!lazy)
		return;
	kvm_gpc_deactivate(&lazy->gpc[0]);
	kvm_gpc_deactivate(&lazy->gpc[1]);
	apic->lazy = NULL;
	kfree(lazy);
}

static const char * const lazy_off_names[LAZY_OFF_NR] = {
	[LAZY_OFF_NEVER]	= "never",
	[LAZY_OFF_GUEST]	= "guest",
	[LAZY_OFF_RESET]	= "reset",
	[LAZY_OFF_SET_LAPIC]	= "set_lapic",
	[LAZY_OFF_UNREACHABLE]	= "unreachable",
};

static const char * const lazy_plain_names[LAZY_PLAIN_NR] = {
	[LAZY_PLAIN_NOT]	= "-",
	[LAZY_PLAIN_PARAMETER]	= "parameter",
	[LAZY_PLAIN_TSC]	= "tsc",
	[LAZY_PLAIN_APIC]	= "apic",
	[LAZY_PLAIN_MODE]	= "mode",
	[LAZY_PLAIN_MASKED]	= "masked",
	[LAZY_PLAIN_DIRTY_RING]	= "dirty_ring",
	[LAZY_PLAIN_VALUE]	= "value",
	[LAZY_PLAIN_USER]	= "user",
	[LAZY_PLAIN_FLOOR]	= "floor",
	[LAZY_PLAIN_RECORD]	= "record",
};

/* A line of a file in debugfs */
struct lazy_row {
	const char *name;
	u64 value;
};

static void lazy_show_rows(struct seq_file *m, const struct lazy_row *rows, int count)
{
	int i;

	for (i = 0; i < count; i++)
		seq_printf(m, "%s %llu\n", rows[i].name, rows[i].value);
}

static void lazy_show_stats(struct seq_file *m,
			    struct kvm_lazy_tscdeadline *lazy)
{
	const struct lazy_policy *policy = &lazy->policy;
	const struct lazy_stats *s = &lazy->stats;
	const struct lazy_row rows[] = {
		{ "updates", s->updates },
		{ "published", s->published },
		{ "plain", s->plain },
		{ "looks_sw", s->looks_sw },
		{ "looks_vcpu", s->looks_vcpu },
		{ "expired", s->expired },
		{ "posted", s->posted },
		{ "rearmed", s->rearmed },
		{ "disarmed", s->disarmed },
		{ "deferred", s->deferred },
		{ "spared", s->spared },
		{ "lost", s->lost },
		{ "floor", s->why_plain[LAZY_PLAIN_FLOOR] },
		{ "flushed", s->flushed },
		{ "policy_hits", policy->hits },
		{ "policy_misses", policy->misses },
		{ "policy_wasted", policy->wasted },
		{ "late_max_us", div_u64(lazy_ticks_to_ns(lazy, s->late_max),
					 NSEC_PER_USEC) },
		{ "late", s->late },
		{ "late_injected", s->late_injected },
		{ "refused", s->refused },
	};
	int i;

	lazy_show_rows(m, rows, ARRAY_SIZE(rows));
	for (i = LAZY_OFF_NEVER + 1; i < LAZY_OFF_NR; i++)
		seq_printf(m, "off_%s %llu\n", lazy_off_names[i], s->off[i]);
	for (i = LAZY_PLAIN_NOT + 1; i < LAZY_PLAIN_NR; i++)
		seq_printf(m, "plain_%s %llu\n", lazy_plain_names[i],
			   s->why_plain[i]);
}

static const char *lazy_off_name(const struct kvm_lazy_tscdeadline *lazy)
{
	return lazy_off_names[lazy ? lazy->off_reason : LAZY_OFF_NEVER];
}

/* Is the vCPU lazy, and if not, why? */
static void lazy_show_state(struct seq_file *m,
			    struct kvm_lazy_tscdeadline *lazy)
{
	enum lazy_plain_reason obstacle;

	if (!lazy || !lazy->msr) {
		seq_puts(m, "state off\n");
		seq_printf(m, "reason %s\n", lazy_off_name(lazy));
		return;
	}
	obstacle = lazy_obstacle(lazy);
	seq_printf(m, "state %s\n",
		   obstacle == LAZY_PLAIN_NOT ? "lazy" : "plain");
	seq_printf(m, "reason %s\n", lazy_plain_names[obstacle]);
}

/* How long ago should what the timer is armed for have been delivered? */
static u64 lazy_overdue_us(struct kvm_lazy_tscdeadline *lazy, u64 now)
{
	u64 deadline = READ_ONCE(lazy_timer(lazy)->tscdeadline);

	if (!lazy_is_tscdeadline(lazy) || !deadline || deadline >= now)
		return 0;
	return div_u64(lazy_ticks_to_ns(lazy, now - deadline), NSEC_PER_USEC);
}

/* Racy snapshot: for eyes and scripts, not for decisions. */
static int lazy_tscdeadline_show(struct seq_file *m, void *v)
{
	struct kvm_vcpu *vcpu = m->private;
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);
	u64 now;

	seq_printf(m, "enabled %d\n", lazy && lazy->msr);
	seq_printf(m, "off_reason %s\n",
		   lazy && lazy->msr ? "-" : lazy_off_name(lazy));
	lazy_show_state(m, lazy);
	seq_printf(m, "cpuid %d\n", !!(vcpu->arch.pv_cpuid.features &
				       BIT(KVM_FEATURE_LAZY_TSCDEADLINE)));
	seq_printf(m, "offered %d\n", lazy_offered(vcpu));
	if (!lazy)
		return 0;
	now = lazy_guest_tsc(lazy);
	seq_printf(m, "last_off %s\n", lazy_off_name(lazy));
	seq_printf(m, "last_plain %s\n", lazy_plain_names[lazy->plain_reason]);
	seq_printf(m, "msr 0x%llx\n", lazy->msr);
	seq_printf(m, "armed %llu\n", lazy->published);
	seq_printf(m, "look %d\n", lazy->look);
	seq_printf(m, "hv_timer %d\n", lazy_timer(lazy)->hv_timer_in_use);
	seq_printf(m, "deadline %llu\n", lazy_timer(lazy)->tscdeadline);
	seq_printf(m, "now %llu\n", now);
	seq_printf(m, "overdue_us %llu\n", lazy_overdue_us(lazy, now));
	seq_printf(m, "policy %s\n", lazy_policy_names[lazy->policy.mode]);
	lazy_show_stats(m, lazy);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lazy_tscdeadline);

/* One moment of a vCPU: what a model needs to go on from there. */
struct lazy_moment {
	struct lazy_policy policy;
	u64 now, published, deadline, delivered, last_look, halts;
	unsigned int short_looks;
	bool look;
};

static void lazy_moment_take(struct kvm_lazy_tscdeadline *lazy,
			     struct lazy_moment *moment)
{
	raw_spin_lock_irq(&lazy->lock);
	moment->policy = lazy->policy;
	moment->now = lazy_guest_tsc(lazy);
	moment->published = lazy->published;
	moment->deadline = READ_ONCE(lazy_timer(lazy)->tscdeadline);
	moment->delivered = lazy->delivered;
	moment->last_look = lazy->last_look;
	/* data_race: counted by the vCPU without a lock. */
	moment->halts = data_race(lazy->vcpu->stat.halt_exits);
	moment->short_looks = lazy->short_looks;
	moment->look = lazy->look;
	raw_spin_unlock_irq(&lazy->lock);
}

static void lazy_show_streams(struct seq_file *m, const struct lazy_policy *policy)
{
	int i;

	for (i = 0; i < LAZY_STREAMS; i++) {
		const struct lazy_stream *stream = &policy->stream[i];

		seq_printf(m, "stream %d %llu %llu %llu %llu %u %u %u %llu\n", i,
			   stream->period, stream->next, stream->base,
			   stream->beats, stream->jitter, stream->score,
			   stream->backoff, stream->credited);
	}
	seq_puts(m, "history");
	for (i = 0; i < LAZY_HISTORY; i++)
		seq_printf(m, " %llu", policy->history[i]);
	seq_puts(m, "\n");
}

static void lazy_show_moment(struct seq_file *m, const struct lazy_moment *moment)
{
	const struct lazy_policy *policy = &moment->policy;
	const struct lazy_row rows[] = {
		{ "now", moment->now },
		{ "published", moment->published },
		{ "deadline", moment->deadline },
		{ "look", moment->look },
		{ "delivered", moment->delivered },
		{ "last_look", moment->last_look },
		{ "short_looks", moment->short_looks },
		{ "halts", moment->halts },
		{ "seen", policy->seen },
		{ "guess", policy->guess },
		{ "asked", policy->asked },
		{ "idle", policy->idle },
		{ "slept", policy->slept },
		{ "spared", policy->spared },
		{ "last_pending", policy->last_pending },
		{ "last_halts", policy->last_halts },
	};

	lazy_show_rows(m, rows, ARRAY_SIZE(rows));
	lazy_show_streams(m, policy);
}

/*
 * What the policy has learned and what is armed, with the names of struct
 * lazy_policy: to find out why something is armed, and for the simulator to start
 * from (benchmarks/record).
 */
static int lazy_tscdeadline_policy_show(struct seq_file *m, void *v)
{
	struct kvm_vcpu *vcpu = m->private;
	struct kvm_lazy_tscdeadline *lazy = lazy_of(vcpu->arch.apic);
	struct lazy_moment moment;

	if (!lazy)
		return 0;
	lazy_moment_take(lazy, &moment);
	lazy_show_moment(m, &moment);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lazy_tscdeadline_policy);

/**
 * kvm_lazy_tscdeadline_create_debugfs - add the vCPU's files
 * @vcpu: whose
 * @dir: its directory in debugfs
 *
 * Context: may sleep.
 */
void kvm_lazy_tscdeadline_create_debugfs(struct kvm_vcpu *vcpu,
					 struct dentry *dir)
{
	if (!lapic_in_kernel(vcpu))
		return;
	debugfs_create_file("lazy_tscdeadline", 0444, dir, vcpu,
			    &lazy_tscdeadline_fops);
	debugfs_create_file("lazy_tscdeadline_policy", 0444, dir, vcpu,
			    &lazy_tscdeadline_policy_fops);
}
