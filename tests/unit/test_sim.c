// SPDX-License-Identifier: GPL-2.0-only
/*
 * The simulator, and in it the arming policies: what must hold for all recorded
 * traces and all rhythms, and that the counts for a trace are those of the lab.
 */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../host/lazy_policy.c"
#include "../../benchmarks/sim/vcpu.c"
#include "../../benchmarks/sim/rhythm.c"
#include "../../benchmarks/sim/trace.c"

#define KHZ		1000000u
#define SECOND		1000000000ull
#define VCPUS		20

/* Looks without a deadline in a row: until no rhythm is trusted any more */
#define STREAK		(LAZY_STREAMS * \
			 (LAZY_SCORE_MAX - LAZY_SCORE_TRUST + LAZY_SCORE_ASLEEP) / \
			 LAZY_SCORE_ASLEEP)

static int tests, failures;
static u64 seed = 1;

static void report(bool ok, const char *name, const char *what)
{
	tests++;
	failures += !ok;
	printf("%sok %d - %s: %s\n", ok ? "" : "not ", tests, name, what);
}

static void show(const char *name, enum sim_mode mode, const struct sim_counts *n)
{
	printf("# %s, %s: %llu wants, %llu writes, %llu looks, %llu irqs, %llu wasted\n",
	       name, sim_mode_names[mode], (unsigned long long)n->wants,
	       (unsigned long long)n->writes, (unsigned long long)n->looks,
	       (unsigned long long)n->expired, (unsigned long long)n->wasted);
}

/* What surrounds the guest: hardware, an ideal, an emulator */
static const struct sim_host hosts[] = {
	{ .advance_ns = 1000, .late_ns = 4000, .jitter_ns = 300 },
	{ .advance_ns = 0, .late_ns = 0, .jitter_ns = 0 },
	{ .advance_ns = 5000, .late_ns = 0, .jitter_ns = 2000 },
	{ .advance_ns = 1000, .late_ns = 500000, .jitter_ns = 50000 },
};

static void run(struct sim_counts *sum, const struct sim_rhythms *rhythms,
		const struct sim_rhythm *rhythm, enum sim_mode mode,
		const struct sim_host *host, u64 first_seed)
{
	struct sim_vcpu v;
	int i;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < VCPUS; i++) {
		const struct sim_rhythm *one = sim_rhythm_pick(rhythms, rhythm, i);

		sim_vcpu_init(&v, mode, KHZ, host->advance_ns);
		sim_rhythm_run(&v, one, host, first_seed + i * 1000003ull, 4 * SECOND);
		sim_counts_add(sum, &v.n);
	}
}

static bool sound(const struct sim_counts *n)
{
	return !n->lost && !n->early && !n->late && n->wants >= n->writes;
}

/* Nothing is lost, early or armed late, whatever surrounds the guest. */
static void test_sound(const struct sim_rhythms *rhythms,
		       const struct sim_rhythm *rhythm)
{
	struct sim_counts n;
	bool good = true, bounded = true;
	enum sim_mode mode;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(hosts); i++)
		for (mode = 0; mode < SIM_MODES; mode++) {
			run(&n, rhythms, rhythm, mode, &hosts[i], seed + i);
			good &= sound(&n) && n.expired;
			bounded &= n.streak <= STREAK;
		}
	report(good, rhythm->name, "no deadline is lost, early or armed late");
	report(bounded, rhythm->name, "looks for nothing come to an end");
}

/*
 * What predict is to gain, on hardware: writes per 1000 wants of plain KVM, and
 * looks per 1000 expiries, at most.
 */
static const struct {
	const char *rhythm;
	unsigned int writes, looks;
} gains[] = {
	{ "tick",	10,	1010 },
	{ "tick1000",	10,	1010 },
	{ "cyclic1000",	30,	1200 },
	{ "cyclic200",	40,	1200 },
	{ "tcp_rr",	1,	2500 },
	{ "wakeups",	10,	2500 },
	{ "works",	150,	1050 },
	{ "no_wheel",	5,	3100 },
	{ "idle",	1000,	1100 },
	{ "fleet",	5,	1500 },
};

static void test_gain(const struct sim_rhythms *rhythms, const char *name,
		      unsigned int writes, unsigned int looks)
{
	const struct sim_rhythm *rhythm = sim_rhythm_find(rhythms, name);
	struct sim_counts n[SIM_MODES];
	enum sim_mode mode;

	if (!rhythm) {
		report(false, name, "is in rhythms.tbl");
		return;
	}
	for (mode = 0; mode < SIM_MODES; mode++) {
		run(&n[mode], rhythms, rhythm, mode, &hosts[0], seed);
		show(name, mode, &n[mode]);
	}
	report(n[SIM_OFF].writes == n[SIM_OFF].wants &&
	       n[SIM_OFF].looks == n[SIM_OFF].expired, name, "off is plain KVM");
	report(n[SIM_PREDICT].writes * 1000 <= n[SIM_OFF].writes * writes, name,
	       "predict writes as seldom as it should");
	report(n[SIM_PREDICT].writes <= n[SIM_EXACT].writes, name,
	       "predict writes no more often than exact");
	report(n[SIM_PREDICT].looks * 1000 <= n[SIM_OFF].looks * looks, name,
	       "predict looks as seldom as it should");
	report(n[SIM_PREDICT].expired * 100 <= n[SIM_OFF].expired * 102, name,
	       "predict adds no interrupts");
}

static void test_seed(const struct sim_rhythms *rhythms)
{
	const struct sim_rhythm *rhythm = sim_rhythm_find(rhythms, "fleet");
	struct sim_counts a, b, c;

	run(&a, rhythms, rhythm, SIM_PREDICT, &hosts[0], seed);
	run(&b, rhythms, rhythm, SIM_PREDICT, &hosts[0], seed);
	run(&c, rhythms, rhythm, SIM_PREDICT, &hosts[0], seed + 1);
	report(!memcmp(&a, &b, sizeof(a)), "seed", "the same gives the same");
	report(memcmp(&a, &c, sizeof(a)), "seed", "another gives something else");
}

static void replay(struct sim_counts *sum, const struct sim_trace *trace,
		   enum sim_mode mode)
{
	struct sim_vcpu v;
	int i;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < trace->vcpus; i++) {
		sim_vcpu_init(&v, mode, trace->khz, trace->vcpu[i].advance);
		sim_trace_run(&v, trace, i);
		sim_counts_add(sum, &v.n);
	}
}

/* Within 5% */
static bool close_to(u64 sim, u64 lab)
{
	return lazy_distance(sim, lab) * 20 <= lab;
}

static void test_trace_like_lab(const struct sim_trace *trace, const char *name)
{
	const struct sim_counts *lab = &trace->lab;
	struct sim_counts n;

	replay(&n, trace, trace->mode);
	show("the lab", trace->mode, lab);
	show("the simulator", trace->mode, &n);
	report(lab->wants && n.wants == lab->wants, name, "wants as in the lab");
	report(close_to(n.writes, lab->writes), name, "writes as in the lab");
	report(close_to(n.looks, lab->looks), name, "looks as in the lab");
	report(close_to(n.expired, lab->expired), name, "interrupts as in the lab");
}

static void test_trace_policies(const struct sim_trace *trace, const char *name)
{
	bool good = true, bounded = true;
	struct sim_counts n[SIM_MODES];
	enum sim_mode mode;

	for (mode = 0; mode < SIM_MODES; mode++) {
		replay(&n[mode], trace, mode);
		good &= sound(&n[mode]);
		bounded &= n[mode].streak <= STREAK;
	}
	report(good, name, "no deadline is lost, early or armed late");
	report(bounded, name, "looks for nothing come to an end");
	report(n[SIM_PREDICT].writes <= n[SIM_EXACT].writes &&
	       n[SIM_EXACT].writes <= n[SIM_OFF].writes, name,
	       "each policy writes no more often than the simpler one");
}

static void test_traces(void)
{
	struct sim_trace trace;
	glob_t files;
	char name[64];
	size_t i;

	if (glob(BENCHMARKS "/traces/*.trace", 0, NULL, &files)) {
		report(false, "traces", "there are some");
		return;
	}
	for (i = 0; i < files.gl_pathc; i++) {
		if (!sim_trace_read(&trace, files.gl_pathv[i])) {
			report(false, files.gl_pathv[i], "is a trace");
			continue;
		}
		snprintf(name, sizeof(name), "%s, %s", trace.workload,
			 sim_mode_names[trace.mode]);
		test_trace_like_lab(&trace, name);
		test_trace_policies(&trace, name);
		sim_trace_free(&trace);
	}
	globfree(&files);
}

int main(int argc, char **argv)
{
	struct sim_rhythms rhythms;
	size_t i;
	int n;

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	printf("# seed %llu\n", (unsigned long long)seed);
	if (!sim_rhythms_read(&rhythms, BENCHMARKS "/rhythms.tbl")) {
		printf("Bail out! no rhythms.tbl\n");
		return 1;
	}
	for (n = 0; n < rhythms.count; n++)
		test_sound(&rhythms, &rhythms.rhythm[n]);
	for (i = 0; i < ARRAY_SIZE(gains); i++)
		test_gain(&rhythms, gains[i].rhythm, gains[i].writes, gains[i].looks);
	test_seed(&rhythms);
	test_traces();
	printf("1..%d\n", tests);
	return failures != 0;
}
