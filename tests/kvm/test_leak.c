// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does a host that has had many VMs with lazy timers get its memory back?  They
 * are taken down while a look is published and a later deadline wanted, or were
 * hostile before.  Prints TAP.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness.h"
#include "lazy_guest.h"

#define NR_KINDS	3	/* of VMs */
/*
 * What the kernel takes for itself may grow by so much, per VM of one kind, in
 * bytes, and for what has nothing to do with them, in KiB.
 */
#define MAX_GROWTH	512
#define MAX_NOISE	256
#define WARM_UP		100
#define HOSTILE_ROUNDS	20
/* Taking VMs down goes on in the background: it has so long to be done. */
#define SETTLE_SECONDS	20

static unsigned int nr_vms = 1000;

/* Memory that the kernel uses itself and cannot drop, in KiB. */
static long kernel_memory(void)
{
	static const char * const parts[] = {
		"SUnreclaim:", "KernelStack:", "PageTables:", "SecPageTables:",
		"VmallocUsed:", "Percpu:",
	};
	char line[128], name[64];
	long sum = 0, value;
	FILE *file;
	size_t i;

	file = fopen("/proc/meminfo", "re");
	if (!file)
		vm_die("/proc/meminfo");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %ld", name, &value) != 2)
			continue;
		for (i = 0; i < ARRAY_SIZE(parts); i++)
			if (!strcmp(name, parts[i]))
				sum += value;
	}
	fclose(file);
	return sum;
}

/* The least that is seen in that time, or as soon as it is @enough. */
static long settled_memory(long enough)
{
	long least = kernel_memory(), now;
	int i;

	for (i = 0; i < 10 * SETTLE_SECONDS && least > enough; i++) {
		harness_sleep_ms(100);
		now = kernel_memory();
		if (now < least)
			least = now;
	}
	return least;
}

static struct vm *new_vm(void (*guest)(void), unsigned int number, __u64 a, __u64 b,
			 __u64 c)
{
	struct vm *vm = vm_create(1, 0, guest);
	struct guest_cpu *cpu = vm_cpu(vm, 0);

	cpu->dialect = GUEST_OURS;
	cpu->wait = GUEST_SPIN;
	cpu->arg[0] = a;
	cpu->arg[1] = b;
	cpu->arg[2] = c;
	cpu->arg[ARG_NUMBER] = number;
	return vm;
}

/* Taken down while a look is published. */
static void published_vm(unsigned int number)
{
	struct vm *vm = new_vm(guest_operation, number, OP_NONE, 1000, 2000);
	struct lazy_tscdeadline_record *record;

	harness_until(&vm->vcpus[0], GUEST_CALL_SYNC);
	record = vm_record(vm, 0);
	check(record->armed && record->armed < record->pending);
	vm_destroy(vm);
}

/* Taken down after it was hostile, and recovered. */
static void hostile_vm(void (*guest)(void), unsigned int number)
{
	struct vm *vm = new_vm(guest, number, HOSTILE_ROUNDS, 0, 0);

	harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
	vm_destroy(vm);
}

static void one_vm(unsigned int number)
{
	switch (number % NR_KINDS) {
	case 0:
		published_vm(number);
		break;
	case 1:
		hostile_vm(guest_toggle, number);
		break;
	case 2:
		hostile_vm(guest_random_msr, number);
		break;
	}
}

static void run_leak(const void *arg)
{
	long before, after, allowed;
	time_t start = time(NULL);
	unsigned int i;

	(void)arg;
	for (i = 0; i < WARM_UP; i++)
		one_vm(i);
	before = settled_memory(0);
	for (i = 0; i < nr_vms; i++)
		one_vm(i);
	allowed = (long)nr_vms / NR_KINDS * MAX_GROWTH / 1024 + MAX_NOISE;
	after = settled_memory(before + allowed / 2);
	harness_note("%u VMs in %ld s: kernel memory %ld KiB before, %ld KiB after",
		     nr_vms, (long)(time(NULL) - start), before, after);
	check(after <= before + allowed);
}

int main(int argc, char **argv)
{
	char name[80];

	if (argc > 1 && sscanf(argv[1], "--vms=%u", &nr_vms) != 1) {
		puts("usage: test_leak [--vms=N]");
		return EXIT_FAILURE;
	}
	harness_init(3600);
	snprintf(name, sizeof(name), "memory is as before after %u VMs", nr_vms);
	harness_run(name, run_leak, NULL);
	return harness_finish();
}
