/* Tries system calls that no container may make, or that must not find what is
 * the host's, and prints what they say. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <linux/keyctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *name, long result)
{
	printf("%s %d\n", name, result < 0 ? errno : 0);
}

int main(void)
{
	say("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
	say("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, 0, 0));
	say("init_module", syscall(SYS_init_module, 0, 0, 0));
	say("finit_module", syscall(SYS_finit_module, -1, 0, 0));
	say("delete_module", syscall(SYS_delete_module, "x", 0));
	say("umount forced", umount2("/bin", MNT_FORCE));
	say("umount", umount2("/bin", 0));
	say("key", syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", "cuib-test", 0));
	say("getpid", syscall(SYS_getpid));
	return 0;
}
