// Command bare is a scenario of nothing at all.
package main

func main() {}
