// Command cli stands between the engine and the program, as Pulumi's command
// line does: it gives the program its configuration, which the engine has in
// the settings of an instance. It runs the file program beside it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

func main() {
	fmt.Fprintln(os.Stderr, "run the program:", run()) // run returns only if it failed
	os.Exit(1)
}

func run() error {
	var given map[string]string
	if err := json.Unmarshal([]byte(os.Getenv("PULUMI_CONFIG")), &given); err != nil {
		return err
	}
	var settings map[string]string
	if err := json.Unmarshal([]byte(given[os.Getenv("PULUMI_PROJECT")+":additional"]), &settings); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PULUMI_CONFIG") })
	for name, value := range settings {
		env = append(env, name+"="+value)
	}
	return syscall.Exec("./program", []string{"program"}, env)
}
