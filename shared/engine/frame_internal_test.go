package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrames(t *testing.T) {
	t.Parallel()
	var pipe bytes.Buffer
	sent := []report{{Ready: true}, {Entry: []byte(`{"a":1}`)}, {Done: &outcome{Flags: []string{"f"}}}}
	for _, r := range sent {
		if err := writeFrame(&pipe, r); err != nil {
			t.Fatal(err)
		}
	}
	var got []report
	for {
		var r report
		err := readFrame(&pipe, &r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFrameTooLong(t *testing.T) {
	t.Parallel()
	if err := writeFrame(io.Discard, strings.Repeat("x", maxFrame)); err == nil {
		t.Error("it was written")
	}
	long := binary.BigEndian.AppendUint32(nil, maxFrame+1)
	if err := readFrame(bytes.NewReader(long), new(report)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	cut := binary.BigEndian.AppendUint32(nil, maxFrame)
	if err := readFrame(bytes.NewReader(append(cut, "short"...)), new(report)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	var seed bytes.Buffer
	if err := writeFrame(&seed, order{Run: &job{Operation: up, Program: &programJob{Dir: "/d"}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var o order
		if err := readFrame(bytes.NewReader(raw), &o); err != nil {
			return
		}
		if err := writeFrame(io.Discard, o); err != nil {
			t.Errorf("what was read can't be written: %v", err)
		}
	})
}

func FuzzPlain(f *testing.F) {
	f.Add("error: \x1b[31mred\x1b[0m\x00")
	f.Add("an unhandled error occurred: program failed: \n1 error occurred:\n\t* boom\n")
	f.Fuzz(func(t *testing.T, message string) {
		got := plain(message)
		if len(got) > maxWordSize+len("…") {
			t.Errorf("%d bytes", len(got))
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' && r != '\n' }) {
			t.Errorf("%q has control characters", got)
		}
	})
}
