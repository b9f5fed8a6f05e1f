package scenario_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	latest := push(t, host+"/team/web:latest", prebuilt).Digest
	one := push(t, host+"/team/web:1", with(map[string]string{"readme": "1"})).Digest
	l := newLibrary(t, scenario.Options{})

	unknown := "sha256:" + strings.Repeat("0", 64)
	tests := map[string]struct {
		suffix string
		want   string
		reason ctf.Reason
		kind   ctf.Kind
	}{
		"no tag is latest":                 {suffix: "", want: latest},
		"tag":                              {suffix: ":1", want: one},
		"digest":                           {suffix: "@" + one, want: one},
		"tag and its digest":               {suffix: ":1@" + one, want: one},
		"the digest wins over another tag": {suffix: ":latest@" + one, want: one},
		"the digest wins over no such tag": {suffix: ":gone@" + one, want: one},
		"unknown tag":                      {suffix: ":gone", reason: ctf.ReasonReferenceNotFound, kind: ctf.Invalid},
		"unknown digest":                   {suffix: ":1@" + unknown, reason: ctf.ReasonReferenceNotFound, kind: ctf.Invalid},
		"unknown repository":               {suffix: "/nothing:1", reason: ctf.ReasonReferenceNotFound, kind: ctf.Invalid},
		"malformed tag":                    {suffix: ":-", reason: ctf.ReasonReferenceMalformed, kind: ctf.Invalid},
		"sha512":                           {suffix: "@sha512:" + strings.Repeat("0", 128), reason: ctf.ReasonReferenceMalformed, kind: ctf.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reference := host + "/team/web" + test.suffix
			got, err := l.Resolve(t.Context(), reference)
			if test.reason != "" {
				wantReason(t, err, test.reason, test.kind)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ctf.Scenario{Reference: reference, Digest: test.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResolveRefusesMalformedReferences(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, scenario.Options{})
	for _, reference := range []string{
		"", "web", "web:1", "/web:1", "host:5000", "host:5000/", "host/Web", "host/web:", "host/web@", "host/web@sha256:",
		"host/web@sha256:xyz", "user:secret@host/web:1", "https://host/web:1", "host/../etc", "host/web:a:b", "host/we b",
		"host/web:1@sha256:" + strings.Repeat("0", 63), "host/" + strings.Repeat("a", 2000),
	} {
		_, err := l.Resolve(t.Context(), reference)
		if ctf.ReasonOf(err) != ctf.ReasonReferenceMalformed {
			t.Errorf("Resolve(%.50q) = %v, want %s", reference, err, ctf.ReasonReferenceMalformed)
		}
	}
}

func TestResolveSeesATagThatWasPushedAnew(t *testing.T) {
	t.Parallel()
	host := startRegistry(t)
	l := newLibrary(t, scenario.Options{})
	for _, text := range []string{"old", "new"} {
		pushed := push(t, host+"/web:1", with(map[string]string{"text": text}))
		got, err := l.Resolve(t.Context(), host+"/web:1")
		if err != nil {
			t.Fatal(err)
		}
		if got.Digest != pushed.Digest {
			t.Errorf("with %s content the tag means %s, want %s", text, got.Digest, pushed.Digest)
		}
	}
}

func TestResolveTellsHowTheRegistryFails(t *testing.T) {
	t.Parallel()
	answer := func(status int) string {
		return startServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	}
	tests := map[string]struct {
		host    string
		kind    ctf.Kind
		message string
	}{
		"nobody listens": {"127.0.0.1:1", ctf.Precondition, "Registry is not available"},
		"unavailable":    {answer(http.StatusServiceUnavailable), ctf.Precondition, "Registry is not available"},
		"forbidden":      {answer(http.StatusForbidden), ctf.Precondition, "Registry requires authentication"},
		"unauthorized":   {answer(http.StatusUnauthorized), ctf.Precondition, "Registry requires authentication"},
		"nonsense":       {answer(http.StatusTeapot), ctf.Internal, "OCI interaction failed"},
		"not a registry": {answer(http.StatusOK), ctf.Internal, "OCI interaction failed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newLibrary(t, scenario.Options{}).Resolve(t.Context(), test.host+"/web:1")
			wantReason(t, err, ctf.ReasonOCIInteraction, test.kind, test.message)
		})
	}
}

func TestResolveEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	host := startServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	left := errors.New("the caller left")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(left)
	}()
	if _, err := newLibrary(t, scenario.Options{}).Resolve(ctx, host+"/web:1"); !errors.Is(err, left) {
		t.Errorf("error is %v, want the cause of the context", err)
	}
}
