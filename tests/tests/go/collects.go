// Collects garbage, by itself and when it is told to, and writes to stderr what is no line of the runtime's.
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// About 120 MB in arrays of 4 KiB each.
const arrays = 30000

var kept map[int][]byte

func main() {
	kept = make(map[int][]byte, arrays)
	for i := 0; i < arrays; i++ {
		kept[i] = make([]byte, 4096)
	}
	runtime.GC()
	kept = nil
	// From here on only on demand, so that the runtime's lines come between what is written below, not within.
	debug.SetGCPercent(-1)
	runtime.GC()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, text := range []string{
		"a line\n",
		string(every) + "\n",
		strings.Repeat("x", 10000) + "\n",
		"gc 7 @0.1s but not really\n",
	} {
		if _, err := os.Stderr.WriteString(text); err != nil {
			os.Exit(3)
		}
	}
	debug.FreeOSMemory()
	os.Stderr.WriteString("no end")
	os.Exit(5)
}
