// A scenario of nothing at all that takes its time.
package main

import (
	"os"
	"time"
)

func main() {
	if os.Getenv("PULUMI_DRY_RUN") != "true" {
		time.Sleep(time.Second)
	}
}
