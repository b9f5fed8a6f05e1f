package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// said is what an answer says: an instance, or why there is none.
type said struct {
	ChallengeID, SourceID string
	Since, ConnectionInfo string
	Until                 time.Time
	Details               []struct{ Reason string }
}

// isWhole tells whether it is an instance with all that one has.
func (s said) isWhole() bool {
	return s.ChallengeID != "" && s.SourceID != "" && s.Since != "" && s.ConnectionInfo != ""
}

func (s said) reason() (reason string) {
	for _, d := range s.Details {
		if d.Reason != "" {
			reason = d.Reason
		}
	}
	return reason
}

// read says what an answer means.
func (c *Call) read(status int, text []byte, l Load) {
	c.Answer = fmt.Sprintf("%d %s", status, text)
	c.Outcome = Wrong
	var answer said
	switch err := json.Unmarshal(text, &answer); {
	case err != nil:
		c.Outcome = l.garbled(status)
	case status == http.StatusOK && c.Verb == Delete:
		c.Outcome = Done
	case status != http.StatusOK:
		c.Outcome = c.mean(answer.reason(), l.Failing)
	case answer.isWhole() && answer.ChallengeID == c.Challenge && answer.SourceID == c.Source:
		// Nothing else is the same for as long as the instance lives: an update
		// may move it elsewhere.
		c.Outcome, c.Instance, c.Until = Done, answer.Since, answer.Until
	}
}

// garbled says what an answer means that is no JSON.
func (l Load) garbled(status int) Outcome {
	if l.Between && status >= http.StatusInternalServerError {
		return Unclear
	}
	return Wrong
}

// mean says what an error means. Whoever knows no better says that it is internal,
// which is a mistake.
func (c *Call) mean(reason string, failing []string) Outcome {
	switch create := c.Verb == Create; {
	case reason == "UNAVAILABLE":
		return Unclear
	case reason == "INSTANCE_NOT_FOUND" && (c.Verb == Retrieve || c.Verb == Renew || c.Verb == Delete):
		return Missing
	case reason == "INSTANCE_ALREADY_EXISTS" && create:
		return Exists
	case reason == "INSTANCE_DELETED" && create:
		return Deleted
	case reason == "RESOURCE_EXHAUSTED" && create:
		return Refused
	case slices.Contains(failing, reason) && create:
		return Undone
	}
	return Wrong
}

// readEach says what the answer to a query means for each challenge, each by itself:
// what is shown is there, once, and what is not shown is missing, unless the answer
// came to no good end.
func (c Call) readEach(status int, text []byte, broken error, l Load) (told []Call) {
	c.Answer = fmt.Sprintf("%d %s", status, text)
	rest := Missing
	switch {
	case broken != nil:
		c.Answer += " " + broken.Error()
		rest = Unclear
	case status != http.StatusOK: // unless it says something better
		rest = l.garbled(status)
	}
	shown := map[string]said{}
	for lines := json.NewDecoder(bytes.NewReader(text)); lines.More(); {
		var line struct {
			said // instead of a stream

			Result, Error *said
		}
		err := lines.Decode(&line)
		switch {
		case err != nil && broken != nil: // in the middle of a line
		case err != nil:
			rest = l.garbled(status)
		case line.Error != nil:
			rest = c.mean(line.Error.reason(), nil)
		case line.Result == nil:
			rest = c.mean(line.reason(), nil)
		case !line.Result.isWhole(), line.Result.SourceID != c.Source, shown[line.Result.ChallengeID].isWhole(),
			!slices.Contains(l.Challenges, line.Result.ChallengeID):
			rest = Wrong
		default:
			shown[line.Result.ChallengeID] = *line.Result
		}
		if err != nil || rest == Wrong {
			break
		}
	}
	for _, c.Challenge = range l.Challenges {
		there := shown[c.Challenge]
		c.Instance, c.Until, c.Outcome = there.Since, there.Until, rest
		if c.Instance != "" && rest != Wrong {
			c.Outcome = Done
		}
		told = append(told, c)
	}
	return told
}
