#include "shim.h"

#include <stdio.h>
#include <string.h>
#include <linux/close_range.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct mode {
	const char *name;
	int (*run)(int argc, char **argv);
} modes[] = {
	{"start", start},
	{"attach", attach},
	{"mount", mount_inside},
	{"unmount", unmount_inside},
	{"show", show_inside},
	{"device", device},
	{"console", console},
	{"bpffs", bpffs},
	{"network", network},
	{"proxy", proxy},
	{"forget", proxy_forget},
};

int main(int argc, char **argv)
{
	if (close_range(FD_INIT + 1, ~0U, 0) < 0 || close_range(FD_CONTROL, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		die("cannot close descriptors: %m");
	umask(022);
	reset_signals();
	for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
		if (strcmp(argv[1], modes[i].name) == 0)
			return modes[i].run(argc, argv);
	fprintf(stderr, "cuib-shim is a part of cuibd and is not run by hand\n");
	return 2;
}
