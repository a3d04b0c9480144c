/* What the files of the proxy mode share. See proxy.c. */
#ifndef CUIB_RELAY_H
#define CUIB_RELAY_H

#include "shim.h"

#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

/* How much one proxy does at the same time at most: what it takes of the
 * host's memory is bounded by that, whatever its clients do. */
enum {
	MAX_CONNECTIONS = 16384, /* Also half of the descriptors there may be. */
	MAX_SESSIONS = 4096,     /* Of UDP; a new one takes the place of the one that was quiet longest. */
	SESSION_IDLE = 120,      /* Seconds until a session of UDP that is quiet is forgotten. */
	SESSION_LINGER = 5,      /* Seconds that answers are waited for when a client has said all. */
	MAX_DATAGRAM = 65527,    /* Of IPv6; those of IPv4 are 20 less at most. */
};

enum kind { TCP, UDP, UNIX };

/* One end of a proxy as the command line gives it: tcp:HOST:PORTS, udp:HOST:PORTS,
 * unix:PATH or unix:@NAME, where HOST is an address of IPv4 or one of IPv6 in
 * brackets, and PORTS numbers and ranges, as 80-90,443. */
struct address {
	enum kind kind;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un path;
		struct sockaddr_storage storage;
	} at;                   /* Without a port. */
	socklen_t length;
	uint16_t *ports;        /* NULL for unix. */
	size_t nports;          /* 1 for unix. */
};

struct rule {
	struct address listen, connect;
	bool in_instance;       /* That is where it listens. */
	bool header;            /* Servers get a PROXY header. */
	mode_t mode;            /* Of the socket that it listens on, and its owner. */
	uid_t uid;
	gid_t gid;
	bool drops;             /* It connects as suid and sgid, else as root. */
	uid_t suid;
	gid_t sgid;
	pid_t init;
};

/* What epoll reports about. */
struct source {
	void (*ready)(struct source *s, uint32_t events);
	int fd;
};

/* A socket that is listened on. */
struct listener {
	struct source source;
	size_t target;          /* Of connect's ports. */
};

/* address.c */
bool parse_address(struct address *a, const char *text);
socklen_t address_with_port(const struct address *a, size_t i, struct sockaddr_storage *out);

/* listen.c */
int open_listeners(const struct rule *r, int **fds, size_t *n, char **error);
bool remove_socket(const char *path);

/* sandbox.c */
void confine(const struct rule *r);
void confine_keeper(void);

/* header.c */
size_t proxy_header(char *out, size_t size, int client);

/* relay.c */
extern struct rule rule;
extern int64_t now;             /* Seconds, of a clock that does not jump. */
extern size_t connections;
void prepare_relay(const int *listeners, size_t n, int others);
void relay(void) __attribute__((noreturn));
bool watch(struct source *s, uint32_t events);
void rewatch(struct source *s, uint32_t events);
void silence(struct source *s);
void discard(void *p);
int dial(const struct listener *l, bool *connected);
bool room(void);
void pause_accepting(void);
void resume_accepting(void);

/* stream.c: between two streams. */
void accept_clients(struct source *s, uint32_t events);
void streams_tick(void);
bool streams_wait(void);
bool streams_busy(void);

/* datagram.c: where one of the two is UDP, or both. */
void receive_datagrams(struct source *s, uint32_t events);
void begin_mixed(struct listener *l, int client);
void datagrams_tick(void);
bool datagrams_wait(void);

#endif
