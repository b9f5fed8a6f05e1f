package kubernetes

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// GroupType is the token of the one component: objects written in YAML.
const GroupType = tokens.Type("kubernetes:yaml/v2:ConfigGroup")

// Construct makes a ConfigGroup: it registers each object of the YAML as a
// resource of its own, first what others need to be there.
func (p *Provider) Construct(ctx context.Context, r plugin.ConstructRequest) (plugin.ConstructResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	if r.Type != GroupType {
		return plugin.ConstructResponse{}, fmt.Errorf("%s is not supported, use %s", r.Type, GroupType)
	}
	objects, known, err := groupObjects(r.Inputs)
	if err != nil {
		return plugin.ConstructResponse{}, fmt.Errorf("ConfigGroup %s: %w", r.Name, err)
	}
	conn, err := grpc.NewClient(r.Info.MonitorAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return plugin.ConstructResponse{}, fmt.Errorf("ConfigGroup %s: %w", r.Name, err)
	}
	defer conn.Close()
	g := &group{monitor: pulumirpc.NewResourceMonitorClient(conn), request: r}
	if err := g.register(ctx, objects); err != nil {
		return plugin.ConstructResponse{}, err
	}
	out := resource.PropertyMap{"resources": resource.NewProperty(g.resources)}
	if !known {
		out["resources"] = unknownValue()
	}
	if err := g.finish(ctx, out); err != nil {
		return plugin.ConstructResponse{}, err
	}
	return plugin.ConstructResponse{URN: g.urn, Outputs: out}, nil
}

// A group is one component that is under construction.
type group struct {
	monitor pulumirpc.ResourceMonitorClient
	request plugin.ConstructRequest
	urn     resource.URN
	// resources are references to what is registered: programs look into them.
	resources []resource.PropertyValue
}

func (g *group) register(ctx context.Context, objects []unstructured.Unstructured) error {
	r := g.request
	dependencies := texts(r.Options.Dependencies)
	response, err := g.monitor.RegisterResource(ctx, &pulumirpc.RegisterResourceRequest{
		Type: string(r.Type), Name: r.Name, Parent: string(r.Parent), Dependencies: dependencies,
		Providers: r.Options.Providers, AcceptSecrets: true, AcceptResources: true,
	})
	if err != nil {
		return err
	}
	g.urn = resource.URN(response.GetUrn())
	var early, late []unstructured.Unstructured
	for _, o := range objects {
		switch o.GetKind() {
		case "Namespace", "CustomResourceDefinition":
			early = append(early, o)
		default:
			late = append(late, o)
		}
	}
	made, err := g.children(ctx, early, dependencies)
	if err == nil {
		_, err = g.children(ctx, late, append(dependencies, made...))
	}
	return err
}

// finish tells the engine what the component gives.
func (g *group) finish(ctx context.Context, out resource.PropertyMap) error {
	fields, err := plugin.MarshalProperties(out, plugin.MarshalOptions{KeepResources: true, KeepUnknowns: true})
	if err != nil {
		return fmt.Errorf("encode the resources of %s: %w", g.request.Name, err)
	}
	_, err = g.monitor.RegisterResourceOutputs(ctx, &pulumirpc.RegisterResourceOutputsRequest{
		Urn: string(g.urn), Outputs: fields,
	})
	return err
}

// children registers objects that need not wait for one another, and returns
// their URNs.
func (g *group) children(ctx context.Context, objects []unstructured.Unstructured, after []string) ([]string, error) {
	urns, references := make([]string, len(objects)), make([]resource.PropertyValue, len(objects))
	all, ctx := errgroup.WithContext(ctx)
	for i, object := range objects {
		all.Go(func() error {
			request, err := g.child(object)
			if err != nil {
				return err
			}
			request.Dependencies = after
			response, err := g.monitor.RegisterResource(ctx, request)
			if err != nil {
				return err
			}
			urns[i] = response.GetUrn()
			references[i] = resource.MakeCustomResourceReference(
				resource.URN(response.GetUrn()), resource.ID(response.GetId()), "")
			return nil
		})
	}
	err := all.Wait()
	g.resources = append(g.resources, references...)
	return urns, err
}

func (g *group) child(object unstructured.Unstructured) (*pulumirpc.RegisterResourceRequest, error) {
	options := g.request.Options
	module := object.GetAPIVersion()
	if !strings.Contains(module, "/") {
		module = "core/" + module
	}
	inputs := resource.NewPropertyMapFromMap(object.Object)
	if hidden(g.request.Inputs) {
		for _, key := range inputs.StableKeys() {
			if key != "apiVersion" && key != "kind" && key != "metadata" {
				inputs[key] = secret(inputs[key])
			}
		}
	}
	fields, err := plugin.MarshalProperties(inputs, plugin.MarshalOptions{KeepSecrets: true, KeepUnknowns: true})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", describe(&object), err)
	}
	prefix, _, err := decode(g.request.Inputs["resourcePrefix"])
	if err != nil || prefix == nil {
		prefix = g.request.Name
	}
	// Transformations of chall-manager's SDK look for default.
	name := string(objectName{cmp.Or(object.GetNamespace(), "default"), object.GetName()}.id())
	return &pulumirpc.RegisterResourceRequest{
		Type: "kubernetes:" + module + ":" + object.GetKind(), Name: fmt.Sprint(prefix, ":", name),
		Parent: string(g.urn), Custom: true, Object: fields, Provider: options.Providers[Package],
		AcceptSecrets: true, AcceptResources: true,
	}, nil
}

func texts(urns []resource.URN) []string {
	all := make([]string, len(urns))
	for i, u := range urns {
		all[i] = string(u)
	}
	return all
}

// hidden tells whether the author keeps the objects secret.
func hidden(inputs resource.PropertyMap) bool {
	return inputs["yaml"].ContainsSecrets() || inputs["objs"].ContainsSecrets()
}

// groupObjects reads the objects of a group; what is not known yet, in a
// preview, leaves it without any.
func groupObjects(inputs resource.PropertyMap) (objects []unstructured.Unstructured, known bool, err error) {
	fields, unknown, err := decodeMap(inputs)
	if err != nil || unknown {
		return nil, false, err
	}
	if files, ok := fields["files"].([]any); ok && len(files) > 0 {
		return nil, false, errors.New("files are not supported: the program reads them and gives their text as yaml")
	}
	text, _ := fields["yaml"].(string)
	if objects, err = parseObjects([]byte(text)); err != nil {
		return nil, false, err
	}
	given, _ := fields["objs"].([]any)
	for _, o := range given {
		object, ok := o.(map[string]any)
		if !ok {
			return nil, false, errors.New("objs holds something that is no object")
		}
		objects = append(objects, unstructured.Unstructured{Object: object})
	}
	if objects, err = flatten(objects); err != nil {
		return nil, false, err
	}
	if skip, _ := fields["skipAwait"].(bool); skip {
		for _, o := range objects {
			o.SetAnnotations(merge(o.GetAnnotations(), map[string]string{annotationSkip: "true"}))
		}
	}
	return objects, true, nil
}

// parseObjects reads the documents of a YAML text.
func parseObjects(text []byte) ([]unstructured.Unstructured, error) {
	var objects []unstructured.Unstructured
	documents := yamlreader.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("yaml, document %d: %w", number, err)
		}
		var fields map[string]any
		if err := yaml.Unmarshal(document, &fields); err != nil {
			return nil, fmt.Errorf("yaml, document %d: %w", number, err)
		}
		if len(fields) > 0 {
			objects = append(objects, unstructured.Unstructured{Object: fields})
		}
	}
}

// flatten takes objects out of Lists and tells what is no object.
func flatten(objects []unstructured.Unstructured) ([]unstructured.Unstructured, error) {
	var flat []unstructured.Unstructured
	for i, o := range objects {
		items, isList := o.Object["items"].([]any)
		if isList && strings.HasSuffix(o.GetKind(), "List") {
			var inner []unstructured.Unstructured
			for _, item := range items {
				object, ok := item.(map[string]any)
				if !ok {
					return nil, fmt.Errorf("object %d: a list of something that is no object", i+1)
				}
				inner = append(inner, unstructured.Unstructured{Object: object})
			}
			inner, err := flatten(inner)
			if err != nil {
				return nil, err
			}
			flat = append(flat, inner...)
			continue
		}
		if o.GetAPIVersion() == "" || o.GetKind() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("object %d lacks an apiVersion, a kind or a metadata.name", i+1)
		}
		flat = append(flat, o)
	}
	return flat, nil
}
