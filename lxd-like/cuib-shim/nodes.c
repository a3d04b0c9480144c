/* mknod(2) of devices that are everybody's, and setxattr(2) of attributes that
 * say something to overlayfs. The caller's part is to open what it is about and
 * to show that it may write there. */
#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CAP(c) (1ULL << (c))

/* may_write asks for the rights to what a descriptor names, as those of files
 * and not as those of who has started the process. */
static bool may_write(int fd, int also)
{
	return syscall(SYS_faccessat2, fd, "", W_OK | also, AT_EMPTY_PATH | AT_EACCESS) == 0;
}

/* A file that a path leads to, from the descriptor of a directory. */
struct place {
	char path[PATH_MAX];
	int at;
	int flags;
	char *name; /* The last part of the path. */
};

/* split cuts a path into a directory's and a name. */
static int split(struct place *p)
{
	char *slash = strrchr(p->path, '/');

	p->name = slash != NULL ? slash + 1 : p->path;
	if (*p->name == 0)
		return ENOENT;
	if (strcmp(p->name, ".") == 0 || strcmp(p->name, "..") == 0)
		return EEXIST;
	p->name = strdup(p->name);
	if (p->name == NULL)
		return ENOMEM;
	if (slash == NULL)
		strcpy(p->path, ".");
	else
		slash[1] = 0;
	return 0;
}

static int open_directory(const struct caller *c, int sock, void *arg)
{
	struct place *p = arg;
	int fd = open_as_caller(p->at, p->path, O_PATH | O_DIRECTORY);

	(void)c;
	return tell(sock, fd >= 0 && may_write(fd, X_OK) ? 0 : errno, &fd, 1);
}

/* is_everybodys reports whether a device is one that every container has. */
static bool is_everybodys(dev_t device)
{
	static const unsigned char numbers[][2] = {
		{0, 0},                                 /* What overlayfs takes for a file that is gone. */
		{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, /* null, zero, full, random, urandom */
		{5, 0}, {5, 1},                         /* tty, console */
	};

	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (device == makedev(numbers[i][0], numbers[i][1]))
			return true;
	return false;
}

/* from_directory opens the directory that a call's descriptor names. */
static int from_directory(const struct caller *c, int number)
{
	return number == AT_FDCWD ? AT_FDCWD : open_descriptor(c, number);
}

long make_node(struct caller *c)
{
	bool at = c->what == MKNODAT;
	const __u64 *args = c->request.data.args + at;
	mode_t mode = (mode_t)args[1];
	unsigned device = (unsigned)args[2];
	dev_t number = makedev(device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xfff00));
	struct place p = {.at = at ? from_directory(c, (int)c->request.data.args[0]) : AT_FDCWD};
	int sock, directory[MAX_FDS];

	if (!S_ISCHR(mode) || !is_everybodys(number) || !has_cap(c, CAP_MKNOD))
		return PROCEED;
	long length = read_string(c, args[0], p.path, sizeof p.path);
	if (length < 0)
		return length;
	int error = p.at == -1 ? EBADF : split(&p);
	if (error == 0 && as_caller(c, open_directory, &p, &sock) < 0)
		error = EAGAIN;
	if (error == 0)
		error = hear(sock, directory, 1);
	if (error != 0)
		return -error;
	umask(c->umask);
	if (setresgid(-1, c->gid, -1) < 0 || setresuid(-1, c->uid, -1) < 0)
		return -EPERM;
	/* The caller may write in the directory, by what capabilities ever. */
	keep_caps(CAP(CAP_MKNOD) | CAP(CAP_DAC_OVERRIDE));
	if (!still_there(c))
		return -ESRCH;
	return mknodat(directory[0], p.name, mode, number) < 0 ? -errno : 0;
}

static int open_file(const struct caller *c, int sock, void *arg)
{
	struct place *p = arg;
	int fd = p->at;

	if (c->what != FSETXATTR)
		fd = open_as_caller(AT_FDCWD, p->path, O_PATH | p->flags);
	return tell(sock, fd >= 0 && may_write(fd, 0) ? 0 : errno, &fd, 1);
}

/* The attributes that make a directory hide what is below it. Others lead
 * overlayfs to other files. */
static bool is_harmless(const char *name, char value)
{
	return (strcmp(name, "trusted.overlay.opaque") == 0 && (value == 'y' || value == 'x')) ||
	       (strcmp(name, "trusted.overlay.impure") == 0 && value == 'y');
}

/* is_theirs reports whether a file's owner is one of the caller's user
 * namespace. */
static bool is_theirs(const struct caller *c, int file)
{
	struct stat st;
	unsigned inside, outside, count;
	int fd = openat(c->proc, "uid_map", O_RDONLY | O_CLOEXEC);
	FILE *map = fd >= 0 ? fdopen(fd, "r") : NULL;
	bool found = false;

	if (map == NULL || fstat(file, &st) < 0)
		return false;
	while (!found && fscanf(map, "%u %u %u", &inside, &outside, &count) == 3)
		found = st.st_uid >= outside && st.st_uid - outside < count;
	fclose(map);
	return found;
}

long set_attribute(struct caller *c)
{
	const __u64 *args = c->request.data.args;
	struct place p = {.at = AT_FDCWD, .flags = c->what == LSETXATTR ? O_NOFOLLOW : 0};
	char name[256], value, path[32];
	int sock, file[MAX_FDS];

	if (args[3] != sizeof value || !has_cap(c, CAP_SYS_ADMIN))
		return PROCEED;
	/* What is not among the harmless ones now, and is changed to that at
	 * once, is refused by the kernel. */
	if (read_string(c, args[1], name, sizeof name) < 0 || !read_memory(c, args[2], &value, sizeof value) || !is_harmless(name, value))
		return PROCEED;
	long length = 0;
	if (c->what == FSETXATTR)
		p.at = open_descriptor(c, (int)args[0]);
	else
		length = read_string(c, args[0], p.path, sizeof p.path);
	if (length < 0)
		return length;
	if (p.at == -1)
		return -EBADF;
	if (as_caller(c, open_file, &p, &sock) < 0)
		return -EAGAIN;
	int error = hear(sock, file, 1);
	if (error != 0)
		return -error;
	if (!is_theirs(c, file[0]))
		return -EPERM;
	snprintf(path, sizeof path, "/proc/self/fd/%d", file[0]);
	keep_caps(CAP(CAP_SYS_ADMIN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH));
	if (!still_there(c))
		return -ESRCH;
	return setxattr(path, name, &value, sizeof value, (int)args[4]) < 0 ? -errno : 0;
}
