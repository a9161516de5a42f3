/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What runs inside the test VMs: a timer user that speaks the protocol and
 * judges every interrupt it gets.
 */
#ifndef _LAZY_TEST_GUEST_H
#define _LAZY_TEST_GUEST_H

#include <linux/types.h>

#include "../../abi/lazy_tscdeadline.h"

#ifndef READ_ONCE
#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value)	(*(volatile __typeof__(x) *)&(x) = (value))
#endif
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define BIT(n)			(1U << (n))

#define GUEST_MAX_CPUS		4

#define GUEST_TIMER_VECTOR	0xec
#define GUEST_CONTROL_VECTOR	0x41

#define GUEST_RECORD_GPA	0x10000000ULL
#define GUEST_RECORD_SIZE	0x4000ULL
#define GUEST_RO_GPA		0x20000000ULL
#define GUEST_NOWHERE_GPA	0x30000000ULL

/* How the guest asks its host for something: an OUT to this port. */
#define GUEST_PORT		0x10
enum guest_call {
	GUEST_CALL_DONE = 1,
	GUEST_CALL_SYNC,
	GUEST_CALL_FAIL,
};

/* Who programs the timer, and how. */
enum guest_dialect {
	GUEST_PLAIN,	/* knows nothing of the record */
	GUEST_RFC,	/* version 3 of the RFC */
	GUEST_OURS,	/* abi/lazy_tscdeadline.h */
	GUEST_NR_DIALECTS,
};

/* What the guest does while it waits. */
enum guest_wait {
	GUEST_HALT,
	GUEST_SPIN,
	GUEST_NR_WAITS,
};

#define GUEST_MAX_ARGS	8

/**
 * struct guest_cpu - one virtual CPU's state, shared by guest and host
 * @self: where %gs points
 * @id: number of the vCPU
 * @dialect: an enum guest_dialect
 * @wait: an enum guest_wait
 * @record: the record in use, at its guest address
 * @khz: rate of the guest's TSC
 * @arg: for the code that runs here
 * @wanted: the deadline that must still be delivered; 0: none
 * @trapped: the latest deadline that the host may hold as a plain one
 * @disproved: what armed was when the last trap has shown that nobody stands for it
 * @grace: so many interrupts may come although nothing has expired, since deadlines
 *	passed before or while they were replaced
 * @settled: no longer, once interrupts have been on
 * @fired: timer interrupts of the APIC in total
 * @good: of these, the ones that were wanted and not early
 * @early: of these, the ones before the wanted deadline
 * @stray: of these, the ones without a wanted deadline
 * @graced: of these, the ones that @grace excused
 * @ghosts: interrupts with the timer's vector that did not come from the APIC
 * @control: control interrupts
 * @programmed: deadlines
 * @traps: deadlines that took a write of the MSR
 * @skips: deadlines that took none
 * @replaced: deadlines that were given up for another one, or for none
 * @halts: times the guest halted
 * @late: greatest lateness, in ticks
 * @last: TSC at the last timer interrupt
 * @bad: TSC at the first of @early and @stray
 * @bad_wanted: what was wanted then
 * @result: what the code that runs here found out
 * @fail_line: where a check failed
 * @fail_what: its text, an address of this program
 * @fail_value: the values it compared
 */
struct guest_cpu {
	struct guest_cpu *self;
	int id;
	int dialect;
	int wait;
	struct lazy_tscdeadline_record *record;
	__u64 khz;
	__u64 arg[GUEST_MAX_ARGS];
	__u64 wanted;
	__u64 trapped;
	__u64 disproved;
	int grace;
	int settled;
	__u64 fired, good, early, stray, graced, ghosts, control;
	__u64 programmed, traps, skips, replaced, halts;
	__u64 late, last, bad, bad_wanted;
	__u64 result[GUEST_MAX_ARGS];
	int fail_line;
	const char *fail_what;
	__u64 fail_value[2];
};

extern struct guest_cpu guest_cpus[GUEST_MAX_CPUS];

/* How long before a deadline the host may begin to deliver it; advance: 5 us. */
#define GUEST_MARGIN_US	16

/* The machine's tables, in the guest's copy; vm.c fills them in. */
extern char guest_vector_timer[], guest_vector_control[], guest_vector_gp[],
	    guest_vector_fault[];

/* Called from there. */
void guest_timer_interrupt(void);
void guest_control_interrupt(void);
void guest_fault(__u64 *stack, __u64 cr2);

/* Things that only code inside a guest may call. */
static inline struct guest_cpu *guest_self(void)
{
	struct guest_cpu *c;

	asm volatile("mov %%gs:0, %0" : "=r"(c));
	return c;
}

static inline __u64 guest_rdtsc(void)
{
	__u32 lo, hi;

	asm volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
	return lo | (__u64)hi << 32;
}

static inline void guest_cli(void)
{
	asm volatile("cli" : : : "memory");
}

static inline void guest_sti(void)
{
	asm volatile("sti; nop" : : : "memory");
}

static inline void guest_pause(void)
{
	asm volatile("pause" : : : "memory");
}

static inline void guest_mb(void)
{
	asm volatile("mfence" : : : "memory");
}

int guest_wrmsr_safe(__u32 msr, __u64 value);
int guest_rdmsr_safe(__u32 msr, __u64 *value);
void guest_wrmsr(__u32 msr, __u64 value);
__u64 guest_rdmsr(__u32 msr);
void guest_call(int number);
void guest_fail(int line, const char *what, __u64 a, __u64 b);
__u64 guest_ms(__u64 ms);
__u64 guest_us(__u64 us);
/* Earlier than @tsc, but not before the beginning of time. */
__u64 guest_before(__u64 tsc, __u64 ticks);

#define guest_check2(cond, a, b)					\
	do {								\
		if (!(cond))						\
			guest_fail(__LINE__, #cond, (__u64)(a), (__u64)(b)); \
	} while (0)
#define guest_check(cond)	guest_check2(cond, 0, 0)
#define guest_check_eq(a, b)						\
	do {								\
		__u64 _a = (a), _b = (b);				\
									\
		if (_a != _b)						\
			guest_fail(__LINE__, #a " == " #b, _a, _b);	\
	} while (0)

/* The local APIC. */
void guest_apic_init(void);
void guest_apic_write(int reg, __u32 value);
__u32 guest_apic_read(int reg);
#define GUEST_APIC_EOI		0x0b
#define GUEST_APIC_SPIV		0x0f
#define GUEST_APIC_ISR		0x10
#define GUEST_APIC_IRR		0x20
#define GUEST_APIC_ICR		0x30
#define GUEST_APIC_LVTT		0x32
#define GUEST_APIC_TMICT	0x38
#define GUEST_SPIV_ENABLE	0x1ff
#define GUEST_SPIV_DISABLE	0x0ff
#define GUEST_LVTT_DEADLINE	(GUEST_TIMER_VECTOR | 2 << 17)
#define GUEST_LVTT_PERIODIC	(GUEST_TIMER_VECTOR | 1 << 17)
#define GUEST_LVTT_ONESHOT	(GUEST_TIMER_VECTOR)
#define GUEST_LVTT_MASKED	BIT(16)

#define GUEST_MSR_TSC		0x10
#define GUEST_MSR_APIC_BASE	0x1b
#define GUEST_MSR_TSC_ADJUST	0x3b
#define GUEST_MSR_TSC_DEADLINE	0x6e0
#define GUEST_APIC_BASE_EXTD	BIT(10)
#define GUEST_APIC_BASE_ENABLE	BIT(11)

/* The timer, as the vCPU's dialect has it; interrupts off. */
void guest_enable(void);
void guest_disable(void);
int guest_program(__u64 deadline);
int guest_is_requested(void);
int guest_cancel(void);
void guest_write_plain(__u64 deadline);
void guest_drop(void);
/* Interrupts on for a moment, until there is one, until ...; off again. */
void guest_window(void);
void guest_halt(void);
void guest_wait(void);
void guest_wait_fired(void);
void guest_wait_until(__u64 tsc);
/* Halted, so something else must send interrupts as well. */
void guest_halt_until(__u64 tsc);
/* Ends the test if an interrupt came early or unwanted. */
void guest_judge(void);

#endif /* _LAZY_TEST_GUEST_H */
