// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the mistake that is asked for (what=NAME) when it is loaded, so that one
 * can see whether a debug kernel, and who boots it, notice.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>

/* How long two threads race, in jiffies, for the sampling to catch them */
#define PLANT_RACE_TIME	(20 * HZ)

static char *what = "";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "which mistake");

static DEFINE_SPINLOCK(plant_lock);
static DEFINE_SPINLOCK(plant_other_lock);
static DEFINE_RAW_SPINLOCK(plant_raw_lock);
static DEFINE_MUTEX(plant_mutex);
static int __rcu *plant_pointer;
static int plant_shared;
static unsigned long plant_end;

static void plant_lock_order(void)
{
	spin_lock(&plant_lock);
	spin_lock(&plant_other_lock);
	spin_unlock(&plant_other_lock);
	spin_unlock(&plant_lock);

	spin_lock(&plant_other_lock);
	spin_lock(&plant_lock);
	spin_unlock(&plant_lock);
	spin_unlock(&plant_other_lock);
}

static void plant_lock_nesting(void)
{
	raw_spin_lock(&plant_raw_lock);
	spin_lock(&plant_lock);
	spin_unlock(&plant_lock);
	raw_spin_unlock(&plant_raw_lock);
}

static void plant_sleep(void)
{
	spin_lock(&plant_lock);
	mutex_lock(&plant_mutex);
	mutex_unlock(&plant_mutex);
	spin_unlock(&plant_lock);
}

static void plant_rcu(void)
{
	if (rcu_dereference(plant_pointer))
		pr_info("cannot be\n");
}

static void plant_preemptible(void)
{
	pr_info("CPU %d\n", smp_processor_id());
}

static void plant_overrun(void)
{
	u64 *record = kzalloc(64, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(record);
	if (record)
		WRITE_ONCE(record[8], 1);
	kfree(record);
}

static void plant_use_after_free(void)
{
	u64 *record = kzalloc(64, GFP_KERNEL);

	kfree(record);
	OPTIMIZER_HIDE_VAR(record);
	if (record)
		WRITE_ONCE(record[0], 1);
}

static void plant_timer_fn(struct timer_list *timer)
{
}

static void plant_object(void)
{
	struct timer_list *timer = kzalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return;
	timer_setup(timer, plant_timer_fn, 0);
	mod_timer(timer, jiffies + HZ);
	kfree(timer);
}

static void plant_list(void)
{
	LIST_HEAD(head);
	struct list_head entry;

	list_add(&entry, &head);
	list_add(&entry, &head);
}

/* Its name is what makes a race ours, see races.awk. */
static noinline int lazy_plant_race(void *unused)
{
	while (time_before(jiffies, plant_end)) {
		plant_shared++;
		/* else the compiler counts in a register */
		barrier();
		cond_resched();
	}
	return 0;
}

static noinline int plant_other_race(void *unused)
{
	while (time_before(jiffies, plant_end)) {
		plant_shared++;
		/* else the compiler counts in a register */
		barrier();
		cond_resched();
	}
	return 0;
}

/* On each of two CPUs: on one, they would take turns. */
static void plant_race(int (*fn)(void *unused))
{
	unsigned int cpus[] = { cpumask_first(cpu_online_mask), cpumask_last(cpu_online_mask) };
	struct task_struct *task;
	int i;

	plant_end = jiffies + PLANT_RACE_TIME;
	for (i = 0; i < ARRAY_SIZE(cpus); i++) {
		task = kthread_create(fn, NULL, "plant");
		if (IS_ERR(task))
			return;
		kthread_bind(task, cpus[i]);
		wake_up_process(task);
	}
	/* The threads are gone when their end has come, or soon after. */
	msleep(jiffies_to_msecs(PLANT_RACE_TIME) + 1000);
}

static void plant_race_ours(void)
{
	plant_race(lazy_plant_race);
}

static void plant_race_others(void)
{
	plant_race(plant_other_race);
}

static const struct {
	const char *name;
	void (*fn)(void);
} plants[] = {
	{ "lock-order", plant_lock_order },
	{ "lock-nesting", plant_lock_nesting },
	{ "sleep", plant_sleep },
	{ "rcu", plant_rcu },
	{ "preemptible", plant_preemptible },
	{ "overrun", plant_overrun },
	{ "use-after-free", plant_use_after_free },
	{ "object", plant_object },
	{ "list", plant_list },
	{ "race", plant_race_ours },
	{ "race-others", plant_race_others },
};

static int __init plant_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(plants); i++) {
		if (!strcmp(what, plants[i].name)) {
			plants[i].fn();
			return 0;
		}
	}
	return -EINVAL;
}
module_init(plant_init);

static void __exit plant_exit(void)
{
}
module_exit(plant_exit);

MODULE_DESCRIPTION("Mistakes that a debug kernel must notice");
MODULE_LICENSE("GPL");
