/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Lazy TSC deadline: the interface between a guest and its KVM host.
 *
 * A vCPU that programs its local APIC timer in TSC-deadline mode writes
 * MSR_IA32_TSC_DEADLINE, and every such write is a VM exit.  With this
 * interface the guest stores the deadline it wants in a record that it shares
 * with the host, and executes the write only if the host would otherwise look
 * at the record too late.
 *
 * Wire-compatible with version 3 of the "lazy tscdeadline" RFC that was mailed
 * to the KVM list in 2023.  All values are little endian; all deadlines are
 * values of the guest's TSC.
 *
 * The protocol, for one vCPU:
 *
 *   guest, to program deadline D:        host, when its timer fires (a look):
 *
 *	pending = D                             armed = 0
 *	full barrier                            full barrier
 *	a = armed                               p = pending
 *	if (must_trap(a, D, now))               p == 0:          disarm
 *		wrmsr(TSC_DEADLINE, D)          p has expired:   inject
 *	                                        p is later:      arm p,
 *	                                                         armed = p
 *
 * Both sides store to their own field before they load the other's, with a
 * full barrier in between.  So either the host's look sees the new deadline or
 * the guest sees that nothing is armed and traps: a deadline cannot be lost.
 *
 * A write of MSR_IA32_TSC_DEADLINE with a value that differs from "pending"
 * has its architectural meaning: the host arms exactly that value, publishes
 * armed == 0 and delivers it without a look at "pending".  Code that knows
 * nothing of this interface (firmware, a kexec'ed kernel) stays correct.
 */
#ifndef _LAZY_TSCDEADLINE_ABI_H
#define _LAZY_TSCDEADLINE_ABI_H

#include <linux/types.h>

/*
 * Bit of CPUID leaf KVM_CPUID_FEATURES (0x40000001), register EAX: the host
 * accepts MSR_KVM_LAZY_TSCDEADLINE.
 */
#ifndef KVM_FEATURE_LAZY_TSCDEADLINE
#define KVM_FEATURE_LAZY_TSCDEADLINE	18
#endif

/*
 * Bits 63:6: guest-physical address of the record of this vCPU, which must be
 * aligned to its size and lie in writable guest memory that is shared with the
 * host (decrypted, in a confidential guest).  Bits 5:1: reserved, must be 0.
 * Bit 0: enable.  The value 0 disables; the deadline that is then wanted stays
 * armed as a plain one.  Any other value raises #GP and changes nothing.
 */
#ifndef MSR_KVM_LAZY_TSCDEADLINE
#define MSR_KVM_LAZY_TSCDEADLINE	0x4b564d09
#endif

#define LAZY_TSCDEADLINE_MSR_ENABLED	1ULL
#define LAZY_TSCDEADLINE_ALIGN		64
#define LAZY_TSCDEADLINE_MSR_GPA_MASK	(~(__u64)(LAZY_TSCDEADLINE_ALIGN - 1))

/* Value of "version" that describes what is below. */
#define LAZY_TSCDEADLINE_VERSION	1

/*
 * Bits of "features".
 *
 * CANCEL: a look that finds pending == 0 disarms and injects nothing, so a
 * guest gives up a deadline that the host has published without a trap.
 *
 * COUNT: the host counts what it promises, so a trap tells the promise of a host
 * that is there from the leftovers of one that is not.
 */
#define LAZY_TSCDEADLINE_F_CANCEL	(1U << 0)
#define LAZY_TSCDEADLINE_F_COUNT	(1U << 1)

/**
 * struct lazy_tscdeadline_record - what one vCPU and the host share
 * @armed: written by the host alone.  The TSC value at which the host will
 *	look at @pending on its own; 0 if it will not.
 * @pending: written by the guest alone.  The deadline it wants; 0 if none.
 * @flags: 0, reserved by the RFC.
 * @version: 0, or LAZY_TSCDEADLINE_VERSION of the host.
 * @features: LAZY_TSCDEADLINE_F_* that the host honours.
 * @count: written by the host alone.  Goes up, and wraps, with each value other
 *	than 0 that it stores in @armed, before that.
 * @pad: 0.
 *
 * The guest zeroes the record before it enables it.  A host that has more to
 * offer than the RFC fills in @version and @features while it handles the MSR
 * write; one that has not leaves them 0.
 */
struct lazy_tscdeadline_record {
	__u64 armed;
	__u64 pending;
	__u32 flags;
	__u32 version;
	__u32 features;
	__u32 count;
	__u32 pad[8];
} __attribute__((aligned(LAZY_TSCDEADLINE_ALIGN)));

/**
 * lazy_tscdeadline_must_trap - does this deadline need a VM exit?
 * @armed: the record's armed field, loaded after a full barrier that follows
 *	the store of @deadline to its pending field
 * @deadline: what the guest wants, in ticks of its TSC, not 0
 * @now: the guest's TSC, read at any time since the guest began to program
 *
 * An @armed that is not in the future counts as "not armed" (0 is never in the
 * future): the look it promised may be over, and a host that is late with it
 * loses nothing by the extra exit.  A deadline in the past is earlier than any
 * @armed in the future and traps, so it fires at once, as on hardware.
 *
 * Return: nonzero if MSR_IA32_TSC_DEADLINE must be written.
 */
static inline int lazy_tscdeadline_must_trap(__u64 armed, __u64 deadline,
					     __u64 now)
{
	return armed <= now || deadline < armed;
}

/**
 * lazy_tscdeadline_cancel_must_trap - does a cancel need a VM exit?
 * @features: the record's features field
 * @armed: the record's armed field, loaded after a full barrier that follows
 *	the store of 0 to its pending field
 * @last: the deadline that was programmed last, with or without a trap; 0 if
 *	there was none
 * @now: the guest's TSC
 *
 * With an @armed that is not 0 the host has yet to look and will find that
 * nothing is wanted.  Without one it may still hold the last deadline as a plain
 * one, unless that has passed: not only one that trapped, as the host makes
 * others plain when its user space reads the timer.
 *
 * Return: nonzero if 0 must be written to MSR_IA32_TSC_DEADLINE.
 */
static inline int lazy_tscdeadline_cancel_must_trap(__u32 features, __u64 armed,
						    __u64 last, __u64 now)
{
	if (!(features & LAZY_TSCDEADLINE_F_CANCEL))
		return 1;
	return !armed && last > now;
}

/**
 * lazy_tscdeadline_disproved - has a trap shown that nobody stands for "armed"?
 * @features: the record's features field
 * @armed: the record's armed field, loaded after the write of the MSR
 * @told: the deadline that was written, and is what the pending field says
 * @counted: how far the record's count field has gone up since before that write,
 *	loaded after @armed
 * @disproved: what this returned after the trap before
 * @now: the guest's TSC, read after @armed was loaded
 *
 * A host withdraws its promise when the MSR is written.  What "armed" says after
 * that it has promised since, and nothing beyond what is wanted until that has been
 * delivered; or else it is the word of a host that is not there any more: the guest
 * was migrated without a withdrawal.  A host that does not count makes no promise
 * beyond what is wanted in a trap; if it does, the price is one trap.  As nothing
 * else tells its word from a dead host's, what was disproved once stays so until
 * there is something else; if it was a live host's the second time, the price is
 * again a trap.
 *
 * Return: @armed if so, and every deadline and every cancel must trap, until after
 * a trap this returns 0.
 */
static inline __u64 lazy_tscdeadline_disproved(__u32 features, __u64 armed,
					       __u64 told, __u32 counted,
					       __u64 disproved, __u64 now)
{
	int nobody;

	if (features & LAZY_TSCDEADLINE_F_COUNT)
		nobody = !counted || (armed > told && told > now);
	else
		nobody = armed > told || armed == disproved;
	return nobody ? armed : 0;
}

#endif /* _LAZY_TSCDEADLINE_ABI_H */
