// The same with memory of C: built together with serves.go.
package main

/*
#include <stdlib.h>
#include <string.h>

// In pieces as malloc takes them from its arenas and, the larger ones, from mmap.
static void hold(size_t bytes) {
	size_t held = 0;
	for (int i = 0; held < bytes; i++) {
		size_t piece = i % 4 == 0 ? 1 << 20 : 16 << 10;
		char *memory = malloc(piece);
		memset(memory, 1, piece);
		held += piece;
	}
}
*/
import "C"

func holdInC(bytes int) { C.hold(C.size_t(bytes)) }
