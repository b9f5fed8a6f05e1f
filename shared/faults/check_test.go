package faults_test

import (
	"testing"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/faults"
)

// call is one of client c that lasts from one second to another.
func call(c int, from, to int, verb faults.Verb, outcome faults.Outcome, instance string) faults.Call {
	return faults.Call{
		Client: c, Challenge: "1", Source: "team", Verb: verb, Outcome: outcome, Instance: instance,
		Began: time.Duration(from) * time.Second, Ended: time.Duration(to) * time.Second,
	}
}

// told is a history in which nobody dies and nothing comes to rest.
func told(calls ...faults.Call) faults.History { return faults.History{Calls: calls} }

// quiet is a history in which all is quiet from a second on.
func quiet(at int, calls ...faults.Call) faults.History {
	return faults.History{Calls: calls, Quiet: time.Duration(at) * time.Second}
}

// death is a history in which nobody is left, in one moment, who knows of a call.
func death(at int, calls ...faults.Call) faults.History {
	return faults.History{Calls: calls, Deaths: []time.Duration{time.Duration(at) * time.Second}}
}

func keyed(key string, c faults.Call) faults.Call {
	c.Key = key
	return c
}

// ends is a call that shows when its instance ends.
func ends(at int, c faults.Call) faults.Call {
	c.Until = time.Unix(int64(at), 0)
	return c
}

func TestExplained(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]faults.History{
		"one after the other": told(
			call(0, 0, 1, faults.Retrieve, faults.Missing, ""), call(0, 2, 3, faults.Create, faults.Done, "a"),
			call(0, 4, 5, faults.Retrieve, faults.Done, "a"), call(0, 6, 7, faults.Renew, faults.Done, "a"),
			call(0, 8, 9, faults.Create, faults.Exists, ""), call(0, 10, 11, faults.Delete, faults.Done, ""),
			call(0, 12, 13, faults.Delete, faults.Missing, ""), call(0, 14, 15, faults.Create, faults.Done, "b"),
		),
		"a create that waits is there for creates, and not for reads": told(
			call(0, 0, 9, faults.Create, faults.Done, "a"), call(1, 1, 2, faults.Create, faults.Exists, ""), call(1, 3, 4, faults.Retrieve, faults.Missing, ""),
		),
		"deleted while it is created": told(
			call(0, 0, 9, faults.Create, faults.Deleted, ""), call(1, 1, 2, faults.Delete, faults.Done, ""),
		),
		"deleted while it follows an update": told(
			call(0, 0, 9, faults.Create, faults.Deleted, ""), call(1, 1, 2, faults.Retrieve, faults.Done, "a"), call(1, 3, 4, faults.Delete, faults.Done, ""),
		),
		"failed, and tried again": told(
			call(0, 0, 1, faults.Create, faults.Undone, ""), call(0, 2, 3, faults.Create, faults.Done, "a"),
		),
		"refused while the source is free, and while it is taken": told(
			call(0, 0, 1, faults.Create, faults.Refused, ""), call(0, 2, 3, faults.Create, faults.Done, "a"),
			call(0, 4, 5, faults.Create, faults.Refused, ""), call(0, 6, 7, faults.Retrieve, faults.Done, "a"),
		),
		"a query sees what was there at some moment of it": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(1, 2, 7, faults.Query, faults.Missing, ""), call(2, 2, 7, faults.Query, faults.Done, "a"),
			call(0, 3, 4, faults.Delete, faults.Done, ""), call(0, 5, 6, faults.Create, faults.Done, "b"), call(0, 8, 9, faults.Query, faults.Done, "b"),
		),
		"unclear, and it was": told(
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 2, 3, faults.Create, faults.Exists, ""),
			call(0, 4, 5, faults.Retrieve, faults.Done, "a"), call(0, 6, 7, faults.Retrieve, faults.Done, "a"),
		),
		"unclear, and it was not": told(
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 2, 3, faults.Create, faults.Done, "a"),
		),
		"unclear, and undone later": told(
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 2, 3, faults.Create, faults.Exists, ""), call(0, 4, 5, faults.Delete, faults.Missing, ""),
		),
		"repeated with its key": told(
			keyed("k", call(0, 0, 1, faults.Create, faults.Unclear, "")), keyed("k", call(0, 2, 3, faults.Create, faults.Done, "a")),
			keyed("k", call(0, 4, 5, faults.Create, faults.Done, "a")),
		),
		"deleted twice, told once": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Unclear, ""), call(0, 4, 5, faults.Delete, faults.Done, ""),
		),
		"deleted, and nobody was told": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Unclear, ""), call(0, 4, 5, faults.Delete, faults.Missing, ""),
		),
		"asked again when all is quiet": quiet(9,
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 10, 11, faults.Create, faults.Exists, ""), call(0, 12, 13, faults.Retrieve, faults.Done, "a"),
		),
		"unclear, and it was later": told(
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 2, 3, faults.Delete, faults.Missing, ""),
			call(0, 4, 5, faults.Retrieve, faults.Done, "a"),
		),
		"unclear, begun before the death and finished after it": death(2,
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 3, 4, faults.Create, faults.Exists, ""), call(0, 5, 6, faults.Retrieve, faults.Done, "a"),
		),
		"deleted, unclear and made anew": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Done, ""),
			call(0, 4, 5, faults.Create, faults.Unclear, ""), call(0, 6, 7, faults.Retrieve, faults.Done, "b"),
		),
		"renewed, and shown to who began before": told(
			ends(60, call(0, 0, 1, faults.Create, faults.Done, "a")), ends(70, call(0, 2, 5, faults.Renew, faults.Done, "a")),
			ends(60, call(1, 4, 7, faults.Retrieve, faults.Done, "a")), ends(70, call(1, 8, 9, faults.Retrieve, faults.Done, "a")),
		),
		"another one ends earlier": told(
			ends(60, call(0, 0, 1, faults.Create, faults.Done, "a")), call(0, 2, 3, faults.Delete, faults.Done, ""),
			ends(50, call(0, 4, 5, faults.Create, faults.Done, "b")),
		),
		"deleted for both that wait for it": told(
			keyed("k", call(0, 0, 9, faults.Create, faults.Deleted, "")), call(1, 1, 2, faults.Delete, faults.Done, ""),
			keyed("k", call(2, 3, 9, faults.Create, faults.Done, "b")),
		),
		"failed for both that wait for it": told(
			keyed("k", call(0, 0, 9, faults.Create, faults.Undone, "")), keyed("k", call(1, 1, 9, faults.Create, faults.Undone, "")),
			call(2, 10, 11, faults.Create, faults.Done, "a"),
		),
		"deleted while it fails": told(
			call(0, 0, 9, faults.Create, faults.Undone, ""), call(1, 1, 2, faults.Delete, faults.Done, ""), call(1, 3, 4, faults.Create, faults.Done, "a"),
		),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, m := range faults.Check(history) {
				t.Error(m)
			}
		})
	}
}

func TestNotExplained(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]faults.History{
		"lost": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Retrieve, faults.Missing, ""),
		),
		"doubled": told(
			call(0, 0, 5, faults.Create, faults.Done, "a"), call(1, 0, 5, faults.Create, faults.Done, "b"),
		),
		"another one than before": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Retrieve, faults.Done, "b"),
		),
		"back from the dead": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Done, ""), call(0, 4, 5, faults.Retrieve, faults.Done, "a"),
		),
		"deleted by two": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Done, ""), call(1, 2, 3, faults.Delete, faults.Done, ""),
		),
		"refused for nothing": told(
			call(0, 0, 1, faults.Create, faults.Exists, ""),
		),
		"another one for the same key": told(
			keyed("k", call(0, 0, 1, faults.Create, faults.Done, "a")), keyed("k", call(0, 2, 3, faults.Create, faults.Done, "b")),
		),
		"there before it was asked for": told(
			call(1, 0, 1, faults.Retrieve, faults.Done, "a"), call(0, 2, 3, faults.Create, faults.Done, "a"),
		),
		"never right": told(
			call(0, 0, 1, faults.Renew, faults.Wrong, ""),
		),
		"still unclear when all is quiet": quiet(9,
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 10, 11, faults.Create, faults.Exists, ""), call(0, 12, 13, faults.Retrieve, faults.Missing, ""),
		),
		"no clear answer when all is quiet": quiet(9,
			call(0, 10, 11, faults.Retrieve, faults.Unclear, ""),
		),
		"a query lacks what was there from its beginning to its end": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(1, 2, 5, faults.Query, faults.Missing, ""), call(0, 3, 4, faults.Renew, faults.Done, "a"),
		),
		"a query shows what is gone": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Done, ""), call(1, 4, 5, faults.Query, faults.Done, "a"),
		),
		"a query shows what was gone when it was made anew": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Done, ""), call(0, 4, 5, faults.Create, faults.Done, "b"),
			call(1, 4, 7, faults.Query, faults.Done, "a"),
		),
		"refused, and there all the same": told(
			call(0, 0, 1, faults.Create, faults.Refused, ""), call(0, 2, 3, faults.Retrieve, faults.Done, "a"),
		),
		"refused, and there later all the same": told(
			call(0, 0, 1, faults.Create, faults.Refused, ""), call(0, 2, 3, faults.Delete, faults.Missing, ""), call(0, 4, 5, faults.Create, faults.Exists, ""),
		),
		"refused although all is quiet": quiet(9,
			call(0, 10, 11, faults.Create, faults.Refused, ""),
		),
		"unclear, and it was after all was quiet": quiet(2,
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 3, 4, faults.Delete, faults.Missing, ""),
			call(0, 5, 6, faults.Retrieve, faults.Done, "a"),
		),
		"unclear, and begun after the death": death(2,
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 3, 4, faults.Delete, faults.Missing, ""), call(0, 5, 6, faults.Create, faults.Exists, ""),
		),
		"a delete that takes effect after the death": death(4,
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Unclear, ""),
			call(0, 5, 6, faults.Retrieve, faults.Done, "a"), call(0, 7, 8, faults.Retrieve, faults.Missing, ""),
		),
		"back from the dead, for a create that is unclear": told(
			call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Done, ""),
			call(0, 4, 5, faults.Create, faults.Unclear, ""), call(0, 6, 7, faults.Retrieve, faults.Done, "a"),
		),
		"back from the dead, for the same key": told(
			keyed("k", call(0, 0, 1, faults.Create, faults.Done, "a")), call(0, 2, 3, faults.Delete, faults.Done, ""),
			keyed("k", call(0, 4, 5, faults.Create, faults.Done, "a")),
		),
		"another one after a renewal": told(
			call(0, 0, 1, faults.Create, faults.Unclear, ""), call(0, 2, 3, faults.Renew, faults.Done, "a"), call(0, 4, 5, faults.Renew, faults.Done, "b"),
		),
		"deleted by nobody": told(
			call(0, 0, 1, faults.Create, faults.Deleted, ""), call(0, 2, 3, faults.Retrieve, faults.Done, "a"),
		),
		"deleted before it was created": told(
			call(1, 0, 1, faults.Create, faults.Done, "a"), call(1, 2, 3, faults.Delete, faults.Done, ""), call(0, 4, 5, faults.Create, faults.Deleted, ""),
		),
		"a renewal is forgotten": told(
			ends(60, call(0, 0, 1, faults.Create, faults.Done, "a")), ends(70, call(0, 2, 3, faults.Renew, faults.Done, "a")),
			ends(60, call(1, 4, 5, faults.Retrieve, faults.Done, "a")),
		),
		"an end is forgotten": told(
			ends(60, call(0, 0, 1, faults.Create, faults.Done, "a")), call(1, 2, 3, faults.Query, faults.Done, "a"),
		),
		"failed, and there all the same": told(
			call(0, 0, 1, faults.Create, faults.Undone, ""), call(0, 2, 3, faults.Create, faults.Exists, ""),
		),
		"failed for a key whose instance stays": told(
			keyed("k", call(0, 0, 1, faults.Create, faults.Done, "a")), keyed("k", call(0, 2, 3, faults.Create, faults.Undone, "")),
			call(0, 4, 5, faults.Retrieve, faults.Done, "a"),
		),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if len(faults.Check(history)) != 1 {
				t.Error("it is explained")
			}
		})
	}
}

// TestManyUnclear: a client that got no answer again and again leaves few
// enough orders to try.
func TestManyUnclear(t *testing.T) {
	t.Parallel()
	calls := []faults.Call{call(0, 0, 1, faults.Create, faults.Done, "a"), call(0, 2, 3, faults.Delete, faults.Done, "")}
	for n := 4; n < 24; n += 2 {
		calls = append(calls, keyed("k", call(0, n, n+1, faults.Create, faults.Unclear, "")), call(1, n, n+1, faults.Delete, faults.Unclear, ""))
	}
	calls = append(calls, keyed("k", call(0, 30, 31, faults.Create, faults.Done, "b")))
	for _, m := range faults.Check(quiet(40, calls...)) {
		t.Error(m)
	}
	calls = append(calls, call(0, 32, 33, faults.Retrieve, faults.Done, "a"))
	for _, m := range faults.Check(quiet(40, calls...)) {
		if m.Why == "no order of the calls explains the answers" {
			return
		}
		t.Error(m)
	}
	t.Error("it is explained")
}
