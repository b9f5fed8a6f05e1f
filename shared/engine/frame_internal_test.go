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
	seed = bytes.Buffer{}
	if err := writeFrame(&seed, report{Group: 7, Entry: []byte(`{"a":1}`), Done: &outcome{Flags: []string{"f"}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, into := range []any{new(order), new(report)} {
			if err := readFrame(bytes.NewReader(raw), into); err != nil {
				continue
			}
			if err := writeFrame(io.Discard, into); err != nil {
				t.Errorf("what was read can't be written: %v", err)
			}
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

// FuzzTranscript has a program print anything, in pieces: where they begin and
// end makes no difference.
func FuzzTranscript(f *testing.F) {
	f.Add("goroutine 1\npanic: boom\n\ngoroutine 1 [running]:\n", 14, 7)
	f.Add("fatal error: a\npanic: b\n", 3, 20)
	f.Add("panic: "+strings.Repeat("x", 2*maxLine), 8, 1)
	f.Fuzz(func(t *testing.T, said string, first, limit int) {
		limit = 1 + int(uint(limit)%64)
		first = int(uint(first) % uint(len(said)+1))
		whole, pieces := &transcript{tail: tail{limit: limit}}, &transcript{tail: tail{limit: limit}}
		say := func(to *transcript, text string) {
			if n, err := to.Write([]byte(text)); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
		}
		say(whole, said)
		say(pieces, said[:first])
		say(pieces, said[first:])
		if whole.crash != pieces.crash || whole.String() != pieces.String() {
			t.Errorf("%q and %q, in pieces %q and %q", whole.crash, whole.String(), pieces.crash, pieces.String())
		}
		if want := said[max(0, len(said)-limit):]; whole.String() != want {
			t.Errorf("it keeps %q, want %q", whole.String(), want)
		}
	})
}
