# SPDX-License-Identifier: GPL-2.0-only
#
# Takes literal blocks and tables out of reStructuredText.  -v what=LIST prints a
# line "FILE LINE KIND" for each literal block, KIND being what the comment
# ".. run: KIND" before it says, or "unmarked"; what=RUN with kind=KIND prints the
# blocks of that kind, each after a line "#@ FILE:LINE"; what=ALL all blocks; what=NAMES with kind=KIND
# the first column of the tables that ".. names: KIND" precedes.

function indent_of(line)
{
	match(line, /^[ \t]*/)
	return RLENGTH
}

function put()
{
	if (what == "LIST")
		print FILENAME, first, mark
	mine = what == "ALL" || what == "RUN" && mark == kind
	if (mine && what == "RUN")
		print "#@ " FILENAME ":" first
	mark = "unmarked"
}

FNR == 1 { block = waiting = table = mine = 0; mark = "unmarked" }

/^[ \t]*\.\. run: / {
	mark = $3
	sub(/,$/, "", mark)
	next
}

/^[ \t]*\.\. names: / { names = $3; table = 1; next }

# The rules of a simple table: head, (head's end,) end.
table && /^=+ +=/ {
	if (table == 3 && what == "NAMES")
		table = 0
	else
		table = table == 1 ? 3 : 0
	next
}

table == 3 && what == "NAMES" && names == kind && /^[a-z]/ { print $1 }

waiting && NF {
	waiting = 0
	if (indent_of($0) > base) {
		block = 1
		first = FNR
		inside = indent_of($0)
		put()
	}
}

block && NF && indent_of($0) < inside { block = mine = 0 }

block {
	if (mine)
		print substr($0, inside + 1)
	next
}

/::$/ && !/^[ \t]*\.\./ {
	waiting = 1
	base = indent_of($0)
}
