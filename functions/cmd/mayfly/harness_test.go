package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/redis"
)

// patience is how long a test waits for what must happen.
const patience = 90 * time.Second

// binaries are built once for all tests.
var binaries = struct {
	sync.Mutex
	dir   string
	built map[string]string
}{built: map[string]string{}}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mayfly-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build compiles a package once, given by the path of its directory, and
// returns the program.
func build(tb testing.TB, dir string, args ...string) string {
	tb.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if program, ok := binaries.built[dir]; ok {
		return program
	}
	program := filepath.Join(binaries.dir, fmt.Sprintf("program-%d", len(binaries.built)))
	cmd := exec.Command("go", append(append([]string{"build", "-o", program}, args...), ".")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", dir, err, out)
	}
	binaries.built[dir] = program
	return program
}

// A server is `mayfly run`, or another command, in a process of its own, to be
// killed and started again at will.
type server struct {
	tb       testing.TB
	command  string
	Dir      string
	URL      string
	Registry string
	env      []string
	cmd      *exec.Cmd
	log      *output
	exited   chan struct{}
}

// An output is what a server prints, which may be read while it prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newServer prepares a server on free ports with all its data under one
// directory. The environment is nothing but env, PATH and HOME.
func newServer(tb testing.TB, env ...string) *server {
	tb.Helper()
	dir := tb.TempDir()
	port, registryPort := freePort(tb), freePort(tb)
	s := &server{
		tb: tb, Dir: dir, command: "run",
		URL:      fmt.Sprintf("http://127.0.0.1:%d", port),
		Registry: fmt.Sprintf("127.0.0.1:%d", registryPort),
		env: append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DIR=" + filepath.Join(dir, "data"), "CACHE=" + filepath.Join(dir, "cache"),
			"PORT=" + strconv.Itoa(port), "REGISTRY_PORT=" + strconv.Itoa(registryPort),
		}, env...),
	}
	tb.Cleanup(func() {
		s.Kill()
		s.sweep()
	})
	return s
}

// freePort returns a port that nobody listens on, below those that Linux gives to
// outgoing connections: a server that is started again finds it free still.
func freePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(8000)))
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }()
		return l.Addr().(*net.TCPAddr).Port
	}
	tb.Fatal("no free port on loopback")
	return 0
}

// Start starts the server and waits until it is healthy.
func (s *server) Start() {
	s.tb.Helper()
	s.cmd = exec.Command(build(s.tb, ".", programFlags()...), s.command)
	s.cmd.Env = s.env
	s.log = &output{}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		_ = cmd.Wait() // how it ended is the test's business
		close(exited)
	}()
	deadline := time.Now().Add(patience)
	for {
		if response, err := http.Get(s.URL + "/healthcheck"); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-exited:
			s.tb.Fatalf("mayfly ended at once:\n%s", s.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("mayfly is not healthy:\n%s", s.log)
		}
	}
}

// Kill ends the server without a chance to clean up.
func (s *server) Kill() {
	if s.exited != nil {
		_ = s.cmd.Process.Kill() // it may have ended
		<-s.exited
	}
}

// Stop ends the server as Ctrl-C does, and waits.
func (s *server) Stop() {
	s.tb.Helper()
	_ = s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.tb.Fatalf("mayfly does not stop:\n%s", s.log)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.tb.Fatalf("mayfly ended with %d:\n%s", code, s.log)
	}
}

// Workers returns the processes that the server runs operations in.
func (s *server) Workers() []int {
	var children []byte
	// A child belongs to the thread that started it.
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		children = append(append(children, ' '), more...)
	}
	var workers []int
	for field := range strings.FieldsSeq(string(children)) {
		line, _ := os.ReadFile("/proc/" + field + "/cmdline")
		if pid, err := strconv.Atoi(field); err == nil && bytes.Contains(line, []byte("\x00worker\x00")) {
			workers = append(workers, pid)
		}
	}
	return workers
}

// processes returns the pids of all local processes of instances of this
// server, by identity, as the kernel sees them.
func (s *server) processes() map[string][]int {
	found := map[string][]int{}
	root := filepath.Join(s.Dir, "data", "instances") + "/"
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, root) {
			continue
		}
		identity, _, _ := strings.Cut(strings.TrimPrefix(target, root), "/")
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
			found[identity] = append(found[identity], pid)
		}
	}
	return found
}

// parts are the processes as what instances are made of.
func (s *server) parts() map[string][]string {
	found := map[string][]string{}
	for identity, pids := range s.processes() {
		for _, pid := range pids {
			found[identity] = append(found[identity], strconv.Itoa(pid))
		}
	}
	return found
}

// sweep ends what a failed test leaves running.
func (s *server) sweep() {
	for _, pids := range s.processes() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// A reply is an answer of the REST API.
type reply struct {
	Status  int
	Code    int              `json:"code"`
	Message string           `json:"message"`
	Details []map[string]any `json:"details"`

	ConnectionInfo string `json:"connectionInfo"`
	Since          string `json:"since"`
	Raw            string
	// After is when to ask again, in seconds, as the header says it.
	After string `json:"-"`
}

// Reason is the reason of an error answer.
func (r reply) Reason() string {
	for _, d := range r.Details {
		if reason, ok := d["reason"].(string); ok {
			return reason
		}
	}
	return ""
}

// Call makes one call of the REST API. The error is about the connection.
func (s *server) Call(ctx context.Context, method, path string, body any) (reply, error) {
	return s.callWith(ctx, nil, method, path, body)
}

// callWith is Call with a header.
func (s *server) callWith(ctx context.Context, header http.Header, method, path string, body any) (reply, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	request, err := http.NewRequestWithContext(ctx, method, s.URL+"/api/v1"+path, bytes.NewReader(encoded))
	if err != nil {
		return reply{}, err
	}
	maps.Copy(request.Header, header)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, err
	}
	answer := reply{Status: response.StatusCode, Raw: string(raw), After: response.Header.Get("Retry-After")}
	_ = json.Unmarshal(raw, &answer) // a stream is not one document
	return answer, nil
}

// Must makes a call that has to succeed.
func (s *server) Must(method, path string, body any) reply {
	s.tb.Helper()
	answer, err := s.Call(s.tb.Context(), method, path, body)
	if err != nil || answer.Status != http.StatusOK {
		s.tb.Fatalf("%s %s: %v %d %s", method, path, err, answer.Status, answer.Raw)
	}
	return answer
}

// Tick has an event function do its work, and waits for it.
func (s *server) Tick(path string) {
	s.tb.Helper()
	cmd := exec.Command(build(s.tb, ".", programFlags()...), strings.TrimPrefix(path, "/"), "--url", s.URL)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.tb.Fatalf("mayfly %s: %v\n%s\n%s", path, err, out, s.log)
	}
}

// eventually waits until the condition holds.
func eventually(tb testing.TB, what string, condition func() error) {
	tb.Helper()
	eventuallyIn(tb, patience, what, condition)
}

// eventuallyIn has another patience.
func eventuallyIn(tb testing.TB, patience time.Duration, what string, condition func() error) {
	tb.Helper()
	late := time.After(patience)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-late:
			tb.Fatalf("%s: %v", what, err)
		case <-look.C:
		}
	}
}

// openStore opens the records behind a server that was given this Redis.
func openStore(tb testing.TB, url, keys string) *redis.Store {
	tb.Helper()
	ring, err := redis.ParseKeys(keys)
	if err != nil {
		tb.Fatal(err)
	}
	store, err := redis.Open(tb.Context(), redis.Options{URL: url, Keys: ring})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := store.Close(); err != nil && !errors.Is(err, context.Canceled) {
			tb.Error(err)
		}
	})
	return store
}
