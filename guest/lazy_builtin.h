/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lazy TSC deadline: what the kernel's own timer code asks of the guest's driver.
 */
#ifndef _ASM_X86_LAZY_TSCDEADLINE_H
#define _ASM_X86_LAZY_TSCDEADLINE_H

#include <linux/jump_label.h>
#include <linux/types.h>

struct clock_event_device;

#ifdef CONFIG_KVM_GUEST_LAZY_TSCDEADLINE

/* Not for modules, which have a driver of their own for kernels without this. */
DECLARE_STATIC_KEY_FALSE(lazy_tscdeadline_used);

void lazy_tscdeadline_setup(struct clock_event_device *lapic, unsigned int divisor);
void __lazy_tscdeadline_interrupt(void);
void __lazy_tscdeadline_online(void);
void __lazy_tscdeadline_offline(bool down);

/* The timer's interrupt has come; before the clock event device's handler. */
static inline void lazy_tscdeadline_interrupt(void)
{
	if (static_branch_unlikely(&lazy_tscdeadline_used))
		__lazy_tscdeadline_interrupt();
}

/* This CPU goes on, after it was online all the time. */
static inline void lazy_tscdeadline_online(void)
{
	if (static_branch_unlikely(&lazy_tscdeadline_used))
		__lazy_tscdeadline_online();
}

/* This CPU goes away; @down: with the whole kernel. */
static inline void lazy_tscdeadline_offline(bool down)
{
	if (static_branch_unlikely(&lazy_tscdeadline_used))
		__lazy_tscdeadline_offline(down);
}

#else /* !CONFIG_KVM_GUEST_LAZY_TSCDEADLINE */

static inline void lazy_tscdeadline_setup(struct clock_event_device *lapic,
					  unsigned int divisor)
{
}

static inline void lazy_tscdeadline_interrupt(void) {}
static inline void lazy_tscdeadline_online(void) {}
static inline void lazy_tscdeadline_offline(bool down) {}

#endif /* CONFIG_KVM_GUEST_LAZY_TSCDEADLINE */

#endif /* _ASM_X86_LAZY_TSCDEADLINE_H */
