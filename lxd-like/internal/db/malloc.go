package db

import "C" // There is malloc.c.
