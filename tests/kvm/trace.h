/* SPDX-License-Identifier: GPL-2.0-only */
/* Counts events of the host's kernel that come from the calling thread. */
#ifndef _LAZY_TEST_TRACE_H
#define _LAZY_TEST_TRACE_H

#include <linux/types.h>

/* The one probe that trace_probe() makes. */
#define TRACE_PROBE	"lazytest/probe"

/* A kprobe on the entry of a function; see kprobetrace.rst for @args. */
void trace_probe(const char *function, const char *args);
/* Count this event from now on, by this one of its fields. */
void trace_count(const char *event, const char *key);
/* How often has it come with this value? */
__u64 trace_hits(const char *event, __u64 value);
/* No more of it all. */
void trace_end(void);

#endif /* _LAZY_TEST_TRACE_H */
