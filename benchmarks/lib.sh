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
		-k "$release" "$LAB_BUILD/guest/$release/lazy_tscdeadline.ko"
}

# bench_complaints DIR: fail if a guest's kernel complained during a session.
bench_complaints()
{
	local splat

	splat=$(lab_splat "$1"/*/*/*/console || true)
	[ -z "$splat" ] || lab_die "a guest's kernel complained, see $1: $splat"
}
