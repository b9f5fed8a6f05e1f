// Command image is a web challenge: a notebook that asks nobody whose note it
// is. The flag is in one that the list does not show.
package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	notes := []string{
		"To the admin: the flag is " + os.Getenv("FLAG"),
		"Milk, eggs, coffee.",
		"Never number notes from zero.",
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintln(w, "<h1>Notes</h1>")
		for n := range notes[1:] {
			fmt.Fprintf(w, "<p><a href=\"/note?id=%d\">note %[1]d</a></p>\n", n+1)
		}
	})
	mux.HandleFunc("GET /note", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("id"))
		if err != nil || n < 0 || n >= len(notes) {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, notes[n])
	})
	server := http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	slog.Error("notes can't be read any more", "error", server.ListenAndServe())
	os.Exit(1)
}
