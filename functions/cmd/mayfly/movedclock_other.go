//go:build faults && !amd64

package main

import (
	"errors"
	"time"
)

// moveClock knows the runtime of Go on amd64 alone.
func moveClock(time.Duration) error { return errors.New("move the clock: this takes an amd64 machine") }
