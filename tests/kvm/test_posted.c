// SPDX-License-Identifier: GPL-2.0-only
/*
 * Posted timer interrupts: the hrtimer fires on a housekeeping CPU while the
 * vCPU is in guest mode.  What the callback does then, and how often the guest
 * is left for it.  Needs nohz_full and CPUs that post interrupts, or kvm.ko with
 * host/double/.  Prints TAP.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "posted_guest.h"

#define HALT		BIT(GUEST_HALT)
#define SPIN		BIT(GUEST_SPIN)
#define BOTH		(HALT | SPIN)

/**
 * struct scenario - one row of the table
 * @name: what it shows
 * @host: runs it
 * @guest: what runs in the guest
 * @waits: what the guest does meanwhile
 * @arg: arguments of @guest
 * @flags: of vm_create()
 */
struct scenario {
	const char *name;
	void (*host)(const struct scenario *s, struct vm *vm);
	void (*guest)(void);
	unsigned int waits;
	__u64 arg[GUEST_MAX_ARGS];
	unsigned int flags;
};

/* What the host counts. */
struct counts {
	__u64 updates, looks_sw, expired, posted, rearmed, disarmed, deferred,
	      lost, policy_hits, exits, kicks, interrupts, preempted;
};

/* How often another task has taken this one's CPU: kicks as well, if from afar. */
static __u64 preemptions(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage))
		vm_die("cannot read what this thread has used");
	return usage.ru_nivcsw;
}

static struct counts count(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];

	return (struct counts) {
		.updates = vcpu_lazy_stat(vcpu, "updates"),
		.looks_sw = vcpu_lazy_stat(vcpu, "looks_sw"),
		.expired = vcpu_lazy_stat(vcpu, "expired"),
		.posted = vcpu_lazy_stat(vcpu, "posted"),
		.rearmed = vcpu_lazy_stat(vcpu, "rearmed"),
		.disarmed = vcpu_lazy_stat(vcpu, "disarmed"),
		.deferred = vcpu_lazy_stat(vcpu, "deferred"),
		.lost = vcpu_lazy_stat(vcpu, "lost"),
		.policy_hits = vcpu_lazy_stat(vcpu, "policy_hits"),
		.exits = vcpu_stat(vcpu, "exits"),
		.kicks = harness_kicks(),
		.interrupts = harness_interrupts(),
		.preempted = preemptions(),
	};
}

static struct counts count_since(struct vm *vm, const struct counts *before)
{
	struct counts c = count(vm);

	c.updates -= before->updates;
	c.looks_sw -= before->looks_sw;
	c.expired -= before->expired;
	c.posted -= before->posted;
	c.rearmed -= before->rearmed;
	c.disarmed -= before->disarmed;
	c.deferred -= before->deferred;
	c.lost -= before->lost;
	c.policy_hits -= before->policy_hits;
	c.exits -= before->exits;
	c.kicks -= before->kicks;
	c.interrupts -= before->interrupts;
	c.preempted -= before->preempted;
	harness_note("looks %llu expired %llu posted %llu re-armed %llu disarmed %llu",
		     c.looks_sw, c.expired, c.posted, c.rearmed, c.disarmed);
	harness_note("deferred %llu lost %llu traps %llu guessed %llu exits %llu",
		     c.deferred, c.lost, c.updates, c.policy_hits, c.exits);
	return c;
}

/* Between the guest's next two calls */
static struct counts count_between(struct vm *vm)
{
	struct counts before;

	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	before = count(vm);
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	return count_since(vm, &before);
}

/* Looks that only re-arm: nothing is injected, and the guest is not left. */
static void run_chase(const struct scenario *s, struct vm *vm)
{
	__u64 looks = s->arg[ARG_LOOKS], allowed, others;
	struct guest_cpu *cpu = vm_cpu(vm, 0);
	struct counts c;

	others = count_between(vm).exits;
	c = count_between(vm);
	others = others * cpu->result[CHASE_TICKS] / cpu->result[CHASE_ALONE];
	harness_note("guest: %llu interrupts, %llu traps", cpu->result[CHASE_FIRED],
		     cpu->result[CHASE_TRAPS]);
	harness_note("host: %llu kicks, %llu preemptions, %llu other interrupts; %llu exits alone",
		     c.kicks, c.preempted, c.interrupts, others);
	/* Emulation may stop for longer than the guest is ahead. */
	check(cpu->result[CHASE_FIRED] <= looks / 3);
	check(cpu->result[CHASE_TRAPS] <= looks / 3);
	check(c.rearmed >= looks - cpu->result[CHASE_TRAPS]);
	/* An interrupt: the kick, its injection, its EOI. */
	allowed = looks / 2 + cpu->result[CHASE_TRAPS] + 3 * cpu->result[CHASE_FIRED];
	check(c.kicks < c.preempted + allowed);
	/*
	 * The host has other reasons to leave a guest: those that are always there,
	 * in a debug kernel quite a few, and a tick for as long as another task
	 * wants this CPU.  No exit may be without one of them.
	 */
	check(c.exits < c.kicks + c.interrupts + others + allowed);
	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
}

/* Deadlines one by one: found expired by the callback, which injects. */
static void run_posted(const struct scenario *s, struct vm *vm)
{
	struct counts zero = { 0 }, c;

	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	c = count_since(vm, &zero);
	/* Now and then the vCPU is outside for some reason of its host. */
	check(c.posted >= s->arg[ARG_ROUNDS] / 2);
}

/* A rhythm: the callback arms the next beat as well, and few writes trap. */
static void run_rhythm(const struct scenario *s, struct vm *vm)
{
	struct counts zero = { 0 }, c;
	__u64 beats = s->arg[ARG_ROUNDS];

	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	c = count_since(vm, &zero);
	check(c.posted >= beats / 2);
	check(c.policy_hits >= beats / 4);
	/* Without guesses, each beat traps. */
	check(c.updates <= beats * 3 / 4);
}

/* The callback finds the vCPU outside of the guest, in user space. */
static void run_outside(const struct scenario *s, struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	struct counts before, c;
	__u64 fired;

	harness_until(vcpu, GUEST_CALL_SYNC);
	before = count(vm);
	fired = vm_cpu(vm, 0)->fired;
	/* Beyond the look, but not beyond the deadline. */
	harness_sleep_ms((s->arg[ARG_FIRST_MS] + s->arg[ARG_SECOND_MS]) / 2);
	c = count_since(vm, &before);
	check(c.rearmed >= 1);
	check_eq(c.expired, 0);
	harness_sleep_ms(s->arg[ARG_SECOND_MS]);
	c = count_since(vm, &before);
	check_eq(c.expired, 1);
	check_eq(c.posted, 0);
	check_eq(vm_cpu(vm, 0)->fired, fired);
	harness_until(vcpu, GUEST_CALL_DONE);
}

/* The callback must not touch the record: the vCPU has to. */
static void run_deferred(const struct scenario *s, struct vm *vm)
{
	struct counts zero = { 0 }, c;

	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	c = count_since(vm, &zero);
	check(c.deferred >= s->arg[ARG_ROUNDS]);
	check_eq(c.posted, 0);
}

static void run_cancelled(const struct scenario *s, struct vm *vm)
{
	struct counts before, c;

	(void)s;
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	before = count(vm);
	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	c = count_since(vm, &before);
	check(c.disarmed >= 1);
}

static void run_overwritten(const struct scenario *s, struct vm *vm)
{
	struct counts zero = { 0 }, c;

	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	c = count_since(vm, &zero);
	check(c.lost >= s->arg[ARG_ROUNDS]);
	check(c.posted >= s->arg[ARG_ROUNDS]);
}

static void on_signal(int number)
{
	(void)number;
}

static void start_signals(long us)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct sigevent event = {
		.sigev_notify = SIGEV_SIGNAL,
		.sigev_signo = SIGUSR1,
	};
	struct itimerspec period = {
		.it_interval.tv_nsec = us * 1000,
		.it_value.tv_nsec = us * 1000,
	};
	timer_t timer;

	sigaction(SIGUSR1, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) ||
	    timer_settime(timer, 0, &period, NULL))
		vm_die("cannot make a timer");
}

/*
 * The vCPU leaves while a callback is at work for it, and its state is read:
 * from then on nothing may appear in the record, as it may have been saved.
 */
static void run_flushed(const struct scenario *s, struct vm *vm)
{
	struct lazy_tscdeadline_record *r = vm_record(vm, 0);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_lapic_state lapic;
	struct counts zero = { 0 };
	unsigned int flushes = 0;
	struct timespec begin, t;
	int got;

	(void)s;
	start_signals(7300);
	while ((got = vcpu_run(vcpu)) == -EINTR) {
		vcpu_get_lapic(vcpu, &lapic);
		check_eq(READ_ONCE(r->armed), 0);
		clock_gettime(CLOCK_MONOTONIC, &begin);
		do {
			check_eq(READ_ONCE(r->armed), 0);
			clock_gettime(CLOCK_MONOTONIC, &t);
		} while ((t.tv_sec - begin.tv_sec) * 1000000000L +
			 t.tv_nsec - begin.tv_nsec < 300000);
		flushes++;
	}
	if (got == GUEST_CALL_FAIL)
		harness_guest_failed(vcpu);
	check_eq(got, GUEST_CALL_DONE);
	harness_note("%u flushes", flushes);
	check(flushes >= 10);
	check(count_since(vm, &zero).policy_hits);
}

static const struct scenario scenarios[] = {
	{ "looks that re-arm do not leave the guest", run_chase, guest_chase,
	  SPIN, { 30, 50000 } },
	{ "an expiry is posted", run_posted, guest_rounds, BOTH, { 20, 10000 } },
	{ "moved later, then posted", run_posted, guest_rounds, BOTH,
	  { 10, 10000, 20000 } },
	{ "the next beat is armed where one is posted", run_rhythm,
	  guest_rhythm, BOTH, { 100, 10000 } },
	{ "outside of the guest", run_outside, guest_operation, BOTH,
	  { OP_NONE, 100, 400 } },
	{ "deferred", run_deferred, guest_rounds, BOTH,
	  { 10, 10000, 20000 }, VM_DIRTY_LOG },
	{ "cancelled", run_cancelled, guest_operation, SPIN,
	  { OP_CANCEL, 150, 250 } },
	{ "the record is overwritten", run_overwritten, guest_overwrite, BOTH,
	  { 5 } },
	{ "nothing is published behind a flush", run_flushed, guest_rhythm,
	  BOTH, { 1500, 1000 } },
};

struct variant {
	const struct scenario *scenario;
	int wait;
};

static void run_variant(const void *arg)
{
	const struct variant *v = arg;
	const struct scenario *s = v->scenario;
	struct vm *vm = vm_create(1, s->flags, s->guest);
	struct guest_cpu *c = vm_cpu(vm, 0);

	c->dialect = GUEST_OURS;
	c->wait = v->wait;
	memcpy(c->arg, s->arg, sizeof(c->arg));
	s->host(s, vm);
	harness_note_vm(vm);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	static const char * const wait_names[] = { "halted", "busy" };
	struct variant v;
	char name[128];
	size_t i;

	harness_init(0);
	harness_posted();
	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		v.scenario = &scenarios[i];
		for (v.wait = 0; v.wait < GUEST_NR_WAITS; v.wait++) {
			snprintf(name, sizeof(name), "%s (%s)",
				 v.scenario->name, wait_names[v.wait]);
			if (v.scenario->waits & BIT(v.wait) &&
			    (argc < 2 || strstr(name, argv[1])))
				harness_run(name, run_variant, &v);
		}
	}
	return harness_finish();
}
