# SPDX-License-Identifier: GPL-2.0-only
#
# Sorts KCSAN's reports in a kernel's messages: a data race is ours if one of
# the two sides is in, or was called by, a function of the feature.
#
#	-v ours=1	print all messages but reports of other races
#	-v others=1	print how often each other race was reported

function report_ends()
{
	if (!race || mine)
		passed = report
	else
		count[race]++
	if (ours)
		printf "%s", passed
	report = passed = race = ""
	mine = within = 0
}

/=============================/ {
	report = report $0 "\n"
	within = !within
	if (!within)
		report_ends()
	next
}

within {
	report = report $0 "\n"
	# what another CPU said meanwhile
	if (/WARNING: |Oops|[Pp]anic|Call Trace|BUG at|BUG: [^K]/)
		passed = passed $0 "\n"
	if (sub(/.*BUG: KCSAN: /, "") && sub(/\r?$/, ""))
		race = $0
	if (/(^|[^a-z_])(kvm_)?lazy_/)
		mine = 1
	next
}

ours { print }

END {
	report_ends()
	for (race in count)
		if (others)
			print count[race] " " race
}
