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
	{ "spared",	offsetof(struct sim_counts, spared) },
};

static const struct {
	const char *name;
	size_t offset;
} sim_trace_states[] = {
	{ "pending", offsetof(struct sim_state, pending) },
	{ "published", offsetof(struct sim_state, published) },
	{ "deadline", offsetof(struct sim_state, deadline) },
	{ "look", offsetof(struct sim_state, look) },
	{ "delivered", offsetof(struct sim_state, delivered) },
	{ "last_look", offsetof(struct sim_state, last_look) },
	{ "short_looks", offsetof(struct sim_state, short_looks) },
	{ "halts", offsetof(struct sim_state, halts) },
	{ "halted_until", offsetof(struct sim_state, halted_until) },
	{ "seen", offsetof(struct sim_state, seen) },
	{ "guess", offsetof(struct sim_state, guess) },
	{ "asked", offsetof(struct sim_state, asked) },
	{ "idle", offsetof(struct sim_state, idle) },
	{ "slept", offsetof(struct sim_state, slept) },
	{ "spared", offsetof(struct sim_state, spared) },
	{ "last_pending", offsetof(struct sim_state, last_pending) },
	{ "last_halts", offsetof(struct sim_state, last_halts) },
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
	if (sscanf(line, "start %llu", &a) == 1) {
		trace->start = a;
		return true;
	}
	if (sscanf(line, "count %llu %llu", &a, &b) == 2) {
		trace->count_from = trace->start + a;
		trace->count_to = trace->start + b;
		return true;
	}
	if (sscanf(line, "vcpu %llu %llu", &a, &b) == 2) {
		if (trace->vcpus == SIM_TRACE_VCPUS)
			return false;
		trace->vcpu[trace->vcpus].at = trace->start;
		trace->vcpu[trace->vcpus++].advance = b;
		return true;
	}
	return sscanf(line, "workload %23s", trace->workload) == 1 ||
	       sscanf(line, "khz %u", &trace->khz) == 1;
}

/* Room for one more in an array that grows by steps */
static void *sim_trace_grow(void *array, u32 count, size_t size)
{
	return count % 1024 ? array : realloc(array, (count + 1024) * size);
}

/* "LATENESS" or "LATENESS+DELAY"; a lateness below 0 is none. */
static bool sim_trace_late(struct sim_trace_vcpu *vcpu, const char *word)
{
	struct sim_late *array = sim_trace_grow(vcpu->late, vcpu->lates, sizeof(*array));
	long long late, delay = 0;
	char *end;

	if (!array)
		return false;
	vcpu->late = array;
	late = strtoll(word, &end, 10);
	if (*end == '+')
		delay = strtoll(end + 1, &end, 10);
	if (*end)
		return false;
	array[vcpu->lates].late = late > 0 ? late : 0;
	array[vcpu->lates++].delay = delay > 0 ? delay : 0;
	return true;
}

/* The rest of a line */
static bool sim_trace_lates(struct sim_trace_vcpu *vcpu, u32 *count)
{
	char *word;

	for (*count = 0; (word = strtok(NULL, "\n ")); ++*count)
		if (!sim_trace_late(vcpu, word))
			return false;
	return true;
}

/* The next number of a line */
static bool sim_trace_number(u64 *number)
{
	char *word = strtok(NULL, "\n "), *end;

	if (!word)
		return false;
	*number = strtoull(word, &end, 10);
	return !*end;
}

/* "state now TSC [LATENESS]...": when the state was read */
static bool sim_trace_now(struct sim_trace_vcpu *vcpu)
{
	vcpu->known = sim_trace_number(&vcpu->state.now);
	vcpu->at = vcpu->state.now;
	return vcpu->known && sim_trace_lates(vcpu, &vcpu->first_lates);
}

/* "state stream NUMBER ...": all of struct lazy_stream */
static bool sim_trace_stream(struct sim_trace_vcpu *vcpu)
{
	struct lazy_stream *stream;
	u64 i, jitter, score, backoff;

	if (!sim_trace_number(&i) || i >= LAZY_STREAMS)
		return false;
	stream = &vcpu->state.stream[i];
	if (!sim_trace_number(&stream->period) || !sim_trace_number(&stream->next) ||
	    !sim_trace_number(&stream->base) || !sim_trace_number(&stream->beats) ||
	    !sim_trace_number(&jitter) || !sim_trace_number(&score) ||
	    !sim_trace_number(&backoff) || !sim_trace_number(&stream->credited))
		return false;
	stream->jitter = jitter;
	stream->score = score;
	stream->backoff = backoff;
	return true;
}

static bool sim_trace_history(struct sim_trace_vcpu *vcpu)
{
	int i;

	for (i = 0; i < LAZY_HISTORY; i++)
		if (!sim_trace_number(&vcpu->state.history[i]))
			return false;
	return true;
}

/* "state NAME VALUE": a member of that name */
static bool sim_trace_member(struct sim_state *state, const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sim_trace_states); i++)
		if (!strcmp(name, sim_trace_states[i].name))
			return sim_trace_number((u64 *)((char *)state +
							sim_trace_states[i].offset));
	return false;
}

/* "state ...": how the vCPU begins */
static bool sim_trace_state(struct sim_trace_vcpu *vcpu, char *line)
{
	const char *name;

	strtok(line, "\n ");
	name = strtok(NULL, "\n ");
	if (!name)
		return false;
	if (!strcmp(name, "now"))
		return sim_trace_now(vcpu);
	if (!strcmp(name, "stream"))
		return sim_trace_stream(vcpu);
	if (!strcmp(name, "history"))
		return sim_trace_history(vcpu);
	return sim_trace_member(&vcpu->state, name);
}

static struct sim_want *sim_trace_append(struct sim_trace_vcpu *vcpu)
{
	struct sim_want *array = sim_trace_grow(vcpu->wants, vcpu->count, sizeof(*array));

	if (!array)
		return NULL;
	vcpu->wants = array;
	return &vcpu->wants[vcpu->count++];
}

/* "TICKS-SINCE-THE-LAST TICKS-AHEAD[:TRAP] [LATENESS]...", "-" for a cancel */
static bool sim_trace_want(struct sim_trace_vcpu *vcpu, char *line)
{
	char *word = strtok(line, "\n "), *ahead = strtok(NULL, "\n "), *end = NULL;
	struct sim_want *want = sim_trace_append(vcpu);

	if (!want || !word || !ahead)
		return false;
	want->at = vcpu->at + strtoull(word, &end, 10);
	if (*end)
		return false;
	vcpu->at = want->at;
	want->deadline = 0;
	end = ahead + 1;
	if (strncmp(ahead, "-:", 2) && strcmp(ahead, "-"))
		want->deadline = want->at + strtoll(ahead, &end, 10);
	want->trap = *end == ':' ? strtoull(end + 1, &end, 10) : 0;
	return !*end && sim_trace_lates(vcpu, &want->lates);
}

/* "halt TICKS-SINCE-THE-LAST LENGTH" */
static bool sim_trace_halt(struct sim_trace_vcpu *vcpu, const char *line)
{
	unsigned long long since, length;
	struct sim_halt *array;

	if (sscanf(line, "halt %llu %llu", &since, &length) != 2)
		return false;
	array = sim_trace_grow(vcpu->halt, vcpu->halts, sizeof(*array));
	if (!array)
		return false;
	vcpu->halt = array;
	vcpu->at += since;
	array[vcpu->halts].at = vcpu->at;
	array[vcpu->halts++].until = vcpu->at + length;
	return true;
}

/* Lines that are about a vCPU */
static bool sim_trace_event(struct sim_trace_vcpu *vcpu, char *line)
{
	if (line[0] == 's')
		return sim_trace_state(vcpu, line);
	return line[0] == 'h' ? sim_trace_halt(vcpu, line) : sim_trace_want(vcpu, line);
}

static bool sim_trace_line(struct sim_trace *trace, char *line)
{
	if (line[0] == '#' || line[0] == '\n')
		return true;
	if (line[0] >= 'a' && line[0] <= 'z' && line[0] != 'h' &&
	    strncmp(line, "state ", 6))
		return sim_trace_header(trace, line);
	return trace->vcpus &&
	       sim_trace_event(&trace->vcpu[trace->vcpus - 1], line);
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
	char line[4096];
	int n = 0;

	memset(trace, 0, sizeof(*trace));
	if (!file) {
		perror(path);
		return false;
	}
	while (fgets(line, sizeof(line), file)) {
		n++;
		if (!strchr(line, '\n') || !sim_trace_line(trace, line)) {
			fprintf(stderr, "%s:%d: not understood\n", path, n);
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

	for (i = 0; i < trace->vcpus; i++) {
		free(trace->vcpu[i].wants);
		free(trace->vcpu[i].halt);
		free(trace->vcpu[i].late);
	}
	memset(trace, 0, sizeof(*trace));
}

/* The host's timer as late as it was in the lab; what is unknown is as before */
static void sim_trace_lateness(struct sim_vcpu *v, const struct sim_late **late, u32 *lates)
{
	if (!*lates)
		return;
	v->lateness = (*late)->late;
	v->delay = (*late)->delay;
	(*late)++;
	(*lates)--;
}

/* What happens until then: it may halt, the timer may fire. */
static void sim_trace_until(struct sim_vcpu *v, const struct sim_trace_vcpu *from,
			    u32 *halt, u64 until, const struct sim_late **late,
			    u32 *lates)
{
	for (;;) {
		const struct sim_halt *next = &from->halt[*halt];
		u64 halts = *halt < from->halts ? next->at : SIM_NEVER;
		u64 fires = sim_vcpu_fires(v);

		if (halts > until && fires > until)
			return;
		if (halts < fires) {
			sim_vcpu_halt(v, next->at, next->until);
			++*halt;
			continue;
		}
		sim_vcpu_fire(v, &fires);
		sim_trace_lateness(v, late, lates);
	}
}

/*
 * The guest wants something; a write takes its time, in which the timer may fire,
 * as late as it was before that.
 */
static void sim_trace_program(struct sim_vcpu *v, const struct sim_trace_vcpu *from,
			      const struct sim_want *want, u32 *halt,
			      const struct sim_late **late, u32 *lates)
{
	if (!sim_vcpu_want(v, want->at, want->deadline))
		return;
	if (want->trap)
		sim_trace_until(v, from, halt, want->at + want->trap, late, lates);
	sim_vcpu_write(v, want->at + want->trap, want->deadline);
}

/**
 * sim_trace_run - replay one vCPU of a trace
 * @v: set up by sim_vcpu_init()
 * @trace: the trace
 * @vcpu: which of it
 */
void sim_trace_run(struct sim_vcpu *v, const struct sim_trace *trace, int vcpu)
{
	const struct sim_trace_vcpu *from = &trace->vcpu[vcpu];
	const struct sim_late *late = from->late, *next = late;
	u32 i, lates = 0, halt = 0;
	u64 until;

	v->count_from = trace->count_from;
	v->count_to = trace->count_to;
	next += from->first_lates;
	/* In another mode the host would have known other things. */
	if (from->known && v->mode == trace->mode) {
		sim_vcpu_begin(v, &from->state);
		lates = from->first_lates;
		sim_trace_lateness(v, &late, &lates);
		until = from->count ? from->wants[0].at : trace->count_to;
		sim_trace_until(v, from, &halt, until, &late, &lates);
	}
	for (i = 0; i < from->count; i++) {
		const struct sim_want *want = &from->wants[i];

		sim_trace_program(v, from, want, &halt, &late, &lates);
		late = next;
		lates = want->lates;
		next += lates;
		sim_trace_lateness(v, &late, &lates);
		until = i + 1 < from->count ? want[1].at : trace->count_to;
		sim_trace_until(v, from, &halt, until, &late, &lates);
	}
}
