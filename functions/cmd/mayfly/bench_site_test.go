package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
	"github.com/mayfly-ctf/mayfly/shared/scenario"
)

const (
	// benchChallenges share the stored instances evenly.
	benchChallenges = 20
	// benchHeld is how many instances a source holds, of as many challenges.
	benchHeld = 5
	// benchTimeout is that of each challenge.
	benchTimeout = 6 * time.Hour
	// seedAge is how old instances are that were stored in advance: old enough
	// that what announces them is due at once, and not in the middle of it all.
	seedAge = 10 * time.Minute
	// seeders store in parallel.
	seeders = 8
)

// A site is a server with a Redis of its own, as many stored instances as are
// asked for, and what was measured on it.
type site struct {
	b       *testing.B
	server  *server
	store   *redis.Store
	client  *http.Client
	program string     // the scenario's
	sample  ctf.Work   // of a real instance
	result  ctf.Result // of a real instance
	stored  int
	pools   int
	rows    []row
}

func newSite(b *testing.B) *site {
	keys := redis.NewKey()
	url := redistest.Start(b)
	s := &site{
		b: b, store: openStore(b, url, keys),
		// The ticks are at the bench's command.
		server: newServer(b, "REDIS_URL="+url, "MAYFLY_KEYS="+keys, "TICK=24h", "RECONCILE=24h"),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
	}
	s.server.Start()
	reference := s.pushEmpty()
	for n := range benchChallenges {
		s.server.Must(http.MethodPost, "/challenge", map[string]any{
			"id": challengeName(n), "scenario": reference, "timeout": fmt.Sprintf("%.0fs", benchTimeout.Seconds()),
		})
	}
	s.takeSample()
	return s
}

// pushEmpty pushes the scenario without resources. It is built as authors build
// theirs, outside this workspace and with the versions that the SDK names.
func (s *site) pushEmpty() string {
	dir := s.b.TempDir()
	s.program = filepath.Join(dir, "main")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", s.program, ".")
	build.Dir = "../../../shared/sdk/testdata/empty"
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		s.b.Fatalf("build the scenario: %v\n%s", err, out)
	}
	project := "name: empty\nruntime:\n  name: go\n  options:\n    binary: ./main\n"
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), []byte(project), 0o600); err != nil {
		s.b.Fatal(err)
	}
	reference := s.server.Registry + "/empty:1"
	registries := scenario.Registries{PlainHTTP: []string{s.server.Registry}}
	if _, err := scenario.Push(s.b.Context(), dir, reference, registries); err != nil {
		s.b.Fatal(err)
	}
	return reference
}

// runProgram starts the scenario's program with nothing to talk to, which it
// finds out once it has started.
func (s *site) runProgram() error {
	cmd := exec.Command(s.program)
	cmd.Env = []string{}
	if exit := (*exec.ExitError)(nil); !errors.As(cmd.Run(), &exit) {
		return errors.New("the program ran without an engine")
	}
	return nil
}

// takeSample deploys one instance, whose checkpoint is then stored for others.
func (s *site) takeSample() {
	key := benchChallenge(0)
	s.check(s.create(key.ID, "sample"))
	instance, err := s.store.Instance(s.b.Context(), key, "sample")
	s.check(err)
	lease, err := s.store.Lease(s.b.Context(), instance.Key)
	s.check(err)
	defer lease.Release()
	s.sample, err = lease.Load(s.b.Context())
	s.check(err)
	s.result = ctf.Result{ConnectionInfo: instance.ConnectionInfo, Flags: instance.Flags, Base: s.sample.Checkpoint.Base}
	s.stored = 1
}

func (s *site) check(err error) {
	s.b.Helper()
	if err != nil {
		s.b.Fatal(err)
	}
}

// call makes one call that has to succeed.
func (s *site) call(method, path string, body any) error {
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(s.b.Context(), method, s.server.URL+path, content)
	if err != nil {
		return err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	}
	return err
}

// A held is who holds which stored instance.
type held struct{ challenge, source string }

func (h held) path() string { return instancePath(h.challenge, h.source) }

func instancePath(challenge, source string) string {
	return "/api/v1/instance/" + challenge + "/" + source
}

func storedInstance(n int) held {
	return held{challengeName(n % benchChallenges), fmt.Sprint("team-", n/benchHeld)}
}

func (s *site) anyInstance() held { return storedInstance(1 + rand.IntN(s.stored-1)) }

func benchChallenge(n int) ctf.ChallengeKey {
	return ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(challengeName(n))}
}

// seed stores instances until there are as many as asked for.
func (s *site) seed(stored int) {
	s.parallel(stored-s.stored, func(n int) error {
		h := storedInstance(s.stored + n)
		challenge := benchChallenge((s.stored + n) % benchChallenges)
		r, err := s.store.Reserve(s.b.Context(), ctf.ReserveRequest{Challenge: challenge, Source: ctf.SourceID(h.source)})
		if err != nil {
			return err
		}
		return s.deployed(r.Instance)
	})
	s.stored = stored
	s.settle()
}

// parallel stores in the past.
func (s *site) parallel(count int, store func(n int) error) {
	s.store.Shift(-seedAge)
	defer s.store.Shift(seedAge)
	var group errgroup.Group
	group.SetLimit(seeders)
	for n := range count {
		group.Go(func() error { return store(n) })
	}
	s.check(group.Wait())
}

// deployed records a pending instance as ready, with what a real one has.
func (s *site) deployed(i ctf.Instance) error {
	lease, err := s.store.Lease(s.b.Context(), i.Key)
	if err != nil {
		return err
	}
	defer lease.Release()
	_, err = lease.Deployed(s.b.Context(), ctf.Work{Challenge: s.sample.Challenge, Instance: i}, s.result)
	return err
}

// settle waits until all that storing and measuring announced was looked at
// and published.
func (s *site) settle() {
	for key, err := range s.store.Due(s.b.Context()) {
		s.check(err)
		s.b.Fatalf("%s of %s is due", key.Identity, key.Challenge.ID)
	}
	s.server.Tick("/expire")
	s.server.Tick("/reconcile")
	for n := range benchChallenges {
		s.published(benchChallenge(n))
	}
}

func (s *site) published(key ctf.ChallengeKey) {
	eventually(s.b, "the events are published", func() error {
		pending, _, err := s.store.Pending(s.b.Context(), key, "")
		if err == nil && len(pending) > 0 {
			err = fmt.Errorf("%d or more are left of %s", len(pending), key.ID)
		}
		return err
	})
}

// openPool makes a challenge with a filled pool. Its size is its limit too, so
// that a claim leaves it short of none.
func (s *site) openPool(size int) ctf.ChallengeKey {
	s.pools++
	challenge := s.sample.Challenge
	challenge.Key.ID = ctf.ChallengeID(fmt.Sprint("pool-", s.pools))
	challenge.Pool = ctf.Pool{Min: int64(size), Max: int64(size)}
	s.check(s.store.CreateChallenge(s.b.Context(), challenge))
	s.parallel(size, func(int) error {
		id, ok, err := s.store.ReservePooled(s.b.Context(), challenge.Key)
		if err != nil || !ok {
			return errors.Join(err, errors.New("the pool is not as large as it should be"))
		}
		key := ctf.InstanceKey{Challenge: challenge.Key, Identity: id}
		return s.deployed(ctf.Instance{Key: key, State: ctf.Pending})
	})
	return challenge.Key
}

// removePool forgets the challenge and its instances, of which nothing runs.
func (s *site) removePool(key ctf.ChallengeKey) {
	s.published(key)
	d, ids, err := s.store.DeleteChallenge(s.b.Context(), key)
	s.check(err)
	s.parallel(len(ids), func(n int) error {
		lease, err := s.store.Lease(s.b.Context(), ctf.InstanceKey{Challenge: key, Identity: ids[n]})
		if err != nil {
			return err
		}
		defer lease.Release()
		return lease.Forget(s.b.Context())
	})
	_, err = s.store.RemoveChallenge(s.b.Context(), key, d.Incarnation)
	s.check(err)
}
