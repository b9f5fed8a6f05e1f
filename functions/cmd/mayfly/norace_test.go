//go:build !race

package main_test

// raceFlag has the program under test built as the test is.
const raceFlag = "-race=false"

// rushCreates come at once in TestRush.
const rushCreates = 1000
