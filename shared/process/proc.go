package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A pidStart names one process for as long as the machine is up: pids are
// used again, but not with the same start.
type pidStart struct {
	pid   int
	start uint64 // clock ticks since boot
}

// stat is what /proc/<pid>/stat says, as far as we need it.
type stat struct {
	pidStart
	parent, session int
	// dead: a zombie, whose parent has not looked yet. While other threads than
	// the first are left it is none: what they have open is open.
	dead bool
}

// errGone says that there is no such process.
var errGone = errors.New("no such process")

// readStat returns errGone for a process that is not there.
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return stat{}, errGone
	}
	if err != nil {
		return stat{}, fmt.Errorf("read the state of process %d: %w", pid, err)
	}
	st, err := parseStat(string(text))
	if err != nil {
		return stat{}, fmt.Errorf("read the state of process %d: %w", pid, err)
	}
	return st, nil
}

// parseStat reads a line of proc_pid_stat(5). The second field is the
// program's name in parentheses and may hold anything, parentheses too.
func parseStat(line string) (stat, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return stat{}, errors.New("no program name in it")
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("has %d fields after the name, wants 20", len(fields))
	}
	var st stat
	var errs [5]error
	st.pid, errs[0] = strconv.Atoi(strings.TrimSpace(line[:open]))
	st.parent, errs[1] = strconv.Atoi(fields[1])
	st.session, errs[2] = strconv.Atoi(fields[3])
	st.start, errs[3] = strconv.ParseUint(fields[19], 10, 64)
	threads, err := strconv.Atoi(fields[17])
	errs[4] = err
	st.dead = (fields[0] == "Z" || fields[0] == "X") && threads <= 1
	return st, errors.Join(errs[:]...)
}

// alive tells whether that very process is still there.
func (p pidStart) alive() bool {
	st, err := readStat(p.pid)
	return err == nil && st.start == p.start && !st.dead
}

// signal reaches that very process or none. One that is gone is no error.
func (p pidStart) signal(sig syscall.Signal) error {
	// The handle is a pidfd: once it is open, the pid can't become another's
	// between the look and the signal.
	handle, err := os.FindProcess(p.pid)
	if err != nil {
		return nil
	}
	defer func() { _ = handle.Release() }()
	if !p.alive() {
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// processes returns the state of every living process of our user.
func processes() ([]stat, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	uid := uint32(os.Geteuid())
	all := make([]stat, 0, len(entries))
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it ended
		}
		if sys, ok := info.Sys().(*syscall.Stat_t); !ok || sys.Uid != uid {
			continue
		}
		if st, err := readStat(pid); err == nil && !st.dead {
			all = append(all, st)
		}
	}
	return all, nil
}

// hasMarker tells whether the process was started with the marker in its
// environment, or has it from a parent.
func hasMarker(pid int, marker string) bool {
	return environment(pid, markerVariable) == marker
}

// environment returns what a variable was when the process started. A process
// that is gone, or is not ours to look at, has none.
func environment(pid int, name string) string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return ""
	}
	for entry := range bytes.SplitSeq(text, []byte{0}) {
		if value, ok := bytes.CutPrefix(entry, []byte(name+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// bootID changes with each start of the machine.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
