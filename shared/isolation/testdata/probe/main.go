// Command probe is what runs in the pods of the tests: it tells what can be
// reached, read and written from where it is. Its arguments say where it
// listens, as http=:80, tcp=:7 and udp=:9; without any it is http=:8080. What
// comes by tcp and udp it sends back.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const patience = 2 * time.Second

func main() {
	listeners := os.Args[1:]
	if len(listeners) == 0 {
		listeners = []string{"http=:8080"}
	}
	http.HandleFunc("/dial", dial)
	http.HandleFunc("/lookup", lookup)
	http.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { answer(w, os.Getenv(r.FormValue("name")), nil) })
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(r.FormValue("path"))
		answer(w, string(text), err)
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "written", os.WriteFile(r.FormValue("path"), []byte("x"), 0o600))
	})
	http.HandleFunc("/user", func(w http.ResponseWriter, _ *http.Request) { answer(w, fmt.Sprint(os.Getuid()), nil) })
	failed := make(chan error)
	for _, listener := range listeners {
		kind, address, _ := strings.Cut(listener, "=")
		go func() {
			failed <- map[string]func(string) error{"http": serve, "tcp": echo, "udp": echoPackets}[kind](address)
		}()
	}
	fmt.Println(<-failed)
	os.Exit(1)
}

func answer(w io.Writer, text string, err error) {
	if err != nil {
		text = "no: " + err.Error()
	}
	fmt.Fprint(w, text)
}

// dial connects, sends and reads once. A connection that opens is enough where
// nothing is sent.
func dial(w http.ResponseWriter, r *http.Request) {
	conn, err := net.DialTimeout(r.FormValue("network"), r.FormValue("address"), patience)
	if err != nil {
		answer(w, "", err)
		return
	}
	defer conn.Close()
	if r.FormValue("send") == "" {
		answer(w, "yes", nil)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err = io.WriteString(conn, r.FormValue("send")); err != nil {
		answer(w, "", err)
		return
	}
	got := make([]byte, 100)
	n, err := conn.Read(got)
	answer(w, "yes: "+string(got[:n]), err)
}

// lookup asks the name server over the network that is given.
func lookup(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, r.FormValue("network"), address)
	}}
	addresses, err := resolver.LookupHost(ctx, r.FormValue("name"))
	answer(w, "yes: "+strings.Join(addresses, ","), err)
}

func serve(address string) error { return http.ListenAndServe(address, nil) }

func echo(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func echoPackets(address string) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	packet := make([]byte, 2000)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return err
		}
		_, _ = conn.WriteTo(packet[:n], from)
	}
}
