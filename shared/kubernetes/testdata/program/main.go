// Command program is what containers of the tests run: it listens and answers,
// or does as its first argument says.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "crash" {
		fmt.Println("the database is on fire")
		os.Exit(3)
	}
	answer := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("ANSWER")) }
	fmt.Println(http.ListenAndServe(":8080", http.HandlerFunc(answer)))
	os.Exit(1)
}
