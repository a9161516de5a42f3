/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs each test in a process of its own, under a watchdog, and reads the
 * kernel's messages before and after.  The verdict is the exit status.
 */
#ifndef _LAZY_TEST_HARNESS_H
#define _LAZY_TEST_HARNESS_H

#include <sched.h>
#include <stdbool.h>

#include "vm.h"

typedef void (*harness_fn)(const void *arg);

void harness_init(int watchdog_seconds);
/* One line of TAP; diagnostics come before it. */
void harness_run(const char *name, harness_fn fn, const void *arg);
void harness_skip(const char *name, const char *why);
/* Prints the plan; the exit status of the program. */
int harness_finish(void);

/* Inside a test: */
void harness_fail(const char *file, int line, const char *what, ...)
	__noreturn __printf(3, 4);
void harness_note(const char *what, ...) __printf(1, 2);
/* How each vCPU has fared. */
void harness_note_vm(struct vm *vm);

#define check(cond)							\
	do {								\
		if (!(cond))						\
			harness_fail(__FILE__, __LINE__, "%s", #cond);	\
	} while (0)
#define check_eq(a, b)							\
	do {								\
		__u64 _a = (a), _b = (b);				\
									\
		if (_a != _b)						\
			harness_fail(__FILE__, __LINE__,		\
				     "%s == %s (%#llx, %#llx)", #a, #b,	\
				     _a, _b);				\
	} while (0)

/* Of this test, the watchdog is to be so much more patient. */
void harness_prolong(unsigned int seconds);
/* What a guest's failed check and its counters say; ends the test. */
void harness_guest_failed(struct vcpu *vcpu) __noreturn;
/* Run until this call of the guest, whose failures end the test. */
void harness_until(struct vcpu *vcpu, int call);
/* Run all vCPUs, each in its own thread, until they are done. */
void harness_all_done(struct vm *vm);
/*
 * The same in the background, on one CPU of the host (-1: any), counted among
 * those that the program was given.
 */
struct harness_job;
struct harness_job *harness_start(struct vcpu *vcpu, int host_cpu);
void harness_join(struct harness_job *job);
/* Signal its thread once in so many milliseconds, until it ends by itself. */
void harness_disturb(struct harness_job *job, unsigned int ms);
/* Move its thread to the n-th CPU. */
void harness_place(struct harness_job *job, unsigned int n);
/* Move its thread from CPU to CPU, every so many ms, until it ends: how often. */
unsigned int harness_roam(struct harness_job *job, unsigned int ms);
/* Make the vCPU's thread leave the guest for good and end. */
void harness_stop(struct harness_job *job);
void harness_pin(int host_cpu);
unsigned int harness_nr_cpus(void);
/* The n-th of these CPUs, beginning again after the last. */
void harness_cpu(unsigned int n, cpu_set_t *set);
/*
 * Before the first test: all VMs halt in the guest, run on the CPU that has no
 * timers (nohz_full), and KVM posts their timer interrupts from another one.
 */
void harness_posted(void);
/*
 * What this task's CPU has taken, where it stays on one: the interrupts that make
 * a vCPU leave its guest for KVM's own reasons, and all others (tick, devices).
 */
__u64 harness_kicks(void);
__u64 harness_interrupts(void);
/* How many times slower than usual things are here, by the variable LAB_SLOW. */
unsigned int harness_slow(void);
void harness_sleep_ms(unsigned int ms);
__u64 harness_now_us(void);
/* What a test is called that a guest of this dialect does, waiting like that. */
void harness_name(char *name, size_t size, const char *what, int dialect, int wait);

#endif /* _LAZY_TEST_HARNESS_H */
