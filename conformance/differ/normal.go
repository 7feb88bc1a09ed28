package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

type replacement struct {
	pattern *regexp.Regexp
	instead string
}

// moving are parts of texts that differ from server to server and from run to run.
var moving = []replacement{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`10\.\d+\.\d+\.\d+`), "ADDRESS"},
	{regexp.MustCompile(`((?:resource version|resourceVersion\W*|current|revision):? ?"?)\d+`), "${1}RV"},
	{regexp.MustCompile(`([nN]odePort\W+)\d+`), "${1}PORT"},
	// The file that makes the scheme, as the build calls it.
	{regexp.MustCompile(`scheme \\?"[\w./]+:\d+\\?"`), "SCHEME"},
	{regexp.MustCompile(`\?hash=[0-9A-F]+`), "?hash=HASH"},
	{regexp.MustCompile(`https://127\.0\.0\.1:\d+`), "SERVER"},
	{regexp.MustCompile(`\bkube-api-access-[a-z0-9]{5}\b`), "kube-api-access-SUFFIX"},
	{regexp.MustCompile(`\b(\d+):3[0-2]\d{3}/`), "$1:PORT/"},
}

// hidden are members whose values are each server's own.
var hidden = map[string]string{
	"uid": "UID", "resourceVersion": "RV", "continue": "CONTINUE", "clusterIP": "ADDRESS", "clusterIPs": "ADDRESS",
	"nodePort": "PORT", "healthCheckNodePort": "PORT", "remainingItemCount": "COUNT", "serverAddress": "SERVER",
}

// unordered are lists whose order is chance: what comes out of a map upstream, or hangs on the second of a write.
var unordered = map[string]bool{
	"causes": true, "managedFields": true, "resourceRules": true, "nonResourceRules": true,
}

// printed are those of what kubectl prints: dates, ages, and the columns that they widen.
var printed = []replacement{
	{regexp.MustCompile(`\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`), "TIME"},
	{regexp.MustCompile(`(?m)(^| )(?:\d+(?:ms|s|m\d+s|m)|<unknown>)( ago\b|\)|  |$)`), "${1}AGE$2"},
	{regexp.MustCompile(` {2,}`), "  "},
}

func normalText(text string) string { return replace(text, moving) }

func replace(text string, rules []replacement) string {
	for _, rule := range rules {
		text = rule.pattern.ReplaceAllString(text, rule.instead)
	}
	return text
}

func normal(value any) any {
	switch value := value.(type) {
	case map[string]any:
		generated, _ := value["generateName"].(string)
		for key, member := range value {
			_, described := member.(map[string]any)
			if instead, ok := hidden[key]; ok && !described && member != nil && member != "" && member != "0" && member != "None" {
				value[key] = instead
				continue
			}
			if key == "name" && generated != "" {
				value[key] = generated + "SUFFIX"
				continue
			}
			value[key] = normal(member)
			if list, ok := value[key].([]any); ok && (unordered[key] || value["kind"] == "ComponentStatusList") {
				slices.SortFunc(list, func(a, b any) int { return cmp.Compare(string(encode(a)), string(encode(b))) })
			}
		}
		if message, ok := value["message"].(string); ok && value["kind"] == "Status" {
			value["message"] = normalMessage(message)
		}
		if value["openapi"] != nil || value["swagger"] != nil {
			return withoutProse(value)
		}
		return value
	case []any:
		for index, member := range value {
			value[index] = normal(member)
		}
		return value
	case string:
		if age.MatchString(value) {
			return "AGE"
		}
		return normalText(normalInner(value))
	}
	return value
}

// normalInner makes the JSON objects within a text equal, quoted or not, as those of a body are.
func normalInner(text string) string {
	var whole strings.Builder
	for {
		start := strings.IndexByte(text, '{')
		if start < 0 {
			whole.WriteString(text)
			return whole.String()
		}
		quoted := ""
		if start > 0 && text[start-1] == '"' {
			quoted, _ = strconv.QuotedPrefix(text[start-1:])
		}
		if inner, err := strconv.Unquote(quoted); err == nil {
			if equal, length := normalPrefix(inner); length == len(inner) {
				whole.WriteString(text[:start-1] + strconv.Quote(equal))
				text = text[start-1+len(quoted):]
				continue
			}
		}
		equal, length := normalPrefix(text[start:])
		if length == 0 {
			equal, length = text[start:start+1], 1
		}
		whole.WriteString(text[:start] + equal)
		text = text[start+length:]
	}
}

// normalPrefix is the object that a text begins with, made equal, and its length in bytes; 0 if it begins with none.
func normalPrefix(text string) (string, int) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value map[string]any
	if decoder.Decode(&value) != nil {
		return "", 0
	}
	return string(encode(normal(value))), int(decoder.InputOffset())
}

// age is a cell of a table that tells how long ago something was.
var age = regexp.MustCompile(`^\d+s$`)

var several = regexp.MustCompile(`(?s)^([^\[]*\[)(.*)\]$`)

// normalMessage sorts the failures that a message joins: theirs is the order of the causes.
func normalMessage(message string) string {
	found := several.FindStringSubmatch(message)
	if found == nil {
		return message
	}
	parts := strings.Split(found[2], ", ")
	slices.Sort(parts)
	return found[1] + strings.Join(parts, ", ") + "]"
}

// normalBody is a body with its members sorted and its moving parts replaced; what is no JSON stays text.
func normalBody(contentType string, body []byte) string {
	if strings.HasPrefix(contentType, "application/yaml") {
		if converted, err := yaml.YAMLToJSON(body); err == nil {
			body = converted
		}
	}
	if strings.HasPrefix(contentType, protobufType) {
		body = unpack(contentType, body)
	}
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
var compared = []string{"Content-Type", "Warning", "Location", "Retry-After", "Allow", "Cache-Control", standardError}

// normalAnswer is an answer without what moves.
type normalAnswer struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body"`
	Failed  string            `json:"failed,omitempty"`
}

func normalize(answered answer) normalAnswer {
	if answered.failed != nil {
		return normalAnswer{Failed: normalText(answered.failed.Error())}
	}
	normalized := normalAnswer{
		Status: answered.status, Headers: map[string]string{},
		Body: normalBody(answered.header.Get("Content-Type"), answered.body),
	}
	if _, printing := answered.header[standardError]; printing {
		normalized.Body = replace(normalized.Body, printed)
	}
	for _, name := range compared {
		if values := header(answered.header, name); values != "" {
			normalized.Headers[name] = values
		}
	}
	return normalized
}

func header(headers http.Header, name string) string {
	values := slices.Sorted(slices.Values(headers.Values(name)))
	return normalText(strings.Join(values, "; "))
}
