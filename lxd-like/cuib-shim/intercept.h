/* What answers system calls of a container that it cannot make itself: see
 * intercept.c. */
#ifndef CUIB_INTERCEPT_H
#define CUIB_INTERCEPT_H

#include "shim.h"

#include <limits.h>
#include <stdint.h>
#include <linux/seccomp.h>

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE (1UL << 0)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_ADDFD
#error "these kernel headers are older than Linux 5.9"
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

enum what { MKNOD, MKNODAT, SETXATTR, LSETXATTR, FSETXATTR, MOUNT, BPF, SETSCHEDULER, SYSINFO, NOTHING };

/* Who has made a call, and is held in it until it is answered. Its ids are
 * those of the host. Only it can change them, and it waits. */
struct caller {
	int listener;
	struct seccomp_notif request;
	enum what what;
	bool compat;          /* It is of 32 bits. */
	int proc, mem;        /* /proc/TID and its file mem, of nobody else. */
	pid_t process;        /* Of which it is a thread. */
	uid_t uid;            /* These two are those that count for files. */
	gid_t gid;
	gid_t *groups;
	size_t ngroups;
	unsigned long long caps;
	mode_t umask;
	bool ours;            /* Its user namespace is the container's. */
};

/* The container. */
struct instance {
	const char *dir;      /* Of its files on the host. */
	const char *name;
	pid_t init;
	int user;             /* Its user namespace. */
};
extern struct instance instance;

/* What a handler returns: the call's result, or an error's number below 0, or
 * one of these. Who lets the call go on has decided nothing by what the caller
 * can have changed since, or knows that the kernel refuses whatever it was. */
#define PROCEED LONG_MIN
#define ANSWERED (LONG_MIN + 1)

long make_node(struct caller *c);
long set_attribute(struct caller *c);
long mount_device(struct caller *c);
long device_program(struct caller *c);
long set_scheduler(struct caller *c);
long show_sysinfo(struct caller *c);

/* intercept.c */
bool still_there(const struct caller *c);

/* caller.c */
bool learn_caller(struct caller *c);
long read_string(const struct caller *c, uint64_t address, char *to, size_t size);
bool read_memory(const struct caller *c, uint64_t address, void *to, size_t length);
bool write_memory(const struct caller *c, uint64_t address, const void *from, size_t length);
bool has_cap(const struct caller *c, int cap);
void become_caller(const struct caller *c);
void keep_caps(unsigned long long caps);
int open_as_caller(int at, const char *path, int flags);
int open_descriptor(const struct caller *c, int number);
/* inside does the part of an answer that the caller may do itself, in a
 * process that is as the caller is. It returns the number of an error. */
pid_t as_caller(const struct caller *c, int (*inside)(const struct caller *c, int sock, void *arg), void *arg, int *sock);
int tell(int sock, int error, const int *fds, int n);
int hear(int sock, int *fds, int n);

/* processes.c */
bool cgroup_of(const char *controller, char *dir, size_t size);

/* settings.c */
bool setting(const char *key, const char *value);
char *setting_of(const char *key, const char *prefix);

#endif
