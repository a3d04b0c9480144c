/* Which system calls what runs in a container may make.
 *
 * The daemon writes programs for the kernel (package seccomp), and this loads
 * them: into init, at the moment at which liblxc would load one that it has
 * made itself, and into each program of cuib exec. So both have the same, and
 * liblxc, which takes 2 ms to make one at each start, makes none.
 *
 * liblxc calls seccomp_load() of libseccomp for that, and then execvp(). Both
 * are defined here: a program's own symbols come first, if it exports them. The
 * filter is loaded with init's program, so that it need allow nothing that
 * liblxc does before. The profile that liblxc gets allows nothing: if it ever
 * came to be loaded, no container would start; and what reports the start makes
 * sure that there is a filter (start.c). */
#include "shim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static int load(const char *program, size_t length, unsigned flags)
{
	struct sock_fprog p = {
		(unsigned short)(length / sizeof(struct sock_filter)),
		(struct sock_filter *)program,
	};

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

/* load_told loads the filter of calls that a handler is told of, and gives
 * that the descriptor which it is told by. */
static bool load_told(const struct filters *f, char what)
{
	/* Without the first, signals would interrupt a call while somebody works
	 * for it, and it would be made again after that. */
	int fd = load(f->notify, f->notify_length, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);

	if (fd < 0 && errno == EINVAL) /* Linux before 5.19. */
		fd = load(f->notify, f->notify_length, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	if (fd < 0)
		return false;
	bool sent = send_fds(f->handler, &what, 1, &fd, 1);
	close(fd);
	return sent;
}

bool load_filters(const struct filters *f, char what)
{
	if (f->notify != NULL && f->handler >= 0 && !load_told(f, what))
		return false;
	return f->main == NULL || load(f->main, f->main_length, 0) == 0;
}

void read_filters(struct filters *f, const char *main, const char *notify)
{
	*f = (struct filters){.handler = -1};
	if (strcmp(main, "-") != 0 && (f->main = read_file(main, &f->main_length)) == NULL)
		die("cannot read %s: %m", main);
	if (strcmp(notify, "-") != 0 && (f->notify = read_file(notify, &f->notify_length)) == NULL)
		die("cannot read %s: %m", notify);
}

/* Those of the container that the start mode starts. */
struct filters init_filters = {.handler = -1};

static bool due; /* In the process that is to become init. */

__attribute__((visibility("default"))) int seccomp_load(const void *made);
int seccomp_load(const void *made)
{
	(void)made;
	due = init_filters.main != NULL;
	return due ? 0 : -EINVAL;
}

__attribute__((visibility("default"))) int execvp(const char *file, char *const argv[])
{
	if (due && !load_filters(&init_filters, NEW_INIT))
		return -1;
	return execvpe(file, argv, environ);
}

/* count_filters returns how many filters a process has. */
long count_filters(pid_t pid)
{
	static const char field[] = "\nSeccomp_filters:";
	char *path = formatted("/proc/%d/status", pid);
	char *status = read_file(path, NULL), *at = status != NULL ? strstr(status, field) : NULL;
	long n = at != NULL ? atol(at + sizeof field - 1) : 0;

	free(status);
	free(path);
	return n;
}
