# SPDX-License-Identifier: GPL-2.0-only
#
# merge.awk VCPUS STATE GUEST HOST: one trace of what record has recorded; variables
# workload, mode, khz, lines.  All times become ticks of the guest's TSC (below
# 2^53, so that awk's numbers are exact).
#
#	VCPUS	"vcpu NUMBER OFFSET ADVANCE-NS"
#	STATE	"CPU NAME VALUE...", what the host knew of the vCPU at "now"; what
#		was before that is over; mode off has none
#	GUEST	"CPU NOW DEADLINE ARMED TRAPPED", from the driver's tracepoint
#	HOST	KVM's tracepoints, stamped by the host's TSC

function hex(digits,	i, n)
{
	for (i = 3; i <= length(digits); i++)
		n = n * 16 + index("0123456789abcdef", substr(digits, i, 1)) - 1
	return n
}

function want(cpu, now, deadline)
{
	at[cpu, ++wants[cpu]] = now
	what[cpu, wants[cpu]] = deadline
	late[cpu, wants[cpu]] = ""
	if (now > last_all)
		last_all = now
	if (!first || now < first)
		first = now
}

# Is that before the vCPU's state was read?
function is_over(cpu, now)
{
	return (cpu, 0) in at && now < at[cpu, 0]
}

# A timer of the host fired at @now; it was to do so at @due.
function fired(cpu, now, due)
{
	fires[cpu, ++looks[cpu]] = now
	lateness[cpu, looks[cpu]] = due ? now - due : ""
}

FILENAME == ARGV[1] {
	offset[$2] = $3
	advance[$2] = int($4 * khz / 1000000)
	vcpus++
	next
}

FILENAME == ARGV[2] {
	cpu = $1 + 0
	if ($2 == "now") {
		at[cpu, 0] = $3 + 0
		if (!first || at[cpu, 0] < first)
			first = at[cpu, 0]
	} else {
		sub(/^[0-9]+ /, "")
		state[cpu, ++states[cpu]] = $0
	}
	next
}

# The last that it wanted before is what it waits for then.
FILENAME == ARGV[3] && is_over($1 + 0, $2 + 0) {
	what[$1 + 0, 0] = $3 + 0
	next
}

FILENAME == ARGV[3] {
	want($1 + 0, $2 + 0, $3 + 0)
	seen[$1 + 0, wants[$1 + 0]] = $4 + 0
	if ($5) {
		traps[$1 + 0]++
		trapped[$1 + 0, wants[$1 + 0]] = 1
	}
	next
}

# The stamp is the word before the event's name.
{
	for (i = 1; i < NF && $i !~ /^kvm_/; i++)
		;
	now = $(i - 1) + 0
	event = $i
}

event == "kvm_msr:" && match($0, /CPU [0-9]+\/KVM/) {
	cpu = substr($0, RSTART + 4, RLENGTH - 8) + 0
	now += offset[cpu]
	if (is_over(cpu, now))
		next
	write[cpu, ++writes[cpu]] = now
	if (mode == "off") {
		deadline = hex($(i + 4))
		want(cpu, now, deadline)
		due[cpu] = deadline
	}
}

# The interrupt of the timer (Linux' vector for it): after a look, it is injected.
event == "kvm_apic_accept_irq:" && $(i + 4) == 236 && mode != "off" {
	cpu = $(i + 2) + 0
	if (verdict[cpu, looks[cpu]] == "expired" && !((cpu, looks[cpu]) in injected))
		injected[cpu, looks[cpu]] = now + offset[cpu] - fires[cpu, looks[cpu]]
}

event == "kvm_apic_accept_irq:" && $(i + 4) == 236 && mode == "off" {
	cpu = $(i + 2) + 0
	if (!due[cpu])
		next
	fired(cpu, now + offset[cpu], due[cpu] - advance[cpu])
	verdict[cpu, looks[cpu]] = "expired"
	due[cpu] = 0
}

event == "kvm_lazy_tscdeadline_look:" {
	cpu = $(i + 2) + 0
	if (is_over(cpu, $(i + 10) + 0))
		next
	fired(cpu, $(i + 10) + 0, $(i + 6) + 0)
	verdict[cpu, looks[cpu]] = $(i + 4)
}

event == "kvm_lazy_tscdeadline_update:" && match($0, /CPU [0-9]+\/KVM/) {
	cpu = $(i + 2) + 0
	if (is_over(cpu, now + offset[cpu]))
		next
	update[cpu, ++updates[cpu]] = now + offset[cpu]
}

event == "kvm_lazy_tscdeadline_flush:" {
	flushes++
}

event == "kvm_lazy_tscdeadline_halt:" {
	if (!is_over($(i + 2) + 0, now + offset[$(i + 2) + 0]))
		spared[++spares] = now + offset[$(i + 2) + 0]
}

# It tells when a halt has ended, and how long it was; in a poll the vCPU does not sleep.
event == "kvm_vcpu_wakeup:" && match($0, /CPU [0-9]+\/KVM/) {
	cpu = substr($0, RSTART + 4, RLENGTH - 8) + 0
	slept = int($(i + 3) * khz / 1000000)
	halt[cpu, ++halts[cpu]] = now + offset[cpu] - slept
	length_of[cpu, halts[cpu]] = $(i + 1) == "wait" ? slept : 0
}

# When have all vCPUs together wanted that many deadlines?
function cut(	cpu, n, next_cpu, i)
{
	for (n = 0; n < lines; n++) {
		next_cpu = ""
		for (cpu = 0; cpu < vcpus; cpu++)
			if (i[cpu] < wants[cpu] && (next_cpu == "" ||
			    at[cpu, i[cpu] + 1] < at[next_cpu, i[next_cpu] + 1]))
				next_cpu = cpu
		if (next_cpu == "")
			break
		end = at[next_cpu, ++i[next_cpu]]
	}
}

# How long from that look to its interrupt?
function delay(cpu, n)
{
	return injected[cpu, n] > 0 ? sprintf("+%.0f", injected[cpu, n]) : ""
}

# How long did each want that trapped take to the host?
function join_updates(cpu,	i, u)
{
	u = 1
	for (i = 1; i < wants[cpu]; i++) {
		while (u < updates[cpu] && update[cpu, u] < at[cpu, i])
			u++
		if ((cpu, i) in trapped && update[cpu, u] >= at[cpu, i] &&
		    update[cpu, u] < at[cpu, i + 1])
			took[cpu, i] = update[cpu, u] - at[cpu, i]
	}
}

# When does the host know of a want?
function known_at(cpu, i)
{
	return at[cpu, i] + ((cpu, i) in took ? took[cpu, i] : 0)
}

# The first want of which lateness is known: with a state, what it waited for then
function begins(cpu)
{
	return (cpu, 0) in at ? 0 : 1
}

# How late the host's timer was, each time that it fired after a want, which for one
# that traps begins when the host gets to know.  If it did not before the next want
# although it was due by then, it was later: nothing has fired at all, or what the
# guest finds promised at the next want is past.
function join_lateness(cpu,	i, n, known)
{
	i = begins(cpu)
	for (n = 1; n <= looks[cpu] && fires[cpu, n] <= end; n++) {
		while (i < wants[cpu] && known_at(cpu, i + 1) <= fires[cpu, n])
			i++
		last[cpu, i] = fires[cpu, n]
		if (known_at(cpu, i) <= fires[cpu, n] && lateness[cpu, n] != "")
			late[cpu, i] = late[cpu, i] sprintf(" %.0f", lateness[cpu, n]) delay(cpu, n)
	}
	for (i = begins(cpu); i < wants[cpu]; i++) {
		known = late[cpu, i]
		if (known == "" && what[cpu, i])
			overdue(cpu, i, what[cpu, i] - advance[cpu])
		if (late[cpu, i] == known && seen[cpu, i + 1] && last[cpu, i] < at[cpu, i + 1])
			overdue(cpu, i, seen[cpu, i + 1])
	}
}

# No expiry after want @i for what was @due: it was later than the next want, and
# than the write of that.  By how much more is not known; 50 us are beyond what the
# simulator's guess may differ from the lab's.
function overdue(cpu, i, due)
{
	if (due <= at[cpu, i + 1])
		late[cpu, i] = late[cpu, i] sprintf(" %.0f", known_at(cpu, i + 1) - due + khz / 20)
}

function counts(begin,	cpu, i, n)
{
	for (cpu = 0; cpu < vcpus; cpu++) {
		for (i = 1; i <= writes[cpu]; i++)
			n["writes"] += write[cpu, i] >= begin && write[cpu, i] < end
		for (i = 1; i <= wants[cpu]; i++)
			n["wants"] += at[cpu, i] >= begin && at[cpu, i] < end
		for (i = 1; i <= looks[cpu]; i++)
			if (fires[cpu, i] >= begin && fires[cpu, i] < end) {
				n["looks"]++
				n[verdict[cpu, i]]++
			}
	}
	printf "lab wants %d\nlab writes %d\n", n["wants"], n["writes"]
	printf "lab looks %d\nlab expired %d\n", n["looks"], n["expired"]
	printf "lab rearmed %d\nlab disarmed %d\n", n["rearm"], n["disarm"]
	for (i = 1; i <= spares; i++)
		n["spared"] += spared[i] >= begin && spared[i] < end
	printf "lab spared %d\n", n["spared"]
	printf "lab deferred %d\nlab flushes %d\n", n["defer"], flushes
}

# The halts of that vCPU that come before @time; each line counts from the last.
function print_halts(cpu, time)
{
	for (; h <= halts[cpu] && halt[cpu, h] < time; h++) {
		if (halt[cpu, h] < before)
			continue
		printf "halt %.0f %.0f\n", halt[cpu, h] - before, length_of[cpu, h]
		before = halt[cpu, h]
	}
}

# What the host knew of that vCPU, what it waited for and until when it slept
function print_state(cpu,	i, until)
{
	printf "state now %.0f%s\n", at[cpu, 0], late[cpu, 0]
	printf "state pending %.0f\n", what[cpu, 0]
	for (i = 1; i <= halts[cpu] && halt[cpu, i] < at[cpu, 0]; i++)
		until = halt[cpu, i] + length_of[cpu, i]
	if (until > at[cpu, 0])
		printf "state halted_until %.0f\n", until
	for (i = 1; i <= states[cpu]; i++)
		print "state " state[cpu, i]
}

# Each of which has programmed something before.
function states_known(	cpu)
{
	for (cpu = 0; cpu < vcpus; cpu++) {
		if ((cpu, 0) in at && (cpu, 0) in what)
			continue
		if (mode != "off")
			print "merge.awk: vCPU " cpu ": no state" >"/dev/stderr"
		return 0
	}
	return 1
}

# The host and the guest have to agree on what was a write, as long as the guest
# has told.
function agree(	cpu, bad, i, n)
{
	for (cpu = 0; mode != "off" && cpu < vcpus; cpu++) {
		n = 0
		for (i = 1; i <= writes[cpu]; i++)
			n += write[cpu, i] >= first && write[cpu, i] <= last_all
		if (traps[cpu] - n > 1 || n - traps[cpu] > 1) {
			print "merge.awk: vCPU " cpu ": the guest says " traps[cpu] + 0 \
				" writes, the host " n >"/dev/stderr"
			bad = 1
		}
	}
	return !bad
}

END {
	known = states_known()
	if (!first || !agree() || (!known && mode != "off"))
		exit 1
	cut()
	printf "workload %s\nmode %s\nkhz %d\n", workload, mode, khz
	if (known)
		printf "start %.0f\n", first
	# What the timers were set to before is not known, without a state.
	begin = known ? first : first + int((end - first) / 4)
	printf "count %.0f %.0f\n", begin - first, end - first
	counts(begin)
	for (cpu = 0; cpu < vcpus; cpu++) {
		join_updates(cpu)
		join_lateness(cpu)
		printf "vcpu %d %d\n", cpu, advance[cpu]
		before = known ? at[cpu, 0] : first
		if (known)
			print_state(cpu)
		h = 1
		for (i = 1; i <= wants[cpu] && at[cpu, i] <= end; i++) {
			print_halts(cpu, at[cpu, i])
			printf "%.0f ", at[cpu, i] - before
			if (what[cpu, i])
				printf "%.0f", what[cpu, i] - at[cpu, i]
			else
				printf "-"
			if ((cpu, i) in took)
				printf ":%.0f", took[cpu, i]
			printf "%s\n", late[cpu, i]
			before = at[cpu, i]
		}
		print_halts(cpu, end)
	}
}
