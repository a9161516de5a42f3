# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# For l1-session, which sources it: the KVM host's part of a trace, see record.

tracing=/sys/kernel/tracing

# What is traced: event, and its filter.  0xec is Linux' timer vector.
record_events()
{
	cat <<-EOF
	kvm_msr|write == 1 && ecx == 0x6e0
	kvm_apic_accept_irq|vec == 0xec
	kvm_lazy_tscdeadline_look|
	kvm_lazy_tscdeadline_update|
	kvm_lazy_tscdeadline_flush|
	kvm_lazy_tscdeadline_halt|
	kvm_vcpu_wakeup|
	EOF
}

# record_prepare DIR: set record_devices.  QEMU names the vCPUs' threads, which is
# how they are told apart, and what the guest tells goes to DIR/wants.
record_prepare()
{
	# shellcheck disable=SC2034 # for l1-session
	record_devices=(-name "guest,debug-threads=on" -device virtio-serial-pci
		-chardev "file,id=wants,path=$1/wants"
		-device "virtserialport,chardev=wants,name=wants")
}

# record_state: what the host has learned of each vCPU.
record_state()
{
	local dir

	for dir in /sys/kernel/debug/kvm/*/vcpu*; do
		sed "s/^/${dir##*vcpu} /" "$dir/lazy_tscdeadline_policy"
	done
}

# record_settled: the same, once nothing happens meanwhile: the guest waits for "go".
record_settled()
{
	local state rest before=''

	for _ in {1..200}; do
		state=$(record_state)
		rest=$(grep -v ' now ' <<<"$state" || true)
		if [ "$rest" = "$before" ]; then
			echo "$state"
			return
		fi
		before=$rest
	done
	lab_die "the guest does not wait"
}

# record_start DIR: both sides stamp with the TSC; the offset is the vCPU's.
record_start()
{
	local event filter

	echo 0 >$tracing/tracing_on
	echo x86-tsc >$tracing/trace_clock
	echo 32768 >$tracing/buffer_size_kb
	record_events | while IFS='|' read -r event filter; do
		echo "${filter:-0}" >"$tracing/events/kvm/$event/filter"
		echo 1 >"$tracing/events/kvm/$event/enable"
	done
	echo >$tracing/trace
	echo 1 >$tracing/tracing_on
	record_settled >"$1/state"
}

# record_vcpus: number, offset of the TSC, advance in ns of each.
record_vcpus()
{
	local dir

	for dir in /sys/kernel/debug/kvm/*/vcpu*; do
		echo "vcpu ${dir##*vcpu} $(cat "$dir/tsc-offset")" \
			"$(cat "$dir/lapic_timer_advance_ns")"
	done
}

# record_stop DIR
record_stop()
{
	local event

	echo 0 >$tracing/tracing_on
	record_vcpus >"$1/vcpus"
	grep -h '^\(overrun\|dropped events\)' $tracing/per_cpu/cpu*/stats >"$1/overrun"
	sed '/^#/d' $tracing/trace | gzip -1 >"$1/trace.gz"
	record_events | while IFS='|' read -r event _; do
		echo 0 >"$tracing/events/kvm/$event/enable"
	done
	echo >$tracing/trace
}
