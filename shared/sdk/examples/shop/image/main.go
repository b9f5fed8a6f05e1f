// Command image is a challenge of three containers, each of which runs it with
// another argument: a page asks a service, which asks a database that no player
// reaches. The service hands on what the page was asked as it is, line breaks
// included, and so whoever asks cleverly asks the database.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const patience = 5 * time.Second

func main() {
	role := map[string]func() error{"page": page, "service": service, "database": database}
	if len(os.Args) != 2 || role[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: program page|service|database")
		os.Exit(2)
	}
	slog.Error("it ended", "role", os.Args[1], "error", role[os.Args[1]]())
	os.Exit(1)
}

func page() error {
	client := http.Client{Timeout: patience}
	return listen(func(w http.ResponseWriter, r *http.Request) {
		address := os.Getenv("SERVICE") + "/?name=" + url.QueryEscape(r.URL.Query().Get("name"))
		question, err := http.NewRequestWithContext(r.Context(), http.MethodGet, address, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer, err := client.Do(question)
		if err != nil {
			http.Error(w, "the shop is closed", http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		fmt.Fprintln(w, "Today's price:")
		if _, err := io.Copy(w, answer.Body); err != nil {
			slog.ErrorContext(r.Context(), "the answer is cut off", "error", err)
		}
	})
}

func service() error {
	dialer := net.Dialer{Timeout: patience}
	return listen(func(w http.ResponseWriter, r *http.Request) {
		conn, err := dialer.DialContext(r.Context(), "tcp", os.Getenv("DATABASE"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience)) // a closed connection shows below
		fmt.Fprintf(conn, "GET price:%s\nQUIT\n", r.URL.Query().Get("name"))
		if _, err := io.Copy(w, conn); err != nil {
			slog.ErrorContext(r.Context(), "the answer is cut off", "error", err)
		}
	})
}

func database() error {
	rows := map[string]string{"price:tea": "3", "price:cake": "5", "secret:flag": os.Getenv("FLAG")}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", ":6000")
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != "QUIT"; {
				fmt.Fprintln(conn, rows[strings.TrimPrefix(lines.Text(), "GET ")])
			}
		}()
	}
}

func listen(handle http.HandlerFunc) error {
	server := http.Server{Addr: ":8080", Handler: handle, ReadHeaderTimeout: patience}
	return server.ListenAndServe()
}
