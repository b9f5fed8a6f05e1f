package serve

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	challengev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/challenge"
	instancev1 "github.com/mayfly-ctf/mayfly/shared/api/gen/api/v1/instance"
)

// A router hands calls to the handlers of their verbs.
type router struct {
	mux        *runtime.ServeMux       // REST
	procedures map[string]http.Handler // the RPC protocols, by path
}

// NewRouter returns a handler that hands each call of the API, in any protocol
// and as it came, to the handler of its verb. It asks for each handler once, by
// the name of the verb: create-challenge. The routes are those in the protos.
// What is no call of the API is answered as a function answers it.
func NewRouter(handlerOf func(verb string) (http.Handler, error)) (http.Handler, error) {
	r := &router{mux: newMux(), procedures: map[string]http.Handler{}}
	for _, file := range []protoreflect.FileDescriptor{
		challengev1.File_api_v1_challenge_challenge_proto,
		instancev1.File_api_v1_instance_instance_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				if err := r.add(methods.Get(j), handlerOf); err != nil {
					return nil, err
				}
			}
		}
	}
	return r, nil
}

func (r *router) add(method protoreflect.MethodDescriptor, handlerOf func(string) (http.Handler, error)) error {
	verb := verbName(method.Name())
	handler, err := handlerOf(verb)
	if err != nil {
		return fmt.Errorf("verb %s: %w", verb, err)
	}
	r.procedures["/"+string(method.Parent().FullName())+"/"+string(method.Name())] = handler
	rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		httpMethod, path := restRoute(rule)
		if path == "" {
			continue
		}
		err := r.mux.HandlePath(httpMethod, path, func(w http.ResponseWriter, req *http.Request, _ map[string]string) {
			handler.ServeHTTP(w, original(req))
		})
		if err != nil {
			return fmt.Errorf("route of verb %s: %w", verb, err)
		}
	}
	return nil
}

// restRoute returns the method and the path of a rule.
func restRoute(rule *annotations.HttpRule) (method, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Custom:
		return p.Custom.GetKind(), p.Custom.GetPath()
	default:
		return "", ""
	}
}

// verbName returns the name that a verb has as a function: create-challenge
// for CreateChallenge.
func verbName(method protoreflect.Name) string {
	var name strings.Builder
	for i, letter := range string(method) {
		if unicode.IsUpper(letter) && i > 0 {
			name.WriteByte('-')
		}
		name.WriteRune(unicode.ToLower(letter))
	}
	return name.String()
}

// originalKey is where the context of a request that the mux looks at keeps the
// request as it came.
type originalKey struct{}

func original(req *http.Request) *http.Request {
	r, _ := req.Context().Value(originalKey{}).(*http.Request) // ServeHTTP put it there.
	return r
}

// ServeHTTP hands one call on.
func (r *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if isREST(req) {
		// The mux may read a form and change the method to find the route, which
		// the function will do again: neither is for it to see.
		seen := req.WithContext(context.WithValue(req.Context(), originalKey{}, req))
		dispatch(r.mux, w, seen, http.NoBody)
		return
	}
	if handler, ok := r.procedures[req.URL.Path]; ok {
		handler.ServeHTTP(w, req)
		return
	}
	http.NotFound(w, req)
}
