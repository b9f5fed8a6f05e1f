package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestDeleteOutlivesACrash kills Mayfly in the middle of a deletion. The source is
// free from its beginning; whoever asks again is told so, once nothing runs any
// more, and nobody is told twice that it was him.
func TestDeleteOutlivesACrash(t *testing.T) {
	for reason, path := range map[string]string{"INSTANCE_NOT_FOUND": "/instance/1/2", "CHALLENGE_NOT_FOUND": "/challenge/1"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, quiet...)
			s.Start()
			reference := pushService(t, s, "service:1")
			create := func() {
				t.Helper()
				if s.try(t, http.MethodGet, "/challenge/1", nil).Status != http.StatusOK {
					s.Must(http.MethodPost, "/challenge", map[string]any{"id": "1", "scenario": reference})
				}
				answers(t, s.Must(http.MethodPost, "/instance", map[string]any{"challengeId": "1", "sourceId": "2"}).ConnectionInfo)
			}
			create()
			free := s.holdProcesses(t)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = s.Call(t.Context(), http.MethodDelete, path, nil) // nobody answers
			}()
			eventually(t, "the source is free", func() error {
				if got := s.try(t, http.MethodGet, "/instance/1/2", nil); got.Status != http.StatusNotFound {
					return fmt.Errorf("%d %s", got.Status, got.Raw)
				}
				return nil
			})
			s.Kill()
			<-ended
			free()
			s.Start()
			wantFailure(t, s.try(t, http.MethodDelete, path, nil), http.StatusNotFound, reason, "")
			wantNothingRunning(t, s)
			create()
			s.Must(http.MethodDelete, path, nil)
			wantNothingRunning(t, s)
		})
	}
}

// holdProcesses keeps any process of an instance from being made or removed, until
// the returned function is called.
func (s *server) holdProcesses(t *testing.T) (free func()) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(s.Dir, "data", "instances", ".lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { _ = lock.Close() }
}
