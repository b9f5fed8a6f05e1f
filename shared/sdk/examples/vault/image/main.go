// Command image is a TCP challenge: a vault that opens to who calculates faster
// than people do.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	questions = 20
	allowed   = 10 * time.Second
)

func main() {
	slog.Error("nobody can come to the vault", "error", run())
	os.Exit(1)
}

func run() error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", ":4000")
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(allowed)) // a closed connection shows below
	answers := bufio.NewScanner(conn)
	for range questions {
		a, b := rand.IntN(1000), rand.IntN(1000)
		fmt.Fprintf(conn, "%d * %d = ", a, b)
		if !answers.Scan() {
			return
		}
		if answer, err := strconv.Atoi(strings.TrimSpace(answers.Text())); err != nil || answer != a*b {
			fmt.Fprintln(conn, "The vault stays closed.")
			return
		}
	}
	flag, err := os.ReadFile("/vault/flag.txt")
	if err != nil {
		slog.Error("the vault is empty", "error", err)
		return
	}
	fmt.Fprintf(conn, "The vault is open: %s\n", flag)
}
