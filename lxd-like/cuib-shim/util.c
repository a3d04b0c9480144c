#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* reset_signals gives back every signal's default action: whoever started the
 * daemon may have left some ignored, as shells do for what runs behind them,
 * and that is inherited by all that runs in the container. The system call is
 * made without glibc, which refuses its own two signals and whose posix_spawn
 * leaves them ignored. */
void reset_signals(void)
{
	static const unsigned long standard[4]; /* The kernel's struct sigaction. */
	sigset_t none;

	for (int i = 1; i < _NSIG; i++)
		syscall(SYS_rt_sigaction, i, standard, NULL, _NSIG / 8);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* hide_from_guests keeps a process that enters a container from being traced
 * there and from showing its descriptors and program: the guest's root would
 * need privileges over the host's user namespace. */
void hide_from_guests(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		die("cannot become undumpable: %m");
}

char *formatted(const char *format, ...)
{
	va_list args;
	char *s;

	va_start(args, format);
	if (vasprintf(&s, format, args) < 0)
		die("out of memory");
	va_end(args);
	return s;
}

/* read_file returns what a file holds, with a NUL after it, or NULL. */
char *read_file(const char *path, size_t *length)
{
	size_t used = 0, size = 4096;
	char *data = malloc(size);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	while (fd >= 0 && data != NULL) {
		n = read(fd, data + used, size - used - 1);
		if (n <= 0)
			break;
		used += (size_t)n;
		if (used + 1 == size)
			data = realloc(data, size *= 2);
	}
	if (fd >= 0)
		close(fd);
	if (n < 0 || data == NULL) {
		free(data);
		return NULL;
	}
	data[used] = 0;
	if (length != NULL)
		*length = used;
	return data;
}

bool write_all(int fd, const void *data, size_t length)
{
	const char *p = data;

	while (length > 0) {
		ssize_t n = write(fd, p, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		length -= (size_t)n;
	}
	return true;
}

union control {
	char data[CMSG_SPACE(MAX_FDS * sizeof(int))];
	struct cmsghdr align;
};

bool send_fds(int sock, const void *data, size_t length, const int *fds, int n)
{
	union control control = {0};
	struct iovec iov = {(void *)data, length};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n > 0) {
		msg.msg_control = control.data;
		msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == (ssize_t)length;
}

/* receive_fds receives one message with up to MAX_FDS descriptors. */
ssize_t receive_fds(int sock, void *data, size_t length, int *fds, int *n)
{
	union control control = {0};
	struct iovec iov = {data, length};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.data,
		.msg_controllen = sizeof control.data,
	};
	ssize_t got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);

	*n = 0;
	if (got < 0)
		return got;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)*n * sizeof(int));
	}
	return got;
}

/* open_container loads liblxc only where it is needed: it takes longer to
 * link than a program takes to run in a container. */
struct lxc_container *open_container(const char *dir, const char *name)
{
	void *lib = dlopen("liblxc.so.1", RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL)
		die("liblxc is not installed: %s", dlerror());
	struct lxc_container *(*open)(const char *, const char *);
	*(void **)&open = dlsym(lib, "lxc_container_new");
	if (open == NULL)
		die("liblxc lacks a function: %s", dlerror());
	struct lxc_container *c = open(name, dir);
	if (c == NULL)
		die("liblxc cannot open the container");
	return c;
}
