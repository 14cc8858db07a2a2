// Fills a large map of arrays, deletes it and gives the memory back; later it allocates anew.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// About 400 MB in arrays of 4 KiB each.
const arrays = 100000

// About 4 MB in arrays of 1 KiB each, which stay in use.
const keptArrays = 4096

// What is allocated again after the map is gone.
const againBytes = 100 << 20

var (
	bigmap map[int]*[512]float64
	kept   [][]byte
	again  [][]byte
	lines  = bufio.NewScanner(os.Stdin)
)

func main() {
	// A backstop only: nothing here takes that long.
	time.AfterFunc(60*time.Second, func() { os.Exit(3) })

	bigmap = make(map[int]*[512]float64, arrays)
	for i := 0; i < arrays; i++ {
		array := new([512]float64)
		array[i%512] = float64(i)
		bigmap[i] = array
	}
	keep()
	fmt.Println("ready", os.Getpid())

	await("go")
	before := observe()
	bigmap = nil
	runtime.GC()
	debug.FreeOSMemory()
	tell(before, observe(), 0)

	if await("again", "check") == "check" {
		// What is in use is as it was, whatever was done to the rest.
		tell(observe(), observe(), intact())
		await("again")
	}
	before = observe()
	touched := 0
	for touched < againBytes {
		chunk := make([]byte, 1<<20)
		for at := 0; at < len(chunk); at += 4096 {
			chunk[at] = 1
		}
		again = append(again, chunk)
		touched += len(chunk)
	}
	tell(before, observe(), touched)

	await("end")
}

// keep fills memory with what can be recognised, between what will be given back.
func keep() {
	for i := 0; i < keptArrays; i++ {
		array := make([]byte, 1024)
		for at := range array {
			array[at] = byte(i*31 + at)
		}
		kept = append(kept, array)
	}
}

// intact counts the bytes that are as keep left them.
func intact() int {
	count := 0
	for i, array := range kept {
		for at := range array {
			if array[at] == byte(i*31+at) {
				count++
			}
		}
	}
	return count
}

// await returns when one of the words is said, and ends the process when nobody can say it any more.
func await(words ...string) string {
	if !lines.Scan() {
		os.Exit(0)
	}
	for _, word := range words {
		if lines.Text() == word {
			return word
		}
	}
	fmt.Fprintf(os.Stderr, "bigmap: expected %v, heard %s\n", words, lines.Text())
	os.Exit(1)
	return ""
}

// observation is what the runtime and the kernel say at one moment.
type observation struct {
	released, rss, lazyfree, faults uint64
}

func observe() observation {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	rollup := read("/proc/self/smaps_rollup")
	fields := strings.Fields(read("/proc/self/stat"))
	return observation{
		released: stats.HeapReleased,
		rss:      kilobytes(rollup, "Rss:"),
		lazyfree: kilobytes(rollup, "LazyFree:"),
		// minflt and majflt; this program's name has no space in it.
		faults: number(fields[9]) + number(fields[11]),
	}
}

func tell(before, after observation, touched int) {
	truth := map[string]int64{
		"released_before_bytes": int64(before.released),
		"released_after_bytes":  int64(after.released),
		"rss_before_bytes":      int64(before.rss),
		"rss_after_bytes":       int64(after.rss),
		"lazyfree_bytes":        int64(after.lazyfree),
		"faults":                int64(after.faults - before.faults),
		"touched_bytes":         int64(touched),
	}
	line, err := json.Marshal(truth)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func kilobytes(rollup, name string) uint64 {
	for _, line := range strings.Split(rollup, "\n") {
		if strings.HasPrefix(line, name) {
			return number(strings.Fields(line)[1]) << 10
		}
	}
	panic("smaps_rollup has no " + name)
}

func number(digits string) uint64 {
	value, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		panic(err)
	}
	return value
}
