/* Asks for what the kernel refuses to containers unless somebody helps: one
 * thing for each argument, and prints what the kernel says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int say(const char *what, long result)
{
	printf("%s %d\n", what, result < 0 ? errno : 0);
	return result < 0;
}

static void show_sysinfo(void)
{
	struct sysinfo s;

	if (say("sysinfo", sysinfo(&s)) == 0)
		printf("%lu %lu %d %ld %lu\n", s.totalram * s.mem_unit, s.freeram * s.mem_unit, s.procs, s.uptime, s.totalswap * s.mem_unit);
}

static void set_policy(int policy, int priority)
{
	struct sched_param p = {.sched_priority = priority};

	if (say("policy", syscall(SYS_sched_setscheduler, 0, policy, &p)) == 0)
		printf("%d\n", sched_getscheduler(0));
}

/* load_program loads one that lets nobody use any device. */
static int load_program(int type, int call)
{
	struct bpf_insn program[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
		{.code = call ? BPF_JMP | BPF_CALL : BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = call},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr a = {.prog_type = (unsigned)type, .insn_cnt = 4, .insns = (unsigned long)program, .license = (unsigned long)"GPL"};

	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a);
}

static void attach_program(const char *cgroup)
{
	union bpf_attr a = {.attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
	int program = load_program(BPF_PROG_TYPE_CGROUP_DEVICE, 0);

	say("load", program);
	a.target_fd = (unsigned)open(cgroup, O_RDONLY | O_DIRECTORY);
	a.attach_bpf_fd = (unsigned)program;
	say("attach", syscall(SYS_bpf, BPF_PROG_ATTACH, &a, sizeof a));
	a.attach_flags = 0;
	say("detach", syscall(SYS_bpf, BPF_PROG_DETACH, &a, sizeof a));
}

static void make_token(const char *path)
{
	struct {
		unsigned flags, bpffs;
	} a = {.bpffs = (unsigned)open(path, O_RDONLY | O_DIRECTORY)};

	say("token", syscall(SYS_bpf, 36, &a, sizeof a));
}

/* race makes device nodes while another process changes the path under the
 * reader's eyes, between one that may be written and one that may not. */
static void race(const char *good, const char *bad, int rounds)
{
	char *path = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t other = fork();

	if (other == 0)
		for (int i = 0;; i++)
			strcpy(path, i & 1 ? good : bad);
	int made = 0;
	for (int i = 0; i < rounds; i++) {
		made += syscall(SYS_mknodat, AT_FDCWD, path, S_IFCHR | 0666, makedev(1, 3)) == 0;
		unlink(good);
	}
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	printf("race %d\n", made > 0);
}

/* flood has many processes ask again and again. */
static void flood(int processes, int rounds)
{
	struct sysinfo s;
	int failed = 0, status;

	for (int i = 0; i < processes; i++)
		if (fork() == 0) {
			for (int j = 0; j < rounds; j++)
				if (sysinfo(&s) < 0)
					_exit(1);
			_exit(0);
		}
	while (wait(&status) > 0)
		failed += status != 0;
	printf("flood %d\n", failed);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
#define ARG(n) (argc > (n) ? argv[n] : "")
#define NUMBER(n) atoi(ARG(n))

	umask(022);
	if (strcmp(what, "mknod") == 0)
		say(what, mknod(ARG(2), S_IFCHR | 0666, makedev(NUMBER(3), NUMBER(4))));
	else if (strcmp(what, "setxattr") == 0)
		say(what, setxattr(ARG(2), ARG(3), ARG(4), strlen(ARG(4)), 0));
	else if (strcmp(what, "fsetxattr") == 0)
		say(what, fsetxattr(open(ARG(2), O_RDONLY), ARG(3), ARG(4), strlen(ARG(4)), 0));
	else if (strcmp(what, "mount") == 0)
		say(what, mount(ARG(2), ARG(3), ARG(4), strcmp(ARG(6), "ro") == 0 ? MS_RDONLY : 0, ARG(5)));
	else if (strcmp(what, "sysinfo") == 0)
		show_sysinfo();
	else if (strcmp(what, "policy") == 0)
		set_policy(NUMBER(2), NUMBER(3));
	else if (strcmp(what, "bpf") == 0)
		say(what, load_program(NUMBER(2), NUMBER(3)));
	else if (strcmp(what, "attach") == 0)
		attach_program(ARG(2));
	else if (strcmp(what, "token") == 0)
		make_token(ARG(2));
	else if (strcmp(what, "race") == 0)
		race(ARG(2), ARG(3), NUMBER(4));
	else if (strcmp(what, "flood") == 0)
		flood(NUMBER(2), NUMBER(3));
	else if (strcmp(what, "fsopen") == 0)
		say(what, syscall(SYS_fsopen, "tmpfs", 0));
	return 0;
}
