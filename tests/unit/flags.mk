# SPDX-License-Identifier: GPL-2.0-only
$(out)/unit/test_sim.o: private override CPPFLAGS += -DBENCHMARKS='"$(top)/benchmarks"'
