// A scenario of nothing at all, deployed at once.
package main

func main() {}
