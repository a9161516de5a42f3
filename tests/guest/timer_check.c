// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run timers on every CPU at pseudo-random deadlines and judge four things:
 *
 *  - no timer expires early (by CLOCK_MONOTONIC),
 *  - no timer is lost: one that is still outstanding although the sleeps of
 *    other CPUs have overtaken it many times over,
 *  - no cancelled timer expires,
 *  - a CPU that sleeps towards a far deadline and is woken up for an earlier one
 *    mostly gets it before the far one.
 *
 * Each CPU has one thread with one timer at a time, so that an idle CPU depends
 * on that timer alone; for the last question the others have none.  How late
 * timers are is reported, not judged: the machine may be emulated.  If the timers
 * of all CPUs are lost the program hangs, and whoever runs it must take silence
 * for failure.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/types.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC	1000000000LL
#define NSEC_PER_MSEC	1000000LL
#define NSEC_PER_USEC	1000LL
#define MAX_CPUS	64
#define MAX_LATENESS	4096

/*
 * A CPU sleeps that long before it is woken up, for a deadline that soon, long
 * before the far one: whoever does not tell the host gets it with the far one.
 */
#define ASLEEP		(20 * NSEC_PER_MSEC)
#define NEAR		(5 * NSEC_PER_MSEC)
#define FAR		(400 * NSEC_PER_MSEC)
#define NR_WAKEUPS	12

/* A timer that this many later ones have overtaken counts as lost. */
#define LOST_AFTER	1000
/* Only sleeps at least that long overtake: shorter ones may not sleep at all. */
#define OVERTAKE_MIN	(200 * NSEC_PER_USEC)

enum kind {
	OP_SLEEP,	/* clock_nanosleep() */
	OP_FD,		/* a timerfd, armed once */
	OP_EARLIER,	/* a timerfd, armed again with an earlier deadline */
	OP_LATER,	/* a timerfd, armed again with a later deadline */
	OP_PERIODIC,	/* a timerfd with an interval */
	OP_CANCEL,	/* a timerfd, disarmed */
	NR_OPS
};

static const char * const op_names[NR_OPS] = {
	"sleep", "timerfd", "re-armed earlier", "re-armed later", "periodic",
	"cancelled",
};

struct worker {
	pthread_t thread;
	int cpu;
	int fd;			/* blocks */
	int cancel_fd;		/* does not */
	int wake_fd;		/* to be woken up by */
	__u64 random;
	unsigned long done[NR_OPS];
	unsigned long nr_judged;
	unsigned long nr_early;
	unsigned long nr_spurious;
	unsigned long nr_near;		/* near deadlines, set with time to spare */
	unsigned long nr_far;		/* of these: came no sooner than the far one */
	long long worst_early;
	unsigned long nr_late;
	__s64 late[MAX_LATENESS];
	/* what the other workers see: the deadline waited for, 0 if none */
	atomic_llong deadline;
	atomic_uint overtaken;
	atomic_int op;
};

static struct worker workers[MAX_CPUS];
static int nr_workers;
static unsigned long rounds = 1000;
static atomic_bool stop;
static atomic_int nr_running;
static sem_t over;
static atomic_int lost_worker = -1;

/* The first timer that was lost, as it was when that was noticed. */
static struct {
	atomic_flag known;
	enum kind op;
	__s64 deadline;
	__s64 noticed;
} lost_timer = { .known = ATOMIC_FLAG_INIT };

static void fatal(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(2);
}

static __s64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static struct timespec to_timespec(__s64 ns)
{
	return (struct timespec){ ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };
}

/* xorshift64*: the same seed gives the same deadlines everywhere. */
static __u64 next_random(struct worker *w)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return w->random * 0x2545f4914f6cdd1dULL;
}

/* Mostly short, some in the past, some longer than a tick. */
static __s64 next_delay(struct worker *w)
{
	__u64 r = next_random(w);
	__s64 fine = (r >> 8) % 1000000;

	switch (r & 15) {
	case 0:
		return -fine;
	case 1 ... 4:
		return fine / 10;
	case 5 ... 12:
		return fine * 2;
	case 13 ... 14:
		return fine * 5;
	default:
		return fine * 20;
	}
}

static void pin(struct worker *w)
{
	cpu_set_t set;

	/* Fails while the CPU is offline; the timers go on elsewhere. */
	CPU_ZERO(&set);
	CPU_SET(w->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void lose(int i, __s64 deadline)
{
	if (atomic_flag_test_and_set(&lost_timer.known))
		return;
	lost_timer.op = atomic_load(&workers[i].op);
	lost_timer.deadline = deadline;
	lost_timer.noticed = now_ns();
	atomic_store(&lost_worker, i);
	sem_post(&over);
}

static void overtake(struct worker *w, __s64 deadline)
{
	int i;

	for (i = 0; i < nr_workers; i++) {
		struct worker *other = &workers[i];
		__s64 theirs = atomic_load(&other->deadline);

		if (other == w || !theirs || theirs >= deadline)
			continue;
		if (atomic_fetch_add(&other->overtaken, 1) == LOST_AFTER)
			lose(i, theirs);
	}
}

static void begin(struct worker *w, enum kind op, __s64 deadline)
{
	atomic_store(&w->op, op);
	atomic_store(&w->overtaken, 0);
	atomic_store(&w->deadline, deadline);
}

/* The timer of @deadline, armed at @start, has expired. */
static void judge(struct worker *w, __s64 start, __s64 deadline)
{
	__s64 late = now_ns() - deadline;

	atomic_store(&w->deadline, 0);
	w->nr_judged++;
	if (late < 0) {
		w->nr_early++;
		if (late < w->worst_early)
			w->worst_early = late;
	}
	/* armed in the past: how long arming took says nothing */
	if (deadline > start)
		w->late[w->nr_late++ % MAX_LATENESS] = late;
	if (deadline - start >= OVERTAKE_MIN)
		overtake(w, deadline);
}

static void arm(int fd, __s64 deadline, __s64 interval)
{
	struct itimerspec its = {
		.it_value = to_timespec(deadline),
		.it_interval = to_timespec(interval),
	};

	if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL))
		fatal("timerfd_settime");
}

static void disarm(int fd)
{
	arm(fd, 0, 0);
}

/* Wait for the timerfd; return how often it expired. */
static __u64 wait_fd(struct worker *w)
{
	__u64 count;

	if (read(w->fd, &count, sizeof(count)) != sizeof(count))
		fatal("read of a timerfd");
	return count;
}

static void sleep_until(__s64 deadline)
{
	struct timespec ts = to_timespec(deadline);
	int err;

	do {
		err = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	} while (err == EINTR);
	if (err) {
		errno = err;
		fatal("clock_nanosleep");
	}
}

static void do_sleep(struct worker *w, enum kind op, __s64 start, __s64 deadline)
{
	begin(w, op, deadline);
	sleep_until(deadline);
	judge(w, start, deadline);
}

static void do_fd(struct worker *w, enum kind op, __s64 start, __s64 deadline)
{
	begin(w, op, deadline);
	if (op == OP_EARLIER)
		arm(w->fd, deadline + (__s64)(next_random(w) % 30000000), 0);
	if (op == OP_LATER && deadline - 1 > start)
		arm(w->fd, start + 1 + (__s64)(next_random(w) % (deadline - start)), 0);
	arm(w->fd, deadline, 0);
	wait_fd(w);
	judge(w, start, deadline);
}

static void do_periodic(struct worker *w, __s64 start, __s64 deadline)
{
	__s64 interval = 50000 + next_random(w) % 1000000;
	int i;

	arm(w->fd, deadline, interval);
	for (i = 0; i < 4; i++) {
		begin(w, OP_PERIODIC, deadline);
		deadline += (wait_fd(w) - 1) * interval;
		judge(w, start, deadline);
		start = deadline;
		deadline += interval;
	}
	disarm(w->fd);
}

/* Cancel a timer and sleep past its deadline: it must be silent. */
static void do_cancel(struct worker *w, __s64 start, __s64 deadline)
{
	__u64 count;

	arm(w->cancel_fd, deadline, 0);
	disarm(w->cancel_fd);
	do_sleep(w, OP_CANCEL, start, deadline + 20 * NSEC_PER_USEC);
	if (read(w->cancel_fd, &count, sizeof(count)) >= 0)
		w->nr_spurious++;
	else if (errno != EAGAIN)
		fatal("read of a cancelled timerfd");
}

static void run_op(struct worker *w)
{
	enum kind op = (next_random(w) >> 32) % NR_OPS;
	__s64 delay = next_delay(w);
	__s64 start = now_ns();

	switch (op) {
	case OP_SLEEP:
		do_sleep(w, op, start, start + delay);
		break;
	case OP_PERIODIC:
		do_periodic(w, start, start + delay);
		break;
	case OP_CANCEL:
		do_cancel(w, start, start + delay);
		break;
	default:
		do_fd(w, op, start, start + delay);
	}
	w->done[op]++;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned long round;

	prctl(PR_SET_TIMERSLACK, 1);
	for (round = 0; !atomic_load(&stop) && (!rounds || round < rounds); round++) {
		if (round % 16 == 0)
			pin(w);
		run_op(w);
	}
	/* Done, but the others may yet lose a timer: go on overtaking them. */
	atomic_fetch_sub(&nr_running, 1);
	while (atomic_load(&nr_running))
		run_op(w);
	sem_post(&over);
	return NULL;
}

static void on_sigterm(int signal)
{
	(void)signal;
	atomic_store(&stop, true);
}

static void worker_init(struct worker *w, int cpu, __u64 seed)
{
	w->cpu = cpu;
	w->random = (seed + 1) * 0x9e3779b97f4a7c15ULL ^ (__u64)(cpu + 1) << 32;
	if (!w->random)
		w->random = 1;
	w->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	w->cancel_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	w->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (w->fd < 0 || w->cancel_fd < 0 || w->wake_fd < 0)
		fatal("timerfd_create or eventfd");
}

static void workers_start(__u64 seed)
{
	cpu_set_t set;
	int cpu, i;

	if (sched_getaffinity(0, sizeof(set), &set))
		fatal("sched_getaffinity");
	for (cpu = 0; cpu < CPU_SETSIZE && nr_workers < MAX_CPUS; cpu++) {
		if (CPU_ISSET(cpu, &set))
			worker_init(&workers[nr_workers++], cpu, seed);
	}
	atomic_store(&nr_running, nr_workers);
	for (i = 0; i < nr_workers; i++) {
		errno = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
		if (errno)
			fatal("pthread_create");
	}
}

/* Wait until all workers are done or a timer is lost. */
static void workers_wait(void)
{
	int done = 0;

	while (done < nr_workers && atomic_load(&lost_worker) < 0) {
		if (!sem_wait(&over))
			done++;
	}
}

/* Have nothing but a far deadline, and after a wakeup a near one. */
static void *sleeper(void *arg)
{
	struct worker *w = arg;
	__s64 near, far;
	__u64 count;
	bool ahead;
	int i;

	prctl(PR_SET_TIMERSLACK, 1);
	pin(w);
	for (i = 0; i < NR_WAKEUPS; i++) {
		far = now_ns() + FAR;
		arm(w->fd, far, 0);
		sem_post(&over);
		if (read(w->wake_fd, &count, sizeof(count)) != sizeof(count))
			fatal("read of an eventfd");
		near = now_ns() + NEAR;
		arm(w->fd, near, 0);
		/* late itself: says nothing */
		ahead = near > now_ns() && near + NEAR < far;
		wait_fd(w);
		w->nr_near += ahead;
		w->nr_far += ahead && now_ns() >= far;
		w->nr_early += now_ns() < near;
	}
	return NULL;
}

static void spin_until(__s64 time)
{
	while (now_ns() < time)
		;
}

/* Wake up the sleeper of @w from another CPU, which needs no timer for that. */
static void wake_sleeper(struct worker *w, struct worker *other)
{
	__u64 one = 1;
	int i;

	pin(other);
	errno = pthread_create(&w->thread, NULL, sleeper, w);
	if (errno)
		fatal("pthread_create");
	for (i = 0; i < NR_WAKEUPS; i++) {
		while (sem_wait(&over))
			;
		spin_until(now_ns() + ASLEEP);
		if (write(w->wake_fd, &one, sizeof(one)) != sizeof(one))
			fatal("write to an eventfd");
	}
	pthread_join(w->thread, NULL);
}

/* All timers are good so far: one CPU after the other sleeps. */
static void sleepers_run(void)
{
	int i;

	if (nr_workers < 2 || !rounds || atomic_load(&lost_worker) >= 0)
		return;
	for (i = 0; i < nr_workers; i++)
		pthread_join(workers[i].thread, NULL);
	for (i = 0; i < nr_workers; i++)
		wake_sleeper(&workers[i], &workers[(i + 1) % nr_workers]);
}

static int compare(const void *a, const void *b)
{
	__s64 x = *(const __s64 *)a, y = *(const __s64 *)b;

	return (x > y) - (x < y);
}

static void report(struct worker *w)
{
	unsigned long n = w->nr_late < MAX_LATENESS ? w->nr_late : MAX_LATENESS;
	int op;

	printf("# CPU %d:", w->cpu);
	for (op = 0; op < NR_OPS; op++)
		printf("%s %lu %s", op ? "," : "", w->done[op], op_names[op]);
	printf("\n");
	if (!n)
		return;
	qsort(w->late, n, sizeof(w->late[0]), compare);
	printf("# CPU %d: late by median %lld, 99%% %lld, max %lld us (last %lu timers)\n", w->cpu,
	       w->late[n / 2] / NSEC_PER_USEC, w->late[n * 99 / 100] / NSEC_PER_USEC,
	       w->late[n - 1] / NSEC_PER_USEC, n);
}

static bool ok(bool good, int cpu, const char *what)
{
	static int number;

	printf("%s %d - CPU %d: %s\n", good ? "ok" : "not ok", ++number, cpu, what);
	return good;
}

static bool verdict(int i)
{
	struct worker *w = &workers[i];
	bool lost = atomic_load(&lost_worker) == i;
	bool good = true;

	good &= ok(!w->nr_early, w->cpu, "no timer expires early");
	if (w->nr_early)
		printf("# %lu timers were early, by up to %lld ns\n", w->nr_early,
		       -w->worst_early);
	good &= ok(!w->nr_spurious, w->cpu, "no cancelled timer expires");
	if (nr_workers == 1) {
		printf("# no other CPU that could notice a lost timer\n");
		return good;
	}
	good &= ok(!lost, w->cpu, "no timer is lost");
	if (lost)
		printf("# a timer (%s) for %lld ns had been overtaken %d times at %lld ns\n",
		       op_names[lost_timer.op], lost_timer.deadline, LOST_AFTER,
		       lost_timer.noticed);
	/* Without an end that is known before, nobody is put to sleep. */
	if (!rounds)
		return good;
	/* Where most were set too late to tell, all is slow: that is reported. */
	good &= ok(2 * w->nr_near < NR_WAKEUPS || 4 * w->nr_far <= w->nr_near, w->cpu,
		   "woken from a long sleep it gets most of the earlier deadlines first");
	printf("# CPU %d: %lu of %lu came no sooner than the far one\n", w->cpu, w->nr_far,
	       w->nr_near);
	return good;
}

static void report_totals(void)
{
	unsigned long judged = 0, early = 0, spurious = 0;
	int i;

	for (i = 0; i < nr_workers; i++) {
		judged += workers[i].nr_judged;
		early += workers[i].nr_early;
		spurious += workers[i].nr_spurious;
	}
	printf("# timers: %lu checked, %d lost, %lu early, %lu after they were cancelled\n",
	       judged, atomic_load(&lost_worker) >= 0, early, spurious);
}

static void usage(void)
{
	puts("timer_check - run timers on all CPUs and judge them\n"
	     "\n"
	     "Usage: timer_check [-n ROUNDS] [-s SEED]\n"
	     "\n"
	     "  -n ROUNDS  timers per CPU (default 1000); 0: until SIGTERM\n"
	     "  -s SEED    of the pseudo-random deadlines (default: the time)\n"
	     "\n"
	     "Prints TAP.  Exit status: 0 good, 1 a timer failed, 2 cannot run.");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_sigterm };
	__u64 seed = now_ns();
	bool good = true;
	int c, i;

	while ((c = getopt(argc, argv, "n:s:h")) != -1) {
		switch (c) {
		case 'n':
			rounds = strtoul(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'h':
			usage();
			return 0;
		default:
			usage();
			return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGTERM, &action, NULL);
	/* from now on it may be told to stop */
	printf("# timer_check -n %lu -s %llu\n", rounds, seed);
	sem_init(&over, 0, 0);
	workers_start(seed);
	workers_wait();
	sleepers_run();

	printf("1..%d\n", nr_workers * (nr_workers > 1 ? 4 : 2));
	for (i = 0; i < nr_workers; i++)
		report(&workers[i]);
	for (i = 0; i < nr_workers; i++)
		good &= verdict(i);
	report_totals();
	/* not exit(): a worker may be stuck in a timer that never comes */
	fflush(stdout);
	_exit(good ? 0 : 1);
}
