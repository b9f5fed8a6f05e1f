package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// fields is a record as Redis keeps it; what is not there reads as "".
type fields map[string]string

// info is what an instance tells its source, sealed as one value.
type info struct {
	ConnectionInfo string   `json:"connection_info"`
	Flags          []string `json:"flags"`
}

func sealInfo(keys *Keyring, key ctf.InstanceKey, r ctf.Result) string {
	text, _ := json.Marshal(info{r.ConnectionInfo, r.Flags}) // strings always marshal
	return string(keys.Seal(text, place(key, "info")))
}

func encodeAdditional(additional map[string]string) string {
	if len(additional) == 0 {
		return ""
	}
	// Strings always marshal, and keys are sorted: equal maps are equal texts,
	// by which a script tells whether anything changed.
	text, _ := json.Marshal(additional)
	return string(text)
}

// A decoder reads fields and keeps the first error, so that a record is read
// without a check after each field.
type decoder struct {
	fields fields
	err    error
}

func decode[T any](d *decoder, name string, parse func(string) (T, error)) T {
	value, err := parse(d.fields[name])
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("read the field %s: %w", name, err)
	}
	return value
}

func parseNumber(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

func parseAdditional(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	var additional map[string]string
	err := json.Unmarshal([]byte(text), &additional)
	return additional, err
}

func checkSchema(f fields) error {
	version, err := parseNumber(f["schema"])
	if err != nil {
		return fmt.Errorf("%w: the field schema: %w", ctf.ErrUnreadable, err)
	}
	if version > schema {
		return newerSchema(fmt.Errorf("schema %d, known are up to %d", version, schema))
	}
	return nil
}

// ErrNewer marks the error of a record that a newer version wrote, and that
// this one must not judge.
var ErrNewer = errors.New("newer schema")

func newerSchema(err error) error {
	err = fmt.Errorf("%w: %w: %w", ctf.ErrUnreadable, ErrNewer, err)
	return &ctf.Error{Kind: ctf.Unavailable, Reason: ctf.ReasonUnavailable,
		Message: "The record was written by a newer version.",
		Detail:  "bring every function to the newest version in use", Err: err}
}

func decodeChallenge(f fields) (ctf.Challenge, error) {
	if err := checkSchema(f); err != nil {
		return ctf.Challenge{}, err
	}
	d := &decoder{fields: f}
	c := ctf.Challenge{
		Key:         ctf.ChallengeKey{Tenant: ctf.Tenant(f["tenant"]), ID: ctf.ChallengeID(f["id"])},
		Incarnation: f["incarnation"],
		Scenario:    ctf.Scenario{Reference: f["reference"], Digest: f["digest"]},
		Timeout:     decode(d, "timeout", parseOptionalSpan),
		Until:       decode(d, "ends_at", parseOptionalInstant),
		Additional:  decode(d, "additional", parseAdditional),
		Pool:        ctf.Pool{Min: decode(d, "min", parseNumber), Max: decode(d, "max", parseNumber)},
		Generation:  decode(d, "generation", parseNumber),
		Deleting:    f["deleting"] != "",
	}
	if d.err != nil {
		return ctf.Challenge{}, fmt.Errorf("%w: challenge %q: %w", ctf.ErrUnreadable, f["id"], d.err)
	}
	return c, nil
}

func decodeInstance(keys *Keyring, key ctf.InstanceKey, f fields) (ctf.Instance, error) {
	if err := checkSchema(f); err != nil {
		return ctf.Instance{}, err
	}
	d := &decoder{fields: f}
	i := ctf.Instance{
		Key:        key,
		Source:     ctf.SourceID(f["source"]),
		State:      decode(d, "state", parseState),
		Since:      decode(d, "since", parseInstant),
		LastRenew:  decode(d, "last_renew", parseInstant),
		Until:      decode(d, "ends_at", parseOptionalInstant),
		Additional: decode(d, "additional", parseAdditional),
		Generation: decode(d, "generation", parseNumber),
		Scenario:   ctf.Scenario{Reference: f["reference"], Digest: f["digest"]},
		Strategy:   ctf.Strategy(f["strategy"]),
		Replaces:   ctf.Identity(f["replaces"]),
		Revision:   decode(d, "revision", parseNumber),
		Failure:    string(decode(d, "failure", opener(keys, key, "failure"))),
	}
	if sealed := decode(d, "info", opener(keys, key, "info")); sealed != nil {
		var told info
		if err := json.Unmarshal(sealed, &told); err != nil && d.err == nil {
			d.err = fmt.Errorf("read the field info: %w", err)
		}
		i.ConnectionInfo, i.Flags = told.ConnectionInfo, told.Flags
	}
	if d.err != nil {
		return ctf.Instance{}, fmt.Errorf("%w: instance %s: %w", ctf.ErrUnreadable, key.Identity, d.err)
	}
	return i, nil
}

func opener(keys *Keyring, key ctf.InstanceKey, field string) func(string) ([]byte, error) {
	return func(sealed string) ([]byte, error) {
		if sealed == "" {
			return nil, nil
		}
		return keys.Open([]byte(sealed), place(key, field))
	}
}

func parseState(text string) (ctf.State, error) {
	switch s := ctf.State(text); s {
	case ctf.Pending, ctf.Ready, ctf.Updating, ctf.Deleting, ctf.Failed:
		return s, nil
	}
	return "", errors.New("unknown state " + strconv.Quote(text))
}
