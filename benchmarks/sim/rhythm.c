// SPDX-License-Identifier: GPL-2.0-only
/*
 * Synthetic guests: a tick, the timer of a thread, halts that stop the tick, and
 * the other timers of an idle kernel, as Linux programs them.
 */
#include <stdio.h>
#include <string.h>

#include "sim.h"

/* What a guest needs from its interrupt to its thread, and around a halt */
#define SIM_HANDLER_NS		2000
#define SIM_THREAD_NS		10000
#define SIM_RESTART_NS		1000

/**
 * struct sim_guest - one guest CPU
 * @v: its timer
 * @rhythm: what it does
 * @host: what surrounds it
 * @random: state of the generator
 * @tick: when the tick is due next
 * @timer: the same of the thread's timer; SIM_NEVER: it is not set
 * @wheel: the same of the timer wheel
 * @toggle: when it halts, or is woken up by something else than a timer
 * @halted: its tick is stopped
 */
struct sim_guest {
	struct sim_vcpu *v;
	const struct sim_rhythm *rhythm;
	const struct sim_host *host;
	u64 random;
	u64 tick, timer, wheel;
	u64 toggle;
	bool halted;
};

static u64 sim_min(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* splitmix64 */
static u64 sim_random(u64 *state)
{
	u64 x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static u64 sim_below(struct sim_guest *g, u64 limit)
{
	return limit ? sim_random(&g->random) % limit : 0;
}

static u64 sim_ns(const struct sim_guest *g, u64 ns)
{
	return ns * g->v->policy.khz / 1000000;
}

static u64 sim_us(const struct sim_guest *g, u64 us)
{
	return us * g->v->policy.khz / 1000;
}

/* A time between half and one and a half of the mean */
static u64 sim_around(struct sim_guest *g, u32 us)
{
	return sim_us(g, us) / 2 + sim_below(g, sim_us(g, us));
}

/* The first beat after @now of a timer that had one at @due */
static u64 sim_next(u64 due, u64 period, u64 now)
{
	return due > now ? due : due + ((now - due) / period + 1) * period;
}

/* Timers of the wheel fall upon ticks. */
static void sim_wheel_set(struct sim_guest *g, u64 now)
{
	u64 tick = sim_us(g, g->rhythm->tick_us);

	g->wheel = SIM_NEVER;
	if (g->rhythm->wheel_us)
		g->wheel = sim_next(g->tick, tick,
				    now + sim_around(g, g->rhythm->wheel_us));
}

static void sim_program(struct sim_guest *g, u64 now, u64 due)
{
	if (due == SIM_NEVER) {
		sim_vcpu_program(g->v, now, 0);
		return;
	}
	if (due < now)
		due = now;
	sim_vcpu_program(g->v, now, due + sim_ns(g, sim_below(g, g->host->jitter_ns)));
	g->v->lateness = sim_ns(g, sim_below(g, g->host->late_ns));
}

static u64 sim_wants(const struct sim_guest *g)
{
	return sim_min(g->halted ? g->wheel : g->tick, g->timer);
}

/* A guest with nothing to do halts once its timer is programmed. */
static void sim_halt_idle(struct sim_guest *g, u64 now)
{
	if (g->halted)
		sim_vcpu_halt(g->v, now, g->toggle);
}

/*
 * Timers that are due at @now are served; the thread behind the one that has
 * expired programs it again by itself.  What was halted halts again.
 */
static void sim_interrupt(struct sim_guest *g, u64 now)
{
	u64 period = sim_us(g, g->rhythm->timer_us), beat = g->timer;
	bool thread = g->timer <= now;

	if (g->tick <= now)
		g->tick = sim_next(g->tick, sim_us(g, g->rhythm->tick_us), now);
	if (g->wheel <= now)
		sim_wheel_set(g, now);
	if (thread)
		g->timer = SIM_NEVER;
	now += sim_ns(g, SIM_HANDLER_NS);
	sim_program(g, now, sim_wants(g));
	if (thread) {
		now += sim_ns(g, SIM_THREAD_NS);
		g->timer = sim_next(beat, period, now);
		if (g->timer == sim_wants(g))
			sim_program(g, now, g->timer);
	}
	sim_halt_idle(g, now);
}

/*
 * On the way to a halt the tick moves to where the wheel needs it.  Back, it is
 * cancelled first, which leaves the CPU's other timers, and then set again.
 */
static void sim_toggle(struct sim_guest *g, u64 now)
{
	if (g->halted) {
		sim_program(g, now, sim_wants(g));
		now += sim_ns(g, SIM_RESTART_NS);
		g->tick = sim_next(g->tick, sim_us(g, g->rhythm->tick_us), now);
		g->halted = false;
		g->toggle = now + sim_around(g, g->rhythm->busy_us);
	} else {
		g->halted = true;
		sim_wheel_set(g, now);
		g->toggle = now + sim_around(g, g->rhythm->idle_us);
	}
	sim_program(g, now, sim_wants(g));
	sim_halt_idle(g, now);
}

static void sim_guest_start(struct sim_guest *g)
{
	const struct sim_rhythm *rhythm = g->rhythm;
	u64 now = sim_us(g, 1000);

	g->tick = now + sim_below(g, sim_us(g, rhythm->tick_us));
	g->timer = SIM_NEVER;
	if (rhythm->timer_us)
		g->timer = now + sim_below(g, sim_us(g, rhythm->timer_us));
	g->halted = !rhythm->busy_us;
	g->toggle = SIM_NEVER;
	if (rhythm->busy_us && rhythm->idle_us)
		g->toggle = now + sim_around(g, rhythm->busy_us);
	sim_wheel_set(g, now);
	sim_program(g, now, sim_wants(g));
	sim_halt_idle(g, now);
}

/**
 * sim_rhythm_run - run one vCPU of a synthetic guest
 * @v: set up by sim_vcpu_init()
 * @rhythm: what the guest does; no mix
 * @host: what surrounds it
 * @seed: the same gives the same
 * @ns: for how long
 */
void sim_rhythm_run(struct sim_vcpu *v, const struct sim_rhythm *rhythm,
		    const struct sim_host *host, u64 seed, u64 ns)
{
	struct sim_guest guest = {
		.v = v, .rhythm = rhythm, .host = host, .random = seed,
	};
	u64 now, fires, end = sim_ns(&guest, ns);

	sim_guest_start(&guest);
	for (;;) {
		fires = sim_vcpu_fires(v);
		now = sim_min(fires, guest.toggle);
		if (now >= end)
			return;
		if (guest.toggle < fires)
			sim_toggle(&guest, now);
		else if (sim_vcpu_fire(v, &now))
			sim_interrupt(&guest, now);
	}
}

/**
 * sim_rhythm_find - the rhythm of that name
 * @rhythms: all of them
 * @name: what it is called
 *
 * Return: NULL if there is none.
 */
const struct sim_rhythm *sim_rhythm_find(const struct sim_rhythms *rhythms,
					 const char *name)
{
	int i;

	for (i = 0; i < rhythms->count; i++)
		if (!strcmp(rhythms->rhythm[i].name, name))
			return &rhythms->rhythm[i];
	return NULL;
}

/**
 * sim_rhythm_pick - what vCPU number @n of a mix does
 * @rhythms: all rhythms
 * @rhythm: a mix or a single rhythm
 * @n: the number
 *
 * Return: a single rhythm; NULL if the mix names one that does not exist.
 */
const struct sim_rhythm *sim_rhythm_pick(const struct sim_rhythms *rhythms,
					 const struct sim_rhythm *rhythm, u64 n)
{
	const char *at = rhythm->mix;
	u32 weight, sum = 0;
	char name[24];
	int length;

	if (!*at)
		return rhythm;
	while (sscanf(at, " %23[^: ]:%u%n", name, &weight, &length) == 2) {
		sum += weight;
		at += length;
	}
	/* A prime: any few vCPUs that follow each other are a mix, too. */
	n = sum ? n * 7919 % sum : 0;
	for (at = rhythm->mix;
	     sscanf(at, " %23[^: ]:%u%n", name, &weight, &length) == 2; at += length) {
		if (n < weight)
			return sim_rhythm_find(rhythms, name);
		n -= weight;
	}
	return NULL;
}

static bool sim_rhythm_line(struct sim_rhythm *rhythm, const char *line)
{
	int fields;

	memset(rhythm, 0, sizeof(*rhythm));
	fields = sscanf(line, " %23[^| ] | %u | %u | %u | %u | %u | %159[^\n]",
			rhythm->name, &rhythm->tick_us, &rhythm->timer_us,
			&rhythm->busy_us, &rhythm->idle_us, &rhythm->wheel_us,
			rhythm->mix);
	return fields == 7 || (fields == 6 && rhythm->tick_us);
}

/**
 * sim_rhythms_read - read rhythms.tbl
 * @rhythms: where to put them
 * @path: the file
 *
 * Return: false, after a message, if it cannot be read.
 */
bool sim_rhythms_read(struct sim_rhythms *rhythms, const char *path)
{
	FILE *file = fopen(path, "r");
	char line[256];

	memset(rhythms, 0, sizeof(*rhythms));
	if (!file) {
		perror(path);
		return false;
	}
	while (fgets(line, sizeof(line), file)) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (rhythms->count < SIM_RHYTHMS &&
		    sim_rhythm_line(&rhythms->rhythm[rhythms->count], line)) {
			rhythms->count++;
			continue;
		}
		fprintf(stderr, "%s: not understood: %s", path, line);
		fclose(file);
		return false;
	}
	fclose(file);
	return rhythms->count;
}
