//go:build !faults

package main

import "github.com/mayfly-ctf/mayfly/functions/cmd/internal/system"

// breakable leaves the plan as it is. In the program that the tests of faults
// build it does not, see breakable.go.
func breakable(p system.Plan) (system.Plan, error) { return p, nil }
