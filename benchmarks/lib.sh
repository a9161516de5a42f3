# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the benchmarks share.  Source it; it sources the lab's functions too.

# shellcheck source=tests/lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tests/lab/lib.sh"
BENCH=$LAB_TOP/benchmarks

# bench_table NAME: the table's lines.
bench_table()
{
	lab_read "$BENCH/$1.tbl"
}

# bench_field TABLE NAME N: field N of the line with that name.
bench_field()
{
	bench_table "$1" | awk -F'|' -v name="$2" -v n="$3" \
		'$1 == name { print $n; found = 1 } END { exit !found }' ||
		lab_die "no line '$2' in $1.tbl"
}

# bench_initramfs FILE: the guest's root, with everything the workloads need.
bench_initramfs()
{
	local release=$guest_release_6_12

	"$LAB_TOP/tests/lab/mkinitramfs" "$1" \
		"$LAB_TOP/tests/lab/l2/init:init" "$LAB_TOP/tests/lab/l2/lib.sh:jobs/lib.sh" \
		"$BENCH/guest-job:jobs/bench" /etc/protocols:etc/protocols \
		/etc/services:etc/services "$BENCH/hosts:etc/hosts" \
		"$BENCH/nsswitch.conf:etc/nsswitch.conf" \
		"$(command -v netperf)" "$(command -v netserver)" \
		"$(command -v cyclictest)" "$(command -v stress-ng)" \
		-k "$release" "$(lab_guest_module "$release")"
}

# bench_complaints DIR: fail if a guest's kernel complained during a session.
bench_complaints()
{
	local splat

	splat=$(lab_splat "$1"/*/*/*/console || true)
	[ -z "$splat" ] || lab_die "a guest's kernel complained, see $1: $splat"
}

# bench_where: say on what the KVM host runs; LAB=vmx: on Intel's path.
bench_where()
{
	if [ "${LAB:-}" = vmx ]; then
		echo "Bochs with emulated VMX, in instruction time"
	else
		lab_accel
		echo "$LAB_ACCEL_NAME"
	fi
}

# bench_session DIR TIMEOUT [ARGUMENT]...: one boot of the KVM host for a session
# with these arguments (see l1-session), whose first is the guest's root.  VMX_ISO:
# see --iso of tests/vmx/boot.
bench_session()
{
	local dir=$1 timeout=$2 host=(tests/lab/boot --modules ours)

	shift 2
	[ "${LAB:-}" != vmx ] || host=(tests/vmx/boot --file "$1" ${VMX_ISO:+--iso "$VMX_ISO"})
	"$LAB_TOP/${host[0]}" "${host[@]:1}" --timeout "$timeout" --out "$dir" \
		--run "BENCH_TRACE=${BENCH_TRACE:-} $BENCH/l1-session $*" || return
	bench_complaints "$dir"
}

# bench_judge RESULTS: fail if a guest's timer interrupt was early, or none was
# seen by the wait that ends the host's advance.
bench_judge()
{
	jq -r '.[] | select((.guest_early // 0) > 0 or .advance_count == 0) |
		"\(.workload), \(.mode): early \(.guest_early), waits \(.advance_count)"' "$1" |
		if grep .; then lab_die "timers were early or not seen, see $1"; fi
}
