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
func connect(address string) (redis.UniversalClient, error) {
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
		return cluster(plain)
	case mode == "":
		return single(plain)
	}
	return nil, fmt.Errorf("unknown scheme %q of the Redis address", scheme)
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
		return nil, fmt.Errorf("read the Redis address: %w", err)
	}
	o.ContextTimeoutEnabled = true
	patient(&o.ReadTimeout)
	return redis.NewClient(o), nil
}

func cluster(address string) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(address)
	if err != nil {
		return nil, fmt.Errorf("read the Redis Cluster address: %w", err)
	}
	o.ContextTimeoutEnabled = true
	patient(&o.ReadTimeout)
	return redis.NewClusterClient(o), nil
}

func sentinel(address string) (redis.UniversalClient, error) {
	o, err := redis.ParseFailoverURL(address)
	if err != nil {
		return nil, fmt.Errorf("read the Sentinel address: %w", err)
	}
	if o.MasterName == "" {
		return nil, errors.New("a Sentinel address needs ?master_name=NAME")
	}
	o.ContextTimeoutEnabled = true
	patient(&o.ReadTimeout)
	return redis.NewFailoverClient(o), nil
}

// patient waits as long as a call may take: a script that is given up on and
// sent again while it still runs would only make Redis slower.
func patient(readTimeout *time.Duration) {
	if *readTimeout == 0 {
		*readTimeout = callTimeout
	}
}
