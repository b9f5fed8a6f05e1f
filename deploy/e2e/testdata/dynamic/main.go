// Command dynamic is a scenario of nothing at all, whose program needs the C
// library to be loaded.
package main

// #include <stdlib.h>
import "C"

func main() { C.exit(0) }
