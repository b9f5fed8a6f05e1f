package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/mayfly-ctf/mayfly/functions/gateway"
	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/serve"
)

// streamed is how many messages the measured stream has.
const streamed = 1000

// BenchmarkGateway measures calls that cost their function nothing, at the
// function and through the gateway, in turn, and prints a table. Each iteration
// is one call each way.
func BenchmarkGateway(b *testing.B) {
	verbs := echo()
	verbs.QueryChallenge = func(_ context.Context, _ ctf.Caller, _ *emptypb.Empty, send func(*challengev1.Challenge) error) error {
		for range streamed {
			if err := send(&challengev1.Challenge{Id: "challenge", Scenario: "registry.example/scenario:1"}); err != nil {
				return err
			}
		}
		return nil
	}
	functions := split(b, verbs, serve.Options{})
	g := open(b, gateway.Options{Target: to(functions)}, serve.Options{})
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "call\tdirect p50\tp99\tgateway p50\tp99\tadded at p50")
	for _, call := range []struct {
		name, verb string
		prepare    func(*testing.B, *host) func() error
	}{
		{"REST unary", "retrieve-challenge", restCall("/api/v1/challenge/1")},
		{"gRPC unary", "retrieve-challenge", grpcUnary},
		{"REST stream of 1000", "query-challenge", restCall("/api/v1/challenge")},
		{"gRPC stream of 1000", "query-challenge", grpcStream},
	} {
		b.Run(call.name, func(b *testing.B) {
			direct, through := call.prepare(b, functions[call.verb]), call.prepare(b, g)
			var took [2][]time.Duration
			for b.Loop() {
				for way, do := range []func() error{direct, through} {
					start := time.Now()
					if err := do(); err != nil {
						b.Fatal(err)
					}
					took[way] = append(took[way], time.Since(start))
				}
			}
			added := quantile(took[1], 0.5) - quantile(took[0], 0.5)
			b.ReportMetric(float64(added.Microseconds()), "added-µs/op")
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", call.name,
				quantile(took[0], 0.5), quantile(took[0], 0.99), quantile(took[1], 0.5), quantile(took[1], 0.99), added)
		})
	}
	_ = table.Flush() // A terminal that is gone can't be told.
}

func quantile(took []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Microsecond)
}

func restCall(path string) func(*testing.B, *host) func() error {
	return func(b *testing.B, h *host) func() error {
		client := &http.Client{Transport: &http.Transport{}}
		b.Cleanup(client.CloseIdleConnections)
		return func() error {
			res, err := client.Get(h.url + path)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				return err
			}
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("HTTP %s", res.Status)
			}
			return nil
		}
	}
}

func grpcUnary(b *testing.B, h *host) func() error {
	client := challengev1.NewChallengeStoreClient(h.dial(b))
	return func() error {
		_, err := client.RetrieveChallenge(b.Context(), &challengev1.RetrieveChallengeRequest{Id: "1"}, grpc.WaitForReady(true))
		return err
	}
}

func grpcStream(b *testing.B, h *host) func() error {
	client := challengev1.NewChallengeStoreClient(h.dial(b))
	return func() error {
		stream, err := client.QueryChallenge(b.Context(), &emptypb.Empty{})
		if err != nil {
			return err
		}
		n := 0
		for ; ; n++ {
			if _, err := stream.Recv(); err == io.EOF { //nolint:errorlint // grpc returns it bare.
				break
			} else if err != nil {
				return err
			}
		}
		if n != streamed {
			return fmt.Errorf("%d messages", n)
		}
		return nil
	}
}
