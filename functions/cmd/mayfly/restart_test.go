package main_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestRestart stops Mayfly in the ways it can be stopped, with its own Redis.
// Afterwards everything is there: challenges, instances and what they run.
func TestRestart(t *testing.T) {
	for name, stop := range map[string]func(*server){
		"after Ctrl-C":  (*server).Stop,
		"after kill -9": (*server).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			temporary := t.TempDir()
			s := newServer(t, "LOG_LEVEL=warn", "TMPDIR="+temporary)
			s.Start()
			reference := pushService(t, s, "service:1")
			s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference, "timeout": "3600s"})
			address := s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "2"}).ConnectionInfo

			stop(s)
			answers(t, address)
			s.Start()

			if got := s.Must(http.MethodGet, "/instance/1/2", nil).ConnectionInfo; got != address {
				t.Errorf("the instance is at %s, was at %s", got, address)
			}
			answers(t, address)
			s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "3"})
			s.Must(http.MethodDelete, "/challenge/1", nil)
			if left := s.processes(); len(left) != 0 {
				t.Errorf("these still run: %v", left)
			}
			if info, err := os.Stat(filepath.Join(s.Dir, "data", "keys")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("keys: %v %v, want mode 0600", info, err)
			}
			s.Stop()
			if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
				t.Errorf("left in the temporary directory: %v %v", left, err)
			}
		})
	}
}

func answers(t *testing.T, address string) {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
}
