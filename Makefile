# SPDX-License-Identifier: GPL-2.0-only

BUILD	?= $(CURDIR)/build
CACHE	:= $(or $(LAZY_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lazy-tscdeadline)
KERNELS	:= $(CACHE)/kernels

export BUILD

define HELP
lazy TSC deadline: KVM guests that program timers without VM exits

Usage: make TARGET [VARIABLE=VALUE]...

  help    this page (default)
  check   build everything and run all tests (20 minutes on two cores)
  check-vmx  the path of Intel CPUs, emulated by Bochs (10 minutes)
  check-lifecycle  suspend, migration, kexec, crash kernel, moving memory,
          new vCPUs
  check-packages  install these packages in a fresh Debian, boot it, remove them
  demo    measure what it gains on this machine, with and without
  bench   compare the modes on all workloads (an hour; BENCH='-r 1 -w tcp_rr'
          for parts, see benchmarks/bench -h)
  demo LAB=vmx, bench LAB=vmx  the same on Intel's path, in instruction time
  soak    timers for SOAK minutes (20) while CPUs come and go, next to random
          operations
  sim     what the policies cost for up to 100,000 vCPUs: a simulation
          (SIM='-n 100000 -t 2 -r fleet' for parts, see build/sim/sim -h)
  mutants take out essential parts one by one: do the tests notice? (an hour)

  setup   install the Debian packages that are needed, unpack kernels
          (Debian 12, as root or through sudo; check and demo do it themselves)
  host    build kvm.ko, kvm-amd.ko and kvm-intel.ko
  guest   build the guest's driver
  tests   build the test programs
  deb     Debian packages for DKMS, in build/deb
  clean   remove what was built

  BUILD=DIR       where builds and logs go (default: build)
  LAZY_CACHE=DIR  where kernels are unpacked
                  (default: ~/.cache/lazy-tscdeadline)

Single parts of the tests: tests/lab/run -h (scenarios in the nested lab),
tests/static (style), build/tests/unit/* (user space).
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
	tests/static $(wildcard tests/model/run) tests/lab/run

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
	prove --timer --failures --exec '' tests/vmx/run

demo: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	@benchmarks/demo

bench: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	@benchmarks/bench $(BENCH)

LIFECYCLE = suspend migrate kexec crash memory cpus

check-lifecycle: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	prove --timer --failures --exec '' tests/lab/run :: $(LIFECYCLE)

SOAK ?= 20

soak: setup
	@$(MAKE) --no-print-directory host
	@$(MAKE) --no-print-directory guest tests
	SOAK=$(SOAK) prove --timer --failures --verbose --exec '' tests/lab/run :: soak

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
	@tests/setup -x tests/packages/build.txt
	@rm -rf $(BUILD)/deb && mkdir -p $(DEB)
	@cp -r abi guest host $(DEB)/ && mv $(DEB)/host/debian $(DEB)/debian
	@cp guest/debian/* $(DEB)/debian/
	@$(if $(DEB_VERSION),sed -i '1s/(.*)/($(DEB_VERSION))/' $(DEB)/debian/changelog)
	@echo "deb: building packages"
	@cd $(DEB) && if ! dpkg-buildpackage -us -uc -b >../build.log 2>&1; then \
		tail -n 20 ../build.log >&2; exit 1; fi
	@rm -r $(DEB)
	@ls -1 $(BUILD)/deb/*.deb

check-packages: deb
	@$(MAKE) --no-print-directory tests
	prove --timer --failures --exec '' tests/packages/run

clean:
	rm -rf $(BUILD)

.PHONY: help setup host host-double guest tests deb check check-packages check-vmx check-lifecycle demo bench sim soak mutants clean
