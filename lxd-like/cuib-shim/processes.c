/* sched_setscheduler(2) for policies of real time, and sysinfo(2). */
#include "intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

/* set_inside sets the policy of a process by the number that the caller's PID
 * namespace has for it, so that it cannot be one outside. */
static long set_inside(const struct caller *c, pid_t pid, int policy, int priority)
{
	int status = 0, ns = openat(c->proc, "ns/pid_for_children", O_RDONLY | O_CLOEXEC);
	const struct sched_param param = {.sched_priority = priority};

	if (ns < 0 || setns(ns, CLONE_NEWPID) < 0)
		return -EPERM;
	pid_t child = fork();
	if (child == 0) {
		hide_from_guests();
		keep_caps(1ULL << CAP_SYS_NICE);
		_exit(sched_setscheduler(pid, policy, &param) < 0 ? errno : 0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -EAGAIN;
	return -WEXITSTATUS(status);
}

/* own_number is the thread that the caller is, in its own PID namespace. */
static pid_t own_number(const struct caller *c)
{
	char path[64], *status, *at;
	int number = -1;

	snprintf(path, sizeof path, "/proc/self/fd/%d/status", c->proc);
	status = read_file(path, NULL);
	if (status != NULL && (at = strstr(status, "\nNSpid:\t")) != NULL) {
		char *end = at + 1 + strcspn(at + 1, "\n");
		*end = 0;
		at = strrchr(at, '\t');
		number = atoi(at + 1);
	}
	free(status);
	return number;
}

long set_scheduler(struct caller *c)
{
	const __u64 *args = c->request.data.args;
	pid_t pid = (pid_t)args[0];
	int policy = (int)args[1], priority;

	if (!has_cap(c, CAP_SYS_NICE))
		return PROCEED;
	if (pid < 0)
		return -EINVAL;
	if (!read_memory(c, args[2], &priority, sizeof priority))
		return -EFAULT;
	if (pid == 0)
		pid = own_number(c);
	if (pid <= 0)
		return -ESRCH;
	return set_inside(c, pid, policy, priority);
}

/* A cgroup of the container, as init's, wherever below init has moved itself.
 * It returns false if there is none of that kind. */
bool cgroup_of(const char *controller, char *dir, size_t size)
{
	char path[64], *mount, *line, *rest, *text;
	char *name = formatted("/lxc.payload.%s", instance.name);
	bool found = false;

	snprintf(path, sizeof path, "/proc/%d/cgroup", instance.init);
	rest = text = read_file(path, NULL);
	mount = setting_of("cgroup", controller);
	while (mount != NULL && !found && (line = strsep(&rest, "\n")) != NULL) {
		char *kinds = strchr(line, ':'), *at = kinds != NULL ? strchr(kinds + 1, ':') : NULL;
		if (at == NULL)
			continue;
		*at++ = 0;
		char list[256];
		snprintf(list, sizeof list, ",%s,", kinds + 1);
		char *wanted = formatted(",%s,", strcmp(controller, "v2") == 0 ? "" : controller);
		if (strstr(list, wanted) != NULL) {
			char *own = strstr(at, name), *below = own != NULL ? strchr(own + 1, '/') : NULL;
			if (below != NULL)
				*below = 0;
			found = own != NULL && (size_t)snprintf(dir, size, "%s%s", mount, at) < size;
		}
		free(wanted);
	}
	free(text);
	free(mount);
	free(name);
	return found;
}

/* value reads a number from a file of a cgroup; false for "max" and where there
 * is none. */
static bool value(const char *dir, const char *file, unsigned long long *n)
{
	char *path = formatted("%s/%s", dir, file);
	char *text = read_file(path, NULL), *end = text;

	if (text != NULL)
		*n = strtoull(text, &end, 10);
	bool ok = text != NULL && end != text;
	free(text);
	free(path);
	return ok;
}

static unsigned long long stat_of(const char *dir, const char *name)
{
	char *path = formatted("%s/memory.stat", dir);
	char *text = read_file(path, NULL), *line = text;
	size_t length = strlen(name);
	unsigned long long n = 0;

	for (; line != NULL && *line != 0; line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, name, length) == 0 && line[length] == ' ') {
			n = strtoull(line + length + 1, NULL, 10);
			break;
		}
	free(text);
	free(path);
	return n;
}

/* Bytes of memory: what there may be, and what is used, of memory and swap. */
struct memory {
	unsigned long long limit, used, swap_limit, swap_used, shared;
};

static bool limits_v2(struct memory *m)
{
	char dir[PATH_MAX];

	if (!cgroup_of("v2", dir, sizeof dir) || !value(dir, "memory.current", &m->used))
		return false;
	value(dir, "memory.max", &m->limit);
	value(dir, "memory.swap.max", &m->swap_limit);
	value(dir, "memory.swap.current", &m->swap_used);
	m->shared = stat_of(dir, "shmem");
	return true;
}

static bool limits_v1(struct memory *m)
{
	char dir[PATH_MAX];
	unsigned long long both = ~0ULL, both_used = 0;

	if (!cgroup_of("memory", dir, sizeof dir) || !value(dir, "memory.usage_in_bytes", &m->used))
		return false;
	m->limit = stat_of(dir, "hierarchical_memory_limit");
	m->shared = stat_of(dir, "total_shmem");
	if (value(dir, "memory.memsw.limit_in_bytes", &both) && both > m->limit)
		m->swap_limit = both - m->limit;
	if (value(dir, "memory.memsw.usage_in_bytes", &both_used) && both_used > m->used)
		m->swap_used = both_used - m->used;
	return true;
}

static unsigned long long lower(unsigned long long a, unsigned long long b) { return a < b ? a : b; }

/* show_limits puts the container's limits in the place of what the host has. */
static void show_limits(struct sysinfo *s)
{
	struct memory m = {.limit = ~0ULL, .swap_limit = ~0ULL};
	unsigned long long unit = s->mem_unit, total = s->totalram * unit, swap = s->totalswap * unit;

	if (!limits_v1(&m) && !limits_v2(&m))
		return;
	m.limit = lower(m.limit, total);
	m.swap_limit = lower(m.swap_limit, swap);
	if (m.limit < total) {
		s->totalram = m.limit / unit;
		s->freeram = (m.limit - lower(m.used, m.limit)) / unit;
		s->sharedram = m.shared / unit;
		s->bufferram = 0; /* Nobody counts them by container. */
	}
	if (m.swap_limit < swap) {
		s->totalswap = m.swap_limit / unit;
		s->freeswap = (m.swap_limit - lower(m.swap_used, m.swap_limit)) / unit;
	}
}

static void show_processes(struct sysinfo *s)
{
	char dir[PATH_MAX];
	unsigned long long n;

	if ((cgroup_of("pids", dir, sizeof dir) || cgroup_of("v2", dir, sizeof dir)) && value(dir, "pids.current", &n))
		s->procs = (unsigned short)lower(n, USHRT_MAX);
}

/* show_uptime shows for how long the container's init has run: field 22 of its
 * stat, in ticks since the host's start. */
static void show_uptime(struct sysinfo *s)
{
	char path[32], *text, *at;
	unsigned long long begun;
	struct timespec up;

	snprintf(path, sizeof path, "/proc/%d/stat", instance.init);
	text = read_file(path, NULL);
	at = text != NULL ? strrchr(text, ')') : NULL;
	if (at != NULL && clock_gettime(CLOCK_BOOTTIME, &up) == 0 &&
	    sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &begun) == 1) {
		long since = up.tv_sec - (long)(begun / (unsigned long long)sysconf(_SC_CLK_TCK));
		s->uptime = since > 0 ? since : 0;
	}
	free(text);
}

/* show_load shows the load as /proc/loadavg has it in the container, where it
 * is lxcfs's: that looks at the PID namespace of who reads. */
static void show_load(const struct caller *c, struct sysinfo *s)
{
	char *path = setting_of("lxcfs", "loadavg");
	int ends[2], ns = openat(c->proc, "ns/pid_for_children", O_RDONLY | O_CLOEXEC);
	double load[3];

	if (path == NULL || ns < 0 || setns(ns, CLONE_NEWPID) < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return;
	pid_t child = fork();
	if (child == 0) {
		hide_from_guests();
		char *text = read_file(path, NULL);
		bool ok = text != NULL && sscanf(text, "%lf %lf %lf", &load[0], &load[1], &load[2]) == 3;
		_exit(!ok || !write_all(ends[1], load, sizeof load));
	}
	close(ends[1]);
	if (read(ends[0], load, sizeof load) == sizeof load)
		for (int i = 0; i < 3; i++)
			s->loads[i] = (unsigned long)(load[i] * (1 << SI_LOAD_SHIFT));
	free(path);
}

/* What programs of 32 bits know as struct sysinfo. */
struct sysinfo32 {
	int32_t uptime;
	uint32_t loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
	uint16_t procs, pad;
	uint32_t totalhigh, freehigh, mem_unit;
	char rest[8];
};

static bool write_32(const struct caller *c, const struct sysinfo *s)
{
	unsigned shift = 0; /* Sizes that are too large are in pages, as the kernel has them. */

	if ((s->totalram | s->totalswap) >> 32 != 0)
		for (unsigned long unit = s->mem_unit; unit < 4096; unit <<= 1)
			shift++;
	struct sysinfo32 t = {
		.uptime = (int32_t)s->uptime, .procs = s->procs, .mem_unit = s->mem_unit << shift,
		.loads = {(uint32_t)s->loads[0], (uint32_t)s->loads[1], (uint32_t)s->loads[2]},
		.totalram = (uint32_t)(s->totalram >> shift), .freeram = (uint32_t)(s->freeram >> shift),
		.sharedram = (uint32_t)(s->sharedram >> shift), .bufferram = (uint32_t)(s->bufferram >> shift),
		.totalswap = (uint32_t)(s->totalswap >> shift), .freeswap = (uint32_t)(s->freeswap >> shift),
	};
	return write_memory(c, c->request.data.args[0], &t, sizeof t);
}

long show_sysinfo(struct caller *c)
{
	struct sysinfo s = {0};

	if (sysinfo(&s) < 0)
		return -errno;
	show_limits(&s);
	show_processes(&s);
	show_uptime(&s);
	show_load(c, &s);
	bool written = c->compat ? write_32(c, &s) : write_memory(c, c->request.data.args[0], &s, sizeof s);
	return written ? 0 : -EFAULT;
}
