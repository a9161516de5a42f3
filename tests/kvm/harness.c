// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

/* A guest may make its host say so much in one test, and no more. */
#define MAX_KVM_LINES	10

static int tests, failures, watchdog = 60, kmsg = -1;

/* What the program was given, before anything is pinned. */
static cpu_set_t allowed;

unsigned int harness_slow(void)
{
	const char *slow = getenv("LAB_SLOW");

	return slow && atoi(slow) > 1 ? atoi(slow) : 1;
}

void harness_prolong(unsigned int seconds)
{
	alarm(watchdog + seconds);
}

void harness_init(int watchdog_seconds)
{
	if (watchdog_seconds)
		watchdog = watchdog_seconds;
	watchdog *= harness_slow();
	setvbuf(stdout, NULL, _IOLBF, 0);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg < 0)
		vm_die("cannot open /dev/kmsg");
	lseek(kmsg, 0, SEEK_END);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		vm_die("cannot tell which CPUs there are");
	/*
	 * Two VMs that are never run: KVM changes the kernel's text (static keys)
	 * with the first and the last VM, and with each vCPU that has no APIC or
	 * has it switched off.  Emulated CPUs may execute what was there before.
	 */
	vm_create(1, 0, NULL);
	vm_create(1, VM_NO_APIC, NULL);
	memset(vms, 0, sizeof(vms));
}

/*
 * Is the line part of a data race's report?  These go from one double line to
 * another.  Who boots such a kernel judges whose race it is.
 */
static bool is_race(const char *line)
{
	static bool within, race;
	bool rule = strstr(line, "=============================");

	within ^= rule;
	race = within ? (race && !rule) || strstr(line, "BUG: KCSAN:") : race && rule;
	return race;
}

/* Everything the kernel has said since the last call; true if it is harmless. */
static bool kernel_is_quiet(void)
{
	static const char * const bad[] = {
		"WARNING:", "BUG:", "Oops", "Call Trace", "RIP: ", "lockup",
		"rcu: INFO", "scheduling while atomic", "hung",
	};
	unsigned int i, kvm_lines = 0;
	bool quiet = true;
	char line[8192];
	ssize_t n;

	for (;;) {
		n = read(kmsg, line, sizeof(line) - 1);
		if (n < 0 && errno == EPIPE) {
			printf("# kernel: messages were lost\n");
			quiet = false;
			continue;
		}
		if (n <= 0)
			break;
		line[n] = 0;
		line[strcspn(line, "\n")] = 0;
		if (is_race(line))
			continue;
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			if (!strstr(line, bad[i]))
				continue;
			printf("# kernel: %s\n", line);
			quiet = false;
		}
		if (strstr(line, "kvm") || strstr(line, "lazy"))
			kvm_lines++;
	}
	if (kvm_lines > MAX_KVM_LINES) {
		printf("# kernel: %u messages about KVM\n", kvm_lines);
		quiet = false;
	}
	return quiet;
}

static void verdict(bool good, const char *name)
{
	if (!good)
		failures++;
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, name);
}

/* The host's own view, where it has one. */
static void dump_host_state(struct vcpu *vcpu)
{
	char name[128], line[256];
	FILE *file;

	snprintf(name, sizeof(name),
		 "/sys/kernel/debug/kvm/%d-%d/vcpu%d/lazy_tscdeadline",
		 getpid(), vcpu->vm->fd, vcpu->id);
	file = fopen(name, "re");
	if (!file)
		return;
	printf("# vCPU %d, host:", vcpu->id);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		printf(" %s;", line);
	}
	printf("\n");
	fclose(file);
}

static void dump_vcpu(struct vcpu *vcpu)
{
	struct guest_cpu *c = vm_cpu(vcpu->vm, vcpu->id);
	struct lazy_tscdeadline_record *r = vm_record(vcpu->vm, vcpu->id);

	printf("# vCPU %d: armed %#llx pending %#llx wanted %#llx", c->id,
	       r->armed, r->pending, c->wanted);
	printf(" last %#llx bad %#llx bad wanted %#llx", c->last, c->bad, c->bad_wanted);
	printf(" fired %llu good %llu early %llu stray %llu graced %llu ghosts %llu",
	       c->fired, c->good, c->early, c->stray, c->graced, c->ghosts);
	printf(" programmed %llu traps %llu skips %llu replaced %llu\n",
	       c->programmed, c->traps, c->skips, c->replaced);
	dump_host_state(vcpu);
}

static void dump_vms(void)
{
	int i, j;

	for (i = 0; i < VM_MAX; i++)
		for (j = 0; vms[i] && j < vms[i]->nr_vcpus; j++)
			dump_vcpu(&vms[i]->vcpus[j]);
}

/* The process is about to end, so what is unsafe in a handler may be tried. */
static void on_alarm(int number)
{
	(void)number;
	signal(SIGALRM, SIG_DFL);
	alarm(5);
	printf("# no progress in %d seconds\n", watchdog);
	dump_vms();
	fflush(stdout);
	_exit(EXIT_FAILURE);
}

void harness_fail(const char *file, int line, const char *what, ...)
{
	const char *base = strrchr(file, '/');
	va_list args;

	flockfile(stdout);
	printf("# %s:%d: ", base ? base + 1 : file, line);
	va_start(args, what);
	vprintf(what, args);
	va_end(args);
	printf("\n");
	dump_vms();
	fflush(stdout);
	_exit(EXIT_FAILURE);
}

void harness_guest_failed(struct vcpu *vcpu)
{
	struct guest_cpu *c = vm_cpu(vcpu->vm, vcpu->id);

	harness_fail("guest", c->fail_line, "%s (%#llx, %#llx)", c->fail_what,
		     c->fail_value[0], c->fail_value[1]);
}

void harness_run(const char *name, harness_fn fn, const void *arg)
{
	int status = -1;
	bool good;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		vm_die("fork");
	if (!pid) {
		signal(SIGALRM, on_alarm);
		alarm(watchdog);
		fn(arg);
		fflush(stdout);
		_exit(EXIT_SUCCESS);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		printf("# killed by signal %d\n", WTERMSIG(status));
	good = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
	verdict(kernel_is_quiet() && good, name);
}

void harness_skip(const char *name, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tests, name, why);
}

int harness_finish(void)
{
	printf("1..%d\n", tests);
	return failures || !tests ? EXIT_FAILURE : EXIT_SUCCESS;
}

void harness_note(const char *what, ...)
{
	va_list args;

	flockfile(stdout);
	printf("# ");
	va_start(args, what);
	vprintf(what, args);
	va_end(args);
	printf("\n");
	funlockfile(stdout);
}

void harness_note_vm(struct vm *vm)
{
	int i;

	for (i = 0; i < vm->nr_vcpus; i++) {
		struct guest_cpu *c = vm_cpu(vm, i);

		harness_note("vCPU %d: wants %llu traps %llu skips %llu fired %llu late %llu us",
			     i, c->programmed, c->traps, c->skips, c->fired,
			     c->late * 1000 / c->khz);
		if (c->ghosts)
			harness_note("vCPU %d: %llu interrupts did not come from its APIC",
				     i, c->ghosts);
	}
}

void harness_until(struct vcpu *vcpu, int call)
{
	int got = vcpu_run(vcpu);

	if (got == GUEST_CALL_FAIL)
		harness_guest_failed(vcpu);
	if (got != call)
		harness_fail("guest", 0, "call %d instead of %d", got, call);
}

struct harness_job {
	struct vcpu *vcpu;
	int host_cpu;
	pthread_t thread;
	bool stop, stopped;
};

static void on_signal(int number)
{
	(void)number;
}

unsigned int harness_nr_cpus(void)
{
	return CPU_COUNT(&allowed);
}

void harness_cpu(unsigned int n, cpu_set_t *set)
{
	int cpu;

	n %= CPU_COUNT(&allowed);
	CPU_ZERO(set);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && !n--)
			CPU_SET(cpu, set);
	}
}

void harness_pin(int host_cpu)
{
	cpu_set_t set;

	harness_cpu(host_cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		vm_die("cannot pin to CPU %d", host_cpu);
}

static bool file_says(const char *name, const char *words)
{
	char line[80] = "";
	FILE *file = fopen(name, "re");

	if (file) {
		if (!fgets(line, sizeof(line), file))
			line[0] = 0;
		fclose(file);
	}
	return strstr(line, words);
}

/*
 * A timer goes to the other CPU only if that has an earlier one: with none of
 * its own it would not notice.
 */
static void tick(int cpu)
{
	struct timespec t = { .tv_nsec = 200 * 1000 };
	pid_t parent = getpid();
	cpu_set_t set;

	if (fork())
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(EXIT_FAILURE);
	prctl(PR_SET_TIMERSLACK, 1);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		_exit(EXIT_FAILURE);
	for (;;)
		nanosleep(&t, NULL);
}

/* All CPUs but the first have no timers; programs are not given the first. */
#define POSTED_TIMER_CPU	0

void harness_posted(void)
{
	if (!file_says("/sys/module/kvm/parameters/pi_inject_timer", "1") &&
	    !file_says("/sys/module/kvm/parameters/pi_inject_timer", "Y"))
		vm_die("KVM does not post timer interrupts (nohz_full)");
	if (!file_says("/sys/module/kvm/version", "test double") &&
	    !file_says("/sys/module/kvm_intel/parameters/enable_apicv", "Y") &&
	    !file_says("/sys/module/kvm_amd/parameters/avic", "Y"))
		vm_die("neither posted interrupts nor a double of them");
	vm_flags |= VM_HLT_IN_GUEST;
	tick(POSTED_TIMER_CPU);
	harness_pin(0);
}

/* The n-th number of a row, behind its name; 0 if it has fewer. */
static __u64 row_count(const char *row, int n)
{
	char *end = strchr(row, ':');
	__u64 value = 0;

	do {
		const char *at = end + 1;

		value = strtoull(at, &end, 10);
		if (end == at)
			return 0;
	} while (n--);
	return value;
}

static bool row_kicks(const char *row)
{
	/* A kick, and those that tell of a posted interrupt */
	static const char * const names[] = { "RES:", "PIN:", "NPI:", "PIW:" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (strstr(row, names[i]))
			return true;
	}
	return false;
}

/* Which of a row's numbers is of this CPU; there are only those that are online. */
static int row_place(const char *head)
{
	int n = 0, cpu = sched_getcpu();
	const char *name;

	for (name = strstr(head, "CPU"); name; name = strstr(name + 3, "CPU"), n++) {
		if (atoi(name + 3) == cpu)
			return n;
	}
	vm_die("no CPU %d in /proc/interrupts", cpu);
}

static __u64 sum_interrupts(bool kicks)
{
	FILE *file = fopen("/proc/interrupts", "re");
	char row[4096];
	__u64 sum = 0;
	int place;

	if (!file || !fgets(row, sizeof(row), file))
		vm_die("cannot read /proc/interrupts");
	place = row_place(row);
	while (fgets(row, sizeof(row), file)) {
		if (strchr(row, ':') && row_kicks(row) == kicks)
			sum += row_count(row, place);
	}
	fclose(file);
	return sum;
}

__u64 harness_kicks(void)
{
	return sum_interrupts(true);
}

__u64 harness_interrupts(void)
{
	return sum_interrupts(false);
}

static void *job_run(void *arg)
{
	struct harness_job *job = arg;
	int got;

	if (job->host_cpu >= 0)
		harness_pin(job->host_cpu);
	do {
		got = vcpu_run(job->vcpu);
	} while (got == GUEST_CALL_SYNC || (got == -EINTR && !READ_ONCE(job->stop)));
	if (got == GUEST_CALL_FAIL)
		harness_guest_failed(job->vcpu);
	if (got == -ENOSPC)
		vm_die("a dirty ring that nobody empties is full");
	WRITE_ONCE(job->stopped, true);
	return NULL;
}

struct harness_job *harness_start(struct vcpu *vcpu, int host_cpu)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct harness_job *job = calloc(1, sizeof(*job));

	sigaction(SIGUSR1, &action, NULL);
	if (!job)
		vm_die("no memory");
	job->vcpu = vcpu;
	job->host_cpu = host_cpu;
	if (pthread_create(&job->thread, NULL, job_run, job))
		vm_die("cannot create a thread");
	return job;
}

void harness_join(struct harness_job *job)
{
	pthread_join(job->thread, NULL);
	free(job);
}

void harness_disturb(struct harness_job *job, unsigned int ms)
{
	while (!READ_ONCE(job->stopped)) {
		pthread_kill(job->thread, SIGUSR1);
		harness_sleep_ms(ms);
	}
}

void harness_place(struct harness_job *job, unsigned int n)
{
	cpu_set_t set;
	int error;

	harness_cpu(n, &set);
	error = pthread_setaffinity_np(job->thread, sizeof(set), &set);
	/* It may just have ended. */
	if (error && error != ESRCH)
		vm_die("cannot move the vCPU's thread");
}

unsigned int harness_roam(struct harness_job *job, unsigned int ms)
{
	unsigned int moves;

	for (moves = 0; !READ_ONCE(job->stopped); moves++) {
		harness_place(job, moves);
		harness_sleep_ms(ms);
	}
	return moves;
}

void harness_stop(struct harness_job *job)
{
	WRITE_ONCE(job->stop, true);
	while (!READ_ONCE(job->stopped)) {
		pthread_kill(job->thread, SIGUSR1);
		harness_sleep_ms(1);
	}
	harness_join(job);
}

void harness_all_done(struct vm *vm)
{
	struct harness_job *jobs[GUEST_MAX_CPUS];
	int i;

	if (vm->nr_vcpus == 1) {
		harness_until(&vm->vcpus[0], GUEST_CALL_DONE);
		return;
	}
	for (i = 0; i < vm->nr_vcpus; i++)
		jobs[i] = harness_start(&vm->vcpus[i], -1);
	for (i = 0; i < vm->nr_vcpus; i++)
		harness_join(jobs[i]);
}

void harness_sleep_ms(unsigned int ms)
{
	struct timespec t = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000L,
	};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* CLOCK_MONOTONIC, in microseconds. */
__u64 harness_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

void harness_name(char *name, size_t size, const char *what, int dialect, int wait)
{
	static const char * const dialects[GUEST_NR_DIALECTS] = {
		[GUEST_PLAIN] = "plain", [GUEST_RFC] = "RFC", [GUEST_OURS] = "ours",
	};
	static const char * const waits[GUEST_NR_WAITS] = {
		[GUEST_HALT] = "halted", [GUEST_SPIN] = "busy",
	};

	snprintf(name, size, "%s (%s, %s)", what, dialects[dialect], waits[wait]);
}
