package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// moving are parts of texts that differ from server to server and from run to run.
var moving = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`10\.\d+\.\d+\.\d+`), "ADDRESS"},
	{regexp.MustCompile(`(resource version: ?|resourceVersion: |revision )\d+`), "${1}RV"},
	{regexp.MustCompile(`https://127\.0\.0\.1:\d+`), "SERVER"},
}

// hidden are members whose values are each server's own.
var hidden = map[string]string{
	"uid": "UID", "resourceVersion": "RV", "continue": "CONTINUE", "clusterIP": "ADDRESS", "clusterIPs": "ADDRESS",
	"nodePort": "PORT", "healthCheckNodePort": "PORT", "remainingItemCount": "COUNT",
}

func normalText(text string) string {
	for _, rule := range moving {
		text = rule.pattern.ReplaceAllString(text, rule.instead)
	}
	return text
}

func normal(value any) any {
	switch value := value.(type) {
	case map[string]any:
		generated, _ := value["generateName"].(string)
		for key, member := range value {
			if instead, ok := hidden[key]; ok && member != nil && member != "" && member != "0" && member != "None" {
				value[key] = instead
				continue
			}
			if key == "name" && generated != "" {
				value[key] = generated + "SUFFIX"
				continue
			}
			value[key] = normal(member)
		}
		return value
	case []any:
		for index, member := range value {
			value[index] = normal(member)
		}
		return value
	case string:
		return normalText(value)
	}
	return value
}

// normalBody is a body with its members sorted and its moving parts replaced; what is no JSON stays text.
func normalBody(body []byte) string {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var lines []string
	for decoder.More() {
		var value any
		if err := decoder.Decode(&value); err != nil {
			return normalText(string(body))
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", " ")
		if err := encoder.Encode(normal(value)); err != nil {
			return err.Error()
		}
		lines = append(lines, text.String())
	}
	return strings.Join(lines, "")
}

// compared are the headers a client acts on.
var compared = []string{"Content-Type", "Warning", "Location", "Retry-After", "Allow", "Cache-Control"}

// difference says how two answers differ; empty when they do not.
func difference(step step, a, b answer) string {
	if a.failed != nil || b.failed != nil {
		return fmt.Sprintf("%s %s\n  upstream: %v\n  ours:     %v", step.method, step.path, a.failed, b.failed)
	}
	var found []string
	if a.status != b.status {
		found = append(found, fmt.Sprintf("status: upstream %d, ours %d", a.status, b.status))
	}
	for _, name := range compared {
		if theirs, ours := header(a.header, name), header(b.header, name); theirs != ours {
			found = append(found, fmt.Sprintf("%s: upstream %q, ours %q", name, theirs, ours))
		}
	}
	if theirs, ours := normalBody(a.body), normalBody(b.body); theirs != ours {
		found = append(found, lineDifference(theirs, ours))
	}
	if len(found) == 0 {
		return ""
	}
	return fmt.Sprintf("%s %s\n%s", step.method, step.path, strings.Join(found, "\n"))
}

func header(headers http.Header, name string) string {
	return normalText(strings.Join(headers.Values(name), "; "))
}

const linesShown = 12

// lineDifference shows the lines that only one side has, by the longest common prefix and suffix.
func lineDifference(theirs, ours string) string {
	a, b := strings.Split(theirs, "\n"), strings.Split(ours, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var text strings.Builder
	for _, side := range []struct {
		sign  string
		lines []string
	}{{"upstream", a}, {"ours    ", b}} {
		for _, line := range side.lines[:min(linesShown, len(side.lines))] {
			fmt.Fprintf(&text, "  %s %s\n", side.sign, line)
		}
		if more := len(side.lines) - linesShown; more > 0 {
			fmt.Fprintf(&text, "  %s ... %d more\n", side.sign, more)
		}
	}
	return strings.TrimRight(text.String(), "\n")
}
