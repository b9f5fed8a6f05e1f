package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

// FuzzReadFrame reads anything as a frame. What is taken is what JSON says after a
// length that fits, and is the same once it is written and read again; whatever
// follows is left to be read.
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
	f.Add([]byte{0, 0, 0, 23, '{', '"', 'e', 'n', 't', 'r', 'y', '"', ':', ' ', '{', '"', '<', '"', ':', ' ', '1', '.', '0', '}', ' ', '}', ' ', 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		framed[order](t, raw)
		framed[report](t, raw)
	})
}

func framed[T any](t *testing.T, raw []byte) {
	t.Helper()
	var got, want, again T
	from := bytes.NewReader(raw)
	err := readFrame(from, &got)
	whole := len(raw) >= 4 && int64(binary.BigEndian.Uint32(raw)) <= int64(len(raw)-4)
	switch {
	case len(raw) == 0 && !errors.Is(err, io.EOF), len(raw) > 0 && errors.Is(err, io.EOF):
		t.Errorf("of %d bytes: %v", len(raw), err)
	case !whole && err == nil:
		t.Errorf("it is cut off, and taken: %q", raw)
	}
	if !whole {
		return
	}
	text, rest := raw[4:4+binary.BigEndian.Uint32(raw)], raw[4+binary.BigEndian.Uint32(raw):]
	if failed := json.Unmarshal(text, &want); (failed == nil) != (err == nil) {
		t.Errorf("%q: %v, JSON says %v", text, err, failed)
	}
	if left, _ := io.ReadAll(from); !bytes.Equal(left, rest) {
		t.Errorf("left is %q, want %q", left, rest)
	}
	if err != nil {
		return
	}
	var pipe bytes.Buffer
	if err := writeFrame(&pipe, got); err != nil {
		t.Fatalf("what was read can't be written: %v", err)
	}
	if err := readFrame(&pipe, &again); err != nil {
		t.Fatalf("what was written can't be read: %v", err)
	}
	// Parts that only pass through are the same JSON, not the same bytes.
	some := func(a, b json.RawMessage) bool { return len(a)+len(b) > 0 }
	same := cmp.Options{cmpopts.EquateEmpty(), cmp.FilterValues(some, cmp.Transformer("JSON", func(raw json.RawMessage) string {
		text, err := json.Marshal(raw)
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}))}
	if diff := cmp.Diff(want, got, same) + cmp.Diff(got, again, same); diff != "" {
		t.Error(diff)
	}
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
