# SPDX-License-Identifier: GPL-2.0-only
#
# The programs run parts of themselves as guests: at a fixed address, complete,
# and (the guest's parts) without anything that needs a C library, a red zone
# or more registers than an interrupt stub saves.

$(kvm): private override LDFLAGS += -static -no-pie
$(kvm:%=%.o): private override CFLAGS += -fno-pie

$(patsubst %,$(out)/kvm/%.o,guest lazy_guest fuzz_guest posted_guest \
		nested_guest nested_svm nested_vmx hv_guest mode_guest): \
	private override CFLAGS += -fno-pie -ffreestanding -mno-red-zone \
		-mgeneral-regs-only -fno-stack-protector -fno-jump-tables \
		-fno-tree-loop-distribute-patterns -fcf-protection=none

# Rows of a table name only the fields they need.
$(patsubst %,$(out)/kvm/test_%.o,lazy posted nested hv): private override CFLAGS += -Wno-missing-field-initializers
