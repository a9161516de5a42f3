// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs in the guest: no library, no static initialisation, and no registers
 * but the general ones, since the interrupt stubs save only those.
 */
#include "guest.h"

struct guest_cpu guest_cpus[GUEST_MAX_CPUS];

/* Marks a faulting instruction that has somewhere to go on: in %r9. */
#define FIXUP_COOKIE	0x66697875

#define SAVE_REGS							\
	"push %rax; push %rcx; push %rdx; push %rsi; push %rdi;"	\
	"push %r8; push %r9; push %r10; push %r11; push %rbp;"		\
	"mov %rsp, %rbp; and $-16, %rsp; cld;"
#define RESTORE_REGS							\
	"mov %rbp, %rsp; pop %rbp; pop %r11; pop %r10; pop %r9; pop %r8;" \
	"pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax;"

asm(".text\n"
	".globl guest_vector_timer, guest_vector_control\n"
	".globl guest_vector_gp, guest_vector_fault\n"
	"guest_vector_timer:\n"
	SAVE_REGS "call guest_timer_interrupt;" RESTORE_REGS "iretq\n"
	"guest_vector_control:\n"
	SAVE_REGS "call guest_control_interrupt;" RESTORE_REGS "iretq\n"
	"guest_vector_gp:\n"
	"cmp $0x66697875, %r8; jne guest_vector_fault\n"
	"add $8, %rsp; mov %r9, (%rsp); xor %r8d, %r8d; iretq\n"
	"guest_vector_fault:\n"
	"mov %rsp, %rdi; mov %cr2, %rsi; and $-16, %rsp; call guest_fault\n");

int guest_wrmsr_safe(__u32 msr, __u64 value)
{
	register __u64 cookie asm("r8") = FIXUP_COOKIE;

	asm volatile("lea 1f(%%rip), %%r9; wrmsr; mov $1, %%r8d; 1:"
		     : "+r"(cookie)
		     : "c"(msr), "a"((__u32)value), "d"((__u32)(value >> 32))
		     : "r9", "memory");
	return cookie == 1 ? 0 : -1;
}

int guest_rdmsr_safe(__u32 msr, __u64 *value)
{
	register __u64 cookie asm("r8") = FIXUP_COOKIE;
	__u32 lo = 0, hi = 0;

	asm volatile("lea 1f(%%rip), %%r9; rdmsr; mov $1, %%r8d; 1:"
		     : "+r"(cookie), "+a"(lo), "+d"(hi)
		     : "c"(msr)
		     : "r9", "memory");
	*value = lo | (__u64)hi << 32;
	return cookie == 1 ? 0 : -1;
}

void guest_wrmsr(__u32 msr, __u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((__u32)value),
		     "d"((__u32)(value >> 32)) : "memory");
}

__u64 guest_rdmsr(__u32 msr)
{
	__u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return lo | (__u64)hi << 32;
}

void guest_call(int number)
{
	asm volatile("outb %b0, %w1" : : "a"(number), "d"(GUEST_PORT) : "memory");
}

void guest_fail(int line, const char *what, __u64 a, __u64 b)
{
	struct guest_cpu *c = guest_self();

	c->fail_line = line;
	c->fail_what = what;
	c->fail_value[0] = a;
	c->fail_value[1] = b;
	for (;;)
		guest_call(GUEST_CALL_FAIL);
}

void guest_fault(__u64 *stack, __u64 cr2)
{
	/* One of the two on top is the instruction pointer. */
	guest_fail(__LINE__, "an exception", stack[0] + (stack[1] << 32), cr2);
}

__u64 guest_ms(__u64 ms)
{
	return guest_self()->khz * ms;
}

__u64 guest_us(__u64 us)
{
	return guest_self()->khz * us / 1000;
}

__u64 guest_before(__u64 tsc, __u64 ticks)
{
	return tsc > ticks ? tsc - ticks : 1;
}

void guest_apic_write(int reg, __u32 value)
{
	guest_wrmsr(0x800 + reg, value);
}

__u32 guest_apic_read(int reg)
{
	return guest_rdmsr(0x800 + reg);
}

void guest_apic_init(void)
{
	__u64 base = guest_rdmsr(GUEST_MSR_APIC_BASE) | GUEST_APIC_BASE_ENABLE;

	guest_wrmsr(GUEST_MSR_APIC_BASE, base);
	guest_wrmsr(GUEST_MSR_APIC_BASE, base | GUEST_APIC_BASE_EXTD);
	guest_apic_write(GUEST_APIC_SPIV, GUEST_SPIV_ENABLE);
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
	guest_mb();
}

static int guest_is_set(int reg)
{
	return !!(guest_apic_read(reg + GUEST_TIMER_VECTOR / 32) &
		  BIT(GUEST_TIMER_VECTOR % 32));
}

/* Does the APIC hold a timer interrupt that is still to be taken? */
int guest_is_requested(void)
{
	return guest_is_set(GUEST_APIC_IRR);
}

/*
 * An interrupt without its bit in the APIC's ISR does not come from the APIC: QEMU's
 * emulated SVM sometimes delivers one twice.
 */
static int guest_is_ghost(void)
{
	return !guest_is_set(GUEST_APIC_ISR);
}

/*
 * The judge: every timer interrupt goes into exactly one of four counters.  What
 * does not come from the APIC must not use up what is for one that does.
 */
void guest_timer_interrupt(void)
{
	struct guest_cpu *c = guest_self();
	__u64 now = guest_rdtsc(), wanted = c->wanted;

	if (guest_is_ghost()) {
		c->ghosts++;
		return;
	}
	c->fired++;
	c->last = now;
	if (wanted && now >= wanted) {
		c->good++;
		c->wanted = 0;
		/* Or was it the one that is excused, and this one's is to come? */
		c->settled = 0;
		if (now - wanted > c->late)
			c->late = now - wanted;
	} else if (c->grace) {
		c->graced++;
		c->grace--;
	} else {
		if (!c->early && !c->stray) {
			c->bad = now;
			c->bad_wanted = wanted;
		}
		if (wanted)
			c->early++;
		else
			c->stray++;
	}
	guest_apic_write(GUEST_APIC_EOI, 0);
}

void guest_control_interrupt(void)
{
	guest_self()->control++;
	guest_apic_write(GUEST_APIC_EOI, 0);
}

/* The record is zeroed before it is enabled, as the interface wants it. */
void guest_enable(void)
{
	struct guest_cpu *c = guest_self();
	__u64 *word = (__u64 *)c->record;
	unsigned int i;

	if (c->dialect == GUEST_PLAIN)
		return;
	for (i = 0; i < sizeof(*c->record) / sizeof(*word); i++)
		WRITE_ONCE(word[i], 0);
	c->disproved = 0;
	guest_wrmsr(MSR_KVM_LAZY_TSCDEADLINE, (__u64)c->record |
		    LAZY_TSCDEADLINE_MSR_ENABLED);
}

void guest_disable(void)
{
	if (guest_self()->dialect != GUEST_PLAIN)
		guest_wrmsr(MSR_KVM_LAZY_TSCDEADLINE, 0);
}

static int guest_store_pending(struct guest_cpu *c, __u64 deadline, __u64 now)
{
	struct lazy_tscdeadline_record *record = c->record;
	__u64 armed;

	WRITE_ONCE(record->pending, deadline);
	/* Pairs with the host's barrier between armed = 0 and its look. */
	guest_mb();
	armed = READ_ONCE(record->armed);
	if (c->dialect == GUEST_RFC)
		return !armed || deadline < armed;
	return c->disproved || lazy_tscdeadline_must_trap(armed, deadline, now);
}

/* Write a deadline; is what the record says still to be believed after that? */
static void guest_write_deadline(struct guest_cpu *c, __u64 deadline)
{
	struct lazy_tscdeadline_record *record = c->record;
	__u32 count = READ_ONCE(record->count);
	__u64 armed;

	guest_wrmsr(GUEST_MSR_TSC_DEADLINE, deadline);
	if (c->dialect != GUEST_OURS)
		return;
	armed = READ_ONCE(record->armed);
	/* Pairs with the host's barrier between count and armed. */
	guest_mb();
	c->disproved = lazy_tscdeadline_disproved(READ_ONCE(record->features), armed,
						  deadline,
						  READ_ONCE(record->count) - count,
						  c->disproved, guest_rdtsc());
}

#define MAX_GRACE	2	/* one in the APIC, one under way */

/*
 * The interrupt for a deadline that is over, or just about to be, may be on its
 * way when that is replaced.  How long is a matter of order, not of time: a write
 * of the MSR ends whatever the host had begun, but for what has reached the APIC;
 * that comes as soon as interrupts are on.
 */
static void guest_excuse(struct guest_cpu *c)
{
	if (c->wanted && guest_rdtsc() + guest_us(GUEST_MARGIN_US) >= c->wanted) {
		if (c->grace < MAX_GRACE)
			c->grace++;
		c->settled = 0;
	}
}

/* The MSR was written: the APIC holds one interrupt of a vector at most. */
static void guest_settle(struct guest_cpu *c)
{
	if (c->grace > 1)
		c->grace = 1;
	c->settled = 1;
}

/* Interrupts have been on. */
static void guest_end_grace(struct guest_cpu *c)
{
	if (c->settled)
		c->grace = 0;
}

static void guest_replace(struct guest_cpu *c, __u64 deadline)
{
	guest_excuse(c);
	if (c->wanted)
		c->replaced++;
	c->wanted = deadline;
}

/* The timer was stopped by other means than a cancel. */
void guest_drop(void)
{
	guest_replace(guest_self(), 0);
}

static void guest_hold(struct guest_cpu *c, __u64 deadline)
{
	if (deadline > c->trapped)
		c->trapped = deadline;
}

int guest_program(__u64 deadline)
{
	struct guest_cpu *c = guest_self();
	int trap = 1;

	if (c->dialect != GUEST_PLAIN)
		trap = guest_store_pending(c, deadline, guest_rdtsc());
	if (trap)
		guest_write_deadline(c, deadline);
	guest_replace(c, deadline);
	/*
	 * What the host flushes becomes a plain deadline without a trap, so a
	 * later cancel has to reckon with this one too.
	 */
	if (trap) {
		guest_settle(c);
		c->trapped = 0;
	}
	guest_hold(c, deadline);
	c->programmed++;
	if (trap)
		c->traps++;
	else
		c->skips++;
	return trap;
}

void guest_write_plain(__u64 deadline)
{
	struct guest_cpu *c = guest_self();

	guest_wrmsr(GUEST_MSR_TSC_DEADLINE, deadline);
	guest_replace(c, deadline);
	guest_settle(c);
	c->trapped = deadline;
	c->programmed++;
	c->traps++;
}

int guest_cancel(void)
{
	struct guest_cpu *c = guest_self();
	struct lazy_tscdeadline_record *record = c->record;
	int trap = 1;

	if (c->dialect == GUEST_OURS) {
		WRITE_ONCE(record->pending, 0);
		/* Pairs with the host's, as in guest_store_pending(). */
		guest_mb();
		trap = c->disproved ||
		       lazy_tscdeadline_cancel_must_trap(record->features,
							 READ_ONCE(record->armed),
							 c->trapped,
							 guest_rdtsc());
	}
	if (trap)
		guest_wrmsr(GUEST_MSR_TSC_DEADLINE, 0);
	guest_replace(c, 0);
	if (trap)
		guest_settle(c);
	return trap;
}

void guest_window(void)
{
	guest_sti();
	asm volatile("nop; nop" : : : "memory");
	guest_cli();
	guest_end_grace(guest_self());
}

void guest_halt(void)
{
	struct guest_cpu *c = guest_self();

	c->halts++;
	asm volatile("sti; hlt; cli" : : : "memory");
	guest_end_grace(c);
}

void guest_wait(void)
{
	if (guest_self()->wait == GUEST_HALT)
		guest_halt();
	else
		guest_window();
}

void guest_wait_fired(void)
{
	struct guest_cpu *c = guest_self();

	while (c->wanted)
		guest_wait();
}

/* Interrupts are on at least once, however late it is already. */
void guest_wait_until(__u64 tsc)
{
	do {
		guest_window();
	} while (guest_rdtsc() < tsc);
}

void guest_halt_until(__u64 tsc)
{
	do {
		guest_halt();
	} while (guest_rdtsc() < tsc);
}

void guest_judge(void)
{
	struct guest_cpu *c = guest_self();

	if (c->early)
		guest_fail(__LINE__, "early interrupt (TSC, wanted)", c->bad,
			   c->bad_wanted);
	if (c->stray)
		guest_fail(__LINE__, "interrupt that nobody wanted (TSC, how many)",
			   c->bad, c->stray);
	if (!c->wanted && c->good + c->replaced != c->programmed)
		guest_fail(__LINE__, "number of interrupts (got, want)", c->good,
			   c->programmed - c->replaced);
}
