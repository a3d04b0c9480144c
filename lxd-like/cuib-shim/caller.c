/* Who has made an intercepted call: what is known of it, its memory, and how to
 * be as it is. */
#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *read_at(int dir, const char *name)
{
	char *path = formatted("/proc/self/fd/%d/%s", dir, name);
	char *text = read_file(path, NULL);

	free(path);
	return text;
}

/* field returns what follows a name in a line of status. */
static const char *field(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at != NULL ? at + strlen(name) : NULL;
}

static bool read_groups(struct caller *c, const char *text)
{
	char *end;

	c->groups = malloc((strcspn(text, "\n") / 2 + 1) * sizeof *c->groups);
	if (c->groups == NULL)
		return false;
	for (; *text != '\n' && *text != 0; text = end + strspn(end, " \t")) {
		c->groups[c->ngroups] = (gid_t)strtoul(text, &end, 10);
		if (end == text)
			break;
		c->ngroups++;
	}
	return true;
}

static bool read_status(struct caller *c)
{
	char *status = read_at(c->proc, "status");
	const char *uid, *gid, *groups, *caps, *mask, *process;
	bool ok = status != NULL && (uid = field(status, "\nUid:\t")) != NULL && (gid = field(status, "\nGid:\t")) != NULL &&
		  (groups = field(status, "\nGroups:\t")) != NULL && (caps = field(status, "\nCapEff:\t")) != NULL &&
		  (mask = field(status, "\nUmask:\t")) != NULL && (process = field(status, "\nTgid:\t")) != NULL &&
		  sscanf(process, "%d", &c->process) == 1 &&
		  sscanf(uid, "%*u %*u %*u %u", &c->uid) == 1 && sscanf(gid, "%*u %*u %*u %u", &c->gid) == 1 &&
		  sscanf(caps, "%llx", &c->caps) == 1 && sscanf(mask, "%o", &c->umask) == 1 && read_groups(c, groups);

	free(status);
	return ok;
}

/* in_container reports whether the caller is of the container's own user
 * namespace, and not of one below: who may do anything there may not in the
 * container. */
static bool in_container(const struct caller *c)
{
	char path[64];
	struct stat own, other;

	snprintf(path, sizeof path, "/proc/%d/ns/user", instance.init);
	if (instance.init <= 0 || (instance.user = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	return fstat(instance.user, &own) == 0 && fstatat(c->proc, "ns/user", &other, 0) == 0 &&
	       own.st_ino == other.st_ino && own.st_dev == other.st_dev;
}

/* learn_caller opens what is the caller's, and then makes sure that it still
 * is: after its end the number can be another's. */
bool learn_caller(struct caller *c)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/%u", c->request.pid);
	c->proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	c->mem = openat(c->proc, "mem", O_RDWR | O_CLOEXEC);
	if (c->proc < 0 || c->mem < 0 || !read_status(c))
		return false;
	c->ours = in_container(c);
	return still_there(c);
}

bool read_memory(const struct caller *c, uint64_t address, void *to, size_t length)
{
	return pread(c->mem, to, length, (off_t)address) == (ssize_t)length && still_there(c);
}

bool write_memory(const struct caller *c, uint64_t address, const void *from, size_t length)
{
	return still_there(c) && pwrite(c->mem, from, length, (off_t)address) == (ssize_t)length;
}

/* read_string reads up to a NUL, and returns the length, or the number of an
 * error below 0. */
long read_string(const struct caller *c, uint64_t address, char *to, size_t size)
{
	enum { PAGE = 4096 };
	size_t used = 0;

	while (used < size) {
		size_t part = PAGE - (address + used) % PAGE;
		if (part > size - used)
			part = size - used;
		if (pread(c->mem, to + used, part, (off_t)(address + used)) != (ssize_t)part)
			return -EFAULT;
		char *end = memchr(to + used, 0, part);
		if (end != NULL)
			return still_there(c) ? end - to : -ESRCH;
		used += part;
	}
	return -ENAMETOOLONG;
}

bool has_cap(const struct caller *c, int cap)
{
	return c->ours && (c->caps >> cap & 1);
}

static void set_caps(unsigned long long caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (unsigned)caps, .permitted = (unsigned)caps},
		{.effective = (unsigned)(caps >> 32), .permitted = (unsigned)(caps >> 32)},
	};

	if (syscall(SYS_capset, &header, data) < 0)
		_exit(1);
}

/* keep_caps gives up all of the host's capabilities but some. */
void keep_caps(unsigned long long caps)
{
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	set_caps(caps);
}

static int open_proc(const struct caller *c, const char *name, int flags)
{
	int fd = openat(c->proc, name, flags | O_CLOEXEC);

	if (fd < 0)
		_exit(1);
	return fd;
}

/* become_caller takes on what counts for files and mounts: the namespaces, the
 * root and working directories, ids, capabilities and umask. It stays in our
 * PID namespace, where nobody of the container's sees it. */
void become_caller(const struct caller *c)
{
	int root = open_proc(c, "root", O_PATH | O_DIRECTORY), cwd = open_proc(c, "cwd", O_PATH | O_DIRECTORY);
	int mounts = open_proc(c, "ns/mnt", O_RDONLY), user = open_proc(c, "ns/user", O_RDONLY);

	hide_from_guests();
	/* The last right to speak about this process's own capabilities: they
	 * stay while the ids change, and setns() replaces them. */
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0 || setgroups(c->ngroups, c->groups) < 0 ||
	    setresgid(c->gid, c->gid, c->gid) < 0 || setresuid(c->uid, c->uid, c->uid) < 0)
		_exit(1);
	if (setns(mounts, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0 || fchdir(cwd) < 0)
		_exit(1);
	if (setns(user, CLONE_NEWUSER) < 0 && errno != EINVAL) /* That of the host is ours. */
		_exit(1);
	hide_from_guests();
	close(root);
	close(cwd);
	close(mounts);
	close(user);
	set_caps(c->caps);
	umask(c->umask);
	if (!still_there(c))
		_exit(1);
}

/* open_as_caller opens a path without following links that the kernel makes up,
 * as those in /proc: they would lead to what is this process's. */
int open_as_caller(int at, const char *path, int flags)
{
	struct open_how how = {.flags = (unsigned long long)(flags | O_CLOEXEC), .resolve = RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, at, path, &how, sizeof how);
}

/* open_descriptor opens what a descriptor of the caller stands for, only to
 * name it. */
int open_descriptor(const struct caller *c, int number)
{
	char name[32];

	snprintf(name, sizeof name, "fd/%d", number);
	return openat(c->proc, name, O_PATH | O_CLOEXEC);
}

int tell(int sock, int error, const int *fds, int n)
{
	return send_fds(sock, &error, sizeof error, fds, error == 0 ? n : 0) ? 0 : EIO;
}

/* hear receives what was told: exactly n descriptors, or an error's number. */
int hear(int sock, int *fds, int n)
{
	int error = EIO, got = 0, all[MAX_FDS];

	if (receive_fds(sock, &error, sizeof error, all, &got) != sizeof error || (error == 0 && got != n))
		return EIO;
	memcpy(fds, all, (size_t)got * sizeof *fds);
	return error;
}

pid_t as_caller(const struct caller *c, int (*inside)(const struct caller *c, int sock, void *arg), void *arg, int *sock)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		become_caller(c);
		_exit(inside(c, ends[1], arg) != 0);
	}
	close(ends[1]);
	*sock = ends[0];
	return pid;
}
