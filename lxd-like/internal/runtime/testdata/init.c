/* The init of test containers: it halts on SIGPWR, reboots on SIGINT, and
 * runs /etc/rc if there is one. */
#include <signal.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t got;

static void note(int signal)
{
	if (signal != SIGCHLD)
		got = signal;
}

int main(void)
{
	struct sigaction action = {.sa_handler = note};
	sigset_t all, none;

	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigaction(SIGPWR, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGCHLD, &action, NULL);
	if (access("/etc/rc", X_OK) == 0 && fork() == 0) {
		sigprocmask(SIG_SETMASK, &none, NULL);
		execl("/bin/sh", "sh", "/etc/rc", NULL);
		_exit(127);
	}
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (got == SIGINT)
			reboot(RB_AUTOBOOT);
		if (got == SIGPWR)
			_exit(7);
		sigsuspend(&none);
	}
}
