// Command talker says what it is asked, answers every request with ANSWER, and
// takes its time to end.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGTERM)
	fmt.Println("the talker listens")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("somebody asks for", r.URL.Path)
		fmt.Fprint(w, os.Getenv("ANSWER"))
	})
	fmt.Println(http.ListenAndServe(":8080", nil))
	os.Exit(1)
}
