/* The bpffs mode: cuib-shim bpffs DIR
 *
 * liblxc runs it (lxc.hook.start-host) when a container's mounts are made and
 * before its init runs. The file DIR/bpffs has a path and then options, a line
 * each. It mounts a file system on the path in there by which the container may use parts of bpf(2): with a token from there, see
 * https://docs.ebpf.io/linux/concepts/token/. The file system must be one of
 * the container's user namespace, and only root of the host may say what it
 * hands on. So one process, who is the container's root, begins and mounts it,
 * and this one makes it in between. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int enter(int init)
{
	hide_from_guests();
	if (setns(init, CLONE_NEWUSER | CLONE_NEWNS) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		die("cannot enter the container: %m");
	hide_from_guests();
	return (int)syscall(SYS_fsopen, "bpf", FSOPEN_CLOEXEC);
}

static int finish(int fs, const char *target)
{
	char answer;
	int fds[MAX_FDS], n;

	if (receive_fds(FD_CONTROL, &answer, 1, fds, &n) != 1)
		return 1;
	int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mount < 0)
		die("cannot mount a bpffs: %m");
	if (mkdir(target, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EPERM)
		die("cannot make %s: %m", target);
	if (syscall(SYS_move_mount, mount, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		die("cannot mount a bpffs on %s: %m", target);
	return 0;
}

static int inside(int sock, int init, const char *target)
{
	if (dup3(sock, FD_CONTROL, O_CLOEXEC) < 0)
		die("cannot keep a socket: %m");
	int fs = enter(init);
	if (fs < 0)
		die("the kernel has no bpffs: %m");
	if (!send_fds(FD_CONTROL, "F", 1, &fs, 1))
		return 1;
	return finish(fs, target);
}

/* set_options says what is handed on. */
static void set_options(int fs, char *options)
{
	char *option;

	while ((option = strsep(&options, "\n")) != NULL && *option != 0) {
		char *value = strchr(option, '=');
		if (value == NULL)
			die("%s is no option", option);
		*value++ = 0;
		if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, option, value, 0) < 0)
			die("this host's kernel does not hand on rights to BPF, as Linux 6.9 does (%s=%s): %m", option, value);
	}
}

int bpffs(int argc, char **argv)
{
	const char *pid = getenv("LXC_PID");
	int ends[2], fds[MAX_FDS], n = 0, status;
	char answer;

	if (argc < 3 || pid == NULL)
		die("usage: bpffs DIR");
	/* liblxc keeps nothing of what hooks say. */
	int log = open(formatted("%s/shim.log", argv[2]), O_WRONLY | O_APPEND | O_CLOEXEC);
	if (log >= 0 && dup2(log, STDERR_FILENO) < 0)
		die("cannot write to the log: %m");
	char *path = formatted("%s/bpffs", argv[2]), *options = read_file(path, NULL);
	char *target = options != NULL ? strsep(&options, "\n") : NULL;
	if (target == NULL || target[0] != '/')
		die("cannot read %s: %m", path);
	int init = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
	if (init < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		die("cannot find the container's init: %m");
	pid_t child = fork();
	if (child == 0) {
		close(ends[0]); /* So that it sees this process end. */
		_exit(inside(ends[1], init, target));
	}
	close(ends[1]);
	if (receive_fds(ends[0], &answer, 1, fds, &n) == 1 && n == 1) {
		set_options(fds[0], options);
		if (syscall(SYS_fsconfig, fds[0], FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
			die("cannot make a bpffs: %m");
		close(fds[0]);
		send_fds(ends[0], "G", 1, NULL, 0);
	}
	return waitpid(child, &status, 0) != child || status != 0;
}
