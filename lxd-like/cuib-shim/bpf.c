/* bpf(2) for programs that say which devices a cgroup may use, as container
 * managers load them.
 *
 * A program may compute with what it is told of a device and nothing else: no
 * maps, no functions of the kernel. It is loaded without the capability by which
 * others read the kernel's memory. It can be attached to cgroups below the
 * container's alone, where it can only forbid more. */
#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { INSTRUCTIONS = 4096 };

#ifndef CAP_BPF
#define CAP_BPF 39
#endif

/* is_plain reports whether a program only computes. */
static bool is_plain(const struct bpf_insn *program, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct bpf_insn *p = &program[i];
		int class = BPF_CLASS(p->code);
		if ((class == BPF_JMP || class == BPF_JMP32) && BPF_OP(p->code) == BPF_CALL)
			return false;
		if (p->code == (BPF_LD | BPF_DW | BPF_IMM)) { /* 64 bits, in two. */
			if (p->src_reg != 0 || i + 1 == n)
				return false;
			i++;
			continue;
		}
		if (class == BPF_LD || (class == BPF_STX && BPF_MODE(p->code) != BPF_MEM))
			return false;
	}
	return true;
}

/* give_descriptor puts a descriptor into the caller's table as the result. */
static long give_descriptor(const struct caller *c, int fd)
{
	struct seccomp_notif_addfd a = {
		.id = c->request.id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (unsigned)fd, .newfd_flags = O_CLOEXEC,
	};

	return ioctl(c->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a) < 0 ? -errno : ANSWERED;
}

static long load_program(const struct caller *c, const union bpf_attr *attr)
{
	static struct bpf_insn program[INSTRUCTIONS];
	char license[128];
	union bpf_attr own = {0};

	if (attr->insn_cnt == 0 || attr->insn_cnt > INSTRUCTIONS)
		return -E2BIG;
	if (!read_memory(c, attr->insns, program, attr->insn_cnt * sizeof *program) || read_string(c, attr->license, license, sizeof license) < 0)
		return -EFAULT;
	if (!is_plain(program, attr->insn_cnt))
		return -EPERM;
	own.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	own.insn_cnt = attr->insn_cnt;
	own.insns = (uint64_t)(size_t)program;
	own.license = (uint64_t)(size_t)license;
	keep_caps(1ULL << CAP_BPF | 1ULL << CAP_NET_ADMIN);
	int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &own, sizeof own);
	return fd < 0 ? -errno : give_descriptor(c, fd);
}

/* take_descriptor takes a descriptor from the caller. */
static int take_descriptor(const struct caller *c, unsigned number)
{
	int process = (int)syscall(SYS_pidfd_open, c->process, 0);

	if (process < 0 || !still_there(c))
		return -1;
	return (int)syscall(SYS_pidfd_getfd, process, number, 0);
}

static bool is_cgroup(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* is_below reports whether a cgroup is below the container's own. */
static bool is_below(int cgroup)
{
	char dir[PATH_MAX];
	struct stat own, st;
	int at = cgroup;

	if (!is_cgroup(cgroup) || !cgroup_of("v2", dir, sizeof dir) || stat(dir, &own) < 0)
		return false;
	if (fstat(at, &st) < 0 || (st.st_ino == own.st_ino && st.st_dev == own.st_dev))
		return false;
	for (int levels = 0; levels < 64; levels++) {
		at = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (at < 0 || !is_cgroup(at) || fstat(at, &st) < 0)
			return false;
		if (st.st_ino == own.st_ino && st.st_dev == own.st_dev)
			return true;
	}
	return false;
}

/* leaves_others reports whether what is attached to the container's cgroup
 * holds below it whatever is attached there. */
static bool leaves_others(void)
{
	char dir[PATH_MAX];
	union bpf_attr own = {0};

	if (!cgroup_of("v2", dir, sizeof dir))
		return false;
	own.query.target_fd = (unsigned)open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own.query.attach_type = BPF_CGROUP_DEVICE;
	if (syscall(SYS_bpf, BPF_PROG_QUERY, &own, sizeof own) < 0 && errno != ENOSPC)
		return false;
	return own.query.prog_cnt == 0 || (own.query.attach_flags & BPF_F_ALLOW_MULTI);
}

static long attach_program(const struct caller *c, const union bpf_attr *attr, int command)
{
	union bpf_attr own = {0};
	int cgroup = take_descriptor(c, attr->target_fd), program = -1, replaced = -1;

	/* What else bpf(2) attaches is none of ours. */
	if (attr->attach_type != BPF_CGROUP_DEVICE || (attr->attach_flags & ~(unsigned)(BPF_F_ALLOW_OVERRIDE | BPF_F_ALLOW_MULTI | BPF_F_REPLACE)))
		return -EPERM;
	if (cgroup < 0)
		return -EBADF;
	if (!is_below(cgroup) || !leaves_others())
		return -EPERM;
	if (command == BPF_PROG_ATTACH || attr->attach_bpf_fd != 0)
		if ((program = take_descriptor(c, attr->attach_bpf_fd)) < 0)
			return -EBADF;
	if ((attr->attach_flags & BPF_F_REPLACE) && (replaced = take_descriptor(c, attr->replace_bpf_fd)) < 0)
		return -EBADF;
	own.target_fd = (unsigned)cgroup;
	own.attach_bpf_fd = program < 0 ? 0 : (unsigned)program;
	own.replace_bpf_fd = replaced < 0 ? 0 : (unsigned)replaced;
	own.attach_type = BPF_CGROUP_DEVICE;
	own.attach_flags = attr->attach_flags;
	keep_caps(1ULL << CAP_BPF | 1ULL << CAP_NET_ADMIN);
	if (!still_there(c))
		return -ESRCH;
	return syscall(SYS_bpf, command, &own, sizeof own) < 0 ? -errno : 0;
}

long device_program(struct caller *c)
{
	const __u64 *args = c->request.data.args;
	union bpf_attr attr = {0};
	int command = (int)args[0];
	size_t length = args[2] < sizeof attr ? args[2] : sizeof attr;

	if (!setting("bpf-devices", "1") || !(has_cap(c, CAP_SYS_ADMIN) || has_cap(c, CAP_BPF)))
		return PROCEED;
	if (!read_memory(c, args[1], &attr, length))
		return -EFAULT;
	/* The kernel refuses what is not for us, whatever it is by then. */
	if (command == BPF_PROG_LOAD)
		return attr.prog_type == BPF_PROG_TYPE_CGROUP_DEVICE ? load_program(c, &attr) : PROCEED;
	return attach_program(c, &attr, command);
}
