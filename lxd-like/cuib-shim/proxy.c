/* The proxy mode: cuib-shim proxy DIR INSTANCE DEVICE OPTION=VALUE...
 *
 * It passes on what clients of one side, the host or an instance, say to a
 * server of the other. It is one process for each device, which outlives the
 * daemon and ends with the instance's init, whose pidfd is FD_INIT. DIR,
 * INSTANCE and DEVICE tell people, and the daemon, whose it is.
 *
 *   init=PID      of the instance's init
 *   bind=SIDE     host or instance: where it listens
 *   listen=ADDRESS, connect=ADDRESS   see relay.h
 *   header=1      servers get a PROXY header
 *   mode=, uid=, gid=   of a socket in the file system that it listens on
 *   as=UID:GID    who it is when it connects
 *
 * Sockets belong to the network namespace that they are made in, whoever has
 * them. So a process of its own makes those to listen on in the instance, as
 * the instance's root, and stays to look after one with a path; and those for the host are made before this process
 * enters the instance for good: it only ever connects from where it is, and
 * needs no capability for that. Paths are those of where it is, too: none of an
 * instance is looked up in the host's mounts.
 *
 * FD_CONTROL is a socket of messages. It tells the daemon R when it is ready,
 * B PORT if somebody listens there, or F TEXT; and begins when it is told G. If
 * the daemon ends before that, so does it: nobody would know of it. */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

struct rule rule;

static void failed(const char *what) __attribute__((noreturn));
static void failed(const char *what)
{
	char *text = formatted("F%s: %s", what, strerror(errno));

	send_fds(FD_CONTROL, text, strlen(text), NULL, 0);
	exit(1);
}

static bool take(struct rule *r, const char *name, size_t length, const char *value)
{
#define IS(n) (length == sizeof n - 1 && memcmp(name, n, length) == 0)
	char end;

	if (IS("init"))
		return sscanf(value, "%d%c", &r->init, &end) == 1;
	if (IS("bind"))
		return r->in_instance = strcmp(value, "instance") == 0, true;
	if (IS("listen"))
		return parse_address(&r->listen, value);
	if (IS("connect"))
		return parse_address(&r->connect, value);
	if (IS("header"))
		return r->header = strcmp(value, "1") == 0, true;
	if (IS("mode"))
		return sscanf(value, "%o%c", &r->mode, &end) == 1;
	if (IS("uid"))
		return sscanf(value, "%u%c", &r->uid, &end) == 1;
	if (IS("gid"))
		return sscanf(value, "%u%c", &r->gid, &end) == 1;
	if (IS("as"))
		return r->drops = true, sscanf(value, "%u:%u%c", &r->suid, &r->sgid, &end) == 2;
	return false;
#undef IS
}

static void read_rule(struct rule *r, int argc, char **argv)
{
	r->mode = 0644;
	for (int i = 5; i < argc; i++) {
		size_t length = strcspn(argv[i], "=");
		if (argv[i][length] != '=' || !take(r, argv[i], length, argv[i] + length + 1))
			errno = EINVAL, failed(argv[i]);
	}
	if (r->init <= 0 || r->listen.nports == 0 || r->connect.nports == 0 ||
	    (r->connect.nports > 1 && r->connect.nports != r->listen.nports))
		errno = EINVAL, failed("addresses");
}

static void allow_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		failed("read the limit of open files");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		failed("raise the limit of open files");
}

/* root_of enters an instance's namespaces and becomes its root. Its mounts are
 * entered only where they are needed, as they stay while somebody is in them. */
static void root_of(const struct rule *r, bool mounts)
{
	int flags = CLONE_NEWNET | (mounts ? CLONE_NEWNS : 0);
	struct stat own, other;
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/ns/user", r->init);
	if (stat("/proc/self/ns/user", &own) < 0 || stat(path, &other) < 0)
		failed("see the instance's namespaces");
	if (syscall(SYS_pidfd_send_signal, FD_INIT, 0, NULL, 0) < 0)
		failed("see the instance"); /* It has ended: the number can be another's. */
	if (own.st_ino != other.st_ino || own.st_dev != other.st_dev)
		flags |= CLONE_NEWUSER;
	if (setns(FD_INIT, flags) < 0)
		failed("enter the instance");
	if ((flags & CLONE_NEWUSER) && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		failed("become the instance's root");
	hide_from_guests();
}

static bool has_path(const struct address *a)
{
	return a->kind == UNIX && a->at.path.sun_path[0] != 0;
}

static void listen_here(const struct rule *r, int **fds, size_t *n)
{
	char *error;

	if (open_listeners(r, fds, n, &error) == 0)
		return;
	send_fds(FD_CONTROL, error, strlen(error), NULL, 0);
	exit(1);
}

/* keep makes the socket anew when it is not where it is to be, as guests mount
 * file systems over their directories when they boot, and clean them up. It
 * passes the new one on to the proxy and ends with that, or with the guest. */
static void keep(const struct rule *r, int proxy) __attribute__((noreturn));
static void keep(const struct rule *r, int proxy)
{
	const char *path = r->listen.at.path.sun_path;
	struct pollfd p[] = {{.fd = proxy, .events = POLLIN}, {.fd = FD_INIT, .events = POLLIN}};
	struct stat ours, there;
	int rounds = 0;

	close(FD_CONTROL);
	confine_keeper();
	if (lstat(path, &ours) < 0)
		memset(&ours, 0, sizeof ours);
	for (;;) {
		int wait = rounds < 40 ? 250 : rounds < 160 ? 1000 : 10000;
		int ready = poll(p, 2, wait);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready != 0)
			_exit(0);
		rounds++;
		if (lstat(path, &there) == 0 && there.st_ino == ours.st_ino && there.st_dev == ours.st_dev)
			continue;
		int *fds;
		size_t n;
		char *error = NULL;
		if (open_listeners(r, &fds, &n, &error) == 0) {
			if (lstat(path, &ours) < 0 || !send_fds(proxy, "", 1, fds, 1))
				_exit(1);
			close(fds[0]);
		}
		free(fds);
		free(error);
	}
}

/* end_with has the kernel end this process when the other end of a pipe closes,
 * to which nothing is written, also while it waits for a file system that a guest
 * has made. (PR_SET_PDEATHSIG is forgotten when a process changes its ids, and
 * the proxy may not send signals to another's process.) */
static void end_with(int pipe)
{
	struct pollfd p = {.fd = pipe};

	if (fcntl(pipe, F_SETOWN, getpid()) < 0 || fcntl(pipe, F_SETFL, O_ASYNC) < 0)
		failed("watch the proxy");
	if (poll(&p, 1, 0) != 0)
		_exit(1); /* It ended before. */
}

/* await_sockets waits until something comes, and ends with the daemon: nobody
 * would know of this process. */
static void await_sockets(int from)
{
	struct pollfd p[] = {{.fd = from, .events = POLLIN}, {.fd = FD_CONTROL, .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			failed("wait");
	if (p[1].revents != 0)
		exit(1);
}

/* listen_inside has a process in the instance make the sockets. It returns a
 * socket on which others come that are to take their place, or -1. */
static int listen_inside(const struct rule *r, int **fds, size_t *n)
{
	int pair[2], life[2], status;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || pipe2(life, O_CLOEXEC) < 0)
		failed("make a socket");
	pid_t pid = fork();
	if (pid < 0)
		failed("fork");
	if (pid == 0) {
		prctl(PR_SET_NAME, "cuib-keeper", 0, 0, 0);
		close(pair[0]);
		close(life[1]);
		root_of(r, has_path(&r->listen));
		end_with(life[0]);
		listen_here(r, fds, n);
		for (size_t i = 0; i < *n; i++)
			if (!send_fds(pair[1], "", 1, *fds + i, 1))
				failed("pass a socket on");
		if (!has_path(&r->listen))
			_exit(0);
		close(**fds);
		keep(r, pair[1]);
	}
	close(pair[1]);
	close(life[0]); /* The other end is open for as long as this process is there. */
	*fds = calloc(r->listen.nports, sizeof **fds);
	if (*fds == NULL)
		die("out of memory");
	for (*n = 0; *n < r->listen.nports; (*n)++) {
		char nothing;
		int got[MAX_FDS], count;
		await_sockets(pair[0]);
		if (receive_fds(pair[0], &nothing, 1, got, &count) != 1 || count != 1)
			break;
		(*fds)[*n] = got[0];
	}
	if (*n < r->listen.nports)
		exit(1); /* The other has said why. */
	if (has_path(&r->listen))
		return pair[0];
	close(pair[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			failed("wait");
	return -1;
}

int proxy(int argc, char **argv)
{
	size_t n;
	int *listeners, others = -1;
	char word;

	if (argc < 5)
		die("usage: proxy DIR INSTANCE DEVICE OPTION=VALUE...");
	hide_from_guests();
	prctl(PR_SET_NAME, "cuib-proxy", 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	read_rule(&rule, argc, argv);
	allow_files();
	if (rule.in_instance) {
		others = listen_inside(&rule, &listeners, &n);
	} else {
		listen_here(&rule, &listeners, &n);
		root_of(&rule, has_path(&rule.connect));
	}
	if (chdir("/") < 0)
		failed("enter /");
	prepare_relay(listeners, n, others);
	if (!send_fds(FD_CONTROL, "R", 1, NULL, 0) || read(FD_CONTROL, &word, 1) != 1 || word != 'G')
		return 1;
	close(FD_CONTROL);
	confine(&rule);
	relay();
}

/* proxy_forget: cuib-shim forget PID PATH removes the socket of a proxy that
 * listened in an instance, as the instance's root. */
int proxy_forget(int argc, char **argv)
{
	struct rule r = {0};

	if (argc != 4)
		die("usage: forget PID PATH");
	hide_from_guests();
	r.init = atoi(argv[2]);
	root_of(&r, true);
	remove_socket(argv[3]);
	return 0;
}
