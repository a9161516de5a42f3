// SPDX-License-Identifier: GPL-2.0-only
/*
 * Golden test of abi/lazy_tscdeadline.h: guests and hosts are built apart from
 * each other, and some of them from the RFC's header, so no number may move.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../abi/lazy_tscdeadline.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define OFFSET(f)	offsetof(struct lazy_tscdeadline_record, f)
#define NEVER		(~0ULL)

/* What sizeof asks about, and the bytes below. */
static struct lazy_tscdeadline_record record;

struct golden {
	const char *name;
	__u64 got;
	__u64 want;
};

#define NUMBER(expr, value)	{ #expr, (__u64)(expr), value }

static const struct golden numbers[] = {
	NUMBER(KVM_FEATURE_LAZY_TSCDEADLINE, 18),
	NUMBER(MSR_KVM_LAZY_TSCDEADLINE, 0x4b564d09),
	NUMBER(LAZY_TSCDEADLINE_MSR_ENABLED, 1),
	NUMBER(LAZY_TSCDEADLINE_ALIGN, 64),
	NUMBER(LAZY_TSCDEADLINE_MSR_GPA_MASK, 0xffffffffffffffc0),
	NUMBER(LAZY_TSCDEADLINE_VERSION, 1),
	NUMBER(LAZY_TSCDEADLINE_F_CANCEL, 1),
	NUMBER(LAZY_TSCDEADLINE_F_COUNT, 2),
	NUMBER(sizeof(LAZY_TSCDEADLINE_MSR_GPA_MASK), 8),
	NUMBER(sizeof(struct lazy_tscdeadline_record), 64),
	NUMBER(__alignof__(struct lazy_tscdeadline_record), 64),
	NUMBER(OFFSET(armed), 0),
	NUMBER(sizeof(record.armed), 8),
	NUMBER(OFFSET(pending), 8),
	NUMBER(sizeof(record.pending), 8),
	NUMBER(OFFSET(flags), 16),
	NUMBER(sizeof(record.flags), 4),
	NUMBER(OFFSET(version), 20),
	NUMBER(sizeof(record.version), 4),
	NUMBER(OFFSET(features), 24),
	NUMBER(sizeof(record.features), 4),
	NUMBER(OFFSET(count), 28),
	NUMBER(sizeof(record.count), 4),
	NUMBER(OFFSET(pad), 32),
	NUMBER(sizeof(record.pad), 32),
};

struct trap_case {
	const char *name;
	__u64 armed, deadline, now;
	int want;
};

static const struct trap_case trap_cases[] = {
	/* name, armed, deadline, now, must trap */
	{ "nothing armed", 0, 200, 100, 1 },
	{ "nothing armed, TSC at 0", 0, 200, 0, 1 },
	{ "nothing armed, no deadline either", 0, 0, 0, 1 },
	{ "armed long ago", 50, 200, 100, 1 },
	{ "armed one tick ago", 99, 200, 100, 1 },
	{ "armed right now", 100, 200, 100, 1 },
	{ "armed in one tick, later deadline", 101, 200, 100, 0 },
	{ "armed in one tick, the same deadline", 101, 101, 100, 0 },
	{ "armed in one tick, deadline now", 101, 100, 100, 1 },
	{ "later than armed", 150, 200, 100, 0 },
	{ "one tick later than armed", 150, 151, 100, 0 },
	{ "the same as armed", 150, 150, 100, 0 },
	{ "one tick earlier than armed", 150, 149, 100, 1 },
	{ "much earlier than armed", 150, 101, 100, 1 },
	{ "deadline in the past, armed in the future", 150, 99, 100, 1 },
	{ "deadline in the past, armed in the past", 90, 99, 100, 1 },
	{ "last deadline of all", 150, NEVER, 100, 0 },
	{ "armed for ever", NEVER, 200, 100, 1 },
	{ "armed for ever, deadline too", NEVER, NEVER, 100, 0 },
	{ "TSC at its end", NEVER, NEVER, NEVER, 1 },
	{ "unsigned compare of deadlines", 0x7fffffffffffffff,
	  0x8000000000000000, 100, 0 },
	{ "unsigned compare, reversed", 0x8000000000000000,
	  0x7fffffffffffffff, 100, 1 },
	{ "unsigned compare with the TSC", 0x8000000000000000, NEVER,
	  0x7fffffffffffffff, 0 },
	{ "more than 32 bits of deadline", 0x100000001, 0x200000000, 5, 0 },
	{ "more than 32 bits of armed", 0x200000000, 0x100000001, 5, 1 },
};

struct cancel_case {
	const char *name;
	__u32 features;
	__u64 armed, last, now;
	int want;
};

#define CANCEL	LAZY_TSCDEADLINE_F_CANCEL
#define COUNT	LAZY_TSCDEADLINE_F_COUNT

static const struct cancel_case cancel_cases[] = {
	/* name, features, armed, last, now, must trap */
	{ "RFC host, armed", 0, 150, 150, 100, 1 },
	{ "RFC host, nothing armed", 0, 0, 0, 100, 1 },
	{ "RFC host, last one is over", 0, 0, 50, 100, 1 },
	{ "other features only", ~CANCEL, 150, 150, 100, 1 },
	{ "a look is due", CANCEL, 150, 150, 100, 0 },
	{ "a look is overdue", CANCEL, 90, 90, 100, 0 },
	{ "a look is due, earlier than the trap", CANCEL, 120, 150, 100, 0 },
	{ "no look, plain deadline ahead", CANCEL, 0, 150, 100, 1 },
	{ "no look, plain deadline one tick ahead", CANCEL, 0, 101, 100, 1 },
	{ "no look, plain deadline now", CANCEL, 0, 100, 100, 0 },
	{ "no look, plain deadline over", CANCEL, 0, 99, 100, 0 },
	{ "no look, never last", CANCEL, 0, 0, 100, 0 },
	{ "no look, plain deadline at the end of time", CANCEL, 0, NEVER, 100,
	  1 },
	{ "more features", 0xffffffff, 150, 150, 100, 0 },
	{ "more features, plain deadline ahead", 0xffffffff, 0, 150, 100, 1 },
	{ "more than 32 bits of trap", CANCEL, 0, 0x100000000, 5, 1 },
	{ "more than 32 bits of armed", CANCEL, 0x100000000, 0x100000000, 5,
	  0 },
};

static int tests, failures;

static void report(int good, const char *group, const char *name)
{
	if (!good)
		failures++;
	printf("%sok %d - %s: %s\n", good ? "" : "not ", ++tests, group, name);
}

static void test_numbers(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		const struct golden *g = &numbers[i];

		report(g->got == g->want, "number", g->name);
		if (g->got != g->want)
			printf("# got %#llx, want %#llx\n",
			       (unsigned long long)g->got,
			       (unsigned long long)g->want);
	}
}

/* The bytes a peer sees, whatever the compiler thinks of the structure. */
static void test_bytes(void)
{
	static const unsigned char want[64] = {
		0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
		0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
		0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31,
		0x44, 0x43, 0x42, 0x41, 0x54, 0x53, 0x52, 0x51,
		0x64, 0x63, 0x62, 0x61,
	};
	record.armed = 0x0102030405060708;
	record.pending = 0x1112131415161718;
	record.flags = 0x21222324;
	record.version = 0x31323334;
	record.features = 0x41424344;
	record.count = 0x51525354;
	record.pad[0] = 0x61626364;
	report(!memcmp(&record, want, sizeof(want)), "layout", "little endian");
}

static void test_traps(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(trap_cases); i++) {
		const struct trap_case *c = &trap_cases[i];

		report(!!lazy_tscdeadline_must_trap(c->armed, c->deadline,
						    c->now) == c->want,
		       "program", c->name);
	}
}

static void test_cancels(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cancel_cases); i++) {
		const struct cancel_case *c = &cancel_cases[i];

		report(!!lazy_tscdeadline_cancel_must_trap(c->features,
							   c->armed, c->last,
							   c->now) == c->want,
		       "cancel", c->name);
	}
}

/* A host that counts has said what is there if it has counted since. */
static void test_disproved(void)
{
	static const struct {
		const char *name;
		__u32 features;
		__u64 armed, told;
		__u32 counted;
		__u64 disproved, now, want;
	} cases[] = {
		{ "no promise disproves nothing",	 0, 0, 100, 0, 0, 50, 0 },
		{ "nor does a look ahead of time",	 0, 99, 100, 0, 0, 50, 0 },
		{ "nor one for what was told",		 0, 100, 100, 0, 0, 50, 0 },
		{ "one beyond that does",		 0, 101, 100, 0, 0, 50, 101 },
		{ "also if that is over",		 0, 101, 100, 0, 0, 100, 101 },
		{ "up to the end",			 0, NEVER, NEVER - 1, 0, 0, 50, NEVER },
		{ "CANCEL says nothing about it",	 CANCEL, 101, 100, 1, 0, 100, 101 },
		{ "counted: a look in time is one",	 COUNT, 100, 100, 1, 0, 50, 0 },
		{ "however often",			 COUNT, 99, 100, ~0U, 0, 50, 0 },
		{ "counted: not yet beyond",		 COUNT, 101, 100, 1, 0, 99, 101 },
		{ "counted: beyond what is over",	 COUNT, 101, 100, 1, 0, 100, 0 },
		{ "not counted: none is",		 COUNT, 99, 100, 0, 0, 50, 99 },
		{ "not counted: nor if it is over",	 COUNT, 101, 100, 0, 0, 100, 101 },
		{ "not counted: nothing is nothing",	 COUNT, 0, 100, 0, 0, 50, 0 },
		{ "disproved: still is",		 0, 99, 100, 0, 99, 50, 99 },
		{ "disproved: still, for what was told", 0, 100, 100, 0, 100, 50, 100 },
		{ "disproved: CANCEL changes nothing",	 CANCEL, 99, 100, 1, 99, 50, 99 },
		{ "disproved: another is not",		 0, 98, 100, 0, 99, 50, 0 },
		{ "disproved: nothing is nothing",	 0, 0, 100, 0, 0, 50, 0 },
		{ "disproved: what was counted is not",	 COUNT, 99, 100, 1, 99, 50, 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		report(lazy_tscdeadline_disproved(cases[i].features, cases[i].armed,
						  cases[i].told, cases[i].counted,
						  cases[i].disproved, cases[i].now) ==
		       cases[i].want, "trap", cases[i].name);
}

/*
 * The property behind both tables: without a trap there is a look in the
 * future that comes no later than the deadline.
 */
static void test_promise(void)
{
	static const __u64 v[] = { 0, 1, 2, 99, 100, 101, 1ULL << 31,
				      1ULL << 32, 1ULL << 63, NEVER - 1, NEVER };
	size_t a, d, n;
	int good = 1;

	for (a = 0; a < ARRAY_SIZE(v); a++)
		for (d = 0; d < ARRAY_SIZE(v); d++)
			for (n = 0; n < ARRAY_SIZE(v); n++)
				if (!lazy_tscdeadline_must_trap(v[a], v[d],
								v[n]) !=
				    (v[a] > v[n] && v[a] <= v[d]))
					good = 0;
	report(good, "program", "no trap only if a look comes in time");
}

int main(void)
{
	test_numbers();
	test_bytes();
	test_traps();
	test_cancels();
	test_promise();
	test_disproved();
	printf("1..%d\n", tests);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
