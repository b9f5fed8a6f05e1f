//go:build faults

package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// organize creates, updates and deletes a challenge of which others take
// instances, and looks at it in between. Each call is repeated until it has a
// clear answer, so what comes next is known.
func (p *party) organize(n int) {
	id := fmt.Sprint("own-", n)
	at := "/challenge/" + id
	_, unsure := p.does(http.MethodPost, "/challenge", map[string]any{
		"id": id, "scenario": p.scenario, "timeout": "600s", "min": n % 2,
	}, "CHALLENGE_ALREADY_EXISTS")
	t := p.play(id, unsure)
	const timeout = 1200 * time.Second
	p.does(http.MethodPatch, at, map[string]any{
		"timeout": "1200s", "additional": map[string]string{"round": fmt.Sprint(n)}, "updateMask": "timeout,additional",
		"updateStrategy": []string{"update_in_place", "blue_green"}[n/2%2],
	}, "")
	if found, _ := p.does(http.MethodGet, at, nil, ""); !strings.Contains(found.Raw, `"1200s"`) {
		p.mistake("%s was updated, and is %s", id, found.Raw)
	}
	began := time.Now()
	if made, unsure := p.does(http.MethodPost, "/instance", map[string]any{"challengeId": id, "sourceId": id}, ""); !unsure {
		p.lasts(made, timeout, began)
	}
	if got := p.listed("/challenge", id); got != 1 {
		p.mistake("%s is listed %d times", id, got)
	}
	p.see(seenChanged)
	t.closing.Store(true)
	p.does(http.MethodDelete, at, nil, "CHALLENGE_NOT_FOUND")
	t.closed.Store(true)
	t.group.Wait()
	p.see(seenDeleted)
	if unsure {
		return // it may be created once more by who was not answered
	}
	if found, _ := p.calls(http.MethodGet, at, nil); found.Reason() != "CHALLENGE_NOT_FOUND" {
		p.mistake("%s was deleted, and is %s", id, found.Raw)
	}
	if got := p.listed("/instance?sourceId="+id, id); got != 0 {
		p.mistake("%s was deleted, and its instance is listed %d times", id, got)
	}
}

// listed is how many entries of a query name a challenge.
func (p *party) listed(path, id string) (times int) {
	for {
		answer, _ := p.calls(http.MethodGet, path, nil)
		times := 0
		broken := false
		for lines := json.NewDecoder(strings.NewReader(answer.Raw)); lines.More(); {
			var line struct {
				Error  *reply
				Result struct{ ID, ChallengeID string }
			}
			if err := lines.Decode(&line); err != nil {
				p.mistake("%s is answered %s: %v", path, answer.Raw, err)
				return -1
			}
			if line.Error != nil && !p.what.excuses(*line.Error) {
				p.mistake("%s is answered %s", path, answer.Raw)
			}
			broken = broken || line.Error != nil
			if line.Result.ID == id || line.Result.ChallengeID == id {
				times++
			}
		}
		if !broken {
			return times
		}
		<-time.After(callAgain)
	}
}

// Players take instances of a challenge. They know whether that is about to be
// deleted, and whether it was.
type players struct {
	closing, closed atomic.Bool
	group           sync.WaitGroup
}

// play has sources take an instance each, one after the other, until they are told
// that there is no such challenge; when there are several the next one waits for that
// to be deleted. Unsure tells that it may be created once more.
func (p *party) play(id string, unsure bool) *players {
	const several = 3
	t := &players{}
	mine := &party{faultSite: p.faultSite, what: p.what, random: rand.New(rand.NewPCG(p.random.Uint64(), 0))}
	t.group.Go(func() {
		for n := 0; ; n++ {
			for n >= several && !t.closed.Load() {
				<-time.After(callAgain)
			}
			closed := t.closed.Load()
			answer, _ := mine.calls(http.MethodPost, "/instance", map[string]any{"challengeId": id, "sourceId": fmt.Sprint(id, "-", n)})
			switch reason := answer.Reason(); {
			case reason == "CHALLENGE_NOT_FOUND" && t.closing.Load(), closed && unsure:
				return
			case closed, answer.Status != http.StatusOK && (reason != "INSTANCE_DELETED" || !t.closing.Load()):
				mine.mistake("%s is deleted: %v, and a create is answered %s", id, closed, answer.Raw)
				return
			}
		}
	})
	return t
}
