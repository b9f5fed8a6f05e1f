// Package faults finds out whether a running Mayfly keeps its promises while
// things break: clients call it at random and write down what they were told,
// and a checker looks for an order of all calls that explains every answer. It
// knows the wire and the promises (shared/docs/consistency.md), and nothing of
// what is behind.
package faults

import "time"

// A Verb is what a client asks.
type Verb string

// The verbs of instances.
const (
	Create   Verb = "create"
	Retrieve Verb = "retrieve"
	Renew    Verb = "renew"
	Delete   Verb = "delete"
	// Query asks for all instances of a source. It is a call for each challenge.
	Query Verb = "query"
)

// An Outcome is what an answer says of what was done.
type Outcome string

// The outcomes of calls.
const (
	// Done is a success.
	Done Outcome = "done"
	// Missing is that there is no such instance.
	Missing Outcome = "missing"
	// Exists is that the source has an instance already.
	Exists Outcome = "exists"
	// Undone is a create that failed and left nothing.
	Undone Outcome = "undone"
	// Deleted is a create whose instance somebody deleted before it was ready.
	Deleted Outcome = "deleted"
	// Refused is a create that had no effect.
	Refused Outcome = "refused"
	// Unclear is no answer, or one that leaves open what has happened or will.
	Unclear Outcome = "unclear"
	// Wrong is an answer that is never right.
	Wrong Outcome = "wrong"
)

// A History is what clients were told, and what is known of the system meanwhile.
type History struct {
	Calls []Call
	// Deaths are moments, in order, at which nothing of the system was left that
	// knew of a call: one that began before has been begun with by then or never will.
	Deaths []time.Duration
	// Quiet is the moment from which on nothing is at work that was begun before
	// it, for a reconcile has ended with nobody calling; 0 is never.
	Quiet time.Duration
}

// A Call is one call of a client, and what came of it.
type Call struct {
	Client            int
	Challenge, Source string
	Verb              Verb
	// Key is the idempotency key of a create; empty is none.
	Key string
	// Began and Ended are since the history began.
	Began, Ended time.Duration
	Outcome      Outcome
	// Left tells that the client gave it up.
	Left bool
	// Instance tells the instance of the answer from all others that the source
	// ever had.
	Instance string
	// Until is when the instance of the answer ends; zero is never.
	Until time.Time
	// Answer is what was said, for people.
	Answer string
}
