package api

import (
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

// Domain is where the reasons of the error catalogue are defined. It is that
// of the API whose contract this is: clients compare it.
const Domain = "github.com/ctfer-io/chall-manager"

// OCIDomain is the domain of what a registry answered.
const OCIDomain = Domain + "/OCI"

// maxText is the longest text in bytes that a detail carries. Details travel
// in headers, and proxies limit those.
const maxText = 2048

// Describe returns what the caller may read of an error: the message and the
// details of the catalogue, ErrorInfo first. Of whatever is not a [ctf.Error]
// only that it is internal.
func Describe(err error) (message string, details []proto.Message) {
	e := public(err)
	message = sentence(e)
	details = append(details, errorInfo(e))
	for _, d := range []proto.Message{resourceInfo(e), preconditionFailure(e), badRequest(e), retryInfo(e), help(e)} {
		if d != nil {
			details = append(details, d)
		}
	}
	return message, details
}

// sentence is the message of the catalogue. It goes on with what exactly is
// wrong where no client compares it and no detail is made for that.
func sentence(e *ctf.Error) string {
	what := e.Detail
	if e.Reason == ctf.ReasonInvalidArgument && what == "" && len(e.Violations) > 0 {
		what = e.Violations[0].Field + " " + e.Violations[0].Description
	}
	if what == "" || resourceType(e.Reason) != "" || preconditionType(e.Reason) != "" {
		return e.Message
	}
	return strings.TrimSuffix(e.Message, ".") + ": " + clip(what)
}

func public(err error) *ctf.Error {
	if e, ok := errors.AsType[*ctf.Error](err); ok {
		return e
	}
	return &ctf.Error{Kind: ctf.Internal, Reason: ctf.ReasonInternal, Message: "An internal error occurred."}
}

func errorInfo(e *ctf.Error) *errdetails.ErrorInfo {
	info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: Domain}
	// A registry's own trouble is told apart from ours by the domain.
	fromRegistry := e.Reason == ctf.ReasonOCIInteraction && e.Kind != ctf.Internal
	if fromRegistry || e.Reason == ctf.ReasonReferenceNotFound {
		info.Domain = OCIDomain
	}
	for name, value := range e.Metadata {
		if info.Metadata == nil {
			info.Metadata = make(map[string]string, len(e.Metadata))
		}
		info.Metadata[name] = clip(value)
	}
	return info
}

func resourceType(reason ctf.Reason) string {
	switch reason {
	case ctf.ReasonChallengeExists, ctf.ReasonChallengeNotFound:
		return "Challenge"
	case ctf.ReasonInstanceExists, ctf.ReasonInstanceNotFound:
		return "Instance"
	case ctf.ReasonReferenceMalformed:
		return "Reference"
	case ctf.ReasonScenarioMismatch, ctf.ReasonScenarioPreprocess:
		return "Scenario"
	default:
		return ""
	}
}

func resourceInfo(e *ctf.Error) proto.Message {
	info := &errdetails.ResourceInfo{ResourceType: resourceType(e.Reason), Description: clip(e.Detail)}
	switch info.ResourceType {
	case "":
		return nil
	case "Challenge":
		info.ResourceName = e.Metadata["id"]
	case "Instance":
		info.ResourceName = e.Metadata["challenge_id"] + "/" + e.Metadata["source_id"]
	default:
		info.ResourceName = clip(e.Metadata["reference"])
	}
	if info.Description == "" {
		info.Description = clip(e.Message)
	}
	return info
}

func preconditionType(reason ctf.Reason) string {
	switch reason {
	case ctf.ReasonChallengeExpired, ctf.ReasonInstanceExpired:
		return "EXPIRATION"
	case ctf.ReasonChallengeNoRenewal:
		return "RENEWAL"
	default:
		return ""
	}
}

func preconditionFailure(e *ctf.Error) proto.Message {
	kind := preconditionType(e.Reason)
	if kind == "" {
		return nil
	}
	subject := Domain + "/Challenge"
	if e.Reason == ctf.ReasonInstanceExpired {
		subject = Domain + "/Instance"
	}
	return &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
		{Type: kind, Subject: subject, Description: clip(e.Detail)},
	}}
}

func badRequest(e *ctf.Error) proto.Message {
	if len(e.Violations) == 0 {
		return nil
	}
	out := &errdetails.BadRequest{}
	for _, v := range e.Violations {
		out.FieldViolations = append(out.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: v.Field, Reason: v.Reason, Description: clip(v.Description),
		})
	}
	return out
}

func retryInfo(e *ctf.Error) proto.Message {
	if e.RetryAfter == 0 {
		return nil
	}
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}
}

func help(e *ctf.Error) proto.Message {
	switch e.Reason {
	case ctf.ReasonInvalidUpdateMask:
		return links(
			"Field masks", "https://protobuf.dev/reference/protobuf/google.protobuf/#field-mask",
			"AIP-161, which tells how to use them", "https://google.aip.dev/161")
	case ctf.ReasonReferenceMalformed:
		return links("The OCI image specification", "https://github.com/opencontainers/image-spec")
	case ctf.ReasonScenarioMismatch:
		return links(
			"What a scenario is", "https://ctfer.io/docs/chall-manager/glossary/",
			"How to write one", "https://ctfer.io/docs/chall-manager/challmaker-guides/")
	default:
		return nil
	}
}

// links takes descriptions and addresses in turn.
func links(pairs ...string) *errdetails.Help {
	out := &errdetails.Help{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out.Links = append(out.Links, &errdetails.Help_Link{Description: pairs[i], Url: pairs[i+1]})
	}
	return out
}

// clip makes a text fit to be sent: valid UTF-8 and no longer than maxText. Of
// a longer one both ends stay: compilers put what matters first, programs last.
func clip(text string) string {
	text = strings.ToValidUTF8(text, "�")
	if len(text) <= maxText {
		return text
	}
	const gap = "\n…\n"
	head, tail := (maxText-len(gap))/2, len(text)-(maxText-len(gap))/2
	for !utf8.RuneStart(text[head]) {
		head--
	}
	for !utf8.RuneStart(text[tail]) {
		tail++
	}
	return text[:head] + gap + text[tail:]
}
