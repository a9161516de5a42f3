// SPDX-License-Identifier: GPL-2.0-only
/*
 * sim - replay recorded traces and synthetic rhythms through each arming policy
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define SIM_KHZ		1000000u	/* a tick of the TSC is a nanosecond */

static const char usage[] =
"sim - what arming policies cost: a model, see Documentation/simulator.rst\n"
"\n"
"Usage: sim [OPTION]... [TRACE]...\n"
"\n"
"  -f FILE          table of synthetic rhythms\n"
"  -r RHYTHM,...    only these of them; none: only the traces (default: all)\n"
"  -p POLICY,...    default: off,exact,predict\n"
"  -n VCPUS         how many (default: 100; a trace's vCPUs are repeated)\n"
"  -t SECONDS       for how long, rhythms (default: 4)\n"
"  -s SEED          default: 1\n"
"  -a NS            KVM's timer_advance_ns (default: 1000)\n"
"  -l NS            the host's timers are late by 0 to NS (default: 4000)\n"
"  -j NS            the guest's deadlines jitter by 0 to NS (default: 300)\n"
"  -w NS            cost of a deadline write (default: 1400)\n"
"  -e NS            cost of an expiry that interrupts the guest (default: 2000)\n"
"  -k NS            cost of another look (default: 1000)\n"
"  -c               compare traces with what the lab has counted\n";

/**
 * struct options - the command line
 * @rhythms: table of rhythms
 * @only: names of those to run; NULL: all
 * @policies: which policies to run, a bit each
 * @vcpus: how many
 * @seconds: for how long
 * @seed: of the random numbers
 * @host: what surrounds synthetic guests
 * @write_ns: cost of a deadline write
 * @expiry_ns: cost of an expiry that interrupts the guest
 * @look_ns: cost of another look
 * @compare: compare with the lab
 */
struct options {
	struct sim_rhythms rhythms;
	const char *only;
	u32 policies;
	u32 vcpus;
	double seconds;
	u64 seed;
	struct sim_host host;
	u32 write_ns, expiry_ns, look_ns;
	bool compare;
};

/* Is @name in the list, which has commas? */
static bool listed(const char *list, const char *name)
{
	size_t length = strlen(name);
	const char *at = list;

	while ((at = strstr(at, name))) {
		if ((at == list || at[-1] == ',') &&
		    (!at[length] || at[length] == ','))
			return true;
		at += length;
	}
	return false;
}

static void print_head(void)
{
	printf("%-22s %-8s %9s %9s %9s %9s %9s %8s %9s %9s\n", "rhythm", "policy",
	       "wants", "writes", "looks", "irqs", "re-armed", "wasted", "cpu us",
	       "peak/ms");
	printf("%-22s %-8s %63s %9s\n", "", "", "per vCPU and second", "all");
}

static void print_row(const struct options *o, const char *name,
		      enum sim_mode mode, const struct sim_counts *n,
		      double vcpu_seconds, const struct sim_peak *peak)
{
	double cost = n->writes * (double)o->write_ns +
		      n->expired * (double)o->expiry_ns +
		      (n->looks - n->expired) * (double)o->look_ns;
	u32 i, most = 0;

	for (i = 0; i < peak->size; i++)
		if (peak->bins[i] > most)
			most = peak->bins[i];
	printf("%-22s %-8s %9.1f %9.2f %9.1f %9.1f %9.2f %8.2f %9.1f %9u\n", name,
	       sim_mode_names[mode], n->wants / vcpu_seconds,
	       n->writes / vcpu_seconds, n->looks / vcpu_seconds,
	       n->expired / vcpu_seconds, n->rearmed / vcpu_seconds,
	       n->wasted / vcpu_seconds, cost / 1000 / vcpu_seconds, most);
}

/* Whatever the policy does, these must not happen. */
static bool sound(const char *name, const struct sim_counts *n)
{
	if (!n->lost && !n->early && !n->late)
		return true;
	fprintf(stderr, "sim: %s: %llu deadlines lost, %llu early, %llu late\n",
		name, (unsigned long long)n->lost, (unsigned long long)n->early,
		(unsigned long long)n->late);
	return false;
}

static u64 seed_of(const struct options *o, u32 vcpu)
{
	return o->seed * 0x2545f4914f6cdd1dull + vcpu * 0x9e3779b97f4a7c15ull;
}

static bool run_rhythm(const struct options *o, const struct sim_rhythm *rhythm,
		       enum sim_mode mode, struct sim_peak *peak)
{
	u64 ns = o->seconds * 1000000000;
	struct sim_counts sum = { 0 };
	struct sim_vcpu v;
	u32 i;

	for (i = 0; i < o->vcpus; i++) {
		const struct sim_rhythm *one;

		one = sim_rhythm_pick(&o->rhythms, rhythm, i);
		if (!one)
			return false;
		sim_vcpu_init(&v, mode, SIM_KHZ, o->host.advance_ns);
		v.peak = peak;
		sim_rhythm_run(&v, one, &o->host, seed_of(o, i), ns);
		sim_counts_add(&sum, &v.n);
	}
	print_row(o, rhythm->name, mode, &sum, o->vcpus * o->seconds, peak);
	return sound(rhythm->name, &sum);
}

static bool run_trace(const struct options *o, const struct sim_trace *trace,
		      enum sim_mode mode, struct sim_peak *peak)
{
	double seconds = (trace->count_to - trace->count_from) / 1000.0 / trace->khz;
	struct sim_counts sum = { 0 };
	struct sim_vcpu v;
	char name[64];
	u32 i;

	for (i = 0; i < o->vcpus; i++) {
		int from = i % trace->vcpus;

		sim_vcpu_init(&v, mode, trace->khz, trace->vcpu[from].advance);
		v.peak = peak;
		v.phase = seed_of(o, i) % (trace->khz * 4ull) - trace->start;
		sim_trace_run(&v, trace, from);
		sim_counts_add(&sum, &v.n);
	}
	snprintf(name, sizeof(name), "%s (%s)", trace->workload,
		 sim_mode_names[trace->mode]);
	print_row(o, name, mode, &sum, o->vcpus * seconds, peak);
	return sound(name, &sum);
}

static void compare_row(const char *what, u64 lab, u64 sim)
{
	printf("  %-9s %8llu %8llu", what, (unsigned long long)lab,
	       (unsigned long long)sim);
	if (lab)
		printf(" %+7.1f%%", ((double)sim - lab) * 100 / lab);
	printf("\n");
}

/* One copy of the trace, in the mode in which it was recorded */
static void compare(const struct sim_trace *trace)
{
	struct sim_counts sum = { 0 };
	struct sim_vcpu v;
	int i;

	for (i = 0; i < trace->vcpus; i++) {
		sim_vcpu_init(&v, trace->mode, trace->khz, trace->vcpu[i].advance);
		sim_trace_run(&v, trace, i);
		sim_counts_add(&sum, &v.n);
	}
	printf("%s, %s: the lab, the simulator\n", trace->workload,
	       sim_mode_names[trace->mode]);
	compare_row("wants", trace->lab.wants, sum.wants);
	compare_row("writes", trace->lab.writes, sum.writes);
	compare_row("looks", trace->lab.looks, sum.looks);
	compare_row("expired", trace->lab.expired, sum.expired);
	compare_row("re-armed", trace->lab.rearmed, sum.rearmed);
	compare_row("disarmed", trace->lab.disarmed, sum.disarmed);
}

static bool peak_start(struct sim_peak *peak, double seconds)
{
	peak->size = seconds * 1000 + 16;
	peak->bins = calloc(peak->size, sizeof(*peak->bins));
	return peak->bins;
}

static bool all_rhythms(const struct options *o)
{
	struct sim_peak peak;
	bool good = true;
	u32 mode;
	int i;

	for (i = 0; i < o->rhythms.count; i++) {
		const struct sim_rhythm *rhythm = &o->rhythms.rhythm[i];

		if (o->only && !listed(o->only, rhythm->name))
			continue;
		for (mode = 0; mode < SIM_MODES; mode++) {
			if (!(o->policies & 1u << mode))
				continue;
			if (!peak_start(&peak, o->seconds))
				return false;
			good &= run_rhythm(o, rhythm, mode, &peak);
			free(peak.bins);
		}
	}
	return good;
}

static bool one_trace(const struct options *o, const char *path)
{
	struct sim_trace trace;
	struct sim_peak peak;
	bool good = true;
	u32 mode;

	if (!sim_trace_read(&trace, path))
		return false;
	if (o->compare) {
		compare(&trace);
		sim_trace_free(&trace);
		return true;
	}
	for (mode = 0; mode < SIM_MODES; mode++) {
		if (!(o->policies & 1u << mode))
			continue;
		if (!peak_start(&peak, (trace.count_to - trace.start) / 1000.0 / trace.khz))
			return false;
		good &= run_trace(o, &trace, mode, &peak);
		free(peak.bins);
	}
	sim_trace_free(&trace);
	return good;
}

static bool policies_parse(struct options *o, const char *list)
{
	u32 mode;

	o->policies = 0;
	for (mode = 0; mode < SIM_MODES; mode++)
		if (listed(list, sim_mode_names[mode]))
			o->policies |= 1u << mode;
	return o->policies;
}

/* Options whose value is a whole number */
static bool option_number(struct options *o, int c, unsigned long value)
{
	const struct {
		char c;
		u32 *number;
	} numbers[] = {
		{ 'n', &o->vcpus },
		{ 'a', &o->host.advance_ns },
		{ 'l', &o->host.late_ns },
		{ 'j', &o->host.jitter_ns },
		{ 'w', &o->write_ns },
		{ 'e', &o->expiry_ns },
		{ 'k', &o->look_ns },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (numbers[i].c != c)
			continue;
		*numbers[i].number = value;
		return o->vcpus;
	}
	return false;
}

static bool option(struct options *o, int c, const char *value)
{
	switch (c) {
	case 'f':
		return sim_rhythms_read(&o->rhythms, value);
	case 'r':
		o->only = value;
		return true;
	case 'p':
		return policies_parse(o, value);
	case 't':
		o->seconds = strtod(value, NULL);
		return o->seconds > 0;
	case 's':
		o->seed = strtoull(value, NULL, 0);
		return true;
	case 'c':
		o->compare = true;
		return true;
	default:
		return value && option_number(o, c, strtoul(value, NULL, 0));
	}
}

int main(int argc, char **argv)
{
	static struct options o = {
		.policies = (1u << SIM_MODES) - 1, .vcpus = 100, .seconds = 4,
		.seed = 1, .write_ns = 1400, .expiry_ns = 2000, .look_ns = 1000,
		.host = { .advance_ns = 1000, .late_ns = 4000, .jitter_ns = 300 },
	};
	bool good = true;
	int c;

	while ((c = getopt(argc, argv, "f:r:p:n:t:s:a:l:j:w:e:k:ch")) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (!option(&o, c, optarg)) {
			fputs(usage, stderr);
			return 2;
		}
	}
	if (!o.compare) {
		print_head();
		good = all_rhythms(&o);
	}
	for (; optind < argc; optind++)
		good &= one_trace(&o, argv[optind]);
	return !good;
}
