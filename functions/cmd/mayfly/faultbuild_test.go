//go:build faults

package main_test

// programFlags have a program built that can be broken, see breakable.go.
func programFlags() []string { return []string{raceFlag, "-tags=faults"} }
