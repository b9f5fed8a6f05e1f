package engine

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in the kernel's struct seccomp_data, on little-endian machines.
const (
	seccompNumber = 0
	seccompArch   = 4
	seccompArg0   = 16
	seccompArg1   = 24
	// seccompArg1High is the more significant half.
	seccompArg1High = 28
	seccompArg2     = 32
)

const (
	seccompAllow = 0x7fff0000
	seccompDeny  = 0x00050000 | uint32(unix.EACCES)
	// x32Bit marks system calls of amd64's other interface.
	x32Bit = 0x40000000
	// socketTypeMask leaves flags like SOCK_CLOEXEC out.
	socketTypeMask = 0xf
)

// filterCalls forbids the calling thread, and every process started from it,
// two things for ever. One is all sockets but those of TCP over IP. Landlock
// looks at nothing else: not at Multipath TCP, which reaches the same servers,
// not at UDP, nor at Unix sockets with a path. io_uring would open sockets past
// the filter. The other is to leave their process group, by which they are
// killed, except for a call that has the ticket.
func filterCalls(ticket uint32) error {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if arch == 0 {
		return nil
	}
	filter := filterOf(arch, ticket)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL,
		unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0, 0)
	runtime.KeepAlive(filter)
	if errno != 0 && !errors.Is(errno, unix.EINVAL) && !errors.Is(errno, unix.ENOSYS) { // a kernel without it
		return fmt.Errorf("restrict system calls: %w", errno)
	}
	return nil
}

func filterOf(arch, ticket uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(how uint16, value uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, Jt: yes, Jf: no, K: value}
	}
	end := func(verdict uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict}
	}
	return []unix.SockFilter{
		load(seccompArch),
		jump(unix.BPF_JEQ, arch, 0, 21), // else deny
		load(seccompNumber),
		jump(unix.BPF_JGE, x32Bit, 19, 0),                  // deny
		jump(unix.BPF_JEQ, unix.SYS_IO_URING_SETUP, 18, 0), // deny
		jump(unix.BPF_JEQ, unix.SYS_SETSID, 17, 0),         // deny
		jump(unix.BPF_JEQ, unix.SYS_SETPGID, 10, 0),        // see below
		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 0, 16),         // else allow
		load(seccompArg0),
		jump(unix.BPF_JEQ, unix.AF_INET, 1, 0),
		jump(unix.BPF_JEQ, unix.AF_INET6, 0, 12), // else deny
		load(seccompArg1),
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: socketTypeMask},
		jump(unix.BPF_JEQ, unix.SOCK_STREAM, 0, 9), // else deny
		load(seccompArg2),
		jump(unix.BPF_JEQ, 0, 8, 0), // allow
		jump(unix.BPF_JEQ, unix.IPPROTO_TCP, 7, 6),
		load(seccompArg0),
		jump(unix.BPF_JEQ, 0, 0, 4), // else deny
		load(seccompArg1High),
		jump(unix.BPF_JEQ, ticket, 0, 2), // else deny
		load(seccompArg1),
		jump(unix.BPF_JEQ, 0, 1, 0), // allow
		end(seccompDeny),
		end(seccompAllow),
	}
}

// newTicket returns what lets a call of setpgid through the filter when it is
// in the half of the argument that the kernel does not look at: the one call
// that is made between the start of a program and its first instruction. Whoever
// guesses is out of time long before.
func newTicket() (uint32, error) {
	var raw [4]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return 0, fmt.Errorf("make a ticket: %w", err)
	}
	return binary.LittleEndian.Uint32(raw[:]) | 1, nil
}
