package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/mayfly-ctf/mayfly/shared/api"
	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// The exit codes.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitExists   = 4
)

// A usageError says that the command line makes no sense.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// An unreachableError says that nothing answers where Mayfly should be.
type unreachableError struct {
	url string
	err error
}

func (e unreachableError) Error() string { return "no answer from " + e.url + ": " + e.err.Error() }
func (e unreachableError) Unwrap() error { return e.err }

// report writes what went wrong, and what to do about it, and returns the exit
// code.
func report(w io.Writer, command string, err error) int {
	message, details := describe(err)
	fmt.Fprintf(w, "Error: %s\n", indent(message))
	for _, line := range explanations(message, details) {
		fmt.Fprintf(w, "  %s\n", indent(line))
	}
	code := exitCode(err)
	next := advice(reasonIn(details))
	if _, unreachable := errors.AsType[unreachableError](err); unreachable {
		next = "start it with 'mayfly run', or say where it is with --url or $MAYFLY_URL"
	}
	if code == exitUsage {
		next = fmt.Sprintf("see '%s --help'", command)
	}
	if next != "" {
		fmt.Fprintf(w, "Next: %s.\n", next)
	}
	return code
}

func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	switch connect.CodeOf(err) {
	case connect.CodeNotFound:
		return exitNotFound
	case connect.CodeAlreadyExists:
		return exitExists
	}
	return exitFailed
}

// describe returns the message of an error and its details, whether a server
// sent them or they were made here.
func describe(err error) (string, []proto.Message) {
	if answer, ok := errors.AsType[*connect.Error](err); ok {
		message := answer.Message()
		switch {
		case answer.Code() == connect.CodeDeadlineExceeded:
			message = "It took too long. What was begun goes on: look again in a moment."
		case message == "":
			message = answer.Code().String()
		}
		return message, detailsOf(answer)
	}
	if _, ok := errors.AsType[*ctf.Error](err); ok {
		return api.Describe(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "It took too long: " + err.Error(), nil
	}
	return err.Error(), nil
}

func detailsOf(answer *connect.Error) []proto.Message {
	var details []proto.Message
	for _, raw := range answer.Details() {
		if detail, err := raw.Value(); err == nil { // others are of a newer server
			details = append(details, detail)
		}
	}
	return details
}

// explanations are the lines that say more than the message.
func explanations(message string, details []proto.Message) []string {
	var lines []string
	said := message
	add := func(prefix, text string) {
		if text != "" && !strings.Contains(said, text) {
			lines = append(lines, prefix+text)
			said += "\n" + text
		}
	}
	for _, detail := range details {
		switch d := detail.(type) {
		case *errdetails.ResourceInfo:
			add("", d.GetResourceType()+" "+d.GetResourceName())
			add("", d.GetDescription())
		case *errdetails.PreconditionFailure:
			for _, v := range d.GetViolations() {
				add("", v.GetDescription())
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				add(v.GetField()+": ", v.GetDescription())
			}
		case *errdetails.RetryInfo:
			add("", "it may work again in "+d.GetRetryDelay().AsDuration().String())
		case *errdetails.Help:
			for _, link := range d.GetLinks() {
				add(link.GetDescription()+": ", link.GetUrl())
			}
		}
	}
	return lines
}

func reasonIn(details []proto.Message) ctf.Reason {
	for _, detail := range details {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return ctf.Reason(info.GetReason())
		}
	}
	return ""
}

// advice is what to try next.
func advice(reason ctf.Reason) string {
	switch reason {
	case ctf.ReasonChallengeNotFound:
		return "see what there is with 'mayfly challenge list'"
	case ctf.ReasonChallengeExists:
		return "change it with 'mayfly challenge update', or delete it first"
	case ctf.ReasonChallengeExpired:
		return "move its end with 'mayfly challenge update ID --until DATE', or drop it with --reset-until"
	case ctf.ReasonChallengeNoRenewal:
		return "give it a timeout with 'mayfly challenge update ID --timeout DURATION'"
	case ctf.ReasonInstanceNotFound, ctf.ReasonInstanceExpired, ctf.ReasonInstanceDeleted:
		return "start one with 'mayfly instance create CHALLENGE SOURCE'"
	case ctf.ReasonInstanceExists:
		return "show it with 'mayfly instance get CHALLENGE SOURCE'"
	case ctf.ReasonReferenceMalformed:
		return "write the scenario as registry/repository:tag"
	case ctf.ReasonReferenceNotFound:
		return "push it with 'mayfly scenario push DIR REF', or check the spelling"
	case ctf.ReasonOCIInteraction:
		return "check that the registry is up, its credentials, and whether it speaks plain HTTP (--insecure)"
	case ctf.ReasonScenarioMismatch, ctf.ReasonScenarioPreprocess, ctf.ReasonDeploymentFailed:
		return "correct the scenario, push it again, and update the challenge"
	case ctf.ReasonUnauthenticated:
		return "set $MAYFLY_TOKEN to the token of this Mayfly"
	case ctf.ReasonUnavailable, ctf.ReasonExhausted:
		return "try again in a moment"
	}
	return ""
}

// indent keeps a text of many lines in one block.
func indent(text string) string {
	return strings.ReplaceAll(printable(strings.TrimSpace(text), '\n', '\t'), "\n", "\n  ")
}
