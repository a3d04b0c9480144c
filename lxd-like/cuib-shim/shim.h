/* cuib-shim: the part of Cuib that touches containers from the host's side.
 *
 * Each mode is a short, single-threaded program of its own:
 *
 *   start    owns one container for as long as it runs (start.c)
 *            and answers system calls of it that are intercepted (intercept.c)
 *   attach   runs programs in a running container (attach.c, child.c)
 *   mount    mounts a directory or file of the host in one (mount.c)
 *   unmount  takes that back
 *   show     mounts files of another lxcfs in one
 *   device   lets it use a device, or not any more (console.c)
 *   console  hands out the controlling end of a container's console (console.c)
 *   bpffs    mounts a file system that hands rights to BPF on to one (bpffs.c)
 *   proxy    passes on what clients of host or container say to the other (proxy.c)
 *   forget   removes the socket that a proxy listened on in a container
 *
 * It runs as root and meets what a guest controls, so: everything that it
 * holds is close-on-exec, nothing of the guest's is opened by path before the
 * guest's namespaces are entered, and it cannot be traced from within. */
#ifndef CUIB_SHIM_H
#define CUIB_SHIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <lxc/lxccontainer.h>

/* What the program was started with, by number. */
enum {
	FD_CONTROL = 3, /* Status pipe or control socket. */
	FD_INIT = 4,    /* attach: pidfd of the container's init. */
};

#define noreturn_printf(a, b) __attribute__((noreturn, format(printf, a, b)))

/* util.c */
void die(const char *format, ...) noreturn_printf(1, 2);
void reset_signals(void);
void hide_from_guests(void);
/* close_others leaves the standard descriptors and one, or none if that is
 * negative. */
bool close_others(int one);
char *read_file(const char *path, size_t *length);
char *formatted(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool write_all(int fd, const void *data, size_t length);
bool send_fds(int sock, const void *data, size_t length, const int *fds, int n);
ssize_t receive_fds(int sock, void *data, size_t length, int *fds, int *n);
struct lxc_container *open_container(const char *dir, const char *name);

/* filter.c */

/* Programs for the kernel, struct sock_filter[]. */
struct filters {
	char *main;           /* NULL for none. */
	size_t main_length;
	char *notify;         /* Of calls that a handler is told of; NULL for none. */
	size_t notify_length;
	int handler;          /* A connection to it, or -1. */
};

/* What a handler is told with a new descriptor. */
enum { NEW_INIT = 'I', NEW_PROGRAM = 'P' };

extern struct filters init_filters;
void read_filters(struct filters *f, const char *main, const char *notify);
long count_filters(pid_t pid);
bool load_filters(const struct filters *f, char what);

/* intercept.c */
int start_handler(char **argv);
int connect_handler(const char *dir);

/* bpffs.c */
int bpffs(int argc, char **argv);

/* network.c */
int network(int argc, char **argv);

/* start.c */
int start(int argc, char **argv);

/* attach.c */
int attach(int argc, char **argv);

/* console.c */
int console(int argc, char **argv);
int device(int argc, char **argv);

/* proxy.c */
int proxy(int argc, char **argv);
int proxy_forget(int argc, char **argv);

/* mount.c */
int mount_inside(int argc, char **argv);
int unmount_inside(int argc, char **argv);
int show_inside(int argc, char **argv);

#define MAX_FDS 8

/* A request to run a program. The strings point into the payload. */
struct request {
	char **args, **env;
	size_t nargs, nenv;
	const char *cwd;      /* Must exist. */
	const char *home;     /* Used if it exists, else /. */
	uid_t uid;
	gid_t gid;
	bool terminal;
	unsigned short rows, columns;
	char **rlimits;       /* RESOURCE=SOFT:HARD, in numbers. */
	size_t nrlimits;
};

/* What a server knows of its container. */
struct guest {
	pid_t init;
	int namespaces;       /* CLONE_NEW* in which init differs from the host. */
	int proc;             /* The host's /proc. */
	int cgroup;           /* The container's cgroup2 directory, or -1. */
	unsigned long long bounding;
	bool no_new_privs;
	unsigned long personality;
	char *label;          /* LSM label to take on at exec, or NULL. */
	struct filters filters;
	const char *dir;      /* Of the container's files on the host. */
};

/* attach.c */
void learn(struct guest *g);
pid_t fork_session(const struct guest *g);

/* child.c */
void session(struct guest *g, struct request *r, int sock, int io[3]) __attribute__((noreturn));

#endif
