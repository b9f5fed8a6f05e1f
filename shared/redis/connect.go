package redis

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// connect reads the address and makes a client; it does not dial. Cluster and
// Sentinel are told by the scheme, several addresses or master_name.
func connect(address string, wait uint8) (redis.UniversalClient, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return nil, errors.New("the Redis address must begin with a scheme such as redis://")
	}
	base, mode, _ := strings.Cut(scheme, "+")
	hosts, rest := splitHosts(rest)
	if len(hosts) > 1 {
		separator := "?"
		if strings.Contains(rest, "?") {
			separator = "&"
		}
		rest += separator + url.Values{"addr": hosts[1:]}.Encode()
	}
	plain := base + "://" + hosts[0] + rest
	switch {
	case mode == "sentinel" || strings.Contains(rest, "master_name="):
		return sentinel(plain)
	case mode == "cluster" || len(hosts) > 1 || strings.Contains(rest, "addr="):
		if wait > 0 {
			return nil, errWaitCluster
		}
		return cluster(plain)
	case mode == "":
		return single(plain)
	}
	return nil, fmt.Errorf("unknown scheme %q of the Redis address", scheme)
}

// CheckAddress tells whether [Open] can read an address, and wait for so many
// replicas there. It connects to nothing.
func CheckAddress(address string, wait uint8) error {
	client, err := connect(address, wait)
	if err != nil {
		return err
	}
	return client.Close()
}

// splitHosts cuts "user:password@a:1,b:2/0?x" into its comma-separated hosts,
// the first with the user, and what follows them.
func splitHosts(rest string) (hosts []string, tail string) {
	userEnd := strings.LastIndex(rest, "@") + 1
	end := strings.IndexAny(rest[userEnd:], "/?")
	if end < 0 {
		end = len(rest) - userEnd
	}
	hosts = strings.Split(rest[userEnd:userEnd+end], ",")
	hosts[0] = rest[:userEnd] + hosts[0]
	return hosts, rest[userEnd+end:]
}

func single(address string) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, fmt.Errorf("read the Redis address: %w", discreet(err, address))
	}
	o.ContextTimeoutEnabled = true
	patient(&o.ReadTimeout, &o.DialTimeout, &o.DialerRetries)
	return redis.NewClient(o), nil
}

func cluster(address string) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(address)
	if err != nil {
		return nil, fmt.Errorf("read the Redis Cluster address: %w", discreet(err, address))
	}
	o.ContextTimeoutEnabled = true
	patient(&o.ReadTimeout, &o.DialTimeout, &o.DialerRetries)
	return redis.NewClusterClient(o), nil
}

func sentinel(address string) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(address)
	if err != nil {
		return nil, fmt.Errorf("read the Sentinel address: %w", discreet(err, address))
	}
	if o.MasterName == "" {
		return nil, errors.New("a Sentinel address needs ?master_name=NAME")
	}
	o.ContextTimeoutEnabled = true
	patient(&o.ReadTimeout, &o.DialTimeout, &o.DialerRetries)
	return redis.NewFailoverClient(o), nil
}

// errSplit is for an address that may have been cut within the password.
var errSplit = errors.New("in a user name or password, all but letters and digits must be escaped, as %2F for /")

// discreet is the error of reading an address, without what may be a part of
// the password: where that has a /, what follows is taken for the path.
func discreet(err error, address string) error {
	u, wrong := url.Parse(address)
	if strings.Contains(address, "@") && (wrong != nil || strings.Contains(u.Host+u.Path+u.RawQuery+u.Fragment, "@")) {
		return errSplit
	}
	return err
}

const (
	// dialAttempts are a tenth of a second apart, and go-redis makes them four
	// times for one command.
	dialAttempts = 8
	// dialTimeout bounds one of them. A resolver waits five seconds for an answer
	// that was lost; the next attempt asks again.
	dialTimeout = time.Second
)

// patient waits as long as a call may take: a script that is given up on and
// sent again while it still runs would only make Redis slower. Where nobody
// takes connections it tries for three seconds: that is a Redis that is started
// again, or a pod so new that a network policy does not let it through yet.
func patient(readTimeout, dial *time.Duration, dials *int) {
	if *readTimeout == 0 {
		*readTimeout = callTimeout
	}
	if *dial == 0 {
		*dial = dialTimeout
	}
	if *dials == 0 {
		*dials = dialAttempts
	}
}
