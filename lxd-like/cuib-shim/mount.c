/* The modes that change what is mounted in a running container, whose init
 * FD_INIT is a pidfd of:
 *
 *   cuib-shim mount DIR NAME TARGET [PROPAGATION]
 *                                       mounts DIR/NAME of the host on TARGET
 *   cuib-shim unmount TARGET            takes it back
 *   cuib-shim show DIR N FILE...        mounts each DIR/FILE on /FILE, in place
 *                                       of the N mounts that are there
 *
 * They act as the container's root. So whatever the guest has put in the way
 * of TARGET is its own affair, and, as with mounts that the container was
 * started with, its root cannot make a read-only mount writable: the kernel
 * locks the flags of mounts that are copied for another user namespace. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_beneath(int dir, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned long long)(flags | O_CLOEXEC),
		.resolve = RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static bool shares_user_namespace(void)
{
	/* Entering one's own is an error, and the only one of this kind. */
	return setns(FD_INIT, CLONE_NEWUSER) < 0 && errno == EINVAL;
}

/* become_root takes on the container's user namespace and its root. */
static void become_root(void)
{
	hide_from_guests();
	errno = 0;
	if (!shares_user_namespace() && errno != 0)
		die("cannot enter the container: %m");
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		die("cannot become the container's root: %m");
	hide_from_guests();
}

/* enter goes on into the container's mounts, and to its root directory. */
static void enter_mounts(void)
{
	if (setns(FD_INIT, CLONE_NEWNS) < 0)
		die("cannot enter the container's mounts: %m");
}

/* parent_of enters the directory that a path is in, making it and those
 * before, and returns the rest of the path. */
static char *parent_of(char *path)
{
	char *name = path + 1;
	int dir = open_beneath(AT_FDCWD, "/", O_PATH | O_DIRECTORY);

	for (char *slash; dir >= 0 && (slash = strchr(name, '/')) != NULL; name = slash + 1) {
		*slash = 0;
		if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST && errno != EROFS)
			die("cannot make %s: %m", path);
		int next = open_beneath(dir, name, O_PATH | O_DIRECTORY);
		if (next < 0)
			die("cannot enter %s: %m", path);
		close(dir);
		dir = next;
		*slash = '/';
	}
	if (dir < 0 || fchdir(dir) < 0)
		die("cannot enter the directory of %s: %m", path);
	close(dir);
	return name;
}

/* make_place makes something to mount on. */
static void make_place(const char *name, bool directory)
{
	if (directory) {
		if (mkdir(name, 0755) == 0 || errno == EEXIST)
			return;
	} else {
		int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd >= 0)
			close(fd);
		if (fd >= 0 || errno == EEXIST)
			return;
	}
	die("cannot make %s: %m", name);
}

/* propagate sets how a mount of the container follows others, in words of
 * mount(8). */
static void propagate(int tree, const char *how)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} known[] = {
		{"private", MS_PRIVATE}, {"shared", MS_SHARED}, {"slave", MS_SLAVE}, {"unbindable", MS_UNBINDABLE},
	};
	struct {
		uint64_t set, clear, propagation, userns;
	} attr = {0};
	unsigned flags = AT_EMPTY_PATH;

	if (how[0] == 'r') {
		flags |= AT_RECURSIVE;
		how++;
	}
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(how, known[i].name) == 0)
			attr.propagation = known[i].flag;
	if (attr.propagation == 0)
		die("unknown propagation %s", how);
	if (syscall(SYS_mount_setattr, tree, "", flags, &attr, sizeof attr) < 0)
		die("cannot set the propagation: %m");
}

int mount_inside(int argc, char **argv)
{
	struct stat st;

	if (argc < 5 || argc > 6 || argv[4][0] != '/')
		die("usage: mount DIR NAME TARGET [PROPAGATION]");
	/* The way to it is open to us only, and its file system to the container. */
	if (chdir(argv[2]) < 0 || stat(argv[3], &st) < 0)
		die("cannot enter %s: %m", argv[2]);
	become_root();
	if (unshare(CLONE_NEWNS) < 0)
		die("cannot copy the mounts: %m");
	int tree = (int)syscall(SYS_open_tree, AT_FDCWD, argv[3], OPEN_TREE_CLONE | AT_RECURSIVE | O_CLOEXEC);
	if (tree < 0)
		die("cannot copy the mount: %m");
	enter_mounts();
	char *name = parent_of(argv[4]);
	make_place(name, S_ISDIR(st.st_mode));
	int target = open_beneath(AT_FDCWD, name, O_PATH);
	if (target < 0)
		die("cannot open the target: %m");
	if (syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		die("cannot mount: %m");
	if (argc == 6)
		propagate(tree, argv[5]);
	return 0;
}

int unmount_inside(int argc, char **argv)
{
	struct stat st;

	if (argc != 3 || argv[2][0] != '/')
		die("usage: unmount TARGET");
	become_root();
	enter_mounts();
	char *name = parent_of(argv[2]);
	/* Not there or not mounted: the guest did it. */
	if (umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		die("cannot unmount: %m");
	/* What was made for a file to be mounted on. */
	if (lstat(name, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0)
		unlink(name);
	return 0;
}

int show_inside(int argc, char **argv)
{
	int trees[32];
	const int first = 3;
	int n = (argc - first) / 2;

	if (argc < first || (argc - first) % 2 != 0 || n > (int)(sizeof trees / sizeof *trees))
		die("usage: show DIR N FILE...");
	if (chdir(argv[2]) < 0)
		die("cannot enter %s: %m", argv[2]);
	become_root();
	if (unshare(CLONE_NEWNS) < 0)
		die("cannot copy the mounts: %m");
	for (int i = 0; i < n; i++) {
		const char *file = argv[first + 2 * i + 1];
		trees[i] = (int)syscall(SYS_open_tree, AT_FDCWD, file, OPEN_TREE_CLONE | O_CLOEXEC);
		if (trees[i] < 0)
			die("cannot copy the mount of %s: %m", file);
	}
	enter_mounts();
	for (int i = 0; i < n; i++) {
		char *name = parent_of(formatted("/%s", argv[first + 2 * i + 1]));
		for (int others = atoi(argv[first + 2 * i]); others > 0; others--)
			if (umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
				break;
		int target = open_beneath(AT_FDCWD, name, O_PATH | O_NOFOLLOW);
		if (target < 0)
			continue; /* The kernel does not have it, or the guest has hidden it. */
		if (syscall(SYS_move_mount, trees[i], "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
			die("cannot mount on /%s: %m", argv[first + 2 * i + 1]);
		close(target);
	}
	return 0;
}
