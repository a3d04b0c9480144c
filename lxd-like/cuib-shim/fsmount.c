/* mount(2) of file systems on block devices, which the kernel leaves to who is
 * root of the host: what they say is believed.
 *
 * The caller opens the device and the target, and attaches the mount, with its
 * own rights. The mount itself is made by a process that has only descriptors
 * from there: of a device that the container was given, of a file system that
 * may be used, with options that name nothing else. */
#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define OTHER_MOUNTS (MS_REMOUNT | MS_BIND | MS_MOVE | MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED)

enum { MAX_TYPE = 32, MAX_OPTIONS = 4096 };

struct wanted {
	char source[PATH_MAX], target[PATH_MAX], type[MAX_TYPE], options[MAX_OPTIONS];
	unsigned long flags;
};

/* Options that say how a file system is to be used. All that could name
 * another device, or a file of the host, is not among them. */
static const char *const known_options[] = {
	"acl", "noacl", "user_xattr", "nouser_xattr", "errors", "data", "barrier", "nobarrier", "commit", "discard", "nodiscard",
	"norecovery", "noload", "nouuid", "inode32", "inode64", "lazytime", "delalloc", "nodelalloc", "resuid", "resgid",
	"subvol", "subvolid", "compress", "compress-force", "autodefrag", "noautodefrag", "datacow", "nodatacow", "datasum",
	"nodatasum", "degraded", "ssd", "nossd", "space_cache", "clear_cache", "flushoncommit", "skip_balance", "rescue",
	"uid", "gid", "umask", "dmask", "fmask", "codepage", "iocharset", "utf8", "shortname", "quiet", "showexec", "mode",
	"dmode", "session", "lastblock", "norock", "nojoliet", "map", "check", "threads", "nls", "windows_names", "hidden",
	"showmeta", "prealloc", "force", "sys_immutable",
};

static bool is_known(const char *name)
{
	for (size_t i = 0; i < sizeof known_options / sizeof *known_options; i++)
		if (strcmp(name, known_options[i]) == 0)
			return true;
	return false;
}

/* set_options hands options on to the kernel, and reports the first that it
 * must not get. */
static int set_options(int fs, char *options)
{
	char *option;

	while ((option = strsep(&options, ",")) != NULL) {
		char *value = strchr(option, '=');
		long done;
		if (*option == 0)
			continue;
		if (value != NULL)
			*value++ = 0;
		if (!is_known(option))
			return EINVAL;
		if (value != NULL)
			done = syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, option, value, 0);
		else
			done = syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, option, NULL, 0);
		if (done < 0)
			return errno;
	}
	return 0;
}

static unsigned attributes(unsigned long flags)
{
	unsigned out = MOUNT_ATTR_NODEV; /* The file system's devices were not given to the container. */

	out |= flags & MS_RDONLY ? MOUNT_ATTR_RDONLY : 0;
	out |= flags & MS_NOSUID ? MOUNT_ATTR_NOSUID : 0;
	out |= flags & MS_NOEXEC ? MOUNT_ATTR_NOEXEC : 0;
	out |= flags & MS_NODIRATIME ? MOUNT_ATTR_NODIRATIME : 0;
	if (flags & MS_STRICTATIME)
		out |= MOUNT_ATTR_STRICTATIME;
	else if (flags & MS_NOATIME)
		out |= MOUNT_ATTR_NOATIME;
	return out;
}

/* shift shows the owners on the device as those of the container, if it is to
 * be so. */
static int shift(int mount)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)instance.user};

	if (!setting("shift", "1"))
		return 0;
	return syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0 ? errno : 0;
}

/* make makes the mount, which is nowhere yet. */
static int make(struct wanted *w, int device, int *mount)
{
	char source[32];
	int fs = (int)syscall(SYS_fsopen, w->type, FSOPEN_CLOEXEC);

	if (fs < 0)
		return errno;
	snprintf(source, sizeof source, "/proc/self/fd/%d", device);
	if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return errno;
	if ((w->flags & MS_RDONLY) && syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return errno;
	if ((w->flags & MS_SYNCHRONOUS) && syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "sync", NULL, 0) < 0)
		return errno;
	int error = set_options(fs, w->options);
	if (error != 0)
		return error;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return errno;
	*mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes(w->flags));
	return *mount < 0 ? errno : shift(*mount);
}

static bool was_given(int device)
{
	struct stat st;

	if (fstat(device, &st) < 0 || !S_ISBLK(st.st_mode))
		return false;
	char *number = formatted("%u:%u", major(st.st_rdev), minor(st.st_rdev));
	bool given = setting("block", number);
	free(number);
	return given;
}

/* attach is the caller's part. */
static int attach_mount(const struct caller *c, int sock, void *arg)
{
	const struct wanted *w = arg;
	int places[] = {open_as_caller(AT_FDCWD, w->source, O_PATH), -1}, mount[MAX_FDS];

	(void)c;
	if (places[0] >= 0)
		places[1] = open_as_caller(AT_FDCWD, w->target, O_PATH);
	if (places[1] < 0)
		return tell(sock, errno, NULL, 0);
	tell(sock, 0, places, 1);
	if (hear(sock, mount, 1) != 0)
		return 0;
	int done = (int)syscall(SYS_move_mount, mount[0], "", places[1], "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	int error = done < 0 ? errno : 0;
	close(mount[0]); /* The guest may unmount it as soon as it is told. */
	return tell(sock, error, NULL, 0);
}

static long mount_kernel(struct caller *c, struct wanted *w)
{
	int sock, device[MAX_FDS], none[MAX_FDS], mount = -1;

	if (as_caller(c, attach_mount, w, &sock) < 0)
		return -EAGAIN;
	int error = hear(sock, device, 1);
	if (error != 0)
		return -error;
	if (!was_given(device[0]))
		return -EACCES;
	/* What the kernel asks for where a device is opened and a file system read. */
	keep_caps(1ULL << CAP_SYS_ADMIN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_DAC_READ_SEARCH);
	if (!still_there(c))
		return -ESRCH;
	error = make(w, device[0], &mount);
	if (error == 0 && tell(sock, 0, &mount, 1) != 0)
		error = EIO;
	if (error == 0)
		error = hear(sock, none, 0);
	return -error;
}

/* is_same reports whether the caller has something in common with init. */
static bool is_same(const struct caller *c, const char *name)
{
	struct stat a, b;
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", instance.init, name);
	return fstatat(c->proc, name, &a, 0) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* enter_cgroups moves this process to where init is in each hierarchy of v1. */
static void enter_cgroups(struct guest *g)
{
	char path[64], *text, *rest, *line;

	snprintf(path, sizeof path, "/proc/%d/cgroup", instance.init);
	rest = text = read_file(path, NULL);
	while (text != NULL && (line = strsep(&rest, "\n")) != NULL) {
		char *kinds = strchr(line, ':'), *at = kinds != NULL ? strchr(kinds + 1, ':') : NULL;
		if (at == NULL)
			continue;
		*at++ = 0;
		kinds++;
		bool v2 = *kinds == 0;
		kinds[strcspn(kinds, ",")] = 0;
		char *mount = setting_of("cgroup", v2 ? "v2" : kinds);
		char *dir = formatted("%s%s", mount != NULL ? mount : "", at);
		char *procs = formatted("%s/cgroup.procs", dir);
		int fd = mount == NULL || v2 ? -1 : open(procs, O_WRONLY | O_CLOEXEC);
		if (mount != NULL && v2)
			g->cgroup = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		else if (mount != NULL && (fd < 0 || !write_all(fd, "0", 1)))
			die("cannot enter %s: %m", dir);
		close(fd);
		free(mount);
		free(dir);
		free(procs);
	}
	free(text);
}

/* run_program runs the program that mounts in the kernel's place, as cuib exec
 * would: it is the container's, and so is all that it does. */
static void run_program(struct wanted *w, char *program, int sock) __attribute__((noreturn));
static void run_program(struct wanted *w, char *program, int sock)
{
	char *own = formatted("%s/seccomp.bpf", instance.dir), *all = formatted("%s/../seccomp.bpf", instance.dir);
	char *notify = formatted("%s/seccomp.notify", instance.dir);
	char *options = formatted("%s%s%s", w->flags & MS_RDONLY ? "ro" : "rw", *w->options != 0 ? "," : "", w->options);
	char *args[] = {program, w->source, w->target, "-o", options, NULL};
	char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	struct request r = {.args = args, .env = env, .nargs = 5, .nenv = 1, .cwd = "/"};
	struct guest g = {.init = instance.init, .cgroup = -1, .dir = instance.dir};
	int null = fcntl(open("/dev/null", O_RDWR | O_CLOEXEC), F_DUPFD_CLOEXEC, FD_INIT + 1);
	int init = fcntl((int)syscall(SYS_pidfd_open, instance.init, 0), F_DUPFD_CLOEXEC, FD_INIT + 1);

	sock = fcntl(sock, F_DUPFD_CLOEXEC, FD_INIT + 1);
	if (null < 0 || init < 0 || sock < 0 || dup3(init, FD_INIT, O_CLOEXEC) < 0)
		_exit(1);
	hide_from_guests();
	learn(&g);
	read_filters(&g.filters, access(own, F_OK) == 0 ? own : all, notify);
	enter_cgroups(&g);
	pid_t pid = fork_session(&g);
	if (pid == 0)
		session(&g, &r, sock, (int[]){null, null, null});
	_exit(pid < 0);
}

static long mount_fuse(const struct caller *c, struct wanted *w, char *program)
{
	int ends[2], fds[MAX_FDS], n, status = -1;
	char said[128] = "";

	/* Elsewhere the paths, and the program, would be others. */
	if (!is_same(c, "ns/mnt") || !is_same(c, "root") || w->source[0] != '/' || w->target[0] != '/')
		return -EPERM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0)
		run_program(w, program, ends[1]);
	close(ends[1]);
	while (pid > 0 && status < 0 && receive_fds(ends[0], said, sizeof said - 1, fds, &n) > 0 && said[0] != 'F')
		if (sscanf(said, "S%d", &status) != 1)
			memset(said, 0, sizeof said);
	return status == 0 ? 0 : -EIO;
}

long mount_device(struct caller *c)
{
	const __u64 *args = c->request.data.args;
	struct wanted w = {.flags = (unsigned long)args[3]};
	long length;

	if ((w.flags & OTHER_MOUNTS) != 0 || !has_cap(c, CAP_SYS_ADMIN) || args[2] == 0)
		return PROCEED;
	/* A type that is changed after this to one that is allowed is refused by
	 * the kernel, as the caller is not root of the host. */
	if (read_string(c, args[2], w.type, sizeof w.type) < 0)
		return PROCEED;
	char *program = setting_of("fuse", w.type);
	if (program == NULL && !setting("fs", w.type))
		return PROCEED;
	if ((length = read_string(c, args[0], w.source, sizeof w.source)) < 0 || (length = read_string(c, args[1], w.target, sizeof w.target)) < 0)
		return length;
	if (args[4] != 0 && (length = read_string(c, args[4], w.options, sizeof w.options)) < 0)
		return length;
	return program != NULL ? mount_fuse(c, &w, program) : mount_kernel(c, &w);
}
