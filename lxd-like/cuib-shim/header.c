/* The PROXY header, version 1, by which a server learns who its client is:
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.1. */
#include "relay.h"

#include <arpa/inet.h>
#include <stdio.h>

/* plain returns an address as text, that of IPv4 within IPv6 as IPv4, and its
 * family; 0 for what is no address of either. */
static int plain(const struct sockaddr_storage *s, char text[INET6_ADDRSTRLEN], unsigned *port)
{
	const struct sockaddr_in *v4 = (const void *)s;
	const struct sockaddr_in6 *v6 = (const void *)s;

	switch (s->ss_family) {
	case AF_INET:
		*port = ntohs(v4->sin_port);
		inet_ntop(AF_INET, &v4->sin_addr, text, INET6_ADDRSTRLEN);
		return 4;
	case AF_INET6:
		*port = ntohs(v6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
			inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, INET6_ADDRSTRLEN);
			return 4;
		}
		inet_ntop(AF_INET6, &v6->sin6_addr, text, INET6_ADDRSTRLEN);
		return 6;
	}
	return 0;
}

/* proxy_header writes the header of a client's connection and returns its
 * length. A client whose address is none of TCP is unknown. */
size_t proxy_header(char *out, size_t size, int client)
{
	struct sockaddr_storage from = {0}, to = {0};
	socklen_t from_length = sizeof from, to_length = sizeof to;
	char source[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN];
	unsigned source_port = 0, target_port = 0;
	int family = 0;

	if (client >= 0 && getpeername(client, (void *)&from, &from_length) == 0 && getsockname(client, (void *)&to, &to_length) == 0)
		family = plain(&from, source, &source_port);
	if (family == 0 || plain(&to, target, &target_port) != family)
		return (size_t)snprintf(out, size, "PROXY UNKNOWN\r\n");
	return (size_t)snprintf(out, size, "PROXY TCP%d %s %s %u %u\r\n", family, source, target, source_port, target_port);
}
