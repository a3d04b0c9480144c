#include <malloc.h>

// The C library keeps memory for each thread that ever asked for some. Only
// SQLite asks for much, and lets one thread at a time do so. This is done before
// Go's runtime makes threads.
__attribute__((constructor)) static void one_arena(void)
{
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
#endif
}
