package manifest

import "go.yaml.in/yaml/v3"

// A document is a manifest as it is written. The schema says what each field
// means.
type document struct {
	Name        string               `yaml:"name"`
	Hostname    string               `yaml:"hostname"`
	Secret      string               `yaml:"secret"`
	Flags       map[string]flag      `yaml:"flags"`
	Overridable map[string]setting   `yaml:"overridable"`
	Containers  map[string]container `yaml:"containers"`
	Rules       []rule               `yaml:"rules"`
	Connection  string               `yaml:"connection"`
}

type flag struct {
	Literal   string `yaml:"-"`
	Random    int    `yaml:"random"`
	Varied    string `yaml:"varied"`
	Format    string `yaml:"format"`
	Lowercase *bool  `yaml:"lowercase"`
	Uppercase *bool  `yaml:"uppercase"`
	Digits    *bool  `yaml:"digits"`
	Special   *bool  `yaml:"special"`
}

type setting struct {
	Description string   `yaml:"description"`
	Type        string   `yaml:"type"`
	Default     *string  `yaml:"default"`
	Required    bool     `yaml:"required"`
	Enum        []string `yaml:"enum"`
	Pattern     string   `yaml:"pattern"`
}

type container struct {
	Image       string              `yaml:"image"`
	PullSecrets []string            `yaml:"pullSecrets"`
	Command     []string            `yaml:"command"`
	Args        []string            `yaml:"args"`
	Ports       []binding           `yaml:"ports"`
	Env         map[string]variable `yaml:"env"`
	Files       map[string]file     `yaml:"files"`
	Writable    []string            `yaml:"writable"`
	Requests    map[string]string   `yaml:"requests"`
	Limits      map[string]string   `yaml:"limits"`
	Replicas    int                 `yaml:"replicas"`
	Startup     *probe              `yaml:"startup"`
	Readiness   *probe              `yaml:"readiness"`
	Liveness    *probe              `yaml:"liveness"`
	Security    security            `yaml:"security"`
	Egress      []egress            `yaml:"egress"`
}

type binding struct {
	Port        int               `yaml:"port"`
	Protocol    string            `yaml:"protocol"`
	Expose      string            `yaml:"expose"`
	Annotations map[string]string `yaml:"annotations"`
}

type variable struct {
	Text   string `yaml:"-"`
	Secret string `yaml:"secret"`
	Key    string `yaml:"key"`
}

type file struct {
	Text     string `yaml:"-"`
	From     string `yaml:"from"`
	Template bool   `yaml:"template"`
}

type probe struct {
	Off      bool     `yaml:"-"`
	HTTP     string   `yaml:"http"`
	Command  []string `yaml:"command"`
	Port     int      `yaml:"port"`
	Period   int      `yaml:"period"`
	Timeout  int      `yaml:"timeout"`
	Failures int      `yaml:"failures"`
}

type security struct {
	Root              bool     `yaml:"root"`
	User              int      `yaml:"user"`
	Group             int      `yaml:"group"`
	Escalation        bool     `yaml:"escalation"`
	WritableRoot      bool     `yaml:"writableRoot"`
	SeccompUnconfined bool     `yaml:"seccompUnconfined"`
	Capabilities      []string `yaml:"capabilities"`
}

type egress struct {
	To       string `yaml:"to"`
	Port     int    `yaml:"port"`
	Protocol string `yaml:"protocol"`
}

type rule struct {
	From     string `yaml:"from"`
	To       string `yaml:"to"`
	Port     int    `yaml:"port"`
	Protocol string `yaml:"protocol"`
}

// UnmarshalYAML reads a literal flag or one with fields.
func (f *flag) UnmarshalYAML(node *yaml.Node) error {
	type fields flag
	return either(node, &f.Literal, (*fields)(f))
}

// UnmarshalYAML reads a bare number or a port with fields.
func (b *binding) UnmarshalYAML(node *yaml.Node) error {
	type fields binding
	return either(node, &b.Port, (*fields)(b))
}

// UnmarshalYAML reads a bare value or a reference.
func (v *variable) UnmarshalYAML(node *yaml.Node) error {
	type fields variable
	if node.Kind == yaml.ScalarNode {
		v.Text = node.Value // as written: 0755 stays that
		return nil
	}
	return node.Decode((*fields)(v))
}

// UnmarshalYAML reads a content or where it comes from.
func (f *file) UnmarshalYAML(node *yaml.Node) error {
	type fields file
	return either(node, &f.Text, (*fields)(f))
}

// UnmarshalYAML reads false or a probe.
func (p *probe) UnmarshalYAML(node *yaml.Node) error {
	type fields probe
	if node.Kind == yaml.ScalarNode {
		p.Off = true
		return nil
	}
	return node.Decode((*fields)(p))
}

// either decodes a scalar into short, and everything else into long.
func either(node *yaml.Node, short, long any) error {
	if node.Kind == yaml.ScalarNode {
		return node.Decode(short)
	}
	return node.Decode(long)
}
