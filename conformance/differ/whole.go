package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// objects are valid objects as users write them, one of most kinds, separated by `---`.
//
//go:embed objects.yaml
var objects string

// wholeObjects makes two scripts of every object: a life of it, and what is said of it when one of its leaves is cut,
// emptied, of another type, or out of range.
func wholeObjects(resources []resource) ([]script, error) {
	var all []script
	for number, text := range strings.Split(objects, "\n---\n") {
		var whole object
		if err := yaml.UnmarshalStrict([]byte(text), &whole); err != nil {
			return nil, fmt.Errorf("objects.yaml, object %d: %w", number+1, err)
		}
		index := slices.IndexFunc(resources, func(found resource) bool {
			return found.kind == whole["kind"] && found.apiVersion() == whole["apiVersion"] && found.can("create")
		})
		if index < 0 {
			return nil, fmt.Errorf("objects.yaml, object %d: %v %v is not served", number+1, whole["apiVersion"], whole["kind"])
		}
		resource := resources[index]
		name := resource.String() + " " + whole["metadata"].(object)["name"].(string)
		all = append(all, script{area: "lives", name: name + " life", steps: life(resource, whole)})
		all = append(all, script{area: packedLives, name: name + " life", steps: inProtobuf(life(resource, renamed(whole)))})
		for _, mutated := range mutations(whole) {
			all = append(all, script{area: "leaves", name: name + " leaf", steps: []step{
				post(mutated.what, resource.collection()+"?dryRun=All", mutated.object),
			}})
		}
	}
	return all, nil
}

// setUp makes the namespace of the scripts, with the account that pods need.
func setUp() script {
	account := object{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": object{"name": "default"}}
	space := object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}}
	return script{area: "lives", name: "namespace", steps: []step{
		post("create", "/api/v1/namespaces", space),
		post("create again", "/api/v1/namespaces", space),
		post("account", "/api/v1/namespaces/"+namespace+"/serviceaccounts", account),
	}}
}

// settledBy is what the server itself says of a new object a while later, by its kind.
var settledBy = map[string]string{
	"CustomResourceDefinition": `"type":"Established","status":"True"`,
	"FlowSchema":               `"type":"Dangling"`,
	"APIService":               `"type":"Available"`,
}

// life takes an object through creation, reads, writes of every kind and deletion.
func life(resource resource, whole object) []step {
	collection := resource.collection()
	name := whole["metadata"].(object)["name"].(string)
	path := collection + "/" + name
	put := func(what, query string, body any) step {
		return step{what: what, method: "PUT", path: path + query, contentType: jsonType, body: encode(body)}
	}
	patch := func(what, query, contentType string, body any) step {
		return step{what: what, method: "PATCH", path: path + query, contentType: contentType, body: encode(body)}
	}
	labels := func(value any) object { return object{"metadata": object{"labels": object{"step": value}}} }
	settled := get("get", path)
	if said := settledBy[resource.kind]; said != "" {
		settled.until = regexp.MustCompile(said)
	}
	// A status that was taken away is said again.
	settledAgain := settled
	settledAgain.what = "get after status"
	minimal := object{"apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": object{"name": name, "labels": object{"applied": "yes"}}}
	return []step{
		post("create, dry run", collection+"?dryRun=All", whole),
		post("create", collection, whole),
		post("create again", collection, whole),
		settled,
		{what: "get as table", method: "GET", path: path, accept: tableType},
		{what: "list as table", method: "GET", path: collection + "?fieldSelector=metadata.name%3D" + name, accept: tableType},
		{what: "list as table with objects", method: "GET", path: collection + "?includeObject=Object&fieldSelector=metadata.name%3D" + name, accept: tableType},
		{what: "partial metadata", method: "GET", path: path, accept: "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"},
		get("list", collection+"?fieldSelector=metadata.name%3D"+name),
		get("status", path+"/status"),
		get("scale", path+"/scale"),
		put("update", "", whole),
		put("update, stale revision", "", withMetadata(whole, "resourceVersion", "1")),
		put("update, wrong uid", "", withMetadata(whole, "uid", "6c84fb90-12c4-11e1-840d-7b25c5ee775a")),
		put("update, other name", "", withMetadata(whole, "name", "another")),
		put("status, update", "/status", whole),
		settledAgain,
		patch("merge patch", "", mergeType, labels("merge")),
		patch("merge patch, nothing", "", mergeType, object{}),
		patch("merge patch, bad label", "", mergeType, labels("b@d")),
		patch("merge patch, unknown field, strict", "?fieldValidation=Strict", mergeType, object{"nothing": 1}),
		patch("merge patch, unknown field", "", mergeType, object{"nothing": 1}),
		patch("merge patch, kind", "", mergeType, object{"kind": "Other"}),
		patch("merge patch, name", "", mergeType, object{"metadata": object{"name": "another"}}),
		patch("strategic patch", "", strategicType, labels("strategic")),
		patch("strategic patch, removal", "", strategicType, labels(nil)),
		patch("strategic patch, unknown directive", "", strategicType, object{"metadata": object{"$patch": "sideways"}}),
		patch("json patch", "", jsonPatchType, []any{object{"op": "add", "path": "/metadata/annotations", "value": object{"step": "json"}}}),
		patch("json patch, test fails", "", jsonPatchType, []any{object{"op": "test", "path": "/metadata/name", "value": "another"}}),
		patch("json patch, no such path", "", jsonPatchType, []any{object{"op": "remove", "path": "/nothing/at/all"}}),
		patch("json patch, no such operation", "", jsonPatchType, []any{object{"op": "turn", "path": "/metadata"}}),
		patch("json patch, no array", "", jsonPatchType, object{}),
		patch("apply", "?fieldManager=first", applyType, minimal),
		patch("apply, same again", "?fieldManager=first", applyType, minimal),
		patch("apply, conflict", "?fieldManager=second", applyType, withMetadata(minimal, "labels", object{"applied": "no"})),
		patch("apply, forced", "?fieldManager=second&force=true", applyType, withMetadata(minimal, "labels", object{"applied": "no"})),
		patch("apply, removal", "?fieldManager=second", applyType, object{"apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": object{"name": name}}),
		patch("apply whole, forced", "?fieldManager=whole&force=true", applyType, whole),
		patch("merge patch, dry run", "?dryRun=All", mergeType, labels("dry")),
		get("get after all", path),
		{what: "delete, wrong uid", method: "DELETE", path: path, contentType: jsonType, body: encode(object{"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": object{"uid": "6c84fb90-12c4-11e1-840d-7b25c5ee775a"}})},
		{what: "delete, dry run", method: "DELETE", path: path + "?dryRun=All"},
		{what: "delete", method: "DELETE", path: path + "?gracePeriodSeconds=0"},
		{what: "get deleted", method: "GET", path: path, until: regexp.MustCompile(`"NotFound"`)},
		{what: "delete again", method: "DELETE", path: path},
	}
}

func withMetadata(whole object, key string, value any) object {
	copied := maps.Clone(whole)
	metadata := maps.Clone(whole["metadata"].(object))
	metadata[key] = value
	copied["metadata"] = metadata
	return copied
}

type mutation struct {
	what   string
	object object
}

// mutations are copies of an object with one leaf changed each.
func mutations(whole object) []mutation {
	var all []mutation
	var walk func(at []any, value any)
	walk = func(at []any, value any) {
		switch value := value.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(value)) {
				walk(append(slices.Clone(at), key), value[key])
			}
		case []any:
			for index, member := range value {
				walk(append(slices.Clone(at), index), member)
			}
		}
		if len(at) == 0 {
			return
		}
		place := strings.Trim(strings.ReplaceAll(fmt.Sprint(at), " ", "."), "[]")
		for _, change := range changes(value) {
			copied := deepCopy(whole)
			change.apply(copied, at)
			all = append(all, mutation{place + " " + change.what, copied})
		}
	}
	walk(nil, whole)
	return all
}

type change struct {
	what  string
	value any
	cut   bool
}

// changes that make sense for a value, by its type.
func changes(value any) []change {
	all := []change{{what: "cut", cut: true}, {what: "null", value: nil}}
	switch value.(type) {
	case string:
		return append(all, change{what: "empty", value: ""}, change{what: "number", value: 7},
			change{what: "strange", value: "Not_Valid!"}, change{what: "long", value: strings.Repeat("x", 300)})
	case float64:
		return append(all, change{what: "negative", value: -1}, change{what: "zero", value: 0}, change{what: "huge", value: 1 << 40},
			change{what: "text", value: "seven"}, change{what: "fraction", value: 1.5})
	case bool:
		return append(all, change{what: "text", value: "true"})
	case []any:
		return append(all, change{what: "empty", value: []any{}}, change{what: "object", value: object{}})
	default:
		return append(all, change{what: "empty", value: object{}}, change{what: "text", value: "text"}, change{what: "list", value: []any{}})
	}
}

func (change change) apply(whole object, at []any) {
	var holder any = whole
	for _, part := range at[:len(at)-1] {
		switch part := part.(type) {
		case string:
			holder = holder.(object)[part]
		case int:
			holder = holder.([]any)[part]
		}
	}
	switch last := at[len(at)-1].(type) {
	case string:
		if change.cut {
			delete(holder.(object), last)
		} else {
			holder.(object)[last] = change.value
		}
	case int:
		// A list keeps its length: a member that is cut is null.
		holder.([]any)[last] = change.value
	}
}

func deepCopy(whole object) object {
	var copied object
	if err := json.Unmarshal(encode(whole), &copied); err != nil {
		panic(err)
	}
	return copied
}
