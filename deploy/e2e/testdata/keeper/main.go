// Command keeper makes a directory that the user of our images may write to, or
// keeps it until it is told to stop, and removes it then.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const nobody = 65532

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(what, dir string) error {
	if what == "make" {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		return os.Chown(dir, nobody, nobody)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	return os.RemoveAll(dir)
}
