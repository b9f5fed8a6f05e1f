// Command service asks whoever connects to its port a riddle, and gives the
// flag for the answer. Talk to it with nc.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	tries = 3
	// patience is how long a player may think, all in all.
	patience = 5 * time.Minute
	// maxPlayers at once; the others wait in the queue of the kernel.
	maxPlayers = 100
	// maxTyped is how many bytes of a player are read at most.
	maxTyped = 4096
)

const riddle = `Welcome, traveller.

  I wait for years below the stream,
  then dance one evening in the gleam.
  I never eat, I never stay;
  my whole grown life is but a day.

What am I?
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv("PORT"), os.Getenv("FLAG")); err != nil {
		fmt.Fprintln(os.Stderr, "riddle:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, port, flag string) error {
	if port == "" || flag == "" {
		return fmt.Errorf("the environment must have PORT and FLAG")
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	return serve(ctx, listener, flag)
}

// serve plays with everyone who connects until ctx ends.
func serve(ctx context.Context, listener net.Listener, flag string) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	var players sync.WaitGroup
	defer players.Wait()
	seats := make(chan struct{}, maxPlayers)
	for {
		seats <- struct{}{}
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		players.Go(func() {
			defer func() { <-seats }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if err := conn.SetDeadline(time.Now().Add(patience)); err == nil {
				play(conn, flag)
			}
		})
	}
}

// play is one game. Whatever goes wrong, the player has left.
func play(player io.ReadWriter, flag string) {
	fmt.Fprint(player, riddle)
	lines := bufio.NewScanner(io.LimitReader(player, maxTyped))
	for try := 1; try <= tries; try++ {
		fmt.Fprint(player, "> ")
		if !lines.Scan() {
			return
		}
		if solves(lines.Text()) {
			fmt.Fprintf(player, "Well seen! %s\n", flag)
			return
		}
		fmt.Fprintln(player, "No.")
	}
	fmt.Fprintln(player, "The day is over. Come back tomorrow.")
}

func solves(answer string) bool {
	word := strings.ToLower(strings.Trim(answer, " \t\r.!?"))
	for _, article := range []string{"a ", "the "} {
		word = strings.TrimPrefix(word, article)
	}
	return word == "mayfly"
}
