/* The loop of a proxy: it waits for what its sockets have to say. */
#include "relay.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

int64_t now;
size_t connections;

static int poller;
static struct listener *all;
static size_t count;
static bool paused;
static size_t most;

/* What is given up while events are handled can have one among those that are
 * still to come. */
static struct waste {
	struct waste *next;
	void *p;
} *wasted;

bool watch(struct source *s, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = s};

	return epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &e) == 0;
}

void rewatch(struct source *s, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = s};

	epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &e);
}

static void nothing(struct source *s, uint32_t events)
{
	(void)s;
	(void)events;
}

/* silence has no event of a source handled any more. */
void silence(struct source *s)
{
	s->ready = nothing;
}

/* discard frees p, which has only silent sources, when no event of theirs can
 * come any more. */
void discard(void *p)
{
	struct waste *w = malloc(sizeof *w);
	if (w == NULL)
		die("out of memory");
	w->p = p;
	w->next = wasted;
	wasted = w;
}

static void sweep(void)
{
	while (wasted != NULL) {
		struct waste *w = wasted;
		wasted = w->next;
		free(w->p);
		free(w);
	}
}

/* room reports whether there may be another connection. */
bool room(void)
{
	return connections < most;
}

/* pause_accepting leaves new clients in the kernel's queues until there is
 * room again. */
void pause_accepting(void)
{
	if (paused)
		return;
	paused = true;
	for (size_t i = 0; i < count; i++)
		rewatch(&all[i].source, 0);
}

void resume_accepting(void)
{
	if (!paused)
		return;
	paused = false;
	for (size_t i = 0; i < count; i++)
		rewatch(&all[i].source, EPOLLIN);
}

/* dial begins a connection to the server that a listener is for. It returns -1
 * if that failed; with EAGAIN, if it can be tried again. */
int dial(const struct listener *l, bool *connected)
{
	const struct address *a = &rule.connect;
	struct sockaddr_storage at;
	socklen_t length = address_with_port(a, l->target, &at);
	int s = socket(at.ss_family, (a->kind == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (s < 0)
		return -1;
	*connected = connect(s, (void *)&at, length) == 0;
	if (!*connected && errno != EINPROGRESS) {
		int why = errno;
		close(s);
		errno = why;
		return -1;
	}
	return s;
}

static void ended(struct source *s, uint32_t events)
{
	(void)s;
	(void)events;
	exit(0);
}

static void set_most(size_t listeners)
{
	struct rlimit limit;
	size_t files = 1024;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		files = (size_t)limit.rlim_cur;
	most = MAX_CONNECTIONS;
	size_t spare = listeners + 128;
	if (files < spare + 6)
		files = spare + 6;
	/* One that is slow on both sides has two sockets and two pipes. */
	if ((files - spare) / 6 < most)
		most = (files - spare) / 6;
}

static void set_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	now = t.tv_sec;
}

/* replaced takes a socket in the place of the one that is listened on. */
static void replaced(struct source *s, uint32_t events)
{
	int fds[MAX_FDS], n;
	char nothing;

	(void)events;
	if (receive_fds(s->fd, &nothing, 1, fds, &n) <= 0) {
		silence(s);
		close(s->fd); /* Nobody looks after the socket any more. */
		return;
	}
	for (int i = 1; i < n; i++)
		close(fds[i]);
	if (n < 1)
		return;
	close(all[0].source.fd);
	all[0].source.fd = fds[0];
	if (!watch(&all[0].source, paused ? 0 : EPOLLIN))
		exit(1);
}

/* prepare_relay does all that takes more than what confine leaves. */
void prepare_relay(const int *listeners, size_t n, int others)
{
	static struct source init = {ended, FD_INIT};
	static struct source keeper = {replaced, -1};

	poller = epoll_create1(EPOLL_CLOEXEC);
	all = calloc(n, sizeof *all);
	if (poller < 0 || all == NULL || !watch(&init, EPOLLIN) ||
	    ((keeper.fd = others) >= 0 && !watch(&keeper, EPOLLIN)))
		die("cannot wait for events: %m");
	set_most(n);
	for (count = 0; count < n; count++) {
		struct listener *l = &all[count];
		l->source.fd = listeners[count];
		l->source.ready = rule.listen.kind == UDP ? receive_datagrams : accept_clients;
		l->target = rule.connect.nports > 1 ? count : 0;
		if (!watch(&l->source, EPOLLIN))
			die("cannot listen: %m");
	}
}

static void tick(void)
{
	datagrams_tick();
	if (room())
		resume_accepting();
}

void relay(void)
{
	static struct epoll_event events[64];
	int64_t ticked = 0;

	for (;;) {
		int wait = streams_busy() ? 0 : streams_wait() ? 10 : datagrams_wait() || paused ? 1000 : -1;
		int ready = epoll_wait(poller, events, sizeof events / sizeof *events, wait);
		set_clock();
		for (int i = 0; i < ready; i++) {
			struct source *s = events[i].data.ptr;
			s->ready(s, events[i].events);
		}
		streams_tick();
		if (now != ticked)
			tick();
		ticked = now;
		sweep();
	}
}
