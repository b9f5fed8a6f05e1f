package redistest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Mortal returns the address of a server for somebody who dies: so many commands
// get to it, then die is called, and what is sent from then on never arrives. It
// is refused, in case die does not end the sender.
func Mortal(t testing.TB, url string, commands int64, die func()) (address string) {
	t.Helper()
	listener, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{server: strings.TrimPrefix(url, "redis://"), die: sync.OnceFunc(die)}
	m.left.Store(commands)
	var connections sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	connections.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { m.serve(ctx, client) })
		}
	})
	t.Cleanup(func() {
		stop()
		_ = listener.Close()
		connections.Wait()
	})
	return "redis://" + listener.Addr().String()
}

type mortal struct {
	server string
	left   atomic.Int64
	die    func()
}

func (m *mortal) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.server)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })()
	go func() { _, _ = io.Copy(client, server) }() // ends with the connections
	for commands := bufio.NewReader(client); ; {
		command, err := readCommand(commands)
		if err != nil {
			return
		}
		to := server
		if m.left.Add(-1) < 0 {
			m.die()
			to, command = client, []byte("-ERR dead\r\n")
		}
		if _, err := to.Write(command); err != nil {
			return
		}
	}
}

// readCommand reads one command as it was sent: *COUNT, and $LENGTH before each
// part.
func readCommand(from *bufio.Reader) ([]byte, error) {
	var command bytes.Buffer
	number := func() (n int, err error) {
		line, err := from.ReadString('\n')
		if err == nil {
			command.WriteString(line)
			n, err = strconv.Atoi(strings.TrimSpace(line[1:]))
		}
		return n, err
	}
	parts, err := number()
	for ; err == nil && parts > 0; parts-- {
		var length int
		if length, err = number(); err == nil {
			_, err = io.CopyN(&command, from, int64(length)+2)
		}
	}
	return command.Bytes(), err
}
