// A scenario that is described at once and deployed never.
package main

import (
	"os"
	"time"
)

func main() {
	if os.Getenv("PULUMI_DRY_RUN") != "true" {
		time.Sleep(time.Hour)
	}
}
