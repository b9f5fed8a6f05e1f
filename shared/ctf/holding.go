package ctf

import "time"

// A Holding says that an instance has something where instances run, whether
// or not there is a record of that instance.
type Holding struct {
	// Key is whose it is. Its challenge is empty if what is there does not tell.
	Key InstanceKey
	// Since is when the oldest thing that is still there was made, by the clock
	// of where it runs.
	Since time.Time
	// Dead: a part of it has ended by itself, and nothing there starts it again.
	Dead bool
}
