# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the scenarios share that run in the KVM host (L1) and do things to a
# guest: reset it, move it to another QEMU, take CPUs away.  Source it; end with
# "finish".  l1-jobs sets LAB_OUT (logs) and what the table says of the guest:
# LAB_KERNEL, LAB_CPUS, LAB_CPU, LAB_APPEND.
#
# The guest runs l2/agent, which does what it is told, so a scenario is one
# script.  Tests that the guest makes become the scenario's.
#
# A guest or a QEMU that does not answer for LAB_PATIENCE seconds is dead.

set -uo pipefail
# shellcheck source=tests/lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
lab_releases

LAB_PATIENCE=$((300 * LAB_SLOW))
LAB_MEM=384			# MiB, of each guest
PARAMETERS=/sys/module/kvm/parameters
tests=0
failed=0
vm=0				# the QEMU that is spoken to
vms=0				# how many there have been
qemu_pid=() qmp_in=() qmp_out=() qmp_seen=()

work=$(mktemp -d)
image=$work/state.qcow2		# for snapshots
feature_before=$(cat $PARAMETERS/lazy_tscdeadline)
trap clean_up EXIT
mkfifo "$work"/guest.{in,out}
# Both ends, so that neither we nor QEMU wait for the other to open it.
exec {guest_in}<>"$work/guest.in" {guest_out}<>"$work/guest.out"

# clean_up: the next scenario finds the host as it was.
clean_up()
{
	jobs -p | xargs -r kill 2>/dev/null
	feature "$feature_before"
	rm -rf "$work"
}

# feature Y|N: switch it on or off in the host.
feature()
{
	echo "$1" >$PARAMETERS/lazy_tscdeadline
}

# bail WHY: there is no going on; show what may tell why.
bail()
{
	local file

	echo "Bail out! $*"
	tail -n 5 "$LAB_OUT/qmp" | sed 's/^/# QMP: /'
	for file in $(vcpu_files '*'); do
		sed "s/^/# host, $(basename "${file%/*}"): /" "$file"
	done
	exit 1
}

# check WHAT COMMAND...: one test: does the command succeed?
check()
{
	local what=$1

	shift
	tests=$((tests + 1))
	if "$@" >"$work/check.log" 2>&1; then
		echo "ok $tests - $what"
		return 0
	fi
	failed=$((failed + 1))
	echo "not ok $tests - $what"
	echo "# failed: $*"
	sed 's/^/# /' "$work/check.log"
	return 1
}

fails()
{
	! "$@"
}

finish()
{
	echo "1..$tests"
	[ "$failed" = 0 ]
	exit
}

# listen FD: the next line from there, in $line, unless QEMU ends or says nothing for
# too long.
listen()
{
	local second part='' ended=''

	for ((second = 0; second < LAB_PATIENCE; second++)); do
		# What it has said last can still be read.
		kill -0 "${qemu_pid[vm]}" 2>/dev/null || ended=y
		if IFS= read -r -t 1 -u "$1" line; then
			line=$part${line%$'\r'}
			return 0
		fi
		part+=$line
		[ -z "$ended" ] || bail "QEMU $vm has ended"
	done
	return 1
}

# qmp_read: the next thing that QEMU says, in $line.
qmp_read()
{
	listen "${qmp_out[vm]}" || bail "QEMU $vm does not answer"
	printf '%s %s\n' "$vm" "$line" >>"$LAB_OUT/qmp"
	if [[ $line =~ \"event\":\ \"([A-Z_]+)\" ]]; then
		qmp_seen[vm]+=" ${BASH_REMATCH[1]} "
	fi
}

# qmp COMMAND [ARGUMENTS]: have QEMU do it; the answer is in $line.
qmp()
{
	local command="{\"execute\": \"$1\"${2:+, \"arguments\": $2}}"

	printf '%s %s\n' "$vm" "$command" >>"$LAB_OUT/qmp"
	echo "$command" >&"${qmp_in[vm]}"
	line=''
	while [[ $line != '{"return": '* ]]; do
		qmp_read
		[[ $line != '{"error": '* ]] || bail "QEMU says to $1: $line"
	done
}

# qmp_forget EVENT: from now on it counts.
qmp_forget()
{
	qmp_seen[vm]=${qmp_seen[vm]// $1 /}
}

# qmp_event EVENT: wait for it, unless it came since qmp_forget.
qmp_event()
{
	while [[ ${qmp_seen[vm]} != *" $1 "* ]]; do
		qmp_read
	done
	qmp_forget "$1"
}

# qmp_until COMMAND PATTERN [WRONG]: ask until the answer is like that.
qmp_until()
{
	local i

	for ((i = 0; i < 5 * LAB_PATIENCE; i++)); do
		qmp "$1"
		# shellcheck disable=SC2053 # patterns
		[[ $line != $2 ]] || return 0
		# shellcheck disable=SC2053
		[[ -z ${3:-} || $line != $3 ]] || bail "$1: $line"
		sleep 0.2
	done
	bail "$1 says for ever: $line"
}

# vm_pipes: get ready to talk to one more QEMU.
vm_pipes()
{
	local in out

	vm=$((++vms))
	mkfifo "$work/qmp$vm".{in,out}
	exec {in}<>"$work/qmp$vm.in" {out}<>"$work/qmp$vm.out"
	qmp_in[vm]=$in
	qmp_out[vm]=$out
	qmp_seen[vm]=''
	[ -e "$LAB_OUT/qemu.log" ] || : >"$LAB_OUT/qemu.log"
	# shellcheck disable=SC2034 # for scenarios
	log_from=$(($(wc -l <"$LAB_OUT/qemu.log") + 1))
}

# vm_run [OPTION]...: become that QEMU.
vm_run()
{
	LAB_QEMU=${vm_qemu-${LAB_QEMU:-}} \
	exec "$LAB_TOP/tests/lab/boot-l2" --kernel "$LAB_KERNEL" --out "$LAB_OUT" \
		--timeout $((1800 * LAB_SLOW + 60 * ${SOAK:-0})) \
		--cpus "$LAB_CPUS" --cpu "${vm_cpu-$LAB_CPU}" --append "quiet $LAB_APPEND job=agent" \
		--mem ${LAB_MEM}M \
		--initrd "${vm_initrd:-$(vm_initrd "$LAB_KERNEL")}" \
		--guest-port "$work/guest" --qmp-port "$work/qmp$vm" \
		-- -pidfile "$work/pid$vm" "$@"
}

# vm_start [OPTION]...: one more QEMU, which is then the one that is spoken to.
# shellcheck disable=SC2120 # options there need not be
vm_start()
{
	vm_pipes
	vm_run "$@" >>"$LAB_OUT/qemu.log" 2>&1 &
	qemu_pid[vm]=$!
	qmp_read
	qmp qmp_capabilities
}

# vm_append: the guest's kernel command line.
vm_append()
{
	echo "console=ttyS0 panic=-1 panic_on_warn=1 quiet $LAB_APPEND job=agent"
}

# vm_packs KERNEL: the guests find that kernel in /kexec, with an initramfs.
vm_packs()
{
	local dir=$work/pack/kexec

	mkdir -p "$dir"
	cp "$(lab_kernel "$(lab_release "$1")")/vmlinuz" "$dir/vmlinuz"
	cp "$(vm_initrd "$1")" "$dir/initrd"
	# The kernel wants what is not compressed first.
	(cd "$work/pack" && find . -print0 | cpio --null --quiet -o -H newc -R 0:0) |
		cat - "$(vm_initrd "$LAB_KERNEL")" >"$work/initrd"
	vm_initrd=$work/initrd
}

# vm_initrd KERNEL: what was packed for guests with that kernel.
vm_initrd()
{
	echo "$LAB_BUILD/lab/l2-$(lab_release "$1").cpio.gz"
}

# vm_quit: end that QEMU, whatever the guest does.
vm_quit()
{
	qmp quit
	vm_ended
}

# vm_ended: wait for it; does it say that all went well?
vm_ended()
{
	wait "${qemu_pid[vm]}"
}

# guest_wait WORD: wait for "# WORD ..." from the guest; its tests become ours.
guest_wait()
{
	local line

	while listen "$guest_out"; do
		case $line in
		"# $1"*)
			answer=${line#"# $1"}
			return 0
			;;
		'ok '*) tests=$((tests + 1)) ;;
		'not ok '*) tests=$((tests + 1)) failed=$((failed + 1)) ;;
		'Bail out!'*) bail "the guest: ${line#Bail out! }" ;;
		esac
		echo "$line"
	done
	bail "the guest does not say '$1'"
}

# guest_boots: wait until the agent is there.
guest_boots()
{
	guest_wait agent
}

# guest_send COMMAND: have the guest's shell do it, and do not wait.
guest_send()
{
	printf '%s\n' "$1" >&"$guest_in"
}

# guest COMMAND: have the guest's shell do it; its status.
guest()
{
	guest_send "$1"
	guest_wait 'done '
	return "$answer"
}

# guest_check WHAT COMMAND: a test that the guest makes.
guest_check()
{
	guest "check \"$1\" $2"
}

# guest_ends: the guest switches itself off.
guest_ends()
{
	guest_send 'exit 0'
	check "the guest switches itself off" vm_ended
}

# vcpu_files CPU: what the host shows of that vCPU.
vcpu_files()
{
	compgen -G "/sys/kernel/debug/kvm/$(cat "$work/pid$vm")-*/vcpu$1/lazy_tscdeadline"
}

# vcpu_lazy CPU 0|1: does the host share a record with that vCPU?
vcpu_lazy()
{
	local file

	file=$(vcpu_files "$1")
	cat "$file"
	grep -qx "enabled $2" "$file"
}

# vcpu_says CPU WORDS: is that what the host says of its state and the reason?
vcpu_says()
{
	local file

	file=$(vcpu_files "$1")
	cat "$file"
	[[ " $2 " == *" $(awk '$1 == "state" || $1 == "reason" { print $2 }' "$file" |
		paste -sd:) "* ]]
}

# host_says WORDS: the same of all vCPUs, each a test.
host_says()
{
	local cpu

	for ((cpu = 0; cpu < LAB_CPUS; cpu++)); do
		check "the host says one of $1 (vCPU $cpu)" vcpu_says "$cpu" "$1"
	done
}

# host_lazy 0|1 WHAT: the same of all vCPUs, each a test.
host_lazy()
{
	local cpu

	for ((cpu = 0; cpu < LAB_CPUS; cpu++)); do
		check "the host $2 (vCPU $cpu)" vcpu_lazy "$cpu" "$1"
	done
}

# guest_loads: have the guest load the driver: lazy, by what both sides say.
guest_loads()
{
	# shellcheck disable=SC2016 # the guest's variable
	guest_check "the driver loads" 'modprobe $DRIVER'
	guest_check "it is the clock event device of all CPUs" devices_are_ours
	guest all_lazy
	host_lazy 1 "shares a record"
}

# job COMMAND ARGUMENTS: a job of QEMU; wait until it has succeeded.
job()
{
	qmp "$1" "{\"job-id\": \"job\", $2}"
	qmp_until query-jobs '*"status": "concluded"*'
	[[ $line != *'"error": '* ]] || bail "$1: $line"
	qmp job-dismiss '{"id": "job"}'
}

# image_make: a place for the state (qemu-img is in another package).
image_make()
{
	: >"$image"
	image_open file
	job blockdev-create '"options": {"driver": "qcow2", "file": "file", "size": 1048576}'
	qmp blockdev-add '{"node-name": "image", "driver": "qcow2", "file": "file"}'
}

image_open()
{
	qmp blockdev-add "{\"node-name\": \"$1\", \"driver\": \"file\", \"filename\": \"$image\"}"
}

# snapshot save|load
snapshot()
{
	job "snapshot-$1" '"tag": "tag", "vmstate": "image", "devices": ["image"]'
}
