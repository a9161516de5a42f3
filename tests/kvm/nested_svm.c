// SPDX-License-Identifier: GPL-2.0-only
/* The inner guest on SVM. */
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

static char vmcb[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static char host_save[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

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

static void svm_init(void (*code)(void), void *stack, int intercept_intr)
{
	struct nested_table gdt, idt;
	int i;

	for (i = 0; i < PAGE_SIZE; i += 8)
		vmcb_set64(i, 0);
	asm volatile("sgdt %0; sidt %1" : "=m"(gdt), "=m"(idt));
	vmcb_set32(VMCB_INTERCEPT_3, intercept_intr ? INTERCEPT_INTR : 0);
	vmcb_set32(VMCB_INTERCEPT_4, INTERCEPT_VMRUN | INTERCEPT_VMMCALL);
	vmcb_set32(VMCB_ASID, 1);
	vmcb_set32(VMCB_INT_CTL, intercept_intr ? V_INTR_MASKING : 0);
	vmcb_set_segment(VMCB_CS, NESTED_REG(cs), ATTR_CODE, ~0U, 0);
	vmcb_set_segment(VMCB_SS, NESTED_REG(ss), ATTR_DATA, ~0U, 0);
	vmcb_set_segment(VMCB_DS, NESTED_REG(ds), ATTR_DATA, ~0U, 0);
	vmcb_set_segment(VMCB_ES, NESTED_REG(es), ATTR_DATA, ~0U, 0);
	vmcb_set_segment(VMCB_GDTR, 0, 0, gdt.limit, gdt.base);
	vmcb_set_segment(VMCB_IDTR, 0, 0, idt.limit, idt.base);
	vmcb_set64(VMCB_EFER, guest_rdmsr(MSR_EFER));
	vmcb_set64(VMCB_CR0, NESTED_REG(cr0));
	vmcb_set64(VMCB_CR3, NESTED_REG(cr3));
	vmcb_set64(VMCB_CR4, NESTED_REG(cr4));
	vmcb_set64(VMCB_DR6, 0xffff0ff0);
	vmcb_set64(VMCB_DR7, 0x400);
	vmcb_set64(VMCB_RFLAGS, 2 | RFLAGS_IF);
	vmcb_set64(VMCB_RIP, (__u64)code);
	vmcb_set64(VMCB_RSP, (__u64)stack);
}

static enum nested_exit svm_run(void)
{
	__u64 code;

	/* The global interrupt flag is off around it, so IF may be on. */
	asm volatile("push %%rbp; push %%rbx\n"
		     "clgi; sti; vmrun %%rax; cli; stgi\n"
		     "pop %%rbx; pop %%rbp"
		     : : "a"(vmcb)
		     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
		       "r12", "r13", "r14", "r15", "memory", "cc");
	code = READ_ONCE(*(__u64 *)(vmcb + VMCB_EXIT_CODE));
	if (code != EXIT_INTR && code != EXIT_VMMCALL)
		guest_fail(__LINE__, "exit of the inner guest", code, 0);
	return code == EXIT_INTR ? NESTED_EXIT_INTR : NESTED_EXIT_CALL;
}

static void svm_start(void)
{
	guest_wrmsr(MSR_EFER, guest_rdmsr(MSR_EFER) | EFER_SVME);
	guest_wrmsr(MSR_HSAVE_PA, (__u64)host_save);
}

static void svm_call(void)
{
	asm volatile("vmmcall" : : : "memory");
}

const struct nested_vendor nested_svm = {
	.start = svm_start,
	.init = svm_init,
	.run = svm_run,
	.call = svm_call,
};
