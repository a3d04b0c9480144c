/* The network mode: cuib-shim network DIR
 *
 * liblxc runs it (lxc.hook.start-host) when a container has its network
 * namespace and before its init runs. It tells the daemon, which listens at
 * DIR/network.sock, the process that is in the namespace, and waits until the
 * daemon has had plugins make interfaces there. If the daemon ends meanwhile,
 * so does the start. */
#include "shim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int network(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "network.sock"};
	const char *pid = getenv("LXC_PID");
	char answer;

	if (argc < 3 || pid == NULL)
		die("usage: network DIR");
	/* liblxc keeps nothing of what hooks say. */
	int log = open(formatted("%s/shim.log", argv[2]), O_WRONLY | O_APPEND | O_CLOEXEC);
	if (log >= 0 && dup2(log, STDERR_FILENO) < 0)
		die("cannot write to the log: %m");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The directory's path can be longer than an address. */
	if (fd < 0 || chdir(argv[2]) < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
		die("cannot ask the daemon for network interfaces: %m");
	char *line = formatted("%s\n", pid);
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
		die("cannot ask the daemon for network interfaces: %m");
	return recv(fd, &answer, 1, 0) != 1 || answer != 'G';
}
