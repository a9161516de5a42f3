/* SPDX-License-Identifier: GPL-2.0-only */
#if !defined(_TRACE_KVM_LAZY_TSCDEADLINE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_LAZY_TSCDEADLINE_H

#include <linux/tracepoint.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm

#define kvm_lazy_tscdeadline_looks				\
	{ LAZY_LOOK_PLAIN,	"plain" },			\
	{ LAZY_LOOK_EXPIRED,	"expired" },			\
	{ LAZY_LOOK_REARM,	"rearm" },			\
	{ LAZY_LOOK_DISARM,	"disarm" },			\
	{ LAZY_LOOK_DEFER,	"defer" },			\
	{ LAZY_LOOK_LOST,	"lost" }

#define kvm_lazy_tscdeadline_offs				\
	{ LAZY_OFF_NEVER,	"never" },			\
	{ LAZY_OFF_GUEST,	"guest" },			\
	{ LAZY_OFF_RESET,	"reset" },			\
	{ LAZY_OFF_SET_LAPIC,	"set_lapic" },			\
	{ LAZY_OFF_UNREACHABLE,	"unreachable" }

#define kvm_lazy_tscdeadline_wheres				\
	{ LAZY_LATE_HRTIMER,	"hrtimer" },			\
	{ LAZY_LATE_VCPU,	"vcpu" },			\
	{ LAZY_LATE_INJECTED,	"injected" }

/* The guest enabled lazy mode with a record at @gpa. */
TRACE_EVENT(kvm_lazy_tscdeadline_enable,
	TP_PROTO(unsigned int vcpu_id, u64 gpa),
	TP_ARGS(vcpu_id, gpa),

	TP_STRUCT__entry(
		__field(unsigned int,	vcpu_id)
		__field(u64,		gpa)
	),

	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->gpa = gpa;
	),

	TP_printk("vcpu %u gpa 0x%llx", __entry->vcpu_id, __entry->gpa)
);

/* Lazy mode ended: the vCPU has a plain LAPIC timer from now on. */
TRACE_EVENT(kvm_lazy_tscdeadline_disable,
	TP_PROTO(unsigned int vcpu_id, int reason),
	TP_ARGS(vcpu_id, reason),

	TP_STRUCT__entry(
		__field(unsigned int,	vcpu_id)
		__field(int,		reason)
	),

	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->reason = reason;
	),

	TP_printk("vcpu %u reason %s", __entry->vcpu_id,
		  __print_symbolic(__entry->reason,
				   kvm_lazy_tscdeadline_offs))
);

/* The guest wrote its deadline MSR; @armed is what was published, 0 if none. */
TRACE_EVENT(kvm_lazy_tscdeadline_update,
	TP_PROTO(unsigned int vcpu_id, u64 deadline, u64 armed),
	TP_ARGS(vcpu_id, deadline, armed),

	TP_STRUCT__entry(
		__field(unsigned int,	vcpu_id)
		__field(u64,		deadline)
		__field(u64,		armed)
	),

	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->deadline = deadline;
		__entry->armed = armed;
	),

	TP_printk("vcpu %u deadline %llu armed %llu", __entry->vcpu_id,
		  __entry->deadline, __entry->armed)
);

/*
 * A timer of the host fired (@timer_fn: the hrtimer callback, else vCPU
 * context): @published was in the record, @pending is what the guest wants.
 */
TRACE_EVENT(kvm_lazy_tscdeadline_look,
	TP_PROTO(unsigned int vcpu_id, bool timer_fn, int verdict,
		 u64 published, u64 pending, u64 now),
	TP_ARGS(vcpu_id, timer_fn, verdict, published, pending, now),

	TP_STRUCT__entry(
		__field(unsigned int,	vcpu_id)
		__field(bool,		timer_fn)
		__field(int,		verdict)
		__field(u64,		published)
		__field(u64,		pending)
		__field(u64,		now)
	),

	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->timer_fn = timer_fn;
		__entry->verdict = verdict;
		__entry->published = published;
		__entry->pending = pending;
		__entry->now = now;
	),

	TP_printk("vcpu %u %s %s armed %llu pending %llu now %llu",
		  __entry->vcpu_id, __entry->timer_fn ? "hrtimer" : "vcpu",
		  __print_symbolic(__entry->verdict,
				   kvm_lazy_tscdeadline_looks),
		  __entry->published, __entry->pending, __entry->now)
);

/* @deadline takes the place of what was @published. */
DECLARE_EVENT_CLASS(kvm_lazy_tscdeadline_replaced,
	TP_PROTO(unsigned int vcpu_id, u64 published, u64 deadline),
	TP_ARGS(vcpu_id, published, deadline),

	TP_STRUCT__entry(
		__field(unsigned int,	vcpu_id)
		__field(u64,		published)
		__field(u64,		deadline)
	),

	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->published = published;
		__entry->deadline = deadline;
	),

	TP_printk("vcpu %u armed %llu deadline %llu", __entry->vcpu_id,
		  __entry->published, __entry->deadline)
);

/*
 * The vCPU halts, and what it wants by now (@deadline; 0: nothing) is armed and
 * published, to spare a look.
 */
DEFINE_EVENT(kvm_lazy_tscdeadline_replaced, kvm_lazy_tscdeadline_halt,
	TP_PROTO(unsigned int vcpu_id, u64 published, u64 deadline),
	TP_ARGS(vcpu_id, published, deadline)
);

/* What was published is withdrawn; @deadline is the plain timer from now on. */
DEFINE_EVENT(kvm_lazy_tscdeadline_replaced, kvm_lazy_tscdeadline_flush,
	TP_PROTO(unsigned int vcpu_id, u64 published, u64 deadline),
	TP_ARGS(vcpu_id, published, deadline)
);

/*
 * A deadline that was due at @due (guest TSC) is delivered @ns later, which is
 * more than the limit; @where the host noticed.
 */
TRACE_EVENT(kvm_lazy_tscdeadline_late,
	TP_PROTO(unsigned int vcpu_id, int where, u64 due, u64 ns),
	TP_ARGS(vcpu_id, where, due, ns),

	TP_STRUCT__entry(
		__field(unsigned int,	vcpu_id)
		__field(int,		where)
		__field(u64,		due)
		__field(u64,		ns)
	),

	TP_fast_assign(
		__entry->vcpu_id = vcpu_id;
		__entry->where = where;
		__entry->due = due;
		__entry->ns = ns;
	),

	TP_printk("vcpu %u %s deadline %llu late %llu ns", __entry->vcpu_id,
		  __print_symbolic(__entry->where,
				   kvm_lazy_tscdeadline_wheres),
		  __entry->due, __entry->ns)
);

#endif /* _TRACE_KVM_LAZY_TSCDEADLINE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE lazy_tscdeadline_trace

/* This part must be outside protection */
#include <trace/define_trace.h>
