package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	working := func() string { return "working" }
	terminal := func(w *bytes.Buffer) (stop func()) {
		ended, gone := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(gone)
			spin(w, working, ended)
		}()
		return func() {
			close(ended)
			<-gone
		}
	}
	file := func(w *bytes.Buffer) (stop func()) { return showProgress(w, working) }
	tests := map[string]struct {
		show func(*bytes.Buffer) func()
		took time.Duration
		want []string
		ends string
	}{
		"terminal, fast": {terminal, 900 * time.Millisecond, nil, ""},
		"terminal, slow": {terminal, 2500 * time.Millisecond, []string{"⠋ working… 1s", "⠙ working… 1s", "working… 2s"}, "\r\x1b[K"},
		"file, fast":     {file, 9 * time.Second, nil, ""},
		"file, slow":     {file, 25 * time.Second, []string{"working… 10s\n", "working… 20s\n"}, "20s\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w bytes.Buffer
				stop := test.show(&w)
				<-time.After(test.took) // by the bubble's clock
				stop()
				got := w.String()
				if len(test.want) == 0 && got != "" {
					t.Errorf("output is %q, want none", got)
				}
				for _, want := range test.want {
					if !strings.Contains(got, want) {
						t.Errorf("output %q lacks %q", got, want)
					}
				}
				if !strings.HasSuffix(got, test.ends) {
					t.Errorf("output %q does not end with %q", got, test.ends)
				}
			})
		})
	}
}
