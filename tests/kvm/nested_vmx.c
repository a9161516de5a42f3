// SPDX-License-Identifier: GPL-2.0-only
/* The inner guest on VMX, without EPT: its page tables are the outer guest's. */
#include "nested_guest.h"

#define PAGE_SIZE	4096

#define CR4_VMXE			BIT(13)
#define MSR_FEATURE_CONTROL		0x3a
#define FEATURE_CONTROL_LOCKED		BIT(0)
#define FEATURE_CONTROL_VMXON		BIT(2)
#define MSR_VMX_BASIC			0x480
#define MSR_VMX_TRUE_PINBASED		0x48d
#define MSR_VMX_TRUE_PROCBASED		0x48e
#define MSR_VMX_TRUE_EXIT		0x48f
#define MSR_VMX_TRUE_ENTRY		0x490
#define MSR_FS_BASE			0xc0000100
#define MSR_GS_BASE			0xc0000101

/* Fields of the VMCS: Intel's manual, volume 3, appendix B. */
#define VMCS_GUEST_ES_SELECTOR		0x0800	/* then CS, SS, DS, FS, GS */
#define VMCS_GUEST_TR_SELECTOR		0x080e
#define VMCS_HOST_ES_SELECTOR		0x0c00	/* likewise */
#define VMCS_HOST_TR_SELECTOR		0x0c0c
#define VMCS_MSR_BITMAP			0x2004
#define VMCS_LINK_POINTER		0x2800
#define VMCS_PIN_CONTROLS		0x4000
#define PIN_EXTERNAL_INTERRUPT		BIT(0)
#define VMCS_PROC_CONTROLS		0x4002
#define PROC_MSR_BITMAPS		BIT(28)
#define VMCS_EXIT_CONTROLS		0x400c
#define EXIT_HOST_64_BIT		BIT(9)
#define VMCS_ENTRY_CONTROLS		0x4012
#define ENTRY_64_BIT			BIT(9)
#define VMCS_INSTRUCTION_ERROR		0x4400
#define VMCS_EXIT_REASON		0x4402
#define EXIT_REASON_INTERRUPT		1
#define EXIT_REASON_VMCALL		18
#define VMCS_GUEST_ES_LIMIT		0x4800
#define VMCS_GUEST_TR_LIMIT		0x480e
#define VMCS_GUEST_GDTR_LIMIT		0x4810
#define VMCS_GUEST_IDTR_LIMIT		0x4812
#define VMCS_GUEST_ES_RIGHTS		0x4814
#define VMCS_GUEST_CS_RIGHTS		0x4816
#define VMCS_GUEST_LDTR_RIGHTS		0x4820
#define VMCS_GUEST_TR_RIGHTS		0x4822
#define VMCS_GUEST_CR0			0x6800
#define VMCS_GUEST_CR3			0x6802
#define VMCS_GUEST_CR4			0x6804
#define VMCS_GUEST_FS_BASE		0x680e
#define VMCS_GUEST_GS_BASE		0x6810
#define VMCS_GUEST_TR_BASE		0x6814
#define VMCS_GUEST_GDTR_BASE		0x6816
#define VMCS_GUEST_IDTR_BASE		0x6818
#define VMCS_GUEST_DR7			0x681a
#define VMCS_GUEST_RSP			0x681c
#define VMCS_GUEST_RIP			0x681e
#define VMCS_GUEST_RFLAGS		0x6820
#define VMCS_HOST_CR0			0x6c00
#define VMCS_HOST_CR3			0x6c02
#define VMCS_HOST_CR4			0x6c04
#define VMCS_HOST_FS_BASE		0x6c06
#define VMCS_HOST_GS_BASE		0x6c08
#define VMCS_HOST_TR_BASE		0x6c0a
#define VMCS_HOST_GDTR_BASE		0x6c0c
#define VMCS_HOST_IDTR_BASE		0x6c0e
#define VMCS_HOST_RSP			0x6c14
#define VMCS_HOST_RIP			0x6c16

#define RIGHTS_CODE	0xa09b
#define RIGHTS_DATA	0xc093
#define RIGHTS_TSS	0x008b
#define RIGHTS_UNUSABLE	0x10000
#define RFLAGS_IF	BIT(9)
#define TSS_LIMIT	0x67

static char vmxon_region[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static char vmcs[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
/* All 0: no exit for any MSR. */
static char msr_bitmap[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

#define VMX_REGION(instruction, region)					\
	do {								\
		__u64 _address = (__u64)(region);			\
		__u8 _failed;						\
									\
		asm volatile(instruction " %1; setbe %0"		\
			     : "=q"(_failed) : "m"(_address) : "memory", "cc"); \
		guest_check2(!_failed, _address, 0);			\
	} while (0)

static void vmcs_write(__u64 field, __u64 value)
{
	__u8 failed;

	asm volatile("vmwrite %2, %1; setbe %0"
		     : "=q"(failed) : "r"(field), "r"(value) : "memory", "cc");
	guest_check2(!failed, field, value);
}

static __u64 vmcs_read(__u64 field)
{
	__u64 value;

	asm volatile("vmread %1, %0" : "=r"(value) : "r"(field) : "memory", "cc");
	return value;
}

/* A control word with these bits, and those that the CPU insists on. */
static void vmcs_control(__u64 field, __u32 msr, __u32 bits)
{
	__u64 allowed = guest_rdmsr(msr);

	bits |= (__u32)allowed;
	guest_check2((bits & ~(allowed >> 32)) == 0, bits, allowed);
	vmcs_write(field, bits);
}

static void vmx_init_controls(int intercept_intr)
{
	vmcs_control(VMCS_PIN_CONTROLS, MSR_VMX_TRUE_PINBASED,
		     intercept_intr ? PIN_EXTERNAL_INTERRUPT : 0);
	vmcs_control(VMCS_PROC_CONTROLS, MSR_VMX_TRUE_PROCBASED, PROC_MSR_BITMAPS);
	vmcs_control(VMCS_EXIT_CONTROLS, MSR_VMX_TRUE_EXIT, EXIT_HOST_64_BIT);
	vmcs_control(VMCS_ENTRY_CONTROLS, MSR_VMX_TRUE_ENTRY, ENTRY_64_BIT);
	vmcs_write(VMCS_MSR_BITMAP, (__u64)msr_bitmap);
	vmcs_write(VMCS_LINK_POINTER, ~0ULL);
}

/* The same on both sides: there is one set of segments, tables and pages. */
static void vmx_init_segments(void)
{
	__u16 selectors[6] = {
		NESTED_REG(es), NESTED_REG(cs), NESTED_REG(ss), NESTED_REG(ds),
		NESTED_REG(fs), NESTED_REG(gs),
	};
	int i;

	for (i = 0; i < 6; i++) {
		vmcs_write(VMCS_GUEST_ES_SELECTOR + 2 * i, selectors[i]);
		vmcs_write(VMCS_HOST_ES_SELECTOR + 2 * i, selectors[i] & ~7);
		vmcs_write(VMCS_GUEST_ES_LIMIT + 2 * i, ~0U);
		vmcs_write(VMCS_GUEST_ES_RIGHTS + 2 * i, RIGHTS_DATA);
	}
	vmcs_write(VMCS_GUEST_CS_RIGHTS, RIGHTS_CODE);
	vmcs_write(VMCS_GUEST_LDTR_RIGHTS, RIGHTS_UNUSABLE);
	vmcs_write(VMCS_GUEST_FS_BASE, guest_rdmsr(MSR_FS_BASE));
	vmcs_write(VMCS_HOST_FS_BASE, guest_rdmsr(MSR_FS_BASE));
	vmcs_write(VMCS_GUEST_GS_BASE, guest_rdmsr(MSR_GS_BASE));
	vmcs_write(VMCS_HOST_GS_BASE, guest_rdmsr(MSR_GS_BASE));
}

static void vmx_init_tables(void)
{
	struct nested_table gdt, idt;
	__u64 tss, base;
	__u16 tr;

	asm volatile("sgdt %0; sidt %1; str %2" : "=m"(gdt), "=m"(idt), "=m"(tr));
	vmcs_write(VMCS_GUEST_GDTR_BASE, gdt.base);
	vmcs_write(VMCS_GUEST_GDTR_LIMIT, gdt.limit);
	vmcs_write(VMCS_HOST_GDTR_BASE, gdt.base);
	vmcs_write(VMCS_GUEST_IDTR_BASE, idt.base);
	vmcs_write(VMCS_GUEST_IDTR_LIMIT, idt.limit);
	vmcs_write(VMCS_HOST_IDTR_BASE, idt.base);
	/* Below 4 GiB, so its other half is 0. */
	tss = *(__u64 *)(gdt.base + tr);
	base = (tss >> 16 & 0xffffff) | tss >> 56 << 24;
	vmcs_write(VMCS_GUEST_TR_SELECTOR, tr);
	vmcs_write(VMCS_HOST_TR_SELECTOR, tr);
	vmcs_write(VMCS_GUEST_TR_BASE, base);
	vmcs_write(VMCS_HOST_TR_BASE, base);
	vmcs_write(VMCS_GUEST_TR_LIMIT, TSS_LIMIT);
	vmcs_write(VMCS_GUEST_TR_RIGHTS, RIGHTS_TSS);
}

static void vmx_init_registers(void (*code)(void), void *stack)
{
	vmcs_write(VMCS_GUEST_CR0, NESTED_REG(cr0));
	vmcs_write(VMCS_HOST_CR0, NESTED_REG(cr0));
	vmcs_write(VMCS_GUEST_CR3, NESTED_REG(cr3));
	vmcs_write(VMCS_HOST_CR3, NESTED_REG(cr3));
	vmcs_write(VMCS_GUEST_CR4, NESTED_REG(cr4));
	vmcs_write(VMCS_HOST_CR4, NESTED_REG(cr4));
	vmcs_write(VMCS_GUEST_DR7, 0x400);
	vmcs_write(VMCS_GUEST_RFLAGS, 2 | RFLAGS_IF);
	vmcs_write(VMCS_GUEST_RIP, (__u64)code);
	vmcs_write(VMCS_GUEST_RSP, (__u64)stack);
}

static void vmx_init(void (*code)(void), void *stack, int intercept_intr)
{
	int i;

	VMX_REGION("vmclear", vmcs);
	for (i = 0; i < PAGE_SIZE; i++)
		WRITE_ONCE(vmcs[i], 0);
	WRITE_ONCE(*(__u32 *)vmcs, guest_rdmsr(MSR_VMX_BASIC) & 0x7fffffff);
	VMX_REGION("vmptrld", vmcs);
	vmx_init_controls(intercept_intr);
	vmx_init_segments();
	vmx_init_tables();
	vmx_init_registers(code, stack);
}

static enum nested_exit vmx_run(void)
{
	__u64 rsp = VMCS_HOST_RSP, rip = VMCS_HOST_RIP, reason;
	__u8 failed;

	asm volatile("push %%rbp; push %%rbx\n"
		     "vmwrite %%rsp, %1; lea 1f(%%rip), %%rcx; vmwrite %%rcx, %2\n"
		     "vmlaunch\n"
		     "1: setbe %%al; pop %%rbx; pop %%rbp"
		     : "=a"(failed), "+d"(rsp), "+S"(rip)
		     : : "rcx", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
			 "r14", "r15", "memory", "cc");
	guest_check2(!failed, vmcs_read(VMCS_INSTRUCTION_ERROR), 0);
	reason = vmcs_read(VMCS_EXIT_REASON);
	if (reason != EXIT_REASON_INTERRUPT && reason != EXIT_REASON_VMCALL)
		guest_fail(__LINE__, "exit of the inner guest", reason, 0);
	return reason == EXIT_REASON_INTERRUPT ? NESTED_EXIT_INTR : NESTED_EXIT_CALL;
}

static void vmx_start(void)
{
	__u64 control = guest_rdmsr(MSR_FEATURE_CONTROL);

	if (!(control & FEATURE_CONTROL_LOCKED))
		guest_wrmsr(MSR_FEATURE_CONTROL, FEATURE_CONTROL_LOCKED |
			    FEATURE_CONTROL_VMXON);
	asm volatile("mov %0, %%cr4" : : "r"(NESTED_REG(cr4) | CR4_VMXE) : "memory");
	*(__u32 *)vmxon_region = guest_rdmsr(MSR_VMX_BASIC) & 0x7fffffff;
	VMX_REGION("vmxon", vmxon_region);
}

static void vmx_call(void)
{
	asm volatile("vmcall" : : : "memory");
}

const struct nested_vendor nested_vmx = {
	.start = vmx_start,
	.init = vmx_init,
	.run = vmx_run,
	.call = vmx_call,
};
