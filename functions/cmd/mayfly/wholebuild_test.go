//go:build !faults

package main_test

// programFlags have the program built as it is delivered, and as the test is.
func programFlags() []string { return []string{raceFlag} }
