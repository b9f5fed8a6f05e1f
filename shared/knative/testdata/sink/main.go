// The sink counts the requests that it gets, and answers GET with their number.
package main

import (
	"fmt"
	"net/http"
	"sync/atomic"
)

func main() {
	var events atomic.Int64
	http.HandleFunc("POST /", func(http.ResponseWriter, *http.Request) { events.Add(1) })
	http.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, events.Load()) })
	panic(http.ListenAndServe(":8080", nil))
}
