// SPDX-License-Identifier: GPL-2.0-only
#include "fuzz_guest.h"

static __u64 fuzz_random(struct guest_cpu *c, __u64 below)
{
	__u64 x = c->arg[FUZZ_ARG_SEED];

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	c->arg[FUZZ_ARG_SEED] = x;
	return (x >> 11) % below;
}

static __u64 fuzz_us(struct guest_cpu *c, __u64 below)
{
	return guest_us(fuzz_random(c, below));
}

/* How often each is drawn. */
static int fuzz_draw(struct guest_cpu *c)
{
	static const unsigned char weights[FUZZ_NR_OPS] = {
		[FUZZ_SOON] = 10, [FUZZ_FAR] = 15, [FUZZ_PAST] = 4,
		[FUZZ_LATER] = 25, [FUZZ_EARLIER] = 10, [FUZZ_AGAIN] = 3,
		[FUZZ_CANCEL] = 8, [FUZZ_WAIT] = 12, [FUZZ_IDLE] = 10,
		[FUZZ_PLAIN] = 4, [FUZZ_TOGGLE] = 4, [FUZZ_MOVE] = 2,
		[FUZZ_MASK] = 2, [FUZZ_MODE] = 2, [FUZZ_READ] = 4,
		[FUZZ_CALL_HOST] = 4,
	};
	unsigned int sum = 0, i, x;

	for (i = 0; i < FUZZ_NR_OPS; i++)
		sum += weights[i];
	x = fuzz_random(c, sum);
	for (i = 0; x >= weights[i]; i++)
		x -= weights[i];
	return i;
}

/*
 * Another record each time: nothing may stick to the old one, and to zero one
 * that is in use would be a cancel.
 */
static void fuzz_enable(struct guest_cpu *c)
{
	struct lazy_tscdeadline_record *old = c->record;

	while (c->record == old)
		c->record = (void *)(GUEST_RECORD_GPA + LAZY_TSCDEADLINE_ALIGN *
				     (c->id + GUEST_MAX_CPUS *
				      fuzz_random(c, 8)));
	guest_enable();
}

static void fuzz_toggle(struct guest_cpu *c)
{
	if (c->dialect == GUEST_PLAIN)
		return;
	if (guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE)) {
		guest_disable();
		guest_check_eq(READ_ONCE(c->record->armed), 0);
	} else {
		fuzz_enable(c);
	}
}

/* An expiry while it is masked is lost, as on hardware. */
static void fuzz_mask(struct guest_cpu *c)
{
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE |
			 GUEST_LVTT_MASKED);
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
	if (c->wanted && guest_rdtsc() >= c->wanted) {
		guest_wrmsr(GUEST_MSR_TSC_DEADLINE, 0);
		guest_drop();
	}
}

static void fuzz_mode(struct guest_cpu *c)
{
	guest_apic_write(GUEST_APIC_LVTT, fuzz_random(c, 2) ?
			 GUEST_LVTT_ONESHOT : GUEST_LVTT_PERIODIC);
	guest_drop();
	if (fuzz_random(c, 2))
		guest_wait_until(guest_rdtsc() + fuzz_us(c, 2000));
	guest_apic_write(GUEST_APIC_LVTT, GUEST_LVTT_DEADLINE);
	guest_mb();
}

static void fuzz_read(struct guest_cpu *c)
{
	__u64 value = guest_rdmsr(GUEST_MSR_TSC_DEADLINE);

	if (c->wanted > guest_rdtsc())
		guest_check_eq(value, c->wanted);
}

static void fuzz_one(struct guest_cpu *c, int op)
{
	__u64 now = guest_rdtsc();
	__u64 base = c->wanted ? c->wanted : now;

	switch (op) {
	case FUZZ_SOON:
		guest_program(now + fuzz_us(c, 300));
		break;
	case FUZZ_FAR:
		guest_program(now + fuzz_us(c, 20000));
		break;
	case FUZZ_PAST:
		guest_program(guest_before(now, 1 + fuzz_us(c, 100)));
		break;
	case FUZZ_LATER:
		guest_program(base + fuzz_us(c, 5000));
		break;
	case FUZZ_EARLIER:
		guest_program(guest_before(base, fuzz_us(c, 2000)));
		break;
	case FUZZ_AGAIN:
		guest_program(base);
		break;
	case FUZZ_CANCEL:
		guest_cancel();
		break;
	case FUZZ_WAIT:
		c->wait = fuzz_random(c, GUEST_NR_WAITS);
		guest_wait_fired();
		break;
	case FUZZ_IDLE:
		guest_wait_until(now + fuzz_us(c, 3000));
		break;
	case FUZZ_PLAIN:
		guest_write_plain(now + fuzz_us(c, 5000));
		break;
	case FUZZ_TOGGLE:
		fuzz_toggle(c);
		break;
	case FUZZ_MOVE:
		if (c->dialect != GUEST_PLAIN &&
		    guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE))
			fuzz_enable(c);
		break;
	case FUZZ_MASK:
		fuzz_mask(c);
		break;
	case FUZZ_MODE:
		fuzz_mode(c);
		break;
	case FUZZ_READ:
		fuzz_read(c);
		break;
	case FUZZ_CALL_HOST:
		c->result[FUZZ_HOST] = fuzz_random(c, FUZZ_NR_HOST);
		guest_call(GUEST_CALL_SYNC);
		break;
	}
}

void guest_fuzz(void)
{
	struct guest_cpu *c = guest_self();

	guest_apic_init();
	guest_enable();
	while (c->result[FUZZ_DONE] < c->arg[FUZZ_ARG_OPS]) {
		int op = fuzz_draw(c);

		c->result[FUZZ_LAST] = op;
		c->result[FUZZ_TRAIL] = c->result[FUZZ_TRAIL] << 8 | op;
		fuzz_one(c, op);
		if (fuzz_random(c, 2))
			guest_window();
		guest_judge();
		c->result[FUZZ_DONE]++;
		/* The VMM may have turned it off: a driver notices in time. */
		if (c->dialect != GUEST_PLAIN && !fuzz_random(c, 8) &&
		    !guest_rdmsr(MSR_KVM_LAZY_TSCDEADLINE))
			fuzz_enable(c);
	}
	c->wait = GUEST_HALT;
	guest_wait_fired();
	guest_wait_until(guest_rdtsc() + guest_ms(25));
	guest_judge();
	for (;;)
		guest_call(GUEST_CALL_DONE);
}
