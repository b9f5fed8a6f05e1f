package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// FuzzDecode reads anything: what is taken is a backup that says the same once
// it is written again.
func FuzzDecode(f *testing.F) {
	h := header{Format: format, Version: version, ID: "id", Installation: "name", At: time.Unix(1, 2).UTC()}
	all := []redis.Snapshot{{
		Challenge: map[string]string{"id": "c", "additional": "\xff"}, Sources: map[string]string{"s": "1"},
		Pooled: []string{"2"}, Deleting: map[string]string{"3": "1.5"},
		Instances: []redis.InstanceSnapshot{{Record: map[string]string{"identity": "1"}, Base: "\x00", Journal: []string{"a", ""}}},
	}, {Challenge: map[string]string{"id": "d"}}}
	whole, err := encoded(h, all)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"format":"mayfly-backup","version":2}` + "\n"))
	f.Add([]byte(ageMagic + "v1\n"))
	f.Add(whole[:bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1])
	f.Fuzz(func(t *testing.T, text []byte) {
		again(t, text)
		again(t, ended(t, text))
	})
}

// TestOlder reads what is not written any more.
func TestOlder(t *testing.T) {
	t.Parallel()
	const older = `{"format":"mayfly-backup","version":1,"id":"id","installation":"name","at":"2026-01-02T03:04:05Z"}
{"challenge":{"record":{"id":"Yw=="},"claimable":["1"],"pooled":["1","2"],"instances":0}}
`
	_, all, err := decoded(ended(t, []byte(older)))
	want := []redis.Snapshot{{Challenge: map[string]string{"id": "c"}, Pooled: []string{"1", "2"}}}
	if d := cmp.Diff(want, all); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
}

// FuzzOpen decrypts anything: what can be read to its end is what was encrypted.
func FuzzOpen(f *testing.F) {
	// Always the same key, so that what was found is of use to the next run.
	key, err := redis.ParseKeys("k:" + strings.Repeat("A", 43) + "=")
	if err != nil {
		f.Fatal(err)
	}
	const plain = "what is backed up\n"
	var sealed bytes.Buffer
	to, err := sealing(&sealed, key)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := io.WriteString(to, plain); err != nil {
		f.Fatal(err)
	}
	if err := to.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.Bytes())
	f.Add(sealed.Bytes()[:sealed.Len()-1])
	f.Add([]byte(ageMagic + "v1\n-> mayfly\n\n--- x\n"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		from, err := opening(bytes.NewReader(text), key)
		if err != nil {
			return
		}
		got, err := io.ReadAll(from)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("got error %v", err)
		}
		if err == nil && len(text) > 0 && string(got) != plain {
			t.Errorf("what nobody encrypted is read as %q", got)
		}
	})
}

// ended is a text with an end that fits, which chance would not find.
func ended(t *testing.T, text []byte) []byte {
	sum := sha256.New()
	sum.Write(text)
	end, err := json.Marshal(ending(bytes.Count(text, []byte("\n")), sum))
	if err != nil {
		t.Fatal(err)
	}
	return append(append(bytes.Clone(text), end...), '\n')
}

func again(t *testing.T, text []byte) {
	h, all, err := decoded(text)
	if err != nil {
		return
	}
	written, err := encoded(h, all)
	if err != nil {
		t.Fatal(err)
	}
	sameHeader, same, err := decoded(written)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(all, same, cmpopts.EquateEmpty()) + cmp.Diff(h, sameHeader); d != "" {
		t.Error(d)
	}
}

func encoded(h header, all []redis.Snapshot) ([]byte, error) {
	var out bytes.Buffer
	e, err := newEncoder(&out, h)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if err := e.challenge(s); err != nil {
			return nil, err
		}
	}
	err = e.end()
	return out.Bytes(), err
}

func decoded(text []byte) (header, []redis.Snapshot, error) {
	opened, err := opening(bytes.NewReader(text), nil)
	if err != nil {
		return header{}, nil, err
	}
	d, h, err := newDecoder(opened)
	if err != nil {
		return header{}, nil, err
	}
	var all []redis.Snapshot
	for {
		l, err := d.next()
		switch {
		case errors.Is(err, io.EOF):
			return h, all, nil
		case err != nil:
			return header{}, nil, err
		case l.Challenge != nil:
			all = append(all, l.Challenge.snapshot())
		default:
			last := &all[len(all)-1]
			last.Instances = append(last.Instances, l.Instance.snapshot())
		}
	}
}
