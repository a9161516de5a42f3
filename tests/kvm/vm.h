/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Small virtual machines on /dev/kvm, for tests.
 *
 * The guest is this program itself: its segments are copied into guest memory
 * at the same (identity mapped) addresses, so any function that calls nothing
 * but guest code can run in the guest, and every variable has a second copy
 * there.  It must therefore be linked statically and at a fixed address.
 */
#ifndef _LAZY_TEST_VM_H
#define _LAZY_TEST_VM_H

#include <linux/kvm.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "guest.h"

#define __noreturn	__attribute__((__noreturn__))
#define __printf(a, b)	__attribute__((__format__(printf, a, b)))

#define VM_RAM_SIZE		0x800000UL
/* The records live in a memory slot of their own, so it can be taken away. */
#define VM_RECORD_SLOT		1
#define VM_RECORD_SIZE		GUEST_RECORD_SIZE
#define VM_RO_SLOT		2

/* Flags of vm_create(). */
#define VM_HIDE_FEATURE		BIT(0)	/* not in CPUID, enforced */
#define VM_NO_APIC		BIT(1)
#define VM_DIRTY_RING		BIT(2)
#define VM_DIRTY_LOG		BIT(3)
#define VM_RO_MEMORY		BIT(4)
#define VM_HIDE_ONLY		BIT(5)	/* not in CPUID, not enforced */
#define VM_HLT_IN_GUEST		BIT(6)	/* HLT does not exit */
#define VM_LOG_LATER		BIT(7)	/* no dirty log until vm_begin_log() */

struct vcpu {
	struct vm *vm;
	int id;
	int fd;
	int stats_fd;
	struct kvm_run *run;
	void *ring;
	size_t ring_size;
};

struct vm {
	int fd;
	unsigned int flags;
	int nr_vcpus;
	char *ram;
	char *record_page;
	struct vcpu vcpus[GUEST_MAX_CPUS];
};

/* Flags that all VMs have, whatever is asked for. */
extern unsigned int vm_flags;

/* Those that exist now, for reports. */
#define VM_MAX	8
extern struct vm *vms[VM_MAX];

/*
 * All of these end the process with a message if the system refuses: a test
 * that cannot be set up has failed.
 */
void vm_die(const char *what, ...) __noreturn __printf(1, 2);
int vm_open_kvm(void);
bool vm_host_has_feature(void);
bool vm_host_lists_msr(__u32 msr);
/* Can guests run guests of their own, with that? */
bool vm_host_has_svm(void);
bool vm_host_has_vmx(void);
/* Are timers in the VMX preemption timer while the vCPU runs? */
bool vm_host_has_hv_timer(void);
struct vm *vm_create(int nr_vcpus, unsigned int flags, void (*code)(void));
void vm_destroy(struct vm *vm);
void vm_set_slot(struct vm *vm, int slot, __u64 gpa, __u64 size, void *hva,
		 unsigned int flags);
void vm_set_record_slot(struct vm *vm, bool present);
void vm_begin_log(struct vm *vm);
bool vm_dirty(struct vm *vm, unsigned int page);
void vm_signal_msi(struct vm *vm, int cpu, int vector);
long vm_halt_poll(struct vm *vm, __u64 ns);

/* Address of the guest's copy of a variable of this program. */
void *vm_guest_copy(struct vm *vm, const void *p);
struct guest_cpu *vm_cpu(struct vm *vm, int cpu);
struct lazy_tscdeadline_record *vm_record(struct vm *vm, int cpu);

/*
 * Run until the guest calls the host: its GUEST_CALL_* number; -EINTR: a signal;
 * -ENOSPC: the dirty ring has to be emptied.
 */
int vcpu_run(struct vcpu *vcpu);
void vcpu_complete(struct vcpu *vcpu);
__u64 vcpu_get_msr(struct vcpu *vcpu, __u32 msr);
int vcpu_set_msr(struct vcpu *vcpu, __u32 msr, __u64 value);
void vcpu_get_lapic(struct vcpu *vcpu, struct kvm_lapic_state *lapic);
void vcpu_set_lapic(struct vcpu *vcpu, struct kvm_lapic_state *lapic);
__u64 vcpu_stat(struct vcpu *vcpu, const char *name);
/* A line of the feature's debugfs file: a number, or a word. */
__u64 vcpu_lazy_stat(struct vcpu *vcpu, const char *name);
bool vcpu_lazy_says(struct vcpu *vcpu, const char *name, const char *word);
/* Does the policy know a rhythm of about that many ticks? */
bool vcpu_lazy_knows(struct vcpu *vcpu, __u64 period);
/* A parameter of kvm.ko, for all VMs; the second returns what it was. */
void vm_set_parameter(const char *name, const char *value);
unsigned int vm_swap_parameter(const char *name, unsigned int value);
int vcpu_mp_state(struct vcpu *vcpu);
bool vcpu_double_tsc(struct vcpu *vcpu);
bool vcpu_ring_dirty(struct vcpu *vcpu, unsigned int page);

/* Copy the whole state, as a migration does; with or without our MSR. */
void vm_migrate(struct vm *from, struct vm *to, bool with_msr);

/* The same for one vCPU, with what concerns the timer in that order. */
enum vm_restore {
	VM_RESTORE_TSC,
	VM_RESTORE_LAPIC,
	VM_RESTORE_LAZY,
	VM_RESTORE_DEADLINE,
	VM_RESTORE_NR
};

void vm_migrate_in_order(struct vm *from, struct vm *to, const enum vm_restore *order);

#endif /* _LAZY_TEST_VM_H */
