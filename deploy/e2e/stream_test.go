//go:build cluster

package e2e_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge/challengev1connect"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// streamed is how many challenges a stream has, and padding how long each is
	// at least, in bytes: together they are more than fits into the buffers of
	// all that is between a function and its caller.
	streamed = 1000
	padding  = 40 << 10
	// unread is how long a stream is left alone: what could send all has ended then,
	// and its log has reached us.
	unread = 2 * time.Second
	// fillers make and delete them at once.
	fillers = 16
)

// padded is a challenge that nobody starts, and that is as long as one likes.
const padded = `
name: padded
overridable: {padding: {}}
containers:
  web:
    image: registry.example/none:1
    ports: [{port: 8080, expose: ingress}]
    env: {PADDING: "${additional.padding}"}
    requests: {cpu: 10m, memory: 16Mi}
    limits: {cpu: 10m, memory: 16Mi}
connection: ${url}
`

// testStream lists a thousand challenges through the gateway: the first arrives
// while the function still sends, each arrives once, and who leaves in the middle
// lets the function go.
func testStream(t *testing.T, i *installation) {
	ids := i.fill(t)
	for name, open := range map[string]func(context.Context, string) (func() (string, error), error){
		"gRPC": i.streamGRPC, "REST": i.streamREST,
	} {
		t.Run(name+"/all", func(t *testing.T) {
			trace := newTrace()
			began := time.Now()
			next, err := open(t.Context(), trace)
			check(t, err)
			first, err := next()
			check(t, err)
			t.Logf("the first one arrived after %v", time.Since(began).Round(time.Millisecond))
			<-time.After(unread)
			if ends := i.ends(t, "query-challenge", trace); len(ends) > 0 {
				t.Errorf("the function had sent all though nobody had read more than one: %v", ends)
			}
			seen := map[string]int{first: 1}
			for err == nil {
				var id string
				if id, err = next(); err == nil {
					seen[id]++
				}
			}
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			t.Logf("all arrived after %v", time.Since(began).Round(time.Millisecond))
			for _, id := range ids {
				if seen[id] != 1 {
					t.Errorf("%s arrived %d times", id, seen[id])
				}
			}
			i.wantEnd(t, "query-challenge", trace, "ok")
		})
		t.Run(name+"/left", func(t *testing.T) {
			trace := newTrace()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			next, err := open(ctx, trace)
			check(t, err)
			_, err = next()
			check(t, err)
			leave()
			i.wantEnd(t, "query-challenge", trace, "canceled")
		})
	}
}

// fill makes one challenge through the gateway and copies its record, as each
// create would try the scenario. It deletes all after the test.
func (i *installation) fill(t *testing.T) []string {
	t.Helper()
	challenges, _ := i.clients(t, "gateway")
	prefix := "stream-" + strings.ToLower(rand.Text()[:8]) + "-"
	ids := make([]string, streamed)
	for n := range ids {
		ids[n] = fmt.Sprint(prefix, n)
	}
	each := func(ctx context.Context, what string, ids []string, do func(context.Context, string) error) {
		began := time.Now()
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(fillers)
		for _, id := range ids {
			group.Go(func() error { return do(ctx, id) })
		}
		check(t, group.Wait())
		t.Logf("%s: %d in %v", what, len(ids), time.Since(began).Round(time.Millisecond))
	}
	_, err := challenges.CreateChallenge(t.Context(), &challengev1.CreateChallengeRequest{
		Id: ids[0], Scenario: pushManifest(t, "padded", padded), Additional: map[string]string{"padding": strings.Repeat("x", padding)},
	})
	check(t, err)
	t.Cleanup(func() {
		each(context.Background(), "delete", ids, func(ctx context.Context, id string) error {
			_, err := challenges.DeleteChallenge(ctx, &challengev1.DeleteChallengeRequest{Id: id})
			if status.Code(err) == codes.NotFound {
				return nil // it was not copied
			}
			return err
		})
	})
	store, _ := i.redis(t)
	first, err := store.Challenge(t.Context(), ctf.ChallengeKey{Tenant: ctf.DefaultTenant, ID: ctf.ChallengeID(ids[0])})
	check(t, err)
	each(t.Context(), "copy", ids[1:], func(ctx context.Context, id string) error {
		challenge := first
		challenge.Key.ID = ctf.ChallengeID(id)
		return store.CreateChallenge(ctx, challenge)
	})
	return ids
}

// streamGRPC starts to list all challenges and returns what receives their ids.
func (i *installation) streamGRPC(ctx context.Context, trace string) (func() (string, error), error) {
	ctx, call := connect.NewClientContext(ctx)
	call.RequestHeader().Set("Traceparent", traceparent(trace))
	stream, err := challengev1connect.NewChallengeStoreClient(i.modern(), i.url("gateway"), connect.WithGRPC(),
		connect.WithAcceptCompression("gzip", nil, nil)). // of which there would be too little to stream
		QueryChallenge(ctx, &emptypb.Empty{})
	return func() (string, error) {
		if !stream.Receive() {
			return "", cmp.Or(stream.Err(), io.EOF)
		}
		return stream.Msg().GetId(), nil
	}, err
}

func (i *installation) streamREST(ctx context.Context, trace string) (func() (string, error), error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url("gateway")+"/api/v1/challenge", http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Traceparent", traceparent(trace))
	response, err := i.plain.Do(request)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = response.Body.Close() }) // the end of ctx has told why
	lines := bufio.NewReader(response.Body)
	return func() (string, error) {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return "", err
		}
		var item struct {
			Result struct{ ID string }
			Error  json.RawMessage
		}
		if err := json.Unmarshal(line, &item); err != nil || item.Error != nil {
			return "", fmt.Errorf("line %.200q: %w", line, err)
		}
		return item.Result.ID, nil
	}, nil
}
