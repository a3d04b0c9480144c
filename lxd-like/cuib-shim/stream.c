/* Connections between two streams: TCP and sockets of the file system.
 *
 * What comes is spliced into a pipe and on, so that it is never copied here, but
 * for a little, of which a copy costs less. A pipe is only had while something
 * is in it: one that is idle costs two
 * sockets and a struct. Nothing more is taken from a side while the other does
 * not take what is there, and the end of what one side says is passed on while
 * the other goes on. */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	LITTLE = 4096,          /* It fits into any pipe. */
	PIPE_SIZE = 256 << 10,
	SPARE_PIPES = 16,
	ROUNDS = 16,            /* Then it is another connection's turn. */
	RETRY_SECONDS = 5,      /* How long a server may have no room for another client. */
};

/* flow is what goes one way. */
struct flow {
	int pipe[2];            /* -1 while there is none. */
	size_t held;            /* Bytes in it. */
	bool ended;             /* Nothing more comes. */
	bool told;              /* The other side was told so. */
	bool much;              /* There was more than a little at once. */
};

struct end {
	struct source source;
	struct connection *of;
	bool readable, writable;
};

struct connection {
	struct end client, server;
	struct flow up, down;   /* From the client, and to it. */
	const struct listener *listener;
	bool connected;
	bool dead;
	bool queued;            /* In the list of those that go on without an event. */
	struct connection *next;
	int64_t deadline;       /* Until which the server is tried; 0 if it was reached. */
};

static struct connection *queue;  /* They have more to do at once. */
static struct connection *trying; /* Their servers have no room yet. */
static int spare[SPARE_PIPES][2];
static size_t spares;

static bool get_pipe(int p[2])
{
	if (spares > 0) {
		spares--;
		p[0] = spare[spares][0];
		p[1] = spare[spares][1];
		return true;
	}
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0) {
		p[0] = p[1] = -1;
		return false;
	}
	fcntl(p[0], F_SETPIPE_SZ, PIPE_SIZE); /* It is as large as its user may have it, else. */
	return true;
}

/* put_pipe gives a pipe back, for others if it is empty. What it holds goes
 * with it. */
static void put_pipe(struct flow *f)
{
	if (f->pipe[0] < 0)
		return;
	if (f->held == 0 && spares < SPARE_PIPES) {
		spare[spares][0] = f->pipe[0];
		spare[spares][1] = f->pipe[1];
		spares++;
	} else {
		close(f->pipe[0]);
		close(f->pipe[1]);
	}
	f->pipe[0] = f->pipe[1] = -1;
	f->held = 0;
}

/* close_end closes a side; hard has TCP tell it that the connection broke. */
static void close_end(struct end *e, bool hard)
{
	struct linger now_and_hard = {1, 0};

	silence(&e->source);
	if (e->source.fd < 0)
		return;
	if (hard)
		setsockopt(e->source.fd, SOL_SOCKET, SO_LINGER, &now_and_hard, sizeof now_and_hard);
	close(e->source.fd);
	e->source.fd = -1;
}

static void end_connection(struct connection *c, bool hard)
{
	if (c->dead)
		return;
	c->dead = true;
	close_end(&c->client, hard);
	close_end(&c->server, hard);
	put_pipe(&c->up);
	put_pipe(&c->down);
	connections--;
	resume_accepting();
	if (!c->queued)
		discard(c); /* Else whoever takes it from its list does. */
}

static void enqueue(struct connection *c, struct connection **list)
{
	if (c->queued || c->dead)
		return;
	c->queued = true;
	c->next = *list;
	*list = c;
}

/* fill takes from a side what is there. It returns whether anything has
 * changed, and breaks the connection if the side has. */
static bool fill(struct connection *c, struct flow *f, struct end *from)
{
	if (f->held > 0 || f->ended || !from->readable)
		return false;
	if (f->pipe[0] < 0 && !get_pipe(f->pipe)) {
		end_connection(c, true);
		return false;
	}
	ssize_t n = splice(from->source.fd, NULL, f->pipe[1], NULL, PIPE_SIZE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n > 0)
		f->held = (size_t)n;
	else if (n == 0)
		f->ended = true;
	else if (errno == EAGAIN)
		from->readable = f->much = false; /* The pipe is empty, so it is not for want of room. */
	else if (errno != EINTR)
		end_connection(c, true);
	return n >= 0;
}

/* stop has a way end at a side that takes nothing more. It can still have
 * something to say, as a server that refuses an upload. */
static void stop(struct flow *f)
{
	put_pipe(f);
	f->ended = f->told = true;
}

/* hand passes a little on from one side to the other. It returns whether there
 * can be more. */
static bool hand(struct connection *c, struct flow *f, struct end *from, struct end *to)
{
	static char data[LITTLE];
	ssize_t n = recv(from->source.fd, data, sizeof data, MSG_DONTWAIT), sent;

	if (n < 0) {
		if (errno == EAGAIN)
			from->readable = false;
		else if (errno != EINTR)
			end_connection(c, true);
		return false;
	}
	f->ended = n == 0;
	f->much = n == sizeof data;
	if (n == 0)
		return true;
	/* There can be more even if that was less than there was room for: reading
	 * ends at descriptors that are passed, and at urgent data. */
	sent = send(to->source.fd, data, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		stop(f);
		return true;
	}
	if (sent < 0)
		sent = 0;
	if (sent == n)
		return true;
	to->writable = false;
	if (!get_pipe(f->pipe) || write(f->pipe[1], data + sent, (size_t)(n - sent)) != n - sent) {
		end_connection(c, true);
		return false;
	}
	f->held = (size_t)(n - sent);
	return true;
}

/* drain gives the other side what it takes. */
static bool drain(struct connection *c, struct flow *f, struct end *to)
{
	if (c->dead)
		return false;
	if (f->held > 0 && to->writable) {
		ssize_t n = splice(f->pipe[0], NULL, to->source.fd, NULL, f->held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (n > 0)
			f->held -= (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			to->writable = false;
		else if (n < 0 && errno != EINTR)
			stop(f);
		return n > 0;
	}
	if (f->held == 0 && f->ended && !f->told) {
		f->told = true;
		shutdown(to->source.fd, SHUT_WR); /* If that fails the side has ended, which it tells itself. */
	}
	return false;
}

static bool move(struct connection *c, struct flow *f, struct end *from, struct end *to)
{
	bool little = f->held == 0 && !f->ended && !f->much && from->readable && to->writable;
	bool more = little ? hand(c, f, from, to) : fill(c, f, from);

	if (drain(c, f, to))
		more = true;
	if (f->held == 0)
		put_pipe(f);
	return more && !c->dead;
}

static void pump(struct connection *c)
{
	bool more = true;

	for (int i = 0; more && i < ROUNDS; i++) {
		more = move(c, &c->up, &c->client, &c->server);
		if (!c->dead && move(c, &c->down, &c->server, &c->client))
			more = true;
		if (c->dead)
			return;
	}
	if (c->up.told && c->down.told)
		end_connection(c, false);
	else if (more)
		enqueue(c, &queue);
}

static void set_up(int fd)
{
	int on = 1;

	if (rule.connect.kind == TCP || rule.listen.kind == TCP) { /* It fails on the other, which has neither. */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	}
}

static void begin(struct connection *c)
{
	char header[128];

	c->connected = true;
	set_up(c->server.source.fd);
	if (rule.header) {
		size_t length = proxy_header(header, sizeof header, c->client.source.fd);
		if (send(c->server.source.fd, header, length, MSG_NOSIGNAL) != (ssize_t)length) {
			end_connection(c, true); /* There is room for it: nothing was sent yet. */
			return;
		}
	}
	pump(c);
}

static void note(struct end *e, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		e->writable = true;
}

static void ready(struct source *s, uint32_t events)
{
	struct end *e = (struct end *)s;
	struct connection *c = e->of;
	int error = 0;
	socklen_t length = sizeof error;

	note(e, events);
	if (c->connected) {
		pump(c);
		return;
	}
	if (events & (EPOLLERR | EPOLLHUP) && e == &c->client) {
		end_connection(c, true);
		return;
	}
	if (e != &c->server || !e->writable)
		return;
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error != 0)
		end_connection(c, true);
	else
		begin(c);
}

#define ANYTHING (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* reach begins the connection to the server. Where that has no room for
 * another client it is tried again. */
static void reach(struct connection *c)
{
	bool connected;
	int s = dial(c->listener, &connected);

	if (s < 0 && errno == EAGAIN && now < c->deadline) {
		enqueue(c, &trying);
		return;
	}
	c->server.source.fd = s;
	if (s < 0 || !watch(&c->server.source, ANYTHING)) {
		end_connection(c, true);
		return;
	}
	if (connected)
		begin(c);
}

static void begin_stream(struct listener *l, int fd)
{
	struct connection *c = calloc(1, sizeof *c);

	if (c == NULL) {
		close(fd);
		return;
	}
	c->client.source = (struct source){ready, fd};
	c->server.source = (struct source){ready, -1};
	c->client.of = c->server.of = c;
	c->up.pipe[0] = c->up.pipe[1] = c->down.pipe[0] = c->down.pipe[1] = -1;
	c->listener = l;
	c->deadline = now + RETRY_SECONDS;
	connections++;
	set_up(fd);
	if (watch(&c->client.source, ANYTHING))
		reach(c);
	else
		end_connection(c, true);
}

void accept_clients(struct source *s, uint32_t events)
{
	struct listener *l = (struct listener *)s;

	(void)events;
	for (int i = 0; i < ROUNDS; i++) {
		if (!room()) {
			pause_accepting();
			return;
		}
		int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
				pause_accepting(); /* The host has too many files open. */
			return;
		}
		if (rule.connect.kind == UDP)
			begin_mixed(l, fd);
		else
			begin_stream(l, fd);
	}
}

/* resume goes on with a list. */
static void resume(struct connection **list, void (*go_on)(struct connection *))
{
	struct connection *c = *list;

	*list = NULL;
	while (c != NULL) {
		struct connection *next = c->next;
		c->queued = false;
		if (c->dead)
			discard(c);
		else
			go_on(c);
		c = next;
	}
}

void streams_tick(void)
{
	resume(&queue, pump);
	resume(&trying, reach);
}

/* streams_wait reports whether there is something to do in a moment. */
bool streams_wait(void)
{
	return trying != NULL;
}

/* streams_busy reports whether there is something to do at once. */
bool streams_busy(void)
{
	return queue != NULL;
}
