/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM lazy_tscdeadline

#if !defined(_TRACE_LAZY_TSCDEADLINE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_LAZY_TSCDEADLINE_H

#include <linux/tracepoint.h>

/*
 * At @now, in ticks of the TSC, this CPU began to program @deadline, or to give
 * up what it had programmed (0).  The host had published @armed (0 as well if
 * nothing is shared), hence the MSR is written next, or not: @trapped.
 */
TRACE_EVENT(lazy_tscdeadline_program,
	TP_PROTO(u64 now, u64 deadline, u64 armed, bool trapped),
	TP_ARGS(now, deadline, armed, trapped),

	TP_STRUCT__entry(
		__field(u64,	now)
		__field(u64,	deadline)
		__field(u64,	armed)
		__field(bool,	trapped)
	),

	TP_fast_assign(
		__entry->now = now;
		__entry->deadline = deadline;
		__entry->armed = armed;
		__entry->trapped = trapped;
	),

	TP_printk("now %llu deadline %llu armed %llu trapped %d", __entry->now,
		  __entry->deadline, __entry->armed, __entry->trapped)
);

#endif /* _TRACE_LAZY_TSCDEADLINE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE lazy_tscdeadline_trace

/* This part must be outside protection */
#include <trace/define_trace.h>
