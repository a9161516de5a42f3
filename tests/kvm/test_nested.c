// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests that run guests of their own: a timer of the outer guest that expires
 * while the inner one runs.  A look that finds nothing due must not be an exit
 * of the inner guest, and an expiry is one.  Prints TAP.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "nested_guest.h"

/**
 * struct scenario - one row of the table
 * @name: what it shows
 * @host: runs it
 * @guest: what runs in the outer guest
 * @arg: its arguments
 * @flags: of vm_create()
 */
struct scenario {
	const char *name;
	void (*host)(const struct scenario *s, struct vm *vm);
	void (*guest)(void);
	__u64 arg[GUEST_MAX_ARGS];
	unsigned int flags;
};

static void note(struct vm *vm)
{
	struct guest_cpu *c = vm_cpu(vm, 0);
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_note("inner guest: entries %llu interrupts %llu looks seen %llu",
		     c->result[NESTED_RUNS], c->result[NESTED_INTR],
		     c->result[NESTED_LOOKS]);
	harness_note("looks %llu and %llu re-armed %llu expired %llu deferred %llu",
		     vcpu_lazy_stat(vcpu, "looks_sw"),
		     vcpu_lazy_stat(vcpu, "looks_vcpu"),
		     vcpu_lazy_stat(vcpu, "rearmed"),
		     vcpu_lazy_stat(vcpu, "expired"),
		     vcpu_lazy_stat(vcpu, "deferred"));
}

/* Where emulation is slow, a look may find the second deadline expired as well. */
#define MIN_LOOKS	3

/* Where is the timer while the inner guest runs, or has halted? */
static bool in_hv_timer(const struct scenario *s)
{
	return s->arg[ARG_INNER] != INNER_HALT && vm_host_has_hv_timer();
}

/* Some rounds at least had a look that armed a later deadline. */
static void run(const struct scenario *s, struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_until(vcpu, GUEST_CALL_DONE);
	note(vm);
	check(vcpu_stat(vcpu, "nested_run") >= s->arg[ARG_ROUNDS]);
	/* Or the host armed it when the vCPU halted, and was spared the look. */
	check(vcpu_lazy_stat(vcpu, "rearmed") + vcpu_lazy_stat(vcpu, "spared") >=
	      MIN_LOOKS);
	check(vcpu_lazy_stat(vcpu, in_hv_timer(s) ? "looks_vcpu" : "looks_sw") >=
	      MIN_LOOKS);
}

static void run_chase(const struct scenario *s, struct vm *vm)
{
	run(s, vm);
	check(vm_cpu(vm, 0)->result[NESTED_LOOKS] >= MIN_LOOKS);
}

static void run_deferred(const struct scenario *s, struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_until(vcpu, GUEST_CALL_DONE);
	note(vm);
	if (in_hv_timer(s)) {
		/* In vCPU context, where nothing has to be put off. */
		check(vcpu_lazy_stat(vcpu, "looks_vcpu") >= s->arg[ARG_ROUNDS]);
		check_eq(vcpu_lazy_stat(vcpu, "deferred"), 0);
		return;
	}
	check(vcpu_lazy_stat(vcpu, "deferred") >= s->arg[ARG_ROUNDS]);
	/* Done in vCPU context, which publishes again. */
	check(vcpu_lazy_stat(vcpu, "flushed") >= s->arg[ARG_ROUNDS]);
}

static void run_cancel(const struct scenario *s, struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_until(vcpu, GUEST_CALL_DONE);
	note(vm);
	/* The policy may arm a guess instead; nothing is injected either way. */
	check(vcpu_lazy_stat(vcpu, "disarmed") + vcpu_lazy_stat(vcpu, "rearmed") >=
	      s->arg[ARG_ROUNDS]);
	check_eq(vcpu_lazy_stat(vcpu, "expired"), 0);
}

/* The inner guest has the VMM read the outer one's timer: a plain deadline. */
static void run_flush(const struct scenario *s, struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	unsigned int flushes = 0;
	int got;

	(void)s;
	while ((got = vcpu_run(vcpu)) == GUEST_CALL_SYNC) {
		__u64 deadline = vcpu_get_msr(vcpu, GUEST_MSR_TSC_DEADLINE);

		/* It may have expired meanwhile. */
		if (deadline)
			check_eq(deadline, vm_cpu(vm, 0)->wanted);
		check_eq(vm_record(vm, 0)->armed, 0);
		flushes++;
	}
	if (got == GUEST_CALL_FAIL)
		harness_guest_failed(vcpu);
	check_eq(got, GUEST_CALL_DONE);
	note(vm);
	check(flushes >= MIN_LOOKS);
}

/* Signals and halts take the inner guest off the CPU all the time. */
static void run_disturbed(const struct scenario *s, struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	struct harness_job *job = harness_start(vcpu, -1);

	(void)s;
	harness_disturb(job, 3);
	harness_join(job);
	note(vm);
}

#define NESTED(title, host, guest, ...) \
	{ title, host, guest, { __VA_ARGS__ } }

static const struct scenario scenarios[] = {
	NESTED("the inner guest is busy", run, guest_nested,
	       8, INNER_SPIN, 50000, 100000),
	NESTED("the inner guest has halted", run, guest_nested,
	       8, INNER_HALT, 50000, 100000),
	NESTED("many looks while it runs", run_chase, guest_nested,
	       2, INNER_CHASE, 50000, 100000),
	NESTED("it programs the timer itself", run, guest_nested,
	       8, INNER_PROGRAM, 50000, 100000),
	NESTED("interrupts are its own", run, guest_nested_own,
	       8, INNER_SPIN, 50000, 100000),
	NESTED("cancelled before it runs", run_cancel, guest_nested_cancel,
	       8, INNER_SPIN, 50000, 100000),
	{ "deferred looks", run_deferred, guest_nested,
	  { 8, INNER_SPIN, 50000, 100000 }, VM_DIRTY_LOG },
	{ "deferred looks, halted", run_deferred, guest_nested,
	  { 8, INNER_HALT, 50000, 100000 }, VM_DIRTY_LOG },
	NESTED("the VMM reads the deadline", run_flush, guest_nested,
	       8, INNER_CALL, 50000, 100000),
	NESTED("disturbed by signals", run_disturbed, guest_nested,
	       15, INNER_SPIN, 20000, 50000),
	NESTED("disturbed by signals, halted", run_disturbed, guest_nested,
	       15, INNER_HALT, 20000, 50000),
};

struct variant {
	const struct scenario *scenario;
	int dialect;
};

static void run_variant(const void *arg)
{
	const struct variant *v = arg;
	const struct scenario *s = v->scenario;
	struct vm *vm = vm_create(1, s->flags, s->guest);
	struct guest_cpu *c = vm_cpu(vm, 0);

	c->dialect = v->dialect;
	memcpy(c->arg, s->arg, sizeof(c->arg));
	s->host(s, vm);
	harness_note_vm(vm);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	size_t i;

	harness_init(0);
	nested_vendor = vm_host_has_svm() ? &nested_svm :
			vm_host_has_vmx() ? &nested_vmx : NULL;
	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		struct variant v = { &scenarios[i], GUEST_OURS };

		if (argc > 1 && !strstr(v.scenario->name, argv[1]))
			continue;
		if (nested_vendor)
			harness_run(v.scenario->name, run_variant, &v);
		else
			harness_skip(v.scenario->name, "guests have no SVM or VMX");
	}
	return harness_finish();
}
