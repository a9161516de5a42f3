// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace.h"
#include "vm.h"

#define TRACING		"/sys/kernel/tracing/"
/* Of our own, so that others may count as well. */
#define INSTANCE	"instances/lazytest/"

/* Not by way of a FILE, which would truncate the file or look for its end. */
static bool __printf(2, 3) trace_write(const char *name, const char *text, ...)
{
	char path[128];
	va_list args;
	int fd, n;

	snprintf(path, sizeof(path), TRACING "%s", name);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return false;
	va_start(args, text);
	n = vdprintf(fd, text, args);
	va_end(args);
	close(fd);
	return n > 0;
}

/* A test before this one may have been stopped, and left all that. */
static void trace_forget(void)
{
	if (rmdir(TRACING INSTANCE) && errno != ENOENT)
		vm_die("cannot remove " INSTANCE);
	trace_write("kprobe_events", "-:" TRACE_PROBE);
}

void trace_probe(const char *function, const char *args)
{
	trace_forget();
	if (!trace_write("kprobe_events", "p:" TRACE_PROBE " %s %s", function, args))
		vm_die("cannot probe %s", function);
	if (mkdir(TRACING INSTANCE, 0700))
		vm_die("cannot make " INSTANCE);
}

void trace_count(const char *event, const char *key)
{
	char path[128];

	snprintf(path, sizeof(path), INSTANCE "events/%s/trigger", event);
	if (!trace_write(path, "hist:keys=%s if common_pid==%d", key, gettid()))
		vm_die("cannot count %s", event);
}

__u64 trace_hits(const char *event, __u64 value)
{
	char path[128], line[256];
	__u64 found, hits, sum = 0;
	FILE *file;

	snprintf(path, sizeof(path), TRACING INSTANCE "events/%s/hist", event);
	file = fopen(path, "re");
	if (!file)
		vm_die("%s", path);
	while (fgets(line, sizeof(line), file)) {
		const char *key = strchr(line, ':'), *hit = strstr(line, "hitcount:");

		if (line[0] != '{' || !key || !hit ||
		    sscanf(key + 1, "%llu", &found) != 1 ||
		    sscanf(hit, "hitcount: %llu", &hits) != 1)
			continue;
		if (found == value)
			sum += hits;
	}
	fclose(file);
	return sum;
}

void trace_end(void)
{
	trace_forget();
}
