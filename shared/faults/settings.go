package faults

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Seed is that of $FAULTS_SEED, or another one each time. It is told, for it
// makes the same choices again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("FAULTS_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FAULTS_SEED=%d makes the same choices", seed)
	return seed
}

// NumberOfCalls is $FAULTS_CALLS, or usual if that is not set.
func NumberOfCalls(t testing.TB, usual int) int {
	t.Helper()
	given := os.Getenv("FAULTS_CALLS")
	if given == "" {
		return usual
	}
	n, err := strconv.Atoi(given)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
