package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Registries is how registries are reached.
type Registries struct {
	// Insecure has every registry reached over plain HTTP.
	Insecure bool
	// PlainHTTP are the registries, host[:port], reached over plain HTTP.
	PlainHTTP []string
	// Credentials are the logins.
	Credentials Credentials
}

// Credentials are logins, each for one registry and sent to no other host. The
// exceptions are token servers that a registry names under its own registered
// domain, such as auth.docker.io for registry-1.docker.io.
type Credentials struct {
	// Registry, Username and Password are one login. All three are needed.
	Registry, Username, Password string
	// DockerConfig is the path of a Docker configuration file with further
	// logins; its credential helpers are used. Empty is where Docker keeps it:
	// $DOCKER_CONFIG/config.json or ~/.docker/config.json. The file may be
	// missing, and may change at any time.
	DockerConfig string
}

func (c Credentials) check() error {
	switch {
	case c.Username == "" && c.Password == "":
		return nil
	case c.Username == "" || c.Password == "":
		return errors.New("registry credentials need a user name and a password: set both OCI_USERNAME and OCI_PASSWORD, or neither")
	case c.Registry == "":
		return errors.New("registry credentials are for one registry only: set OCI_REGISTRY to its host[:port]")
	case strings.Contains(c.Registry, "/"):
		return fmt.Errorf("OCI_REGISTRY must be host[:port], without scheme and path: %q", c.Registry)
	}
	return nil
}

// login returns the credentials function of ORAS. It reads the Docker
// configuration anew, as mounted secrets are renewed under a running process.
func (c Credentials) login() (auth.CredentialFunc, error) {
	var store credentials.Store
	var err error
	if c.DockerConfig != "" {
		store, err = credentials.NewStore(c.DockerConfig, credentials.StoreOptions{})
	} else {
		store, err = credentials.NewStoreFromDocker(credentials.StoreOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("read the Docker configuration: %w", err)
	}
	docker := credentials.Credential(store)
	if c.Username == "" {
		return docker, nil
	}
	static := auth.StaticCredential(c.Registry, auth.Credential{Username: c.Username, Password: c.Password})
	return func(ctx context.Context, host string) (auth.Credential, error) {
		if found, err := static(ctx, host); err != nil || found != auth.EmptyCredential {
			return found, err
		}
		return docker(ctx, host)
	}, nil
}

// A connector reaches registries.
type connector struct {
	Registries
	transport *http.Transport
}

func newConnector(r Registries) (*connector, error) {
	if err := r.Credentials.check(); err != nil {
		return nil, err
	}
	if _, err := r.Credentials.login(); err != nil {
		return nil, err
	}
	return &connector{Registries: r, transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   downloads,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
	}}, nil
}

// repository returns a client for the repository that r names.
func (c *connector) repository(r reference) (*remote.Repository, error) {
	repo, err := remote.NewRepository(r.registry + "/" + r.repository)
	if err != nil {
		return nil, err
	}
	login, err := c.Credentials.login()
	if err != nil {
		return nil, err
	}
	repo.PlainHTTP = c.Insecure || slices.Contains(c.PlainHTTP, r.registry)
	guarded := guard{registry: repo.Reference.Host(), plain: repo.PlainHTTP, next: c.transport}
	repo.Client = &auth.Client{
		Client:     &http.Client{Transport: &retry.Transport{Base: guarded, Policy: retries}},
		Header:     http.Header{"User-Agent": {"mayfly"}},
		Credential: login,
		Cache:      auth.NewCache(),
	}
	return repo, nil
}

// retries gives a registry that is about to come back two seconds.
func retries() retry.Policy {
	return &retry.GenericPolicy{
		Retryable: retry.DefaultPredicate,
		Backoff:   retry.DefaultBackoff,
		MinWait:   200 * time.Millisecond,
		MaxWait:   3 * time.Second,
		MaxRetry:  3,
	}
}

// explain turns what a registry call ended with into an error that its user
// may read. caller is the context that the call's own was derived from.
func explain(caller context.Context, reference string, err error) error {
	if caller.Err() != nil {
		return context.Cause(caller)
	}
	if refused, ok := errors.AsType[*elsewhereError](err); ok {
		return withDetail(ctf.RegistryDenied(reference, err), refused.Error())
	}
	if answer, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return explainStatus(reference, answer.StatusCode, err)
	}
	var network net.Error
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return ctf.ReferenceNotFound(reference, err)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return ctf.RegistryDenied(reference, err)
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return ctf.RegistryUnreachable(reference, err)
	}
	return ctf.RegistryFailed(reference, err)
}

func explainStatus(reference string, status int, err error) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ctf.RegistryDenied(reference, err)
	case http.StatusNotFound:
		return ctf.ReferenceNotFound(reference, err)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ctf.RegistryUnreachable(reference, err)
	}
	return ctf.RegistryFailed(reference, err)
}

func withDetail(err error, detail string) error {
	if e, ok := errors.AsType[*ctf.Error](err); ok {
		e.Detail = detail
	}
	return err
}
