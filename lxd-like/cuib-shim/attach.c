/* The attach mode: cuib-shim attach PID FILTER NOTIFY DIR [v1=FILE|v2=DIR]...
 *
 * A server that runs programs in one container. It is started when the first
 * program is to be run and ends with the container, with its daemon, or when
 * it has idled. FILTER and NOTIFY are files of programs for the kernel, or "-",
 * and DIR is where the container's files are. It moves itself into the container's v1 cgroups, whose
 * migration can take the kernel 11 ms, once instead of for each program.
 *
 * FD_INIT is a pidfd of the container's init, PID, and FD_CONTROL a socket
 * that takes requests: a message "x" with the descriptors SESSION, PAYLOAD
 * and, unless a terminal is wanted, the program's three. What SESSION gets
 * is in child.c. PAYLOAD is a file of NUL-terminated strings; the first
 * character of each says what it is (parse below). */
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IDLE_MS 60000
#define MAX_PAYLOAD (16 << 20)

static char *proc_file(pid_t pid, const char *name)
{
	char *path = formatted("/proc/%d/%s", pid, name);
	char *data = read_file(path, NULL);

	free(path);
	return data;
}

/* differing returns the kinds of namespace that init does not share with us:
 * entering one's own user namespace is an error. */
static int differing(pid_t init)
{
	static const struct {
		const char *name;
		int flag;
	} kinds[] = {
		{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET},
		{"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}, {"cgroup", CLONE_NEWCGROUP},
	};
	int flags = 0;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct stat own, other;
		char path[64];
		snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i].name);
		if (stat(path, &own) < 0)
			continue;
		snprintf(path, sizeof path, "/proc/%d/ns/%s", init, kinds[i].name);
		if (stat(path, &other) < 0)
			die("cannot see the namespaces of %d: %m", init);
		if (own.st_ino != other.st_ino || own.st_dev != other.st_dev)
			flags |= kinds[i].flag;
	}
	return flags;
}

/* set_label keeps init's LSM label, if it has one, for the programs. */
static void set_label(struct guest *g)
{
	char *label = proc_file(g->init, "attr/current");

	g->label = NULL;
	if (label == NULL)
		return;
	char *end = strstr(label, " (");
	label[end != NULL ? (size_t)(end - label) : strcspn(label, "\n")] = 0;
	if (label[0] != 0 && strcmp(label, "unconfined") != 0 && strcmp(label, "kernel") != 0)
		g->label = label;
}

static unsigned long long status_value(const char *status, const char *field, int base)
{
	const char *line = strstr(status, field);

	if (line == NULL)
		die("/proc has no %s", field);
	return strtoull(line + strlen(field), NULL, base);
}

/* learn reads what programs must have in common with init. */
void learn(struct guest *g)
{
	char *status = proc_file(g->init, "status");
	char *score = proc_file(g->init, "oom_score_adj");
	char *personality = proc_file(g->init, "personality");

	if (status == NULL || score == NULL || personality == NULL)
		die("cannot read /proc/%d: %m", g->init);
	g->namespaces = differing(g->init);
	g->bounding = status_value(status, "\nCapBnd:", 16);
	g->no_new_privs = status_value(status, "\nNoNewPrivs:", 10) != 0;
	g->personality = strtoul(personality, NULL, 16);
	set_label(g);
	g->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (g->proc < 0)
		die("cannot open /proc: %m");
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && !write_all(fd, score, strlen(score)) && errno != EACCES)
		die("cannot set the OOM score: %m");
	close(fd);
	free(status);
	free(score);
	free(personality);
}

static void join_cgroup(const char *procs)
{
	int fd = open(procs, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || !write_all(fd, "0", 1))
		die("cannot enter %s: %m", procs);
	close(fd);
}

/* leaf returns a cgroup below dir for programs: systemd hands the controllers
 * of the container's own to its children, after which it takes no process. */
static int leaf(int dir)
{
	if (mkdirat(dir, ".cuib", 0755) < 0 && errno != EEXIST)
		return -1;
	return openat(dir, ".cuib", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static pid_t fork_into(int cgroup)
{
	struct clone_args args = {.exit_signal = SIGCHLD};

	if (cgroup >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)cgroup;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* fork_session forks, the child being in the container's cgroups. */
pid_t fork_session(const struct guest *g)
{
	pid_t pid = fork_into(g->cgroup);

	if (pid >= 0 || g->cgroup < 0 || (errno != EBUSY && errno != EOPNOTSUPP))
		return pid;
	int below = leaf(g->cgroup);
	if (below < 0)
		return -1;
	pid = fork_into(below);
	close(below);
	return pid;
}

/* own returns the strings of the payload that begin with kind, without it. */
static char **own(char *payload, size_t length, char kind, size_t *count)
{
	size_t n = 0;
	for (char *s = payload; s < payload + length; s += strlen(s) + 1)
		n += *s == kind;
	char **list = calloc(n + 1, sizeof *list);
	if (list == NULL)
		die("out of memory");
	*count = 0;
	for (char *s = payload; s < payload + length; s += strlen(s) + 1)
		if (*s == kind)
			list[(*count)++] = s + 1;
	return list;
}

static char *one(char *payload, size_t length, char kind)
{
	for (char *s = payload; s < payload + length; s += strlen(s) + 1)
		if (*s == kind)
			return s + 1;
	return NULL;
}

static struct request parse(char *payload, size_t length)
{
	struct request r = {0};
	char *terminal = one(payload, length, 't');
	char *ids = one(payload, length, 'u');

	r.args = own(payload, length, 'a', &r.nargs);
	r.env = own(payload, length, 'e', &r.nenv);
	r.rlimits = own(payload, length, 'l', &r.nrlimits);
	r.cwd = one(payload, length, 'd');
	r.home = one(payload, length, 'h');
	if (r.nargs == 0 || ids == NULL || sscanf(ids, "%u:%u", &r.uid, &r.gid) != 2)
		die("request without program or user");
	if (terminal != NULL) {
		r.terminal = true;
		if (sscanf(terminal, "%hux%hu", &r.columns, &r.rows) != 2)
			die("bad terminal size");
	}
	return r;
}

/* read_payload reads a file that the daemon filled, from its start. */
static char *read_payload(int fd, size_t *length)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > MAX_PAYLOAD)
		die("bad size of a request");
	*length = (size_t)st.st_size;
	char *data = malloc(*length + 1);
	if (data == NULL || pread(fd, data, *length, 0) != (ssize_t)*length)
		die("cannot read a request");
	data[*length] = 0;
	return data;
}

/* serve handles one message in a process of its own. It returns false when
 * the daemon has gone. */
static bool serve(struct guest *g)
{
	int fds[MAX_FDS], n;
	char what;
	ssize_t got = receive_fds(FD_CONTROL, &what, 1, fds, &n);

	if (got <= 0)
		return false;
	pid_t pid = n >= 2 ? fork_session(g) : -1;
	if (pid == 0) {
		size_t length;
		char *payload = read_payload(fds[1], &length);
		struct request r = parse(payload, length);
		if (n != (r.terminal ? 2 : 5))
			die("request with %d descriptors", n);
		close(fds[1]);
		signal(SIGCHLD, SIG_DFL);
		session(g, &r, fds[0], r.terminal ? (int[]){-1, -1, -1} : fds + 2);
	}
	if (pid < 0 && n > 0) {
		char *reply = formatted("Fcannot fork: %s", strerror(errno));
		send_fds(fds[0], reply, strlen(reply), NULL, 0);
		free(reply);
	}
	for (int i = 0; i < n; i++)
		close(fds[i]);
	return true;
}

int attach(int argc, char **argv)
{
	struct guest g = {.cgroup = -1};

	if (argc < 6)
		die("usage: attach PID FILTER NOTIFY DIR [v1=FILE|v2=DIR]...");
	hide_from_guests();
	/* Sessions report for themselves. Where one is killed with its container,
	 * its program is ours to reap at once: the container's init does not end
	 * before that, and who knows what the host's does. */
	signal(SIGCHLD, SIG_IGN);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		die("cannot become a reaper: %m");
	g.init = atoi(argv[2]);
	learn(&g);
	read_filters(&g.filters, argv[3], argv[4]);
	g.dir = argv[5];
	for (int i = 6; i < argc; i++) {
		if (strncmp(argv[i], "v1=", 3) == 0)
			join_cgroup(argv[i] + 3);
		else if (strncmp(argv[i], "v2=", 3) == 0)
			g.cgroup = open(argv[i] + 3, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	struct pollfd p[] = {{.fd = FD_CONTROL, .events = POLLIN}, {.fd = FD_INIT, .events = POLLIN}};
	for (;;) {
		int ready = poll(p, 2, IDLE_MS);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0 || p[1].revents != 0 || !serve(&g))
			return 0;
	}
}
