# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash
#
# What the jobs of a guest share.  Source it; end with "finish".

DRIVER=lazy_tscdeadline
COUNTERS=/sys/kernel/debug/$DRIVER
tests=0
failed=0

# The shell would take busybox's, which tries a module that refuses twice.
modprobe()
{
	/bin/modprobe "$@"
}

# diag: pass on what comes on stdin as TAP comments.
diag()
{
	sed 's/^/# /'
}

# check WHAT COMMAND...: one test: does the command succeed?
check()
{
	what=$1
	shift
	tests=$((tests + 1))
	if "$@" >/tmp/check.log 2>&1; then
		echo "ok $tests - $what"
		return 0
	fi
	failed=$((failed + 1))
	echo "not ok $tests - $what"
	echo "# failed: $*"
	diag </tmp/check.log
	dmesg | tail -n 5 | diag
	return 1
}

finish()
{
	echo "1..$tests"
	[ "$failed" = 0 ]
	exit
}

cpus()
{
	sed -n 's/^processor[[:space:]]*: //p' /proc/cpuinfo
}

# device CPU: print the clock event device that the CPU's tick uses.
device()
{
	awk -v cpu="$1" '
		/^Per CPU device:/ { mine = $NF == cpu }
		/^Broadcast device/ { mine = 0 }
		mine && /^Clock Event Device:/ { print $4 }
	' /proc/timer_list
}

# devices_are NAME: is that the device of every CPU?
devices_are()
{
	for cpu in $(cpus); do
		name=$(device "$cpu")
		echo "CPU $cpu uses $name"
		[ "$name" = "$1" ] || return 1
	done
}

# devices_are_ours: is the device of every CPU the driver's?
devices_are_ours()
{
	for cpu in $(cpus); do
		name=$(device "$cpu")
		echo "CPU $cpu uses $name"
		case $name in
		lazy*) ;;
		*) return 1 ;;
		esac
	done
}

# counter CPU NAME: print one of the driver's counters.
counter()
{
	awk -v name="$2" '$1 == name { print $2 }' "$COUNTERS/cpu$1"
}

# more CPU NAME NAME: is the first of two counters the greater one?
more()
{
	diag <"$COUNTERS/cpu$1"
	[ "$(counter "$1" "$2")" -gt "$(counter "$1" "$3")" ]
}

# is CPU NAME VALUE: has the counter that value?
is()
{
	diag <"$COUNTERS/cpu$1"
	[ "$(counter "$1" "$2")" = "$3" ]
}

# all_say STATE REASON: is that what the driver says of all CPUs?  A pattern, REASON.
all_say()
{
	for cpu in $(cpus); do
		echo "CPU $cpu: $(counter "$cpu" state) ($(counter "$cpu" reason))"
		[ "$(counter "$cpu" state)" = "$1" ] || return 1
		# shellcheck disable=SC2254 # a pattern
		case $(counter "$cpu" reason) in
		$2) ;;
		*) return 1 ;;
		esac
	done
}

# said TEXT: did the kernel say that exactly once?
said()
{
	[ "$(dmesg | grep -c "$1")" = 1 ]
}

# said_lines: how much did the driver say?  (The kernel speaks of taints for it.)
said_lines()
{
	dmesg | grep "$DRIVER: " | grep -vc taint
}

loaded()
{
	grep -q "^$DRIVER " /proc/modules
}

# timers [OPTION]...: run timers on all CPUs; show what was seen.
timers()
{
	timer_check "$@" >/tmp/timers.log 2>&1
	timers_status=$?
	grep '^#' /tmp/timers.log >&3
	grep -v '^#' /tmp/timers.log
	return $timers_status
}

# timers_begin, timers_end: have timers run meanwhile.
timers_begin()
{
	rm -f /tmp/meanwhile.log
	timer_check -n 0 >/tmp/meanwhile.log 2>&1 &
	timers_pid=$!
	until [ -s /tmp/meanwhile.log ]; do
		sleep 0.1
	done
}

timers_end()
{
	kill -TERM "$timers_pid"
	wait "$timers_pid"
	timers_status=$?
	grep '^#' /tmp/meanwhile.log >&3
	grep -v '^#' /tmp/meanwhile.log
	return $timers_status
}

# online CPU 0|1
online()
{
	echo "$2" >"/sys/devices/system/cpu/cpu$1/online"
}

# storm ROUNDS: all CPUs but the first go and come back, as fast as they can.
storm()
{
	plugged=$(cpus)
	for round in $(seq "$1"); do
		for state in 0 1; do
			for cpu in $plugged; do
				[ "$cpu" = 0 ] || online "$cpu" "$state" || return 1
			done
		done
	done
}

# cpus_are NUMBER: are so many online?
cpus_are()
{
	[ "$(nproc)" = "$1" ]
}

# counts CPU: how many deadlines, how many traps so far.
counts()
{
	awk '$1 == "programmed" { programmed = $2 }
		$1 == "trapped" { print programmed, $2 }' "$COUNTERS/cpu$1"
}

# modes: have timers run; print "lazy" for each CPU for which a tenth of the
# deadlines or more needed no trap, else "plain".  Were all timers right?
modes()
{
	for cpu in $(cpus); do
		counts "$cpu" >"/tmp/before.$cpu"
	done
	timer_check -n 200 >/tmp/modes.log 2>&1 || return 1
	for cpu in $(cpus); do
		counts "$cpu" | cat "/tmp/before.$cpu" - | awk -v cpu="$cpu" '
			NR == 1 { programmed = $1; trapped = $2 }
			NR == 2 {
				programmed = $1 - programmed; trapped = $2 - trapped
				print cpu, trapped < 0.9 * programmed ? "lazy" : "plain",
					programmed, "deadlines,", trapped, "traps"
			}'
	done
}

# all_are lazy|plain: show what they are; are all CPUs like that?  2: a timer was
# not right.
all_are()
{
	if ! modes >/tmp/modes; then
		cat /tmp/modes.log
		return 2
	fi
	sed 's/^/CPU /' /tmp/modes
	! grep -qv "^[0-9]* $1 " /tmp/modes
}

# all_become lazy|plain: the same, by and by.
all_become()
{
	for round in $(seq 50); do
		all_are "$1"
		case $? in
		0)
			echo "# all CPUs are $1 in round $round" >&3
			return 0
			;;
		2) return 1 ;;
		esac
		sleep 1
	done
	return 1
}

all_lazy()
{
	check "all CPUs are in lazy mode" all_are lazy
}

all_lazy_again()
{
	check "all CPUs are in lazy mode again by themselves" all_become lazy
}

all_plain()
{
	check "all CPUs have plain timers" all_are plain
}

# never_left: lazy mode, since the driver was loaded; each CPU is a test.
never_left()
{
	for cpu in $(cpus); do
		check "CPU $cpu has not enabled its record again" is "$cpu" reenabled 0
		check "CPU $cpu is not native" is "$cpu" native 0
	done
}

# none_early: each CPU is a test.
none_early()
{
	for cpu in $(cpus); do
		[ "$(counter "$cpu" stray)" = 0 ] ||
			echo "# CPU $cpu: $(counter "$cpu" stray) interrupts were not the timer's" >&3
		check "CPU $cpu saw no early interrupt" is "$cpu" early 0
	done
}
