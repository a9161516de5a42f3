# The demo's table, tab-separated, from its result.
def shown:
	if . == null then "-"
	elif . == floor then tostring
	elif . < 10 then (. * 1000 | round / 1000 | tostring)
	else (. * 10 | round / 10 | tostring) end;
def ratio($off; $on):
	if $off == null or $on == null or $on == 0 then "-"
	else ($off / $on | shown) end;
def row($name; $off; $on):
	[$name, ($off | shown), ($on | shown), ratio($off; $on)];

. as { $off, $on } |
(["", "off", "on", "off/on"],
 row("netperf TCP_RR: transactions/s"; $off.tcp_rr_per_s; $on.tcp_rr_per_s),
 row("all exits"; $off.all_exits; $on.all_exits),
 ($off.exits + $on.exits | keys_unsorted | unique[] |
	row("  exit: " + .; $off.exits[.] // 0; $on.exits[.] // 0)),
 row("TSC deadline writes"; $off.tsc_deadline_writes; $on.tsc_deadline_writes),
 row("halts"; $off.halts; $on.halts),
 row("writes per halt"; $off.writes_per_halt; $on.writes_per_halt),
 row("writes per transaction"; $off.writes_per_transaction; $on.writes_per_transaction),
 row("writes per vCPU tick of 4 ms"; $off.writes_per_tick; $on.writes_per_tick),
 row("exits per transaction"; $off.all_exits / $off.transactions; $on.all_exits / $on.transactions),
 row("guest timer interrupts"; $off.timer_interrupts; $on.timer_interrupts),
 row("host timer looks, re-armed"; $off.looks_rearm; $on.looks_rearm),
 row("cyclictest 1 ms: min us"; $off.cyclictest_min_us; $on.cyclictest_min_us),
 row("cyclictest 1 ms: avg us"; $off.cyclictest_avg_us; $on.cyclictest_avg_us),
 row("cyclictest 1 ms: max us"; $off.cyclictest_max_us; $on.cyclictest_max_us),
 row("cyclictest: writes per wakeup"; $off.cyclictest_writes_per_wakeup;
	$on.cyclictest_writes_per_wakeup)) | @tsv
