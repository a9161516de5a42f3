// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test for lazy TSC deadlines: values of the MSR, and deadlines that the guest
 * programs through the record that it shares with the host.
 *
 * Nothing here goes by how fast the host is: no interrupt may be early, and the
 * guest waits for those that are due for as long as it takes.
 */
#include <asm/barrier.h>
#include <asm/kvm_lazy_tscdeadline.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define TIMER_VECTOR	0xf0

#define X86_FEATURE_KVM_LAZY_TSCDEADLINE \
	KVM_X86_CPU_FEATURE(KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_LAZY_TSCDEADLINE)

static struct lazy_tscdeadline_record record;
static u64 record_gpa;
static u64 unmapped_gpa;

/* What the interrupt handler has seen */
static u64 fired;
static u64 fired_at;

static void timer_handler(struct ex_regs *regs)
{
	WRITE_ONCE(fired_at, rdtsc());
	WRITE_ONCE(fired, fired + 1);
	x2apic_write_reg(APIC_EOI, 0);
}

static void irqs_off(void)
{
	asm volatile("cli" ::: "memory");
}

static void irqs_on(void)
{
	asm volatile("sti; nop" ::: "memory");
}

static void halt_once(void)
{
	asm volatile("sti; hlt; cli" ::: "memory");
}

static u64 ms_to_tsc(u64 ms)
{
	return guest_tsc_khz * ms;
}

/* Program @deadline as a driver does; true if that has taken a write. */
static bool program(u64 deadline)
{
	u64 now = rdtsc();

	WRITE_ONCE(record.pending, deadline);
	/* Pairs with the host's barrier between armed = 0 and its look. */
	mb();
	if (!lazy_tscdeadline_must_trap(READ_ONCE(record.armed), deadline, now))
		return false;
	wrmsr(MSR_IA32_TSC_DEADLINE, deadline);
	return true;
}

/* Nothing is armed any more, and no interrupt is on its way. */
static void program_none(void)
{
	WRITE_ONCE(record.pending, 0);
	wrmsr(MSR_IA32_TSC_DEADLINE, 0);
	GUEST_ASSERT_EQ(READ_ONCE(record.armed), 0);
	irqs_on();
	irqs_off();
}

/* Wait for the interrupt of @deadline, and that it comes once. */
static void expect_fired(u64 before, u64 deadline)
{
	while (READ_ONCE(fired) == before)
		halt_once();
	__GUEST_ASSERT(fired_at >= deadline, "early: %lu, deadline %lu",
		       fired_at, deadline);
	GUEST_ASSERT_EQ(fired, before + 1);
}

static void expect_silence(u64 before, u64 until)
{
	irqs_on();
	while (rdtsc() < until)
		cpu_relax();
	irqs_off();
	GUEST_ASSERT_EQ(fired, before);
}

static void test_msr(void)
{
	const struct {
		u64 value;
		u8 vector;
	} writes[] = {
		{ 0, 0 },
		{ LAZY_TSCDEADLINE_MSR_ENABLED << 1, GP_VECTOR },
		{ record_gpa, GP_VECTOR },
		{ (record_gpa + 32) | LAZY_TSCDEADLINE_MSR_ENABLED, GP_VECTOR },
		{ record_gpa | 2 | LAZY_TSCDEADLINE_MSR_ENABLED, GP_VECTOR },
		{ unmapped_gpa | LAZY_TSCDEADLINE_MSR_ENABLED, GP_VECTOR },
		{ record_gpa | LAZY_TSCDEADLINE_MSR_ENABLED, 0 },
	};
	u64 value = 0;
	u8 vector;
	int i;

	for (i = 0; i < ARRAY_SIZE(writes); i++) {
		vector = wrmsr_safe(MSR_KVM_LAZY_TSCDEADLINE, writes[i].value);
		__GUEST_ASSERT(vector == writes[i].vector,
			       "write of %lx: vector %u, wanted %u",
			       writes[i].value, vector, writes[i].vector);
		if (!vector)
			value = writes[i].value;
		GUEST_ASSERT_EQ(rdmsr(MSR_KVM_LAZY_TSCDEADLINE), value);
	}
	GUEST_ASSERT_EQ(READ_ONCE(record.armed), 0);
}

/* The deadline is one that the host has to be told. */
static u64 test_trapped(void)
{
	u64 before = fired, deadline = rdtsc() + ms_to_tsc(20);

	GUEST_ASSERT(program(deadline));
	GUEST_ASSERT(READ_ONCE(record.armed) <= deadline);
	expect_fired(before, deadline);
	return deadline;
}

/*
 * Have the host publish a look in @ms, or in more if the host is so slow that the
 * guest cannot do @change before.
 */
static u64 before_look(u64 ms, u64 (*change)(u64 deadline))
{
	u64 deadline, armed;

	for (;; ms *= 2) {
		program_none();
		deadline = rdtsc() + ms_to_tsc(ms);
		GUEST_ASSERT(program(deadline));
		armed = READ_ONCE(record.armed);
		if (!armed && rdtsc() >= deadline)
			continue;
		GUEST_ASSERT(armed && armed <= deadline);
		deadline = change(deadline);
		if (rdtsc() < armed)
			return deadline;
	}
}

static u64 move(u64 deadline)
{
	u64 armed = READ_ONCE(record.armed);
	int i;

	for (i = 0; i < 8; i++) {
		deadline += ms_to_tsc(10);
		if (program(deadline))
			GUEST_ASSERT(rdtsc() >= armed);
	}
	return deadline;
}

/* Later deadlines take no write, and the last of them is the one that counts. */
static void test_later(void)
{
	u64 deadline = before_look(100, move);

	expect_fired(fired, deadline);
}

static u64 cancel(u64 deadline)
{
	WRITE_ONCE(record.pending, 0);
	return deadline;
}

static void test_cancelled(void)
{
	u64 deadline;

	GUEST_ASSERT(READ_ONCE(record.version) >= LAZY_TSCDEADLINE_VERSION);
	GUEST_ASSERT(READ_ONCE(record.features) & LAZY_TSCDEADLINE_F_CANCEL);
	deadline = before_look(50, cancel);
	expect_silence(fired, deadline + ms_to_tsc(20));
}

/* From now on the record is memory as any other; the deadline stays. */
static void test_disabled(void)
{
	u64 before, deadline;

	program_none();
	before = fired;
	deadline = rdtsc() + ms_to_tsc(50);
	program(deadline);
	wrmsr(MSR_KVM_LAZY_TSCDEADLINE, 0);
	GUEST_ASSERT_EQ(READ_ONCE(record.armed), 0);
	WRITE_ONCE(record.pending, deadline + ms_to_tsc(1000000));
	expect_fired(before, deadline);
	GUEST_ASSERT_EQ(READ_ONCE(record.armed), 0);
}

static void guest_code(void)
{
	u64 last;

	irqs_off();
	x2apic_enable();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);

	GUEST_ASSERT(this_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER));
	test_msr();
	last = test_trapped();
	/* Delivered once is delivered: the host does not take it for another. */
	expect_silence(fired, last + ms_to_tsc(100));
	test_later();
	test_cancelled();
	test_disabled();
	GUEST_DONE();
}

int main(int argc, char *argv[])
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_LAZY_TSCDEADLINE));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_TSC_DEADLINE_TIMER));

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_install_exception_handler(vm, TIMER_VECTOR, timer_handler);
	vcpu_set_cpuid_feature(vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);

	record_gpa = addr_gva2gpa(vm, (vm_vaddr_t)&record);
	unmapped_gpa = vm->max_gfn << vm->page_shift;
	sync_global_to_guest(vm, record_gpa);
	sync_global_to_guest(vm, unmapped_gpa);

	for (;;) {
		vcpu_run(vcpu);
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		case UCALL_DONE:
			kvm_vm_free(vm);
			return 0;
		default:
			TEST_FAIL("Unknown ucall %lu", uc.cmd);
		}
	}
}
