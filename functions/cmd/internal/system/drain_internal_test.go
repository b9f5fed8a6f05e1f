package system

import (
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// create asks for an instance. It returns once the function is at it, and with
// what comes of it: nil if there is no answer.
func create(t *testing.T, url, challenge, source string) <-chan *http.Response {
	t.Helper()
	begun, answered := make(chan struct{}), make(chan *http.Response, 1)
	trace := &httptrace.ClientTrace{Got100Continue: func() { close(begun) }} // it reads the body
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, url+"/api/v1/instance",
		strings.NewReader(`{"challenge_id": "`+challenge+`", "source_id": "`+source+`"}`))
	check(t, err)
	request.Header.Set("Expect", "100-continue")
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	go func() {
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		answered <- response
	}()
	select {
	case <-begun:
	case <-time.After(time.Minute):
		t.Fatal("the function does not take the create")
	}
	return answered
}

// A function that is told to stop serves those who wait for a turn.
func TestStopServesWhoWaits(t *testing.T) {
	reference := push(t, "slow")
	f := &Function{}
	url, tell, stopped := start(t, f, "workers", "2", "deployments", "1")
	post(t, url+"/api/v1/challenge", `{"id": "slow", "scenario": "`+reference+`"}`)
	var creates []<-chan *http.Response
	for _, source := range []string{"1", "2", "3"} {
		creates = append(creates, create(t, url, "slow", source))
	}
	tell()
	for n, answered := range creates {
		if r := <-answered; r == nil || r.StatusCode != http.StatusOK {
			t.Errorf("create %d: %v", n, r)
		}
	}
	check(t, <-stopped)
}

// One that is told to stop refuses whose turn does not come, and hands on what
// does not end: it is on record, nobody holds it, and an event tells of it.
func TestStopHandsOn(t *testing.T) {
	reference := push(t, "endless")
	f := &Function{drainFor: 5 * time.Second, stopFor: 6 * time.Second}
	url, tell, stopped := start(t, f, "workers", "2", "deployments", "1", "create-wait", "1s")
	post(t, url+"/api/v1/challenge", `{"id": "endless", "scenario": "`+reference+`"}`)
	endless := create(t, url, "endless", "1")
	eventually(t, "it is deployed", func() bool { return programs(t, f.engine.cache) > 0 })
	waiting := create(t, url, "endless", "2")
	tell()
	if r := <-waiting; r == nil || r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("who waits was answered with %v", r)
	}
	if r := <-endless; r != nil {
		t.Errorf("the create was answered with %s", r.Status)
	}
	if err := <-stopped; err == nil || !strings.Contains(err.Error(), "calls did not end within 5s") {
		t.Errorf("it stopped with %v", err)
	}
	options, err := f.Redis()
	check(t, err)
	store, err := redis.Open(t.Context(), options)
	check(t, err)
	defer func() { check(t, store.Close()) }()
	key := ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: "endless"}
	entries, err := ctf.Collect(store.All(t.Context(), key))
	check(t, err)
	if len(entries) != 1 || entries[0].Instance.State != ctf.Pending || entries[0].Leased {
		t.Errorf("on record are %+v, want one that is pending and held by nobody", entries)
	}
	told := 0
	events, _, err := store.Pending(t.Context(), key, "")
	check(t, err)
	for _, e := range events {
		if e.Type == ctf.ChallengeUnsettled {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d events tell of it, want one", told)
	}
	if n := programs(t, f.engine.cache); n != 0 {
		t.Errorf("%d programs run", n)
	}
}
