/* Modes that talk to liblxc's monitor of a running container.
 *
 * cuib-shim device DIR NAME allow|deny RULE
 *
 * It changes which devices the container's v2 cgroup lets it use: a program
 * for the kernel, which the monitor keeps. v1 has files for that.
 *
 * cuib-shim console DIR NAME
 *
 * It sends the controlling end of a terminal that liblxc connects to the
 * container's console over FD_CONTROL, and keeps it connected until the
 * other end of FD_CONTROL is closed or the terminal hangs up. */
#include "shim.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

int console(int argc, char **argv)
{
	if (argc != 4)
		die("usage: console DIR NAME");
	struct lxc_container *c = open_container(argv[2], argv[3]);
	int terminal = -1, number = 0;
	int kept = c->console_getfd(c, &number, &terminal);
	if (kept < 0 || terminal < 0)
		die("the console is in use");
	if (!send_fds(FD_CONTROL, "C", 1, &terminal, 1))
		die("cannot hand over the console: %m");
	/* kept is a connection to liblxc's monitor: the monitor closes it when
	 * the container ends. */
	struct pollfd ends[] = {{.fd = FD_CONTROL, .events = POLLIN}, {.fd = kept, .events = POLLIN}};
	close(terminal);
	while (poll(ends, 2, -1) < 0)
		;
	return 0;
}

int device(int argc, char **argv)
{
	if (argc != 6)
		die("usage: device DIR NAME allow|deny RULE");
	struct lxc_container *c = open_container(argv[2], argv[3]);
	const char *key = strcmp(argv[4], "allow") == 0 ? "devices.allow" : "devices.deny";
	if (!c->set_cgroup_item(c, key, argv[5]))
		die("liblxc cannot change the device list");
	return 0;
}
