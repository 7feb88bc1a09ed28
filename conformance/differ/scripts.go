package main

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// scriptFiles are requests as text, for what no rule generates. A file is a head and steps, each up to the next `== `:
//
//	area NAME                 what the file's requests are counted under
//	protobuf                  asks for protobuf, and sends it where the body's kind has that form
//	let NAME = TEXT           what ${NAME} stands for; without TEXT, the indented lines that follow
//
//	== what it shows
//	each NAME                 the step is repeated for every TEXT, one an indented line
//	as USER                   who asks; without it, an administrator
//	until REGEXP              awaited in the answer, for what comes about a while later
//	METHOD PATH               or: kubectl ARGUMENTS, as a shell reads them
//	Content-Type: TYPE        application/json without it; Accept likewise
//
//	the body, as it is sent, or what kubectl reads
//	-- METHOD PATH            likewise with headers and body: sent once the step's own answer has begun
//
//go:embed scripts
var scriptFiles embed.FS

// writtenScripts reads all of them.
func writtenScripts() ([]script, error) {
	files, err := fs.Glob(scriptFiles, "scripts/*.txt")
	if err != nil {
		return nil, err
	}
	var all []script
	for _, file := range files {
		content, err := scriptFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		one, err := parseScript(strings.TrimSuffix(path.Base(file), ".txt"), string(content))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, one)
	}
	return all, nil
}

func parseScript(name, text string) (script, error) {
	head, rest, _ := strings.Cut(text, "\n== ")
	all := script{name: name}
	values := map[string]string{}
	packed := false
	for lines := newLines(head); lines.more(); {
		line := lines.next()
		word, argument, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case word == "area":
			all.area = argument
		case line == "protobuf":
			packed = true
		case word == "let":
			name, value, ok := strings.Cut(argument, " = ")
			if !ok {
				name, value = strings.TrimSuffix(argument, " ="), strings.Join(lines.indented(), "\n")
			}
			values[name] = value
		default:
			return script{}, fmt.Errorf("%q is not of a script's head", line)
		}
	}
	for block := range strings.SplitSeq(rest, "\n== ") {
		steps, err := parseSteps(block, values)
		if err != nil {
			what, _, _ := strings.Cut(block, "\n")
			return script{}, fmt.Errorf("%s: %w", what, err)
		}
		all.steps = append(all.steps, steps...)
	}
	if packed {
		all.steps = inProtobuf(all.steps)
	}
	return all, nil
}

// parseSteps reads one step, or the several that it stands for.
func parseSteps(block string, values map[string]string) ([]step, error) {
	before, rest, found := strings.Cut(block, "\neach ")
	if !found {
		text, err := expand(block, values)
		if err != nil {
			return nil, err
		}
		one, err := parseStep(text)
		return []step{one}, err
	}
	lines := newLines(rest)
	name := lines.next()
	texts := lines.indented()
	var all []step
	for _, text := range texts {
		values := with(values, name, text)
		steps, err := parseSteps(before+"\n"+lines.rest(), values)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		all = append(all, steps...)
	}
	return all, nil
}

func parseStep(text string) (step, error) {
	text, others, _ := strings.Cut(text, "\n-- ")
	lines := newLines(text)
	what := lines.next()
	one := step{}
	for {
		word, argument, _ := strings.Cut(lines.peek(), " ")
		if word == "as" {
			one.user = argument
		} else if word == "until" {
			until, err := regexp.Compile(argument)
			if err != nil {
				return step{}, err
			}
			one.until = until
		} else {
			break
		}
		lines.next()
	}
	if err := one.parseRequest(lines); err != nil {
		return step{}, err
	}
	one.what = what
	if others == "" {
		return one, nil
	}
	for other := range strings.SplitSeq(others, "\n-- ") {
		meanwhile := step{}
		if err := meanwhile.parseRequest(newLines(other)); err != nil {
			return step{}, err
		}
		one.meanwhile = append(one.meanwhile, meanwhile)
	}
	return one, nil
}

// methods are those that a script may use.
var methods = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)$`)

func (step *step) parseRequest(lines *lines) error {
	line := lines.next()
	if arguments, ok := strings.CutPrefix(line, "kubectl "); ok {
		step.kubectl = arguments
	} else {
		step.method, step.path, _ = strings.Cut(line, " ")
		if !methods.MatchString(step.method) || !strings.HasPrefix(step.path, "/") {
			return fmt.Errorf("%q is no request", line)
		}
	}
	for lines.more() {
		line := lines.next()
		if line == "" {
			break
		}
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "Content-Type":
			step.contentType = value
		case "Accept":
			step.accept = value
		default:
			return fmt.Errorf("%q is no header that a script sets", line)
		}
	}
	step.body = []byte(strings.TrimRight(lines.rest(), "\n"))
	if len(step.body) > 0 && step.contentType == "" {
		step.contentType = jsonType
	}
	return nil
}

// names are what stands for something else.
var names = regexp.MustCompile(`\$\{\w+\}`)

// depth bounds names that stand for texts with names.
const depth = 5

// expand puts in what the names stand for.
func expand(text string, values map[string]string) (string, error) {
	for range depth {
		text = names.ReplaceAllStringFunc(text, func(name string) string {
			if value, ok := values[name[2:len(name)-1]]; ok {
				return value
			}
			return name
		})
	}
	if left := names.FindString(text); left != "" {
		return "", fmt.Errorf("%s stands for nothing", left)
	}
	return text, nil
}

func with(values map[string]string, name, value string) map[string]string {
	more := map[string]string{name: value}
	for other, value := range values {
		if other != name {
			more[other] = value
		}
	}
	return more
}

// lines reads a text line by line.
type lines struct{ left []string }

func newLines(text string) *lines { return &lines{strings.Split(text, "\n")} }

func (lines *lines) more() bool { return len(lines.left) > 0 }

func (lines *lines) peek() string {
	if !lines.more() {
		return ""
	}
	return lines.left[0]
}

func (lines *lines) next() string {
	line := lines.peek()
	if lines.more() {
		lines.left = lines.left[1:]
	}
	return line
}

// indented takes the lines that are indented by two, and the empty ones between them.
func (lines *lines) indented() []string {
	var all []string
	for lines.more() && (lines.peek() == "" || strings.HasPrefix(lines.peek(), "  ")) {
		all = append(all, strings.TrimPrefix(lines.next(), "  "))
	}
	for len(all) > 0 && all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

func (lines *lines) rest() string { return strings.Join(lines.left, "\n") }
