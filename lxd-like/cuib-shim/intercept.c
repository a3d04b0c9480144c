/* The handler of a container's intercepted system calls.
 *
 * The filter of such a container (filter.c) holds a process in a call and tells
 * the handler of it, which does what the call asks for, as far as the container
 * may have that, and says what the call returns.
 *
 * It is a process of the container's own. The start mode forks it, so it runs
 * as long as the container, whatever becomes of the daemon; and no container
 * waits for, or can harm, the handler of another. The descriptors that it is
 * told by come over a socket in the container's directory: one from init, and
 * one from each program of cuib exec, before it runs.
 *
 * There are two of it. One waits for the end of the other, with which it has
 * all descriptors in common, and puts a new one in its place; the other does so
 * for the first. If both go, the kernel answers the calls with ENOSYS.
 *
 * Each call is answered by a process of its own, which can be held up by the
 * caller's memory or file systems: it has a limited time, and there is a limited
 * number of them. The arguments are read once, and what is done is done with
 * what was read. What the caller may do itself is done by a process that is as
 * the caller is (caller.c), in its namespaces and root directory, with its ids
 * and capabilities. What is beyond that is done to descriptors that come from
 * there, by one that has entered nothing of the container's. */
#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <linux/audit.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET "intercept.sock"

enum {
	LISTENERS = 4096, /* Programs of cuib exec at the same time, at most. */
	GREETINGS = 64,   /* Programs that are about to run. */
	ANSWERS = 16,     /* Calls that are answered at the same time. */
	SECONDS = 30,     /* For one answer. */
	PAUSE_MS = 10,
	SWEEP_MS = 1000,
};

struct answer {
	pid_t worker; /* 0 for none. */
	int listener;
	uint64_t id;
	time_t begun;
};

/* What both processes know, and the next one in the place of one that ended. */
static struct state {
	pid_t shim, init;
	int shim_fd, init_fd, socket;
	pid_t keeper;
	int listeners[LISTENERS];
	size_t nlisteners;
	int greetings[GREETINGS];
	size_t ngreetings;
	struct answer answers[ANSWERS];
} *state;

struct instance instance;

static int pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

bool still_there(const struct caller *c)
{
	return ioctl(c->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &c->request.id) == 0;
}

static void respond(int listener, uint64_t id, long result)
{
	struct seccomp_notif_resp r = {.id = id};

	if (result == PROCEED)
		r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (result < 0)
		r.error = (int)result;
	else
		r.val = result;
	/* Who waited may have been killed: then nobody wants to know. */
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

#if defined __x86_64__
#define NATIVE AUDIT_ARCH_X86_64
#define COMPAT AUDIT_ARCH_I386
#define X32 0x40000000
static const int compat_calls[] = {14, 297, 226, 227, 228, 21, 357, 156, 116};
#elif defined __aarch64__
#define NATIVE AUDIT_ARCH_AARCH64
#define COMPAT AUDIT_ARCH_ARM
#define X32 0
#define SYS_mknod -1
static const int compat_calls[] = {14, 324, 226, 227, 228, 21, 386, 156, 116};
#endif
static const int calls[] = {
	SYS_mknod, SYS_mknodat, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_mount, SYS_bpf, SYS_sched_setscheduler, SYS_sysinfo,
};

static enum what what_call(const struct seccomp_data *d)
{
	const int *list = d->arch == NATIVE ? calls : compat_calls;
	int number = d->arch == NATIVE ? d->nr & ~X32 : d->nr;

	for (int i = 0; i < NOTHING && (d->arch == NATIVE || d->arch == COMPAT); i++)
		if (list[i] == number)
			return (enum what)i;
	return NOTHING;
}

static const struct {
	const char *name;
	long (*handle)(struct caller *c);
} handlers[] = {
	[MKNOD] = {"mknod", make_node},
	[MKNODAT] = {"mknod", make_node},
	[SETXATTR] = {"setxattr", set_attribute},
	[LSETXATTR] = {"setxattr", set_attribute},
	[FSETXATTR] = {"setxattr", set_attribute},
	[MOUNT] = {"mount", mount_device},
	[BPF] = {"bpf", device_program},
	[SETSCHEDULER] = {"sched_setscheduler", set_scheduler},
	[SYSINFO] = {"sysinfo", show_sysinfo},
};

/* answer answers one call. It runs in a process of its own. */
static void answer(int listener, const struct seccomp_notif *request) __attribute__((noreturn));
static void answer(int listener, const struct seccomp_notif *request)
{
	struct caller c = {
		.listener = listener, .request = *request, .what = what_call(&request->data), .compat = request->data.arch != NATIVE,
	};
	long result = -ENOSYS; /* For what nobody does: raw.seccomp can ask for anything. */

	setpgid(0, 0); /* So that all of it can be ended. */
	instance.init = state->init;
	if (c.what != NOTHING && setting("call", handlers[c.what].name))
		result = learn_caller(&c) ? handlers[c.what].handle(&c) : -ESRCH;
	else if (c.what != NOTHING)
		result = PROCEED;
	if (result != ANSWERED) {
		/* What was opened for the call is in use, such as a mount, until it is closed. */
		close_others(listener);
		respond(listener, request->id, result);
	}
	_exit(0);
}

static struct answer *free_answer(void)
{
	for (size_t i = 0; i < ANSWERS; i++)
		if (state->answers[i].worker == 0)
			return &state->answers[i];
	return NULL;
}

/* take receives one call and has it answered. */
static void take(int listener, struct answer *a)
{
	struct seccomp_notif request = {0};

	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
		return; /* It was killed. */
	*a = (struct answer){.worker = -1, .listener = listener, .id = request.id, .begun = now()};
	pid_t pid = fork();
	if (pid == 0)
		answer(listener, &request);
	a->worker = pid;
	if (pid < 0) {
		respond(listener, request.id, -EAGAIN);
		a->worker = 0;
	}
}

/* sweep frees the places of answers that were given, and ends those that take
 * too long. To who has not been answered it says that it was interrupted. */
static void sweep(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	for (size_t i = 0; i < ANSWERS; i++) {
		struct answer *a = &state->answers[i];
		if (a->worker == 0)
			continue;
		if (a->worker > 0 && kill(a->worker, 0) == 0) {
			if (now() - a->begun > SECONDS)
				kill(-a->worker, SIGKILL);
			continue;
		}
		respond(a->listener, a->id, -EIO); /* Fails if it was answered. */
		a->worker = 0;
	}
}

/* greet takes the descriptor that a new program is told of by. */
static void greet(int connection)
{
	union {
		char data[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	char what = 0;
	int fd = -1;
	pid_t from = 0;
	struct iovec iov = {&what, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = sizeof control.data};

	if (recvmsg(connection, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != 1) {
		if (state->init == 0) /* The start has failed, and another begins. */
			_exit(0);
		return;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
		if (c->cmsg_type == SCM_CREDENTIALS)
			from = ((const struct ucred *)(const void *)CMSG_DATA(c))->pid;
	}
	if (what == NEW_INIT && from > 0 && state->init == 0) {
		state->init_fd = pidfd(from);
		state->init = from;
	}
	if (fd >= 0 && state->nlisteners < LISTENERS)
		state->listeners[state->nlisteners++] = fd;
	else if (fd >= 0)
		close(fd);
}

static void drop(int *list, size_t *n, size_t i)
{
	close(list[i]);
	list[i] = list[--*n];
}

static void accept_greeting(void)
{
	struct ucred peer;
	socklen_t length = sizeof peer;
	int fd = accept4(state->socket, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (state->ngreetings == GREETINGS || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ||
	    peer.uid != geteuid()) {
		close(fd);
		return;
	}
	state->greetings[state->ngreetings++] = fd;
}

/* The fixed members of what is polled; greetings and listeners follow. */
enum { CHILDREN, KEEPER, SHIM, INIT, SOCKETS, FIXED };

/* list fills in what is polled. While all places for answers are taken, calls
 * wait in the kernel. */
static size_t list(struct pollfd *p, int children, int keeper)
{
	size_t n = FIXED;
	int fixed[FIXED] = {
		[CHILDREN] = children, [KEEPER] = keeper, [SHIM] = state->shim_fd,
		[INIT] = state->init > 0 ? state->init_fd : -1, [SOCKETS] = state->socket,
	};

	for (int i = 0; i < FIXED; i++)
		p[i] = (struct pollfd){.fd = fixed[i], .events = POLLIN};
	for (size_t i = 0; i < state->ngreetings; i++)
		p[n++] = (struct pollfd){.fd = state->greetings[i], .events = POLLIN};
	for (size_t i = 0; i < state->nlisteners; i++)
		p[n++] = (struct pollfd){.fd = state->listeners[i], .events = free_answer() != NULL ? POLLIN : 0};
	return n;
}

/* act does what polling has found, from the end, as members that go are
 * replaced by the last one. */
static void act(const struct pollfd *p, size_t ngreetings, size_t nlisteners)
{
	const struct pollfd *greetings = p + FIXED, *listeners = greetings + ngreetings;

	for (size_t i = nlisteners; i-- > 0;) {
		struct answer *a = free_answer();
		if ((listeners[i].revents & POLLIN) && a != NULL)
			take(listeners[i].fd, a);
		else if (listeners[i].revents & (POLLHUP | POLLERR | POLLNVAL))
			drop(state->listeners, &state->nlisteners, i);
	}
	for (size_t i = ngreetings; i-- > 0;)
		if (greetings[i].revents != 0) {
			greet(greetings[i].fd);
			drop(state->greetings, &state->ngreetings, i);
		}
	if (p[SOCKETS].revents & POLLIN)
		accept_greeting();
}

static void keep(void) __attribute__((noreturn));

/* close_strays closes what the one before had open for itself. */
static bool is_kept(int fd)
{
	if (fd == state->shim_fd || fd == state->socket || (state->init > 0 && fd == state->init_fd))
		return true;
	for (size_t i = 0; i < state->ngreetings; i++)
		if (state->greetings[i] == fd)
			return true;
	for (size_t i = 0; i < state->nlisteners; i++)
		if (state->listeners[i] == fd)
			return true;
	return false;
}

static void close_strays(void)
{
	for (int fd = 3; fd < LISTENERS + GREETINGS + FIXED; fd++)
		if (!is_kept(fd))
			close(fd);
}

static void serve(void) __attribute__((noreturn));
static void serve(void)
{
	static struct pollfd p[FIXED + GREETINGS + LISTENERS];
	sigset_t child;

	close_strays();
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	int children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	int keeper = pidfd(state->keeper);
	for (;;) {
		size_t greetings = state->ngreetings, listeners = state->nlisteners;
		bool busy = false;
		for (size_t i = 0; i < ANSWERS; i++)
			busy = busy || state->answers[i].worker != 0;
		int ready = poll(p, list(p, children, keeper), busy ? SWEEP_MS : -1);
		if (ready < 0 && errno != EINTR)
			_exit(1);
		if (p[SHIM].revents != 0 || p[INIT].revents != 0)
			_exit(0);
		if (keeper < 0 || p[KEEPER].revents != 0)
			keep();
		struct signalfd_siginfo info;
		while (read(children, &info, sizeof info) > 0)
			;
		sweep();
		if (ready > 0)
			act(p, greetings, listeners);
	}
}

/* keep has another process serve, and waits for its end, which has the
 * descriptors in common with it: so they stay. */
static void keep(void)
{
	for (;;) {
		state->keeper = getpid();
		pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_FILES | SIGCHLD), 0, 0, 0, 0);
		if (pid == 0)
			serve();
		int status = 0;
		while (pid > 0 && (waitpid(pid, &status, 0) != pid || !(WIFEXITED(status) || WIFSIGNALED(status))))
			;
		if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
			_exit(0);
		poll(NULL, 0, PAUSE_MS);
	}
}

static void name_socket(int dir, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/" SOCKET, dir);
}

/* connect_handler connects to the handler of the container whose files are in
 * dir. It returns -1 if there is none. */
int connect_handler(const char *dir)
{
	struct sockaddr_un address;
	int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	name_socket(at, &address);
	if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		close(fd);
		fd = -1;
	}
	close(at);
	return fd;
}

static int listen_in(const char *dir)
{
	struct sockaddr_un address;
	int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int yes = 1, fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	unlinkat(at, SOCKET, 0);
	name_socket(at, &address);
	/* Connections have it from the start: without it a greeting that comes between
	 * the acceptance and the option says not from whom it is. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
	    fchmodat(at, SOCKET, 0600, 0) < 0 || listen(fd, GREETINGS) < 0)
		die("cannot listen in %s: %m", dir);
	close(at);
	return fd;
}

/* settle_down makes the first of the processes one that is nobody's child, and
 * holds nothing of what the start mode has. */
static void settle_down(char **argv, const char *dir, const char *name)
{
	struct rlimit files;

	strcpy(argv[1], "calls"); /* The daemon finds those with "start", which is as long. */
	prctl(PR_SET_NAME, "cuib-calls");

	setsid();
	setpriority(PRIO_PROCESS, 0, 5); /* The container's own programs come first. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	hide_from_guests();
	instance = (struct instance){.dir = dir, .name = name};
	umask(022);
}

/* start_handler starts the handler of the container that this process, whose
 * arguments it gets, starts; and returns a connection to it. */
int start_handler(char **argv)
{
	const char *dir = argv[2], *name = argv[3];
	char *own = formatted("%s/%s", dir, name);

	state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (state == MAP_FAILED)
		die("cannot share memory: %m");
	state->shim = getpid();
	state->shim_fd = pidfd(state->shim);
	state->init_fd = -1;
	state->socket = listen_in(own);
	pid_t pid = fork();
	if (pid < 0 || state->shim_fd < 0)
		die("cannot start the handler of system calls: %m");
	if (pid == 0) {
		if (fork() != 0)
			_exit(0);
		settle_down(argv, own, name);
		keep();
	}
	waitpid(pid, NULL, 0);
	close(state->socket);
	close(state->shim_fd);
	int fd = connect_handler(own);
	if (fd < 0)
		die("cannot reach the handler of system calls: %m");
	return fd;
}
