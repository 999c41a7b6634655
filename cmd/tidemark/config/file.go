package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"tidemark/cmd/tidemark/suggest"
)

// setting is a value as it stands in a file and its place, "name:line".
type setting struct{ text, where string }

// entry is one database of a file's list.
type entry struct {
	where     string
	path, url string
	own       map[string]setting // what it sets for itself, by key
}

// keyDBs is the list of databases, which only a file can hold.
const keyDBs = "dbs"

// readFile checks every key of a file, gives its top level to viper, and
// returns its list of databases. The check walks the YAML itself: viper
// neither reports unknown keys nor knows lines.
func (l *layers) readFile(name string) ([]entry, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, &Error{Msg: "read the configuration: " + err.Error(), Advice: "etc/tidemark.yml is a sample to start from"}
	}
	root, err := parse(name, text)
	if err != nil || root == nil {
		return nil, err
	}
	top, err := mapping(name, root, append(keys(), keyDBs))
	if err != nil {
		return nil, err
	}
	for _, key := range keys() {
		if node := top[key]; node != nil {
			s, err := scalar(name, key, node)
			if err != nil {
				return nil, err
			}
			l.lines[key] = s.where
		}
	}
	l.v.SetConfigType("yaml")
	if err := l.v.ReadConfig(bytes.NewReader(text)); err != nil {
		return nil, &Error{Where: name, Msg: err.Error()}
	}
	return readEntries(name, top[keyDBs])
}

// parse gives the document's root, or nil for an empty file.
func parse(name string, text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, &Error{Where: name, Msg: err.Error(), Advice: "the file must be YAML; etc/tidemark.yml is a sample"}
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &Error{Where: name, Msg: "more than one YAML document"}
	}
	root := doc.Content[0]
	if root.Tag == "!!null" {
		return nil, nil
	}
	return root, nil
}

// mapping gives a mapping's values by key and refuses keys that are not known
// or occur twice. Values without content (`key:`) are left out.
func mapping(name string, node *yaml.Node, known []string) (map[string]*yaml.Node, error) {
	node = follow(node)
	if node.Kind != yaml.MappingNode {
		return nil, &Error{Where: place(name, node), Msg: "keys with values are expected here", Advice: "write key: value"}
	}
	out := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], follow(node.Content[i+1])
		if !slices.Contains(known, key.Value) {
			return nil, &Error{
				Where:  place(name, key),
				Msg:    fmt.Sprintf("unknown key %q", key.Value) + suggest.DidYouMean(key.Value, "", known),
				Advice: "known here: " + list(known),
			}
		}
		if _, twice := out[key.Value]; twice {
			return nil, &Error{Where: place(name, key), Msg: fmt.Sprintf("the key %q occurs twice", key.Value)}
		}
		if value.Tag != "!!null" {
			out[key.Value] = value
		}
	}
	return out, nil
}

// scalar gives a value that is text, a number or a truth value.
func scalar(name, key string, node *yaml.Node) (setting, error) {
	if node.Kind != yaml.ScalarNode || node.Value == "" {
		return setting{}, &Error{Where: place(name, node) + ": " + key, Msg: "one value is expected here"}
	}
	return setting{text: node.Value, where: place(name, node)}, nil
}

func readEntries(name string, node *yaml.Node) ([]entry, error) {
	if node == nil {
		return nil, nil
	}
	if node.Kind != yaml.SequenceNode {
		return nil, &Error{Where: place(name, node) + ": " + keyDBs, Msg: "a list is expected here", Advice: "begin each database with a dash: - path: …"}
	}
	entries := make([]entry, 0, len(node.Content))
	for i, item := range node.Content {
		e, err := readEntry(name, i, item)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func readEntry(name string, i int, node *yaml.Node) (entry, error) {
	own := []string{KeySyncInterval, KeyCheckpointPages, KeyStateDir}
	values, err := mapping(name, node, append([]string{"path", "url"}, own...))
	if err != nil {
		return entry{}, err
	}
	e := entry{where: fmt.Sprintf("%s: %s[%d]", place(name, node), keyDBs, i), own: map[string]setting{}}
	for key, value := range values {
		s, err := scalar(name, key, value)
		if err != nil {
			return entry{}, err
		}
		switch key {
		case "path":
			e.path = s.text
		case "url":
			e.url = s.text
		default:
			e.own[key] = s
		}
	}
	for key, value := range map[string]string{"path": e.path, "url": e.url} {
		if value == "" {
			return entry{}, &Error{Where: e.where, Msg: key + " is missing", Advice: "each database needs path and url"}
		}
	}
	return e, nil
}

// follow gives the node that an alias stands for.
func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func place(name string, node *yaml.Node) string { return fmt.Sprintf("%s:%d", name, node.Line) }

func list(words []string) string {
	return strings.Join(slices.Sorted(slices.Values(words)), ", ")
}
