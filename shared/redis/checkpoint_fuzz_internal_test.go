package redis

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// knownRing is always the same one, so that what was found is of use to the next run.
func knownRing(f *testing.F) *Keyring {
	f.Helper()
	k, err := ParseKeys("k:" + strings.Repeat("A", 43) + "=")
	if err != nil {
		f.Fatal(err)
	}
	return k
}

// FuzzInfo seals anything as what an instance tells its source. It can't be read,
// or is written as it was read.
func FuzzInfo(f *testing.F) {
	keys, at := knownRing(f), ctf.InstanceKey{Identity: "i"}
	f.Add([]byte(`{"connection_info":"nc a 1","flags":["a","b"]}`))
	f.Add([]byte(`{"connection_info":7,"flags":"a"}`))
	f.Add([]byte("{\"connection_info\":\"\xff\",\"flags\":[null,\"\\ud800\"],\"more\":{}}"))
	f.Add([]byte(`null`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, plain []byte) {
		record := fields{"schema": "1", "state": "ready", "info": string(keys.Seal(plain, place(at, "info")))}
		read, err := decodeInstance(keys, at, record)
		if err != nil {
			if !errors.Is(err, ctf.ErrUnreadable) {
				t.Errorf("not typed: %v", err)
			}
			return
		}
		record["info"] = sealInfo(keys, at, ctf.Result{ConnectionInfo: read.ConnectionInfo, Flags: read.Flags})
		again, err := decodeInstance(keys, at, record)
		if err != nil || again.ConnectionInfo != read.ConnectionInfo || !slices.Equal(again.Flags, read.Flags) {
			t.Errorf("read %q %q, written and read %q %q: %v", read.ConnectionInfo, read.Flags, again.ConnectionInfo, again.Flags, err)
		}
	})
}

// FuzzCheckpoint reads any values as base and journal: as they are, and sealed, so
// that what lies behind the seal is reached.
func FuzzCheckpoint(f *testing.F) {
	const most = 1 << 20 // a whole [maxUnpacked] would take its time
	s := &Store{keys: knownRing(f)}
	var err error
	if s.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)); err != nil {
		f.Fatal(err)
	}
	if s.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(most)); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.decoder.Close)
	l := lease{store: s, key: ctf.InstanceKey{Identity: "i"}}
	f.Add(s.encoder.EncodeAll([]byte("{}"), nil), s.encoder.EncodeAll(make([]byte, 2*most), nil), false)
	f.Add(s.encoder.EncodeAll(nil, nil), s.encoder.EncodeAll(bytes.Repeat([]byte("ab"), 1000), nil), false)
	f.Add([]byte(s.pack([]byte("{}"), l.key, "checkpoint")), []byte(s.pack([]byte("[]"), l.key, "journal")), true)
	f.Add([]byte(nil), []byte{40, 181, 47, 253}, false)
	f.Fuzz(func(t *testing.T, base, entry []byte, sealed bool) {
		if !sealed {
			base, entry = s.keys.Seal(base, place(l.key, "checkpoint")), s.keys.Seal(entry, place(l.key, "journal"))
		}
		point, err := l.checkpoint(string(base), []string{string(entry), "", string(entry)})
		if err != nil {
			if !errors.Is(err, ctf.ErrUnreadable) || point.Base != nil || point.Journal != nil {
				t.Errorf("not typed, or half a checkpoint %v: %v", point, err)
			}
			return
		}
		if (point.Base == nil) != (len(base) == 0) || len(point.Journal) != 3 || !bytes.Equal(point.Journal[0], point.Journal[2]) {
			t.Errorf("the checkpoint is %q", point)
		}
		if n := max(len(point.Base), len(point.Journal[0])); n > most {
			t.Errorf("it takes %d bytes", n)
		}
		again, err := l.checkpoint(s.pack(point.Base, l.key, "checkpoint"), []string{s.pack(point.Journal[0], l.key, "journal")})
		if err != nil || !bytes.Equal(again.Base, point.Base) || !bytes.Equal(again.Journal[0], point.Journal[0]) {
			t.Errorf("packed and unpacked it is %q, and was %q: %v", again, point, err)
		}
	})
}
