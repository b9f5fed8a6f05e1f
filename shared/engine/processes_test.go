package engine_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A process is one line of the process table.
type process struct {
	pid, parent int
	state       string
	args        []string
}

// processes lists what runs; zombies do not.
func processes() []process {
	var found []process
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(fields[1])
		if fields[0] != "Z" && fields[0] != "X" {
			found = append(found, process{pid, parent, fields[0], strings.Split(string(cmdline), "\x00")})
		}
	}
	return found
}

// workers are the processes of the workers that serve a disk.
func workers(disk string) []int {
	var pids []int
	for _, p := range processes() {
		if slices.Contains(p.args, "worker") && slices.Contains(p.args, disk) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

func children(parents ...int) []int {
	var pids []int
	for _, p := range processes() {
		if slices.Contains(parents, p.parent) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

func runs(pid int) bool {
	return slices.ContainsFunc(processes(), func(p process) bool { return p.pid == pid })
}

func (s *site) killWorkers(t testing.TB) {
	t.Helper()
	for _, pid := range workers(s.disk) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
}
