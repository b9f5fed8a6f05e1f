package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// A record is what a program's directory remembers of it. It is written before
// the program starts, then without PID, and again when it has started.
type record struct {
	// Marker is random and in the environment of the program and, unless they
	// drop it, of its children.
	Marker string `json:"marker"`
	Port   int    `json:"port"`
	PID    int    `json:"pid,omitempty"`
	// Start is in clock ticks since the boot that BootID names.
	Start  uint64 `json:"start,omitempty"`
	BootID string `json:"bootId"`
	// Tenant and Challenge are those of the instance, and MadeAt is when the
	// record was written first. The outputs of the resource do not have them.
	Tenant    ctf.Tenant      `json:"tenant,omitempty"`
	Challenge ctf.ChallengeID `json:"challenge,omitempty"`
	MadeAt    time.Time       `json:"madeAt,omitzero"`
}

func (r record) process() pidStart { return pidStart{pid: r.PID, start: r.Start} }

// A place is the directory of one program.
type place struct {
	root, identity, name string
}

func (pl place) id() resource.ID  { return resource.ID(pl.identity + "/" + pl.name) }
func (pl place) dir() string      { return filepath.Join(pl.root, pl.identity, pl.name) }
func (pl place) work() string     { return filepath.Join(pl.dir(), "work") }
func (pl place) log() string      { return filepath.Join(pl.dir(), "output.log") }
func (pl place) recorded() string { return filepath.Join(pl.dir(), "record.json") }

// starting is locked while a child of ours may become the program: it does not
// have the marker yet, and it goes on when we die.
func (pl place) starting() string { return filepath.Join(pl.dir(), "starting") }

// started waits until the program of a record without a PID has been started, or
// never will be.
func (pl place) started(ctx context.Context, rec record) error {
	if rec.PID != 0 || rec.Marker == "" {
		return nil
	}
	file, err := lock(ctx, pl.starting())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the start of %s: %w", pl.id(), err)
	}
	return file.Close()
}

// load returns what is recorded; ok is false if nothing is.
func (pl place) load() (rec record, ok bool, err error) {
	text, err := os.ReadFile(pl.recorded())
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err == nil {
		rec, err = parseRecord(text)
	}
	if err != nil {
		return record{}, false, fmt.Errorf("read the record of %s: %w", pl.id(), err)
	}
	return rec, true, nil
}

// parseRecord refuses what save did not write: a record that names nobody would
// have a program taken for stopped.
func parseRecord(text []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(text, &rec); err != nil {
		return record{}, err
	}
	switch {
	case rec.Marker == "":
		return record{}, errors.New("it has no marker")
	case rec.BootID == "":
		return record{}, errors.New("it has no bootId")
	case rec.Port <= 0 || rec.Port > math.MaxUint16:
		return record{}, fmt.Errorf("the port is %d", rec.Port)
	case rec.PID < 0 || rec.PID > math.MaxInt32:
		return record{}, fmt.Errorf("the pid is %d", rec.PID)
	}
	return rec, nil
}

// save replaces the record as a whole: a reader, also after a crash, sees the
// old one or the new one.
func (pl place) save(rec record) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode the record of %s: %w", pl.id(), err)
	}
	next := pl.recorded() + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("write the record of %s: %w", pl.id(), err)
	}
	if err := os.Rename(next, pl.recorded()); err != nil {
		return fmt.Errorf("write the record of %s: %w", pl.id(), err)
	}
	return nil
}

// current returns what the directory records or, if that is gone, what the
// outputs of the resource do.
func (pl place) current(outputs resource.PropertyMap) (record, error) {
	rec, ok, err := pl.load()
	if err != nil || ok {
		return rec, err
	}
	return recordOf(outputs), nil
}

// running tells whether that very program is there now.
func (r record) running() bool {
	boot, err := bootID()
	return err == nil && r.PID != 0 && r.BootID == boot && r.process().alive()
}

// findUnrecorded completes a record that was written before a start whose end
// was not, if the program runs: it leads its session and has the marker and
// the port in its environment.
func (r record) findUnrecorded() (record, error) {
	if r.PID != 0 || r.Marker == "" {
		return r, nil
	}
	all, err := processes()
	if err != nil {
		return r, err
	}
	for _, st := range all {
		if st.session == st.pid && hasMarker(st.pid, r.Marker) && environment(st.pid, portVariable) != "" &&
			(r.PID == 0 || st.start < r.Start) {
			r.PID, r.Start = st.pid, st.start
		}
	}
	return r, nil
}

// outputs are the inputs, as they were given, and what came of them.
func (r record) outputs(in resource.PropertyMap) resource.PropertyMap {
	out := in.Copy()
	out["port"] = resource.NewProperty(float64(r.Port))
	out["address"] = resource.NewProperty(address(r.Port))
	out["pid"] = resource.NewProperty(float64(r.PID))
	// Text, as a number of Pulumi's is a float.
	out["startTime"] = resource.NewProperty(strconv.FormatUint(r.Start, 10))
	out["bootId"] = resource.NewProperty(r.BootID)
	return out
}

func unknownOutputs(in resource.PropertyMap) resource.PropertyMap {
	out := in.Copy()
	for _, key := range []resource.PropertyKey{"port", "address", "pid", "startTime", "bootId"} {
		out[key] = resource.MakeComputed(resource.NewProperty(""))
	}
	return out
}

// recordOf reads outputs back; what is missing stays empty.
func recordOf(outputs resource.PropertyMap) record {
	var rec record
	values := plainMap(outputs)
	if v := values["pid"]; v.IsNumber() {
		rec.PID = int(v.NumberValue())
	}
	if v := values["port"]; v.IsNumber() {
		rec.Port = int(v.NumberValue())
	}
	if v := values["startTime"]; v.IsString() {
		rec.Start, _ = strconv.ParseUint(v.StringValue(), 10, 64)
	}
	if v := values["bootId"]; v.IsString() {
		rec.BootID = v.StringValue()
	}
	return rec
}
