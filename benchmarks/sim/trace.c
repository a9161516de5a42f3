// SPDX-License-Identifier: GPL-2.0-only
/*
 * Traces that benchmarks/record has recorded; Documentation/simulator.rst has
 * the format.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static const struct {
	const char *name;
	size_t offset;
} sim_trace_counts[] = {
	{ "wants",	offsetof(struct sim_counts, wants) },
	{ "writes",	offsetof(struct sim_counts, writes) },
	{ "looks",	offsetof(struct sim_counts, looks) },
	{ "expired",	offsetof(struct sim_counts, expired) },
	{ "rearmed",	offsetof(struct sim_counts, rearmed) },
	{ "disarmed",	offsetof(struct sim_counts, disarmed) },
};

static void sim_trace_count(struct sim_trace *trace, const char *name, u64 value)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sim_trace_counts); i++)
		if (!strcmp(name, sim_trace_counts[i].name))
			*(u64 *)((char *)&trace->lab + sim_trace_counts[i].offset) = value;
}

/* Lines that begin with a word */
static bool sim_trace_header(struct sim_trace *trace, const char *line)
{
	unsigned long long a, b;
	char word[24];

	if (sscanf(line, "mode %23s", word) == 1)
		return sim_mode_find(&trace->mode, word);
	if (sscanf(line, "lab %23s %llu", word, &a) == 2) {
		sim_trace_count(trace, word, a);
		return true;
	}
	if (sscanf(line, "count %llu %llu", &a, &b) == 2) {
		trace->count_from = a;
		trace->count_to = b;
		return true;
	}
	if (sscanf(line, "vcpu %llu %llu", &a, &b) == 2) {
		if (trace->vcpus == SIM_TRACE_VCPUS)
			return false;
		trace->vcpu[trace->vcpus++].advance = b;
		return true;
	}
	return sscanf(line, "workload %23s", trace->workload) == 1 ||
	       sscanf(line, "khz %u", &trace->khz) == 1;
}

static struct sim_want *sim_trace_append(struct sim_trace_vcpu *vcpu)
{
	if (!(vcpu->count % 1024)) {
		struct sim_want *wants;

		wants = realloc(vcpu->wants, (vcpu->count + 1024) * sizeof(*wants));
		if (!wants)
			return NULL;
		vcpu->wants = wants;
	}
	return &vcpu->wants[vcpu->count++];
}

/* "TICKS-SINCE-THE-LAST TICKS-AHEAD [LATENESS]", "-" for a cancel */
static bool sim_trace_want(struct sim_trace_vcpu *vcpu, const char *line)
{
	long long since, late;
	struct sim_want *want, last = { 0 };
	char word[24], *end;
	int fields = sscanf(line, "%lld %23s %lld", &since, word, &late);

	if (fields < 2)
		return false;
	if (vcpu->count)
		last = vcpu->wants[vcpu->count - 1];
	want = sim_trace_append(vcpu);
	if (!want)
		return false;
	want->at = last.at + since;
	want->lateness = last.lateness;
	if (fields == 3)
		want->lateness = late > 0 ? (u64)late : 0;
	want->deadline = 0;
	if (!strcmp(word, "-"))
		return true;
	want->deadline = want->at + strtoll(word, &end, 10);
	return !*end;
}

static bool sim_trace_line(struct sim_trace *trace, const char *line)
{
	if (line[0] == '#' || line[0] == '\n')
		return true;
	if (line[0] >= 'a' && line[0] <= 'z')
		return sim_trace_header(trace, line);
	return trace->vcpus &&
	       sim_trace_want(&trace->vcpu[trace->vcpus - 1], line);
}

/**
 * sim_trace_read - read a trace
 * @trace: where to put it
 * @path: its file
 *
 * Return: false, after a message, if there is none.  Else sim_trace_free() is
 * for it.
 */
bool sim_trace_read(struct sim_trace *trace, const char *path)
{
	FILE *file = fopen(path, "r");
	char line[128];
	int n = 0;

	memset(trace, 0, sizeof(*trace));
	if (!file) {
		perror(path);
		return false;
	}
	while (fgets(line, sizeof(line), file)) {
		n++;
		if (!sim_trace_line(trace, line)) {
			fprintf(stderr, "%s:%d: not understood: %s", path, n, line);
			fclose(file);
			sim_trace_free(trace);
			return false;
		}
	}
	fclose(file);
	if (!trace->vcpus || !trace->khz) {
		fprintf(stderr, "%s: not a trace\n", path);
		return false;
	}
	return true;
}

/**
 * sim_trace_free - give back what sim_trace_read() has allocated
 * @trace: the trace
 */
void sim_trace_free(struct sim_trace *trace)
{
	int i;

	for (i = 0; i < trace->vcpus; i++)
		free(trace->vcpu[i].wants);
	memset(trace, 0, sizeof(*trace));
}

/**
 * sim_trace_run - replay one vCPU of a trace
 * @v: set up by sim_vcpu_init()
 * @trace: the trace
 * @vcpu: which of it
 *
 * The host's timers fire as late as they did in the lab.
 */
void sim_trace_run(struct sim_vcpu *v, const struct sim_trace *trace, int vcpu)
{
	const struct sim_trace_vcpu *from = &trace->vcpu[vcpu];
	u64 now;
	u32 i;

	v->count_from = trace->count_from;
	v->count_to = trace->count_to;
	for (i = 0; i <= from->count; i++) {
		u64 at = i < from->count ? from->wants[i].at : trace->count_to;

		for (now = sim_vcpu_fires(v); now <= at; now = sim_vcpu_fires(v))
			sim_vcpu_fire(v, &now);
		if (i == from->count)
			break;
		v->lateness = from->wants[i].lateness;
		sim_vcpu_program(v, at, from->wants[i].deadline);
	}
}
