//go:build cluster

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

const redisPort = 6379

// redis connects to the Redis of the installation, as an operator does who
// forwards its port. It is for looking.
func (i *installation) redis(t testing.TB) (*redis.Store, *goredis.Client) {
	t.Helper()
	secret := func(name, key string) string {
		s, err := i.Typed.CoreV1().Secrets(i.namespace).Get(t.Context(), name, metav1.GetOptions{})
		check(t, err)
		return string(s.Data[key])
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(i.forward(t, "redis-0", redisPort))))
	keys, err := redis.ParseKeys(secret("keys", "keys"))
	check(t, err)
	url := fmt.Sprintf("redis://:%s@%s", secret("redis", "password"), address)
	store, err := redis.Open(t.Context(), redis.Options{URL: url, Keys: keys})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	o, err := goredis.ParseURL(url)
	check(t, err)
	raw := goredis.NewClient(o)
	t.Cleanup(func() { check(t, raw.Close()) })
	return store, raw
}

// forward has a port of this machine lead to one of a pod, until the test ends,
// and returns it.
func (i *installation) forward(t testing.TB, pod string, port int) uint16 {
	t.Helper()
	at := i.Typed.CoreV1().RESTClient().Post().Namespace(i.namespace).Resource("pods").Name(pod).SubResource("portforward").URL()
	dialer, err := portforward.NewSPDYOverWebsocketDialer(at, i.Config)
	check(t, err)
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.New(dialer, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	check(t, err)
	go func() { ended <- forwarder.ForwardPorts() }()
	t.Cleanup(func() {
		close(stop)
		<-ended // it is for looking: what was not seen has failed already
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("forward a port of %s: %v", pod, err)
	}
	ports, err := forwarder.GetPorts()
	check(t, err)
	return ports[0].Local
}
