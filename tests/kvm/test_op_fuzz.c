// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations on the timer, from the guest and from the VMM, against a
 * reference model: each wanted deadline is delivered exactly once, none early,
 * none after it was cancelled.  Prints TAP and the seed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fuzz_guest.h"
#include "harness.h"

#define PAGE_SIZE	4096UL

static const char * const op_names[FUZZ_NR_OPS] = {
	"soon", "far", "past", "later", "earlier", "again", "cancel", "wait",
	"idle", "plain", "toggle", "move", "mask", "mode", "read", "host",
};

static struct {
	__u64 seed;
	unsigned int ops;
	int watchdog;
} options = { .ops = 3000 };

/**
 * struct campaign - one row of the table
 * @name: what it is
 * @dialect: who programs the timer
 * @vcpus: number of vCPUs, each with operations of its own
 * @disturb: the VMM also interrupts the guest anywhere and saves its state, or
 *	moves it to another CPU
 */
struct campaign {
	const char *name;
	int dialect;
	int vcpus;
	bool disturb;
};

static const struct campaign campaigns[] = {
	{ "plain", GUEST_PLAIN, 1, false },
	{ "ours", GUEST_OURS, 1, false },
	{ "RFC", GUEST_RFC, 1, false },
	{ "ours, disturbed", GUEST_OURS, 1, true },
	{ "RFC, disturbed", GUEST_RFC, 1, true },
	{ "ours, two vCPUs", GUEST_OURS, 2, false },
	{ "ours, two vCPUs, disturbed", GUEST_OURS, 2, true },
};

struct worker {
	struct vcpu *vcpu;
	pthread_t thread;
	pid_t tid;
	unsigned int random;
	bool done;
};

/*
 * Other memory with the same contents.  Between the two copies a look would
 * write to the old one, so make the deadline a plain one before.
 */
static void replace_memory(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	char copy[PAGE_SIZE];

	vcpu_get_msr(vcpu, GUEST_MSR_TSC_DEADLINE);
	check_eq(vm_record(vm, vcpu->id)->armed, 0);
	memcpy(copy, vm->record_page, PAGE_SIZE);
	if (mmap(vm->record_page, PAGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != vm->record_page)
		vm_die("mmap");
	memcpy(vm->record_page, copy, PAGE_SIZE);
}

static void host_operation(struct vcpu *vcpu, int op)
{
	struct kvm_lapic_state lapic;
	struct vm *vm = vcpu->vm;

	/* These need all vCPUs of the VM to stand still. */
	if (vm->nr_vcpus > 1 && (op == FUZZ_REPLACE_MEMORY || op == FUZZ_SLOT))
		op = FUZZ_GET_MSRS;
	switch (op) {
	case FUZZ_GET_LAPIC:
		vcpu_get_lapic(vcpu, &lapic);
		check_eq(vm_record(vm, vcpu->id)->armed, 0);
		break;
	case FUZZ_GET_MSRS:
		vcpu_get_msr(vcpu, GUEST_MSR_TSC_DEADLINE);
		check_eq(vm_record(vm, vcpu->id)->armed, 0);
		break;
	case FUZZ_SET_LAPIC:
		vcpu_get_lapic(vcpu, &lapic);
		vcpu_set_lapic(vcpu, &lapic);
		check_eq(vm_record(vm, vcpu->id)->armed, 0);
		break;
	case FUZZ_REPLACE_MEMORY:
		replace_memory(vcpu);
		break;
	case FUZZ_SLOT:
		vm_set_record_slot(vm, false);
		vm_set_record_slot(vm, true);
		break;
	}
}

/*
 * The guest is stopped anywhere, even between two instructions that belong
 * together, so only what leaves the LAPIC as it is.
 */
static void disturb(struct worker *w)
{
	host_operation(w->vcpu, rand_r(&w->random) % (FUZZ_SET_LAPIC + 1));
}

static void guest_failed(struct vcpu *vcpu)
{
	struct guest_cpu *c = vm_cpu(vcpu->vm, vcpu->id);
	int i;

	harness_note("vCPU %d: operation %llu, %s", c->id, c->result[FUZZ_DONE],
		     op_names[c->result[FUZZ_LAST] % FUZZ_NR_OPS]);
	for (i = 7; i >= 0; i--)
		harness_note("%d before: %s", i,
			     op_names[(c->result[FUZZ_TRAIL] >> 8 * i & 0xff) % FUZZ_NR_OPS]);
	harness_guest_failed(vcpu);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct guest_cpu *c = vm_cpu(w->vcpu->vm, w->vcpu->id);
	int got;

	WRITE_ONCE(w->tid, gettid());
	for (;;) {
		got = vcpu_run(w->vcpu);
		if (got == GUEST_CALL_DONE)
			break;
		if (got == GUEST_CALL_FAIL)
			guest_failed(w->vcpu);
		if (got == GUEST_CALL_SYNC)
			host_operation(w->vcpu, c->result[FUZZ_HOST]);
		else
			disturb(w);
	}
	WRITE_ONCE(w->done, true);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
}

static void hop(struct worker *w, unsigned int random)
{
	cpu_set_t set;

	harness_cpu(random, &set);
	/* It may not have begun, or be over. */
	if (READ_ONCE(w->tid))
		sched_setaffinity(w->tid, sizeof(set), &set);
}

static bool all_done(struct worker *workers, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (!READ_ONCE(workers[i].done))
			return false;
	return true;
}

static void run_campaign(const void *arg)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct worker workers[GUEST_MAX_CPUS] = { 0 };
	const struct campaign *campaign = arg;
	unsigned int random = options.seed;
	struct guest_cpu *c;
	struct vm *vm;
	int i;

	sigaction(SIGUSR1, &action, NULL);
	vm = vm_create(campaign->vcpus, 0, guest_fuzz);
	for (i = 0; i < campaign->vcpus; i++) {
		c = vm_cpu(vm, i);
		c->dialect = campaign->dialect;
		/* Neither 0 nor the same on all vCPUs. */
		c->arg[FUZZ_ARG_SEED] = (options.seed + i) * 2654435769ULL + 1;
		c->arg[FUZZ_ARG_OPS] = options.ops / campaign->vcpus;
		workers[i].vcpu = &vm->vcpus[i];
		workers[i].random = options.seed + i;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			vm_die("cannot create a thread");
	}
	while (campaign->disturb && !all_done(workers, campaign->vcpus)) {
		harness_sleep_ms(rand_r(&random) % 8);
		i = rand_r(&random) % campaign->vcpus;
		if (READ_ONCE(workers[i].done))
			continue;
		if (rand_r(&random) % 4)
			pthread_kill(workers[i].thread, SIGUSR1);
		else
			hop(&workers[i], rand_r(&random));
	}
	for (i = 0; i < campaign->vcpus; i++)
		pthread_join(workers[i].thread, NULL);
	harness_note_vm(vm);
	for (i = 0; i < campaign->vcpus; i++) {
		c = vm_cpu(vm, i);
		check(c->good);
		check(campaign->dialect == GUEST_PLAIN || c->skips);
	}
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	bool absent = false, posted = false;
	size_t i;

	options.seed = time(NULL);
	for (argv++; argc > 1; argc--, argv++) {
		if (!strcmp(*argv, "--expect-absent"))
			absent = true;
		else if (!strcmp(*argv, "--posted"))
			posted = true;
		else if (sscanf(*argv, "--seed=%llu", &options.seed) != 1 &&
			 sscanf(*argv, "--ops=%u", &options.ops) != 1 &&
			 sscanf(*argv, "--watchdog=%d", &options.watchdog) != 1)
			vm_die("options: --expect-absent --posted --seed=N --ops=N --watchdog=N");
	}
	harness_init(options.watchdog);
	if (posted)
		harness_posted();
	harness_note("seed %llu, %u operations each", options.seed, options.ops);
	for (i = 0; i < ARRAY_SIZE(campaigns); i++)
		if (!absent || campaigns[i].dialect == GUEST_PLAIN)
			harness_run(campaigns[i].name, run_campaign,
				    &campaigns[i]);
	return harness_finish();
}
