package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mayfly-ctf/mayfly/shared/sdk"
)

// looksLikeFlag are texts such as CTF{…}.
var looksLikeFlag = regexp.MustCompile(`\b[A-Za-z0-9_]*(?i:ctf|flag)[A-Za-z0-9_]*\{[^{}$]+\}`)

// fewVariants is how many of a hundred instances must have a flag of their own.
const fewVariants = 95

// flags finds flags that tell little of who found them.
func (l *linter) flags() {
	if len(l.m.doc.Flags) == 0 {
		l.info(nil, "no-flags", "the manifest has no flags, so the platform must know them", "add flags:, and put each where players find it")
	}
	used := l.used()
	for _, name := range l.m.tree.order(path{"flags"}) {
		f, at := l.m.doc.Flags[name], path{"flags", name}
		static := f.Random == 0 && f.Varied == ""
		if t, _ := parseTemplate(f.Literal); static && !t.has(ofAdditional, ofIdentity) {
			l.info(at, "shared-flag", "every team has the same flag: one may hand it to another", "give each its own, such as {random: 32, format: \"CTF{%s}\"}")
		}
		if f.Varied != "" && f.variants() < fewVariants {
			l.warn(at, "few-variants", fmt.Sprintf("a hundred teams get only %d different flags", f.variants()),
				"make the text longer, or use random")
		}
		switch placed := used[ofFlags+"."+name] || used[ofFlag]; {
		case !placed && !static:
			l.warn(at, "unused-flag", "no container has this flag, so that nobody can find it",
				"put ${flags."+name+"} into an environment variable or a file")
		case !placed:
			l.info(at, "unused-flag", "no container is given this flag: the image must have it", "put ${flags."+name+"} into an environment variable or a file")
		}
	}
	if secret := l.m.doc.Secret; secret != "" && !strings.Contains(secret, "${") && guessable(secret) {
		l.warn(path{"secret"}, "weak-secret", "it could be guessed, and with it every flag", "use what openssl rand -hex 32 prints")
	}
}

// variants is how many different flags a hundred instances have.
func (f flag) variants() int {
	const instances = 100
	seen := make(map[string]bool)
	for i := range instances {
		seen[sdk.Variate(fmt.Sprintf("%08x", i*2654435761%(1<<32)), f.Varied, f.classes()...)] = true
	}
	return len(seen)
}

// guessable tells whether a secret was typed rather than made.
func guessable(secret string) bool {
	const varied = 8
	distinct := make(map[rune]bool)
	for _, r := range secret {
		distinct[r] = true
	}
	lower := strings.ToLower(secret)
	return len(distinct) < varied || slices.ContainsFunc([]string{"change", "secret", "password", "example"},
		func(word string) bool { return strings.Contains(lower, word) })
}

// used are the placeholders that the texts have.
func (l *linter) used() map[string]bool {
	used := make(map[string]bool)
	note := func(text string) {
		t, _ := parseTemplate(text)
		for _, p := range t {
			used[p.of+"."+p.name] = true
			used[p.of] = true
		}
	}
	d := l.m.doc
	note(d.Hostname + d.Secret + d.Connection)
	for _, f := range d.Flags {
		note(f.Literal)
	}
	for _, c := range d.Containers {
		note(c.Image + strings.Join(c.Command, "") + strings.Join(c.Args, ""))
		for _, v := range c.Env {
			note(v.Text)
		}
		for _, f := range c.Files {
			note(f.Text)
			if f.Template || f.From != "" { // which may have any
				used[ofFlag] = true
			}
		}
		for _, of := range []map[string]string{c.Limits, c.Requests} {
			for _, text := range of {
				note(text)
			}
		}
	}
	return used
}

// texts finds flags in the open, and services that can't be reached.
func (l *linter) texts() {
	for _, name := range l.m.tree.order(path{"containers"}) {
		c, at := l.m.doc.Containers[name], path{"containers", name}
		for part, words := range map[string][]string{"command": c.Command, "args": c.Args} {
			for i, word := range words {
				at := at.child(part).child(strconv.Itoa(i))
				if t, _ := parseTemplate(word); t.secret() || l.literalFlag(word) {
					l.warn(at, "flag-in-command", "a command line can be read by every program in the container, and by who may look at the cluster",
						"put the flag into an environment variable or a file")
				}
				l.services(at, name, word)
			}
		}
		for variable, v := range c.Env {
			at := at.child("env").child(variable)
			if l.literalFlag(v.Text) {
				l.warn(at, "flag-in-env", "the flag is in the open: who may look at the cluster can read it",
					"write ${flags.NAME} instead, which is kept in a Secret")
			}
			l.services(at, name, v.Text)
		}
		for file, f := range c.Files {
			at := at.child("files").child(file)
			if l.literalFlag(f.Text) {
				l.warn(at, "flag-in-file", "the flag is in the open: who may look at the cluster can read it",
					"write ${flags.NAME} instead, which is kept in a Secret")
			}
			l.services(at, name, f.Text)
		}
	}
}

// literalFlag tells whether a text has a flag written out in it.
func (l *linter) literalFlag(text string) bool {
	const shortest = 4
	for _, f := range l.m.doc.Flags {
		if len(f.Literal) >= shortest && !strings.Contains(f.Literal, "${") && strings.Contains(text, f.Literal) {
			return true
		}
	}
	return looksLikeFlag.MatchString(text)
}

// services finds names of containers that no rule lets this one reach.
func (l *linter) services(at path, from, text string) {
	t, _ := parseTemplate(text)
	for _, p := range t {
		to, _, _ := strings.Cut(p.name, ":")
		if p.of != ofService || to == from {
			continue
		}
		if !slices.ContainsFunc(l.m.doc.Rules, func(r rule) bool { return r.From == from && r.To == to }) {
			l.warn(at, "no-rule", fmt.Sprintf("%s is named here, and no rule lets %s connect to it", to, from),
				"add to rules: {from: "+from+", to: "+to+", port: PORT}")
		}
	}
}

// settings finds what can be set in vain.
func (l *linter) settings() {
	used := l.used()
	for _, name := range l.m.tree.order(path{"overridable"}) {
		if !used[ofAdditional+"."+name] {
			l.warn(path{"overridable", name}, "unused-setting", "whatever it is set to changes nothing", "use it as ${additional."+name+"}, or remove it")
		}
	}
}

// connection finds texts that do not tell players where to go.
func (l *linter) connection() {
	at := path{"connection"}
	t, err := parseTemplate(l.m.doc.Connection)
	switch {
	case err != nil:
	case l.m.doc.Connection == "":
		l.info(at, "no-connection", "players are told nothing but the address of each exposed port", "write what they should do, such as connection: ${url}")
	case !t.has(ofAddress, ofHost, ofPort, ofURL):
		l.warn(at, "no-address", "players are not told the address, which is another for each instance", "have ${address} or ${url} in it")
	case t.secret():
		l.warn(at, "flag-in-connection", "players are told the flag", "remove it, unless it opens the door to the challenge")
	}
}
