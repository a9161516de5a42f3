# Medians of what bench measured, tab-separated, spread (max - min) in brackets.
def median: sort | if length == 0 then null
	elif length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def shown: if . == null then "-" else (. * 1000 | round / 1000 | tostring) end;

["workload", "mode", "rate/s", "avg us", "max us", "writes/tick", "writes/unit", "writes/halt",
 "writes/irq", "exits/unit", "irqs/unit", "guest timer irqs", "looks", "re-armed", "halts", "wakeups"],
(group_by(.workload)[] | group_by(.mode)[] |
	[.[0].workload, .[0].mode,
	 (map(.tcp_rr_per_s) | map(select(. != null)) | median | shown),
	 (map(.avg_us) | map(select(. != null)) | median | shown),
	 (map(.max_us) | map(select(. != null)) | median | shown),
	 (map(.writes_per_tick) | "\(median | shown) (\(max - min | shown))"),
	 (map(.writes_per_unit) | map(select(. != null)) | median | shown),
	 (map(.writes_per_halt) | map(select(. != null)) | median | shown),
	 (map(.writes_per_irq) | map(select(. != null)) | median | shown),
	 (map(.per_unit.all_exits) | map(select(. != null)) | median | shown),
	 (map(.per_unit.timer_interrupts) | map(select(. != null)) | median | shown),
	 (map(.timer_interrupts) | median | shown),
	 (map(.looks_hrtimer + .looks_vcpu) | median | shown),
	 (map(.looks_rearm) | median | shown),
	 (map(.halts) | median | shown),
	 (map(.wakeups) | median | shown)]) | @tsv
