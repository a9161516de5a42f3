# SPDX-License-Identifier: GPL-2.0-only
obj-y := lazy_tscdeadline.o
lazy_tscdeadline-y := lazy_core.o lazy_builtin.o

ccflags-y += -I$(src)
