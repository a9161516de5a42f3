/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Lazy TSC deadline: what the guest's driver does on a CPU, for those who attach
 * it to the CPU's clock event device: lazy_module.c to one of its own,
 * lazy_builtin.c to the kernel's "lapic-deadline".
 */
#ifndef _LAZY_CORE_H
#define _LAZY_CORE_H

#include <linux/clockchips.h>
#include <linux/percpu-defs.h>
#include <linux/types.h>

#include <asm/kvm_lazy_tscdeadline.h>

/**
 * struct lazy_tscdeadline_cpu - the driver's state on one CPU
 * @record: what is shared with the host
 * @deadline: TSC value that the tick core wants, or wanted last; 0: none
 * @dev: the clock event device that leads here, if @attached
 * @attached: the CPU's clock event device leads here
 * @error: why not, if that was tried: -EBUSY, -ENODEV; else 0
 * @sharing: the host has accepted the record; else every deadline is written
 * @refused: the host has not accepted it, but another one may, after a migration
 * @waiting: the interrupt for @deadline has yet to come
 * @disproved: what "armed" said after the last trap, if that has shown that nobody
 *	stands for it: every deadline traps; 0: it has not
 * @promised: what "armed" said when @deadline was programmed; 0: no look
 * @crossing: TSC at which a deadline was replaced whose interrupt may have been on
 *	its way; 0: none since that came
 * @timer_ready: LVTT is set up for deadlines
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
 * @stray: the same, but the host has yet to look for @deadline
 * @reenabled: times the host was asked to share again
 */
struct lazy_tscdeadline_cpu {
	struct lazy_tscdeadline_record *record;
	u64 deadline;
	struct clock_event_device *dev;
	bool attached;
	int error;
	bool sharing;
	bool refused;
	bool waiting;
	u64 disproved;
	u64 promised;
	u64 crossing;
	bool timer_ready;
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
	u64 stray;
	u64 reenabled;
};

DECLARE_PER_CPU(struct lazy_tscdeadline_cpu, lazy_tscdeadline_cpus);

const char *lazy_tscdeadline_obstacle(void);
int lazy_tscdeadline_alloc(void);
void lazy_tscdeadline_free(void);
void lazy_tscdeadline_create_debugfs(void);
void lazy_tscdeadline_remove_debugfs(void);

void lazy_tscdeadline_init_cpu(struct lazy_tscdeadline_cpu *lc);
int lazy_tscdeadline_share(struct lazy_tscdeadline_cpu *lc);
void lazy_tscdeadline_stop(struct lazy_tscdeadline_cpu *lc);
void lazy_tscdeadline_report_refusal(void);
void lazy_tscdeadline_account(struct lazy_tscdeadline_cpu *lc);

void lazy_tscdeadline_set_next(u64 delta);
int lazy_tscdeadline_set_oneshot(struct clock_event_device *dev);
int lazy_tscdeadline_set_oneshot_stopped(struct clock_event_device *dev);
int lazy_tscdeadline_set_shutdown(struct clock_event_device *dev);

#endif /* _LAZY_CORE_H */
