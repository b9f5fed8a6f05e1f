package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// maxFrame is the longest message in bytes between engine and worker, and so
// the largest checkpoint.
const maxFrame = 64 << 20

// An order goes from the engine to its worker. Exactly one field is set.
type order struct {
	Run *job `json:"run,omitempty"`
	Ack *ack `json:"ack,omitempty"`
	// Deadline is after which nothing may be changed, in nanoseconds of the
	// machine's monotonic clock. A moment and not a duration: it holds however
	// long the message takes, or the worker sleeps.
	Deadline int64 `json:"deadline,omitempty"`
	Cancel   bool  `json:"cancel,omitempty"`
}

// An ack answers an entry or a base.
type ack struct {
	Refused bool `json:"refused,omitempty"`
}

// A report goes from a worker to its engine. Exactly one field is set.
type report struct {
	Ready bool `json:"ready,omitempty"`
	// Group is the process group of the scenario program that was started.
	Group int             `json:"group,omitempty"`
	Entry json.RawMessage `json:"entry,omitempty"`
	Base  json.RawMessage `json:"base,omitempty"`
	Done  *outcome        `json:"done,omitempty"`
}

// The operations of a job.
const (
	preview = "preview"
	up      = "up"
	down    = "down"
)

// A job is one operation.
type job struct {
	Operation string `json:"operation"`
	// Challenge is empty for a preview of no instance.
	Challenge  ctf.ChallengeKey `json:"challenge"`
	Identity   ctf.Identity     `json:"identity"`
	Checkpoint checkpoint       `json:"checkpoint"`
	Deadline   int64            `json:"deadline,omitempty"`
	// Program is nil for down.
	Program *programJob `json:"program,omitempty"`
}

type programJob struct {
	Dir     string `json:"dir"`
	Project string `json:"project"`
	// Binary is empty for a scenario that is no program.
	Binary string `json:"binary"`
	// Temporary is a scratch directory.
	Temporary       string            `json:"temporary"`
	Additional      map[string]string `json:"additional,omitempty"`
	TargetNamespace string            `json:"targetNamespace,omitempty"`
	Timeout         time.Duration     `json:"timeout"`
	Memory          uint64            `json:"memory"`
}

// An outcome is how an operation ended.
type outcome struct {
	ConnectionInfo string          `json:"connectionInfo,omitempty"`
	Flags          []string        `json:"flags,omitempty"`
	Base           json.RawMessage `json:"base,omitempty"`
	// Failure is what failed, in words for the author of the scenario.
	Failure string `json:"failure,omitempty"`
	// Unloadable: the program could not even begin, which is the Failure.
	Unloadable bool `json:"unloadable,omitempty"`
	// Fault is what went wrong on our side.
	Fault string `json:"fault,omitempty"`
	// Overdue: the deadline passed.
	Overdue bool `json:"overdue,omitempty"`
}

// writeFrame writes v as JSON after its length, in one call.
func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if len(body) > maxFrame {
		return fmt.Errorf("a message of %d bytes is longer than the limit of %d", len(body), maxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

// readFrame reads into v what writeFrame wrote. It returns io.EOF only at the
// end of a frame, and takes no more memory than was sent.
func readFrame(r io.Reader, v any) error {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	if n > maxFrame {
		return fmt.Errorf("a message of %d bytes is longer than the limit of %d", n, maxFrame)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read a message: %w", err)
	}
	if err := json.Unmarshal(body.Bytes(), v); err != nil {
		return fmt.Errorf("decode a message: %w", err)
	}
	return nil
}
