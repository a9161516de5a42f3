# SPDX-License-Identifier: GPL-2.0-only
#
# Turns the TAP of one scenario into a part of a longer one.  Set name (of the
# scenario) and count (tests so far).  Passes the tests on, numbered on, and
# adds one for the verdict: the plan is there and kept, the program said at the
# end that all is well.  Exit status: the new count, as the last line ":N".

function result(line, what)
{
	sub(/^(not )?ok[ \t]*[0-9]*[ \t]*(- )?/, "", line)
	print what, ++count, "-", name ": " line
	fflush()
}

{ sub(/\r$/, "") }

/^ok( |$)/	{ seen++; result($0, "ok"); next }
/^not ok( |$)/	{ seen++; failed++; result($0, "not ok"); next }
/^1\.\.[0-9]+/	{ plan = substr($1, 4); planned = 1; skipped = $0 ~ /# *SKIP/; next }
/^Bail out!/	{ bailed = $0 }
/^# verdict /	{ verdict = $3; next }
		{ sub(/^# /, ""); print "# " name ": " $0 }

END {
	if (bailed)
		complaint = bailed
	else if (verdict == "")
		complaint = "no verdict: it hung or crashed"
	else if (!planned)
		complaint = "no plan"
	else if (plan != seen)
		complaint = plan " tests planned, " seen + 0 " seen"
	else if (plan == 0 && !skipped)
		complaint = "no tests"
	else if (verdict != 0 && !failed)
		complaint = "exit status " verdict
	result("verdict", complaint ? "not ok" : "ok")
	if (complaint)
		print "# " name ": " complaint
	print ":" count, failed + 0 || complaint != ""
}
