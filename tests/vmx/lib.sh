# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Functions that everything shares which boots a KVM host (L1) under Bochs.
# Source it; it sources the lab's functions, too.  Callers set
#
#	out		where logs and results go
#	VMX_SEED, VMX_CPUS, VMX_MIPS	see vmx_boot
#
# shellcheck disable=SC2154 # out

# shellcheck source=tests/lab/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lab/lib.sh"
VMX=$LAB_TOP/tests/vmx

# vmx_module NAME FILE: one for L1, without its debugging information.
vmx_module()
{
	case $2 in
	*.xz) xz -dc "$2" >"$work/$1" ;;
	*.zst) zstd -qdc "$2" >"$work/$1" ;;
	*) strip -g -o "$work/$1" "$2" ;;
	esac
	echo "/vmx/$1" >>"$work/modules"
	vmx_files+=("$work/$1:vmx/$1")
}

# vmx_modules: irqbypass and what else the kernel has, and KVM, which is ours.
vmx_modules()
{
	local file name

	for file in $(lab_module_files "${host_release:?}" kvm-intel); do
		name=${file##*/}
		name=${name%%.ko*}.ko
		case $name in
		kvm.ko | kvm-intel.ko) file=$LAB_BUILD/host/$host_release/$name ;;
		esac
		[ -r "$file" ] || lab_die "$file is missing: run 'make host' first"
		vmx_module "$name" "$file"
	done
}

# vmx_initramfs FILE JOB [FILE:DEST]...: L1's root: KVM, QEMU, what l1-init
# sources, and these files.
vmx_initramfs()
{
	local initramfs=$1 job=$2 file vmx_files=()

	shift 2
	vmx_modules
	for file in seabios/bios-256k.bin qemu/kvmvapic.bin qemu/linuxboot_dma.bin; do
		vmx_files+=("/usr/share/$file:usr/share/$file")
	done
	"$LAB_TOP/tests/lab/mkinitramfs" "$initramfs" "$VMX/l1-init:init" "$job:vmx/job" \
		"$work/modules:vmx/modules" "$LAB_TOP/tests/lab/l2/lib.sh:vmx/lib.sh" \
		"$(command -v qemu-system-x86_64)" "${vmx_files[@]}" "$@"
}

# vmx_iso FILE JOB [FILE:DEST]...: a CD that boots L1.
vmx_iso()
{
	local iso=$1 cd=$work/cd

	shift
	mkdir -p "$cd/boot/grub"
	cp -L "$(lab_kernel "$host_release")/vmlinuz" "$cd/boot/vmlinuz"
	# Under Bochs, unpacking takes longer than reading.
	LAB_COMPRESS="lz4 -lq" vmx_initramfs "$cd/boot/l1.cpio" "$@"
	cat >"$cd/boot/grub/grub.cfg" <<-EOT
		linux /boot/vmlinuz console=ttyS0,115200 quiet mitigations=off
		initrd /boot/l1.cpio
		boot
	EOT
	grub-mkrescue -o "$iso" "$cd" >"$iso.log" 2>&1 ||
		lab_die "grub-mkrescue failed, see $iso.log"
}

# vmx_boot ISO TIMEOUT [PROGRESS]: run Bochs until L1 has switched itself off, or
# is beyond hope; call PROGRESS now and then.  VMX_SEED is the time of day at
# which the emulated machine is switched on, in seconds since 1970; VMX_MIPS is how
# many million instructions the CPU executes in a second of its time (default: 100).
# Leaves $out/console and $out/results.
vmx_boot()
{
	local iso=$1 timeout=$2 progress=${3:-:}

	: >"$out/results"
	: >"$out/console"
	sed -e "s,@DIR@,$out,g" -e "s,@ISO@,$iso,g" -e "s,@CPUS@,${VMX_CPUS:-1},g" \
		-e "s,@MIPS@,${VMX_MIPS:-100},g" \
		-e "s,@SEED@,${VMX_SEED:=$(date +%s)},g" "$VMX/bochsrc" >"$work/bochsrc"
	echo c >"$work/debugger"
	timeout -k 10 "$timeout" bochs -q -f "$work/bochsrc" -rc "$work/debugger" \
		>"$out/bochs.out" 2>&1 </dev/null &
	bochs=$!
	while kill -0 $bochs 2>/dev/null; do
		sleep 2
		"$progress"
		if grep -aq 'Kernel panic' "$out/console"; then
			sleep 10
			kill $bochs 2>/dev/null || true
		fi
	done
	wait $bochs || true
	bochs=''
	"$progress"
}

# vmx_split DIR: files from what came through the serial port.
vmx_split()
{
	mkdir -p "$1"
	tr -d '\r' <"$out/results" | awk -F'|' -v dir="$1/" '
		/^[a-z0-9-]+\|/ { print substr($0, length($1) + 2) >(dir $1) }'
}

# vmx_ticks: how many instructions has that taken?
vmx_ticks()
{
	tail -n 1 "$out/bochs.log" | sed 's/^0*\([0-9]*\).*/\1/'
}

# vmx_setup: an empty scratch directory, and an end to it.
vmx_setup()
{
	work=$(mktemp -d)
	bochs=''
	trap 'rm -rf "$work"; [ -z "$bochs" ] || kill $bochs 2>/dev/null || true' EXIT
}
