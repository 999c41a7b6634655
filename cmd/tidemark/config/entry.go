package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// entry is one item of a file's list: a database, or a folder of them.
type entry struct {
	where string // "name:line: dbs[i]"
	line  int
	// path is the database; dir, pattern and recursive are the folder.
	path                    setting
	dir, pattern, recursive setting
	// replicas are one at least, if nothing is wrong.
	replicas []target
	own      map[string]setting // what it sets for itself, by key
}

// target is one replica of an entry's databases.
type target struct {
	where     string // "name:line: dbs[i]", or "name:line: dbs[i].replicas[j]"
	line      int
	url, name setting
	own       map[string]setting
}

// The keys of an entry that are no settings.
const (
	keyPath      = "path"
	keyDir       = "dir"
	keyPattern   = "pattern"
	keyRecursive = "recursive"
	keyURL       = "url"
	keyReplicas  = "replicas"
	keyName      = "name"
)

// databaseKeys are the settings that an entry can have for itself, replicaKeys those
// of them that each of its replicas can.
func databaseKeys() []string {
	return append(replicaKeys(), KeyCheckpointPages, KeyStateDir, KeyAllowNetworkFS)
}

func replicaKeys() []string {
	return []string{KeySyncInterval, KeySnapshotInterval, KeySpoolLimit, KeyUnfenced}
}

// of is the entry with the settings of one of its replicas.
func (e entry) of(t target) *entry {
	own := maps.Clone(e.own)
	maps.Copy(own, t.own)
	e.where, e.line, e.own = t.where, t.line, own
	return &e
}

func (d *document) entries(node *yaml.Node) []entry {
	if node == nil {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		d.wrong(node.Line, keyDBs, "a list is expected here", "begin each database with a dash: - path: …")
		return nil
	}
	entries := make([]entry, 0, len(node.Content))
	for i, item := range node.Content {
		entries = append(entries, d.entry(fmt.Sprintf("%s[%d]", keyDBs, i), item))
	}
	return entries
}

func (d *document) entry(name string, node *yaml.Node) entry {
	before := len(d.bad)
	e := entry{where: d.place(node.Line, name), line: node.Line}
	var url setting
	values := d.mapping(node, append(databaseKeys(), keyRetention, keyReplicas, keyPath, keyDir, keyPattern, keyRecursive, keyURL))
	e.own = d.settings(values, databaseKeys())
	d.texts(values, map[string]*setting{
		keyPath: &e.path, keyDir: &e.dir, keyPattern: &e.pattern, keyRecursive: &e.recursive, keyURL: &url,
	})
	switch {
	case values[keyReplicas] != nil:
		e.replicas = d.replicas(name, values[keyReplicas])
	case url.text != "":
		e.replicas = []target{{where: e.where, line: e.line, url: url}}
	}
	if len(d.bad) == before { // a key may be missing only because it is mistyped
		d.check(name, node.Line, e, url)
	}
	return e
}

// check notes what is missing in an entry, and what does not go together.
func (d *document) check(name string, line int, e entry, url setting) {
	has := func(s setting) bool { return s.text != "" }
	switch {
	case has(e.path) && has(e.dir):
		d.wrong(line, name, "both path and dir", "path is one database, dir a folder of them: make them two entries")
	case !has(e.path) && !has(e.dir):
		d.wrong(line, name, "path is missing", "each database needs path and url; for all of a folder give dir in place of path")
	case has(url) && len(e.replicas) > 0 && e.replicas[0].where != e.where:
		d.wrong(line, name, "both url and replicas", "list all replicas under replicas; the one without a name goes on with the state that url had")
	case len(e.replicas) == 0:
		d.wrong(line, name, "url is missing", "each database needs path and url, or replicas with a url each")
	}
	for key, s := range map[string]setting{keyPattern: e.pattern, keyRecursive: e.recursive} {
		if has(s) && has(e.path) && !has(e.dir) {
			d.wrong(s.line, key, "this is for a folder, and the entry is one database", "give dir in place of path")
		}
	}
	switch _, err := filepath.Match(e.pattern.text, ""); {
	case strings.ContainsAny(e.pattern.text, `/\`):
		d.wrong(e.pattern.line, keyPattern, fmt.Sprintf("%q has a slash", e.pattern.text), "a pattern is for names: set recursive to true, or dir to the folder below")
	case err != nil:
		d.wrong(e.pattern.line, keyPattern, fmt.Sprintf("%q is no pattern", e.pattern.text), `write "*.db", with * for any letters, ? for any one, [a-z] for one of some`)
	}
}

// namePattern is a replica's name: it is that of a folder, too.
var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// IsReplicaName tells whether one of several replicas may have that name.
func IsReplicaName(name string) bool { return namePattern.MatchString(name) }

// replicas reads a list of replicas.
func (d *document) replicas(name string, node *yaml.Node) []target {
	name += "." + keyReplicas
	if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
		d.wrong(node.Line, name, "a list is expected here", "begin each replica with a dash: - url: …")
		return nil
	}
	targets := make([]target, 0, len(node.Content))
	first := map[string]string{}
	for i, item := range node.Content {
		t := d.replica(fmt.Sprintf("%s[%d]", name, i), item)
		targets = append(targets, t)
		switch other, twice := first[t.name.text]; {
		case twice && t.name.text == "":
			d.wrong(t.line, fmt.Sprintf("%s[%d]", name, i), "name is missing, as it is at "+other,
				"one replica may have no name, its local state is where it is without replicas; give each other a name")
		case twice:
			d.wrong(t.line, fmt.Sprintf("%s[%d]", name, i), "the name "+t.name.text+" is used already, at "+other, "give each replica of a database a name of its own")
		case t.name.text != "" && !IsReplicaName(t.name.text):
			d.wrong(t.name.line, keyName, fmt.Sprintf("%q is no name for a replica", t.name.text), "use a-z, 0-9 and hyphens, 32 at most")
		}
		first[t.name.text] = t.where
	}
	return targets
}

func (d *document) replica(name string, node *yaml.Node) target {
	before := len(d.bad)
	t := target{where: d.place(node.Line, name), line: node.Line}
	values := d.mapping(node, append(replicaKeys(), keyRetention, keyURL, keyName))
	t.own = d.settings(values, replicaKeys())
	d.texts(values, map[string]*setting{keyURL: &t.url, keyName: &t.name})
	if len(d.bad) == before && t.url.text == "" {
		d.wrong(node.Line, name, "url is missing", "each replica needs a url")
	}
	return t
}

// settings gives those of the keys that a mapping has, and those of retention.
func (d *document) settings(values map[string]*yaml.Node, keys []string) map[string]setting {
	out := d.retention(values[keyRetention])
	for _, key := range keys {
		if values[key] == nil {
			continue
		}
		if s, ok := d.scalar(key, values[key]); ok {
			out[key] = s
		}
	}
	return out
}

// texts reads values into their places.
func (d *document) texts(values map[string]*yaml.Node, into map[string]*setting) {
	for key, place := range into {
		if values[key] != nil {
			*place, _ = d.scalar(key, values[key]) // what is wrong is noted
		}
	}
}
