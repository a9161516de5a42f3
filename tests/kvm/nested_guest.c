// SPDX-License-Identifier: GPL-2.0-only
#include "nested_guest.h"

#define PAGE_SIZE	4096

#define MSR_EFER	0xc0000080
#define EFER_SVME	BIT(12)
#define MSR_HSAVE_PA	0xc0010117

/* The VMCB: AMD's manual, volume 2, appendix B. */
#define VMCB_INTERCEPT_3	0x00c
#define INTERCEPT_INTR		BIT(0)
#define VMCB_INTERCEPT_4	0x010
#define INTERCEPT_VMRUN		BIT(0)
#define INTERCEPT_VMMCALL	BIT(1)
#define VMCB_ASID		0x058
#define VMCB_INT_CTL		0x060
#define V_INTR_MASKING		BIT(24)
#define VMCB_EXIT_CODE		0x070
#define EXIT_INTR		0x60
#define EXIT_VMMCALL		0x81
#define VMCB_ES			0x400
#define VMCB_CS			0x410
#define VMCB_SS			0x420
#define VMCB_DS			0x430
#define VMCB_GDTR		0x460
#define VMCB_IDTR		0x480
#define VMCB_EFER		0x4d0
#define VMCB_CR4		0x548
#define VMCB_CR3		0x550
#define VMCB_CR0		0x558
#define VMCB_DR7		0x560
#define VMCB_DR6		0x568
#define VMCB_RFLAGS		0x570
#define VMCB_RIP		0x578
#define VMCB_RSP		0x5d8

#define ATTR_CODE	0xa9b
#define ATTR_DATA	0xc93
#define RFLAGS_IF	BIT(9)

/*
 * The exit may come as early as KVM's timers do: the rest is waited for where the
 * interrupt is injected, whose handler is the judge of it.
 */
#define ADVANCE_MAX_US	5

/* Looks that the inner guest waits for in INNER_CHASE. */
#define CHASED_LOOKS	10

static char vmcb[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static char host_save[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static char inner_stack[2 * PAGE_SIZE] __attribute__((aligned(16)));
/* When the inner guest may give up waiting for an interrupt. */
static __u64 inner_end;

struct descriptor {
	__u16 limit;
	__u64 base;
} __attribute__((packed));

static void vmcb_set32(int offset, __u32 value)
{
	WRITE_ONCE(*(__u32 *)(vmcb + offset), value);
}

static void vmcb_set64(int offset, __u64 value)
{
	WRITE_ONCE(*(__u64 *)(vmcb + offset), value);
}

static void vmcb_set_segment(int offset, __u16 selector, __u16 attributes,
			     __u32 limit, __u64 base)
{
	vmcb_set32(offset, selector | (__u32)attributes << 16);
	vmcb_set32(offset + 4, limit);
	vmcb_set64(offset + 8, base);
}

#define READ_REG(name)							\
	({								\
		__u64 _value;						\
									\
		asm volatile("mov %%" #name ", %0" : "=r"(_value));	\
		_value;							\
	})

static void vmcb_init(void (*code)(void), int intercept_intr)
{
	struct descriptor gdt, idt;
	int i;

	for (i = 0; i < PAGE_SIZE; i += 8)
		vmcb_set64(i, 0);
	asm volatile("sgdt %0; sidt %1" : "=m"(gdt), "=m"(idt));
	vmcb_set32(VMCB_INTERCEPT_3, intercept_intr ? INTERCEPT_INTR : 0);
	vmcb_set32(VMCB_INTERCEPT_4, INTERCEPT_VMRUN | INTERCEPT_VMMCALL);
	vmcb_set32(VMCB_ASID, 1);
	vmcb_set32(VMCB_INT_CTL, intercept_intr ? V_INTR_MASKING : 0);
	vmcb_set_segment(VMCB_CS, READ_REG(cs), ATTR_CODE, ~0U, 0);
	vmcb_set_segment(VMCB_SS, READ_REG(ss), ATTR_DATA, ~0U, 0);
	vmcb_set_segment(VMCB_DS, READ_REG(ds), ATTR_DATA, ~0U, 0);
	vmcb_set_segment(VMCB_ES, READ_REG(es), ATTR_DATA, ~0U, 0);
	vmcb_set_segment(VMCB_GDTR, 0, 0, gdt.limit, gdt.base);
	vmcb_set_segment(VMCB_IDTR, 0, 0, idt.limit, idt.base);
	vmcb_set64(VMCB_EFER, guest_rdmsr(MSR_EFER));
	vmcb_set64(VMCB_CR0, READ_REG(cr0));
	vmcb_set64(VMCB_CR3, READ_REG(cr3));
	vmcb_set64(VMCB_CR4, READ_REG(cr4));
	vmcb_set64(VMCB_DR6, 0xffff0ff0);
	vmcb_set64(VMCB_DR7, 0x400);
	vmcb_set64(VMCB_RFLAGS, 2 | RFLAGS_IF);
	vmcb_set64(VMCB_RIP, (__u64)code);
	/* As after a call. */
	vmcb_set64(VMCB_RSP, (__u64)inner_stack + sizeof(inner_stack) - 8);
}

/* The exit code of one entry; an interrupt that led to it is pending then. */
static __u64 nested_run(void)
{
	struct guest_cpu *c = guest_self();
	__u64 code;

	/* The global interrupt flag is off around it, so IF may be on. */
	asm volatile("push %%rbp; push %%rbx\n"
		     "clgi; sti; vmrun %%rax; cli; stgi\n"
		     "pop %%rbx; pop %%rbp"
		     : : "a"(vmcb)
		     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
		       "r12", "r13", "r14", "r15", "memory", "cc");
	code = READ_ONCE(*(__u64 *)(vmcb + VMCB_EXIT_CODE));
	c->result[NESTED_RUNS]++;
	if (code == EXIT_INTR)
		c->result[NESTED_INTR]++;
	else if (code != EXIT_VMMCALL)
		guest_fail(__LINE__, "exit of the inner guest", code, 0);
	return code;
}

static void nested_start(void)
{
	guest_start();
	guest_wrmsr(MSR_EFER, guest_rdmsr(MSR_EFER) | EFER_SVME);
	guest_wrmsr(MSR_HSAVE_PA, (__u64)host_save);
}

static void inner_look(struct guest_cpu *c, __u64 *armed)
{
	__u64 now = READ_ONCE(c->record->armed);

	if (now && now != *armed) {
		c->result[NESTED_LOOKS]++;
		*armed = now;
	}
}

/* The inner guest: waits to be interrupted, for as long as it may. */
static void inner_code(void)
{
	struct guest_cpu *c = guest_self();
	__u64 armed = READ_ONCE(c->record->armed), seen;
	int what = c->arg[ARG_INNER], chase = what == INNER_CHASE;

	if (what == INNER_PROGRAM)
		guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
				  guest_us(c->arg[ARG_SECOND_US]));
	if (what == INNER_CALL)
		guest_call(GUEST_CALL_SYNC);
	while (guest_rdtsc() < inner_end) {
		if (what == INNER_HALT) {
			asm volatile("hlt" : : : "memory");
			continue;
		}
		seen = c->result[NESTED_LOOKS];
		inner_look(c, &armed);
		if (!chase || seen == c->result[NESTED_LOOKS])
			continue;
		if (c->result[NESTED_LOOKS] % CHASED_LOOKS == 0)
			chase = 0;
		else
			guest_program(guest_rdtsc() +
				      2 * guest_us(c->arg[ARG_FIRST_US]));
	}
	for (;;)
		asm volatile("vmmcall" : : : "memory");
}

/*
 * Its deadline expires while the inner guest runs, after looks that find nothing
 * due.  One exit of the inner guest, and not before the deadline that is wanted.
 */
void guest_nested(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round, code, now;

	nested_start();
	for (round = 0; round < c->arg[ARG_ROUNDS]; round++) {
		vmcb_init(inner_code, 1);
		inner_end = ~0ULL;
		if (c->arg[ARG_INNER] != INNER_PROGRAM)
			guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
					  guest_us(c->arg[ARG_SECOND_US]));
		code = nested_run();
		now = guest_rdtsc();
		guest_check_eq(code, EXIT_INTR);
		guest_check2(now + guest_us(ADVANCE_MAX_US) >= c->wanted, now,
			     c->wanted);
		guest_wait_fired();
		guest_judge();
	}
	guest_check_eq(c->result[NESTED_INTR], c->arg[ARG_ROUNDS]);
	guest_linger(c->last);
	guest_finish();
}

/* Nothing is wanted any more: a look, and nothing that the inner guest sees. */
void guest_nested_cancel(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round;

	nested_start();
	for (round = 0; round < c->arg[ARG_ROUNDS]; round++) {
		vmcb_init(inner_code, 1);
		guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
				  guest_us(c->arg[ARG_SECOND_US]));
		inner_end = c->wanted + guest_ms(5);
		guest_check_eq(guest_cancel(), 0);
		guest_check_eq(nested_run(), EXIT_VMMCALL);
		guest_judge();
	}
	guest_check_eq(c->result[NESTED_INTR], 0);
	guest_finish();
}

/* Interrupts are the inner guest's own: there is no exit at all. */
void guest_nested_own(void)
{
	struct guest_cpu *c = guest_self();
	__u64 round;

	nested_start();
	for (round = 0; round < c->arg[ARG_ROUNDS]; round++) {
		vmcb_init(inner_code, 0);
		guest_set_up_skip(guest_us(c->arg[ARG_FIRST_US]),
				  guest_us(c->arg[ARG_SECOND_US]));
		inner_end = c->wanted + guest_ms(2);
		guest_check_eq(nested_run(), EXIT_VMMCALL);
		guest_check_eq(c->wanted, 0);
		guest_judge();
	}
	guest_check_eq(c->result[NESTED_INTR], 0);
	guest_finish();
}
