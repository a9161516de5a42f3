// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy TSC deadline: the guest's driver as a part of the kernel.
 *
 * It needs no clock event device of its own: each CPU's "lapic-deadline" is
 * given our functions before it is registered.  apic.c and kvm.c say when; the
 * hooks are in asm/lazy_tscdeadline.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/clockchips.h>
#include <linux/cpumask.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/jump_label.h>
#include <linux/percpu.h>
#include <linux/printk.h>

#include <asm/hypervisor.h>
#include <asm/lazy_tscdeadline.h>

#include "lazy_core.h"

DEFINE_STATIC_KEY_FALSE(lazy_tscdeadline_used);

/* TSC ticks per tick of lapic-deadline */
static unsigned int lazy_divisor __ro_after_init;

/* What lapic-deadline does itself to be shut down: it masks LVTT. */
static int (*lazy_lapic_shutdown)(struct clock_event_device *lapic) __ro_after_init;

/* The kernel is going down: no CPU may begin to share. */
static bool lazy_down;

static int lazy_tscdeadline_next_event(unsigned long delta,
				       struct clock_event_device *lapic)
{
	lazy_tscdeadline_set_next((u64)delta * lazy_divisor);
	return 0;
}

static int lazy_tscdeadline_lapic_shutdown(struct clock_event_device *lapic)
{
	lazy_tscdeadline_set_shutdown(lapic);
	return lazy_lapic_shutdown(lapic);
}

/* On the first CPU, while it is alone: is this a machine for us? */
static void lazy_tscdeadline_decide(struct clock_event_device *lapic,
				    unsigned int divisor)
{
	const char *obstacle;

	/* "nopv" on the command line */
	if (!hypervisor_is_type(X86_HYPER_KVM))
		return;

	obstacle = lazy_tscdeadline_obstacle();
	if (!obstacle && lazy_tscdeadline_alloc())
		obstacle = "out of memory";
	if (obstacle) {
		pr_info("not used: %s\n", obstacle);
		return;
	}
	lazy_divisor = divisor;
	lazy_lapic_shutdown = lapic->set_state_shutdown;
	static_branch_enable(&lazy_tscdeadline_used);
}

/**
 * lazy_tscdeadline_setup - a CPU's timer is about to be registered
 * @lapic: its clock event device, complete, for deadlines
 * @divisor: ticks of the TSC per tick of @lapic
 *
 * If the host offers it, @lapic is lazy from here on.
 *
 * Context: on that CPU, at boot and whenever it comes online.  For the first
 *	time on the first CPU, may sleep then.
 */
void lazy_tscdeadline_setup(struct clock_event_device *lapic, unsigned int divisor)
{
	struct lazy_tscdeadline_cpu *lc;
	static bool decided;
	unsigned long flags;

	if (!decided) {
		decided = true;
		lazy_tscdeadline_decide(lapic, divisor);
	}
	if (!static_branch_unlikely(&lazy_tscdeadline_used))
		return;

	local_irq_save(flags);
	lc = this_cpu_ptr(&lazy_tscdeadline_cpus);
	lazy_tscdeadline_init_cpu(lc);
	lc->dev = lapic;
	lc->error = READ_ONCE(lazy_down) ? -EBUSY : lazy_tscdeadline_share(lc);
	lc->attached = !lc->error;
	local_irq_restore(flags);
	if (!lc->attached)
		return;

	lapic->name = "lazy-deadline";
	lapic->set_next_event = lazy_tscdeadline_next_event;
	lapic->set_state_oneshot = lazy_tscdeadline_set_oneshot;
	lapic->set_state_oneshot_stopped = lazy_tscdeadline_set_oneshot_stopped;
	lapic->set_state_shutdown = lazy_tscdeadline_lapic_shutdown;
}

/**
 * __lazy_tscdeadline_interrupt - the timer's interrupt has come on this CPU
 *
 * Context: its handler, before the clock event device's.
 */
void __lazy_tscdeadline_interrupt(void)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);

	if (lc->attached)
		lazy_tscdeadline_account(lc);
}

/**
 * __lazy_tscdeadline_online - this CPU goes on
 *
 * After suspend, or if it does not go offline after all: share again.
 *
 * Context: interrupts off.
 */
void __lazy_tscdeadline_online(void)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);

	/* It may have begun to share before it could be told of the end. */
	if (READ_ONCE(lazy_down)) {
		lazy_tscdeadline_stop(lc);
		return;
	}
	if (!lc->attached || lc->sharing)
		return;
	if (lazy_tscdeadline_share(lc))
		lazy_tscdeadline_report_refusal();
}

/**
 * __lazy_tscdeadline_offline - this CPU goes away
 * @down: with the whole kernel; whatever comes next may use the records' memory
 *
 * Context: interrupts off, or the CPU is about to stop for good.
 */
void __lazy_tscdeadline_offline(bool down)
{
	if (down)
		WRITE_ONCE(lazy_down, true);
	lazy_tscdeadline_stop(this_cpu_ptr(&lazy_tscdeadline_cpus));
}

static int __init lazy_tscdeadline_late_init(void)
{
	unsigned int cpus = 0;
	int cpu;

	if (!static_key_enabled(&lazy_tscdeadline_used))
		return 0;

	for_each_online_cpu(cpu)
		cpus += READ_ONCE(per_cpu(lazy_tscdeadline_cpus, cpu).attached);
	lazy_tscdeadline_create_debugfs();
	pr_info("active on %u CPUs\n", cpus);
	return 0;
}
late_initcall(lazy_tscdeadline_late_init);
