// SPDX-License-Identifier: GPL-2.0-only
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

#define PAGE_SIZE	4096UL
#define MAX_CPUID	256
/* Few, as some tests fill it; Intel CPUs need more than 576. */
#define RING_ENTRIES	1024

/* Guest-physical layout below the program's own image. */
#define GPA_PML4	0x1000
#define GPA_PDPT	0x2000
#define GPA_PD		0x3000		/* four pages: 4 GiB */
#define GPA_GDT		0x8000
#define GPA_IDT		0x9000
#define GPA_TSS		0xa000
#define GPA_STACKS	0x100000
#define STACK_SIZE	0x10000

#define PTE_PRESENT	1ULL
#define PTE_WRITE	2ULL
#define PTE_LARGE	0x80ULL

#define SEL_CODE	8
#define SEL_DATA	16
#define SEL_TSS		24

#define CR0_BITS	0x80010033UL	/* PG WP NE ET MP PE */
#define CR4_BITS	0x620UL		/* OSXMMEXCPT OSFXSR PAE */
#define EFER_BITS	0x500UL		/* LMA LME */

#define CPUID_1_ECX_VMX		BIT(5)
#define CPUID_1_ECX_X2APIC	BIT(21)
#define CPUID_1_ECX_DEADLINE	BIT(24)
#define CPUID_KVM_FEATURES	0x40000001
#define CPUID_EXT_FEATURES	0x80000001
#define CPUID_EXT_ECX_SVM	BIT(2)

#define MSR_APIC_BASE	0x1b

unsigned int vm_flags;
struct vm *vms[VM_MAX];

static void vm_note(struct vm *old, struct vm *new)
{
	int i;

	for (i = 0; i < VM_MAX; i++) {
		if (vms[i] == old) {
			vms[i] = new;
			return;
		}
	}
}

void vm_die(const char *what, ...)
{
	int error = errno;
	va_list args;

	printf("# FATAL: ");
	va_start(args, what);
	vprintf(what, args);
	va_end(args);
	printf(" (errno %d: %s)\n", error, strerror(error));
	fflush(stdout);
	_exit(EXIT_FAILURE);
}

static long ioctl_or_die(int fd, unsigned long request, const char *name, void *arg)
{
	long r = ioctl(fd, request, arg);

	if (r < 0)
		vm_die("%s", name);
	return r;
}

#define IOCTL(fd, request, arg) \
	ioctl_or_die(fd, request, #request, (void *)(unsigned long)(arg))

static void *map_or_die(size_t size, int fd, off_t offset)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (p == MAP_FAILED)
		vm_die("mmap of %zu bytes", size);
	return p;
}

int vm_open_kvm(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		vm_die("cannot open /dev/kvm");
	return fd;
}

static struct kvm_cpuid2 *supported_cpuid(void)
{
	struct kvm_cpuid2 *cpuid;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	if (!cpuid)
		vm_die("no memory");
	cpuid->nent = MAX_CPUID;
	IOCTL(vm_open_kvm(), KVM_GET_SUPPORTED_CPUID, cpuid);
	return cpuid;
}

static struct kvm_cpuid_entry2 supported_leaf(__u32 function)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid();
	struct kvm_cpuid_entry2 found = { 0 };
	__u32 i;

	for (i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			found = cpuid->entries[i];
	free(cpuid);
	return found;
}

bool vm_host_has_feature(void)
{
	return supported_leaf(CPUID_KVM_FEATURES).eax >>
	       KVM_FEATURE_LAZY_TSCDEADLINE & 1;
}

bool vm_host_has_svm(void)
{
	return supported_leaf(CPUID_EXT_FEATURES).ecx & CPUID_EXT_ECX_SVM;
}

bool vm_host_has_vmx(void)
{
	return supported_leaf(1).ecx & CPUID_1_ECX_VMX;
}

bool vm_host_has_hv_timer(void)
{
	FILE *file = fopen("/sys/module/kvm_intel/parameters/preemption_timer", "re");
	int c = file ? fgetc(file) : 'N';

	if (file)
		fclose(file);
	return c == 'Y';
}

bool vm_host_lists_msr(__u32 msr)
{
	struct kvm_msr_list *list, probe = { 0 };
	bool found = false;
	__u32 i;

	ioctl(vm_open_kvm(), KVM_GET_MSR_INDEX_LIST, &probe);
	list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list)
		vm_die("no memory");
	list->nmsrs = probe.nmsrs;
	IOCTL(vm_open_kvm(), KVM_GET_MSR_INDEX_LIST, list);
	for (i = 0; i < list->nmsrs; i++)
		if (list->indices[i] == msr)
			found = true;
	free(list);
	return found;
}

void vm_set_slot(struct vm *vm, int slot, __u64 gpa, __u64 size, void *hva,
		 unsigned int flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (unsigned long)hva,
	};

	IOCTL(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

void vm_set_record_slot(struct vm *vm, bool present)
{
	bool log = vm->flags & (VM_DIRTY_LOG | VM_DIRTY_RING) &&
		   !(vm->flags & VM_LOG_LATER);

	vm_set_slot(vm, VM_RECORD_SLOT, GUEST_RECORD_GPA,
		    present ? VM_RECORD_SIZE : 0, vm->record_page,
		    log ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

void vm_begin_log(struct vm *vm)
{
	vm->flags &= ~VM_LOG_LATER;
	vm_set_record_slot(vm, true);
}

bool vm_dirty(struct vm *vm, unsigned int page)
{
	unsigned long bits[1] = { 0 };
	struct kvm_dirty_log log = {
		.slot = VM_RECORD_SLOT,
		.dirty_bitmap = bits,
	};

	IOCTL(vm->fd, KVM_GET_DIRTY_LOG, &log);
	return bits[0] >> page & 1;
}

void vm_signal_msi(struct vm *vm, int cpu, int vector)
{
	struct kvm_msi msi = {
		.address_lo = 0xfee00000 | cpu << 12,
		.data = vector,
	};

	IOCTL(vm->fd, KVM_SIGNAL_MSI, &msi);
}

long vm_halt_poll(struct vm *vm, __u64 ns)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HALT_POLL, .args = { ns } };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

void *vm_guest_copy(struct vm *vm, const void *p)
{
	return vm->ram + (unsigned long)p;
}

struct guest_cpu *vm_cpu(struct vm *vm, int cpu)
{
	return vm_guest_copy(vm, &guest_cpus[cpu]);
}

struct lazy_tscdeadline_record *vm_record(struct vm *vm, int cpu)
{
	__u64 gpa = (__u64)vm_cpu(vm, cpu)->record;

	return (void *)(vm->record_page + (gpa - GUEST_RECORD_GPA));
}

/* Copy what the kernel loaded of this program to the same guest addresses. */
static void load_self(struct vm *vm)
{
	const Elf64_Phdr *ph = (void *)getauxval(AT_PHDR);
	unsigned long i, n = getauxval(AT_PHNUM);

	for (i = 0; i < n; i++) {
		if (ph[i].p_type != PT_LOAD)
			continue;
		if (ph[i].p_vaddr < GPA_STACKS + GUEST_MAX_CPUS * STACK_SIZE ||
		    ph[i].p_vaddr + ph[i].p_memsz > VM_RAM_SIZE)
			vm_die("not linked at a fixed, low address: %#lx",
			       (unsigned long)ph[i].p_vaddr);
		memcpy(vm->ram + ph[i].p_vaddr, (void *)ph[i].p_vaddr,
		       ph[i].p_memsz);
	}
}

static void set_gate(struct vm *vm, int vector, void *handler)
{
	__u64 *gate = (__u64 *)(vm->ram + GPA_IDT) + 2 * vector;
	__u64 address = (unsigned long)handler;

	gate[0] = (address & 0xffff) | (__u64)SEL_CODE << 16 | 0x8e00ULL << 32 |
		  (address >> 16 & 0xffff) << 48;
	gate[1] = address >> 32;
}

static void build_tables(struct vm *vm)
{
	__u64 *pml4 = (__u64 *)(vm->ram + GPA_PML4);
	__u64 *pdpt = (__u64 *)(vm->ram + GPA_PDPT);
	__u64 *pd = (__u64 *)(vm->ram + GPA_PD);
	__u64 *gdt = (__u64 *)(vm->ram + GPA_GDT);
	int i;

	pml4[0] = GPA_PDPT | PTE_PRESENT | PTE_WRITE;
	for (i = 0; i < 4; i++)
		pdpt[i] = (GPA_PD + i * PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
	for (i = 0; i < 4 * 512; i++)
		pd[i] = (__u64)i << 21 | PTE_PRESENT | PTE_WRITE | PTE_LARGE;

	gdt[SEL_CODE / 8] = 0x00af9b000000ffffULL;
	gdt[SEL_DATA / 8] = 0x00cf93000000ffffULL;
	gdt[SEL_TSS / 8] = 0x00008b0000000067ULL | (__u64)GPA_TSS << 16;

	for (i = 0; i < 32; i++)
		set_gate(vm, i, guest_vector_fault);
	set_gate(vm, 13, guest_vector_gp);
	set_gate(vm, GUEST_TIMER_VECTOR, guest_vector_timer);
	set_gate(vm, GUEST_CONTROL_VECTOR, guest_vector_control);
}

static void vcpu_set_cpuid(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid();
	bool hide = vcpu->vm->flags & (VM_HIDE_FEATURE | VM_HIDE_ONLY);
	__u32 i;

	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		switch (e->function) {
		case 1:
			e->ecx |= CPUID_1_ECX_DEADLINE | CPUID_1_ECX_X2APIC;
			e->ebx = (e->ebx & 0x00ffffff) | (__u32)vcpu->id << 24;
			break;
		case 0xb:
		case 0x1f:
			e->edx = vcpu->id;
			break;
		case CPUID_KVM_FEATURES:
			if (hide)
				e->eax &= ~(1U << KVM_FEATURE_LAZY_TSCDEADLINE);
			break;
		}
	}
	IOCTL(vcpu->fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

static void set_segment(struct kvm_segment *s, int selector, int type, bool system)
{
	memset(s, 0, sizeof(*s));
	s->selector = selector;
	s->limit = system ? 0x67 : 0xffffffff;
	s->type = type;
	s->present = 1;
	s->s = !system;
	s->g = !system;
	s->l = selector == SEL_CODE;
	s->db = selector == SEL_DATA;
}

static void vcpu_set_long_mode(struct vcpu *vcpu)
{
	struct kvm_sregs sregs;

	IOCTL(vcpu->fd, KVM_GET_SREGS, &sregs);
	sregs.cr0 = CR0_BITS;
	sregs.cr3 = GPA_PML4;
	sregs.cr4 = CR4_BITS;
	sregs.efer = EFER_BITS;
	set_segment(&sregs.cs, SEL_CODE, 11, false);
	set_segment(&sregs.ds, SEL_DATA, 3, false);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	sregs.gs.base = (unsigned long)&guest_cpus[vcpu->id];
	set_segment(&sregs.tr, SEL_TSS, 11, true);
	sregs.tr.base = GPA_TSS;
	sregs.gdt.base = GPA_GDT;
	sregs.gdt.limit = SEL_TSS + 15;
	sregs.idt.base = GPA_IDT;
	sregs.idt.limit = 256 * 16 - 1;
	IOCTL(vcpu->fd, KVM_SET_SREGS, &sregs);
}

static void vcpu_start_at(struct vcpu *vcpu, void (*code)(void))
{
	struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_RUNNABLE };
	/* As after a call: 8 bytes off a multiple of 16. */
	struct kvm_regs regs = {
		.rip = (unsigned long)code,
		.rsp = GPA_STACKS + (vcpu->id + 1) * STACK_SIZE - 8,
		.rflags = 2,
	};

	IOCTL(vcpu->fd, KVM_SET_REGS, &regs);
	if (!(vcpu->vm->flags & VM_NO_APIC))
		IOCTL(vcpu->fd, KVM_SET_MP_STATE, &state);
}

static void vcpu_create(struct vm *vm, int id, void (*code)(void))
{
	struct kvm_enable_cap enforce = {
		.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
		.args = { 1 },
	};
	struct vcpu *vcpu = &vm->vcpus[id];
	struct guest_cpu *c = vm_cpu(vm, id);
	long size = IOCTL(vm_open_kvm(), KVM_GET_VCPU_MMAP_SIZE, 0);

	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->stats_fd = -1;
	vcpu->fd = IOCTL(vm->fd, KVM_CREATE_VCPU, id);
	vcpu->run = map_or_die(size, vcpu->fd, 0);
	if (vm->flags & VM_DIRTY_RING) {
		vcpu->ring_size = RING_ENTRIES * sizeof(struct kvm_dirty_gfn);
		vcpu->ring = map_or_die(vcpu->ring_size, vcpu->fd,
					KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE);
	}
	if (vm->flags & VM_HIDE_FEATURE)
		IOCTL(vcpu->fd, KVM_ENABLE_CAP, &enforce);
	vcpu_set_cpuid(vcpu);
	vcpu_set_long_mode(vcpu);
	vcpu_start_at(vcpu, code);

	c->self = &guest_cpus[id];
	c->id = id;
	c->record = (void *)(GUEST_RECORD_GPA + id * LAZY_TSCDEADLINE_ALIGN);
	c->khz = IOCTL(vcpu->fd, KVM_GET_TSC_KHZ, 0);
}

static void vm_enable_dirty_ring(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DIRTY_LOG_RING,
		.args = { RING_ENTRIES * sizeof(struct kvm_dirty_gfn) },
	};

	IOCTL(vm->fd, KVM_ENABLE_CAP, &cap);
}

static void vm_disable_hlt_exits(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_DISABLE_EXITS,
		.args = { KVM_X86_DISABLE_EXITS_HLT },
	};

	IOCTL(vm->fd, KVM_ENABLE_CAP, &cap);
}

struct vm *vm_create(int nr_vcpus, unsigned int flags, void (*code)(void))
{
	struct vm *vm = calloc(1, sizeof(*vm));
	__u64 identity = 0xfffbc000;
	int i;

	if (!vm)
		vm_die("no memory");
	flags |= vm_flags;
	vm->flags = flags;
	vm->nr_vcpus = nr_vcpus;
	vm->fd = IOCTL(vm_open_kvm(), KVM_CREATE_VM, 0);
	/* Wanted by VMX without "unrestricted guest". */
	IOCTL(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	IOCTL(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	if (!(flags & VM_NO_APIC))
		IOCTL(vm->fd, KVM_CREATE_IRQCHIP, 0);
	if (flags & VM_DIRTY_RING)
		vm_enable_dirty_ring(vm);
	if (flags & VM_HLT_IN_GUEST)
		vm_disable_hlt_exits(vm);
	vm->ram = map_or_die(VM_RAM_SIZE, -1, 0);
	vm->record_page = map_or_die(VM_RECORD_SIZE, -1, 0);
	vm_set_slot(vm, 0, 0, VM_RAM_SIZE, vm->ram, 0);
	vm_set_record_slot(vm, true);
	if (flags & VM_RO_MEMORY)
		vm_set_slot(vm, VM_RO_SLOT, GUEST_RO_GPA, PAGE_SIZE,
			    map_or_die(PAGE_SIZE, -1, 0), KVM_MEM_READONLY);
	load_self(vm);
	build_tables(vm);
	for (i = 0; i < nr_vcpus; i++)
		vcpu_create(vm, i, code);
	vm_note(NULL, vm);
	return vm;
}

void vm_destroy(struct vm *vm)
{
	long size = IOCTL(vm_open_kvm(), KVM_GET_VCPU_MMAP_SIZE, 0);
	int i;

	vm_note(vm, NULL);
	for (i = 0; i < vm->nr_vcpus; i++) {
		munmap(vm->vcpus[i].run, size);
		if (vm->vcpus[i].ring)
			munmap(vm->vcpus[i].ring, vm->vcpus[i].ring_size);
		if (vm->vcpus[i].stats_fd >= 0)
			close(vm->vcpus[i].stats_fd);
		close(vm->vcpus[i].fd);
	}
	close(vm->fd);
	munmap(vm->ram, VM_RAM_SIZE);
	munmap(vm->record_page, VM_RECORD_SIZE);
	free(vm);
}

int vcpu_run(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	/* EAGAIN: the vCPU was waiting for a start-up IPI and got it. */
	while (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
		if (errno == EINTR)
			return -EINTR;
		if (errno != EAGAIN)
			vm_die("KVM_RUN");
	}
	if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL)
		return -ENOSPC;
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != GUEST_PORT) {
		struct kvm_regs regs = { 0 };

		ioctl(vcpu->fd, KVM_GET_REGS, &regs);
		vm_die("vCPU %d: unexpected exit %u (suberror %u), rip %#llx",
		       vcpu->id, run->exit_reason, run->internal.suberror,
		       regs.rip);
	}
	return *((__u8 *)run + run->io.data_offset);
}

/* The instruction that led to user space is only over on the way back. */
void vcpu_complete(struct vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	if (!ioctl(vcpu->fd, KVM_RUN, 0) || errno != EINTR)
		vm_die("immediate exit");
	vcpu->run->immediate_exit = 0;
}

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

__u64 vcpu_get_msr(struct vcpu *vcpu, __u32 msr)
{
	struct one_msr m = { .head.nmsrs = 1, .entry.index = msr };

	if (IOCTL(vcpu->fd, KVM_GET_MSRS, &m) != 1)
		vm_die("KVM_GET_MSRS of %#x", msr);
	return m.entry.data;
}

int vcpu_set_msr(struct vcpu *vcpu, __u32 msr, __u64 value)
{
	struct one_msr m = {
		.head.nmsrs = 1,
		.entry.index = msr,
		.entry.data = value,
	};

	return IOCTL(vcpu->fd, KVM_SET_MSRS, &m) == 1 ? 0 : -1;
}

/* Let its TSC run at twice the rate: can the host's CPUs do so themselves? */
bool vcpu_double_tsc(struct vcpu *vcpu)
{
	long khz = IOCTL(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	IOCTL(vcpu->fd, KVM_SET_TSC_KHZ, 2 * khz);
	return IOCTL(vm_open_kvm(), KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL);
}

void vcpu_get_lapic(struct vcpu *vcpu, struct kvm_lapic_state *lapic)
{
	IOCTL(vcpu->fd, KVM_GET_LAPIC, lapic);
}

void vcpu_set_lapic(struct vcpu *vcpu, struct kvm_lapic_state *lapic)
{
	IOCTL(vcpu->fd, KVM_SET_LAPIC, lapic);
}

__u64 vcpu_stat(struct vcpu *vcpu, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	__u64 value;
	size_t size;
	__u32 i;

	if (vcpu->stats_fd < 0)
		vcpu->stats_fd = IOCTL(vcpu->fd, KVM_GET_STATS_FD, 0);
	if (pread(vcpu->stats_fd, &header, sizeof(header), 0) != sizeof(header))
		vm_die("statistics header");
	size = sizeof(*desc) + header.name_size;
	desc = malloc(size);
	for (i = 0; desc && i < header.num_desc; i++) {
		if (pread(vcpu->stats_fd, desc, size,
			  header.desc_offset + i * size) != (ssize_t)size)
			vm_die("statistics descriptor");
		if (strcmp(desc->name, name))
			continue;
		if (pread(vcpu->stats_fd, &value, sizeof(value),
			  header.data_offset + desc->offset) != sizeof(value))
			vm_die("statistics value");
		free(desc);
		return value;
	}
	errno = ENOENT;
	vm_die("statistics: no '%s'", name);
}

/* One of the feature's debugfs files. */
static FILE *lazy_file(struct vcpu *vcpu, const char *name)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/vcpu%d/%s",
		 getpid(), vcpu->vm->fd, vcpu->id, name);
	file = fopen(path, "re");
	if (!file)
		vm_die("%s", path);
	return file;
}

/* The word that follows @name there. */
static void lazy_word(struct vcpu *vcpu, const char *name, char word[64])
{
	FILE *file = lazy_file(vcpu, "lazy_tscdeadline");
	char key[64];

	while (fscanf(file, "%63s %63s", key, word) == 2) {
		if (strcmp(key, name))
			continue;
		fclose(file);
		return;
	}
	errno = ENOENT;
	vm_die("no '%s' in debugfs", name);
}

__u64 vcpu_lazy_stat(struct vcpu *vcpu, const char *name)
{
	char word[64], *end;
	__u64 value;

	lazy_word(vcpu, name, word);
	value = strtoull(word, &end, 0);
	if (*end)
		vm_die("'%s' is no number: %s", name, word);
	return value;
}

bool vcpu_lazy_knows(struct vcpu *vcpu, __u64 period)
{
	FILE *file = lazy_file(vcpu, "lazy_tscdeadline_policy");
	unsigned long long found;
	bool known = false;
	char line[512];

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "stream %*d %llu", &found) != 1 || !found)
			continue;
		printf("# vCPU %d: a period of %llu\n", vcpu->id, found);
		known |= found - period + period / 16 <= period / 8;
	}
	fclose(file);
	return known;
}

bool vcpu_lazy_says(struct vcpu *vcpu, const char *name, const char *word)
{
	char found[64];

	lazy_word(vcpu, name, found);
	if (!strcmp(found, word))
		return true;
	printf("# vCPU %d: %s is '%s', not '%s'\n", vcpu->id, name, found, word);
	return false;
}

void vm_set_parameter(const char *name, const char *value)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/kvm/parameters/%s", name);
	file = fopen(path, "we");
	if (!file || fputs(value, file) < 0 || fclose(file))
		vm_die("%s", path);
}

unsigned int vm_swap_parameter(const char *name, unsigned int value)
{
	char path[128], text[16];
	unsigned int before;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/kvm/parameters/%s", name);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%u", &before) != 1)
		vm_die("%s", path);
	fclose(file);
	snprintf(text, sizeof(text), "%u", value);
	vm_set_parameter(name, text);
	return before;
}

int vcpu_mp_state(struct vcpu *vcpu)
{
	struct kvm_mp_state state;

	IOCTL(vcpu->fd, KVM_GET_MP_STATE, &state);
	return state.mp_state;
}

/* Collect the whole ring; is this page of the record slot in it? */
bool vcpu_ring_dirty(struct vcpu *vcpu, unsigned int page)
{
	struct kvm_dirty_gfn *gfns = vcpu->ring;
	bool found = false;
	int i;

	for (i = 0; i < RING_ENTRIES; i++) {
		if (!(gfns[i].flags & KVM_DIRTY_GFN_F_DIRTY))
			continue;
		if (gfns[i].slot == VM_RECORD_SLOT && gfns[i].offset == page)
			found = true;
		__atomic_store_n(&gfns[i].flags, KVM_DIRTY_GFN_F_RESET,
				 __ATOMIC_RELEASE);
	}
	IOCTL(vcpu->vm->fd, KVM_RESET_DIRTY_RINGS, 0);
	return found;
}

/* What a VMM carries from one vCPU to another. */
struct vcpu_state {
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	__u64 tsc, lazy, deadline;
};

static void vcpu_save(struct vcpu *vcpu, struct vcpu_state *state, bool with_msr)
{
	vcpu_complete(vcpu);
	IOCTL(vcpu->fd, KVM_GET_MP_STATE, &state->mp);
	IOCTL(vcpu->fd, KVM_GET_REGS, &state->regs);
	IOCTL(vcpu->fd, KVM_GET_SREGS, &state->sregs);
	IOCTL(vcpu->fd, KVM_GET_LAPIC, &state->lapic);
	IOCTL(vcpu->fd, KVM_GET_VCPU_EVENTS, &state->events);
	state->deadline = vcpu_get_msr(vcpu, GUEST_MSR_TSC_DEADLINE);
	if (with_msr)
		state->lazy = vcpu_get_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE);
	state->tsc = vcpu_get_msr(vcpu, GUEST_MSR_TSC);
}

/* In any order: what has to do with the timer. */
static void vcpu_restore_timer(struct vcpu *vcpu, struct vcpu_state *state,
			       enum vm_restore what)
{
	switch (what) {
	case VM_RESTORE_TSC:
		vcpu_set_msr(vcpu, GUEST_MSR_TSC, state->tsc);
		break;
	case VM_RESTORE_LAPIC:
		IOCTL(vcpu->fd, KVM_SET_LAPIC, &state->lapic);
		break;
	case VM_RESTORE_LAZY:
		if (vcpu_set_msr(vcpu, MSR_KVM_LAZY_TSCDEADLINE, state->lazy))
			vm_die("the destination does not take the MSR");
		break;
	case VM_RESTORE_DEADLINE:
		vcpu_set_msr(vcpu, GUEST_MSR_TSC_DEADLINE, state->deadline);
		break;
	case VM_RESTORE_NR:
		break;
	}
}

static void vcpu_restore(struct vcpu *vcpu, struct vcpu_state *state)
{
	/* With it comes the APIC's mode, without which its state cannot be set. */
	IOCTL(vcpu->fd, KVM_SET_SREGS, &state->sregs);
	IOCTL(vcpu->fd, KVM_SET_REGS, &state->regs);
	IOCTL(vcpu->fd, KVM_SET_VCPU_EVENTS, &state->events);
	IOCTL(vcpu->fd, KVM_SET_MP_STATE, &state->mp);
}

/*
 * As QEMU does it: the vCPUs' state first, then the rest of memory, then the
 * deadline, which the destination must know only when everything is in place.
 */
void vm_migrate(struct vm *from, struct vm *to, bool with_msr)
{
	struct vcpu_state state[GUEST_MAX_CPUS];
	int i;

	memcpy(to->record_page, from->record_page, VM_RECORD_SIZE);
	for (i = 0; i < from->nr_vcpus; i++) {
		vcpu_save(&from->vcpus[i], &state[i], with_msr);
		vcpu_restore(&to->vcpus[i], &state[i]);
		vcpu_restore_timer(&to->vcpus[i], &state[i], VM_RESTORE_TSC);
		vcpu_restore_timer(&to->vcpus[i], &state[i], VM_RESTORE_LAPIC);
		if (with_msr)
			vcpu_restore_timer(&to->vcpus[i], &state[i], VM_RESTORE_LAZY);
	}
	memcpy(to->ram, from->ram, VM_RAM_SIZE);
	memcpy(to->record_page, from->record_page, VM_RECORD_SIZE);
	for (i = 0; i < from->nr_vcpus; i++)
		vcpu_restore_timer(&to->vcpus[i], &state[i], VM_RESTORE_DEADLINE);
}

void vm_migrate_in_order(struct vm *from, struct vm *to, const enum vm_restore *order)
{
	struct vcpu_state state;
	int i;

	vcpu_save(&from->vcpus[0], &state, true);
	memcpy(to->ram, from->ram, VM_RAM_SIZE);
	memcpy(to->record_page, from->record_page, VM_RECORD_SIZE);
	vcpu_restore(&to->vcpus[0], &state);
	for (i = 0; i < VM_RESTORE_NR; i++)
		vcpu_restore_timer(&to->vcpus[0], &state, order[i]);
}
