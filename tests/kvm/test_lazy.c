// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's side of lazy TSC deadline, seen from user space through /dev/kvm
 * and from inside small guests.  Prints TAP.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "lazy_guest.h"

#define PAGE_SIZE	4096UL

/* Which variants of a row are run. */
#define PLAIN		BIT(GUEST_PLAIN)
#define RFC		BIT(GUEST_RFC)
#define OURS		BIT(GUEST_OURS)
#define LAZY		(RFC | OURS)
#define ALL		(PLAIN | RFC | OURS)
#define HALT		BIT(GUEST_HALT)
#define SPIN		BIT(GUEST_SPIN)
#define BOTH		(HALT | SPIN)

/**
 * struct scenario - one row of the table
 * @name: what it shows
 * @host: runs it; NULL: run the guest to its end
 * @guest: what runs in the guest
 * @dialects: who programs the timer
 * @waits: what the guest does meanwhile
 * @arg: arguments of @guest
 * @vcpus: number of vCPUs, 0: one
 * @flags: of vm_create()
 * @min_skips: at least so many deadlines must not take a trap
 * @at_sync: what the host does when the guest calls; may hand over to
 *	another VM
 */
struct scenario {
	const char *name;
	void (*host)(const struct scenario *s, int dialect, int wait);
	void (*guest)(void);
	unsigned int dialects, waits;
	__u64 arg[GUEST_MAX_ARGS];
	int vcpus;
	unsigned int flags;
	unsigned int min_skips;
	struct vm *(*at_sync)(struct vm *vm);
};

/* The host has to be there before the first deadline: of two, or of two steps. */
static void be_patient(struct guest_cpu *c)
{
	c->arg[ARG_FIRST_MS] *= harness_slow();
	c->arg[ARG_SECOND_MS] *= harness_slow();
}

static struct vm *new_vm(const struct scenario *s, int dialect, int wait)
{
	int i, nr_vcpus = s->vcpus ? s->vcpus : 1;
	struct vm *vm = vm_create(nr_vcpus, s->flags, s->guest);

	for (i = 0; i < nr_vcpus; i++) {
		struct guest_cpu *c = vm_cpu(vm, i);

		c->dialect = dialect;
		c->wait = wait;
		memcpy(c->arg, s->arg, sizeof(c->arg));
		if (s->at_sync)
			be_patient(c);
	}
	return vm;
}

static void run_to_end(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	int i;

	harness_all_done(vm);
	harness_note_vm(vm);
	for (i = 0; i < vm->nr_vcpus; i++) {
		if (dialect == GUEST_PLAIN)
			check_eq(vm_cpu(vm, i)->skips, 0);
		else
			check(vm_cpu(vm, i)->skips >= s->min_skips);
	}
	vm_destroy(vm);
}

static void run_with_sync(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);

	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	if (s->at_sync)
		vm = s->at_sync(vm);
	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	harness_note_vm(vm);
	vm_destroy(vm);
}

/* What the host does while a look is published and a later one is wanted. */

static void check_published(struct vm *vm)
{
	struct lazy_tscdeadline_record *r = vm_record(vm, 0);

	check_eq(r->pending, vm_cpu(vm, 0)->wanted);
	check(r->armed && r->armed < r->pending);
}

static struct vm *sync_get_lapic(struct vm *vm)
{
	struct kvm_lapic_state lapic;

	check_published(vm);
	vcpu_get_lapic(&vm->vcpus[0], &lapic);
	check_eq(vm_record(vm, 0)->armed, 0);
	return vm;
}

static struct vm *sync_get_msrs(struct vm *vm)
{
	__u64 wanted = vm_cpu(vm, 0)->wanted;

	check_published(vm);
	check_eq(vcpu_get_msr(&vm->vcpus[0], GUEST_MSR_TSC_DEADLINE), wanted);
	check_eq(vm_record(vm, 0)->armed, 0);
	check_eq(vcpu_get_msr(&vm->vcpus[0], GUEST_MSR_TSC_DEADLINE), wanted);
	return vm;
}

/*
 * After the look has armed the second deadline, of which no trap ever told the
 * host: the flush makes it a plain one all the same.
 */
static struct vm *sync_flush_after_look(struct vm *vm)
{
	harness_sleep_ms(250 * harness_slow());
	check_eq(vm_record(vm, 0)->pending, vm_cpu(vm, 0)->wanted);
	vcpu_get_msr(&vm->vcpus[0], GUEST_MSR_TSC_DEADLINE);
	check_eq(vm_record(vm, 0)->armed, 0);
	return vm;
}

/* While memory is logged, nothing stays published in user space. */
static struct vm *sync_withdrawn(struct vm *vm)
{
	struct lazy_tscdeadline_record *r = vm_record(vm, 0);

	check_eq(r->pending, vm_cpu(vm, 0)->wanted);
	check_eq(r->armed, 0);
	check(vm_dirty(vm, 0));
	check(vcpu_lazy_says(&vm->vcpus[0], "state", "lazy"));
	check(vcpu_lazy_stat(&vm->vcpus[0], "flushed"));
	return vm;
}

static struct vm *sync_get_msrs_logged(struct vm *vm)
{
	check_published(vm);
	vm_begin_log(vm);
	vm_dirty(vm, 0);
	check(!vm_dirty(vm, 0));
	vm = sync_get_msrs(vm);
	check(vm_dirty(vm, 0));
	return vm;
}

static struct vm *sync_get_lapic_logged(struct vm *vm)
{
	check_published(vm);
	vm_begin_log(vm);
	vm_dirty(vm, 0);
	check(!vm_dirty(vm, 0));
	vm = sync_get_lapic(vm);
	check(vm_dirty(vm, 0));
	return vm;
}

static struct vm *sync_set_lapic(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 wanted = vm_cpu(vm, 0)->wanted;
	struct kvm_lapic_state lapic;

	check_published(vm);
	vcpu_get_lapic(vcpu, &lapic);
	vcpu_set_lapic(vcpu, &lapic);
	check_eq(vm_record(vm, 0)->armed, 0);
	check_eq(vcpu_get_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE), 0);
	check_eq(vcpu_get_msr(vcpu, GUEST_MSR_TSC_DEADLINE), wanted);
	return vm;
}

/* Migrated from a host that has left its promise: one that nobody stands for. */
static struct vm *sync_left(struct vm *vm)
{
	struct lazy_tscdeadline_record *r = vm_record(vm, 0);
	__u64 wanted = r->pending;

	vm = sync_set_lapic(vm);
	r->armed = wanted + 2 * (wanted - vcpu_get_msr(&vm->vcpus[0], GUEST_MSR_TSC));
	return vm;
}

/* As QEMU does when it loads a snapshot into a running VM. */
static struct vm *sync_set_lapic_and_deadline(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 wanted = vm_cpu(vm, 0)->wanted;

	vm = sync_set_lapic(vm);
	check_eq(vcpu_set_msr(vcpu, GUEST_MSR_TSC_DEADLINE, wanted), 0);
	check_eq(vm_record(vm, 0)->armed, 0);
	return vm;
}

static struct vm *sync_slot(struct vm *vm)
{
	check_published(vm);
	vm_set_record_slot(vm, false);
	vm_set_record_slot(vm, true);
	return vm;
}

static struct vm *sync_slot_long(struct vm *vm)
{
	check_published(vm);
	vm_set_record_slot(vm, false);
	/* Beyond the look, but not beyond the deadline. */
	harness_sleep_ms(250 * harness_slow());
	vm_set_record_slot(vm, true);
	return vm;
}

static struct vm *sync_dontneed(struct vm *vm)
{
	check_published(vm);
	if (madvise(vm->record_page, PAGE_SIZE, MADV_DONTNEED))
		vm_die("madvise");
	check_eq(vm_record(vm, 0)->pending, 0);
	return vm;
}

/* The memory goes, but not the slot: KVM is told when it goes, not when it comes. */
static void protect_record(struct vm *vm, int prot)
{
	if (mprotect(vm->record_page, VM_RECORD_SIZE, prot))
		vm_die("cannot change the protection of the record");
}

/* There is a reason to withdraw while the memory is gone. */
static struct vm *sync_unread(struct vm *vm)
{
	check_published(vm);
	protect_record(vm, PROT_NONE);
	check(vcpu_get_msr(&vm->vcpus[0], GUEST_MSR_TSC_DEADLINE));
	check(vcpu_lazy_says(&vm->vcpus[0], "last_plain", "record"));
	check(!vcpu_lazy_says(&vm->vcpus[0], "state", "off"));
	protect_record(vm, PROT_READ | PROT_WRITE);
	return vm;
}

/* Other memory with the same contents at the same place. */
static struct vm *sync_replace(struct vm *vm)
{
	char copy[PAGE_SIZE];

	check_published(vm);
	memcpy(copy, vm->record_page, PAGE_SIZE);
	if (mmap(vm->record_page, PAGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != vm->record_page)
		vm_die("mmap");
	memcpy(vm->record_page, copy, PAGE_SIZE);
	return vm;
}

/* The same memory under another host address, and another slot. */
static struct vm *sync_mremap(struct vm *vm)
{
	void *moved = mmap(NULL, VM_RECORD_SIZE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check_published(vm);
	moved = mremap(vm->record_page, VM_RECORD_SIZE, VM_RECORD_SIZE,
		       MREMAP_MAYMOVE | MREMAP_FIXED, moved);
	if (moved == MAP_FAILED)
		vm_die("mremap");
	vm_set_record_slot(vm, false);
	vm->record_page = moved;
	vm_set_record_slot(vm, true);
	return vm;
}

static struct vm *migrate(struct vm *vm, unsigned int flags, bool with_msr)
{
	struct vm *to = vm_create(1, flags, guest_operation);

	check_published(vm);
	vm_migrate(vm, to, with_msr);
	check_eq(vm_record(vm, 0)->armed, 0);
	if (!with_msr)
		check_eq(vm_record(to, 0)->armed, 0);
	vm_destroy(vm);
	return to;
}

static struct vm *sync_migrate_unaware(struct vm *vm)
{
	return migrate(vm, 0, false);
}

static struct vm *sync_migrate_aware(struct vm *vm)
{
	return migrate(vm, 0, true);
}

static struct vm *sync_migrate_without(struct vm *vm)
{
	return migrate(vm, VM_HIDE_FEATURE, false);
}

/* The n-th of the ways in which the parts can follow each other. */
static void restore_order(int n, enum vm_restore *order)
{
	int left = VM_RESTORE_NR, i, j;

	for (i = 0; i < VM_RESTORE_NR; i++)
		order[i] = i;
	for (i = 0; left > 1; i++, left--) {
		enum vm_restore first = order[i + n % left];

		for (j = i + n % left; j > i; j--)
			order[j] = order[j - 1];
		order[i] = first;
		n /= left;
	}
}

static bool restore_before(const enum vm_restore *order, enum vm_restore a,
			   enum vm_restore b)
{
	int i;

	for (i = 0; order[i] != a && order[i] != b; i++)
		;
	return order[i] == a;
}

#define RESTORE_ORDERS	24

/*
 * Two rules are KVM's, with or without the feature: it ignores a deadline while the
 * APIC is not in that mode; and the TSC has to be set before, as what is armed does
 * not follow it (those four orders are left out).  Else the order is the VMM's, and
 * the deadline comes once, not early.
 */
static void run_restored(const struct scenario *s, int dialect, int wait)
{
	enum vm_restore order[VM_RESTORE_NR];
	struct vm *from, *to;
	int i, tried = 0;
	bool kept;

	for (i = 0; i < RESTORE_ORDERS; i++) {
		restore_order(i, order);
		kept = restore_before(order, VM_RESTORE_LAPIC, VM_RESTORE_DEADLINE);
		if (kept && restore_before(order, VM_RESTORE_DEADLINE, VM_RESTORE_TSC))
			continue;
		harness_note("in the order %d %d %d %d", order[0], order[1], order[2],
			     order[3]);
		from = new_vm(s, dialect, wait);
		to = vm_create(1, 0, s->guest);
		be_patient(vm_cpu(from, 0));
		harness_until(&from->vcpus[0], GUEST_CALL_SYNC);
		vm_cpu(from, 0)->arg[ARG_KEPT] = kept;
		vm_migrate_in_order(from, to, order);
		vm_destroy(from);
		/* A new state of the APIC ends lazy mode. */
		check_eq(vcpu_get_msr(&to->vcpus[0], MSR_KVM_LAZY_TSCDEADLINE),
			 restore_before(order, VM_RESTORE_LAPIC, VM_RESTORE_LAZY) ?
			 GUEST_RECORD_GPA | LAZY_TSCDEADLINE_MSR_ENABLED : 0);
		harness_until(&to->vcpus[0], GUEST_CALL_DONE);
		vm_destroy(to);
		tried++;
	}
	check_eq(tried, RESTORE_ORDERS - 4);
}

/*
 * Only the host writes to the record's page after the log was read: the look
 * that arms again must be in the next one.  The memory is logged from the first
 * deadline on: for a slot that has been replaced, a callback would not look anyway.
 */
static void run_dirty_look(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct lazy_tscdeadline_record *r = vm_record(vm, 0);
	struct harness_job *job;
	unsigned int ms;
	__u64 first;

	job = harness_start(&vm->vcpus[0], -1);
	while (READ_ONCE(vm_cpu(vm, 0)->programmed) < 2)
		harness_sleep_ms(1);
	/* A mark may follow the store, but not much later. */
	harness_sleep_ms(20);
	first = READ_ONCE(r->armed);
	check(first);
	vm_dirty(vm, 0);
	check(!vm_dirty(vm, 0));
	for (ms = 0; r->armed == first || !r->armed; ms++)
		harness_sleep_ms(1);
	harness_note("the look took %u ms", ms);
	harness_sleep_ms(20);
	check(vm_dirty(vm, 0));
	harness_join(job);
	vm_destroy(vm);
}

static void run_dirty_ring(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_until(vcpu, GUEST_CALL_SYNC);
	check_published(vm);
	vm_begin_log(vm);
	vcpu_ring_dirty(vcpu, 0);
	check(!vcpu_ring_dirty(vcpu, 0));
	check_eq(vcpu_get_msr(vcpu, GUEST_MSR_TSC_DEADLINE),
		 vm_cpu(vm, 0)->wanted);
	check_eq(vm_record(vm, 0)->armed, 0);
	check(vcpu_ring_dirty(vcpu, 0));
	harness_until(vcpu, GUEST_CALL_DONE);
	vm_destroy(vm);
}

/* Each trap adds to the ring, until user space has to empty it. */
static void run_full_ring(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 published = 0;
	int got, full = 0;

	for (got = vcpu_run(vcpu); got == -ENOSPC; got = vcpu_run(vcpu)) {
		check(vcpu_lazy_stat(vcpu, "published") > published);
		published = vcpu_lazy_stat(vcpu, "published");
		check(vcpu_lazy_says(vcpu, "state", "plain"));
		check(vcpu_lazy_says(vcpu, "reason", "dirty_ring"));
		check(vcpu_ring_dirty(vcpu, 0));
		full++;
	}
	if (got == GUEST_CALL_FAIL)
		harness_guest_failed(vcpu);
	check_eq(got, GUEST_CALL_DONE);
	harness_note("the ring was full %d times", full);
	harness_note_vm(vm);
	check(full);
	vm_destroy(vm);
}

/*
 * A halted vCPU wakes once per deadline, however often the host looks.  KVM
 * itself may kick all vCPUs once in a while (clock updates), looks that wake
 * would come three times per halt.
 */
static void run_wakeups(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct guest_cpu *c = vm_cpu(vm, 0);
	__u64 halts, wakeups;

	if (vm_halt_poll(vm, 0))
		vm_die("KVM_CAP_HALT_POLL");
	harness_until(vcpu, GUEST_CALL_DONE);
	halts = vcpu_stat(vcpu, "halt_exits");
	wakeups = vcpu_stat(vcpu, "halt_wakeup");
	harness_note("deadlines %llu halts %llu exits %llu wakeups %llu fired %llu",
		     c->programmed, c->halts, halts, wakeups, c->fired);
	harness_note_vm(vm);
	check(c->halts);
	check(c->halts <= c->arg[ARG_ROUNDS]);
	check_eq(halts, c->halts);
	check(wakeups <= halts + halts / 4);
	if (dialect != GUEST_PLAIN)
		check(c->skips >= s->min_skips);
	vm_destroy(vm);
}

/*
 * Where the guest sleeps beyond each look, the host learns to arm what is wanted
 * when the vCPU halts: a look is spared that would have armed it again.
 */
static void run_spared(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct guest_cpu *c = vm_cpu(vm, 0);
	__u64 rounds = c->arg[ARG_ROUNDS], spared, rearmed;

	/* The guest has to be asleep before the look is due. */
	be_patient(c);
	harness_until(vcpu, GUEST_CALL_DONE);
	spared = vcpu_lazy_stat(vcpu, "spared");
	rearmed = vcpu_lazy_stat(vcpu, "rearmed");
	harness_note("rounds %llu spared %llu re-armed %llu", rounds, spared, rearmed);
	harness_note_vm(vm);
	check(spared >= rounds / 2);
	check(rearmed >= 1);
	check(spared + rearmed <= rounds + rounds / 4);
	vm_destroy(vm);
}

/* Sends an interrupt now and then, for guests that halt with no timer. */
static void *ticker(void *arg)
{
	struct vm *vm = arg;

	for (;;) {
		harness_sleep_ms(50);
		vm_signal_msi(vm, 0, GUEST_CONTROL_VECTOR);
	}
	return NULL;
}

static void run_with_ticker(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	pthread_t thread;

	if (pthread_create(&thread, NULL, ticker, vm))
		vm_die("cannot create a thread");
	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	harness_note_vm(vm);
}

/* The looks of a halted vCPU interrupt a vCPU of another VM. */
static void run_foreign_context(const struct scenario *s, int dialect, int wait)
{
	static const struct scenario busy = {
		.guest = guest_rounds,
		.arg = { 20, 20000, 30000, 40000 },
	};
	struct vm *a = new_vm(s, dialect, wait);
	struct vm *b = new_vm(&busy, dialect, GUEST_SPIN);
	struct harness_job *job_a = harness_start(&a->vcpus[0], 0);
	struct harness_job *job_b = harness_start(&b->vcpus[0], 0);

	harness_join(job_a);
	harness_join(job_b);
	harness_note_vm(a);
	harness_note_vm(b);
	vm_destroy(a);
	vm_destroy(b);
}

/* A reset by the VMM, which has not read anything before. */
static void run_reset(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vm *other = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_lapic_state lapic;

	/* The registers of a local APIC that was just reset. */
	vcpu_get_lapic(&other->vcpus[0], &lapic);
	harness_until(vcpu, GUEST_CALL_SYNC);
	check_published(vm);
	vcpu_set_lapic(vcpu, &lapic);
	check_eq(vm_record(vm, 0)->armed, 0);
	check_eq(vcpu_get_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE), 0);
	vm_destroy(vm);
	vm_destroy(other);
}

static void run_hole(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_until(vcpu, GUEST_CALL_SYNC);
	check_published(vm);
	vm_set_record_slot(vm, false);
	if (s->arg[ARG_BAD])
		vm_set_slot(vm, VM_RECORD_SLOT, GUEST_RECORD_GPA, VM_RECORD_SIZE,
			    vm->record_page, KVM_MEM_READONLY);
	harness_until(vcpu, GUEST_CALL_SYNC);
	check(vcpu_lazy_says(vcpu, "last_plain", "record"));
	if (s->arg[ARG_BAD])
		vm_set_record_slot(vm, false);
	vm_set_record_slot(vm, true);
	harness_until(vcpu, GUEST_CALL_DONE);
	vm_destroy(vm);
}

/* See guest_strand(). */
static void run_strand(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];

	be_patient(vm_cpu(vm, 0));
	harness_until(vcpu, GUEST_CALL_SYNC);
	vm_set_record_slot(vm, false);
	harness_until(vcpu, GUEST_CALL_SYNC);
	check(vcpu_lazy_says(vcpu, "last_plain", "record"));
	vm_set_record_slot(vm, true);
	harness_until(vcpu, GUEST_CALL_DONE);
	harness_note_vm(vm);
	vm_destroy(vm);
}

static void *give_back(void *arg)
{
	struct vm *vm = arg;
	struct guest_cpu *cpu = vm_cpu(vm, 0);

	while (!READ_ONCE(cpu->result[0]))
		harness_sleep_ms(1);
	protect_record(vm, PROT_READ | PROT_WRITE);
	WRITE_ONCE(cpu->arg[ARG_BACK], 1);
	return NULL;
}

/* See guest_rely(). */
static void run_rely(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	pthread_t thread;

	be_patient(vm_cpu(vm, 0));
	harness_until(vcpu, GUEST_CALL_SYNC);
	protect_record(vm, PROT_NONE);
	if (pthread_create(&thread, NULL, give_back, vm))
		vm_die("cannot create a thread");
	if (s->arg[ARG_OP] == OP_LATER)
		harness_until(vcpu, GUEST_CALL_SYNC);
	harness_until(vcpu, GUEST_CALL_DONE);
	pthread_join(thread, NULL);
	check(vcpu_lazy_stat(vcpu, "plain_record"));
	harness_note_vm(vm);
	vm_destroy(vm);
}

/*
 * What the record was has become something else (a kexec without a word to the
 * host, a page given to another guest kernel): the host does not write there, and
 * injects, as it cannot know what is wanted.
 */
static void run_reused(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct lazy_tscdeadline_record *r = vm_record(vm, 0);
	struct vcpu *vcpu = &vm->vcpus[0];
	const struct lazy_tscdeadline_record other = {
		.pending = 0x6b6b6b6b6b6b6b6b,
		.armed = 0x6b6b6b6b6b6b6b6b,
	};

	harness_until(vcpu, GUEST_CALL_SYNC);
	check_published(vm);
	r->pending = other.pending;
	r->armed = other.armed;
	harness_until(vcpu, GUEST_CALL_SYNC);
	check_eq(r->pending, other.pending);
	check_eq(r->armed, other.armed);
	check_eq(vcpu_lazy_stat(vcpu, "lost"), 1);
	r->pending = 0;
	r->armed = 0;
	harness_until(vcpu, GUEST_CALL_DONE);
	vm_destroy(vm);
}

static void run_init_ipi(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *victim = &vm->vcpus[1];
	struct harness_job *job = harness_start(victim, -1);

	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	while (vm_record(vm, 1)->armed)
		harness_sleep_ms(1);
	harness_stop(job);
	check_eq(vcpu_mp_state(victim), KVM_MP_STATE_INIT_RECEIVED);
	check_eq(vm_record(vm, 1)->armed, 0);
	check_eq(vcpu_get_msr(victim, MSR_KVM_LAZY_TSCDEADLINE), 0);
	check(vcpu_lazy_says(victim, "state", "off"));
	check(vcpu_lazy_says(victim, "reason", "reset"));
	vm_destroy(vm);
}

/*
 * What the floor promises of looks that deliver nothing: KVM's limit for periodic
 * timers, and a few more for each write.
 */
#define SHORT_LOOKS	16
#define LOOK_PERIOD_US	200

static void check_rate(struct vcpu *vcpu, __u64 us)
{
	__u64 looks, expired, events;

	/* The enemy itself may do without. */
	if (!vcpu_lazy_stat(vcpu, "enabled"))
		return;
	/* Read first: one more of these is also a look. */
	expired = vcpu_lazy_stat(vcpu, "expired");
	looks = vcpu_lazy_stat(vcpu, "looks_sw") +
		vcpu_lazy_stat(vcpu, "looks_vcpu") - expired;
	events = vcpu_lazy_stat(vcpu, "updates") + vcpu_lazy_stat(vcpu, "lost");
	harness_note("vCPU %d: %llu looks in vain in %llu ms, floor hit %llu times",
		     vcpu->id, looks, us / 1000, vcpu_lazy_stat(vcpu, "floor"));
	check(looks <= us / LOOK_PERIOD_US + SHORT_LOOKS * (events + 1));
}

/* How long each enemy goes on: it is there as often as that takes. */
static unsigned int enemy_seconds = 2;

/* A decent VM next to a hostile one, which must not notice. */
struct neighbour {
	struct vm *vm;
	struct harness_job *job;
	pthread_t watch;
	bool over;
	unsigned int longest;
};

/* Sleeps of 1 ms that may overtake one of its deadlines, of 30 ms at most. */
#define NEIGHBOUR_LIMIT	500

/* Is it served while others that sleep on this host are? */
static void *watch_neighbour(void *arg)
{
	struct neighbour *n = arg;
	struct guest_cpu *c = vm_cpu(n->vm, 0);
	unsigned int sleeps = 0;
	__u64 good = 0;

	while (!READ_ONCE(n->over)) {
		harness_sleep_ms(1);
		sleeps = READ_ONCE(c->good) == good ? sleeps + 1 : 0;
		good = READ_ONCE(c->good);
		if (sleeps > n->longest)
			n->longest = sleeps;
	}
	return NULL;
}

static void neighbour_start(struct neighbour *n, int dialect)
{
	/* Until neighbour_end() */
	static const struct scenario decent = {
		.guest = guest_rounds,
		.arg = { ~0ULL, 10000, 20000, 30000 },
	};

	n->vm = new_vm(&decent, dialect, GUEST_HALT);
	n->job = harness_start(&n->vm->vcpus[0], -1);
	if (pthread_create(&n->watch, NULL, watch_neighbour, n))
		vm_die("cannot create a thread");
}

static void neighbour_end(struct neighbour *n)
{
	struct guest_cpu *c = vm_cpu(n->vm, 0);

	while (READ_ONCE(c->good) < 3)
		harness_sleep_ms(1);
	WRITE_ONCE(n->over, true);
	pthread_join(n->watch, NULL);
	WRITE_ONCE(c->arg[ARG_ROUNDS], 0);
	harness_join(n->job);
	harness_note_vm(n->vm);
	harness_note("the decent VM had %llu timers, %u sleeps apart at most", c->good,
		     n->longest);
	check(n->longest <= NEIGHBOUR_LIMIT);
	vm_destroy(n->vm);
}

static void run_enemy(const struct scenario *s, int dialect, int wait,
		      unsigned int number)
{
	__u64 start = harness_now_us();
	struct vm *bad = new_vm(s, dialect, wait);
	int i;

	for (i = 0; i < bad->nr_vcpus; i++)
		vm_cpu(bad, i)->arg[ARG_NUMBER] = number;
	harness_all_done(bad);
	for (i = 0; i < bad->nr_vcpus; i++)
		check_rate(&bad->vcpus[i], harness_now_us() - start);
	harness_note_vm(bad);
	vm_destroy(bad);
}

static void run_hostile(const struct scenario *s, int dialect, int wait)
{
	__u64 end = harness_now_us() + enemy_seconds * 1000000ULL;
	struct neighbour neighbour = { 0 };
	unsigned int times = 0;

	harness_prolong(enemy_seconds);
	neighbour_start(&neighbour, dialect);
	do {
		run_enemy(s, dialect, wait, times++);
	} while (harness_now_us() < end);
	harness_note("it was there %u times", times);
	neighbour_end(&neighbour);
}

/*
 * The deadline is moved for ever.  The host's looks are bounded: a few for each
 * deadline, and one per min_timer_period_us.  That is made so long that the bound
 * is reached even where the vCPU now and then stands still (emulation); if it does
 * for longer than what the deadline moves by, the deadline is over, and the next
 * round may see the bound.
 */
static void run_floor(const struct scenario *s, int dialect, int wait)
{
	const unsigned int period_us = 1000000;
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 start = harness_now_us(), us, looks, floor;
	unsigned int before;

	before = vm_swap_parameter("min_timer_period_us", period_us);
	do {
		harness_until(vcpu, GUEST_CALL_SYNC);
		floor = vcpu_lazy_stat(vcpu, "floor");
	} while (!floor && --vm_cpu(vm, 0)->arg[ARG_ROUNDS]);
	vm_swap_parameter("min_timer_period_us", before);
	looks = vcpu_lazy_stat(vcpu, "looks_sw") +
		vcpu_lazy_stat(vcpu, "looks_vcpu");
	us = harness_now_us() - start;
	vm_cpu(vm, 0)->arg[ARG_ROUNDS] = 0;
	harness_until(vcpu, GUEST_CALL_DONE);
	harness_note("%llu us, %llu interrupts, %llu looks, floor %llu", us,
		     vm_cpu(vm, 0)->fired, looks, floor);
	check(floor);
	check(looks <= 20 * vm_cpu(vm, 0)->programmed + us / period_us);
	vm_destroy(vm);
}

/* What the policy has learned, and that it learned nothing before. */
static void run_told_rhythm(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct guest_cpu *c = vm_cpu(vm, 0);
	__u64 period = c->khz * c->arg[ARG_STEPS] / 1000;

	check(!vcpu_lazy_knows(&vm->vcpus[0], period));
	harness_all_done(vm);
	check(vcpu_lazy_knows(&vm->vcpus[0], period));
	harness_note_vm(vm);
	vm_destroy(vm);
}

/* Is the vCPU lazy, and why not?  What user space can do, one by one. */
static void run_told(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_lapic_state lapic;

	check(vcpu_lazy_says(vcpu, "state", "off"));
	check(vcpu_lazy_says(vcpu, "reason", "never"));
	check_eq(vcpu_lazy_stat(vcpu, "cpuid"), 1);
	check_eq(vcpu_lazy_stat(vcpu, "offered"), 1);
	harness_until(vcpu, GUEST_CALL_SYNC);
	check(vcpu_lazy_says(vcpu, "state", "lazy"));
	check(vcpu_lazy_says(vcpu, "reason", "-"));

	vm_set_parameter("lazy_tscdeadline", "N");
	check(vcpu_lazy_says(vcpu, "state", "plain"));
	check(vcpu_lazy_says(vcpu, "reason", "parameter"));
	vm_set_parameter("lazy_tscdeadline", "Y");
	check(vcpu_lazy_says(vcpu, "state", "lazy"));

	vcpu_set_msr(vcpu, GUEST_MSR_TSC_DEADLINE, vm_cpu(vm, 0)->wanted);
	check(vcpu_lazy_says(vcpu, "last_plain", "user"));
	check_eq(vcpu_lazy_stat(vcpu, "plain_user"), 1);

	vcpu_get_lapic(vcpu, &lapic);
	vcpu_set_lapic(vcpu, &lapic);
	check(vcpu_lazy_says(vcpu, "state", "off"));
	check(vcpu_lazy_says(vcpu, "reason", "set_lapic"));
	check_eq(vcpu_lazy_stat(vcpu, "off_set_lapic"), 1);
	harness_until(vcpu, GUEST_CALL_DONE);
	/* The guest has enabled it again, which leaves the last reason. */
	check(vcpu_lazy_says(vcpu, "state", "lazy"));
	check(vcpu_lazy_says(vcpu, "last_off", "set_lapic"));
	check_eq(vcpu_lazy_stat(vcpu, "off_set_lapic"), 1);

	vcpu_set_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE, 0);
	check(vcpu_lazy_says(vcpu, "state", "off"));
	check(vcpu_lazy_says(vcpu, "reason", "guest"));
	check_eq(vcpu_lazy_stat(vcpu, "off_guest"), 1);
	vm_destroy(vm);
}

static void run_told_hidden(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];

	check(vcpu_lazy_says(vcpu, "reason", "never"));
	check_eq(vcpu_lazy_stat(vcpu, "cpuid"), 0);
	check_eq(vcpu_lazy_stat(vcpu, "offered"), 0);
	vm_destroy(vm);
}

/* The CPUs cannot have the guest's TSC run as it should: KVM pushes it on. */
static void run_told_tsc(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	bool scaled;

	harness_until(vcpu, GUEST_CALL_SYNC);
	check(vcpu_lazy_says(vcpu, "state", "lazy"));
	scaled = vcpu_double_tsc(vcpu);
	if (scaled)
		harness_note("these CPUs can: nothing to be told");
	check(vcpu_lazy_says(vcpu, "state", scaled ? "lazy" : "plain"));
	check(vcpu_lazy_says(vcpu, "reason", scaled ? "-" : "tsc"));
	vm_destroy(vm);
}

/* See guest_lose(). */
static void run_told_lost(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_until(vcpu, GUEST_CALL_SYNC);
	check(vcpu_lazy_says(vcpu, "state", "lazy"));
	vm_set_record_slot(vm, false);
	harness_until(vcpu, GUEST_CALL_SYNC);
	check(vcpu_lazy_says(vcpu, "state", "off"));
	check(vcpu_lazy_says(vcpu, "reason", "unreachable"));
	check_eq(vcpu_lazy_stat(vcpu, "off_unreachable"), 1);
	check_eq(vcpu_lazy_stat(vcpu, "plain_record"), 1);
	vm_set_record_slot(vm, true);
	harness_until(vcpu, GUEST_CALL_DONE);
	check(vcpu_lazy_says(vcpu, "state", "lazy"));
	check(vcpu_lazy_says(vcpu, "last_off", "unreachable"));
	vm_destroy(vm);
}

/* The same of what the guest does, see guest_tell(). */
static void run_told_apic(const struct scenario *s, int dialect, int wait)
{
	static const char * const reasons[] = { "masked", "mode", "apic" };
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(reasons); i++) {
		harness_until(vcpu, GUEST_CALL_SYNC);
		check(vcpu_lazy_says(vcpu, "state", "plain"));
		check(vcpu_lazy_says(vcpu, "reason", reasons[i]));
	}
	harness_until(vcpu, GUEST_CALL_SYNC);
	check(vcpu_lazy_says(vcpu, "state", "lazy"));
	harness_until(vcpu, GUEST_CALL_DONE);
	vm_destroy(vm);
}

static void run_told_operation(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];

	harness_until(vcpu, GUEST_CALL_SYNC);
	harness_until(vcpu, GUEST_CALL_DONE);
	switch (s->arg[ARG_OP]) {
	case OP_DISABLE:
		check_eq(vcpu_lazy_stat(vcpu, "off_guest"), 1);
		check(vcpu_lazy_says(vcpu, "last_off", "guest"));
		break;
	case OP_PLAIN_LATER:
		check_eq(vcpu_lazy_stat(vcpu, "plain_value"), 1);
		check(vcpu_lazy_says(vcpu, "last_plain", "value"));
		break;
	case OP_BAD_VALUES:
		check_eq(vcpu_lazy_stat(vcpu, "refused"), 1);
		break;
	}
	vm_destroy(vm);
}

#define TRACING		"/sys/kernel/tracing/instances/lazy_test"
#define TRACE_LATE	TRACING "/events/kvm/kvm_lazy_tscdeadline_late/enable"

static void trace_late(void)
{
	FILE *file;

	rmdir(TRACING);
	if (mkdir(TRACING, 0700))
		vm_die(TRACING);
	file = fopen(TRACE_LATE, "we");
	if (!file || fputs("1", file) < 0 || fclose(file))
		vm_die(TRACE_LATE);
}

#define LATE_LIMIT_MS	50ULL

/* Has a delivery been traced that was later than that, noticed there? */
static bool traced_late(const char *where)
{
	FILE *file = fopen(TRACING "/trace", "re");
	char line[512], word[16];
	bool found = false;
	unsigned int vcpu;
	const char *event;
	__u64 due, ns;

	if (!file)
		vm_die(TRACING "/trace");
	while (fgets(line, sizeof(line), file)) {
		event = strstr(line, "kvm_lazy_tscdeadline_late: ");
		if (!event || sscanf(event, "%*s vcpu %u %15s deadline %llu late %llu ns",
				     &vcpu, word, &due, &ns) != 4)
			continue;
		if (!strcmp(word, where) && !vcpu && due &&
		    ns > LATE_LIMIT_MS * 1000000)
			found = true;
	}
	fclose(file);
	return found;
}

/*
 * The vCPU does not run when its deadline passes.  In the dirty log, the host
 * cannot look from the hrtimer callback either: then it is the look that is
 * late, else the injection, if the hrtimer itself was in time.
 */
static void run_late(const struct scenario *s, int dialect, int wait)
{
	bool deferred = s->flags & VM_DIRTY_LOG, off = s->arg[ARG_BAD];
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 late, injected;

	vm_set_parameter("lazy_tscdeadline_late_ns", off ? "0" : "50000000");
	trace_late();
	harness_until(vcpu, GUEST_CALL_SYNC);
	check_published(vm);
	if (deferred)
		vm_begin_log(vm);
	harness_sleep_ms(s->arg[ARG_SECOND_MS] + 2 * LATE_LIMIT_MS);
	check(vcpu_lazy_stat(vcpu, "overdue_us") > LATE_LIMIT_MS * 1000);
	harness_until(vcpu, GUEST_CALL_DONE);
	late = vcpu_lazy_stat(vcpu, "late");
	injected = vcpu_lazy_stat(vcpu, "late_injected");
	harness_note("late %llu, injected late %llu", late, injected);
	if (off)
		check_eq(late + injected, 0);
	else
		check(deferred ? late : late + injected);
	check((traced_late("vcpu") || (!deferred && (traced_late("hrtimer") ||
						     traced_late("injected")))) == !off);
	vm_set_parameter("lazy_tscdeadline_late_ns", "10000000");
	rmdir(TRACING);
	vm_destroy(vm);
}

static void run_listed(const struct scenario *s, int dialect, int wait)
{
	(void)s;
	(void)dialect;
	(void)wait;
	check(vm_host_has_feature());
	check(vm_host_lists_msr(MSR_KVM_LAZY_TSCDEADLINE));
}

/* What a VMM may do with the MSR: read it, write 0, not write nonsense. */
static void run_host_msr(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);
	struct vcpu *vcpu = &vm->vcpus[0];
	__u64 value = GUEST_RECORD_GPA | LAZY_TSCDEADLINE_MSR_ENABLED;

	harness_until(vcpu, GUEST_CALL_SYNC);
	check_published(vm);
	check_eq(vcpu_get_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE), value);
	check(vcpu_set_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE, value | 2) < 0);
	check_eq(vcpu_get_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE), value);
	check_eq(vcpu_set_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE, 0), 0);
	check_eq(vcpu_get_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE), 0);
	check_eq(vm_record(vm, 0)->armed, 0);
	harness_until(vcpu, GUEST_CALL_DONE);
	vm_destroy(vm);
}

static void run_hidden(const struct scenario *s, int dialect, int wait)
{
	struct vm *vm = new_vm(s, dialect, wait);

	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	vm_destroy(vm);
}

#define ROUNDS(title, dialects, waits, skips, ...) \
	{ title, run_to_end, guest_rounds, dialects, waits, { __VA_ARGS__ }, \
	  .min_skips = skips }
#define OPERATION(title, dialects, waits, op) \
	{ title, run_with_sync, guest_operation, dialects, waits, \
	  { op, 150, 250 } }
#define AT_SYNC(title, waits, op, action, flag) \
	{ title, run_with_sync, guest_operation, LAZY, waits, \
	  { op, 200, 400 }, .flags = flag, .at_sync = action }
#define BAD_VALUE(title, value) \
	{ "bad value: " title, run_with_sync, guest_operation, OURS, SPIN, \
	  { OP_BAD_VALUES, 150, 250, value }, .flags = VM_RO_MEMORY }

static const struct scenario scenarios[] = {
	{ "the feature is announced and its MSR listed", run_listed,
	  .dialects = OURS, .waits = SPIN },
	{ "enable and disable", run_to_end, guest_enabled, OURS, BOTH },
	{ "an armed deadline survives enabling", run_to_end,
	  guest_enable_armed, LAZY, BOTH },
	{ "a trap publishes a look", run_to_end, guest_trap, LAZY, BOTH },

	/* Rounds: number, then deadlines in us from now, one after the other. */
	ROUNDS("one deadline", ALL, BOTH, 0, 10, 10000),
	ROUNDS("1 ms in the past", ALL, BOTH, 0, 20, -1000),
	ROUNDS("just in the past", ALL, BOTH, 0, 20, -1),
	ROUNDS("very soon", ALL, BOTH, 0, 50, 50),
	ROUNDS("moved later", ALL, BOTH, 3, 6, 20000, 40000),
	ROUNDS("moved later three times", ALL, BOTH, 9, 6, 20000, 24000, 30000,
	       45000),
	ROUNDS("moved later by very little", ALL, BOTH, 1, 10, 10000, 10100),
	ROUNDS("the same again", ALL, BOTH, 0, 10, 10000, 10000, 10000),
	ROUNDS("moved earlier", ALL, BOTH, 0, 6, 40000, 20000),
	ROUNDS("moved earlier three times", ALL, BOTH, 0, 6, 60000, 40000,
	       30000, 20000),
	ROUNDS("moved earlier, then later", ALL, BOTH, 2, 6, 50000, 20000,
	       35000),
	ROUNDS("moved later, then earlier", ALL, BOTH, 2, 6, 20000, 50000,
	       10000),
	ROUNDS("moved later, then between", ALL, BOTH, 2, 6, 20000, 50000,
	       35000),
	ROUNDS("moved later, then to the past", ALL, BOTH, 2, 6, 20000, 40000,
	       -10),
	{ "delivered, and wanted again", run_to_end, guest_again, ALL, BOTH,
	  { 20, 10000 } },
	{ "given up, with the one before in the APIC", run_to_end, guest_give_up, ALL,
	  SPIN, { 30, 500 } },
	{ "a steady rhythm, then silence", run_to_end, guest_rhythm, ALL, BOTH,
	  { 60, 5000 } },
	{ "a fast rhythm, then silence", run_to_end, guest_rhythm, ALL, BOTH,
	  { 100, 1000 } },
	{ "a halted vCPU wakes once per deadline", run_wakeups, guest_rounds,
	  ALL, HALT, { 10, 10000, 20000, 30000, 40000 }, .min_skips = 10 },
	{ "a guest that sleeps long is spared looks", run_spared, guest_rounds,
	  LAZY, HALT, { 20, 20000, 60000 } },
	{ "two vCPUs", run_to_end, guest_rounds, ALL, BOTH,
	  { 10, 20000, 30000, 40000 }, .vcpus = 2, .min_skips = 2 },
	{ "four vCPUs", run_to_end, guest_rounds, LAZY, BOTH,
	  { 10, 20000, 30000, 40000 }, .vcpus = 4 },
	{ "looks in the context of another VM", run_foreign_context,
	  guest_rounds, LAZY, HALT, { 20, 10000, 20000, 30000 } },

	/* The guest does something while a look is published. */
	OPERATION("read the deadline back", LAZY, BOTH, OP_READ_BACK),
	OPERATION("disable keeps the deadline", LAZY, BOTH, OP_DISABLE),
	OPERATION("move the record", LAZY, BOTH, OP_MOVE),
	OPERATION("enable again", LAZY, BOTH, OP_ENABLE_AGAIN),
	OPERATION("plain write, later", LAZY, BOTH, OP_PLAIN_LATER),
	OPERATION("plain write, earlier", LAZY, BOTH, OP_PLAIN_EARLIER),
	OPERATION("plain write of 0", LAZY, SPIN, OP_MSR_ZERO),
	OPERATION("cancel without a trap", OURS, SPIN, OP_CANCEL),
	OPERATION("LVTT to one-shot", LAZY, SPIN, OP_ONESHOT),
	OPERATION("LVTT to periodic", LAZY, SPIN, OP_PERIODIC),
	OPERATION("LVTT masked and unmasked", LAZY, BOTH, OP_MASK),
	OPERATION("APIC disabled by software", LAZY, BOTH, OP_SPIV),
	OPERATION("APIC disabled altogether", LAZY, BOTH, OP_APIC_BASE),
	OPERATION("TSC set forward", LAZY, BOTH, OP_TSC_FORWARD),
	OPERATION("TSC set back", LAZY, BOTH, OP_TSC_BACK),
	OPERATION("TSC_ADJUST forward", LAZY, BOTH, OP_TSC_ADJUST_FORWARD),
	OPERATION("TSC_ADJUST back", LAZY, BOTH, OP_TSC_ADJUST_BACK),
	{ "cancel without a trap, halted", run_with_ticker, guest_operation,
	  OURS, HALT, { OP_CANCEL_HALTED, 150, 250 } },
	BAD_VALUE("reserved bit 1", GUEST_RECORD_GPA | 0x03),
	BAD_VALUE("reserved bit 2", GUEST_RECORD_GPA | 0x05),
	BAD_VALUE("reserved bit 3", GUEST_RECORD_GPA | 0x09),
	BAD_VALUE("reserved bit 4", GUEST_RECORD_GPA | 0x11),
	BAD_VALUE("reserved bit 5", GUEST_RECORD_GPA | 0x21),
	BAD_VALUE("address, but not enabled", GUEST_RECORD_GPA),
	BAD_VALUE("reserved bit, not enabled", 2),
	BAD_VALUE("no memory there", GUEST_NOWHERE_GPA | 1),
	BAD_VALUE("just behind the memory",
		  (GUEST_RECORD_GPA + VM_RECORD_SIZE) | 1),
	BAD_VALUE("read-only memory", GUEST_RO_GPA | 1),
	BAD_VALUE("beyond 1 TiB", 1ULL << 40 | 1),
	BAD_VALUE("beyond all physical addresses", 1ULL << 52 | 1),
	BAD_VALUE("the highest address", ~0ULL << 6 | 1),
	BAD_VALUE("all ones", ~0ULL),
	BAD_VALUE("the APIC's page", 0xfee00001ULL),
	BAD_VALUE("the I/O APIC's page", 0xfec00001ULL),
	BAD_VALUE("KVM's page tables for real mode", 0xfffbc001ULL),
	BAD_VALUE("KVM's task state segment", 0xfffbd001ULL),

	/* The host does something while a look is published. */
	AT_SYNC("KVM_GET_LAPIC flushes", BOTH, OP_NONE, sync_get_lapic, 0),
	AT_SYNC("KVM_GET_MSRS flushes", BOTH, OP_NONE, sync_get_msrs, 0),
	AT_SYNC("KVM_GET_LAPIC, then later", BOTH, OP_LATER, sync_get_lapic,
		0),
	AT_SYNC("KVM_GET_MSRS, then later", BOTH, OP_LATER, sync_get_msrs, 0),
	AT_SYNC("flushed after a look, then cancelled", SPIN, OP_GIVE_UP,
		sync_flush_after_look, 0),
	AT_SYNC("flushed after a look, then later", BOTH, OP_LATER,
		sync_flush_after_look, 0),
	AT_SYNC("KVM_GET_LAPIC is in the dirty log", BOTH, OP_NONE,
		sync_get_lapic_logged, VM_DIRTY_LOG | VM_LOG_LATER),
	AT_SYNC("KVM_GET_MSRS is in the dirty log", BOTH, OP_NONE,
		sync_get_msrs_logged, VM_DIRTY_LOG | VM_LOG_LATER),
	AT_SYNC("KVM_SET_LAPIC disables", BOTH, OP_NONE, sync_set_lapic, 0),
	AT_SYNC("KVM_SET_LAPIC and the deadline", BOTH, OP_NONE,
		sync_set_lapic_and_deadline, 0),
	{ "a promise is left that is nobody's", run_with_sync, guest_operation, OURS,
	  BOTH, { OP_DISTRUST, 200, 400 }, .at_sync = sync_left },
	AT_SYNC("slot deleted and created again", BOTH, OP_NONE, sync_slot, 0),
	AT_SYNC("slot deleted and created again, then later", BOTH, OP_LATER,
		sync_slot, 0),
	AT_SYNC("slot deleted and created again, then earlier", BOTH, OP_FRESH,
		sync_slot, 0),
	AT_SYNC("slot deleted and created again, then none", BOTH, OP_GIVE_UP,
		sync_slot, 0),
	AT_SYNC("slot missing when the look is due", BOTH, OP_NONE,
		sync_slot_long, 0),
	{ "slot missing when an earlier deadline is written", run_strand,
	  guest_strand, LAZY, BOTH, { OP_NONE, 400, 1000 } },
	{ "memory gone, back before the host knows", run_rely, guest_rely, LAZY, BOTH,
	  { OP_NONE, 800, 1600 } },
	{ "memory gone until the promise is over", run_rely, guest_rely, LAZY, BOTH,
	  { OP_LATER, 400, 1600 } },
	AT_SYNC("memory gone while the deadline is read, no more", BOTH, OP_NONE,
		sync_unread, 0),
	AT_SYNC("memory gone while the deadline is read, then later", BOTH, OP_LATER,
		sync_unread, 0),
	{ "memory gone while the deadline is read", run_with_sync, guest_unread, LAZY,
	  BOTH, { OP_NONE, 800, 1600 }, .at_sync = sync_unread },
	AT_SYNC("memory dropped with MADV_DONTNEED", BOTH, OP_FRESH,
		sync_dontneed, 0),
	AT_SYNC("memory replaced", BOTH, OP_NONE, sync_replace, 0),
	AT_SYNC("memory replaced, then later", BOTH, OP_LATER, sync_replace,
		0),
	AT_SYNC("memory moved to another host address", BOTH, OP_NONE,
		sync_mremap, 0),
	AT_SYNC("migrated by a VMM that knows nothing", BOTH, OP_NONE,
		sync_migrate_unaware, 0),
	AT_SYNC("migrated by a VMM that knows nothing, then later", BOTH,
		OP_LATER, sync_migrate_unaware, 0),
	AT_SYNC("migrated with the MSR", BOTH, OP_NONE, sync_migrate_aware, 0),
	AT_SYNC("migrated with the MSR, then later", BOTH, OP_LATER,
		sync_migrate_aware, 0),
	AT_SYNC("migrated to a host without the feature", BOTH, OP_NONE,
		sync_migrate_without, 0),
	AT_SYNC("migrated to a host without, then later", BOTH, OP_LATER,
		sync_migrate_without, 0),
	{ "restored in every order", run_restored, guest_restored, LAZY, SPIN,
	  { OP_NONE, 30, 60 } },
	{ "reset by KVM_SET_LAPIC", run_reset, guest_operation, LAZY, SPIN,
	  { OP_NONE, 200, 400 } },
	{ "reset by INIT", run_init_ipi, guest_init_ipi, LAZY, BOTH,
	  { OP_NONE, 1000, 1500 }, .vcpus = 2 },
	{ "the VMM and the MSR", run_host_msr, guest_operation, LAZY, BOTH,
	  { OP_NONE, 200, 400 } },
	AT_SYNC("logged: nothing is published in user space", BOTH, OP_NONE,
		sync_withdrawn, VM_DIRTY_LOG),
	{ "a look is in the dirty log", run_dirty_look, guest_rounds, LAZY,
	  BOTH, { 1, 300000, 1000000 }, .flags = VM_DIRTY_LOG },
	{ "looks under dirty logging", run_to_end, guest_rounds, LAZY, BOTH,
	  { 6, 20000, 30000, 40000 }, .flags = VM_DIRTY_LOG, .min_skips = 3 },
	{ "a flush is in the dirty ring", run_dirty_ring, guest_operation,
	  LAZY, BOTH, { OP_NONE, 200, 400 },
	  .flags = VM_DIRTY_RING | VM_LOG_LATER },
	{ "looks with a dirty ring", run_to_end, guest_rounds, LAZY, BOTH,
	  { 6, 20000, 30000, 40000 }, .flags = VM_DIRTY_RING, .min_skips = 3 },
	{ "a full dirty ring", run_full_ring, guest_again, LAZY, SPIN,
	  { 1200, 100 }, .flags = VM_DIRTY_RING },
	{ "memory missing while the guest runs", run_hole, guest_hole, LAZY,
	  BOTH, { OP_NONE, 100, 130 } },
	{ "memory used for something else is left alone", run_reused,
	  guest_hole, LAZY, BOTH, { OP_NONE, 100, 130 } },
	{ "memory becomes read-only", run_hole, guest_hole, LAZY, BOTH,
	  { OP_NONE, 100, 130, true } },

	/* What debugfs tells of that. */
	{ "why it is off is told", run_told, guest_operation, OURS, SPIN,
	  { OP_NONE, 200, 400 } },
	{ "why it is off is told: hidden", run_told_hidden, guest_refused,
	  OURS, SPIN, .flags = VM_HIDE_FEATURE },
	{ "why it is off is told: no memory", run_told_lost, guest_lose, LAZY, SPIN },
	{ "why it is plain is told", run_told_apic, guest_tell, OURS, SPIN },
	{ "why it is plain is told: the TSC", run_told_tsc, guest_lose, OURS, SPIN },
	{ "the guest's disable is counted", run_told_operation, guest_operation,
	  LAZY, SPIN, { OP_DISABLE, 150, 250 } },
	{ "a plain write is counted", run_told_operation, guest_operation,
	  LAZY, SPIN, { OP_PLAIN_LATER, 150, 250 } },
	{ "a refusal is counted", run_told_operation, guest_operation,
	  OURS, SPIN, { OP_BAD_VALUES, 150, 250, GUEST_NOWHERE_GPA | 1 } },
	{ "what the policy has learned is told", run_told_rhythm, guest_rhythm,
	  LAZY, SPIN, { 60, 5000 } },
	{ "a late look is told", run_late, guest_operation, LAZY, BOTH,
	  { OP_NONE, 100, 200 }, .flags = VM_DIRTY_LOG | VM_LOG_LATER },
	{ "a late injection is told", run_late, guest_operation, LAZY, BOTH,
	  { OP_NONE, 100, 200 } },
	{ "a late look is not told without a limit", run_late, guest_operation,
	  OURS, SPIN, { OP_NONE, 100, 200, true },
	  .flags = VM_DIRTY_LOG | VM_LOG_LATER },

	/* Enemies. */
	{ "a sibling scribbles over the record", run_hostile, guest_scribble,
	  LAZY, BOTH, { 1000000 }, .vcpus = 2 },
	{ "a sibling keeps moving the deadline", run_hostile, guest_storm,
	  LAZY, BOTH, { 20, 2 }, .vcpus = 2 },
	{ "the deadline moves for ever: looks are bounded", run_floor,
	  guest_move, LAZY, SPIN, { 30, 50000 } },
	{ "one record for two vCPUs", run_hostile, guest_one_record, LAZY, BOTH,
	  { 300, 2 }, .vcpus = 2 },
	{ "one record for four vCPUs", run_hostile, guest_one_record, OURS, SPIN,
	  { 150, 4 }, .vcpus = 4 },
	{ "KVM's clock and others in the record's page", run_hostile,
	  guest_neighbours, LAZY, BOTH, { 20, false } },
	{ "KVM's clock and others in the record", run_hostile,
	  guest_neighbours, LAZY, BOTH, { 200, true } },
	{ "enabled and disabled all the time", run_hostile, guest_toggle,
	  LAZY, BOTH, { 2000 } },
	{ "enabled and disabled all the time by two vCPUs", run_hostile,
	  guest_toggle, OURS, SPIN, { 2000 }, .vcpus = 2 },
	{ "random values for the MSR", run_hostile, guest_random_msr, OURS, SPIN,
	  { 2000 } },
	{ "hidden and enforced: refused", run_hidden, guest_refused, PLAIN,
	  BOTH, .flags = VM_HIDE_FEATURE },
	{ "no local APIC in the kernel: refused", run_hidden,
	  guest_refused_no_apic, PLAIN, SPIN, .flags = VM_NO_APIC },
};

static const struct scenario absent[] = {
	{ "the feature is absent: refused", run_hidden, guest_refused, PLAIN,
	  BOTH },
	{ "no local APIC in the kernel: refused", run_hidden,
	  guest_refused_no_apic, PLAIN, SPIN, .flags = VM_NO_APIC },
};

struct variant {
	const struct scenario *scenario;
	int dialect, wait;
};

static void run_variant(const void *arg)
{
	const struct variant *v = arg;

	v->scenario->host(v->scenario, v->dialect, v->wait);
}

struct options {
	bool absent, list, posted, enemies;
	int watchdog;
	char **patterns;
};

static bool wanted(const struct options *options, const char *name)
{
	char **p;

	for (p = options->patterns; *p; p++)
		if (strstr(name, *p))
			return true;
	return p == options->patterns;
}

static void run_row(const struct scenario *s, const struct options *options)
{
	unsigned int dialects = s->dialects;
	char name[160];
	int d, w;

	if (options->enemies && s->host != run_hostile)
		return;

	for (d = 0; d < GUEST_NR_DIALECTS; d++) {
		for (w = 0; w < GUEST_NR_WAITS; w++) {
			struct variant v = { s, d, w };

			if (!(dialects & 1U << d) || !(s->waits & 1U << w))
				continue;
			harness_name(name, sizeof(name), s->name, d, w);
			if (!wanted(options, name))
				continue;
			if (options->list)
				puts(name);
			else
				harness_run(name, run_variant, &v);
		}
	}
}

/* Without the feature, what a plain guest does must work all the same. */
static void run_absent(const struct options *options)
{
	struct scenario row;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		row = scenarios[i];
		row.dialects &= PLAIN;
		if (row.host == run_to_end || row.host == run_wakeups)
			run_row(&row, options);
	}
	for (i = 0; i < ARRAY_SIZE(absent); i++)
		run_row(&absent[i], options);
}

static void print_help(void)
{
	puts("usage: test_lazy [--expect-absent | --posted | --enemies=SECONDS] [--list]\n"
	     "                 [--watchdog=N] [PATTERN]...\n"
	     "Runs the scenarios whose names contain one of the patterns, or all; or\n"
	     "those that are hostile, each for so long.");
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	struct options options = { .patterns = argv + 1 };
	size_t i;

	for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++) {
		if (!strcmp(argv[1], "--expect-absent"))
			options.absent = true;
		else if (!strcmp(argv[1], "--list"))
			options.list = true;
		else if (!strcmp(argv[1], "--posted"))
			options.posted = true;
		else if (sscanf(argv[1], "--enemies=%u", &enemy_seconds) == 1)
			options.enemies = true;
		else if (sscanf(argv[1], "--watchdog=%d", &options.watchdog) != 1)
			print_help();
		options.patterns++;
	}
	if (!options.list)
		harness_init(options.watchdog);
	if (options.posted)
		harness_posted();
	if (options.absent) {
		run_absent(&options);
	} else {
		for (i = 0; i < ARRAY_SIZE(scenarios); i++)
			run_row(&scenarios[i], &options);
	}
	return options.list ? EXIT_SUCCESS : harness_finish();
}
