package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"tidemark/cmd/tidemark/suggest"
)

// setting is a value as it stands in a file, and its line.
type setting struct {
	text string
	line int
}

// keyDBs is the list of databases, which only a file can hold.
const keyDBs = "dbs"

// document reads a file and gathers what is wrong in it.
type document struct {
	name string
	bad  problems
}

// wrong notes a mistake in a line; key is what it is about, or "".
func (d *document) wrong(line int, key, msg, advice string) {
	d.bad = append(d.bad, &Error{Where: d.place(line, key), Msg: msg, Advice: advice, line: line})
}

// place names a line, and what in it.
func (d *document) place(line int, key string) string {
	place := fmt.Sprintf("%s:%d", d.name, line)
	if key != "" {
		place += ": " + key
	}
	return place
}

// readFile checks every key of a file, gives its top level to viper, and
// returns its list of databases. The check walks the YAML itself: viper
// neither reports unknown keys nor knows lines. What is wrong goes to l.bad,
// unless nothing at all can be read.
func (l *layers) readFile(name string) ([]entry, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, &Error{Msg: "read the configuration: " + err.Error(), Advice: "etc/tidemark.yml is a sample to start from"}
	}
	l.doc = document{name: name}
	root, err := l.doc.parse(text)
	if err != nil || root == nil {
		return nil, err
	}
	top := l.doc.mapping(root, append(plainKeys(), keyRetention, keyDBs))
	values := map[string]any{}
	for key, s := range l.doc.retention(top[keyRetention]) {
		l.lines[key], values[key] = s.line, s.text
	}
	for _, key := range plainKeys() {
		if node := top[key]; node != nil {
			if s, ok := l.doc.scalar(key, node); ok {
				l.lines[key], values[key] = s.line, s.text
			}
		}
	}
	if err := l.v.MergeConfigMap(values); err != nil {
		return nil, &Error{Where: name, Msg: err.Error()}
	}
	entries := l.doc.entries(top[keyDBs])
	l.bad = append(l.bad, l.doc.bad...)
	return entries, nil
}

// syntaxPattern takes the line out of the parser's message, where alone it
// stands, to write it as for all other mistakes. Some of them name the line before.
var syntaxPattern = regexp.MustCompile(`^yaml: line ([0-9]+): (.*)$`)

// parse gives the document's root, or nil for an empty file.
func (d *document) parse(text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		e := &Error{Where: d.name, Msg: err.Error(), Advice: "the file must be YAML; etc/tidemark.yml is a sample"}
		if m := syntaxPattern.FindStringSubmatch(e.Msg); m != nil {
			e.line, _ = strconv.Atoi(m[1]) // digits
			e.Where, e.Msg = d.place(e.line, ""), m[2]
		}
		return nil, e
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &Error{Where: d.place(max(1, second.Line), ""), Msg: "more than one YAML document", line: second.Line}
	}
	root := doc.Content[0]
	if root.Tag == "!!null" {
		return nil, nil
	}
	return root, nil
}

// mapping gives a mapping's values by key and notes keys that are not known or
// occur twice. Values without content (`key:`) are left out.
func (d *document) mapping(node *yaml.Node, known []string) map[string]*yaml.Node {
	node = follow(node)
	if node.Kind != yaml.MappingNode {
		d.wrong(node.Line, "", "keys with values are expected here", "write key: value")
		return nil
	}
	out, seen := map[string]*yaml.Node{}, map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], follow(node.Content[i+1])
		switch {
		case !slices.Contains(known, key.Value):
			d.wrong(key.Line, "", fmt.Sprintf("unknown key %q", key.Value)+suggest.DidYouMean(key.Value, "", known), "known here: "+list(known))
		case seen[key.Value]:
			d.wrong(key.Line, "", fmt.Sprintf("the key %q occurs twice", key.Value), "")
		case value.Tag != "!!null":
			out[key.Value] = value
		}
		seen[key.Value] = true
	}
	return out
}

// scalar gives a value that is text, a number or a truth value.
func (d *document) scalar(key string, node *yaml.Node) (s setting, ok bool) {
	if node.Kind != yaml.ScalarNode || node.Value == "" {
		d.wrong(node.Line, key, "one value is expected here", "")
		return setting{}, false
	}
	return setting{text: node.Value, line: node.Line}, true
}

// follow gives the node that an alias stands for.
func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func list(words []string) string {
	return strings.Join(slices.Sorted(slices.Values(words)), ", ")
}
