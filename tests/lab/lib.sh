# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Functions that everything which boots a kernel shares.  Source it; it sets
#
#	LAB_TOP		the source tree
#	LAB_BUILD	where builds and logs go
#	LAB_CACHE	what "make setup" fetched
#	host_release, guest_release_6_12, guest_release_6_1, source_version
#			what "make setup" chose
#	LAB_LOGS	where the logs of scenarios go
#
# and heeds
#
#	LAB_L1, LAB_L2	a kernel of tests/debug for KVM hosts, and in place of the
#			guests' 6.12
#	LAB_SLOW	how many times slower than usual that makes things

LAB_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # for those who source this
LAB_BUILD=${BUILD:-$LAB_TOP/build}
# shellcheck disable=SC2034 # for those who source this
LAB_LOGS=$LAB_BUILD/lab${LAB_L1:+-$LAB_L1}${LAB_L2:+-l2-$LAB_L2}
LAB_SLOW=${LAB_SLOW:-1}
LAB_CACHE=${LAZY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lazy-tscdeadline}
# busybox, depmod and modprobe live there; a user's PATH may lack it
PATH=$PATH:/usr/sbin:/sbin

# What a kernel prints when something is wrong with it.
LAB_SPLAT='WARNING: |BUG: |BUG at |Oops|Kernel panic|[Gg]eneral protection|stack-protector'
LAB_SPLAT+='|rcu: INFO|blocked for more than|Call Trace|unchecked MSR access|soft lockup'
LAB_SPLAT+='|unable to handle|triple fault|KVM internal error|entry failed'

lab_die()
{
	echo "${0##*/}: $*" >&2
	exit 125
}

# lab_qemu [PROGRAM]: set qemu_command to that QEMU, by default Debian's.
lab_qemu()
{
	qemu_command=(qemu-system-x86_64)
	# One that is not installed does not find the firmware.
	# shellcheck disable=SC2034 # for those who source this
	[ -z "${1:-}" ] || qemu_command=("$1" -L /usr/share/seabios -L /usr/share/qemu)
}

# lab_releases: read what "make setup" chose.
lab_releases()
{
	local file=$LAB_CACHE/kernels/releases

	[ -r "$file" ] || lab_die "$file is missing: run 'make setup' first"
	source_version='' host_release='' guest_release_6_12='' guest_release_6_1=''
	# shellcheck source=/dev/null
	. "$file"
	export source_version
	[ -z "${LAB_L1:-}" ] || host_release=$(lab_release "$LAB_L1")
	[ -z "${LAB_L2:-}" ] || guest_release_6_12=$(lab_release "$LAB_L2")
}

# lab_matches NAME [PATTERN]...: does it match one of them?  All do if there is none.
lab_matches()
{
	local pattern name=$1

	shift
	for pattern in "${@:-*}"; do
		# shellcheck disable=SC2053 # a pattern
		[[ $name != $pattern ]] || return 0
	done
	return 1
}

# lab_select [PATTERN]...: of a table's lines, those whose first field matches.
lab_select()
{
	local line

	while read -r line; do
		! lab_matches "${line%%|*}" "$@" || printf '%s\n' "$line"
	done
}

# lab_release NAME: the kernel release for 6.12, 6.1 or host, or one of tests/debug.
# "series" is none: that kernel has the driver built in, and no modules.
lab_release()
{
	case $1 in
	debug | kcsan) echo "${source_version%-*}-$1" ;;
	host) echo "${host_release:?}" ;;
	6.12) echo "${guest_release_6_12:?}" ;;
	6.1) echo "${guest_release_6_1:?}" ;;
	series) echo series ;;
	*) lab_die "no kernel is called '$1'" ;;
	esac
}

# lab_kernel RELEASE: where that kernel was unpacked.
lab_kernel()
{
	echo "$LAB_CACHE/kernels/$1"
}

# lab_module_files RELEASE MODULE...: files to load, in order.
lab_module_files()
{
	local release=$1

	shift
	modprobe -d "$(lab_kernel "$release")" -S "$release" -a --show-depends "$@" |
		awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# lab_guest_module RELEASE: the guest's driver; LAB_MACHINE: see boot --machine.
lab_guest_module()
{
	local dir=$LAB_BUILD/guest

	[ -z "${LAB_MACHINE:-}" ] || dir=$LAB_MACHINE/modules
	echo "$dir/$1/lazy_tscdeadline.ko"
}

# lab_has_nested: can this machine's own KVM run a KVM host?
lab_has_nested()
{
	[ -w /dev/kvm ] &&
		grep -qwE 'vmx|svm' /proc/cpuinfo &&
		grep -qsE '^(Y|1)$' /sys/module/kvm_{intel,amd}/parameters/nested
}

# lab_accel: set LAB_ACCEL to QEMU's options and LAB_ACCEL_NAME to a word.
# shellcheck disable=SC2034 # for those who source this
lab_accel()
{
	if lab_has_nested; then
		LAB_ACCEL_NAME="nested KVM"
		LAB_ACCEL=(-accel kvm -cpu host)
	else
		# cmpxchg16b: helpers of older QEMUs see stale condition codes.
		#
		# QEMU's CPUs clear IGNNE# of the first CPU, when they load FPU
		# state, by an unlocked and, not atomic, write of its hflags2,
		# where SVM keeps GIF and "nested paging is on": these get
		# lost, or stay, while the first CPU enters or leaves a guest,
		# and then its guest or KVM itself is gone.  So KVM does not run
		# on the first CPU, see l1-init.
		#
		# tb-size: when the code cache is full, an interrupt that was
		# injected into a guest may be delivered once more.
		LAB_ACCEL_NAME="QEMU TCG with emulated SVM"
		LAB_ACCEL=(-accel "tcg,thread=multi,tb-size=2047" -cpu "max,-cx16,-la57")
	fi
}

# lab_splat FILE...: print the lines with which a kernel complained.  A crash that
# was asked for is none, up to where the crash kernel is up; nor is a data race in
# which nothing of ours has a part.
lab_splat()
{
	sed -s '/sysrq: Trigger a crash/,/lab: job .* begins/d' "$@" 2>/dev/null |
		awk -v ours=1 -f "$LAB_TOP/tests/debug/races.awk" | grep -aE -m 3 "$LAB_SPLAT" | tr -d '\r'
}

# lab_read FILE: the lines of a table, fields separated by a lone "|".
lab_read()
{
	sed -e '/^[[:space:]]*\(#\|$\)/d' -e 's/[[:space:]]*|[[:space:]]*/|/g' \
		-e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' "$1"
}

# lab_table PATTERN: the scenarios of those tables, one per line.
lab_table()
{
	local table

	# shellcheck disable=SC2231 # a pattern
	for table in "$LAB_TOP"/tests/lab/$1.tbl; do
		lab_read "$table"
	done
}

# lab_scenario NAME: the line of that scenario.
lab_scenario()
{
	lab_table '*' | awk -F'|' -v name="$1" '$1 == name'
}
