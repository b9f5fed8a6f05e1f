package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// A backup is lines of JSON: the header, then each challenge, followed by its
// instances, and an end that counts the lines before it and has their checksum.

const (
	format  = "mayfly-backup"
	version = 1
	// maxLine is above what the largest value of Redis, 512 MB, becomes in base64.
	maxLine = 1 << 30
)

var (
	// ErrDamaged says that a backup is not whole, or that it is none.
	ErrDamaged = errors.New("the backup is damaged or cut off")
	// ErrNewer says that a backup is of a version that this code does not know.
	ErrNewer = errors.New("the backup was made by a newer Mayfly; restore it with that one")
)

// A header is the first line. A newer version may change all but the first two
// fields.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// ID is random, so that restoring can be gone on with.
	ID           string `json:"id"`
	Installation string `json:"installation"`
	// At is when it was begun, by Redis' clock.
	At time.Time `json:"at"`
}

// A line is one of those that follow: exactly one of the fields is set.
type line struct {
	Challenge *challenge `json:"challenge,omitempty"`
	Instance  *instance  `json:"instance,omitempty"`
	End       *end       `json:"end,omitempty"`
}

type challenge struct {
	Record   fields            `json:"record"`
	Sources  map[string]string `json:"sources,omitempty"`
	Pooled   []string          `json:"pooled,omitempty"`
	Deleting map[string]string `json:"deleting,omitempty"`
	// Claimable is in older backups, and nothing is restored of it.
	Claimable []string `json:"claimable,omitempty"`
	// Instances is how many lines of instances follow.
	Instances int `json:"instances"`
}

type instance struct {
	Record  fields   `json:"record"`
	Base    []byte   `json:"base,omitempty"`
	Journal [][]byte `json:"journal,omitempty"`
}

type end struct {
	Lines  int    `json:"lines"`
	SHA256 string `json:"sha256"`
}

// fields are a record. Some values are sealed, and so no text.
type fields map[string][]byte

func toFields(record map[string]string) fields {
	f := make(fields, len(record))
	for name, value := range record {
		f[name] = []byte(value)
	}
	return f
}

func (f fields) record() map[string]string {
	record := make(map[string]string, len(f))
	for name, value := range f {
		record[name] = string(value)
	}
	return record
}

func (c challenge) snapshot() redis.Snapshot {
	return redis.Snapshot{
		Challenge: c.Record.record(), Sources: c.Sources, Pooled: c.Pooled, Deleting: c.Deleting,
	}
}

func (i instance) snapshot() redis.InstanceSnapshot {
	s := redis.InstanceSnapshot{Record: i.Record.record(), Base: string(i.Base)}
	for _, entry := range i.Journal {
		s.Journal = append(s.Journal, string(entry))
	}
	return s
}

// An encoder writes the lines of a backup.
type encoder struct {
	to    io.Writer
	sum   hash.Hash
	lines int
}

func newEncoder(to io.Writer, h header) (*encoder, error) {
	e := &encoder{to: to, sum: sha256.New()}
	return e, e.write(h)
}

func (e *encoder) challenge(s redis.Snapshot) error {
	c := challenge{
		Record: toFields(s.Challenge), Sources: s.Sources, Pooled: s.Pooled, Deleting: s.Deleting, Instances: len(s.Instances),
	}
	if err := e.write(line{Challenge: &c}); err != nil {
		return err
	}
	for _, i := range s.Instances {
		one := instance{Record: toFields(i.Record), Base: []byte(i.Base)}
		for _, entry := range i.Journal {
			one.Journal = append(one.Journal, []byte(entry))
		}
		if err := e.write(line{Instance: &one}); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) end() error { return e.write(ending(e.lines, e.sum)) }

func ending(lines int, sum hash.Hash) line {
	return line{End: &end{lines, hex.EncodeToString(sum.Sum(nil))}}
}

func (e *encoder) write(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if len(text) > maxLine {
		return fmt.Errorf("line %d: a record of %d bytes is too large", e.lines+1, len(text))
	}
	e.lines++
	e.sum.Write(text) // never fails, by its documentation
	_, err = e.to.Write(text)
	return err
}

// A decoder reads the lines of a backup, and refuses any that an encoder would
// not have written there.
type decoder struct {
	from   *bufio.Reader
	buffer []byte
	sum    hash.Hash
	lines  int
	left   int // instances that are to come
}

func newDecoder(from io.Reader) (*decoder, header, error) {
	d := &decoder{from: bufio.NewReader(from), sum: sha256.New()}
	text, err := d.read()
	if err != nil {
		return nil, header{}, err
	}
	var h header
	if err := json.Unmarshal(text, &h); err == nil && h.Format == format && h.Version > version {
		return nil, header{}, ErrNewer
	}
	h = header{}
	if err := strictly(text, &h); err != nil {
		return nil, header{}, d.damaged(err)
	}
	if h.Format != format || h.Version != version || h.ID == "" || h.Installation == "" {
		return nil, header{}, d.damaged(errors.New("this is no backup of Mayfly"))
	}
	d.take(text)
	return d, h, nil
}

// next returns a line, and io.EOF after the end if all was as it should be.
func (d *decoder) next() (line, error) {
	text, err := d.read()
	if err != nil {
		return line{}, err
	}
	var l line
	if err := strictly(text, &l); err != nil {
		return line{}, d.damaged(err)
	}
	switch {
	case l.Challenge != nil && l.Instance == nil && l.End == nil && d.left == 0 && l.Challenge.Instances >= 0:
		d.left = l.Challenge.Instances
	case l.Instance != nil && l.Challenge == nil && l.End == nil && d.left > 0:
		d.left--
	case l.End != nil && l.Challenge == nil && l.Instance == nil && d.left == 0:
		return line{}, d.finish(text)
	default:
		return line{}, d.damaged(errors.New("it is not what should follow"))
	}
	d.take(text)
	return l, nil
}

// finish compares the end, to the letter, since nothing has its checksum.
func (d *decoder) finish(text []byte) error {
	want, err := json.Marshal(ending(d.lines, d.sum))
	if err != nil {
		return err
	}
	if string(text) != string(want)+"\n" {
		return d.damaged(errors.New("the checksum is another"))
	}
	switch _, err := d.from.ReadByte(); {
	case err == nil:
		return d.damaged(errors.New("something follows the end"))
	case !errors.Is(err, io.EOF):
		return d.failed(err)
	}
	return io.EOF
}

// read returns the next line. It is good until the next call.
func (d *decoder) read() ([]byte, error) {
	d.buffer = d.buffer[:0]
	for {
		part, err := d.from.ReadSlice('\n')
		d.buffer = append(d.buffer, part...)
		switch {
		case err == nil:
			return d.buffer, nil
		case errors.Is(err, io.EOF):
			return nil, d.damaged(io.ErrUnexpectedEOF)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, d.failed(err)
		case len(d.buffer) > maxLine:
			return nil, d.damaged(errors.New("it is too long"))
		}
	}
}

func (d *decoder) take(text []byte) {
	d.lines++
	d.sum.Write(text) // never fails, by its documentation
}

// damaged says where.
func (d *decoder) damaged(err error) error {
	return fmt.Errorf("%w: line %d: %w", ErrDamaged, d.lines+1, err)
}

// failed is about what the lines are read from.
func (d *decoder) failed(err error) error {
	return fmt.Errorf("read the backup, line %d: %w", d.lines+1, err)
}

// strictly reads one value, all of whose fields are known.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}
