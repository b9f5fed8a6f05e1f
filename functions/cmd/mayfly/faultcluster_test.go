//go:build faults

package main_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mayfly-ctf/mayfly/shared/kubernetes"
	"github.com/mayfly-ctf/mayfly/shared/kubernetes/clustertest"
)

const (
	// brokenFor is how long an API server is broken at a time, and slowest how long
	// a slow one keeps a request at most.
	brokenFor = 2 * time.Second
	slowest   = time.Second
	// cards is how many objects an instance of testdata/cards is made of.
	cards = 2
)

// clusterFaults are those of the API server of $KUBECONFIG.
func clusterFaults(t *testing.T) []fault {
	if os.Getenv("KUBECONFIG") == "" {
		t.Log("KUBECONFIG names no cluster: the faults of an API server are left out")
		return nil
	}
	all := []fault{
		{name: "API server away", strike: func(f *faultSite) func() {
			ok(f.t, f.api.Cut())
			return f.afterwards(f.api.Mend)
		}},
		{name: "API server slow", met: treated, strike: telling(keep)},
		{name: "API server breaks off", met: treated, strike: telling(breakOff)},
		{name: "API server answers 429", met: treated, strike: telling(tooMany)},
		{name: "API server answers 500", met: treated, strike: telling(internal)},
		{name: "API server answers 409", met: treated, strike: telling(conflict)},
	}
	for n := range all {
		// One that is broken most of the time, while update follows update, keeps
		// creates waiting, and that is no mistake.
		all[n].cluster, all[n].calm = true, 5*time.Second
	}
	return all
}

func treated(f *faultSite) int64 { return f.api.treated.Load() }

// telling has the API server treat half of all requests that way.
func telling(what treatment) func(*faultSite) func() {
	return func(f *faultSite) func() {
		f.api.treat.Store(&what)
		return f.afterwards(func() error { f.api.treat.Store(nil); return nil })
	}
}

// afterwards mends the API server when it was broken for its time, whatever else
// happens: who is told to stop is at work with it still. What it returns waits for that.
func (f *faultSite) afterwards(mend func() error) (wait func()) {
	mended := make(chan error, 1)
	go func() {
		<-time.After(brokenFor) // how long it lasts
		mended <- mend()
	}()
	return func() { ok(f.t, <-mended) }
}

// A brokenAPI stands between Mayfly and the API server of a cluster.
type brokenAPI struct {
	*clustertest.Proxy // in front of it, which can be cut

	cluster *clustertest.Cluster
	whole   *httputil.ReverseProxy
	treat   atomic.Pointer[treatment]
	treated atomic.Int64

	mu     sync.Mutex
	random *rand.Rand
}

// A treatment is what happens to a request, and how it is refused; nil is that
// it is not.
type treatment func(*brokenAPI, *http.Request) *apierrors.StatusError

func newBrokenAPI(t *testing.T, random *rand.Rand) *brokenAPI {
	t.Helper()
	b := &brokenAPI{cluster: clustertest.New(t), random: random}
	base, _, err := rest.DefaultServerUrlFor(b.cluster.Config)
	ok(t, err)
	transport, err := rest.TransportFor(b.cluster.Config)
	ok(t, err)
	silent := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of those who left
	b.whole = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(base) },
		Transport: transport, FlushInterval: -1, ErrorLog: silent,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(b)
	server.EnableHTTP2, server.Config.ErrorLog = true, silent
	server.StartTLS()
	t.Cleanup(server.Close)

	config, file := clientcmdapi.NewConfig(), filepath.Join(t.TempDir(), "kubeconfig")
	config.CurrentContext = "broken"
	config.Contexts["broken"] = &clientcmdapi.Context{Cluster: "broken"}
	config.Clusters["broken"] = &clientcmdapi.Cluster{
		Server:                   server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	ok(t, clientcmd.WriteToFile(*config, file))
	b.Proxy = clustertest.NewProxy(t, file)
	return b
}

// ServeHTTP passes a request on, if nothing happens to it.
func (b *brokenAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if treat := b.treat.Load(); treat != nil && b.pick(2) == 0 {
		b.treated.Add(1)
		if refusal := (*treat)(b, r); refusal != nil {
			answer(w, refusal.Status())
			return
		}
	}
	b.whole.ServeHTTP(w, r)
}

// answer refuses a request in the way of an API server.
func answer(w http.ResponseWriter, status metav1.Status) {
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.Header().Set("Content-Type", "application/json")
	if d := status.Details; d != nil && d.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status) // whoever asked may have left
}

// pick is one of the numbers below n, by chance.
func (b *brokenAPI) pick(n int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.random.Int64N(n)
}

// keep keeps a request for a while.
func keep(b *brokenAPI, r *http.Request) *apierrors.StatusError {
	select {
	case <-time.After(time.Duration(b.pick(int64(slowest)))):
	case <-r.Context().Done():
	}
	return nil
}

// breakOff ends a request without an answer, whether it is done or not.
func breakOff(b *brokenAPI, r *http.Request) *apierrors.StatusError {
	if r.Method != http.MethodGet && b.pick(2) == 0 {
		b.whole.ServeHTTP(httptest.NewRecorder(), r)
	}
	panic(http.ErrAbortHandler)
}

// tooMany says when to come again, or does not.
func tooMany(b *brokenAPI, _ *http.Request) *apierrors.StatusError {
	if b.pick(2) == 0 {
		return apierrors.NewTooManyRequests("Too many requests, please try again later.", 1)
	}
	return apierrors.NewTooManyRequestsError("Too many requests, please try again later.")
}

// internal does nothing or, where something is to be changed, does it all the same.
func internal(b *brokenAPI, r *http.Request) *apierrors.StatusError {
	if r.Method != http.MethodGet && b.pick(2) == 0 {
		b.whole.ServeHTTP(httptest.NewRecorder(), r)
		return apierrors.NewInternalError(errors.New("etcdserver: request timed out"))
	}
	return apierrors.NewInternalError(errors.New("etcdserver: leader changed"))
}

// conflict refuses what changes something.
func conflict(_ *brokenAPI, r *http.Request) *apierrors.StatusError {
	if r.Method == http.MethodGet {
		return nil
	}
	kind, name := path.Split(r.URL.Path)
	return apierrors.NewConflict(schema.GroupResource{Resource: path.Base(kind)}, name,
		errors.New("the object has been modified; please apply your changes to the latest version and try again"))
}

// objects are those of the instances in a namespace, by identity and then by
// their uids, once the cluster has collected what is to go. What owns the others
// has no uid here, but alone it is an instance, too.
func (f *faultSite) objects(namespace string) (found map[string][]string) {
	f.t.Helper()
	eventually(f.t, "the cluster has collected what is to go", func() error {
		list, err := f.api.cluster.Typed.CoreV1().ConfigMaps(namespace).List(f.t.Context(), metav1.ListOptions{LabelSelector: kubernetes.LabelIdentity})
		if err != nil {
			return err
		}
		there := map[types.UID]bool{}
		for _, o := range list.Items {
			there[o.UID] = true
		}
		found = map[string][]string{}
		for _, o := range list.Items {
			identity := o.Labels[kubernetes.LabelIdentity]
			lost := func(r metav1.OwnerReference) bool { return !there[r.UID] }
			if o.DeletionTimestamp != nil || slices.ContainsFunc(o.OwnerReferences, lost) {
				return fmt.Errorf("%s of %s is there", o.Name, identity)
			}
			uids := found[identity]
			if len(o.OwnerReferences) > 0 {
				uids = append(uids, string(o.UID))
			}
			found[identity] = uids
		}
		return nil
	})
	for _, uids := range found {
		slices.Sort(uids)
	}
	return found
}
