package install

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// Check returns everything that is wrong with the options by themselves,
// joined: one mistake a line.
func (o Options) Check() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if problems := validation.IsDNS1123Label(o.namespace() + instancesSuffix); len(problems) > 0 {
		add("namespace %q: instances are in %s%s, which must be a name of at most %d lower-case letters, digits and dashes",
			o.namespace(), o.namespace(), instancesSuffix, validation.DNS1123LabelMaxLength)
	}
	if theirs(o.namespace()) {
		add("namespace %q: it is the cluster's own: choose one for Mayfly alone, as it is deleted with Mayfly", o.namespace())
	}
	if o.Domain != "" {
		for _, problem := range validation.IsFullyQualifiedDomainName(field.NewPath("domain"), o.Domain) {
			add("domain %q: it must be a name of a host, as ctf.example: %s", o.Domain, problem.Detail)
		}
	}
	return errors.Join(append(wrong, o.checkImages(), o.checkRedis(), o.checkSettings(), checkToken(o.Token))...)
}

// theirs tells whether a namespace is of Kubernetes or Knative.
func theirs(namespace string) bool {
	return namespace == "default" || strings.HasPrefix(namespace, "kube-") || strings.HasPrefix(namespace, "knative-")
}

// checkImages looks for those that the configuration names.
func (o Options) checkImages() error {
	wanted := []string{"api", "engine", "redis"}
	if o.Redis != "" {
		wanted = wanted[:2]
	}
	var wrong []error
	for _, image := range wanted {
		if o.Images[image] == "" {
			wrong = append(wrong, fmt.Errorf("image %s: its reference is not given: `make images` prints those of api and engine, redis is any with redis-server and redis-cli", image))
		}
	}
	for _, image := range slices.Sorted(maps.Keys(o.Images)) {
		switch reference := o.Images[image]; {
		case image == "redis" && o.Redis != "":
			wrong = append(wrong, errors.New("image redis: nothing runs it, as Redis is at an address: leave one of the two out"))
		case !slices.Contains(wanted, image):
			wrong = append(wrong, fmt.Errorf("image %s: there is none of that name, but %s", image, strings.Join(wanted, ", ")))
		case reference != "":
			if _, err := name.ParseReference(reference); err != nil {
				wrong = append(wrong, fmt.Errorf("image %s: %w", image, err))
			} else if !utf8.ValidString(reference) { // which that lets pass in the name of the registry
				wrong = append(wrong, fmt.Errorf("image %s: %q is not text", image, reference))
			}
		}
	}
	return errors.Join(wrong...)
}

func (o Options) checkRedis() error {
	wait, err := strconv.ParseUint(o.Settings["REDIS_WAIT"], 10, 8)
	if err != nil {
		wait = 0 // what is no number is refused with the other settings
	}
	if o.Redis == "" && wait > 0 {
		return errors.New("setting REDIS_WAIT: the Redis that is installed has no replicas to wait for: give the address of another")
	}
	if o.Redis == "" {
		return nil
	}
	if err := redis.CheckAddress(o.Redis, uint8(wait)); err != nil {
		return fmt.Errorf("redis address: %w", err)
	}
	return nil
}

// checkToken refuses what no caller could show; none is no mistake.
func checkToken(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("token: it must be printable ASCII without spaces and line ends, as it is sent in a header")
	}
	return nil
}

// Check returns everything that is wrong with the secrets for an installation
// with these options, joined. What is generated need not be checked.
func (s Secrets) Check(o Options) error {
	const word = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	var wrong []error
	switch odd := strings.ContainsFunc(s.RedisPassword, func(r rune) bool { return !strings.ContainsRune(word, r) }); {
	case o.Redis != "" && s.RedisPassword != "":
		wrong = append(wrong, errors.New("redis password: it is for a Redis of Mayfly's own, and one at an address is used: put its password into the address"))
	case o.Redis == "" && (s.RedisPassword == "" || odd):
		wrong = append(wrong, errors.New("redis password: it must be letters and digits, as of `openssl rand -hex 24`; one for a Redis that is there already is a part of its address"))
	}
	if s.Keys == "" {
		wrong = append(wrong, errors.New("keys: none is given to encrypt what is stored: k1:$(openssl rand -base64 32) is one; keep it, without it nothing that is stored can be read"))
	} else if _, err := redis.ParseKeys(s.Keys); err != nil {
		wrong = append(wrong, fmt.Errorf("keys: %w", err))
	}
	if o.Token == "" && (o.Public || o.Domain != "") {
		wrong = append(wrong, ErrNoToken)
	}
	return errors.Join(wrong...)
}
