# The demo's result: an object per mode, from what collect prints.
def one($mode; $workload):
	map(select(.mode == $mode and .workload == $workload))[0];
def summary($mode):
	one($mode; "tcp_rr") as $rr | one($mode; "cyclictest") as $ct |
	$rr + {
		transactions: $rr.units,
		writes_per_transaction: $rr.writes_per_unit,
		cyclictest_min_us: $ct.min_us,
		cyclictest_avg_us: $ct.avg_us,
		cyclictest_max_us: $ct.max_us,
		cyclictest_writes_per_wakeup: $ct.writes_per_unit,
		cyclictest: $ct
	} | del(.units, .writes_per_unit, .mode, .workload, .repetition);
{ off: summary("off"), on: summary("on") }
