// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy TSC deadline: the guest's clock event device.
 *
 * The deadline that the tick core wants goes into a record which the host
 * reads; MSR_IA32_TSC_DEADLINE, whose write is a VM exit, is written only if
 * the host would look at the record too late.  abi/lazy_tscdeadline.h has the
 * protocol.
 *
 * The interrupt stays the one of the local APIC timer: LVTT is kept in
 * TSC-deadline mode on LOCAL_TIMER_VECTOR, whose handler calls the
 * event_handler of the CPU's "lapic-deadline" device.  That device is parked
 * while ours is the CPU's tick device: the tick core has detached it, and its
 * event_handler leads to us.
 *
 * Everything that touches a CPU's state runs on that CPU with interrupts off;
 * the record is shared with the host alone.
 *
 * A crash kernel may start without any notice to us (kdump comes before the
 * panic notifiers, and stops the other CPUs by NMI).  It lives in memory of its
 * own, so the records, which the host may go on writing, stay what they are:
 * parts of the dead kernel's memory.  Its deadlines differ from what is left in
 * "pending" and are therefore plain ones.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cc_platform.h>
#include <linux/clockchips.h>
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/panic_notifier.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/reboot.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include <asm/apic.h>
#include <asm/barrier.h>
#include <asm/irq_vectors.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/tsc.h>

#include "compat.h"
#include "lazy_tscdeadline.h"

#define CREATE_TRACE_POINTS
#include "lazy_tscdeadline_trace.h"

/*
 * TSC ticks per tick of the clock event device: its frequency, in Hz, has to
 * fit 32 bits.
 */
#define LAZY_TSC_DIVISOR	4
#define LAZY_MIN_DELTA		0x1f

/* The longest delta that the conversion has to be exact for (as in the core) */
#define LAZY_MAX_SECONDS	600

/* Traps in a row that the host did not heed, until it is asked again */
#define LAZY_MISSES		8

/* Bounds of the time between two such questions, in jiffies */
#define LAZY_HEAL_MIN		HZ
#define LAZY_HEAL_MAX		(64 * HZ)

/* How long to wait for the kernel to program a timer, in milliseconds */
#define LAZY_PROBE_MS		1000

static_assert(sizeof(struct lazy_tscdeadline_record) == LAZY_TSCDEADLINE_ALIGN);
static_assert(PAGE_SIZE % LAZY_TSCDEADLINE_ALIGN == 0);

static bool enable = true;
module_param(enable, bool, 0444);
MODULE_PARM_DESC(enable, "use the lazy TSC deadline if the host offers it (default: Y)");

/**
 * struct lazy_tscdeadline_cpu - the driver's state on one CPU
 * @dev: our clock event device
 * @record: what is shared with the host
 * @deadline: TSC value that the tick core wants, or wanted last; 0: none
 * @attached: @dev has been registered and was not given back
 * @error: why not, if that was tried: -EBUSY, -ENODEV; else 0
 * @sharing: the host has accepted the record; else every deadline is written
 * @refused: the host has not accepted it, but another one may, after a migration
 * @waiting: the interrupt for @deadline has yet to come
 * @crossing: a deadline was replaced when its interrupt may have been on its way
 * @timer_ready: LVTT is set up for @dev
 * @khz: the TSC frequency for which the conversion of @dev was computed
 * @misses: traps in a row that the host did not heed
 * @heal_delay: jiffies until the host may be asked again
 * @heal_next: earliest time of that, in jiffies
 * @programmed: deadlines set
 * @traps: how many of them were written to the MSR
 * @cancelled: times the device was stopped
 * @cancel_traps: how many of them needed a write
 * @fired: interrupts
 * @early: interrupts before @deadline or with nothing wanted, without excuse
 * @early_deadline: the deadline that was wanted when the last of them came; 0: none
 * @early_tsc: TSC value at which it came
 * @stale: the same, but see @crossing
 * @reenabled: times the host was asked to share again
 */
struct lazy_tscdeadline_cpu {
	struct clock_event_device dev;
	struct lazy_tscdeadline_record *record;
	u64 deadline;
	bool attached;
	int error;
	bool sharing;
	bool refused;
	bool waiting;
	bool crossing;
	bool timer_ready;
	unsigned int khz;
	unsigned int misses;
	unsigned long heal_delay;
	unsigned long heal_next;
	u64 programmed;
	u64 traps;
	u64 cancelled;
	u64 cancel_traps;
	u64 fired;
	u64 early;
	u64 early_deadline;
	u64 early_tsc;
	u64 stale;
	u64 reenabled;
};

static DEFINE_PER_CPU(struct lazy_tscdeadline_cpu, lazy_cpus);

/* The kernel's lapic_events, which has no name outside apic.c */
static struct clock_event_device __percpu *lazy_lapic;
static bool lazy_lapic_found;

static enum cpuhp_state lazy_cpuhp_state;
static struct dentry *lazy_debugfs;

/* Loading is over: from now on no CPU's failure is the driver's failure. */
static bool lazy_loaded;

/* The kernel is going down: no CPU may begin to share. */
static bool lazy_down;

/* Time in which a host may be busy with a deadline: 16 us, in TSC ticks */
static u64 lazy_tscdeadline_margin(void)
{
	return tsc_khz >> 6;
}

static u32 lazy_tscdeadline_hz(void)
{
	return tsc_khz * (1000 / LAZY_TSC_DIVISOR);
}

static void lazy_tscdeadline_report_refusal(struct irq_work *work)
{
	pr_warn("the host no longer offers it, back to plain deadlines\n");
}

/* set_next_event may run under locks of the scheduler: no printk from there */
static struct irq_work lazy_refusal = IRQ_WORK_INIT(lazy_tscdeadline_report_refusal);

static void lazy_tscdeadline_write(struct lazy_tscdeadline_cpu *lc, u64 deadline)
{
	/* The write of this MSR serialises nothing, on hardware. */
	weak_wrmsr_fence();
	wrmsrl(MSR_IA32_TSC_DEADLINE, deadline);
}

/**
 * lazy_tscdeadline_share - have the host look at this CPU's record
 * @lc: state of this CPU
 *
 * A deadline that is waited for is programmed again, so that the host learns
 * of it through the record; or, if the host refuses, as a plain one.
 *
 * Context: on the CPU of @lc, interrupts off.
 * Return: 0, or -ENODEV if the host does not accept the record.
 */
static int lazy_tscdeadline_share(struct lazy_tscdeadline_cpu *lc)
{
	/* A host that is still there must not see the record change under it. */
	if (lc->sharing)
		wrmsrl_safe(MSR_KVM_LAZY_TSCDEADLINE, 0);
	memset(lc->record, 0, sizeof(*lc->record));
	lc->misses = 0;
	lc->sharing = !wrmsrl_safe(MSR_KVM_LAZY_TSCDEADLINE,
				   __pa(lc->record) | LAZY_TSCDEADLINE_MSR_ENABLED);
	lc->refused = !lc->sharing;
	if (lc->waiting) {
		WRITE_ONCE(lc->record->pending, lc->deadline);
		lazy_tscdeadline_write(lc, lc->deadline);
	}
	return lc->sharing ? 0 : -ENODEV;
}

/**
 * lazy_tscdeadline_stop - the one way to end sharing on a CPU
 * @lc: state of this CPU
 *
 * From here on every deadline is written to the MSR.  A deadline that is waited
 * for is written once more: hosts of the RFC do not keep it armed.
 *
 * Context: on the CPU of @lc, interrupts off; also in a panic.
 */
static void lazy_tscdeadline_stop(struct lazy_tscdeadline_cpu *lc)
{
	lc->refused = false;
	if (!lc->sharing)
		return;

	lc->sharing = false;
	wrmsrl_safe(MSR_KVM_LAZY_TSCDEADLINE, 0);
	if (lc->waiting)
		lazy_tscdeadline_write(lc, lc->deadline);
}

/*
 * After a trap: does the host still know us?  It does if it has promised to
 * look before the deadline.  It need not promise that for a deadline that is
 * about to pass, so these do not count.  A host that never does has lost the
 * record (migration, loadvm, reset) or has given it up; what it left in "armed"
 * may be anything then.  One that refused may have been replaced by one that does
 * not: ask again from time to time.
 */
static void lazy_tscdeadline_check_host(struct lazy_tscdeadline_cpu *lc)
{
	u64 armed = READ_ONCE(lc->record->armed);
	bool refused = lc->refused;
	u64 now = rdtsc();

	if (likely(armed > now && armed <= lc->deadline)) {
		lc->misses = 0;
		lc->heal_delay = LAZY_HEAL_MIN;
		return;
	}
	if (lc->deadline <= now + lazy_tscdeadline_margin())
		return;
	if (++lc->misses < LAZY_MISSES || time_before(jiffies, lc->heal_next))
		return;

	lc->heal_next = jiffies + lc->heal_delay;
	lc->heal_delay = min_t(unsigned long, 2 * lc->heal_delay, LAZY_HEAL_MAX);
	if (!lazy_tscdeadline_share(lc))
		lc->reenabled++;
	else if (!refused)
		irq_work_queue(&lazy_refusal);
}

/*
 * A deadline has been replaced: may its interrupt be on its way?  Asked after
 * the host could learn of the new one, not before: much time may pass in between
 * if the host has other things to do.
 */
static void lazy_tscdeadline_dropped(struct lazy_tscdeadline_cpu *lc, u64 deadline)
{
	if (deadline <= rdtsc() + lazy_tscdeadline_margin())
		lc->crossing = true;
}

/* Is there an interrupt of the timer that this CPU has yet to take? */
static bool lazy_tscdeadline_requested(void)
{
	return apic->read(APIC_IRR + LOCAL_TIMER_VECTOR / 32 * 0x10) &
	       BIT(LOCAL_TIMER_VECTOR % 32);
}

static struct lazy_tscdeadline_cpu *lazy_tscdeadline_of(struct clock_event_device *dev)
{
	return container_of(dev, struct lazy_tscdeadline_cpu, dev);
}

/* Have the host look at @deadline in time: through the record, or by a write. */
static void lazy_tscdeadline_program(struct lazy_tscdeadline_cpu *lc, u64 deadline, u64 now)
{
	u64 armed = 0;
	bool trap = true;

	/* Without sharing as well: a host of the RFC may not stop looking. */
	WRITE_ONCE(lc->record->pending, deadline);
	if (likely(lc->sharing)) {
		/*
		 * Pairs with the host's barrier between its store of armed = 0
		 * and its load of pending: its look sees this deadline, or we
		 * see that it will not look again.  virt_mb(), as a kernel for
		 * one CPU has a host next to it, too.
		 */
		virt_mb();
		armed = READ_ONCE(lc->record->armed);
		trap = lazy_tscdeadline_must_trap(armed, deadline, now);
	}
	trace_lazy_tscdeadline_program(now, deadline, armed, trap);
	if (!trap)
		return;

	lc->traps++;
	lazy_tscdeadline_write(lc, deadline);
	if (likely(lc->sharing) || lc->refused)
		lazy_tscdeadline_check_host(lc);
}

static int lazy_tscdeadline_set_next_event(unsigned long delta,
					   struct clock_event_device *dev)
{
	struct lazy_tscdeadline_cpu *lc = lazy_tscdeadline_of(dev);
	bool replaces = lc->waiting;
	u64 last = lc->deadline;
	u64 now = rdtsc();

	lc->programmed++;
	lc->deadline = now + (u64)delta * LAZY_TSC_DIVISOR;
	lc->waiting = true;
	lazy_tscdeadline_program(lc, lc->deadline, now);
	if (replaces)
		lazy_tscdeadline_dropped(lc, last);
	return 0;
}

/* Nothing is wanted any more; @leave: the host need not know at once. */
static void lazy_tscdeadline_cancel(struct lazy_tscdeadline_cpu *lc, bool leave)
{
	u64 armed = 0, now = rdtsc();
	bool trap = true;

	lc->cancelled++;
	WRITE_ONCE(lc->record->pending, 0);
	if (lc->sharing) {
		/* Pairs as in lazy_tscdeadline_program(). */
		virt_mb();
		armed = READ_ONCE(lc->record->armed);
		trap = !leave ||
		       lazy_tscdeadline_cancel_must_trap(READ_ONCE(lc->record->features),
							 armed, lc->deadline, rdtsc());
	}
	trace_lazy_tscdeadline_program(now, 0, armed, trap);
	if (trap) {
		lc->cancel_traps++;
		lazy_tscdeadline_write(lc, 0);
	}
	if (lc->waiting)
		lazy_tscdeadline_dropped(lc, lc->deadline);
	lc->waiting = false;
	lc->deadline = 0;
}

/* The tick core has nothing to wait for: frequent, on the way to idle. */
static int lazy_tscdeadline_set_oneshot_stopped(struct clock_event_device *dev)
{
	lazy_tscdeadline_cancel(lazy_tscdeadline_of(dev), true);
	return 0;
}

/*
 * Suspend, or the device is replaced: rare, so nothing is left to the host.
 * Others may use the timer now, which is why LVTT is set up again later.
 */
static int lazy_tscdeadline_set_shutdown(struct clock_event_device *dev)
{
	struct lazy_tscdeadline_cpu *lc = lazy_tscdeadline_of(dev);

	lazy_tscdeadline_cancel(lc, false);
	lc->timer_ready = false;
	return 0;
}

static int lazy_tscdeadline_set_oneshot(struct clock_event_device *dev)
{
	struct lazy_tscdeadline_cpu *lc = lazy_tscdeadline_of(dev);

	if (lc->timer_ready)
		return 0;

	apic->write(APIC_LVTT, LOCAL_TIMER_VECTOR | APIC_LVT_TIMER_TSCDEADLINE);
	/* Intel SDM: xAPIC mode orders LVTT and the MSR by MFENCE alone. */
	mb();
	lc->timer_ready = true;
	return 0;
}

/* Sort the interrupt that has come: the deadline's, or one that is not due? */
static void lazy_tscdeadline_account(struct lazy_tscdeadline_cpu *lc)
{
	u64 now = rdtsc_ordered();

	lc->fired++;
	if (lc->waiting && now >= lc->deadline) {
		lc->waiting = false;
	} else if (lc->crossing) {
		lc->crossing = false;
		lc->stale++;
	} else {
		lc->early++;
		lc->early_deadline = lc->waiting ? lc->deadline : 0;
		lc->early_tsc = now;
	}
}

/*
 * The event_handler of the parked lapic-deadline device.  The record's pending
 * stays as it is, the host keeps account of what it has delivered.
 */
static void lazy_tscdeadline_interrupt(struct clock_event_device *lapic)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_cpus);

	lazy_tscdeadline_account(lc);
	/* The kernel refines its idea of the frequency in its first seconds. */
	if (unlikely(lc->khz != tsc_khz)) {
		lc->khz = tsc_khz;
		clockevents_calc_mult_shift(&lc->dev, lazy_tscdeadline_hz(),
					    LAZY_MAX_SECONDS);
	}
	lc->dev.event_handler(&lc->dev);
}

static void lazy_tscdeadline_init_device(struct lazy_tscdeadline_cpu *lc, int cpu)
{
	lc->dev = (struct clock_event_device) {
		.name				= KBUILD_MODNAME,
		.features			= CLOCK_EVT_FEAT_ONESHOT,
		/*
		 * No device may displace ours: the tick core would make ours
		 * the broadcast device, which cannot be unbound.
		 */
		.rating				= INT_MAX,
		.irq				= -1,
		.cpumask			= cpumask_of(cpu),
		.set_next_event			= lazy_tscdeadline_set_next_event,
		.set_state_oneshot		= lazy_tscdeadline_set_oneshot,
		.set_state_oneshot_stopped	= lazy_tscdeadline_set_oneshot_stopped,
		.set_state_shutdown		= lazy_tscdeadline_set_shutdown,
		/*
		 * No owner: its reference would make rmmod impossible.  Every
		 * CPU is given back before the module goes.
		 */
	};
	INIT_LIST_HEAD(&lc->dev.list);
	lc->deadline = 0;
	lc->waiting = false;
	lc->crossing = false;
	lc->timer_ready = false;
	lc->khz = tsc_khz;
	lc->heal_delay = LAZY_HEAL_MIN;
	lc->heal_next = jiffies;
}

static bool lazy_tscdeadline_lapic_in_use(struct clock_event_device *lapic)
{
	return lapic->name && !strcmp(lapic->name, "lapic-deadline") &&
	       !(lapic->features & (CLOCK_EVT_FEAT_C3STOP | CLOCK_EVT_FEAT_DUMMY)) &&
	       (clockevent_state_oneshot(lapic) ||
		clockevent_state_oneshot_stopped(lapic));
}

/*
 * Register a device that must not become the tick device, while another one
 * does or stays it.  The tick core offers the losing device the job of the
 * broadcast device, in which it would mask LVTT under us; it does not offer it
 * to a device with C3STOP.  This is the only moment at which it may, so the
 * flag does not have to stay, and the core can fall back to the lapic device
 * whenever ours is unbound (even by hand, through sysfs).
 */
static void lazy_tscdeadline_register(struct lazy_tscdeadline_cpu *lc,
				      struct clock_event_device *lapic)
{
	lapic->features |= CLOCK_EVT_FEAT_C3STOP;
	clockevents_config_and_register(&lc->dev, lazy_tscdeadline_hz(),
					LAZY_MIN_DELTA, ULONG_MAX);
	lapic->features &= ~CLOCK_EVT_FEAT_C3STOP;
}

/**
 * lazy_tscdeadline_attach - make our device the tick device of this CPU
 * @lc: state of this CPU
 * @cpu: its number
 *
 * Context: on the CPU of @lc, interrupts off.
 * Return: 0; -EBUSY if lapic-deadline is not the CPU's tick device; -ENODEV if
 *	the host refuses.  After an error the CPU is to be detached.
 */
static int lazy_tscdeadline_attach(struct lazy_tscdeadline_cpu *lc, int cpu)
{
	struct clock_event_device *lapic = this_cpu_ptr(lazy_lapic);
	int err;

	if (!lazy_tscdeadline_lapic_in_use(lapic))
		return -EBUSY;

	lazy_tscdeadline_init_device(lc, cpu);
	err = lazy_tscdeadline_share(lc);
	if (err)
		return err;

	lc->attached = true;
	lazy_tscdeadline_register(lc, lapic);
	/* If not detached, it is in use as the broadcast device. */
	if (!clockevent_state_detached(lapic))
		return -EBUSY;

	/* The core has put a handler there that does nothing. */
	lapic->event_handler = lazy_tscdeadline_interrupt;
	/* What comes of lapic-deadline's last event is no early interrupt. */
	lc->crossing |= lazy_tscdeadline_requested();
	return 0;
}

/*
 * The core falls back to a device of its list, from which someone may have
 * taken the lapic device (by its file unbind_device).
 */
static void lazy_tscdeadline_relist_lapic(struct clock_event_device *lapic)
{
	if (!list_empty(&lapic->list))
		return;

	lapic->features |= CLOCK_EVT_FEAT_C3STOP;
	clockevents_register_device(lapic);
	lapic->features &= ~CLOCK_EVT_FEAT_C3STOP;
}

/**
 * lazy_tscdeadline_detach - give a CPU back to lapic-deadline
 * @lc: state of this CPU
 * @cpu: its number
 *
 * Does nothing on a CPU that was not attached.
 *
 * Context: on the CPU of @lc, may sleep.
 */
static void lazy_tscdeadline_detach(struct lazy_tscdeadline_cpu *lc, int cpu)
{
	unsigned long flags;
	int err;

	if (!lc->attached)
		return;

	local_irq_save(flags);
	lazy_tscdeadline_stop(lc);
	lazy_tscdeadline_relist_lapic(this_cpu_ptr(lazy_lapic));
	local_irq_restore(flags);

	/* The core hands its next event over to the lapic device. */
	err = clockevents_unbind_device(&lc->dev, cpu);
	if (err)
		pr_err("CPU %d has no other timer (%d)\n", cpu, err);
	lc->attached = false;
}

static int lazy_tscdeadline_online(unsigned int cpu)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_cpus);
	unsigned long flags;
	int err = 0;

	local_irq_save(flags);
	if (!READ_ONCE(lazy_down))
		err = lazy_tscdeadline_attach(lc, cpu);
	local_irq_restore(flags);
	WRITE_ONCE(lc->error, err);
	if (err)
		lazy_tscdeadline_detach(lc, cpu);

	/* A CPU that comes later works without us as well. */
	return lazy_loaded ? 0 : err;
}

static int lazy_tscdeadline_offline(unsigned int cpu)
{
	WRITE_ONCE(this_cpu_ptr(&lazy_cpus)->error, 0);
	lazy_tscdeadline_detach(this_cpu_ptr(&lazy_cpus), cpu);
	return 0;
}

static void lazy_tscdeadline_stop_this_cpu(void *unused)
{
	lazy_tscdeadline_stop(this_cpu_ptr(&lazy_cpus));
}

/* Whatever comes next (kexec, firmware) may use the memory of the records. */
static int lazy_tscdeadline_on_reboot(struct notifier_block *nb,
				      unsigned long action, void *data)
{
	WRITE_ONCE(lazy_down, true);
	on_each_cpu(lazy_tscdeadline_stop_this_cpu, NULL, 1);
	return NOTIFY_DONE;
}

static struct notifier_block lazy_reboot_notifier = {
	.notifier_call = lazy_tscdeadline_on_reboot,
};

/* The other CPUs have been stopped and cannot be reached; see the top. */
static int lazy_tscdeadline_on_panic(struct notifier_block *nb,
				     unsigned long action, void *data)
{
	WRITE_ONCE(lazy_down, true);
	lazy_tscdeadline_stop_this_cpu(NULL);
	return NOTIFY_DONE;
}

static struct notifier_block lazy_panic_notifier = {
	.notifier_call = lazy_tscdeadline_on_panic,
};

/*
 * Suspend and hibernation.  One CPU is left, with interrupts off; the others
 * were taken offline.  This comes before the tick is suspended and after it is
 * resumed, as what is registered last is suspended first.
 */
static int lazy_tscdeadline_suspend(void)
{
	lazy_tscdeadline_stop_this_cpu(NULL);
	return 0;
}

static void lazy_tscdeadline_resume(void)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_cpus);

	if (lc->attached && !READ_ONCE(lazy_down) && lazy_tscdeadline_share(lc))
		irq_work_queue(&lazy_refusal);
}

LAZY_DEFINE_SYSCORE(lazy_syscore, lazy_tscdeadline_suspend, lazy_tscdeadline_resume);

/* Before the first CPU shares, and until none does any more. */
static void lazy_tscdeadline_watch(void)
{
	register_reboot_notifier(&lazy_reboot_notifier);
	atomic_notifier_chain_register(&panic_notifier_list, &lazy_panic_notifier);
	lazy_register_syscore(&lazy_syscore);
}

static void lazy_tscdeadline_unwatch(void)
{
	lazy_unregister_syscore(&lazy_syscore);
	atomic_notifier_chain_unregister(&panic_notifier_list, &lazy_panic_notifier);
	unregister_reboot_notifier(&lazy_reboot_notifier);
}

/*
 * What keeps the CPU from lazy mode; NULL: nothing does.  For debugfs, so
 * without a claim to be of one moment.
 */
static const char *lazy_tscdeadline_reason(struct lazy_tscdeadline_cpu *lc)
{
	if (!READ_ONCE(lc->attached)) {
		switch (READ_ONCE(lc->error)) {
		case -EBUSY:
			return "busy";		/* another clock event device */
		case -ENODEV:
			return "refused";
		default:
			return "offline";
		}
	}
	if (clockevent_state_detached(&lc->dev))
		return "unbound";
	if (READ_ONCE(lc->refused))
		return "refused";
	if (!READ_ONCE(lc->sharing))
		return "stopped";
	return READ_ONCE(lc->misses) < LAZY_MISSES ? NULL : "unheeded";
}

static void lazy_tscdeadline_show_state(struct seq_file *m,
					struct lazy_tscdeadline_cpu *lc)
{
	const char *reason = lazy_tscdeadline_reason(lc);
	bool ours = READ_ONCE(lc->attached) && !clockevent_state_detached(&lc->dev);

	seq_printf(m, "state %s\n", !reason ? "lazy" : ours ? "plain" : "lapic");
	seq_printf(m, "reason %s\n", reason ? reason : "-");
}

static int lazy_tscdeadline_show(struct seq_file *m, void *unused)
{
	struct lazy_tscdeadline_cpu *lc = m->private;
	const struct lazy_tscdeadline_record *record = lc->record;
	const struct {
		const char *name;
		u64 value;
	} lines[] = {
		{ "programmed", READ_ONCE(lc->programmed) },
		{ "trapped", READ_ONCE(lc->traps) },
		{ "cancelled", READ_ONCE(lc->cancelled) },
		{ "cancel_trapped", READ_ONCE(lc->cancel_traps) },
		{ "fired", READ_ONCE(lc->fired) },
		{ "early", READ_ONCE(lc->early) },
		{ "early_deadline", READ_ONCE(lc->early_deadline) },
		{ "early_tsc", READ_ONCE(lc->early_tsc) },
		{ "stale", READ_ONCE(lc->stale) },
		{ "reenabled", READ_ONCE(lc->reenabled) },
		{ "native", READ_ONCE(lc->attached) && !READ_ONCE(lc->sharing) },
		{ "attached", READ_ONCE(lc->attached) },
		{ "armed", READ_ONCE(record->armed) },
		{ "pending", READ_ONCE(record->pending) },
		{ "version", READ_ONCE(record->version) },
		{ "features", READ_ONCE(record->features) },
	};
	size_t i;

	lazy_tscdeadline_show_state(m, lc);
	for (i = 0; i < ARRAY_SIZE(lines); i++)
		seq_printf(m, "%s %llu\n", lines[i].name, lines[i].value);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lazy_tscdeadline);

static void lazy_tscdeadline_init_debugfs(void)
{
	char name[16];
	int cpu;

	lazy_debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	for_each_possible_cpu(cpu) {
		snprintf(name, sizeof(name), "cpu%d", cpu);
		debugfs_create_file(name, 0444, lazy_debugfs,
				    per_cpu_ptr(&lazy_cpus, cpu),
				    &lazy_tscdeadline_fops);
	}
}

static void lazy_tscdeadline_free_records(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		kfree(per_cpu(lazy_cpus, cpu).record);
}

/* kmalloc aligns what is a power of two in size to that size: no straddling. */
static int lazy_tscdeadline_alloc_records(void)
{
	struct lazy_tscdeadline_record *record;
	int cpu;

	for_each_possible_cpu(cpu) {
		record = kzalloc_node(sizeof(*record), GFP_KERNEL, cpu_to_node(cpu));
		per_cpu(lazy_cpus, cpu).record = record;
		if (!record || !IS_ALIGNED(__pa(record), LAZY_TSCDEADLINE_ALIGN)) {
			lazy_tscdeadline_free_records();
			return -ENOMEM;
		}
	}
	return 0;
}

/* set_next_event of the lapic device is entered: its argument tells the place */
static int lazy_tscdeadline_on_lapic(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned long dev = regs_get_kernel_argument(regs, 1);

	lazy_lapic = (struct clock_event_device __percpu __force *)
		(dev - per_cpu_offset(smp_processor_id()));
	/* Pairs with the acquire in lazy_tscdeadline_find_lapic(). */
	smp_store_release(&lazy_lapic_found, true);
	return 0;
}

/*
 * The kernel exports neither lapic_events nor a way to get at it, but a probe
 * on the function that programs the timer sees it.  The sleep has a timer
 * programmed, if nothing else does.
 */
static bool lazy_tscdeadline_find_lapic(void)
{
	struct kprobe probe = {
		.symbol_name	= "lapic_next_deadline",
		.pre_handler	= lazy_tscdeadline_on_lapic,
	};
	int i;

	if (register_kprobe(&probe))
		return false;
	for (i = 0; i < LAZY_PROBE_MS; i++) {
		/* Pairs with the release in lazy_tscdeadline_on_lapic(). */
		if (smp_load_acquire(&lazy_lapic_found))
			break;
		usleep_range(1000, 1100);
	}
	unregister_kprobe(&probe);
	return lazy_lapic_found;
}

static bool lazy_tscdeadline_lapic_everywhere(void)
{
	bool used = true;
	int cpu;

	cpus_read_lock();
	for_each_online_cpu(cpu)
		used &= lazy_tscdeadline_lapic_in_use(per_cpu_ptr(lazy_lapic, cpu));
	cpus_read_unlock();
	return used;
}

static bool lazy_tscdeadline_offered(void)
{
	u32 base = hypervisor_cpuid_base(KVM_SIGNATURE, 0);

	return cpuid_eax(base | KVM_CPUID_FEATURES) &
	       BIT(KVM_FEATURE_LAZY_TSCDEADLINE);
}

/* What keeps us from loading; NULL: nothing.  Timers are not touched. */
static const char *lazy_tscdeadline_obstacle(void)
{
	if (!enable)
		return "disabled by parameter";
	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR) || !kvm_para_available())
		return "not a KVM guest";
	if (!lazy_tscdeadline_offered())
		return "the host does not offer it";
	if (!boot_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER))
		return "no TSC deadline timer";
	if (!boot_cpu_has(X86_FEATURE_ARAT))
		return "the APIC timer may stop in idle (no ARAT)";
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT))
		return "memory is encrypted";
	if (!lazy_tscdeadline_find_lapic())
		return "the kernel's APIC timer was not found";
	if (!lazy_tscdeadline_lapic_everywhere())
		return "lapic-deadline is not the timer of every CPU";
	return NULL;
}

static const char *lazy_tscdeadline_start(void)
{
	int ret;

	if (lazy_tscdeadline_alloc_records())
		return "out of memory";

	lazy_tscdeadline_watch();
	cpus_read_lock();
	ret = cpuhp_setup_state_cpuslocked(CPUHP_AP_ONLINE_DYN,
					   "x86/lazy_tscdeadline:online",
					   lazy_tscdeadline_online,
					   lazy_tscdeadline_offline);
	lazy_loaded = ret >= 0;
	cpus_read_unlock();
	if (ret < 0) {
		lazy_tscdeadline_unwatch();
		lazy_tscdeadline_free_records();
		return ret == -ENODEV ? "the host refuses the record" :
					"a CPU cannot be set up";
	}
	lazy_cpuhp_state = ret;
	return NULL;
}

static int __init lazy_tscdeadline_init(void)
{
	const char *obstacle = lazy_tscdeadline_obstacle();

	if (!obstacle)
		obstacle = lazy_tscdeadline_start();
	if (obstacle) {
		pr_info("not loaded: %s\n", obstacle);
		return -ENODEV;
	}

	lazy_tscdeadline_init_debugfs();
	pr_info("active on %u CPUs\n", num_online_cpus());
	return 0;
}
module_init(lazy_tscdeadline_init);

static void __exit lazy_tscdeadline_exit(void)
{
	debugfs_remove(lazy_debugfs);
	cpuhp_remove_state(lazy_cpuhp_state);
	lazy_tscdeadline_unwatch();
	irq_work_sync(&lazy_refusal);
	/* Whoever found our device in a CPU's tick_device has let go of it. */
	synchronize_rcu();
	lazy_tscdeadline_free_records();
}
module_exit(lazy_tscdeadline_exit);

MODULE_DESCRIPTION("Lazy TSC deadline: timer of a KVM guest with few VM exits");
MODULE_LICENSE("GPL");
