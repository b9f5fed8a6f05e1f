// Command program is what containers of the tests run: it listens and answers
// $ANSWER, then what is in the file $SHOW and what the address $ASK answers, if
// they are set. It does as its first argument says if there is one.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "crash" {
		fmt.Println("the database is on fire")
		os.Exit(3)
	}
	fmt.Println(http.ListenAndServe(":8080", http.HandlerFunc(answer)))
	os.Exit(1)
}

func answer(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, os.Getenv("ANSWER"))
	if file := os.Getenv("SHOW"); file != "" {
		content, err := os.ReadFile(file)
		report(w, content, err)
	}
	if address := os.Getenv("ASK"); address != "" {
		said, err := ask(address)
		report(w, said, err)
	}
}

func report(w io.Writer, text []byte, err error) {
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Fprintf(w, " %s", text)
}

func ask(address string) ([]byte, error) {
	client := &http.Client{Timeout: time.Second}
	response, err := client.Get("http://" + address)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}
