# SPDX-License-Identifier: GPL-2.0-only

BUILD	?= $(CURDIR)/build
CACHE	:= $(or $(LAZY_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lazy-tscdeadline)
KERNELS	:= $(CACHE)/kernels

export BUILD

define HELP
NAME
  lazy TSC deadline - KVM guests that program timers without VM exits

SYNOPSIS
  make TARGET [VARIABLE=VALUE]...

TESTS (each installs and builds what it needs; Debian 12, as root or with sudo)
  check            build everything and test it (20 minutes on two cores)
  check-vmx        the path of Intel CPUs, emulated by Bochs (15 minutes; VMX=-s: 5)
  check-debug      the lab with debug kernels: locks, contexts, memory; data races
                   (2 hours; builds them once: 40 minutes each)
  check-lifecycle  suspend, migration, kexec, crash kernel, moving memory, vCPUs
                   that come and go
  check-qemu       QEMU with the patches of host/qemu/ (builds it once: 15 minutes)
  check-series     the series for kernel trees: its selftest, a guest with a kernel of
                   it (half an hour the first time)
  check-selftests  the kernel's own KVM selftests: the same results as with Debian's
                   modules?
  check-packages   install the packages of "make deb" in a fresh Debian, boot it,
                   remove them (20 minutes)
  soak             check-lifecycle, check-selftests; enemies; memory after 1000 VMs;
                   fuzzing; timers for SOAK minutes while CPUs come and go, next to
                   random operations
  fuzz             fuzz the arming policy for FUZZ seconds
  mutants          take out essential parts one by one: do the tests notice? (1 hour)

MEASUREMENTS
  demo             what it gains on this machine, with and without
  bench            compare the modes on all workloads (1 hour)
  sim              what the policies cost for up to 100,000 vCPUs: a simulation

PARTS
  help             this page (default)
  setup            install the Debian packages that are needed, unpack kernels
  host             build kvm.ko, kvm-amd.ko and kvm-intel.ko
  host-double      the same with a double of posted interrupts, for tests only
  guest            build the guest's driver
  tests            build the test programs
  series           a patch series for the kernel tree KERNEL=DIR, in build/series
  debug-kernel     build the debug kernels, and the modules for them
  deb              Debian packages for DKMS, in build/deb
  clean            remove what was built

VARIABLES
  BUILD=DIR        where builds and logs go (default: build)
  LAZY_CACHE=DIR   where kernels and QEMU are kept (~/.cache/lazy-tscdeadline)
  AUTHOR='N <M>'   who signs off in series; default: git's user
  LAB=vmx          demo, bench: on Intel's path, in instruction time
  BENCH=OPTIONS    parts of bench, see benchmarks/bench -h
  SIM=OPTIONS      parts of sim, see build/sim/sim -h
  SOAK=MINUTES     default: 20
  FUZZ=SECONDS     default: 300
  DEBUG=KERNEL     check-debug: debug or kcsan alone

FILES
  build/lab/       logs of the lab: a folder for each scenario, l1-N for its hosts
  build/demo/, build/bench/   figures of measurements
  tests/lab/*.tbl  scenarios: tests/lab/run -h runs single ones
  tests/unit, tests/static, tests/model/run, tests/docs/run   other single tests

EXAMPLES
  make demo LAB=vmx
  make bench BENCH='-r 1 -w tcp_rr -m off,predict'
  make host guest tests && tests/lab/run 'load-*'

SEE ALSO
  README.md, Documentation/usage.rst, Documentation/developing.rst
endef

help:
	$(info $(HELP))
	@:

# LAB=vmx: demo and bench, too, use Bochs instead of QEMU.
setup:
	@tests/setup $(if $(filter vmx,$(LAB)),-x tests/vmx/packages.txt)

# The shell reads what setup chose, which is not yet known when make starts.
RELEASES = $(KERNELS)/releases
CHOSEN = if ! [ -r $(RELEASES) ]; then \
	echo "no kernels in $(KERNELS): run 'make setup' first" >&2; exit 1; fi; \
	. $(RELEASES)

host:
	@$(CHOSEN); $(MAKE) -j$(shell nproc) --no-print-directory -C host \
		KVER=$$host_release KDIR=$(KERNELS)/$$host_release/build \
		OUT=$(BUILD)/host/$$host_release

# KVM with a double of what the lab's CPUs lack, for the lab only.
host-double:
	@$(CHOSEN); $(MAKE) -j$(shell nproc) --no-print-directory -C host \
		KVER=$$host_release KDIR=$(KERNELS)/$$host_release/build \
		OUT=$(BUILD)/host/$$host_release-double TEST_DOUBLE=1

guest:
	@$(CHOSEN); for release in $$guest_release_6_12 $$guest_release_6_1; do \
		echo "guest: building lazy_tscdeadline for $$release"; \
		$(MAKE) --no-print-directory -s -C guest KVER=$$release \
			KDIR=$(KERNELS)/$$release/build OUT=$(BUILD)/guest/$$release || exit; \
	done

tests:
	@$(MAKE) --no-print-directory -C tests

TESTS = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c)) \
	tests/static tests/docs/run $(wildcard tests/model/run) tests/fuzz/run \
	tests/series/run tests/lab/run

# In this order, even with -j.
check: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory host-double
	@$(MAKE) --no-print-directory guest tests
	prove --timer --failures --exec '' $(TESTS)

check-vmx:
	@$(MAKE) --no-print-directory setup LAB=vmx
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	prove --timer --failures --exec '' tests/vmx/run $(if $(VMX),:: $(VMX))

DEBUG ?= debug kcsan

# Kernels with debug options, and KVM's modules and the driver for them.
debug-kernel: $(DEBUG:%=debug-kernel-%)

debug-kernel-%:
	@tests/debug/build $*
	@release=$$(tests/debug/build -p $*); for double in "" 1; do \
		$(MAKE) -j$(shell nproc) --no-print-directory -C host KVER=$$release \
			KDIR=$(KERNELS)/$$release/build TEST_DOUBLE=$$double \
			OUT=$(BUILD)/host/$$release$${double:+-double} || exit; \
	done; \
	echo "guest: building lazy_tscdeadline for $$release"; \
	$(MAKE) --no-print-directory -s -C guest KVER=$$release \
		KDIR=$(KERNELS)/$$release/build OUT=$(BUILD)/guest/$$release

# With an emulator that loses no interrupts: there are too many hours for that.
check-debug:
	@tests/setup -x tests/debug/packages.txt
	@tests/setup -x tests/qemu/packages.txt
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	@$(MAKE) --no-print-directory debug-kernel
	LAB_EMULATOR=$$(tests/qemu/build -t) && export LAB_EMULATOR && \
		prove --timer --failures --exec '' tests/debug/run :: $(DEBUG:%='*-%')

demo: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	@benchmarks/demo

bench: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	@benchmarks/bench $(BENCH)

series:
	@host/series/generate $(if $(AUTHOR),-a "$(AUTHOR)") "$(KERNEL)" $(BUILD)/series

check-series: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	prove --timer --failures --exec '' tests/series/run :: -b
	prove --timer --failures --exec '' tests/lab/run :: 'builtin*'

LIFECYCLE = suspend migrate kexec crash memory cpus

check-lifecycle: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	prove --timer --failures --exec '' tests/lab/run :: $(LIFECYCLE)

# QEMU with the patches of host/qemu/.
check-qemu:
	@tests/setup -x tests/qemu/packages.txt
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	LAB_QEMU=$$(tests/qemu/build) && export LAB_QEMU && \
		prove --timer --failures --exec '' tests/lab/run :: 'qemu-*'

# Their build is cached in LAZY_CACHE, by version.
check-selftests: setup
	@$(MAKE) --no-print-directory host
	prove --timer --failures --exec '' tests/selftests/run

SOAK ?= 20

# All of them, whatever the others say.
soak: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	@status=0; \
	prove --timer --failures --exec '' tests/selftests/run || status=1; \
	prove --timer --failures --exec '' tests/fuzz/run :: -t $$((6 * $(SOAK))) || status=1; \
	SOAK=$(SOAK) prove --timer --failures --verbose --exec '' tests/lab/run :: \
		$(LIFECYCLE) hostile leak soak || status=1; \
	exit $$status

FUZZ ?= 300

fuzz:
	@tests/fuzz/run -t $(FUZZ)

SIM	= benchmarks/traces/*.trace

sim:
	@$(MAKE) --no-print-directory -C benchmarks/sim
	@$(BUILD)/sim/sim -f benchmarks/rhythms.tbl $(SIM)

mutants: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	prove --timer --exec '' tests/mutants/run

# The source package is made of the folders as they are here.
DEB = $(BUILD)/deb/lazy-tscdeadline

deb:
	@rm -rf $(BUILD)/deb && mkdir -p $(DEB)
	@cp -r abi guest host $(DEB)/ && mv $(DEB)/host/debian $(DEB)/debian
	@cp guest/debian/* $(DEB)/debian/
	@$(if $(DEB_VERSION),sed -i '1s/(.*)/($(DEB_VERSION))/' $(DEB)/debian/changelog)
	@echo "deb: building packages"
	@cd $(DEB) && if ! dpkg-buildpackage -us -uc -b >../build.log 2>&1; then \
		tail -n 20 ../build.log >&2; exit 1; fi
	@rm -r $(DEB)
	@ls -1 $(BUILD)/deb/*.deb

check-packages:
	@tests/setup -x tests/packages/build.txt
	@$(MAKE) --no-print-directory deb tests
	prove --timer --failures --exec '' tests/packages/run

clean:
	rm -rf $(BUILD)

.PHONY: help setup host host-double guest tests series debug-kernel deb clean
.PHONY: check check-debug check-lifecycle check-packages check-qemu check-selftests
.PHONY: check-series check-vmx fuzz soak mutants
.PHONY: demo bench sim
