/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lazy TSC deadline: hooks into KVM's local APIC timer.
 *
 * Every function here may be called for a vCPU that does not use the feature,
 * and then does nothing.  "vCPU context" is the thread that holds the vCPU's
 * mutex, with the vCPU loaded and outside of guest mode.
 */
#ifndef __KVM_X86_LAZY_TSCDEADLINE_H
#define __KVM_X86_LAZY_TSCDEADLINE_H

#include <linux/kvm_host.h>

#include <asm/kvm_lazy_tscdeadline.h>

#include "lapic.h"

struct dentry;

/*
 * "Look at the record, or publish again, before the vCPU goes on."  Modules for a
 * kernel that was built without us leave its asm/kvm_host.h as it is.
 */
#ifndef KVM_REQ_LAZY_TSCDEADLINE
#define KVM_REQ_LAZY_TSCDEADLINE	KVM_ARCH_REQ(40)
#endif

#ifdef CONFIG_KVM_LAZY_TSCDEADLINE

u32 kvm_lazy_tscdeadline_cpuid(void);
int kvm_lazy_tscdeadline_set_msr(struct kvm_vcpu *vcpu, u64 data);
int kvm_lazy_tscdeadline_get_msr(struct kvm_vcpu *vcpu, u64 *data);
void kvm_lazy_tscdeadline_update(struct kvm_lapic *apic, u64 deadline);
bool kvm_lazy_tscdeadline_timer_fn(struct kvm_lapic *apic);
bool kvm_lazy_tscdeadline_expired(struct kvm_lapic *apic, bool from_timer_fn);
bool kvm_lazy_tscdeadline_rearm(struct kvm_lapic *apic);
void kvm_lazy_tscdeadline_injected(struct kvm_lapic *apic, bool may_restart);
void kvm_lazy_tscdeadline_cancel(struct kvm_lapic *apic);
void kvm_lazy_tscdeadline_flush(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_lvtt(struct kvm_lapic *apic);
void kvm_lazy_tscdeadline_reset(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_set_lapic(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_tsc_changed(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_service(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_halt(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_user_exit(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_memslots(struct kvm_vcpu *vcpu);
void kvm_lazy_tscdeadline_destroy(struct kvm_lapic *apic);
void kvm_lazy_tscdeadline_create_debugfs(struct kvm_vcpu *vcpu,
					 struct dentry *dir);

static inline void kvm_lazy_tscdeadline_check_request(struct kvm_vcpu *vcpu)
{
	if (kvm_check_request(KVM_REQ_LAZY_TSCDEADLINE, vcpu))
		kvm_lazy_tscdeadline_service(vcpu);
}

#else /* !CONFIG_KVM_LAZY_TSCDEADLINE */

static inline u32 kvm_lazy_tscdeadline_cpuid(void)
{
	return 0;
}

static inline int kvm_lazy_tscdeadline_set_msr(struct kvm_vcpu *vcpu, u64 data)
{
	return KVM_MSR_RET_UNSUPPORTED;
}

static inline int kvm_lazy_tscdeadline_get_msr(struct kvm_vcpu *vcpu, u64 *data)
{
	return KVM_MSR_RET_UNSUPPORTED;
}

static inline bool kvm_lazy_tscdeadline_timer_fn(struct kvm_lapic *apic)
{
	return false;
}

static inline bool kvm_lazy_tscdeadline_expired(struct kvm_lapic *apic,
						bool from_timer_fn)
{
	return false;
}

static inline bool kvm_lazy_tscdeadline_rearm(struct kvm_lapic *apic)
{
	return false;
}

static inline void kvm_lazy_tscdeadline_create_debugfs(struct kvm_vcpu *vcpu,
						       struct dentry *dir)
{
}

static inline void kvm_lazy_tscdeadline_update(struct kvm_lapic *apic,
					       u64 deadline)
{
	apic->lapic_timer.tscdeadline = deadline;
}

static inline void kvm_lazy_tscdeadline_injected(struct kvm_lapic *apic,
						 bool may_restart)
{
}

static inline void kvm_lazy_tscdeadline_cancel(struct kvm_lapic *apic) {}
static inline void kvm_lazy_tscdeadline_flush(struct kvm_vcpu *vcpu) {}
static inline void kvm_lazy_tscdeadline_lvtt(struct kvm_lapic *apic) {}
static inline void kvm_lazy_tscdeadline_reset(struct kvm_vcpu *vcpu) {}
static inline void kvm_lazy_tscdeadline_set_lapic(struct kvm_vcpu *vcpu) {}
static inline void kvm_lazy_tscdeadline_tsc_changed(struct kvm_vcpu *vcpu) {}
static inline void kvm_lazy_tscdeadline_halt(struct kvm_vcpu *vcpu) {}
static inline void kvm_lazy_tscdeadline_user_exit(struct kvm_vcpu *vcpu) {}
static inline void kvm_lazy_tscdeadline_memslots(struct kvm_vcpu *vcpu) {}
static inline void kvm_lazy_tscdeadline_destroy(struct kvm_lapic *apic) {}
static inline void kvm_lazy_tscdeadline_check_request(struct kvm_vcpu *vcpu) {}

#endif /* CONFIG_KVM_LAZY_TSCDEADLINE */

#endif /* __KVM_X86_LAZY_TSCDEADLINE_H */
