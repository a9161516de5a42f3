// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy TSC deadline: the guest's driver as a module for unmodified kernels.
 *
 * It registers a clock event device of its own.  The handler of the local APIC
 * timer's interrupt calls the event_handler of the CPU's "lapic-deadline" device.
 * That device is parked while ours is the CPU's tick device: the tick core has
 * detached it, and its event_handler leads to us.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/clockchips.h>
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/panic_notifier.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/reboot.h>
#include <linux/smp.h>

#include <asm/apic.h>
#include <asm/irq_vectors.h>
#include <asm/tsc.h>

#include "compat.h"
#include "lazy_core.h"

/*
 * TSC ticks per tick of the clock event device: its frequency, in Hz, has to
 * fit 32 bits.
 */
#define LAZY_TSC_DIVISOR	4
#define LAZY_MIN_DELTA		0x1f

/* The longest delta that the conversion has to be exact for (as in the core) */
#define LAZY_MAX_SECONDS	600

/* How long to wait for the kernel to program a timer, in milliseconds */
#define LAZY_PROBE_MS		1000

/**
 * struct lazy_device - the clock event device of one CPU
 * @dev: what the tick core sees
 * @khz: the TSC frequency for which its conversion was computed
 */
struct lazy_device {
	struct clock_event_device dev;
	unsigned int khz;
};

static DEFINE_PER_CPU(struct lazy_device, lazy_devices);

/* The kernel's lapic_events, which has no name outside apic.c */
static struct clock_event_device __percpu *lazy_lapic;
static bool lazy_lapic_found;

static enum cpuhp_state lazy_cpuhp_state;

/* Loading is over: from now on no CPU's failure is the driver's failure. */
static bool lazy_loaded;

/* The kernel is going down: no CPU may begin to share. */
static bool lazy_down;

static u32 lazy_tscdeadline_hz(void)
{
	return tsc_khz * (1000 / LAZY_TSC_DIVISOR);
}

/* Is there an interrupt of the timer that this CPU has yet to take? */
static bool lazy_tscdeadline_requested(void)
{
	return apic->read(APIC_IRR + LOCAL_TIMER_VECTOR / 32 * 0x10) &
	       BIT(LOCAL_TIMER_VECTOR % 32);
}

static int lazy_tscdeadline_set_next_event(unsigned long delta,
					   struct clock_event_device *dev)
{
	lazy_tscdeadline_set_next((u64)delta * LAZY_TSC_DIVISOR);
	return 0;
}

/* The event_handler of the parked lapic-deadline device. */
static void lazy_tscdeadline_interrupt(struct clock_event_device *lapic)
{
	struct lazy_device *ld = this_cpu_ptr(&lazy_devices);

	lazy_tscdeadline_account(this_cpu_ptr(&lazy_tscdeadline_cpus));
	/* The kernel refines its idea of the frequency in its first seconds. */
	if (unlikely(ld->khz != tsc_khz)) {
		ld->khz = tsc_khz;
		clockevents_calc_mult_shift(&ld->dev, lazy_tscdeadline_hz(),
					    LAZY_MAX_SECONDS);
	}
	ld->dev.event_handler(&ld->dev);
}

static void lazy_tscdeadline_init_device(struct lazy_device *ld, int cpu)
{
	ld->dev = (struct clock_event_device) {
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
	INIT_LIST_HEAD(&ld->dev.list);
	ld->khz = tsc_khz;
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
static void lazy_tscdeadline_register(struct clock_event_device *dev,
				      struct clock_event_device *lapic)
{
	lapic->features |= CLOCK_EVT_FEAT_C3STOP;
	clockevents_config_and_register(dev, lazy_tscdeadline_hz(),
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
	struct lazy_device *ld = this_cpu_ptr(&lazy_devices);
	int err;

	if (!lazy_tscdeadline_lapic_in_use(lapic))
		return -EBUSY;

	lazy_tscdeadline_init_device(ld, cpu);
	lazy_tscdeadline_init_cpu(lc);
	err = lazy_tscdeadline_share(lc);
	if (err)
		return err;

	lc->dev = &ld->dev;
	/* Pairs with the acquire in lazy_tscdeadline_show_state(). */
	smp_store_release(&lc->attached, true);
	lazy_tscdeadline_register(&ld->dev, lapic);
	/* If not detached, it is in use as the broadcast device. */
	if (!clockevent_state_detached(lapic))
		return -EBUSY;

	/* The core has put a handler there that does nothing. */
	lapic->event_handler = lazy_tscdeadline_interrupt;
	/* What comes of lapic-deadline's last event is no early interrupt. */
	if (lazy_tscdeadline_requested())
		lc->crossing = rdtsc();
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
	struct clock_event_device *lapic = this_cpu_ptr(lazy_lapic);
	unsigned long flags;
	int err;

	if (!lc->attached)
		return;

	local_irq_save(flags);
	lazy_tscdeadline_stop(lc);
	local_irq_restore(flags);

	/*
	 * The core hands its next event over to the lapic device.  Again if that
	 * was taken off the list in between: the module must not go while its
	 * device is in use.
	 */
	do {
		local_irq_save(flags);
		lazy_tscdeadline_relist_lapic(lapic);
		local_irq_restore(flags);
		err = clockevents_unbind_device(&per_cpu_ptr(&lazy_devices, cpu)->dev, cpu);
	} while (err == -EBUSY && clockevent_state_detached(lapic));
	if (err)
		pr_err("CPU %d has no other timer (%d)\n", cpu, err);
	lc->attached = false;
}

static int lazy_tscdeadline_online(unsigned int cpu)
{
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);
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
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);

	WRITE_ONCE(lc->error, 0);
	lazy_tscdeadline_detach(lc, cpu);
	return 0;
}

static void lazy_tscdeadline_stop_this_cpu(void *unused)
{
	lazy_tscdeadline_stop(this_cpu_ptr(&lazy_tscdeadline_cpus));
}

/*
 * Whatever comes next (kexec, firmware) may use the memory of the records.  Nothing
 * comes after halt and power-off, which have to work on a CPU that another one,
 * stuck with interrupts off, does not answer.
 */
static int lazy_tscdeadline_on_reboot(struct notifier_block *nb,
				      unsigned long action, void *data)
{
	if (action != SYS_RESTART)
		return NOTIFY_DONE;

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
	struct lazy_tscdeadline_cpu *lc = this_cpu_ptr(&lazy_tscdeadline_cpus);

	if (lc->attached && !READ_ONCE(lazy_down) && lazy_tscdeadline_share(lc))
		lazy_tscdeadline_report_refusal();
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

/* What keeps us from taking over; NULL: nothing.  Timers are not touched. */
static const char *lazy_tscdeadline_lapic_obstacle(void)
{
	if (!lazy_tscdeadline_find_lapic())
		return "the kernel's APIC timer was not found";
	if (!lazy_tscdeadline_lapic_everywhere())
		return "lapic-deadline is not the timer of every CPU";
	return NULL;
}

/* No CPU has our device any more. */
static void lazy_tscdeadline_release(void)
{
	/*
	 * Whoever found it in a CPU's tick_device has let go of it.
	 * /proc/timer_list follows it without rcu_read_lock() and may be
	 * preempted, so for tasks.  Also where only some CPUs had it, as the
	 * driver's start failed on another.
	 */
	synchronize_rcu_tasks();
	lazy_tscdeadline_free();
}

static const char *lazy_tscdeadline_start(void)
{
	int ret;

	if (lazy_tscdeadline_alloc())
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
		lazy_tscdeadline_release();
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
		obstacle = lazy_tscdeadline_lapic_obstacle();
	if (!obstacle)
		obstacle = lazy_tscdeadline_start();
	if (obstacle) {
		pr_info("not loaded: %s\n", obstacle);
		return -ENODEV;
	}

	lazy_tscdeadline_create_debugfs();
	pr_info("active on %u CPUs\n", num_online_cpus());
	return 0;
}
module_init(lazy_tscdeadline_init);

static void __exit lazy_tscdeadline_exit(void)
{
	lazy_tscdeadline_remove_debugfs();
	cpuhp_remove_state(lazy_cpuhp_state);
	lazy_tscdeadline_unwatch();
	lazy_tscdeadline_release();
}
module_exit(lazy_tscdeadline_exit);

MODULE_DESCRIPTION("Lazy TSC deadline: timer of a KVM guest with few VM exits");
MODULE_LICENSE("GPL");
