/* What the daemon says about a container's intercepted system calls: lines in
 * its file "intercept", each a key and a value. The file is read anew for each
 * call, as some of it changes while the container runs. */
#include "intercept.h"

#include <stdlib.h>
#include <string.h>

/* next returns the value of the line at *text if its key is wanted, else NULL,
 * and moves on. */
static char *next(char **text, const char *key)
{
	char *line = *text, *end = strchr(line, '\n');
	size_t length = strlen(key);

	if (end != NULL)
		*end = 0;
	*text = end != NULL ? end + 1 : line + strlen(line);
	if (strncmp(line, key, length) != 0 || line[length] != ' ')
		return NULL;
	return line + length + 1;
}

static char *load(void)
{
	char *path = formatted("%s/intercept", instance.dir);
	char *text = read_file(path, NULL);

	free(path);
	return text;
}

/* setting reports whether a key has a value, which can have several. */
bool setting(const char *key, const char *value)
{
	char *text = load(), *at = text;
	bool found = false;

	while (at != NULL && *at != 0 && !found) {
		char *v = next(&at, key);
		found = v != NULL && strcmp(v, value) == 0;
	}
	free(text);
	return found;
}

/* setting_of returns what follows a prefix and a space in a value of a key, or
 * NULL. The caller frees it. */
char *setting_of(const char *key, const char *prefix)
{
	char *text = load(), *at = text, *found = NULL;
	size_t length = strlen(prefix);

	while (at != NULL && *at != 0 && found == NULL) {
		char *v = next(&at, key);
		if (v != NULL && strncmp(v, prefix, length) == 0 && v[length] == ' ')
			found = strdup(v + length + 1);
	}
	free(text);
	return found;
}
