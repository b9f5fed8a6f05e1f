//go:build faults

package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"
)

// What movedclock_amd64.s reads.
//
//nolint:gochecknoglobals,unused // assembly reads them, and finds nothing else
var (
	kernel uintptr // the clock_gettime that the kernel gives each process
	off    int64   // seconds
)

// movedAt is where the function is that answers instead of the kernel's.
func movedAt() uintptr

// moveClock has the time of day of this process be off, as it is on a machine
// that is set wrong: all of Go's clock is read through one pointer of its
// runtime. Durations are measured with another clock and stay right.
func moveClock(by time.Duration) error {
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("move the clock: %w", err)
	}
	defer func() { _ = program.Close() }()
	symbols, err := program.Symbols()
	if err != nil {
		return fmt.Errorf("move the clock: %w", err)
	}
	pointer := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "runtime.vdsoClockgettimeSym" })
	if pointer < 0 || program.Type != elf.ET_EXEC {
		return errors.New("move the clock: this program is built in another way than the tests build it")
	}
	at := uintptr(symbols[pointer].Value)
	reads := *(**uintptr)(unsafe.Pointer(&at)) // a variable of the runtime, which does not move
	if *reads == 0 {
		return errors.New("move the clock: the kernel of this machine is asked by system calls")
	}
	before := time.Now()
	kernel, off = *reads, int64(by/time.Second)
	*reads = movedAt()
	// Both readings without what measures durations.
	if moved := time.Now().Round(0).Sub(before.Round(0)); moved.Round(time.Minute) != by.Round(time.Minute) {
		return fmt.Errorf("move the clock: it moved by %v", moved)
	}
	return nil
}
