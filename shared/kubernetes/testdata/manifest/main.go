// Command manifest is what the containers of the manifest's test run.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	var err error
	switch os.Args[1] {
	case "web":
		http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "%s %s %s", os.Getenv("GREETING"), os.Getenv("FLAG"), ask(os.Getenv("DATABASE")))
		})
		err = http.ListenAndServe(":8080", nil)
	case "tell": // tells everyone the same
		err = tell(os.Args[2], func() string { return os.Args[3] })
	case "show": // tells everyone what is in a file
		err = tell(os.Args[2], func() string {
			content, err := os.ReadFile(os.Args[3])
			return fmt.Sprint(string(content), err)
		})
	}
	fmt.Println(err)
	os.Exit(1)
}

func tell(at string, what func() string) error {
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	for {
		c, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(c, what())
		c.Close()
	}
}

func ask(address string) string {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && err != io.EOF {
		return err.Error()
	}
	return line
}
