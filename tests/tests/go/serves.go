// Serves net/http/pprof and expvar, and holds memory as it is told: live, given back, idle, or of C.
package main

import (
	"bufio"
	"encoding/json"
	_ "expvar"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	mib = 1 << 20
	// Sixteen times the profile's rate: that one of these is not sampled happens once in e^16.
	chunk = 8 * mib
)

var (
	live    [][]byte
	garbage [][]byte
)

func main() {
	// A backstop only: nothing here takes that long.
	time.AfterFunc(120*time.Second, func() { os.Exit(3) })
	// No cycle but those that are asked for.
	debug.SetGCPercent(-1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, nil)
	live = fill(64 * mib)
	if len(os.Args) > 1 && os.Args[1] == "c" {
		holdInC(200 * mib)
	}
	fmt.Println("ready", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "go": // where it listens
		case "peak":
			garbage = fill(400 * mib)
		case "idle":
			garbage = nil
			// Swept, and not given back: the scavenger does not come in the time this takes.
			runtime.GC()
		case "release":
			debug.FreeOSMemory()
		case "end":
			return
		}
		tell(listener.Addr().String())
	}
}

// fill allocates so many bytes and writes to every page.
func fill(bytes int) [][]byte {
	chunks := make([][]byte, bytes/chunk)
	for i := range chunks {
		chunks[i] = make([]byte, chunk)
		for at := 0; at < chunk; at += 4096 {
			chunks[i][at] = 1
		}
	}
	return chunks
}

func tell(address string) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"address":        address,
		"live_bytes":     len(live) * chunk,
		"in_use_bytes":   stats.HeapInuse,
		"idle_bytes":     stats.HeapIdle,
		"released_bytes": stats.HeapReleased,
	})
}
