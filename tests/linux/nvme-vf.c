/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nvme-vf DEVICE N: give virtual function N (from 1) of an NVMe controller two queues and an interrupt of its flexible
 * resources, and bring it online (NVM Express 1.4, 5.22). Without that its registers say that it never becomes ready.
 */
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum { VIRTUALIZATION = 0x1c, OFFLINE = 7, ASSIGN = 8, ONLINE = 9, QUEUES = 0, INTERRUPTS = 1 };

static int manage(int fd, unsigned controller, unsigned action, unsigned resource, unsigned count)
{
	struct nvme_admin_cmd command = {
	    .opcode = VIRTUALIZATION, .cdw10 = action | resource << 8 | controller << 16, .cdw11 = count};
	int r = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command);

	if (r)
		fprintf(stderr, "nvme-vf: action %u, resource %u of controller %u: %d\n", action, resource, controller, r);
	return r;
}

int main(int argc, char **argv)
{
	unsigned controller = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
	int fd = argc == 3 ? open(argv[1], O_RDWR) : -1;

	if (fd < 0 || !controller)
		return 64;
	manage(fd, controller, OFFLINE, 0, 0);
	return manage(fd, controller, ASSIGN, QUEUES, 2) || manage(fd, controller, ASSIGN, INTERRUPTS, 1) ||
	       manage(fd, controller, ONLINE, 0, 0);
}
