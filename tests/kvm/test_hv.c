// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the host keeps the timer: in the VMX preemption timer ("hv timer") while
 * the vCPU runs, in an hrtimer while it does not, and if that one is of no use.
 * Whatever the place, what is published stands.  Runs on hosts without an hv
 * timer as well, where the hrtimer is expected throughout.  Prints TAP.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "hv_guest.h"
#include "trace.h"

/* Beyond the 32 bits of the hv timer at any of its rates, and at the lowest. */
#define FAR_TICKS	0x10000000000ULL
#define RANGE_TICKS	0x108000000ULL

#define PLAIN		BIT(GUEST_PLAIN)
#define LAZY		(BIT(GUEST_RFC) | BIT(GUEST_OURS))
#define OURS		BIT(GUEST_OURS)
#define HALT		BIT(GUEST_HALT)
#define SPIN		BIT(GUEST_SPIN)
#define BOTH		(HALT | SPIN)

/* What a row needs, to be run at all. */
#define NEEDS_CPUS	BIT(0)	/* several */
#define NEEDS_VMX	BIT(1)

/**
 * struct scenario - one row of the table
 * @name: what it shows
 * @host: runs it
 * @guest: what runs in the guest
 * @dialects: who programs the timer
 * @waits: what the guest does meanwhile
 * @arg: arguments of @guest
 * @needs: NEEDS_*
 */
struct scenario {
	const char *name;
	void (*host)(const struct scenario *s, struct vm *vm, int wait);
	void (*guest)(void);
	unsigned int dialects, waits;
	__u64 arg[GUEST_MAX_ARGS];
	unsigned int needs;
};

static bool host_is_vmx(void)
{
	return !access("/sys/module/kvm_intel", R_OK);
}

static bool in_hv_timer(struct vm *vm)
{
	return vcpu_lazy_stat(&vm->vcpus[0], "hv_timer");
}

static void note(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_note("updates %llu looks: hrtimer %llu vCPU %llu; rearmed %llu expired %llu",
		     vcpu_lazy_stat(vcpu, "updates"),
		     vcpu_lazy_stat(vcpu, "looks_sw"),
		     vcpu_lazy_stat(vcpu, "looks_vcpu"),
		     vcpu_lazy_stat(vcpu, "rearmed"),
		     vcpu_lazy_stat(vcpu, "expired"));
	harness_note_vm(vm);
}

static void finish(struct vm *vm)
{
	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	note(vm);
}

/* Published is the deadline, less what KVM's timers are early by. */
static void check_armed_for(struct vm *vm, __u64 deadline)
{
	struct guest_cpu *c = vm_cpu(vm, 0);
	__u64 armed = READ_ONCE(vm_record(vm, 0)->armed);

	check(armed <= deadline);
	check(armed >= deadline - c->khz / 10);
	check_eq(vcpu_lazy_stat(&vm->vcpus[0], "armed"), armed);
}

static void run_far(const struct scenario *s, struct vm *vm, int wait)
{
	struct guest_cpu *c = vm_cpu(vm, 0);

	(void)s;
	(void)wait;
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	check_armed_for(vm, c->wanted);
	check(!in_hv_timer(vm));
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	check_armed_for(vm, c->wanted);
	check_eq(in_hv_timer(vm), vm_host_has_hv_timer());
	finish(vm);
}

/* Wait in another thread than the vCPU's until the record says something else. */
static void await_look(struct vm *vm, __u64 armed)
{
	struct lazy_tscdeadline_record *r = vm_record(vm, 0);

	while (READ_ONCE(r->armed) == armed || !READ_ONCE(r->armed))
		harness_sleep_ms(1);
}

static void run_far_look(const struct scenario *s, struct vm *vm, int wait)
{
	struct guest_cpu *c = vm_cpu(vm, 0);
	struct harness_job *job;
	__u64 first;

	(void)s;
	(void)wait;
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	first = READ_ONCE(vm_record(vm, 0)->armed);
	check(first && first < c->wanted);
	check_eq(in_hv_timer(vm), vm_host_has_hv_timer());
	job = harness_start(&vm->vcpus[0], -1);
	await_look(vm, first);
	/* A halted vCPU has yet to be put to the hrtimer, or is there. */
	while (in_hv_timer(vm))
		harness_sleep_ms(1);
	check_armed_for(vm, c->wanted);
	vm_signal_msi(vm, 0, GUEST_CONTROL_VECTOR);
	harness_join(job);
	note(vm);
	check(vcpu_lazy_stat(&vm->vcpus[0], "rearmed"));
}

static void run_far_wait(const struct scenario *s, struct vm *vm, int wait)
{
	(void)s;
	(void)wait;
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	check_armed_for(vm, vm_cpu(vm, 0)->wanted);
	harness_note("%llu ms in the %s", vm_cpu(vm, 0)->arg[HV_TICKS] /
		     vm_cpu(vm, 0)->khz, in_hv_timer(vm) ? "hv timer" : "hrtimer");
	finish(vm);
}

static void run_to_end(const struct scenario *s, struct vm *vm, int wait)
{
	(void)s;
	(void)wait;
	finish(vm);
}

/* The vCPU is in this phase and its timer there: then the promise stands. */
static void check_place(struct vm *vm, __u64 phase, bool hv, __u64 armed)
{
	struct guest_cpu *c = vm_cpu(vm, 0);

	while (READ_ONCE(c->result[HV_PHASE]) != phase || in_hv_timer(vm) != hv)
		harness_sleep_ms(1);
	check_eq(READ_ONCE(vm_record(vm, 0)->armed), armed);
	check_eq(vcpu_lazy_stat(&vm->vcpus[0], "armed"), armed);
	vm_signal_msi(vm, 0, GUEST_CONTROL_VECTOR);
}

static void run_places(const struct scenario *s, struct vm *vm, int wait)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	struct harness_job *job;
	__u64 armed, round, looks;

	harness_until(vcpu, GUEST_CALL_SYNC);
	armed = READ_ONCE(vm_record(vm, 0)->armed);
	check(armed && armed < vm_cpu(vm, 0)->wanted);
	check_eq(in_hv_timer(vm), vm_host_has_hv_timer());
	looks = vcpu_lazy_stat(vcpu, "looks_vcpu");
	job = harness_start(vcpu, -1);
	for (round = 0; round < s->arg[HV_ROUNDS]; round++) {
		check_place(vm, 2 * round + 1, false, armed);
		check_place(vm, 2 * round + 2, vm_host_has_hv_timer(), armed);
	}
	check(vcpu_lazy_stat(vcpu, "now") < armed);
	harness_join(job);
	note(vm);
	/* It did look, and where it should. */
	if (wait == GUEST_SPIN && vm_host_has_hv_timer())
		check(vcpu_lazy_stat(vcpu, "looks_vcpu") > looks);
	else
		check(vcpu_lazy_stat(vcpu, "looks_sw"));
	check(vcpu_lazy_stat(vcpu, "rearmed"));
}

/*
 * What of it leaves KVM's inner loop?  "Slow" are exits that no fast path has
 * handled, "left" those that one has, but after which something else was to do.
 */
struct exits {
	__u64 hv_timer, msr_write, slow, left;
};

#define EXIT_REASON_MSR_WRITE		32
#define EXIT_REASON_PREEMPTION_TIMER	52
#define FASTPATH_NONE			0
#define FASTPATH_EXIT_HANDLED		2

static void run_traced(struct vm *vm, struct exits *e)
{
	trace_probe("vmx_handle_exit", "fastpath=%si:u32");
	trace_count(TRACE_PROBE, "fastpath");
	trace_count("kvm/kvm_exit", "exit_reason");
	finish(vm);
	e->hv_timer = trace_hits("kvm/kvm_exit", EXIT_REASON_PREEMPTION_TIMER);
	e->msr_write = trace_hits("kvm/kvm_exit", EXIT_REASON_MSR_WRITE);
	e->slow = trace_hits(TRACE_PROBE, FASTPATH_NONE);
	e->left = trace_hits(TRACE_PROBE, FASTPATH_EXIT_HANDLED);
	harness_note("exits: hv timer %llu MSR write %llu; slow %llu, left the loop %llu",
		     e->hv_timer, e->msr_write, e->slow, e->left);
	trace_end();
}

/* A look that re-arms goes back into the guest at once. */
static void run_chase(const struct scenario *s, struct vm *vm, int wait)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 rearmed, expired;
	struct exits e;

	(void)wait;
	harness_until(vcpu, GUEST_CALL_SYNC);
	run_traced(vm, &e);
	check(vm_cpu(vm, 0)->result[HV_LOOKS] >= s->arg[HV_ROUNDS]);
	rearmed = vcpu_lazy_stat(vcpu, "rearmed");
	expired = vcpu_lazy_stat(vcpu, "expired");
	check(rearmed >= s->arg[HV_ROUNDS] / 2);
	if (vm_host_has_hv_timer()) {
		check(vcpu_lazy_stat(vcpu, "looks_vcpu") >= rearmed);
		check(e.hv_timer >= rearmed);
		check(e.left <= expired + rearmed / 4);
	} else {
		check_eq(e.hv_timer, 0);
		check(vcpu_lazy_stat(vcpu, "looks_sw") >= rearmed);
	}
}

/* So does a write of the deadline. */
static void run_earlier(const struct scenario *s, struct vm *vm, int wait)
{
	__u64 writes = s->arg[HV_ROUNDS];
	struct exits e;

	(void)wait;
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	run_traced(vm, &e);
	check(vcpu_lazy_stat(&vm->vcpus[0], "updates") >= writes);
	check(e.msr_write >= writes);
	if (vm_host_has_hv_timer())
		check(e.slow + e.left < writes / 2);
	else
		check(e.slow >= writes);
}

/* Takes the CPU away from the vCPU, for longer than its deadlines. */
static bool thief_stop;
static unsigned int thief_bursts;

static void *thief(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct timespec now, end;

	(void)arg;
	harness_pin(0);
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		vm_die("SCHED_FIFO");
	while (!READ_ONCE(thief_stop)) {
		clock_gettime(CLOCK_MONOTONIC, &end);
		end.tv_nsec += 7000000;
		do {
			clock_gettime(CLOCK_MONOTONIC, &now);
		} while ((now.tv_sec - end.tv_sec) * 1000000000L +
			 now.tv_nsec - end.tv_nsec < 0);
		WRITE_ONCE(thief_bursts, thief_bursts + 1);
		harness_sleep_ms(4);
	}
	return NULL;
}

static void run_preempted(const struct scenario *s, struct vm *vm, int wait)
{
	struct harness_job *job;
	pthread_t thread;

	(void)wait;
	thief_stop = false;
	thief_bursts = 0;
	if (pthread_create(&thread, NULL, thief, NULL))
		vm_die("cannot create a thread");
	job = harness_start(&vm->vcpus[0], 0);
	harness_join(job);
	WRITE_ONCE(thief_stop, true);
	pthread_join(thread, NULL);
	harness_note("preempted %u times", thief_bursts);
	harness_note_vm(vm);
	check(thief_bursts >= s->arg[ARG_ROUNDS] / 2);
}

/* Moves that must have come about; more come with slow emulation. */
#define MIN_MOVES	5

static void run_roaming(const struct scenario *s, struct vm *vm, int wait)
{
	struct harness_job *job = harness_start(&vm->vcpus[0], -1);
	unsigned int moves = harness_roam(job, 2);

	(void)s;
	(void)wait;
	harness_join(job);
	harness_note("moved %u times", moves);
	harness_note_vm(vm);
	check(moves >= MIN_MOVES);
}

/* To another CPU while a look is published: KVM starts the timer again there. */
static void run_moved(const struct scenario *s, struct vm *vm, int wait)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	struct harness_job *job;
	__u64 armed, round;

	(void)wait;
	harness_pin(0);
	harness_until(vcpu, GUEST_CALL_SYNC);
	armed = READ_ONCE(vm_record(vm, 0)->armed);
	job = harness_start(vcpu, 1);
	for (round = 0; round < s->arg[HV_ROUNDS]; round++) {
		check_place(vm, 2 * round + 1, false, armed);
		harness_place(job, round);
		check_place(vm, 2 * round + 2, vm_host_has_hv_timer(), armed);
		harness_place(job, round + 1);
	}
	check(vcpu_lazy_stat(vcpu, "now") < armed);
	harness_join(job);
	note(vm);
	check(vcpu_lazy_stat(vcpu, "rearmed"));
}

/*
 * The look is due while the thread is not in KVM, and comes when the vCPU is
 * loaded on the other CPU, as KVM starts the timer again there.
 */
static void run_moved_late(const struct scenario *s, struct vm *vm, int wait)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 armed;

	(void)s;
	(void)wait;
	harness_pin(0);
	harness_until(vcpu, GUEST_CALL_SYNC);
	armed = READ_ONCE(vm_record(vm, 0)->armed);
	check_eq(in_hv_timer(vm), vm_host_has_hv_timer());
	while (vcpu_lazy_stat(vcpu, "now") <= armed)
		harness_sleep_ms(1);
	/* With an hrtimer the look is over by now; the hv timer runs in the guest. */
	if (vm_host_has_hv_timer())
		check_eq(READ_ONCE(vm_record(vm, 0)->armed), armed);
	harness_pin(1);
	finish(vm);
	check(vcpu_lazy_stat(vcpu, "rearmed"));
}

#define ROW(title, host, guest, dialects, waits, ...) \
	{ title, host, guest, dialects, waits, { __VA_ARGS__ } }
#define ROW_CPUS(title, host, guest, dialects, waits, ...) \
	{ title, host, guest, dialects, waits, { __VA_ARGS__ }, NEEDS_CPUS }
#define ROW_VMX(title, host, guest, dialects, waits, ...) \
	{ title, host, guest, dialects, waits, { __VA_ARGS__ }, NEEDS_VMX }

static const struct scenario scenarios[] = {
	ROW("far beyond the hv timer's range", run_far, guest_far, LAZY, BOTH,
	    0, FAR_TICKS, 300000),
	ROW("a look finds a far deadline", run_far_look, guest_far_look, LAZY,
	    BOTH, 0, FAR_TICKS, 200000),
	ROW("beyond 32 bits of TSC, until it comes", run_far_wait,
	    guest_far_wait, OURS, HALT, 0, RANGE_TICKS, 30000),
	ROW("on the verge of the past", run_to_end, guest_verge, LAZY, BOTH,
	    200, 0, 100),
	ROW("halted and busy in turns, look by look", run_places, guest_places,
	    LAZY, BOTH, 8, 0, 3000000, 3200000),
	ROW("preempted beyond its deadlines", run_preempted, guest_rounds,
	    LAZY | PLAIN, BOTH, 20, 3000, 5000, 9000),
	ROW_VMX("looks that re-arm stay in the fast path", run_chase,
		guest_chase_looks, LAZY, SPIN, 100, 0, 2000, 4000),
	ROW_VMX("writes of the deadline stay in the fast path", run_earlier,
		guest_earlier, LAZY, SPIN, 300, 0, 500000),
	ROW_CPUS("moved from CPU to CPU", run_roaming, guest_rounds,
		 LAZY | PLAIN, BOTH, 20, 3000, 5000, 9000),
	ROW_CPUS("moved while a look is published", run_moved, guest_places,
		 LAZY, BOTH, 8, 0, 3000000, 3200000),
	ROW_CPUS("moved when the look is due", run_moved_late, guest_published,
		 LAZY, BOTH, 0, 0, 100000, 1000000),
};

struct variant {
	const struct scenario *scenario;
	int dialect, wait;
};

static void run_variant(const void *arg)
{
	const struct variant *v = arg;
	const struct scenario *s = v->scenario;
	struct vm *vm = vm_create(1, 0, s->guest);
	struct guest_cpu *c = vm_cpu(vm, 0);

	c->dialect = v->dialect;
	c->wait = v->wait;
	memcpy(c->arg, s->arg, sizeof(c->arg));
	s->host(s, vm, v->wait);
	vm_destroy(vm);
}

static void run_row(const struct scenario *s, const char *pattern)
{
	char name[160];
	int d, w;

	for (d = 0; d < GUEST_NR_DIALECTS; d++) {
		for (w = 0; w < GUEST_NR_WAITS; w++) {
			struct variant v = { s, d, w };

			if (!(s->dialects & 1U << d) || !(s->waits & 1U << w))
				continue;
			harness_name(name, sizeof(name), s->name, d, w);
			if (pattern && !strstr(name, pattern))
				continue;
			if (s->needs & NEEDS_VMX && !host_is_vmx())
				harness_skip(name, "not VMX");
			else if (s->needs & NEEDS_CPUS && harness_nr_cpus() < 2)
				harness_skip(name, "one CPU");
			else
				harness_run(name, run_variant, &v);
		}
	}
}

int main(int argc, char **argv)
{
	size_t i;

	harness_init(120);
	for (i = 0; i < ARRAY_SIZE(scenarios); i++)
		run_row(&scenarios[i], argc > 1 ? argv[1] : NULL);
	return harness_finish();
}
