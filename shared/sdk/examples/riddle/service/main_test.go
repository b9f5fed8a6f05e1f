package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
)

// start serves until the test ends and returns the address.
func start(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, "MAYFLY{x}") }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func TestServe(t *testing.T) {
	t.Parallel()
	address := start(t)
	for name, tc := range map[string]struct{ typed, want string }{
		"right":              {"mayfly\n", "MAYFLY{x}"},
		"right with article": {"  A Mayfly!\r\n", "MAYFLY{x}"},
		"third try":          {"moth\nmidge\nmayfly\n", "MAYFLY{x}"},
		"wrong":              {"moth\nmidge\ngnat\n", "Come back tomorrow."},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, tc.typed)
			var last string
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				last = lines.Text()
			}
			if !strings.Contains(last, tc.want) {
				t.Errorf("last line = %q, want %q in it", last, tc.want)
			}
		})
	}
}

func TestRunWithoutEnvironment(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), "", ""); err == nil {
		t.Error("it runs without port and flag")
	}
}
