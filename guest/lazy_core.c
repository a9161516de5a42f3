// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy TSC deadline: the guest's side of the protocol.
 *
 * The deadline that the tick core wants goes into a record which the host
 * reads; MSR_IA32_TSC_DEADLINE, whose write is a VM exit, is written only if
 * the host would look at the record too late.  asm/kvm_lazy_tscdeadline.h has
 * the protocol.
 *
 * The interrupt stays the one of the local APIC timer: LVTT is kept in
 * TSC-deadline mode on LOCAL_TIMER_VECTOR.  How the tick core's requests and the
 * interrupt come here is not known here: see lazy_module.c and lazy_builtin.c.
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
#include <linux/debugfs.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/processor.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include <asm/apic.h>
#include <asm/barrier.h>
#include <asm/irq_vectors.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>
#include <asm/tsc.h>

#include "lazy_core.h"

#define CREATE_TRACE_POINTS
#include "lazy_tscdeadline_trace.h"

/* Traps in a row that the host did not heed, until it is asked again */
#define LAZY_MISSES		8

/* For that long an interrupt may be on its way: 1 s, if the host is very busy */
#define LAZY_CROSSING_MS	1000

/* Bounds of the time between two such questions, in jiffies */
#define LAZY_HEAL_MIN		HZ
#define LAZY_HEAL_MAX		(64 * HZ)

static_assert(sizeof(struct lazy_tscdeadline_record) == LAZY_TSCDEADLINE_ALIGN);
static_assert(PAGE_SIZE % LAZY_TSCDEADLINE_ALIGN == 0);

static bool enable = true;
module_param(enable, bool, 0444);
MODULE_PARM_DESC(enable, "use the lazy TSC deadline if the host offers it (default: Y)");

DEFINE_PER_CPU(struct lazy_tscdeadline_cpu, lazy_tscdeadline_cpus);

static struct dentry *lazy_debugfs;

/* Time in which a host may be busy with a deadline: 16 us, in TSC ticks */
static u64 lazy_tscdeadline_margin(void)
{
	return tsc_khz >> 6;
}

static void lazy_tscdeadline_say_refused(struct irq_work *work)
{
	pr_warn("the host no longer offers it, back to plain deadlines\n");
}

static struct irq_work lazy_refusal = IRQ_WORK_INIT(lazy_tscdeadline_say_refused);

/**
 * lazy_tscdeadline_report_refusal - say that the host has changed its mind
 *
 * Context: any; set_next_event may run under locks of the scheduler, from where
 *	printk is not possible.
 */
void lazy_tscdeadline_report_refusal(void)
{
	irq_work_queue(&lazy_refusal);
}

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
int lazy_tscdeadline_share(struct lazy_tscdeadline_cpu *lc)
{
	/* A host that is still there must not see the record change under it. */
	if (lc->sharing)
		wrmsrl_safe(MSR_KVM_LAZY_TSCDEADLINE, 0);
	memset(lc->record, 0, sizeof(*lc->record));
	lc->misses = 0;
	lc->disproved = 0;
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
 * for is written once more: hosts of the RFC stay armed for what has trapped last,
 * and do not look any more.
 *
 * Context: on the CPU of @lc, interrupts off; also in a panic.
 */
void lazy_tscdeadline_stop(struct lazy_tscdeadline_cpu *lc)
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
 * not: ask again from time to time.  Until then, one trap is enough to distrust
 * an "armed" that cannot be this host's: @count is what the record had before it.
 */
static void lazy_tscdeadline_check_host(struct lazy_tscdeadline_cpu *lc, u32 count)
{
	struct lazy_tscdeadline_record *record = lc->record;
	u64 armed = READ_ONCE(record->armed);
	bool refused = lc->refused;
	u64 now = rdtsc();

	/* Pairs with smp_wmb() in lazy_publish() of the host. */
	virt_rmb();
	lc->disproved = lazy_tscdeadline_disproved(READ_ONCE(record->features), armed,
						   lc->deadline,
						   READ_ONCE(record->count) - count,
						   lc->disproved, now);
	lc->promised = lc->disproved ? 0 : armed;
	if (likely(!lc->disproved && armed > now && armed <= lc->deadline)) {
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
		lazy_tscdeadline_report_refusal();
}

/*
 * A deadline has been replaced: may its interrupt be on its way?  Asked after
 * the host could learn of the new one, not before: much time may pass in between
 * if the host has other things to do.
 */
static void lazy_tscdeadline_dropped(struct lazy_tscdeadline_cpu *lc, u64 deadline)
{
	if (deadline <= rdtsc() + lazy_tscdeadline_margin())
		lc->crossing = rdtsc();
}

static bool lazy_tscdeadline_is_crossing(const struct lazy_tscdeadline_cpu *lc, u64 now)
{
	return lc->crossing && now - lc->crossing < (u64)tsc_khz * LAZY_CROSSING_MS;
}

/* Have the host look at @deadline in time: through the record, or by a write. */
static void lazy_tscdeadline_program(struct lazy_tscdeadline_cpu *lc, u64 deadline, u64 now)
{
	u64 armed = 0;
	bool trap = true;
	u32 count;

	/* Without sharing as well: nothing obliges a host of the RFC to stop looking. */
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
		trap = lc->disproved || lazy_tscdeadline_must_trap(armed, deadline, now);
	}
	trace_lazy_tscdeadline_program(now, deadline, armed, trap);
	lc->promised = trap ? 0 : armed;
	if (!trap)
		return;

	lc->traps++;
	count = READ_ONCE(lc->record->count);
	lazy_tscdeadline_write(lc, deadline);
	if (likely(lc->sharing) || lc->refused)
		lazy_tscdeadline_check_host(lc, count);
}

/**
 * lazy_tscdeadline_set_next - set_next_event of this CPU
 * @delta: ticks of the TSC from now
 *
 * Context: interrupts off.
 */
void lazy_tscdeadline_set_next(u64 delta)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);
	bool replaces = lc->waiting;
	u64 last = lc->deadline;
	u64 now = rdtsc();

	lc->programmed++;
	lc->deadline = now + delta;
	lc->waiting = true;
	lazy_tscdeadline_program(lc, lc->deadline, now);
	if (replaces)
		lazy_tscdeadline_dropped(lc, last);
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
		trap = !leave || lc->disproved ||
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

/**
 * lazy_tscdeadline_set_oneshot_stopped - set_state_oneshot_stopped of this CPU
 * @dev: not used
 *
 * The tick core has nothing to wait for: frequent, on the way to idle.
 *
 * Context: interrupts off.
 * Return: 0.
 */
int lazy_tscdeadline_set_oneshot_stopped(struct clock_event_device *dev)
{
	lazy_tscdeadline_cancel(this_cpu_ptr(&lazy_tscdeadline_cpus), true);
	return 0;
}

/**
 * lazy_tscdeadline_set_shutdown - set_state_shutdown of this CPU
 * @dev: not used
 *
 * Suspend, or the device is replaced: rare, so nothing is left to the host.
 * Others may use the timer now, which is why LVTT is set up again later.
 *
 * Context: interrupts off.
 * Return: 0.
 */
int lazy_tscdeadline_set_shutdown(struct clock_event_device *dev)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);

	lazy_tscdeadline_cancel(lc, false);
	lc->timer_ready = false;
	return 0;
}

/**
 * lazy_tscdeadline_set_oneshot - set_state_oneshot of this CPU
 * @dev: not used
 *
 * Context: interrupts off.
 * Return: 0.
 */
int lazy_tscdeadline_set_oneshot(struct clock_event_device *dev)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);

	if (lc->timer_ready)
		return 0;

	apic->write(APIC_LVTT, LOCAL_TIMER_VECTOR | APIC_LVT_TIMER_TSCDEADLINE);
	/* Intel SDM: xAPIC mode orders LVTT and the MSR by MFENCE alone. */
	mb();
	lc->timer_ready = true;
	return 0;
}

/*
 * An interrupt that comes while the look that was promised for the deadline is still
 * to come, and has not been withdrawn, is none of that deadline: the host has not
 * asked for it since.  It was delivered twice (emulators do that), or somebody has
 * sent it.
 */
static bool lazy_tscdeadline_is_stray(const struct lazy_tscdeadline_cpu *lc, u64 now)
{
	return lc->waiting && lc->promised > now &&
	       lc->promised == READ_ONCE(lc->record->armed);
}

/**
 * lazy_tscdeadline_account - sort the interrupt that has come
 * @lc: state of this CPU
 *
 * Is it the deadline's, or one that is not due?  The record's pending stays as it
 * is, the host keeps account of what it has delivered.
 *
 * Context: on the CPU of @lc, interrupts off, before the tick core hears of it.
 */
void lazy_tscdeadline_account(struct lazy_tscdeadline_cpu *lc)
{
	u64 now = rdtsc_ordered();

	lc->fired++;
	if (lc->waiting && now >= lc->deadline) {
		lc->waiting = false;
	} else if (lazy_tscdeadline_is_crossing(lc, now)) {
		lc->crossing = 0;
		lc->stale++;
	} else if (lazy_tscdeadline_is_stray(lc, now)) {
		lc->stray++;
	} else {
		lc->early++;
		lc->early_deadline = lc->waiting ? lc->deadline : 0;
		lc->early_tsc = now;
	}
}

/*
 * What keeps the CPU from lazy mode; NULL: nothing does.  For debugfs, so
 * without a claim to be of one moment.
 */
static const char *lazy_tscdeadline_reason(struct lazy_tscdeadline_cpu *lc,
					   bool attached)
{
	if (!attached) {
		switch (READ_ONCE(lc->error)) {
		case -EBUSY:
			return "busy";		/* another clock event device */
		case -ENODEV:
			return "refused";
		default:
			return "offline";
		}
	}
	/* What is built in keeps the device while its CPU is away. */
	if (!cpumask_intersects(lc->dev->cpumask, cpu_online_mask))
		return "offline";
	if (clockevent_state_detached(lc->dev))
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
	/* Pairs with the release in lazy_tscdeadline_attach(): dev is set. */
	bool attached = smp_load_acquire(&lc->attached);
	const char *reason = lazy_tscdeadline_reason(lc, attached);
	bool ours = attached && !clockevent_state_detached(lc->dev);

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
		{ "stray", READ_ONCE(lc->stray) },
		{ "reenabled", READ_ONCE(lc->reenabled) },
		{ "native", READ_ONCE(lc->attached) && !READ_ONCE(lc->sharing) },
		{ "attached", READ_ONCE(lc->attached) },
		{ "disproved", READ_ONCE(lc->disproved) },
		{ "armed", READ_ONCE(record->armed) },
		{ "pending", READ_ONCE(record->pending) },
		{ "version", READ_ONCE(record->version) },
		{ "features", READ_ONCE(record->features) },
		{ "count", READ_ONCE(record->count) },
	};
	size_t i;

	lazy_tscdeadline_show_state(m, lc);
	for (i = 0; i < ARRAY_SIZE(lines); i++)
		seq_printf(m, "%s %llu\n", lines[i].name, lines[i].value);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lazy_tscdeadline);

/**
 * lazy_tscdeadline_create_debugfs - the counters of all CPUs, for eyes and scripts
 *
 * Context: may sleep; there are records.
 */
void lazy_tscdeadline_create_debugfs(void)
{
	char name[16];
	int cpu;

	lazy_debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	for_each_possible_cpu(cpu) {
		snprintf(name, sizeof(name), "cpu%d", cpu);
		debugfs_create_file(name, 0444, lazy_debugfs,
				    per_cpu_ptr(&lazy_tscdeadline_cpus, cpu),
				    &lazy_tscdeadline_fops);
	}
}

/**
 * lazy_tscdeadline_remove_debugfs - take the counters away
 *
 * Context: may sleep.
 */
void lazy_tscdeadline_remove_debugfs(void)
{
	debugfs_remove(lazy_debugfs);
}

/**
 * lazy_tscdeadline_free - give the memory of the records back
 *
 * Context: may sleep; no CPU is attached any more.
 */
void lazy_tscdeadline_free(void)
{
	int cpu;

	irq_work_sync(&lazy_refusal);
	for_each_possible_cpu(cpu)
		kfree(per_cpu(lazy_tscdeadline_cpus, cpu).record);
}

/**
 * lazy_tscdeadline_alloc - get memory for the records of all CPUs
 *
 * kmalloc aligns what is a power of two in size to that size: no straddling.
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int lazy_tscdeadline_alloc(void)
{
	struct lazy_tscdeadline_record *record;
	int cpu;

	for_each_possible_cpu(cpu) {
		record = kzalloc_node(sizeof(*record), GFP_KERNEL, cpu_to_node(cpu));
		per_cpu(lazy_tscdeadline_cpus, cpu).record = record;
		if (!record || !IS_ALIGNED(__pa(record), LAZY_TSCDEADLINE_ALIGN)) {
			lazy_tscdeadline_free();
			return -ENOMEM;
		}
	}
	return 0;
}

/**
 * lazy_tscdeadline_init_cpu - begin anew on a CPU, with nothing wanted
 * @lc: its state
 *
 * Context: nothing is attached to it yet.
 */
void lazy_tscdeadline_init_cpu(struct lazy_tscdeadline_cpu *lc)
{
	lc->deadline = 0;
	lc->waiting = false;
	lc->promised = 0;
	lc->crossing = 0;
	lc->timer_ready = false;
	lc->heal_delay = LAZY_HEAL_MIN;
	lc->heal_next = jiffies;
}

static bool lazy_tscdeadline_offered(void)
{
	u32 base = hypervisor_cpuid_base(KVM_SIGNATURE, 0);

	return cpuid_eax(base | KVM_CPUID_FEATURES) &
	       BIT(KVM_FEATURE_LAZY_TSCDEADLINE);
}

/**
 * lazy_tscdeadline_obstacle - can this machine do it?
 *
 * Context: any; timers are not touched.
 * Return: what keeps us from it, in words; NULL: nothing.
 */
const char *lazy_tscdeadline_obstacle(void)
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
	return NULL;
}
