package events_test

import (
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/events"
)

func sample(id ctf.ChallengeID, identity ctf.Identity) ctf.Event {
	return ctf.Event{
		ID: "0123456789abcdef/7", Type: ctf.InstanceReady, Challenge: ctf.ChallengeKey{Tenant: "tenant", ID: id},
		Identity: identity, Revision: 7, At: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC),
	}
}

func TestEncodeAndDecode(t *testing.T) {
	t.Parallel()
	for _, id := range []ctf.ChallengeID{
		"plain", "a/b", "../..", "a b?c#d%e", "“ünïcödé” 🦋", `"quoted"\`, ctf.ChallengeID(strings.Repeat("x", ctf.MaxIDLength)),
	} {
		for _, identity := range []ctf.Identity{"", "0123456789abcdef"} {
			want := sample(id, identity)
			ce, err := events.Encode(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := ce.Validate(); err != nil {
				t.Errorf("%q: %v", id, err)
			}
			if slashes := strings.Count(ce.Subject(), "/"); slashes > 1 || (slashes == 1) != (identity != "") {
				t.Errorf("the subject %q is not challenge/identity", ce.Subject())
			}
			got, err := events.Decode(ce)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%q: %s", id, d)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	change := map[string]func(*cloudevents.Event){
		"another type": func(e *cloudevents.Event) { e.SetType("com.example.thing") },
		"no type":      func(e *cloudevents.Event) { e.SetType(events.TypePrefix) },
		"no JSON":      func(e *cloudevents.Event) { _ = e.SetData(cloudevents.TextPlain, "text") },
		"wrong type":   func(e *cloudevents.Event) { _ = e.SetData(cloudevents.ApplicationJSON, map[string]int{"challenge": 1}) },
		"no challenge": func(e *cloudevents.Event) { _ = e.SetData(cloudevents.ApplicationJSON, map[string]int{}) },
	}
	for name, breakIt := range change {
		ce, err := events.Encode(sample("c", ""))
		if err != nil {
			t.Fatal(err)
		}
		breakIt(&ce)
		_, err = events.Decode(ce)
		if ctf.ReasonOf(err) != ctf.ReasonInvalidArgument {
			t.Errorf("%s: got %v, want an invalid argument", name, err)
		}
	}
}

func TestCheckTick(t *testing.T) {
	t.Parallel()
	for kind, ok := range map[string]bool{events.TickType: true, events.PingType: true, "dev.mayfly.instance.ready": false, "": false} {
		ce := cloudevents.NewEvent()
		ce.SetType(kind)
		if err := events.CheckTick(ce); (err == nil) != ok {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// FuzzDecode: whatever comes, it is refused or comes back the same.
func FuzzDecode(f *testing.F) {
	f.Add("dev.mayfly.instance.ready", []byte(`{"tenant":"t","challenge":"c/d","identity":"0","revision":3}`))
	f.Add("dev.mayfly.challenge.created", []byte(`{"challenge":"\u0000"}`))
	f.Add("x", []byte(`[`))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		ce := cloudevents.NewEvent()
		ce.SetID("1")
		ce.SetType(kind)
		ce.SetDataContentType(cloudevents.ApplicationJSON)
		ce.DataEncoded = data
		first, err := events.Decode(ce)
		if err != nil {
			if ctf.ReasonOf(err) != ctf.ReasonInvalidArgument {
				t.Fatalf("got %v, want an invalid argument", err)
			}
			return
		}
		again, err := events.Encode(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := events.Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(first, second); d != "" {
			t.Error(d)
		}
	})
}
