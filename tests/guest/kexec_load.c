// SPDX-License-Identifier: GPL-2.0-only
/* Load a kernel to kexec into, now or after a panic. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void usage(void)
{
	puts("kexec_load - load a kernel to kexec into\n"
	     "\n"
	     "Usage: kexec_load [-p] KERNEL INITRD COMMAND-LINE\n"
	     "       kexec_load -e\n"
	     "\n"
	     "  -p  the kernel for after a panic\n"
	     "  -e  go there");
}

static int load(char **argv, unsigned long flags)
{
	int kernel = open(argv[0], O_RDONLY | O_CLOEXEC);
	int initrd = open(argv[1], O_RDONLY | O_CLOEXEC);

	if (kernel < 0 || initrd < 0) {
		perror("kexec_load: open");
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[2]) + 1, argv[2],
		    flags)) {
		perror("kexec_load: kexec_file_load");
		return 1;
	}
	return 0;
}

static int execute(void)
{
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_KEXEC, NULL);
	perror("kexec_load: reboot");
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long flags = 0;
	bool go = false;
	int c;

	while ((c = getopt(argc, argv, "pe")) != -1) {
		switch (c) {
		case 'p':
			flags = KEXEC_FILE_ON_CRASH;
			break;
		case 'e':
			go = true;
			break;
		default:
			usage();
			return 2;
		}
	}
	if (argc - optind != (go ? 0 : 3)) {
		usage();
		return 2;
	}
	return go ? execute() : load(argv + optind, flags);
}
