/* A session: it enters the container, starts one program there, and reports
 * over its socket:
 *
 *   F TEXT    it could not be started (and nothing after that)
 *   P PID     it runs; with a pidfd, and the terminal's controlling end
 *   S STATUS  it has ended, as a shell has it: 128 plus a signal's number
 *
 * The program's own process says itself, on its standard error, why it cannot
 * be executed, and ends with 127 or 126, as a shell does. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_CAP 63
#define PTMX_DEVICE makedev(5, 2)

static void fail(int sock, const char *what) __attribute__((noreturn));
static void fail(int sock, const char *what)
{
	char *reply = formatted("F%s: %s", what, strerror(errno));

	send_fds(sock, reply, strlen(reply), NULL, 0);
	_exit(1);
}

static bool set_rlimits(const struct request *r)
{
	for (size_t i = 0; i < r->nrlimits; i++) {
		unsigned resource;
		unsigned long long soft, hard;
		if (sscanf(r->rlimits[i], "%u=%llu:%llu", &resource, &soft, &hard) != 3)
			return errno = EINVAL, false;
		struct rlimit limit = {soft, hard};
		if (setrlimit((__rlimit_resource_t)resource, &limit) < 0)
			return false;
	}
	return true;
}

/* open_terminal makes a terminal of the container's own, so that it has a
 * name there. What is at the path is the guest's choice, so it is checked. */
static int open_terminal(const struct request *r, int *peer)
{
	struct stat st;
	struct statfs fs;
	int unlocked = 0;
	int fd = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -1;
	if (!S_ISCHR(st.st_mode) || st.st_rdev != PTMX_DEVICE || fs.f_type != DEVPTS_SUPER_MAGIC)
		return errno = ENODEV, -1;
	if (ioctl(fd, TIOCSPTLCK, &unlocked) < 0)
		return -1;
	*peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*peer < 0 || fchown(*peer, r->uid, (gid_t)-1) < 0)
		return -1;
	struct winsize size = {.ws_row = r->rows, .ws_col = r->columns};
	if (r->rows > 0 && r->columns > 0 && ioctl(fd, TIOCSWINSZ, &size) < 0)
		return -1;
	return fcntl(fd, F_SETFL, O_RDWR) < 0 ? -1 : fd;
}

static void refuse(int status, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
static void refuse(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vdprintf(STDERR_FILENO, format, args);
	va_end(args);
	_exit(status);
}

static void must(bool ok, const char *what)
{
	if (!ok)
		refuse(126, "cannot %s: %m\n", what);
}

/* set_standard_io puts the program's descriptors to 0, 1 and 2 and leaves it
 * with no others. */
static void set_standard_io(const int io[3])
{
	int moved[3];

	for (int i = 0; i < 3; i++) /* One could sit in the place of another. */
		if ((moved[i] = fcntl(io[i], F_DUPFD, 3)) < 0)
			_exit(126);
	for (int i = 0; i < 3; i++)
		if (dup2(moved[i], i) < 0)
			_exit(126);
}

/* set_exec_label asks for init's label at exec. pid is ours as the host's
 * /proc has it: the container's /proc can be anything. */
static void set_exec_label(const struct guest *g, pid_t pid)
{
	char *path = formatted("%d/attr/apparmor/exec", pid);
	char *text = formatted("exec %s", g->label);
	int fd = openat(g->proc, path, O_WRONLY | O_CLOEXEC);

	if (fd < 0) { /* Older kernels, and other modules. */
		free(path);
		path = formatted("%d/attr/exec", pid);
		fd = openat(g->proc, path, O_WRONLY | O_CLOEXEC);
	}
	must(fd >= 0 && write_all(fd, text, strlen(text)), "set the security label");
	close(fd);
	free(path);
	free(text);
}

static void confine(const struct guest *g)
{
	for (int cap = 0; cap <= LAST_CAP; cap++)
		if (!(g->bounding >> cap & 1) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			must(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0, "drop a capability");
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0, "clear ambient capabilities");
	if (g->personality != 0)
		must(personality(g->personality) >= 0, "set the personality");
	if (g->no_new_privs)
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "set no_new_privs");
}

static void become(const struct request *r)
{
	must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0, "keep capabilities");
	must(setgroups(0, NULL) == 0, "drop the supplementary groups");
	must(setresgid(r->gid, r->gid, r->gid) == 0, "become the group");
	must(setresuid(r->uid, r->uid, r->uid) == 0, "become the user");
}

/* filter_calls is the last step, as the filter may allow none of the others. It
 * takes a capability that the user need not have, and that executing the
 * program takes away again. */
static void filter_calls(const struct guest *g)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (g->filters.main == NULL && g->filters.notify == NULL)
		return;
	must(syscall(SYS_capget, &header, data) == 0, "read capabilities");
	data[0].effective |= data[0].permitted & 1U << CAP_SYS_ADMIN;
	must(syscall(SYS_capset, &header, data) == 0, "use a capability");
	must(load_filters(&g->filters, NEW_PROGRAM), "filter system calls");
}

bool close_others(int one)
{
	if (one < 0)
		return syscall(SYS_close_range, 3, ~0U, 0) == 0;
	if (one > 3 && syscall(SYS_close_range, 3, one - 1, 0) < 0)
		return false;
	return syscall(SYS_close_range, one + 1, ~0U, 0) == 0;
}

static void enter_directory(const struct request *r)
{
	if (r->cwd != NULL) {
		if (chdir(r->cwd) < 0)
			refuse(126, "cannot enter %s: %m\n", r->cwd);
	} else if (r->home == NULL || chdir(r->home) < 0) {
		must(chdir("/") == 0, "enter /");
	}
}

/* child is the program's process until it executes the program. go is a pipe
 * that its pid comes through if it needs that. */
static void child(const struct guest *g, const struct request *r, const int io[3], int go) __attribute__((noreturn));
static void child(const struct guest *g, const struct request *r, const int io[3], int go)
{
	pid_t pid = 0;

	if (setsid() < 0)
		_exit(126);
	set_standard_io(io);
	if (r->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		refuse(126, "cannot take the terminal: %m\n");
	reset_signals();
	if (g->label != NULL) {
		must(read(go, &pid, sizeof pid) == sizeof pid, "learn the process id");
		set_exec_label(g, pid);
	}
	confine(g);
	become(r);
	enter_directory(r);
	must(close_others(g->filters.handler), "close descriptors");
	filter_calls(g);
	environ = r->env;
	execvp(r->args[0], r->args);
	if (errno == ENOENT)
		refuse(127, "%s: command not found\n", r->args[0]);
	refuse(126, "cannot execute %s: %m\n", r->args[0]);
}

static pid_t fork_child(int *pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD,
		.pidfd = (unsigned long long)(size_t)pidfd,
		.exit_signal = SIGCHLD,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* report_end waits for the program. By now the session holds nothing of the
 * program's, so that others see the end of its output. */
static void report_end(int sock, pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail(sock, "wait");
	char *reply = formatted("S%d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	send_fds(sock, reply, strlen(reply), NULL, 0);
}

/* enter goes into the container and becomes its root there. */
static void enter(const struct guest *g, const struct request *r, int sock)
{
	if (!set_rlimits(r))
		fail(sock, "set resource limits");
	/* Who has a key ring has its keys, in whatever namespace: without this
	 * the program has those of who started the daemon. */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
		fail(sock, "leave the host's key ring");
	if (setns(FD_INIT, g->namespaces) < 0)
		fail(sock, "enter the container");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		fail(sock, "become the container's root");
	hide_from_guests();
}

void session(struct guest *g, struct request *r, int sock, int io[3])
{
	int go[2], pidfd = -1, terminal = -1, peer = -1;

	if (g->filters.notify != NULL)
		g->filters.handler = connect_handler(g->dir); /* Without it calls have their usual end. */

	enter(g, r, sock);
	if (r->terminal) {
		terminal = open_terminal(r, &peer);
		if (terminal < 0)
			fail(sock, "open a terminal in the container");
		io[0] = io[1] = io[2] = peer;
	}
	if (pipe2(go, O_CLOEXEC) < 0)
		fail(sock, "make a pipe");
	pid_t pid = fork_child(&pidfd);
	if (pid < 0)
		fail(sock, "fork in the container");
	if (pid == 0)
		child(g, r, io, go[0]);
	if (g->filters.handler >= 0)
		close(g->filters.handler);
	char *reply = formatted("P%d", pid);
	int passed[] = {pidfd, terminal};
	bool sent = send_fds(sock, reply, strlen(reply), passed, r->terminal ? 2 : 1) &&
		    write_all(go[1], &pid, sizeof pid);
	if (!sent)
		kill(pid, SIGKILL);
	for (int i = 0; i < 3; i++)
		close(io[i]);
	close(terminal);
	close(pidfd);
	report_end(sock, pid);
	_exit(0);
}
