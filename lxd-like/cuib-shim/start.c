/* The start mode: cuib-shim start DIR NAME FD INIT...
 *
 * It is the parent of the container's init, through liblxc, until the
 * container ends, whatever becomes of the daemon. FD is where it reports the
 * start: "R PID" once init runs; its end without that means failure. What
 * went wrong is then in the container's log. "-" is for a start again after
 * a reboot of the guest, when nobody listens; "--" for the second try. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_LOG (1 << 20)

/* Asked by liblxc after the container's end: fails, so that liblxc does not
 * boot the guest again itself. The shim does that by starting over. A start
 * by liblxc would use the configuration of the first start, although limits
 * and devices have changed since, and fails while a console is attached. */
#define AFTER_STOP "/bin/sh -c '[ \"$LXC_TARGET\" != reboot ] || { : >\"$CUIB_REBOOT\"; exit 1; }'"

/* configure_filters reads the container's own filters, or those of all. */
static void configure_filters(const char *dir, const char *name)
{
	char *own = formatted("%s/%s/seccomp.bpf", dir, name);
	char *all = formatted("%s/seccomp.bpf", dir);
	char *notify = formatted("%s/%s/seccomp.notify", dir, name);

	read_filters(&init_filters, access(own, F_OK) == 0 ? own : all, access(notify, F_OK) == 0 ? notify : "-");
	free(own);
	free(all);
	free(notify);
}

static void configure(struct lxc_container *c, const char *dir, const char *name)
{
	char *conf = formatted("%s/%s/lxc.conf", dir, name);
	char *environ_file = formatted("%s/%s/environ", dir, name);
	size_t length = 0;

	if (!c->load_config(c, conf))
		die("liblxc refuses %s", conf);
	char *env = read_file(environ_file, &length);
	for (char *s = env; s != NULL && s < env + length; s += strlen(s) + 1)
		if (!c->set_config_item(c, "lxc.environment", s))
			die("liblxc refuses an environment variable");
	if (!c->set_config_item(c, "lxc.hook.post-stop", AFTER_STOP))
		die("liblxc refuses the hook");
	configure_filters(dir, name);
	c->want_daemonize(c, false);
	free(env);
	free(environ_file);
	free(conf);
}

/* is_executing reports whether a process is no longer a copy of this one. */
static bool is_executing(pid_t pid)
{
	char path[32];
	struct stat own, other;

	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	return stat("/proc/self/exe", &own) == 0 && stat(path, &other) == 0 &&
	       (own.st_ino != other.st_ino || own.st_dev != other.st_dev);
}

/* notify reports the container's init once it has left our program, if there
 * is who listens, and makes sure that its system calls are filtered. alive hangs
 * up when the shim has given up. */
static void notify(struct lxc_container *c, int alive, bool report)
{
	struct pollfd p = {.fd = alive};

	do {
		pid_t pid = c->init_pid(c);
		if (pid <= 0 || !is_executing(pid))
			continue;
		if (count_filters(pid) <= count_filters(getpid())) {
			kill(pid, SIGKILL);
			die("liblxc started init without a filter of system calls");
		}
		if (report)
			dprintf(FD_CONTROL, "R %d\n", pid);
		_exit(0);
	} while (poll(&p, 1, 1) == 0);
	_exit(1);
}

/* fork_notifier leaves a process behind that ends by itself, is no child of
 * ours, as liblxc waits for children, and holds the report's pipe. */
static void fork_notifier(struct lxc_container *c, bool report)
{
	int alive[2];

	if (pipe2(alive, O_CLOEXEC) < 0)
		die("cannot make a pipe: %m");
	pid_t pid = fork();
	if (pid < 0)
		die("cannot fork: %m");
	if (pid == 0) {
		close(alive[1]);
		pid = fork();
		if (pid != 0)
			_exit(pid < 0);
		notify(c, alive[0], report);
	}
	close(alive[0]);
	waitpid(pid, NULL, 0);
	if (report)
		close(FD_CONTROL);
}

/* exit_status turns what liblxc keeps of init's end into a shell's terms.
 * The kernel kills an init with SIGINT when it has called reboot(2) to halt:
 * that is a clean end. */
static int exit_status(int kept)
{
	int signal = (kept & 0x7f) == 0x7f ? (kept >> 8) & 0xff : kept & 0x7f;

	if (signal == 0)
		return (kept >> 8) & 0xff;
	return signal == SIGINT ? 0 : 128 + signal;
}

/* The status of a guest that wants to boot again, which the daemon sees to:
 * no init has it. */
#define REBOOTED 256

static void write_status(const char *dir, const char *name, int status)
{
	char *temporary = formatted("%s/%s/.status", dir, name);
	char *path = formatted("%s/%s/status", dir, name);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || dprintf(fd, "%d\n", status) < 0 || rename(temporary, path) < 0)
		die("cannot write %s: %m", path);
	close(fd);
	free(temporary);
	free(path);
}

/* start_over replaces the program by itself: nothing of the previous boot is
 * left in memory, and the process stays what the daemon knows. */
static void start_over(char **argv, char *again)
{
	argv[4] = again;
	execv("/proc/self/exe", argv);
	die("cannot start over: %m");
}

/* Starts after a reboot, at most: an interface of the previous boot can be in
 * the way for as long as the kernel takes to remove its network namespace. */
#define ATTEMPTS 20
#define PAUSE_MS 100

/* limit_log empties liblxc's log if it has grown: each boot of the guest adds
 * to it, and the guest can boot again and again. */
static void limit_log(const char *dir, const char *name)
{
	struct stat st;
	char *path = formatted("%s/%s/lxc.log", dir, name);

	if (stat(path, &st) == 0 && st.st_size > MAX_LOG && truncate(path, 0) < 0)
		die("cannot empty %s: %m", path);
	free(path);
}

int start(int argc, char **argv)
{
	if (argc < 6)
		die("usage: start DIR NAME FD INIT...");
	const char *dir = argv[2], *name = argv[3];
	char *reboot = formatted("%s/%s/reboot", dir, name);

	unlink(reboot);
	limit_log(dir, name);
	setenv("CUIB_REBOOT", reboot, 1);
	struct lxc_container *c = open_container(dir, name);
	configure(c, dir, name);
	bool rebooted = argv[4][0] == '-';
	fork_notifier(c, !rebooted);
	if (init_filters.notify != NULL)
		init_filters.handler = start_handler(argv);
	bool started = c->start(c, 0, argv + 5);
	if (unlink(reboot) == 0) {
		if (access(formatted("%s/%s/ends-at-reboot", dir, name), F_OK) < 0)
			start_over(argv, "-");
		write_status(dir, name, REBOOTED);
		return 0;
	}
	if (!started && rebooted && strlen(argv[4]) < ATTEMPTS) {
		poll(NULL, 0, PAUSE_MS);
		start_over(argv, formatted("%s-", argv[4]));
	}
	write_status(dir, name, started ? exit_status(c->error_num) : 1);
	return !started;
}
