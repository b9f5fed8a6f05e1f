// Command program is a program to be packed.
package main

import (
	"fmt"

	"github.com/ulikunitz/xz"
)

func main() { fmt.Println(xz.HeaderLen) }
