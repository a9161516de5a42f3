/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lazy TSC deadline: model of the two-sided protocol for one vCPU.
 *
 * Documentation/model.rst says what is modelled and what is not; variants.tbl
 * lists the macros of each run and the verdict it must give.  In short:
 *
 *   lost   the search ends in an invalid end state: time is over and the guest
 *          still waits for a deadline (or somebody is stuck in the middle)
 *   early  the guest takes an interrupt for a deadline that it gave up before
 *          that deadline had passed, or that it never wanted
 *
 * Time is a counter, "now".  It stops at TMAX, all deadlines are within it, and
 * every process does a bounded amount of work, so there are no endless runs
 * (checked, see variants.tbl) and "delivered some time" is "delivered when
 * nothing moves any more".
 */

#ifndef TMAX
#define TMAX 4		/* last instant */
#endif
#ifndef OPS
#define OPS 3		/* things that the guest does on its own */
#endif
#ifndef REACH
#define REACH 0		/* run that must get to REACHED(REACH); 0: none */
#endif

/* A search for event n succeeds by violating this. */
#define REACHED(n)	assert(n != REACH)

#define NO_EVENT	255
#define SKIPPED		1	/* programmed without a trap */
#define CB_REARMED	2	/* look in the callback: later */
#define CB_INJECTED	3	/* look in the callback: expired */
#define CB_PLAIN	4	/* expired without a look */
#define CB_DISARMED	5	/* look in the callback: nothing wanted */
#define DEFER_REARMED	6	/* deferred look: later */
#define DEFER_INJECTED	7	/* deferred look: expired */
#define CANCEL_SKIPPED	8	/* cancelled without a trap, armed published */
#define FLUSH_MOVED	9	/* flush found a later deadline than the armed */
#define EXCUSED		10	/* interrupt was in flight when given up */
#define REARMED_ASLEEP	11	/* look in the callback: later, vCPU stays blocked */
#define SKIPPED_PAST	12	/* skipped with an armed in the past */
#define HV_REARMED	13	/* preemption timer exit: later */
#define TRAPPED_PAST	14	/* trapped only since armed was in the past */
#define MIGRATED	15	/* delivered at the destination */
#define UPDATE_EXPIRED	16	/* was past already when it was written */
#define POSTED_IRQ	17	/* callback injected into the running guest */
#define KEXEC_DELIVERED	18	/* kernel that knows nothing got its deadline */
#define ENABLED_AGAIN	19	/* skip after MSR 0 and MSR 1 */
#define SW_REARMED	20	/* switch to the hrtimer found it expired: later */
#define REPUBLISHED	21	/* record was out of reach when written, not now */
#define HEALED		23	/* shared again at the destination */
#define GUESSED		24	/* armed unasked after an interrupt */
#define GUESSED_AGAIN	25	/* look found nothing due, armed a guess */
#define GUESS_USED	26	/* skipped as a guess was published */
#define HALT_REARMED	27	/* halted: armed the later one that is wanted */
#define HALT_DISARMED	28	/* halted: nothing wanted, disarmed */
#define STRANDED	29	/* written with the memory gone, a promise left */
#define LOOK_AGAIN	30	/* memory still gone: a look for that promise */
#define RELIED_UPON	31	/* memory back: armed what the guest skipped for */
#define LOST_RECORD	22	/* look found no record: injected what was armed */

/* Guest TSC value from which a timer for d is allowed to fire. */
#ifdef ADVANCE
#define FIRE(d)		((d) > 1 -> (d) - 1 : 1)
#else
#define FIRE(d)		(d)
#endif

#ifdef RFC_GUEST
#define MUST_TRAP(a, d, t)	((a) == 0 || (d) < (a))
#else
#define MUST_TRAP(a, d, t)	((a) <= (t) || (d) < (a))
#endif

#define NEVER		(TMAX + 1)	/* a deadline that time does not reach */

mtype = { GUEST, HOST };			/* who has the CPU */
mtype = { NONE, HLT, WRMSR, LVTT, MSR0, MSR1 };	/* why the guest exits */

byte now;

/* The record, and the store buffer of either side in front of it. */
byte armed, pending;
bool gbuf_full, cbuf_full;
byte gbuf, cbuf;

/* The host's state of this vCPU. */
byte shadow;		/* host's copy of armed; 0: expiry needs no look */
byte td;		/* lapic_timer.tscdeadline */
bool sharing = 1;	/* MSR_KVM_LAZY_TSCDEADLINE */
bool hr, hv;		/* hrtimer queued; preemption timer set */
byte hr_at, hv_at;	/* ... and for when */
bool in_cb;		/* hrtimer callback runs */
bool inj;		/* lapic_timer.pending */
bool irr;		/* timer vector requested in the local APIC */
#ifdef ADVANCE
byte irr_at;		/* the entry into the guest waits until then */
#endif
bool req_lazy, req_unblock, user;
bool blocked, woken;	/* vCPU thread sleeps; was woken */
bool in_guest_mode, ipi;	/* vcpu->mode; forced exit */
bool blocking;		/* the hrtimer stands in for the preemption timer */
bool migrated;
#ifdef PREDICT
byte gap;		/* how far ahead the host guesses; 0: not at all */
byte delivered;		/* pending that a look has injected for */
bool predict;		/* ... and the next may be armed unasked */
#endif
/*
 * With a callback that injects by itself and then guesses, a flush can come in
 * between: what it goes by is read under the lock that the look holds.
 */
#if defined(POSTED) && defined(PREDICT)
#define FLUSH_RACES
bool locked;		/* look in the callback, from withdrawal to verdict */
#define LOCK		locked = 1
#define UNLOCK		locked = 0
#else
#define LOCK		skip
#define UNLOCK		skip
#endif

#ifdef GONE
/*
 * The record's memory may go and come back.  The guest waits for it; the host
 * cannot withdraw meanwhile.
 */
bool away;
bool gone;		/* lazy->gone: it was away since "armed" was written */
byte strand;		/* published, but the timer is not armed for it */
byte given;		/* lazy->delivered */
#define REACHABLE	(!away)
#define STRAND		if \
			:: shadow -> strand = shadow; shadow = 0 \
			:: else \
			fi
#define IN_MEMORY	gone = 0
#else
#define REACHABLE	true
#define STRAND		shadow = 0
#define IN_MEMORY	skip
#endif

/* Hand-over between guest and vCPU thread, which share a CPU. */
mtype cpu = HOST;
mtype why = NONE;
byte val;

/* Ghosts: what the guest is owed, and what it may still be given. */
byte want;
byte excuse;

/*
 * An interrupt may be on its way when the guest gives its deadline up, on bare
 * metal as well: then, and if that deadline had passed, it is not early.
 */
#define OVERDUE		((hr && hr_at <= now) || (hv && hv_at <= now))
#define IN_FLIGHT	(irr || inj || in_cb || req_lazy || (!shadow && OVERDUE))

/* Is what the host published still there?  Not if the guest gave up the record. */
#if (defined(KEXEC) || defined(HEAL)) && !defined(READ_ARMED_BACK)
#define INTACT		(!shadow || armed == FIRE(shadow))
#else
#define INTACT		true
#endif

/*
 * What pending still asks for, and what the timer is armed for then: what is
 * wanted, or with PREDICT a guess of what will be, if that is earlier.
 */
#ifdef PREDICT
#define ASKED(p)	((p) == delivered -> 0 : (p))
#ifdef NO_DELIVERED
#define WANTED(p)	(p)	/* in a look, that is */
#else
#define WANTED(p)	ASKED(p)
#endif
#define GUESS		(now + gap)
#define GUESSING(w)	(gap && GUESS <= TMAX && FIRE(GUESS) > now && \
			 ((w) == 0 || GUESS < (w)))
#define CHOICE(w)	(GUESSING(w) -> GUESS : (w))
#define DELIVERED(d)	delivered = d; predict = 1
#define FORGET		delivered = 0; predict = 0
#elif defined(GONE)
#define WANTED(p)	((p) == given -> 0 : (p))
#define CHOICE(w)	(w)
#define DELIVERED(d)	given = d
#define FORGET		given = 0
#else
#define WANTED(p)	(p)
#define CHOICE(w)	(w)
#define DELIVERED(d)	skip
#define FORGET		skip
#endif

/* Try again to withdraw what is stranded. */
#ifdef GONE
#define RETRY		if \
			:: strand -> req_lazy = 1; req_unblock = 1 \
			:: else \
			fi
#else
#define RETRY		skip
#endif

#define STOP_TIMERS	hr = 0; hr_at = 0; hv = 0; hv_at = 0

inline kick()
{
	atomic {
		if
		:: in_guest_mode -> ipi = 1
		:: else
		fi;
		if
		:: blocked -> woken = 1
		:: else
		fi
	}
}

/*
 * Host, vCPU context, hrtimer cancelled.  The guest does not run and there is no
 * callback, so that nothing but time can change in here: one step.
 */
inline look()
{
	if
	:: INTACT ->
		shadow = 0;
		armed = 0;
		td = WANTED(pending);
		if
		:: td && FIRE(td) <= now -> DELIVERED(td)
		:: else ->
			td = CHOICE(td);
			shadow = td;
			armed = (td -> FIRE(td) : 0);
			IN_MEMORY
		fi
	:: else -> shadow = 0	/* not a record any more: td as it is */
	fi
}

/* restart_apic_timer(), and start_sw_timer() while the thread is blocking. */
inline start_timer(rearmed)
{
	d_step {
		if
		:: td && !inj ->
			if
			:: FIRE(td) <= now ->
				if
#ifdef GONE
				:: shadow && away -> req_lazy = 1; req_unblock = 1
#endif
				:: shadow && REACHABLE ->
					look();
					if
					:: td && !shadow -> inj = 1
					:: shadow -> REACHED(rearmed)
					:: else
					fi
				:: else -> inj = 1
				fi
			:: else
			fi;
			if
			:: td && FIRE(td) > now ->
#ifdef HV
				if
				:: !blocking -> hv = 1; hv_at = FIRE(td)
				:: else -> hr = 1; hr_at = FIRE(td)
				fi
#else
				hr = 1; hr_at = FIRE(td)
#endif
			:: else
			fi
		:: else
		fi
	}
}

/*
 * The preemption timer fired, maybe for a deadline that is no longer td's.
 * Without a look, KVM injects.
 */
inline expired_in_thread()
{
	d_step {
		if
		:: shadow ->
			look();
			if
			:: td && !shadow -> inj = 1
			:: else
			fi
#ifndef NO_TD_CHECK
		:: !shadow && !td	/* disarmed by a look meanwhile */
#endif
		:: else -> inj = 1
		fi
	}
	if
	:: shadow -> REACHED(HV_REARMED); start_timer(NO_EVENT)
	:: else
	fi
}

/*
 * kvm_lapic_switch_to_hv_timer().  start_hv_timer() takes td before it cancels
 * the hrtimer, whose callback may change both.
 */
inline switch_to_hv()
{
	t = td;
	atomic {
		!in_cb ->
		hr = 0; hr_at = 0; blocking = 0;
		if
		:: t && !inj && FIRE(t) <= now -> expired_in_thread()
		:: t && !inj && FIRE(t) > now -> hv = 1; hv_at = FIRE(t)
		:: else
		fi;
		t = 0
	}
}

/* Guest executed WRMSR of val. */
inline update()
{
	atomic {
		!in_cb -> STOP_TIMERS; inj = 0; td = val;
#ifndef KEEP_DELIVERED
		FORGET;
#endif
		if
		:: sharing && INTACT && REACHABLE ->
#ifdef RFC_HOST
			shadow = val;
#else
			if
			:: val && pending == val -> td = CHOICE(val); shadow = td
			:: else -> shadow = 0
			fi;
#endif
#ifdef GONE
			strand = 0; IN_MEMORY;
#endif
#ifdef PUBLISH_LATE
			late = 1;
			if
			:: !shadow -> armed = 0
			:: else
			fi
#else
			armed = (shadow -> FIRE(shadow) : 0)
#endif
#ifndef NO_DEFER
		:: sharing ->
			/* Record out of reach: plain, until service(). */
			STRAND;
#ifdef GONE
#ifdef STRAND_FORGOTTEN
			strand = 0;
#endif
			if
			:: strand && away -> REACHED(STRANDED)
			:: else
			fi;
#endif
			req_lazy = 1
#endif
		:: else -> shadow = 0
		fi
	}
	if
	:: td && FIRE(td) <= now -> REACHED(UPDATE_EXPIRED)
	:: else
	fi;
	start_timer(NO_EVENT);
#ifdef PUBLISH_LATE
	if
	:: late && val -> armed = FIRE(val)
	:: else
	fi;
	late = 0
#endif
}

#ifdef GONE
/* lazy_unreachable() */
inline unreachable(publish)
{
	if
	:: !shadow && !strand -> sharing = 0; FORGET
	:: else ->
		gone = 1;
		if
		:: shadow && td > now
		:: else ->
			if
			:: td -> STRAND; given = td
			:: !td && publish && !inj && strand > now ->
				REACHED(LOOK_AGAIN);
				td = strand; shadow = strand; strand = 0
			:: else
			fi
		fi
	fi
}

/* The promise is over, and what the guest may have skipped for it is armed. */
inline withdraw_stranded()
{
	armed = 0;
	if
	:: gone && WANTED(pending) >= strand && !td && !inj ->
		REACHED(RELIED_UPON);
		td = pending
	:: else
	fi;
	strand = 0
}
#endif

/* Take the deadline that is wanted out of the record and arm it as a plain one. */
inline flush()
{
#ifdef FLUSH_RACES
	if
#ifdef FLUSH_NO_WAIT
	:: atomic { !locked && !shadow -> skip }
	:: atomic { !locked && shadow -> skip };
#else
	:: atomic { !locked && !shadow && !predict -> skip }
	:: atomic { !locked && (shadow || predict) -> skip };
#endif
		flush_now();
#ifdef PREDICT
		predict = 0
#endif
	fi
#else
	flush_now()
#endif
}

inline flush_now()
{
	atomic {
		!in_cb ->
		if
#ifdef GONE
		:: sharing && (shadow || strand) && away ->
			STOP_TIMERS;
			unreachable(false);
			start_timer(NO_EVENT);
			RETRY
		:: sharing && strand && !away ->
			STOP_TIMERS;
			if
			:: gone && td -> given = 0
			:: else
			fi;
			withdraw_stranded();
			start_timer(NO_EVENT)
#endif
#ifdef FLUSH_ALWAYS
		:: sharing ->
#else
		:: sharing && shadow && REACHABLE ->
#endif
			if
			:: td != pending -> REACHED(FLUSH_MOVED)
			:: else
			fi;
			STOP_TIMERS;
			if
			:: INTACT -> armed = 0; td = WANTED(pending)
			:: else
			fi;
			shadow = 0;
			start_timer(NO_EVENT)
		:: else
		fi
	}
}

/*
 * KVM_REQ_LAZY_TSCDEADLINE in the run loop: the deferred look.  Publishes what
 * the timer is for then, if that is what the guest wants.
 */
inline service()
{
	req_lazy = 0;
	atomic {
		!in_cb ->
		if
#ifdef GONE
		:: sharing && away ->
			STOP_TIMERS;
			unreachable(true);
			start_timer(NO_EVENT)
		:: sharing && !away && gone && strand && td ->
			/* That is delivered first. */
			given = td
		:: sharing && !away && !(gone && strand && td) ->
			if
			:: strand -> withdraw_stranded()
			:: else
			fi;
#else
		:: sharing ->
#endif
			STOP_TIMERS;
			if
			:: INTACT || !shadow ->
				if
				:: shadow && FIRE(pending) > now -> REACHED(DEFER_REARMED)
				:: shadow && pending && FIRE(pending) <= now -> REACHED(DEFER_INJECTED)
				:: !shadow && td && td == pending && !inj -> REACHED(REPUBLISHED)
				:: else
				fi;
				armed = 0;
				if
				:: shadow -> td = WANTED(pending)
				:: else
				fi;
				if
				:: td && td == pending && !inj ->
					td = CHOICE(td); shadow = td
				:: else -> shadow = 0
				fi;
				armed = (shadow -> FIRE(shadow) : 0);
				IN_MEMORY
			:: else -> shadow = 0
			fi;
			start_timer(NO_EVENT)
		:: else
		fi
	}
}

/*
 * kvm_lazy_tscdeadline_halt(): the vCPU is about to sleep, on the hrtimer; what the
 * guest wants by now is armed and published.  The callback is over, or not begun.
 */
inline halt_arm()
{
	atomic {
		!in_cb ->
		if
		:: sharing && shadow && INTACT &&
		   (WANTED(pending) == 0 || WANTED(pending) > td) ->
			if
			:: WANTED(pending) -> REACHED(HALT_REARMED)
			:: else -> REACHED(HALT_DISARMED)
			fi;
			STOP_TIMERS;
			td = WANTED(pending);
			shadow = td;
#ifndef HALT_KEEPS
			armed = (td -> FIRE(td) : 0);
#endif
			start_timer(NO_EVENT)
		:: else
		fi
	}
}

/* As far as known, the RFC's request handler: looked at on the way into the guest only. */
inline service_rfc()
{
	req_lazy = 0;
	atomic {
		!in_cb ->
		if
		:: sharing && armed && armed <= now ->
			if
			:: pending > armed ->
				STOP_TIMERS;
				td = pending; armed = pending; shadow = pending;
				start_timer(NO_EVENT)
			:: else -> armed = 0; shadow = 0
			fi
		:: else
		fi
	}
}

active proctype VcpuThread()
{
	bool halted;
#ifdef HV
	byte t;
#endif
#ifdef PUBLISH_LATE
	bool late;
#endif

loop:
	req_unblock = 0;
#ifndef RFC_HOST
	atomic {
		if
		:: req_lazy -> service()
		:: else
		fi
	}
#endif
	atomic {
		if
		:: user ->
			user = 0;
			if
			:: flush()
			:: halted = 0	/* or it was another interrupt */
#ifndef NO_MIGRATION
			::
#ifndef NO_FLUSH
				flush();
#endif
				/* The destination: plain timer, and the memory. */
				d_step {
					sharing = 0; shadow = 0; req_lazy = 0;
					migrated = 1
				}
#endif
			fi;
			RETRY
		:: else
		fi
	}
	d_step {
		if
		:: inj ->
			inj = 0; irr = 1;
#ifdef ADVANCE
			irr_at = td;
#endif
			td = 0;
			RETRY;
#ifdef PREDICT
			if
			:: predict && !shadow && sharing && INTACT ->
				td = CHOICE(ASKED(pending));
				shadow = td;
				armed = (td -> FIRE(td) : 0);
				if
				:: td -> REACHED(GUESSED); start_timer(NO_EVENT)
				:: else
				fi
			:: else
			fi;
			predict = 0
#endif
		:: else
		fi;
		if
		:: irr -> halted = 0
		:: else
		fi
	}
	if
	:: halted ->
#ifdef HV
		atomic {
			blocking = 1;
			if
			:: hv -> hv = 0; start_timer(SW_REARMED)
			:: else
			fi
		}
#endif
#ifdef HALT_ARMS
		if
		:: halt_arm()
		:: true
		fi;
#endif
		blocked = 1;
check_block:
		if
		:: atomic {
			(irr || inj || req_unblock || user) ->
			req_unblock = 0; blocked = 0; woken = 0
		   }
		:: else ->
end_blocked:
			atomic { woken -> woken = 0 };
			goto check_block
		fi;
#ifdef HV
		switch_to_hv();
#endif
		skip
	:: else ->
#ifdef RFC_HOST
		if
		:: req_lazy -> service_rfc()
		:: else
		fi;
#endif
		in_guest_mode = 1;
		atomic {
			if
			:: req_lazy || req_unblock || user || inj || ipi ->
				in_guest_mode = 0; ipi = 0;
				goto loop
			:: else
			fi;
#ifdef ADVANCE
			(!irr || irr_at <= now);
#endif
			cpu = GUEST
		}
end_guest:
		atomic {
			(why != NONE || ipi || (hv && hv_at <= now)) ->
			cpu = HOST; in_guest_mode = 0; ipi = 0;
			/* An exit drains the store buffer of the CPU. */
			if
			:: gbuf_full -> pending = gbuf; gbuf_full = 0; gbuf = 0
			:: else
			fi;
			if
			:: hv && hv_at <= now -> hv = 0; hv_at = 0; expired_in_thread()
			:: else
			fi
		};
		if
		:: why == WRMSR -> update()
		:: why != WRMSR ->
			atomic {
				if
				:: why == HLT -> halted = 1
				:: why == LVTT ->
					!in_cb;
					STOP_TIMERS; td = 0; inj = 0; FORGET;
#ifndef NO_CLEAR
					if
#ifdef GONE
					:: sharing && away -> STRAND; RETRY
					:: sharing && !away && (shadow || strand) ->
						armed = 0; shadow = 0; strand = 0
#else
					:: sharing && shadow && INTACT -> armed = 0; shadow = 0
#endif
					:: else -> shadow = 0
					fi
#endif
				:: why == MSR0 -> flush(); sharing = 0; shadow = 0; FORGET
				:: why == MSR1 -> flush(); sharing = 1; armed = 0; shadow = 0; FORGET
				:: else
				fi
			}
		fi;
		d_step { why = NONE; val = 0 }
	fi;
	goto loop
}

#if defined(ADVANCE) && !defined(POST_EARLY)
#define DUE(d)	((d) <= now)
#else
#define DUE(d)	true
#endif

/* Make the interrupt pending and get the guest to take it. */
inline cb_inject()
{
#ifdef POSTED
	if
	:: atomic {
		in_guest_mode && !cbuf_full && DUE(td) ->
		irr = 1; td = 0; REACHED(POSTED_IRQ)
	   };
#ifdef PREDICT
		/* The guest runs; nothing else touches the timer while in_cb. */
		if
		:: predict && sharing ->
			LOCK;
			p = pending;
			atomic {
				!cbuf_full ->
				if
				:: migrated ->
					/* The memory, before that is copied. */
					cbuf_full = 1; cbuf = FIRE(CHOICE(0));
					p = NEVER
				:: !migrated && p == delivered -> td = CHOICE(0)
				:: else
				fi;
				if
				:: p != delivered
				:: p == delivered && td && FIRE(td) > now ->
					shadow = td;
					cbuf_full = 1; cbuf = FIRE(td);
					hr = 1; hr_at = FIRE(td)
				:: p == delivered && td && FIRE(td) <= now ->
					/* Started in the past: fires at once. */
					shadow = td;
					cbuf_full = 1; cbuf = FIRE(td);
					hr = 1; hr_at = now
				:: else
				fi;
				UNLOCK;
				predict = 0
			}
		:: else
		fi
#endif
	:: !in_guest_mode ->
#endif
	if
	:: atomic { !cbuf_full && !inj -> inj = 1 };
		req_unblock = 1;
		kick()
	:: !cbuf_full && inj
	fi
#ifdef POSTED
	fi
#endif
}

#ifdef READ_ARMED_BACK
#define NEEDS_LOOK	(sharing && armed)
#else
#define NEEDS_LOOK	(shadow)
#endif

/* apic_timer_fn(), in hard interrupt context of any CPU. */
active proctype HrtimerCallback()
{
	byte p;

end_idle:
	do
#ifdef RFC_HOST
	:: atomic { hr && hr_at <= now -> hr = 0; hr_at = 0; in_cb = 1 };
		cb_inject();
		/* Too late, and it does not wake a blocked vCPU. */
		atomic { req_lazy = 1; in_cb = 0 }
#else
	:: atomic {
		hr && hr_at <= now && !NEEDS_LOOK ->
		hr = 0; hr_at = 0; in_cb = 1;
		REACHED(CB_PLAIN)
	   };
		cb_inject();
		in_cb = 0
#ifndef NO_DEFER
	:: atomic {
		/* The record cannot be reached from here. */
		hr && hr_at <= now && NEEDS_LOOK ->
		hr = 0; hr_at = 0; in_cb = 1
	   };
#ifdef KICK_FIRST
		kick();
		req_lazy = 1;
		atomic { req_unblock = 1; in_cb = 0 }
#else
#ifdef UNBLOCK_FIRST
		req_unblock = 1;
		req_lazy = 1;
#else
		req_lazy = 1;
		req_unblock = 1;
#endif
		atomic { kick(); in_cb = 0 }
#endif
#endif
#if defined(KEXEC) || defined(HEAL)
	:: atomic {
		hr && hr_at <= now && NEEDS_LOOK && !INTACT ->
		hr = 0; hr_at = 0; in_cb = 1; shadow = 0;
		REACHED(LOST_RECORD)
	   };
		cb_inject();
		in_cb = 0
#endif
	:: atomic {
		hr && hr_at <= now && NEEDS_LOOK && INTACT && REACHABLE ->
		hr = 0; hr_at = 0; in_cb = 1;
		LOCK; shadow = 0; cbuf_full = 1; cbuf = 0
	   };
#ifndef NO_HOST_BARRIER
		!cbuf_full;	/* pairs with the guest's barrier */
#endif
		p = pending;
		if
#ifdef NO_CANCEL
		:: atomic { FIRE(p) <= now ->
#else
		:: atomic { WANTED(p) == 0 && CHOICE(0) == 0 ->
			td = 0; UNLOCK; REACHED(CB_DISARMED)
		   }
		:: atomic { WANTED(p) && FIRE(p) <= now ->
#endif
			td = p; DELIVERED(p); UNLOCK; REACHED(CB_INJECTED)
		   };
			cb_inject()
		:: atomic { CHOICE(WANTED(p)) && FIRE(CHOICE(WANTED(p))) > now && !cbuf_full ->
			td = CHOICE(WANTED(p)); shadow = td; IN_MEMORY; UNLOCK;
			cbuf_full = 1; cbuf = FIRE(td);
			hr = 1; hr_at = FIRE(td);
			REACHED(CB_REARMED);
#ifdef PREDICT
			if
			:: td != p -> REACHED(GUESSED_AGAIN)
			:: else
			fi;
#endif
			if
			:: blocked && !woken -> REACHED(REARMED_ASLEEP)
			:: else
			fi
		   }
		fi;
		/* hrtimer_cancel() that sees us gone sees our stores as well. */
		atomic { !cbuf_full -> in_cb = 0; p = 0 }
#endif
	od
}

active proctype StoreBuffers()
{
end_idle:
	do
	:: d_step { gbuf_full -> pending = gbuf; gbuf_full = 0; gbuf = 0 }
	:: d_step { cbuf_full -> armed = cbuf; cbuf_full = 0; cbuf = 0 }
	od
}

active proctype Time()
{
#ifdef PREDICT
	if
	:: gap = 1
	:: gap = 2
	fi;
#endif
	do
	:: now < TMAX -> now++
	:: else -> break
	od
}

/* Another interrupt, or user space wants the vCPU: savevm, migration, ... */
active proctype UserSpace()
{
#ifndef NO_USER
	if
	:: user = 1; kick()
	:: true
	fi;
#endif
	skip
}

#ifdef GONE
/* Slots are swapped, or the VMM just takes and gives: KVM is told of the former. */
active proctype Memory()
{
	if
	:: atomic {
		/* Who holds on to it is waited for, and stores are done. */
		!in_cb && !gbuf_full && !cbuf_full -> away = 1
	   };
		atomic {
			away = 0;
			if
			:: strand -> req_lazy = 1; req_unblock = 1; kick()
			:: true
			fi
		}
	:: true
	fi
}
#endif

/* The guest's operation is complete: what it wanted before is given up. */
inline complete(d)
{
	excuse = (IN_FLIGHT -> excuse + (want && want <= now) : 0);
	want = d
}

#define CAN_ACT		(ops < OPS && !again)
#define TRAP(reason, v)	val = v; why = reason

active proctype Guest() provided (cpu == GUEST)
{
	byte ops, d, a, t, last;
	bool lazy = 1, foreign, again, reenabled;
#ifdef KEXEC
	bool old;
#endif

	do
	:: atomic {
		(CAN_ACT || again) ->
		if
		:: again -> again = 0; d = want
		:: else ->
			ops++;
			if
			:: d = (now -> now : 1)
			:: now < TMAX -> d = now + 1
			:: now + 1 < TMAX -> d = now + 2
			:: now + 2 < TMAX -> d = now + 3
			:: now + 3 < TMAX -> d = now + 4
			fi
		fi;
		if
		:: lazy -> t = now; !gbuf_full && REACHABLE; gbuf_full = 1; gbuf = d
		:: else -> last = d; TRAP(WRMSR, d)
		fi
	   };
		if
		:: atomic {
			/* The barrier; pairs with the callback's. */
#ifdef NO_GUEST_BARRIER
			lazy ->
#else
			lazy && !gbuf_full && REACHABLE ->
#endif
			a = armed;
			if
			:: MUST_TRAP(a, d, t) ->
				if
				:: a && a <= t && d >= a -> REACHED(TRAPPED_PAST)
				:: else
				fi;
				last = d;
				TRAP(WRMSR, d)
			:: else ->
#ifndef LAST_TRAPPED
				last = d;
#endif
				REACHED(SKIPPED);
#ifdef PREDICT
				if
				:: pending && delivered && a == shadow -> REACHED(GUESS_USED)
				:: else
				fi;
#endif
				if
				:: a <= t -> REACHED(SKIPPED_PAST)
				:: else
				fi;
				if
				:: reenabled -> REACHED(ENABLED_AGAIN)
				:: else
				fi
			fi;
			a = 0; t = 0
		   }
		:: !lazy
		fi;
#ifdef HEAL
		/* It trapped: the host may have lost us, so introduce ourselves. */
		if
		:: atomic {
			lazy && why == WRMSR -> why == NONE;
			pending = 0; armed = 0; TRAP(MSR1, 0)
		   };
			atomic {
				why == NONE ->
				pending = d; TRAP(WRMSR, d);
				if
				:: migrated -> REACHED(HEALED)
				:: else
				fi
			}
		:: true
		fi;
#endif
		atomic {
			why == NONE ->
			if
			:: foreign -> armed = NEVER	/* its memory, its data */
			:: else
			fi;
			complete(d);
			d = 0
		}

#ifndef NO_CANCEL_OP
	:: atomic {
		CAN_ACT && want ->
		ops++;
		if
		:: lazy -> t = now; !gbuf_full && REACHABLE; gbuf_full = 1; gbuf = 0
		:: else -> TRAP(WRMSR, 0)
		fi
	   };
		if
		:: atomic {
			/* The barrier; pairs with the callback's. */
#ifdef NO_GUEST_BARRIER
			lazy ->
#else
			lazy && !gbuf_full && REACHABLE ->
#endif
			a = armed;
			if
#if defined(NO_CANCEL) && !defined(CANCEL_ANYWAY)
			:: true -> TRAP(WRMSR, 0)
#else
			:: !a && last > t -> TRAP(WRMSR, 0)
			:: else ->
				if
				:: a -> REACHED(CANCEL_SKIPPED)
				:: else
				fi
#endif
			fi;
			a = 0; t = 0
		   }
		:: !lazy
		fi;
		atomic { why == NONE -> complete(0) }
#endif

#ifndef NO_LVTT_OP
	/* Away from TSC-deadline mode, and back: that disarms. */
	:: atomic { CAN_ACT -> ops++; TRAP(LVTT, 0) };
		atomic { why == NONE -> complete(0) }
#endif

#ifndef NO_MSR_OP
	:: atomic { CAN_ACT && lazy -> ops++; TRAP(MSR0, 0) };
		atomic { why == NONE -> lazy = 0 }
	:: atomic {
		CAN_ACT && !lazy && !foreign ->
		ops++; pending = 0; armed = 0; TRAP(MSR1, 0)
	   };
		atomic { why == NONE -> lazy = 1; reenabled = 1 }
#endif

#ifdef KEXEC
	/* A kernel that knows nothing of the record, which is still on. */
	:: atomic {
		CAN_ACT && !foreign && !gbuf_full ->
		ops++; pending = NEVER; armed = NEVER; lazy = 0; foreign = 1;
		/* Nobody stopped the old kernel's timer: one interrupt of it. */
		old = want || IN_FLIGHT || hr || hv;
		complete(0)
	   }
#endif

	:: atomic { irr -> goto handler }
	:: want && !again && !irr ->
		/* Wait, with or without the CPU. */
		if
		:: atomic { TRAP(HLT, 0) }; why == NONE
		:: true
		fi;
		atomic { irr -> goto handler }
#ifdef HALT_ARMS
	/* Something else may wake it up, and it goes on. */
	:: atomic { CAN_ACT && !want && !irr -> TRAP(HLT, 0) };
end_nothing:
		why == NONE
#endif
	:: atomic { !want && ops == OPS && !irr -> TRAP(HLT, 0) };
end_idle:
		atomic { why == NONE && irr -> skip };
handler:
		atomic {
			irr = 0;
#ifdef ADVANCE
			irr_at = 0;
#endif
			if
			:: want && want <= now ->
				want = 0;
				if
				:: migrated -> REACHED(MIGRATED)
				:: else
				fi;
				if
				:: foreign -> REACHED(KEXEC_DELIVERED)
				:: else
				fi
			:: else ->
				if
				:: excuse -> excuse--; REACHED(EXCUSED)
#ifdef KEXEC
				:: !excuse && old -> old = 0
#endif
#ifdef EARLY_ALLOWED
				:: else
				fi;
				/* Linux programs what it wants after any interrupt. */
				again = (want -> 1 : 0)
#else
				:: else -> assert(false)	/* early */
				fi
#endif
			fi;
			/* If it was the old one's, that of the new may yet come. */
			excuse = (IN_FLIGHT || OVERDUE -> excuse : 0)
		}
	od
}
