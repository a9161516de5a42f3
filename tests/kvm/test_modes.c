// SPDX-License-Identifier: GPL-2.0-only
/*
 * The LAPIC timer's one-shot and periodic modes with a record enabled: as without
 * one, and deadlines are lazy again afterwards.  Prints TAP.
 */
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "mode_guest.h"

#define PLAIN		BIT(GUEST_PLAIN)
#define LAZY		(BIT(GUEST_RFC) | BIT(GUEST_OURS))
#define ALL		(PLAIN | LAZY)

/**
 * struct scenario - one row of the table
 * @name: what it shows
 * @op: what the guest does half-way, an enum mode_op
 * @dialects: who programs the timer
 * @shots: of a one-shot timer, each round has its interrupt
 * @at_sync: what the host does when the guest calls
 */
struct scenario {
	const char *name;
	int op;
	unsigned int dialects;
	bool shots;
	void (*at_sync)(struct vcpu *vcpu, bool lazy);
};

/* The timer is none of our business while it is not in deadline mode. */
static void check_not_ours(struct vcpu *vcpu, bool lazy)
{
	check_eq(vm_record(vcpu->vm, vcpu->id)->armed, 0);
	check_eq(vcpu_get_msr(vcpu, GUEST_MSR_TSC_DEADLINE), 0);
	if (!lazy)
		return;
	check_eq(vcpu_lazy_stat(vcpu, "enabled"), 1);
	check_eq(vcpu_lazy_stat(vcpu, "armed"), 0);
	check_eq(vcpu_lazy_stat(vcpu, "look"), 0);
}

static void sync_get_lapic(struct vcpu *vcpu, bool lazy)
{
	struct kvm_lapic_state lapic;

	vcpu_get_lapic(vcpu, &lapic);
	check_not_ours(vcpu, lazy);
}

#define LAPIC_TMCCT	0x390

/*
 * This ends lazy mode, in all modes.  Not if the timer has expired by then: to KVM
 * a count of 0 means that a one-shot timer expires now, be it once more.
 */
static void sync_set_lapic(struct vcpu *vcpu, bool lazy)
{
	struct kvm_lapic_state lapic;

	check_not_ours(vcpu, lazy);
	vcpu_get_lapic(vcpu, &lapic);
	if (!*(__u32 *)(lapic.regs + LAPIC_TMCCT)) {
		harness_note("too late to set it");
		return;
	}
	vcpu_set_lapic(vcpu, &lapic);
	check_eq(vcpu_get_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE), 0);
}

static const struct scenario scenarios[] = {
	{ "undisturbed", MODE_NONE, ALL, true, NULL },
	{ "current count", MODE_CURRENT, ALL, true, NULL },
	{ "stopped", MODE_STOP, ALL, false, NULL },
	{ "begun again", MODE_AGAIN, ALL, true, NULL },
	{ "masked for a while", MODE_MASK, ALL, false, NULL },
	{ "record disabled and enabled", MODE_RECORD, LAZY, true, NULL },
	{ "deadlines mean nothing", MODE_PENDING, ALL, true, NULL },
	{ "left at once", MODE_DEADLINE, ALL, false, NULL },
	{ "the VMM reads the MSR", MODE_SYNC, ALL, true, check_not_ours },
	{ "KVM_GET_LAPIC", MODE_SYNC, ALL, true, sync_get_lapic },
	{ "KVM_SET_LAPIC", MODE_SYNC, ALL, true, sync_set_lapic },
};

#define ROUNDS		2
#define COUNT_US	3000
/* Where user space has to be back before it is over. */
#define SYNC_US		20000

struct variant {
	const struct scenario *scenario;
	int dialect, wait;
	bool periodic;
};

static void check_results(const struct variant *v, struct guest_cpu *c)
{
	const struct scenario *s = v->scenario;

	harness_note("shots %llu, rounds of periods %llu, of %u rounds",
		     c->result[MODE_SHOTS], c->result[MODE_PERIODS], ROUNDS);
	if (!v->periodic) {
		/*
		 * Where emulation is slow it may be over before it is half over;
		 * and of one that expires while masked, KVM delivers the
		 * interrupt afterwards.
		 */
		check(c->result[MODE_SHOTS] <= ROUNDS);
		if (s->shots)
			check_eq(c->result[MODE_SHOTS], ROUNDS);
	} else if (s->op != MODE_STOP && s->op != MODE_DEADLINE) {
		check_eq(c->result[MODE_PERIODS], ROUNDS);
	}
	if (v->dialect != GUEST_PLAIN)
		check(c->skips >= ROUNDS);
}

static void run_variant(const void *arg)
{
	const struct variant *v = arg;
	const struct scenario *s = v->scenario;
	struct vm *vm = vm_create(1, 0, guest_mode);
	struct guest_cpu *c = vm_cpu(vm, 0);
	struct vcpu *vcpu = &vm->vcpus[0];
	int call;

	c->dialect = v->dialect;
	c->wait = v->wait;
	c->arg[MODE_ROUNDS] = ROUNDS;
	c->arg[MODE_LVTT] = v->periodic ? GUEST_LVTT_PERIODIC : GUEST_LVTT_ONESHOT;
	c->arg[MODE_US] = s->at_sync ? SYNC_US : COUNT_US;
	c->arg[MODE_OP] = s->op;
	while ((call = vcpu_run(vcpu)) == GUEST_CALL_SYNC)
		s->at_sync(vcpu, v->dialect != GUEST_PLAIN);
	if (call == GUEST_CALL_FAIL)
		harness_guest_failed(vcpu);
	check_eq(call, GUEST_CALL_DONE);
	harness_note_vm(vm);
	check_results(v, c);
	vm_destroy(vm);
}

static void run_row(struct variant *v, const char *pattern)
{
	char title[80], name[160];

	snprintf(title, sizeof(title), "%s: %s",
		 v->periodic ? "periodic" : "one-shot", v->scenario->name);
	for (v->dialect = 0; v->dialect < GUEST_NR_DIALECTS; v->dialect++) {
		for (v->wait = 0; v->wait < GUEST_NR_WAITS; v->wait++) {
			if (!(v->scenario->dialects & 1U << v->dialect))
				continue;
			harness_name(name, sizeof(name), title, v->dialect,
				     v->wait);
			if (!pattern || strstr(name, pattern))
				harness_run(name, run_variant, v);
		}
	}
}

int main(int argc, char **argv)
{
	struct variant v;
	size_t i;

	harness_init(0);
	for (i = 0; i < 2 * ARRAY_SIZE(scenarios); i++) {
		v.scenario = &scenarios[i / 2];
		v.periodic = i % 2;
		run_row(&v, argc > 1 ? argv[1] : NULL);
	}
	return harness_finish();
}
