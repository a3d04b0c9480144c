/* What a proxy gives up before it meets its first client: all capabilities but
 * perhaps one, all files, and all system calls but those of its work. */
#include "relay.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "name the audit architecture here"
#endif

static const int calls[] = {
	SYS_read, SYS_write, SYS_splice, SYS_close, SYS_shutdown, SYS_pipe2, SYS_fcntl,
	SYS_accept4, SYS_connect, SYS_getsockname, SYS_getpeername, SYS_getsockopt, SYS_setsockopt,
	SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_recvmmsg, SYS_sendmmsg,
	SYS_epoll_ctl, SYS_epoll_pwait,
#ifdef SYS_epoll_wait
	SYS_epoll_wait,
#endif
	SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise,
	SYS_clock_gettime, SYS_rt_sigreturn, SYS_restart_syscall, SYS_exit, SYS_exit_group,
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define VERDICT(what) BPF_STMT(BPF_RET | BPF_K, what)

/* filter allows calls; sockets of three families; and memory that holds no
 * program. What else there is ends the process. */
static void filter(void)
{
	enum { COUNT = sizeof calls / sizeof *calls };
	struct sock_filter program[COUNT * 2 + 32];
	unsigned short n = 0;

	program[n++] = (struct sock_filter)LOAD(arch);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	program[n++] = (struct sock_filter)VERDICT(SECCOMP_RET_KILL_PROCESS);
	program[n++] = (struct sock_filter)LOAD(nr);
	for (size_t i = 0; i < COUNT; i++) {
		program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		program[n++] = (struct sock_filter)VERDICT(SECCOMP_RET_ALLOW);
	}
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 6);
	program[n++] = (struct sock_filter)LOAD(args[0]);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 3, 0);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0);
	program[n++] = (struct sock_filter)VERDICT(SECCOMP_RET_KILL_PROCESS);
	program[n++] = (struct sock_filter)VERDICT(SECCOMP_RET_ALLOW);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3);
	program[n++] = (struct sock_filter)LOAD(args[2]);
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0);
	program[n++] = (struct sock_filter)VERDICT(SECCOMP_RET_ALLOW);
	program[n++] = (struct sock_filter)VERDICT(SECCOMP_RET_KILL_PROCESS);
	struct sock_fprog all = {n, program};
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) < 0)
		die("cannot filter system calls: %m");
}

/* close_files takes the right to open any file, where the kernel can: to
 * connect to a socket that has a path is another. */
static void close_files(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (version < 1)
		return; /* The kernel has none; the filter stays. */
	struct landlock_ruleset_attr attr = {
		/* The rights of version 1 are these: reading, writing and executing
		 * files, and making and removing them. */
		.handled_access_fs = (1ULL << 13) - 1,
	};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		die("cannot give up files: %m");
	close(fd);
}

/* keep_only leaves a set of capabilities in the user namespace that the
 * process is in, and none beyond. */
static void keep_only(unsigned long long caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (unsigned)caps, .permitted = (unsigned)caps},
		{.effective = (unsigned)(caps >> 32), .permitted = (unsigned)(caps >> 32)},
	};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &header, data) < 0)
		die("cannot give up capabilities: %m");
}

/* drop_bounds gives up groups, and what programs could be given. */
static void drop_bounds(void)
{
	for (int cap = 0; cap <= 63 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		; /* Up to the last that the kernel has. */
	if (setgroups(0, NULL) < 0)
		die("cannot give up groups: %m");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("cannot give up new privileges: %m");
}

/* confine_keeper leaves what it takes to make a socket in any directory of the
 * guest, and give it to any of its users. */
void confine_keeper(void)
{
	drop_bounds();
	keep_only(1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER);
}

void confine(const struct rule *r)
{
	/* As root it may connect to the sockets of others, as the peers' proxies
	 * may. In an instance that is its root, to whom the host's files are
	 * nobody's. */
	bool others = !r->drops && r->connect.kind == UNIX && r->connect.at.path.sun_path[0] != 0;

	drop_bounds();
	if (r->drops && (setresgid(r->sgid, r->sgid, r->sgid) < 0 || setresuid(r->suid, r->suid, r->suid) < 0))
		die("cannot become user %u and group %u: %m", r->suid, r->sgid);
	hide_from_guests();
	close_files();
	keep_only(others ? 1ULL << CAP_DAC_OVERRIDE : 0);
	filter();
}
