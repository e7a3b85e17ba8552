/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backend/emu/codemap.h"

#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"

#define FLAG_EXEC 0x10u /* MFD_EXEC, Linux 6.3 */

static uint8_t *map(int fd, size_t size, int protection)
{
	void *p = mmap(NULL, size, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

int emu_codemap_new(const char *what, size_t size, uint8_t **write, uint8_t **execute)
{
	int fd = memfd_create(what, MFD_CLOEXEC | FLAG_EXEC), err;

	*write = *execute = NULL;
	if (fd < 0)
		fd = memfd_create(what, MFD_CLOEXEC);
	if (fd < 0)
		return vc_fail_errno(errno, "no memory object for %s", what);
	if (ftruncate(fd, (off_t)size) == 0 && (*write = map(fd, size, PROT_READ | PROT_WRITE)))
		*execute = map(fd, size, PROT_READ | PROT_EXEC);
	err = errno;
	close(fd);
	if (*execute)
		return 0;
	emu_codemap_free(*write, NULL, size);
	*write = NULL;
	return vc_fail_errno(err, "cannot map %zu bytes for %s, once to write and once to execute", size, what);
}

void emu_codemap_free(uint8_t *write, uint8_t *execute, size_t size)
{
	if (write)
		munmap(write, size);
	if (execute)
		munmap(execute, size);
}
