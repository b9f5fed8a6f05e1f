//go:build cluster

package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
	"github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance/instancev1connect"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

// besiegeEvery is the time between two tries to get in without the token.
const besiegeEvery = 50 * time.Millisecond

// testPublic gives an installation that runs without a token one, and a public
// address. At no moment does anybody get in from outside without it.
func testPublic(t *testing.T, i *installation) {
	token, p := rand.Text(), newOutside(t, i)
	i.token = token
	// A pod of the gateway that knows of no token, and stays for ten minutes.
	response, err := i.plain.Get(i.url("gateway") + "/healthcheck")
	check(t, err)
	check(t, response.Body.Close())

	up, siege := make(chan struct{}), make(chan error, 1)
	go func() { siege <- p.besiege(t.Context(), up) }()
	terminal := i.terminal(t)
	terminal.run(t, []string{"make up REGISTRY=registry.example/ctf PUBLIC=true"})
	close(up)
	if err := <-siege; err != nil {
		t.Error(err)
	}
	for _, function := range i.names(t) {
		address, want := i.service(t, function).Status.URL.String(), i.url(function)
		if function == "gateway" {
			want = p.url(function)
		} else if code, body := p.get(t, p.url(function)+"/healthcheck", ""); code != http.StatusNotFound {
			t.Errorf("%s answers outside: %d %s", function, code, body)
		}
		if address != want {
			t.Errorf("%s is at %s, want %s", function, address, want)
		}
	}
	t.Run("token", func(t *testing.T) { p.testToken(t, token) })
	t.Run("API", func(t *testing.T) { testDirect(t, i, token) })
	i.wantDown(t, terminal)
}

// An outside is the world around a cluster.
type outside struct {
	namespace, domain string
	plain, modern     *http.Client
}

func newOutside(t *testing.T, i *installation) *outside {
	t.Helper()
	domains, err := i.Typed.CoreV1().ConfigMaps("knative-serving").Get(t.Context(), "config-domain", metav1.GetOptions{})
	check(t, err)
	o := &outside{namespace: i.namespace}
	for name, rule := range domains.Data {
		if !strings.HasPrefix(name, "_") && strings.TrimSpace(rule) == "" { // the one of every service
			o.domain = name
		}
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", clustertest.Ingress(t))
	}
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	o.plain = &http.Client{Transport: &http.Transport{DialContext: dial}}
	o.modern = &http.Client{Transport: &http.Transport{DialContext: dial, Protocols: protocols}}
	return o
}

// url is the address that a function has outside, if it has one.
func (o *outside) url(function string) string {
	return "http://" + function + "." + o.namespace + "." + o.domain
}

// get asks with a header Authorization, if there is one.
func (o *outside) get(t *testing.T, url, authorization string) (int, string) {
	t.Helper()
	code, body, err := o.try(t.Context(), url, authorization)
	check(t, err)
	return code, body
}

func (o *outside) try(ctx context.Context, url, authorization string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := o.plain.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// besiege asks for a challenge without a token until up is closed and the token
// was asked for so often in a row that the ingress leads nowhere else. It returns
// an error if it once is told that there is no such challenge.
func (o *outside) besiege(ctx context.Context, up <-chan struct{}) error {
	const enough = 20
	again, answers, asked := time.NewTicker(besiegeEvery), map[int]int{}, 0
	defer again.Stop()
	var late <-chan time.Time
	for up != nil || asked < enough {
		select {
		case <-up:
			up, late = nil, time.After(turned)
		case <-late:
			return fmt.Errorf("it is not the token that is asked for: answers by code %v", answers)
		case <-again.C:
			code, body, err := o.try(ctx, o.url("gateway")+"/api/v1/challenge/none", "")
			if err != nil {
				continue // it can't be reached
			}
			if answers[code]++; strings.Contains(body, "CHALLENGE_NOT_FOUND") {
				return fmt.Errorf("let in without a token: HTTP %d %s, after %v", code, body, answers)
			}
			if asked++; code != http.StatusUnauthorized {
				asked = 0
			}
		}
	}
	return nil
}

// testToken asks for an instance that is not there, in every way.
func (o *outside) testToken(t *testing.T, token string) {
	bearer := "Bearer " + token
	for authorization, passes := range map[string]bool{
		"": false, bearer: true, bearer + "x": false,
		"Basic " + base64.StdEncoding.EncodeToString([]byte("ctfd:"+token)): true,
		"Basic " + base64.StdEncoding.EncodeToString([]byte(token+":")):     false,
	} {
		code, body := o.get(t, o.url("gateway")+"/api/v1/instance/none/1", authorization)
		if passes && code != http.StatusNotFound || !passes && (code != http.StatusUnauthorized || !strings.Contains(body, "UNAUTHENTICATED")) {
			t.Errorf("with %q: %d %s", authorization, code, body)
		}
	}
	if code, body := o.get(t, o.url("gateway")+"/healthcheck", ""); code != http.StatusOK {
		t.Errorf("health: %d %s", code, body)
	}
	for name, option := range map[string]connect.ClientOption{
		"gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb(), "Connect": connect.WithProtoJSON(),
	} {
		t.Run(name, func(t *testing.T) {
			client := instancev1connect.NewInstanceManagerClient(o.modern, o.url("gateway"), option)
			ask := &instancev1.RetrieveInstanceRequest{ChallengeId: "none", SourceId: "1"}
			ctx, call := connect.NewClientContext(t.Context())
			_, err := client.RetrieveInstance(ctx, ask)
			wantCode(t, err, connect.CodeUnauthenticated)
			call.RequestHeader().Set("Authorization", bearer)
			_, err = client.RetrieveInstance(ctx, ask)
			wantCode(t, err, connect.CodeNotFound)
		})
	}
}

func wantCode(t *testing.T, err error, code connect.Code) {
	t.Helper()
	if got := connect.CodeOf(err); got != code {
		t.Errorf("got %v, want %v", err, code)
	}
}
