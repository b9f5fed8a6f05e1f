package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

const (
	formatTable = "table"
	formatJSON  = "json"
)

// print writes one answer: as the API's JSON, or as human does.
func (c *client) print(answer proto.Message, human func(w io.Writer)) error {
	if c.format != formatJSON {
		return table(c.out, human)
	}
	data, err := marshal(answer)
	if err != nil {
		return err
	}
	return printJSON(c.out, data)
}

// printAll writes a list: as one JSON array, or as human does.
func printAll[T proto.Message](c *client, answers []T, human func(w io.Writer)) error {
	if c.format != formatJSON {
		return table(c.out, human)
	}
	list := make([]json.RawMessage, 0, len(answers))
	for _, answer := range answers {
		data, err := marshal(answer)
		if err != nil {
			return err
		}
		list = append(list, data)
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return printJSON(c.out, data)
}

// marshal writes every field, as REST does.
func marshal(m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
}

func printJSON(w io.Writer, data []byte) error {
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, data, "", "  "); err != nil {
		return err
	}
	pretty.WriteByte('\n')
	_, err := pretty.WriteTo(w)
	return err
}

func table(out io.Writer, human func(w io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	human(w)
	return w.Flush()
}

// row writes one line of a table. Cells hold hostile text.
func row(w io.Writer, cells ...string) {
	for i, cell := range cells {
		if cells[i] = printable(cell); cells[i] == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// printable makes a text safe for a terminal, which obeys control characters.
func printable(text string, keep ...rune) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !slices.Contains(keep, r) || unicode.Is(unicode.Bidi_Control, r) {
			return '�'
		}
		return r
	}, text)
}

func writeChallenge(w io.Writer, c *challengev1.Challenge) {
	row(w, "challenge", c.GetId())
	row(w, "scenario", c.GetScenario())
	row(w, "timeout", span(c.GetTimeout()))
	row(w, "until", instant(c.GetUntil()))
	row(w, "pool", pool(c))
	writePairs(w, c.GetAdditional())
	row(w, "instances", fmt.Sprint(len(c.GetInstances())))
	if len(c.GetInstances()) > 0 {
		fmt.Fprintln(w)
		writeInstances(w, c.GetInstances())
	}
}

func writeChallenges(w io.Writer, all []*challengev1.Challenge) {
	row(w, "CHALLENGE", "SCENARIO", "TIMEOUT", "UNTIL", "POOL", "INSTANCES")
	for _, c := range all {
		row(w, c.GetId(), c.GetScenario(), span(c.GetTimeout()), instant(c.GetUntil()), pool(c), fmt.Sprint(len(c.GetInstances())))
	}
}

func writeInstance(w io.Writer, i *instancev1.Instance) {
	row(w, "challenge", i.GetChallengeId())
	row(w, "source", i.GetSourceId())
	row(w, "connect", i.GetConnectionInfo())
	for _, flag := range i.GetFlags() {
		row(w, "flag", flag)
	}
	row(w, "since", instant(i.GetSince()))
	row(w, "until", ending(i.GetUntil()))
	writePairs(w, i.GetAdditional())
}

func writeInstances(w io.Writer, all []*instancev1.Instance) {
	row(w, "CHALLENGE", "SOURCE", "SINCE", "UNTIL", "CONNECT")
	for _, i := range all {
		row(w, i.GetChallengeId(), i.GetSourceId(), instant(i.GetSince()), ending(i.GetUntil()), i.GetConnectionInfo())
	}
}

func writePairs(w io.Writer, pairs map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		row(w, "additional", key+"="+pairs[key])
	}
}

func pool(c *challengev1.Challenge) string {
	switch {
	case c.GetMin() == 0:
		return ""
	case c.GetMax() == 0:
		return fmt.Sprint(c.GetMin())
	}
	return fmt.Sprintf("%d, at most %d in all", c.GetMin(), c.GetMax())
}

func span(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().String()
}

func instant(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.RFC3339)
}

// ending is an instant and how far away it is.
func ending(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	left := time.Until(t.AsTime()).Round(time.Second)
	if left <= 0 {
		return instant(t) + " (over)"
	}
	return instant(t) + " (in " + left.String() + ")"
}
