/* Addresses as the command line of the proxy mode gives them. */
#include "relay.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* parse_ports reads numbers and ranges, as 80-90,443. */
static bool parse_ports(struct address *a, const char *text)
{
	for (const char *p = text;; p++) {
		char *end;
		unsigned long first = strtoul(p, &end, 10), last = first;
		if (end == p)
			return false;
		if (*end == '-') {
			p = end + 1;
			last = strtoul(p, &end, 10);
			if (end == p)
				return false;
		}
		if (first == 0 || last < first || last > 65535 || a->nports + (last - first) >= 65536)
			return false;
		a->ports = realloc(a->ports, (a->nports + last - first + 1) * sizeof *a->ports);
		if (a->ports == NULL)
			die("out of memory");
		for (unsigned long port = first; port <= last; port++)
			a->ports[a->nports++] = (uint16_t)port;
		p = end;
		if (*p == 0)
			return true;
		if (*p != ',')
			return false;
	}
}

static bool parse_unix(struct address *a, const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length >= sizeof a->at.path.sun_path)
		return false;
	a->at.path.sun_family = AF_UNIX;
	memcpy(a->at.path.sun_path, name, length);
	a->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	if (name[0] == '@')
		a->at.path.sun_path[0] = 0;
	else
		a->length++;
	a->nports = 1;
	return name[0] == '@' || name[0] == '/';
}

bool parse_address(struct address *a, const char *text)
{
	char host[INET6_ADDRSTRLEN];

	memset(a, 0, sizeof *a);
	if (strncmp(text, "unix:", 5) == 0) {
		a->kind = UNIX;
		return parse_unix(a, text + 5);
	}
	if (strncmp(text, "tcp:", 4) != 0 && strncmp(text, "udp:", 4) != 0)
		return false;
	a->kind = text[0] == 't' ? TCP : UDP;
	text += 4;
	const char *colon = strrchr(text, ':');
	if (colon == NULL)
		return false;
	bool six = text[0] == '[' && colon > text && colon[-1] == ']';
	size_t length = (size_t)(colon - text) - (six ? 2 : 0);
	if (length >= sizeof host)
		return false;
	memcpy(host, six ? text + 1 : text, length);
	host[length] = 0;
	if (six) {
		a->at.v6.sin6_family = AF_INET6;
		a->length = sizeof a->at.v6;
		if (inet_pton(AF_INET6, host, &a->at.v6.sin6_addr) != 1)
			return false;
	} else {
		a->at.v4.sin_family = AF_INET;
		a->length = sizeof a->at.v4;
		if (inet_pton(AF_INET, host, &a->at.v4.sin_addr) != 1)
			return false;
	}
	return parse_ports(a, colon + 1);
}

socklen_t address_with_port(const struct address *a, size_t i, struct sockaddr_storage *out)
{
	memcpy(out, &a->at, sizeof a->at);
	if (a->kind != UNIX && a->at.any.sa_family == AF_INET)
		((struct sockaddr_in *)out)->sin_port = htons(a->ports[i]);
	else if (a->kind != UNIX)
		((struct sockaddr_in6 *)out)->sin6_port = htons(a->ports[i]);
	return a->length;
}
