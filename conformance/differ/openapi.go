package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// openAPIScript asks for every document of the published OpenAPI that the reference has.
func openAPIScript(reference *server) (script, error) {
	steps := []step{get("v2", "/openapi/v2"), get("index", "/openapi/v3"), get("no such document", "/openapi/v3/apis/none/v1")}
	answered := reference.send(step{method: "GET", path: "/openapi/v3"})
	if answered.failed != nil {
		return script{}, answered.failed
	}
	var index struct{ Paths map[string]json.RawMessage }
	if err := json.Unmarshal(answered.body, &index); err != nil {
		return script{}, fmt.Errorf("/openapi/v3: %w", err)
	}
	for _, path := range slices.Sorted(maps.Keys(index.Paths)) {
		steps = append(steps, get(path, "/openapi/v3/"+path))
	}
	return script{area: "openapi", name: "openapi", steps: steps}, nil
}

// withoutProse leaves out of an OpenAPI document what only people read.
func withoutProse(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			if _, words := member.(string); words && name == "description" {
				delete(value, name)
				continue
			}
			value[name] = withoutProse(member)
		}
	case []any:
		for index, member := range value {
			value[index] = withoutProse(member)
		}
	}
	return value
}
