// Without C: built together with serves.go.
package main

func holdInC(bytes int) { panic("built without cgo") }
