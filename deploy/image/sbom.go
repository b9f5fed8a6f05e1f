package image

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const spdxType types.MediaType = "application/spdx+json"

// A document is a list of parts in the form of SPDX 2.3.
type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Parts         []part         `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type part struct {
	ID         string     `json:"SPDXID"`
	Name       string     `json:"name"`
	Version    string     `json:"versionInfo,omitempty"`
	Location   string     `json:"downloadLocation"`
	References []external `json:"externalRefs,omitempty"`
}

type external struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// List returns what an image is made of, as SPDX 2.3 in JSON: the program, the
// modules that it says it was built from, Go itself, and packages of Debian.
func List(p Plan, packages *Packages) ([]byte, error) {
	info, err := buildinfo.ReadFile(p.Program)
	if err != nil {
		return nil, fmt.Errorf("list what %s is made of: %w", p.Name, err)
	}
	d := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: p.Name + "-" + p.Arch,
		Creation: creation{Created: time.Unix(0, 0).UTC().Format(time.RFC3339), Creators: []string{"Tool: mayfly-deploy"}},
	}
	d.add(info.Path, info.Main.Version, "golang", "DESCRIBES")
	d.add("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "golang", "CONTAINS")
	for _, module := range info.Deps {
		module = replaced(module)
		d.add(module.Path, module.Version, "golang", "CONTAINS")
	}
	names := []string{"ca-certificates/all"}
	if p.Libraries {
		names = append(names, "libc6/"+p.Arch)
	}
	for _, name := range names {
		pkg := packages.byName[name]
		d.add(pkg.Name, pkg.Version, "deb/debian", "CONTAINS")
	}
	body, err := json.Marshal(d.Parts)
	if err != nil {
		return nil, err
	}
	d.Namespace = "https://github.com/mayfly-ctf/mayfly/sbom/" + d.Name + "/" + sum(body)
	return json.MarshalIndent(d, "", " ")
}

// replaced is the module that was built in.
func replaced(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

// add notes a part; the first one is what the document is about.
func (d *document) add(name, version, kind, relation string) {
	id := fmt.Sprintf("SPDXRef-%d", len(d.Parts))
	reference := external{"PACKAGE-MANAGER", "purl", "pkg:" + kind + "/" + name + "@" + version}
	d.Parts = append(d.Parts, part{ID: id, Name: name, Version: version, Location: "NOASSERTION", References: []external{reference}})
	from := d.ID
	if relation == "CONTAINS" {
		from = d.Parts[0].ID
	}
	d.Relationships = append(d.Relationships, relationship{from, relation, id})
}

// Attach stores a list with the image that it is of, so that tools find it
// there. Registries without that keep it under a tag of the image's digest.
func (r Repository) Attach(ctx context.Context, image string, of v1.Image, list []byte) error {
	to, err := r.tag(image, "list")
	if err != nil {
		return err
	}
	subject, err := descriptor(of)
	if err != nil {
		return fmt.Errorf("attach a list to %s: %w", image, err)
	}
	artifact := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	artifact = mutate.ConfigMediaType(artifact, spdxType)
	if artifact, err = mutate.AppendLayers(artifact, static.NewLayer(list, spdxType)); err != nil {
		return fmt.Errorf("attach a list to %s: %w", image, err)
	}
	attached, ok := mutate.Subject(artifact, subject).(v1.Image)
	if !ok {
		return fmt.Errorf("attach a list to %s: it is no image any more", image)
	}
	digest, err := attached.Digest()
	if err != nil {
		return fmt.Errorf("attach a list to %s: %w", image, err)
	}
	var by name.Reference = to.Context().Digest(digest.String())
	if err := remote.Write(by, attached, options(ctx)...); err != nil {
		return fmt.Errorf("attach a list to %s: %w", image, err)
	}
	return nil
}

func descriptor(of v1.Image) (v1.Descriptor, error) {
	digest, err := of.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := of.Size()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: size, Digest: digest}, nil
}
