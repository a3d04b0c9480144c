/* Sessions of which one side is UDP, or both.
 *
 * A client of UDP is an address: it is known as long as it is heard of, and
 * there is a bound to how many are. Towards a stream each datagram is written
 * as it is, and what comes from a stream is sent as it comes: neither has
 * boundaries that the other would know of. */
#include "relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	BUCKETS = 1024,
	BATCH = 16,             /* Datagrams taken with one call. */
	ROUNDS = 8,             /* Then it is another socket's turn. */
};

/* pending is what a stream has no room for yet. */
struct pending {
	char *data;
	size_t from, to;
};

/* The client is a datagram's sender, or a stream. The server then is either,
 * or UDP. */
struct session {
	struct source server, client; /* client.fd is -1 where it is an address. */
	const struct listener *listener;
	struct sockaddr_storage from;
	socklen_t from_length;
	char control[CMSG_SPACE(sizeof(struct in6_pktinfo))]; /* By which address it reached us. */
	size_t control_length;
	struct pending pending; /* For the side that is a stream. */
	bool connecting;        /* The server is a stream that is not there yet. */
	bool said_all;          /* The client is a stream that has ended. */
	bool dead;
	int64_t deadline;       /* 0 for none. */
	struct session *next;   /* In its bucket. */
	struct session *older, *newer;
};

static struct session *buckets[BUCKETS];
static struct session *oldest, *newest; /* By when they were last heard of, but for streams that have not ended. */
static size_t sessions;
static char data[BATCH][MAX_DATAGRAM];

static struct session *of_client(struct source *s)
{
	return (struct session *)((char *)s - offsetof(struct session, client));
}

static void unlist(struct session *s)
{
	if (s->older == NULL && s->newer == NULL && oldest != s)
		return;
	*(s->older != NULL ? &s->older->newer : &oldest) = s->newer;
	*(s->newer != NULL ? &s->newer->older : &newest) = s->older;
	s->older = s->newer = NULL;
}

/* touch has a session live on for some time. */
static void touch(struct session *s, int seconds)
{
	unlist(s);
	s->deadline = now + seconds;
	s->older = newest;
	if (newest != NULL)
		newest->newer = s;
	else
		oldest = s;
	newest = s;
}

static struct session **bucket(const struct listener *l, const struct sockaddr_storage *from)
{
	const unsigned char *p = (const void *)from;
	size_t length = from->ss_family == AF_INET ? 8 : sizeof(struct sockaddr_in6);
	uint32_t hash = 2166136261U ^ (uint32_t)l->source.fd;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ p[i]) * 16777619U;
	return &buckets[hash % BUCKETS];
}

static void end_session(struct session *s)
{
	if (s->dead)
		return;
	s->dead = true;
	unlist(s);
	silence(&s->server);
	silence(&s->client);
	if (s->server.fd >= 0)
		close(s->server.fd);
	if (s->client.fd >= 0) {
		close(s->client.fd);
		connections--;
		resume_accepting();
	} else {
		for (struct session **p = bucket(s->listener, &s->from); *p != NULL; p = &(*p)->next)
			if (*p == s) {
				*p = s->next;
				break;
			}
		sessions--;
	}
	free(s->pending.data);
	s->pending.data = NULL;
	discard(s);
}

/* put writes to the side that is a stream, and keeps what it does not take.
 * What comes while something is kept is lost, as a datagram may be. */
static void put(struct session *s, int fd, const char *what, size_t length)
{
	struct pending *p = &s->pending;
	ssize_t n = 0;

	if (p->to == 0 && !s->connecting) {
		n = send(fd, what, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN) {
			end_session(s);
			return;
		}
		if (n < 0)
			n = 0;
	} else if (!s->connecting || p->to + length > MAX_DATAGRAM) {
		return;
	}
	if ((size_t)n == length)
		return;
	if (p->data == NULL && (p->data = malloc(MAX_DATAGRAM)) == NULL)
		return;
	memcpy(p->data + p->to, what + n, length - (size_t)n);
	p->to += length - (size_t)n;
}

/* put_rest writes what was kept. It returns whether that is all. */
static bool put_rest(struct session *s, int fd)
{
	struct pending *p = &s->pending;

	if (p->to == 0)
		return true;
	ssize_t n = send(fd, p->data + p->from, p->to - p->from, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN) {
		end_session(s);
		return false;
	}
	if (n > 0)
		p->from += (size_t)n;
	if (p->from < p->to)
		return false;
	free(p->data);
	*p = (struct pending){0};
	return true;
}

static void to_client(struct session *s, char *what, size_t length)
{
	if (s->client.fd >= 0) {
		put(s, s->client.fd, what, length);
		return;
	}
	struct iovec iov = {what, length};
	struct msghdr m = {
		.msg_name = &s->from, .msg_namelen = s->from_length, .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = s->control, .msg_controllen = s->control_length,
	};
	sendmsg(s->listener->source.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL); /* It may be lost. */
}

/* heard keeps a session alive that is heard of. */
static void heard(struct session *s)
{
	if (s->client.fd < 0)
		touch(s, SESSION_IDLE);
	else if (s->said_all)
		touch(s, SESSION_LINGER);
}

/* from_dgram passes on what a server of UDP sends. */
static void from_dgram(struct source *source, uint32_t events)
{
	struct session *s = (struct session *)source;

	(void)events;
	for (int i = 0; i < ROUNDS * BATCH && !s->dead; i++) {
		if (s->client.fd >= 0 && s->pending.to > 0) {
			rewatch(source, 0); /* Until the client has taken it. */
			rewatch(&s->client, s->said_all ? EPOLLOUT : EPOLLIN | EPOLLOUT);
			return;
		}
		ssize_t n = recv(source->fd, data[0], sizeof data[0], MSG_DONTWAIT);
		if (n < 0 && errno != ECONNREFUSED) /* That is of what was sent before. */
			return;
		if (n < 0)
			continue;
		heard(s);
		to_client(s, data[0], (size_t)n);
	}
}

/* from_stream passes on what a server that is a stream says to a client of UDP. */
static void from_stream(struct source *source, uint32_t events)
{
	struct session *s = (struct session *)source;
	int error = 0;
	socklen_t length = sizeof error;

	if (events & EPOLLOUT) {
		if (s->connecting && (getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error != 0)) {
			end_session(s);
			return;
		}
		s->connecting = false;
		if (put_rest(s, source->fd))
			rewatch(source, EPOLLIN);
	}
	for (int i = 0; i < ROUNDS && !s->dead; i++) {
		ssize_t n = recv(source->fd, data[0], MAX_DATAGRAM, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			end_session(s);
			return;
		}
		heard(s);
		to_client(s, data[0], (size_t)n);
	}
}

/* from_client passes on what a client that is a stream says to a server of UDP. */
static void from_client(struct source *source, uint32_t events)
{
	struct session *s = of_client(source);

	if (events & EPOLLOUT && put_rest(s, source->fd)) {
		rewatch(source, s->said_all ? 0 : EPOLLIN);
		rewatch(&s->server, EPOLLIN);
	}
	if (!s->dead && events & (EPOLLERR | EPOLLHUP)) {
		end_session(s);
		return;
	}
	for (int i = 0; i < ROUNDS && !s->dead && !s->said_all && events & EPOLLIN; i++) {
		ssize_t n = recv(source->fd, data[0], MAX_DATAGRAM, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			end_session(s);
			return;
		}
		if (n == 0) {
			s->said_all = true;
			rewatch(source, s->pending.to > 0 ? EPOLLOUT : 0);
			touch(s, SESSION_LINGER);
			return;
		}
		send(s->server.fd, data[0], (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL); /* It may be lost. */
	}
}

/* reach_server begins to talk to the server. */
static bool reach_server(struct session *s)
{
	bool connected;

	s->server.fd = dial(s->listener, &connected);
	if (s->server.fd < 0)
		return false;
	bool stream = rule.connect.kind != UDP;
	s->server.ready = stream ? from_stream : from_dgram;
	s->connecting = stream && !connected;
	if (!watch(&s->server, s->connecting ? EPOLLOUT : EPOLLIN))
		return false;
	if (stream && rule.header) {
		char header[128];
		put(s, s->server.fd, header, proxy_header(header, sizeof header, -1));
	}
	return !s->dead;
}

void begin_mixed(struct listener *l, int client)
{
	struct session *s = calloc(1, sizeof *s);

	if (s == NULL) {
		close(client);
		return;
	}
	s->listener = l;
	s->client = (struct source){from_client, client};
	s->server.fd = -1;
	connections++;
	if (!watch(&s->client, EPOLLIN) || !reach_server(s))
		end_session(s);
}

/* keep_route keeps by which of our addresses a client reached us, so that
 * answers come from that; not by which interface, but where the address says
 * nothing without it. */
static void keep_route(struct session *s, const struct msghdr *m)
{
	if (m->msg_controllen > sizeof s->control)
		return;
	memcpy(s->control, m->msg_control, m->msg_controllen);
	s->control_length = m->msg_controllen;
	struct msghdr own = {.msg_control = s->control, .msg_controllen = s->control_length};
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&own); c != NULL; c = CMSG_NXTHDR(&own, c)) {
		struct in6_pktinfo *v6 = (void *)CMSG_DATA(c);
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			((struct in_pktinfo *)(void *)CMSG_DATA(c))->ipi_ifindex = 0;
		else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO && !IN6_IS_ADDR_LINKLOCAL(&v6->ipi6_addr))
			v6->ipi6_ifindex = 0;
	}
}

/* find returns the session of a client of UDP, which is begun if it is new. */
static struct session *find(struct listener *l, const struct msghdr *m)
{
	const struct sockaddr_storage *from = m->msg_name;
	struct session **chain = bucket(l, from);

	for (struct session *s = *chain; s != NULL; s = s->next)
		if (s->listener == l && s->from_length == m->msg_namelen && memcmp(&s->from, from, m->msg_namelen) == 0)
			return s;
	if (sessions >= MAX_SESSIONS) {
		struct session *last = oldest;
		while (last != NULL && last->client.fd >= 0)
			last = last->newer;
		if (last == NULL)
			return NULL;
		end_session(last);
	}
	struct session *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	s->listener = l;
	s->client.fd = s->server.fd = -1;
	memcpy(&s->from, from, m->msg_namelen);
	s->from_length = m->msg_namelen;
	keep_route(s, m);
	s->next = *chain;
	*chain = s;
	sessions++;
	touch(s, SESSION_IDLE);
	if (!reach_server(s)) {
		end_session(s);
		return NULL;
	}
	return s;
}

void receive_datagrams(struct source *source, uint32_t events)
{
	static struct sockaddr_storage from[BATCH];
	static char control[BATCH][CMSG_SPACE(sizeof(struct in6_pktinfo))];
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH];
	int n = BATCH;

	(void)events;
	for (int round = 0; n == BATCH && round < ROUNDS; round++) {
		for (int i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){data[i], sizeof data[i]};
			messages[i].msg_hdr = (struct msghdr){
				.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &iov[i], .msg_iovlen = 1,
				.msg_control = control[i], .msg_controllen = sizeof control[i],
			};
		}
		n = recvmmsg(source->fd, messages, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++) {
			struct session *s = find((struct listener *)source, &messages[i].msg_hdr);
			if (s == NULL)
				continue;
			touch(s, SESSION_IDLE);
			if (rule.connect.kind == UDP)
				send(s->server.fd, data[i], messages[i].msg_len, MSG_DONTWAIT | MSG_NOSIGNAL); /* It may be lost. */
			else
				put(s, s->server.fd, data[i], messages[i].msg_len);
			if (!s->dead && s->pending.to > 0 && !s->connecting)
				rewatch(&s->server, EPOLLIN | EPOLLOUT);
		}
	}
}

/* datagrams_tick ends the sessions whose time is over. The order does not tell
 * which those are, as some are waited for for longer than others. */
void datagrams_tick(void)
{
	for (struct session *s = oldest, *next; s != NULL; s = next) {
		next = s->newer;
		if (s->deadline <= now)
			end_session(s);
	}
}

/* datagrams_wait reports whether there is a session whose time will be over. */
bool datagrams_wait(void)
{
	return oldest != NULL;
}
