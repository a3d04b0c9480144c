/*
 * For the program that is the kernel of a machine with one processor. Whenever
 * that kernel keeps interrupts away for a moment, as for each counter of ZFS, it
 * also blocks the signal by which another processor would interrupt this one,
 * and takes that back: two system calls, which come to be half of all that the
 * machine does. There is no other processor.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>

static int only_other_processors(const sigset_t *set)
{
	static sigset_t theirs;

	if (!sigismember(&theirs, SIGRTMIN))
		sigaddset(&theirs, SIGRTMIN);
	return set->__val[0] == theirs.__val[0];
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	if (set != NULL && old == NULL && how != SIG_SETMASK && only_other_processors(set))
		return 0;
	errno = pthread_sigmask(how, set, old);
	return errno == 0 ? 0 : -1;
}
