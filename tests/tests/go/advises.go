// Calls madvise itself, whatever its runtime is set to, and can run itself anew with another GODEBUG.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	calls     = 5
	bytes     = 1 << 20
	pageBytes = 4096
	// MADV_FREE, which package syscall of this Go may not have.
	madvFree = 8
)

var lines = bufio.NewScanner(os.Stdin)

func main() {
	// A backstop only: nothing here takes that long.
	time.AfterFunc(60*time.Second, func() { os.Exit(3) })
	fmt.Println("ready", os.Getpid())
	for lines.Scan() {
		word := lines.Text()
		switch {
		case word == "go":
			free()
			fmt.Printf("{\"calls\":%d,\"bytes\":%d}\n", calls, calls*bytes)
		case strings.HasPrefix(word, "exec "):
			again(strings.TrimPrefix(word, "exec "))
		default:
			os.Exit(0)
		}
	}
}

// free marks memory that the runtime knows nothing of.
func free() {
	for i := 0; i < calls; i++ {
		prot, flags := syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON
		memory, err := syscall.Mmap(-1, 0, bytes, prot, flags)
		if err != nil {
			panic(err)
		}
		for at := 0; at < bytes; at += pageBytes {
			memory[at] = 1
		}
		if err := syscall.Madvise(memory, madvFree); err != nil {
			panic(err)
		}
	}
}

// again runs this program anew in this process.
func again(setting string) {
	env := []string{"GODEBUG=" + setting}
	err := syscall.Exec("/proc/self/exe", []string{"advises"}, env)
	panic(err)
}
