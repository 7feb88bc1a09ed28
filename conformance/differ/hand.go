package main

import (
	"fmt"
	"regexp"
)

// byHand are the scripts that no rule generates: who may do what, kinds that users make, and watches.
func byHand() []script {
	all := []script{denials()}
	all = append(all, customResources()...)
	return append(all, watches())
}

const (
	strategicType = "application/strategic-merge-patch+json"
	jsonPatchType = "application/json-patch+json"
	applyType     = "application/apply-patch+yaml"
	tableType     = "application/json;as=Table;v=v1;g=meta.k8s.io"
)

func remove(what, path string) step { return step{what: what, method: "DELETE", path: path} }

func put(what, path string, body any) step {
	return step{what: what, method: "PUT", path: path, contentType: jsonType, body: encode(body)}
}

func patch(what, path, contentType string, body any) step {
	return step{what: what, method: "PATCH", path: path, contentType: contentType, body: encode(body)}
}

// as is a step of somebody who is no administrator.
func as(user string, step step) step {
	step.user = user
	return step
}

func denials() script {
	const core = "/api/v1/namespaces/" + namespace
	const rbac = "/apis/rbac.authorization.k8s.io/v1"
	const inNamespace = rbac + "/namespaces/" + namespace
	rule := func(groups, resources, verbs string) object {
		return object{"apiGroups": []string{groups}, "resources": []string{resources}, "verbs": []string{verbs}}
	}
	role := func(kind, name string, rules ...object) object {
		return object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": object{"name": name}, "rules": rules}
	}
	binding := object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": object{"name": "reader"},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
		"subjects": []object{{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}},
	}
	settings := object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "denied"}}
	access := func(verb, resource string) object {
		return object{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
			"spec": object{"resourceAttributes": object{"namespace": namespace, "verb": verb, "resource": resource}},
		}
	}
	const reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	return script{area: "by hand: RBAC", name: "rbac", steps: []step{
		as("alice", get("nobody reads", core+"/configmaps/denied")),
		as("alice", get("nobody lists", core+"/configmaps")),
		as("alice", get("nobody lists everywhere", "/api/v1/configmaps")),
		as("alice", post("nobody writes", core+"/configmaps", settings)),
		as("alice", get("nobody reads nodes", "/api/v1/nodes/any")),
		as("alice", get("discovery is for all", "/apis/apps/v1")),
		as("alice", get("a path for nobody", "/metrics")),
		as("alice", get("a subresource", core+"/pods/any/log")),
		post("role", inNamespace+"/roles", role("Role", "reader", rule("", "configmaps", "get"))),
		post("binding", inNamespace+"/rolebindings", binding),
		as("alice", step{what: "may read", method: "GET", path: core + "/configmaps/denied", until: regexp.MustCompile("NotFound")}),
		as("alice", get("may not list", core+"/configmaps")),
		as("alice", remove("may not delete", core+"/configmaps/denied")),
		as("alice", patch("may not patch", core+"/configmaps/denied", mergeType, object{})),
		as("alice", patch("may not apply", core+"/configmaps/denied?fieldManager=a", applyType, settings)),
		as("alice", get("may not read the neighbour", "/api/v1/namespaces/default/configmaps/denied")),
		as("alice", post("may ask: yes", reviews, access("get", "configmaps"))),
		as("alice", post("may ask: no", reviews, access("list", "secrets"))),
		as("alice", post("may not give away", inNamespace+"/roles", role("Role", "more", rule("", "secrets", "get")))),
		post("may make roles", rbac+"/clusterroles", role("ClusterRole", "differ-roles", rule("rbac.authorization.k8s.io", "*", "*"))),
		post("binding of it", inNamespace+"/rolebindings", object{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": object{"name": "roles"},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "differ-roles"},
			"subjects": []object{{"kind": "Group", "name": "makers", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}},
		}),
		as("bob", step{what: "reads roles", method: "GET", path: inNamespace + "/roles/reader", until: regexp.MustCompile(`"Role"`)}),
		as("bob", post("escalation", inNamespace+"/roles", role("Role", "more", rule("", "secrets", "get")))),
		as("bob", post("bind of what one has not", inNamespace+"/rolebindings", object{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": object{"name": "admin"},
			"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
			"subjects": []object{{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}},
		})),
		remove("role goes", inNamespace+"/roles/reader"),
		remove("binding goes", inNamespace+"/rolebindings/reader"),
		remove("other binding goes", inNamespace+"/rolebindings/roles"),
		remove("cluster role goes", rbac+"/clusterroles/differ-roles"),
	}}
}

// ship is a definition of a kind with two versions, a rule and a default.
func ship(group string, rule string) object {
	version := func(name string, stored bool) object {
		return object{
			"name": name, "served": true, "storage": stored,
			"subresources": object{"status": object{}, "scale": object{"specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.crew"}},
			"schema": object{"openAPIV3Schema": object{"type": "object", "properties": object{
				"spec": object{
					"type": "object", "required": []string{"crew"},
					"properties": object{
						"crew":  object{"type": "integer", "minimum": 1, "maximum": 100},
						"flag":  object{"type": "string", "default": "white", "enum": []string{"white", "black"}},
						"name":  object{"type": "string", "pattern": "^[a-z]+$", "maxLength": 10},
						"cargo": object{"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": []string{"what"}, "items": object{"type": "object", "required": []string{"what"}, "properties": object{"what": object{"type": "string"}, "tons": object{"type": "integer"}}}},
						"any":   object{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
					},
					"x-kubernetes-validations": []object{{"rule": rule, "message": "a big ship has a name"}, {"rule": "self.crew >= oldSelf.crew", "message": "nobody leaves"}},
				},
				"status": object{"type": "object", "properties": object{"crew": object{"type": "integer"}}},
			}}},
		}
	}
	return object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": object{"name": "ships." + group},
		"spec": object{
			"group": group, "scope": "Namespaced", "names": object{"plural": "ships", "singular": "ship", "kind": "Ship"},
			"versions": []object{version("v1", true), version("v1beta1", false)},
		},
	}
}

func customResources() []script {
	const group = "hand.differ.example.com"
	const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	const base = "/apis/" + group
	const ships = base + "/v1/namespaces/" + namespace + "/ships"
	definition := ship(group, "self.crew < 50 || has(self.name)")
	one := func(name string, spec object) object {
		return object{"apiVersion": group + "/v1", "kind": "Ship", "metadata": object{"name": name}, "spec": spec}
	}
	good := object{"crew": 10, "cargo": []object{{"what": "tea", "tons": 5}, {"what": "rum"}}, "any": object{"a": []int{1}}}
	served := regexp.MustCompile(`"ShipList"`)
	steps := []step{
		post("definition", definitions, definition),
		{what: "empty list", method: "GET", path: ships, until: served},
		get("group", base), get("version", base+"/v1"), get("other version", base+"/v1beta1"),
		post("good", ships, one("good", good)),
		post("again", ships, one("good", good)),
	}
	for number, spec := range []object{
		{}, {"crew": 0}, {"crew": 101}, {"crew": "many"}, {"crew": 1.5}, {"crew": nil}, {"crew": 60}, {"crew": 60, "name": "victory"},
		{"crew": 1, "name": "Not_Valid!"}, {"crew": 1, "name": "muchtoolonganame"}, {"crew": 1, "flag": "red"}, {"crew": 1, "flag": nil},
		{"crew": 1, "unknown": 1}, {"crew": 1, "cargo": []object{{"what": "a"}, {"what": "a"}}}, {"crew": 1, "cargo": []object{{"tons": 1}}},
		{"crew": 1, "cargo": object{}}, {"crew": 1, "any": "text"},
	} {
		steps = append(steps, post(fmt.Sprintf("spec %d", number), ships+"?dryRun=All", one("a", spec)),
			post(fmt.Sprintf("spec %d, strict", number), ships+"?dryRun=All&fieldValidation=Strict", one("a", spec)))
	}
	path := ships + "/good"
	steps = append(steps,
		post("bad name", ships+"?dryRun=All", one("Bad_Name", good)),
		post("generated name", ships+"?dryRun=All", object{"apiVersion": group + "/v1", "kind": "Ship", "metadata": object{"generateName": "x-"}, "spec": good}),
		post("other version's body", ships+"?dryRun=All", object{"apiVersion": group + "/v1beta1", "kind": "Ship", "metadata": object{"name": "a"}, "spec": good}),
		get("get", path),
		get("get in the other version", base+"/v1beta1/namespaces/"+namespace+"/ships/good"),
		step{what: "table", method: "GET", path: path, accept: tableType},
		step{what: "partial metadata", method: "GET", path: path, accept: "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"},
		step{what: "yaml", method: "GET", path: path, accept: "application/yaml"},
		get("list", ships), get("list of all", base+"/v1/ships"), get("list with a limit", ships+"?limit=1"),
		get("unknown field selector", ships+"?fieldSelector=spec.crew%3D1"),
		get("scale", path+"/scale"),
		patch("scale up", path+"/scale", mergeType, object{"spec": object{"replicas": 12}}),
		patch("scale out of range", path+"/scale", mergeType, object{"spec": object{"replicas": 1000}}),
		patch("status", path+"/status", mergeType, object{"status": object{"crew": 11}, "spec": object{"crew": 99}}),
		patch("merge", path, mergeType, object{"spec": object{"crew": 13}}),
		patch("merge, transition rule", path, mergeType, object{"spec": object{"crew": 1}}),
		patch("merge, unknown", path, mergeType, object{"spec": object{"nothing": 1}}),
		patch("merge, unknown, strict", path+"?fieldValidation=Strict", mergeType, object{"spec": object{"nothing": 1}}),
		patch("strategic", path, strategicType, object{"spec": object{"crew": 14}}),
		patch("json", path, jsonPatchType, []object{{"op": "replace", "path": "/spec/crew", "value": 14}}),
		patch("apply", path+"?fieldManager=first", applyType, one("good", object{"crew": 14, "cargo": []object{{"what": "gold", "tons": 1}}})),
		patch("apply, conflict", path+"?fieldManager=second", applyType, one("good", object{"crew": 15})),
		patch("apply, forced", path+"?fieldManager=second&force=true", applyType, one("good", object{"crew": 15})),
		patch("apply, removal", path+"?fieldManager=first", applyType, one("good", object{"crew": 15})),
		put("update without revision", path, one("good", object{"crew": 20})),
		put("update, stale", path, withMetadata(one("good", object{"crew": 20}), "resourceVersion", "1")),
		remove("delete", path),
		get("deleted", path),
		remove("definition goes", definitions+"/ships."+group),
	)
	broken := script{area: "by hand: CRD", name: "crd refused", steps: []step{
		post("rule that is none", definitions+"?dryRun=All", ship("b.example.com", "self.crew <")),
		post("rule of no flag", definitions+"?dryRun=All", ship("b.example.com", "self.crew")),
		post("rule about what is not there", definitions+"?dryRun=All", ship("b.example.com", "self.nothing > 1")),
	}}
	return []script{{area: "by hand: CRD", name: "crd", steps: steps}, broken}
}

func watches() script {
	const maps = "/api/v1/namespaces/" + namespace + "/configmaps"
	settings := func(name, value string) object {
		return object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": name, "labels": object{"watched": value}}, "data": object{"a": value}}
	}
	// What happens while a watch runs: an object comes, changes, leaves the selection, comes back, and goes.
	life := func(name string) []step {
		return []step{
			post("", maps, settings(name, "yes")),
			patch("", maps+"/"+name, mergeType, object{"data": object{"b": "c"}}),
			patch("", maps+"/"+name, mergeType, object{"metadata": object{"labels": object{"watched": "no"}}}),
			patch("", maps+"/"+name, mergeType, object{"metadata": object{"labels": object{"watched": "yes"}}}),
			remove("", maps+"/"+name),
		}
	}
	// Long enough for all of it on a busy machine.
	watch := func(what, name, query, accept string) step {
		return step{what: what, method: "GET", path: maps + "?watch=1&timeoutSeconds=6&" + query, accept: accept, meanwhile: life(name)}
	}
	return script{area: "by hand: watches", name: "watch", steps: []step{
		post("an object", maps, settings("still", "still")),
		get("initial state", maps+"?watch=1&timeoutSeconds=1&labelSelector=watched%3Dstill"),
		get("initial state, any revision", maps+"?watch=1&timeoutSeconds=1&resourceVersion=0&labelSelector=watched%3Dstill"),
		get("streamed list", maps+"?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=watched%3Dstill"),
		get("streamed list without bookmarks", maps+"?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&labelSelector=watched%3Dstill"),
		get("by field", maps+"?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dstill"),
		get("by path", "/api/v1/watch/namespaces/"+namespace+"/configmaps/still?timeoutSeconds=1"),
		{what: "as tables", method: "GET", path: maps + "?watch=1&timeoutSeconds=1&labelSelector=watched%3Dstill", accept: tableType},
		{what: "as metadata", method: "GET", path: maps + "?watch=1&timeoutSeconds=1&labelSelector=watched%3Dstill", accept: "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"},
		{what: "as yaml", method: "GET", path: maps + "?watch=1&timeoutSeconds=1&labelSelector=watched%3Dstill", accept: "application/yaml"},
		watch("a life by name", "one", "fieldSelector=metadata.name%3Done", ""),
		watch("a life by label", "two", "labelSelector=watched%3Dyes", ""),
		watch("a life as tables", "three", "labelSelector=watched%3Dyes", tableType),
		watch("a life as metadata", "four", "labelSelector=watched%3Dyes", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
		remove("the object goes", maps+"/still"),
	}}
}
