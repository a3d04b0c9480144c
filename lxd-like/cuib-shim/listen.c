/* The sockets that a proxy listens on. */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool wildcard(const struct address *a)
{
	if (a->at.any.sa_family == AF_INET)
		return a->at.v4.sin_addr.s_addr == htonl(INADDR_ANY);
	return a->at.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->at.v6.sin6_addr);
}

/* abandoned reports whether nobody listens on a socket of the file system. */
static bool abandoned(const struct address *a)
{
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool refused = s >= 0 && connect(s, &a->at.any, a->length) < 0 && errno == ECONNREFUSED;

	if (s >= 0)
		close(s);
	return refused;
}

/* remove_socket removes a socket of the file system, and nothing else. */
bool remove_socket(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && unlink(path) == 0;
}

static int open_unix(const struct rule *r)
{
	const struct address *a = &r->listen;
	const char *path = a->at.path.sun_path;
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (s < 0)
		return -1;
	mode_t before = umask(0777 & ~r->mode);
	int failed = bind(s, &a->at.any, a->length);
	if (failed && errno == EADDRINUSE && path[0] != 0) {
		if (abandoned(a) && remove_socket(path))
			failed = bind(s, &a->at.any, a->length);
		else
			errno = EADDRINUSE;
	}
	umask(before);
	if (!failed && path[0] != 0 && (r->uid != geteuid() || r->gid != getegid()))
		failed = lchown(path, r->uid, r->gid);
	if (!failed)
		failed = listen(s, SOMAXCONN);
	if (failed) {
		int why = errno;
		close(s);
		errno = why;
		return -1;
	}
	return s;
}

/* bind_inet binds a socket to all addresses of both families where the
 * address is the wildcard of either, as the peers do; of the one that there is
 * where there is one. */
static int bind_inet(int s, struct sockaddr_storage *at, socklen_t length, bool both)
{
	int on = 1, off = 0;

	if (at->ss_family == AF_INET6 && setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, both ? &off : &on, sizeof on) < 0)
		return -1;
	return bind(s, (void *)at, length);
}

/* enlarge lets datagrams wait that come all at once. */
static void enlarge(int s)
{
	int size = 1 << 20;

	if (setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
		setsockopt(s, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

static int open_inet_as(const struct address *a, size_t i, int family, bool both)
{
	struct sockaddr_storage at;
	socklen_t length = address_with_port(a, i, &at);
	int type = a->kind == TCP ? SOCK_STREAM : SOCK_DGRAM, on = 1;

	if (family != at.ss_family) {
		in_port_t port = ((struct sockaddr_in *)&at)->sin_port; /* It is at the same place in both. */
		memset(&at, 0, sizeof at);
		at.ss_family = (sa_family_t)family;
		((struct sockaddr_in *)&at)->sin_port = port;
		length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	}
	int s = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -1;
	if (a->kind == UDP)
		enlarge(s);
	if ((a->kind == TCP && setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) ||
	    (a->kind == UDP && family == AF_INET && setsockopt(s, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) < 0) ||
	    (a->kind == UDP && family == AF_INET6 && setsockopt(s, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) < 0) ||
	    bind_inet(s, &at, length, both) < 0 || (a->kind == TCP && listen(s, SOMAXCONN) < 0)) {
		int why = errno;
		close(s);
		errno = why;
		return -1;
	}
	return s;
}

static int open_inet(const struct address *a, size_t i)
{
	if (!wildcard(a))
		return open_inet_as(a, i, a->at.any.sa_family, false);
	int s = open_inet_as(a, i, AF_INET6, true);
	if (s < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
		s = open_inet_as(a, i, AF_INET, false);
	return s;
}

/* open_listeners opens a socket for each port. If one cannot be had it
 * returns -1 and why: B and a port, or F and a text. */
int open_listeners(const struct rule *r, int **fds, size_t *n, char **error)
{
	const struct address *a = &r->listen;

	*fds = calloc(a->nports, sizeof **fds);
	if (*fds == NULL)
		die("out of memory");
	for (*n = 0; *n < a->nports; (*n)++) {
		int s = a->kind == UNIX ? open_unix(r) : open_inet(a, *n);
		if (s < 0) {
			unsigned port = a->kind == UNIX ? 0 : a->ports[*n];
			if (errno == EADDRINUSE)
				*error = formatted("B%u", port);
			else if (a->kind == UNIX)
				*error = formatted("Flisten: %s", strerror(errno));
			else
				*error = formatted("Flisten on port %u: %s", port, strerror(errno));
			return -1;
		}
		(*fds)[*n] = s;
	}
	return 0;
}
