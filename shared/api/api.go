// Package api translates between the wire and the domain: requests into what
// package ctf asks for, challenges, instances and errors into messages. It
// knows the messages and the error catalogue of the API, and nothing of
// transports, stores or engines.
package api

import _ "embed"

//go:embed gen/openapi/api.swagger.json
var openAPI []byte

// OpenAPI returns the OpenAPI 2.0 document of the whole REST API, as JSON. The
// caller must not change it.
func OpenAPI() []byte { return openAPI }
