//go:build race

package main_test

// raceFlag has the program under test built as the test is.
const raceFlag = "-race"

// rushCreates come at once in TestRush, fewer than without the race detector, which takes its time.
const rushCreates = 250
