package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// script is a sequence of requests that depend on one another; scripts do not.
type script struct {
	area, name string
	steps      []step
}

// phase says when the script runs. What leaves objects about while it runs is seen by everything else: it comes later,
// and what may be of the same name later still.
func (script script) phase() int {
	switch {
	case script.area == packedLives || script.area == protobufByHand:
		return 2
	case script.area == "lives" || strings.HasPrefix(script.area, "by hand"):
		return 1
	}
	return 0
}

const phases = 3

// resource is one that the reference serves.
type resource struct {
	group, version, kind, plural string
	namespaced                   bool
	verbs                        []string
	status                       bool
}

const namespace = "differ"

const (
	jsonType      = "application/json"
	mergeType     = "application/merge-patch+json"
	strategicType = "application/strategic-merge-patch+json"
	jsonPatchType = "application/json-patch+json"
	applyType     = "application/apply-patch+yaml"
	tableType     = "application/json;as=Table;v=v1;g=meta.k8s.io"
)

func (resource resource) base() string {
	if resource.group == "" {
		return "/api/" + resource.version
	}
	return "/apis/" + resource.group + "/" + resource.version
}

func (resource resource) collection() string {
	if resource.namespaced {
		return resource.base() + "/namespaces/" + namespace + "/" + resource.plural
	}
	return resource.base() + "/" + resource.plural
}

func (resource resource) apiVersion() string {
	if resource.group == "" {
		return resource.version
	}
	return resource.group + "/" + resource.version
}

func (resource resource) can(verb string) bool { return slices.Contains(resource.verbs, verb) }

func (resource resource) String() string {
	return resource.plural + "." + resource.version + "." + resource.group
}

// discover lists what the server serves.
func discover(server *server) ([]resource, error) {
	type discovery struct {
		Items []struct {
			Metadata struct{ Name string }
			Versions []struct {
				Version   string
				Resources []struct {
					Resource     string
					ResponseKind struct{ Kind string }
					Scope        string
					Verbs        []string
					Subresources []struct{ Subresource string }
				}
			}
		}
	}
	const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	var all []resource
	for _, root := range []string{"/api", "/apis"} {
		answered := server.send(step{method: "GET", path: root, accept: accept})
		if answered.failed != nil {
			return nil, answered.failed
		}
		var found discovery
		if err := json.Unmarshal(answered.body, &found); err != nil {
			return nil, fmt.Errorf("%s: %w", root, err)
		}
		for _, group := range found.Items {
			for _, version := range group.Versions {
				for _, served := range version.Resources {
					one := resource{
						group: group.Metadata.Name, version: version.Version, kind: served.ResponseKind.Kind,
						plural: served.Resource, namespaced: served.Scope == "Namespaced", verbs: served.Verbs,
					}
					for _, sub := range served.Subresources {
						one.status = one.status || sub.Subresource == "status"
					}
					all = append(all, one)
				}
			}
		}
	}
	return all, nil
}

// batteries are all scripts: what every resource answers to the same requests, what becomes of whole objects leaf by
// leaf, and the scripts that are written out.
func batteries(reference *server) ([]script, error) {
	resources, err := discover(reference)
	if err != nil {
		return nil, err
	}
	filled, err := testdata()
	if err != nil {
		return nil, err
	}
	published, err := openAPIScript(reference)
	if err != nil {
		return nil, err
	}
	all := []script{discoveryScript(resources), published}
	for _, resource := range resources {
		all = append(all, everyResource(resource, filled)...)
	}
	whole, err := wholeObjects(resources)
	if err != nil {
		return nil, err
	}
	packed, err := protobufs(resources, filled)
	if err != nil {
		return nil, err
	}
	written, err := writtenScripts()
	if err != nil {
		return nil, err
	}
	return slices.Concat(all, whole, written, packed), nil
}

// testdata answers the directory of upstream's filled objects.
func testdata() (string, error) {
	found, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		return "", fmt.Errorf("go list k8s.io/api: %w", err)
	}
	return path.Join(strings.TrimSpace(string(found)), "testdata/HEAD"), nil
}

func get(what, path string) step { return step{what: what, method: "GET", path: path} }

func discoveryScript(resources []resource) script {
	steps := []step{
		get("root", "/"), get("api", "/api"), get("apis", "/apis"), get("version", "/version"), get("healthz", "/healthz"),
		get("livez", "/livez"), get("readyz", "/readyz"), get("no such path", "/nothing"), get("no such group", "/apis/no.such.group"),
		get("no such version", "/api/v9"), get("no such resource", "/api/v1/nothings"),
		{what: "wrong method", method: "PATCH", path: "/version", contentType: mergeType, body: []byte("{}")},
	}
	bases := map[string]bool{}
	for _, resource := range resources {
		bases[resource.base()] = true
		if resource.group != "" {
			bases["/apis/"+resource.group] = true
		}
	}
	for _, base := range slices.Sorted(maps.Keys(bases)) {
		steps = append(steps, get(base, base))
	}
	return script{area: "discovery", name: "discovery", steps: steps}
}

func everyResource(resource resource, filled string) []script {
	var all []script
	add := func(name string, steps ...step) {
		all = append(all, script{area: "every resource: " + name, name: resource.String() + " " + name, steps: steps})
	}
	collection := resource.collection()
	if resource.can("get") {
		add("reads", reads(collection)...)
	}
	if resource.can("list") {
		add("lists", lists(collection)...)
	}
	if resource.can("create") {
		file := path.Join(filled, strings.TrimPrefix(resource.group+"."+resource.version+"."+resource.kind+".json", "."))
		if resource.group == "" {
			file = path.Join(filled, "core."+resource.version+"."+resource.kind+".json")
		}
		add("creates", creates(resource, file)...)
	}
	if resource.can("delete") {
		add("deletes", deletes(collection)...)
	}
	if resource.can("patch") {
		add("patches", patches(resource)...)
	}
	if resource.can("update") {
		add("updates", updates(resource)...)
	}
	return all
}

func reads(collection string) []step {
	missing := collection + "/no-such-object"
	return []step{
		get("missing", missing),
		get("missing, bad name", collection+"/No_Such"),
		{what: "missing as table", method: "GET", path: missing, accept: tableType},
		{what: "unacceptable", method: "GET", path: missing, accept: "text/html"},
		get("subresource that is not there", missing+"/nothing"),
		get("status", missing+"/status"),
		get("scale", missing+"/scale"),
	}
}

func lists(collection string) []step {
	list := func(what, query string) step { return get(what, collection+"?"+query) }
	return []step{
		list("label selector that fits none", "labelSelector=differ%3Dnone"),
		list("bad label selector", "labelSelector=a%3D%3D%3Db"),
		list("bad label key", "labelSelector=-a%2F-b"),
		list("unknown field selector", "fieldSelector=spec.nothing%3Da"),
		list("field selector by name", "fieldSelector=metadata.name%3Dnone"),
		list("bad field selector", "fieldSelector=metadata.name"),
		list("bad limit", "limit=x"),
		list("negative limit", "limit=-1&labelSelector=differ%3Dnone"),
		list("bad continue", "continue=nonsense"),
		list("bad revision", "resourceVersion=x"),
		list("revision in the future", "resourceVersion=999999999&resourceVersionMatch=NotOlderThan&timeoutSeconds=1&labelSelector=differ%3Dnone"),
		list("match without revision", "resourceVersionMatch=Exact"),
		list("unknown match", "resourceVersion=1&resourceVersionMatch=Nearly"),
		list("match exact of zero", "resourceVersion=0&resourceVersionMatch=Exact"),
		list("bad timeout", "timeoutSeconds=x"),
		list("initial events without watch", "sendInitialEvents=true"),
		list("watch, bad revision", "watch=1&resourceVersion=x"),
		list("watch, compacted revision", "watch=1&resourceVersion=1&timeoutSeconds=1&labelSelector=differ%3Dnone"),
		list("watch that ends", "watch=1&timeoutSeconds=1&labelSelector=differ%3Dnone"),
		list("watch, initial events without match", "watch=1&sendInitialEvents=true&timeoutSeconds=1"),
		list("pretty", "labelSelector=differ%3Dnone&pretty=1"),
		{what: "table", method: "GET", path: collection + "?labelSelector=differ%3Dnone", accept: tableType},
		{what: "partial metadata", method: "GET", path: collection + "?labelSelector=differ%3Dnone", accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"},
		{what: "yaml", method: "GET", path: collection + "?labelSelector=differ%3Dnone", accept: "application/yaml"},
	}
}

func post(what, path string, body any) step {
	return step{what: what, method: "POST", path: path, contentType: jsonType, body: encode(body)}
}

func encode(body any) []byte {
	if text, ok := body.(string); ok {
		return []byte(text)
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return encoded
}

type object = map[string]any

func creates(resource resource, filled string) []step {
	collection := resource.collection()
	bare := func(name any, more object) object {
		metadata := object{"name": name}
		maps.Copy(metadata, more)
		return object{"apiVersion": resource.apiVersion(), "kind": resource.kind, "metadata": metadata}
	}
	dry := collection + "?dryRun=All"
	steps := []step{
		post("empty", dry, ""),
		post("no JSON", dry, "{not json"),
		post("array", dry, "[]"),
		post("no kind", dry, object{"metadata": object{"name": "a"}}),
		post("other kind", dry, object{"apiVersion": "v1", "kind": "Nothing", "metadata": object{"name": "a"}}),
		post("other version", dry, object{"apiVersion": "nothing/v9", "kind": resource.kind, "metadata": object{"name": "a"}}),
		post("bare", dry, bare("bare", nil)),
		post("no name", dry, object{"apiVersion": resource.apiVersion(), "kind": resource.kind}),
		post("name in capitals", dry, bare("Bad_Name", nil)),
		post("long name", dry, bare(strings.Repeat("a", 260), nil)),
		post("name of wrong type", dry, bare(7, nil)),
		post("bad labels", dry, bare("a", object{"labels": object{"-bad-": "x", "ok": "b@d"}})),
		post("labels of wrong type", dry, bare("a", object{"labels": object{"a": 1}})),
		post("bad annotations", dry, bare("a", object{"annotations": object{"-bad-": "x"}})),
		post("bad owner", dry, bare("a", object{"ownerReferences": []any{object{"apiVersion": "v1", "kind": "Pod"}}})),
		post("bad finalizer", dry, bare("a", object{"finalizers": []any{"no slash or dots"}})),
		post("revision given", dry, bare("a", object{"resourceVersion": "5"})),
		post("other namespace", dry, bare("a", object{"namespace": "elsewhere"})),
		post("unknown field", dry, merge(bare("a", nil), object{"nothing": 1})),
		post("unknown field, strict", dry+"&fieldValidation=Strict", merge(bare("a", nil), object{"nothing": 1, "spec": object{"nothing": 2}})),
		post("unknown field, ignored", dry+"&fieldValidation=Ignore", merge(bare("a", nil), object{"nothing": 1})),
		post("duplicate field, strict", dry+"&fieldValidation=Strict", `{"apiVersion":"`+resource.apiVersion()+`","kind":"`+resource.kind+`","kind":"`+resource.kind+`","metadata":{"name":"a"}}`),
		post("unknown validation", collection+"?fieldValidation=Perhaps", bare("a", nil)),
		post("unknown dry run", collection+"?dryRun=Some", bare("a", nil)),
		post("spec of wrong type", dry, merge(bare("a", nil), object{"spec": "text"})),
		{what: "unsupported media type", method: "POST", path: dry, contentType: "text/plain", body: []byte("x")},
		{what: "yaml", method: "POST", path: dry, contentType: "application/yaml", body: []byte("apiVersion: " + resource.apiVersion() + "\nkind: " + resource.kind + "\nmetadata:\n  name: a\n")},
		{what: "create with a name in the path", method: "POST", path: collection + "/a", contentType: jsonType, body: encode(bare("a", nil))},
	}
	if content, err := os.ReadFile(filled); err == nil {
		var whole object
		if json.Unmarshal(content, &whole) == nil {
			whole["metadata"] = object{"name": "filled"}
			inYAML, err := yaml.Marshal(whole)
			if err != nil {
				panic(err)
			}
			steps = append(steps, post("every field filled", dry, whole), post("every field filled, strict", dry+"&fieldValidation=Strict", whole),
				step{what: "every field filled, in YAML", method: "POST", path: dry, contentType: "application/yaml", accept: "application/yaml", body: inYAML})
		}
	}
	return steps
}

func merge(one, other object) object {
	maps.Copy(one, other)
	return one
}

func deletes(collection string) []step {
	remove := func(what, query string, body any) step {
		return step{what: what, method: "DELETE", path: collection + "/no-such-object" + query, contentType: jsonType, body: encode(body)}
	}
	return []step{
		remove("missing", "", ""),
		remove("missing, dry run", "?dryRun=All", ""),
		remove("bad propagation", "", object{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Sideways"}),
		remove("bad propagation in the query", "?propagationPolicy=Sideways", ""),
		remove("orphans and propagation", "", object{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan", "orphanDependents": true}),
		remove("bad grace", "?gracePeriodSeconds=x", ""),
		remove("wrong type", "", object{"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": object{"uid": 7}}),
		remove("unknown dry run", "", object{"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": []string{"Some"}}),
		remove("no JSON", "", "{"),
		{what: "collection, none of it", method: "DELETE", path: collection + "?labelSelector=differ%3Dnone"},
		{what: "collection, bad selector", method: "DELETE", path: collection + "?labelSelector=a%3D%3D%3Db"},
	}
}

func patches(resource resource) []step {
	path := resource.collection() + "/no-such-object"
	patch := func(what, query, contentType string, body any) step {
		return step{what: what, method: "PATCH", path: path + query, contentType: contentType, body: encode(body)}
	}
	apply := object{"apiVersion": resource.apiVersion(), "kind": resource.kind, "metadata": object{"name": "no-such-object"}}
	return []step{
		patch("merge, missing", "", mergeType, object{"metadata": object{"labels": object{"a": "b"}}}),
		patch("strategic, missing", "", strategicType, object{"metadata": object{"labels": object{"a": "b"}}}),
		patch("json, missing", "", jsonPatchType, []any{object{"op": "remove", "path": "/metadata/labels"}}),
		patch("unsupported type", "", jsonType, object{}),
		patch("apply without manager", "", applyType, apply),
		patch("apply, bad yaml", "?fieldManager=differ", applyType, "a: [b"),
		patch("apply, other name", "?fieldManager=differ&dryRun=All", applyType, merge(maps.Clone(apply), object{"metadata": object{"name": "other"}})),
		patch("apply, dry run", "?fieldManager=differ&dryRun=All", applyType, apply),
		patch("apply, long manager", "?dryRun=All&fieldManager="+strings.Repeat("m", 130), applyType, apply),
		patch("force without apply", "?force=true", mergeType, object{}),
		patch("apply with managed fields", "?fieldManager=differ&dryRun=All", applyType, merge(maps.Clone(apply), object{"metadata": object{"name": "no-such-object", "managedFields": []any{object{"manager": "x"}}}})),
	}
}

func updates(resource resource) []step {
	path := resource.collection() + "/no-such-object"
	put := func(what, query string, body any) step {
		return step{what: what, method: "PUT", path: path + query, contentType: jsonType, body: encode(body)}
	}
	bare := func(name string, more object) object {
		return object{"apiVersion": resource.apiVersion(), "kind": resource.kind, "metadata": merge(object{"name": name}, more)}
	}
	return []step{
		put("missing", "?dryRun=All", bare("no-such-object", nil)),
		put("missing, with revision", "?dryRun=All", bare("no-such-object", object{"resourceVersion": "1"})),
		put("missing, with uid", "?dryRun=All", bare("no-such-object", object{"uid": "1"})),
		put("other name", "?dryRun=All", bare("other", nil)),
		put("no name", "?dryRun=All", object{"apiVersion": resource.apiVersion(), "kind": resource.kind}),
		put("no JSON", "?dryRun=All", "{"),
		put("other kind", "?dryRun=All", object{"apiVersion": "v1", "kind": "Nothing", "metadata": object{"name": "no-such-object"}}),
	}
}
