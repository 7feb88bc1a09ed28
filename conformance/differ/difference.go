package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// part is one place in which two answers differ. A side that has nothing there is empty.
type part struct {
	place          string
	upstream, ours string
}

func (part part) String() string {
	return fmt.Sprintf("%s: upstream %s, ours %s", part.place, orNothing(part.upstream), orNothing(part.ours))
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// differences says where upstream's answer and ours differ; none when they agree.
func (upstream normalAnswer) differences(ours normalAnswer) []part {
	if upstream.Failed != "" || ours.Failed != "" {
		// A request that no answer came to is never as it should be, on whichever side.
		return []part{{"failed", upstream.Failed, ours.Failed}}
	}
	var parts []part
	if upstream.Status != ours.Status {
		parts = append(parts, part{"status", fmt.Sprint(upstream.Status), fmt.Sprint(ours.Status)})
	}
	for _, name := range compared {
		if theirs, ours := upstream.Headers[name], ours.Headers[name]; theirs != ours {
			parts = append(parts, part{name, theirs, ours})
		}
	}
	if upstream.Body == ours.Body {
		return parts
	}
	theirs, ok := documents(upstream.Body)
	own, alsoOK := documents(ours.Body)
	switch {
	case !ok || !alsoOK:
		return append(parts, part{"body", upstream.Body, ours.Body})
	case upstream.Status != ours.Status && refusal(theirs) != refusal(own):
		// An object and a refusal have nothing to compare member by member.
		return append(parts, part{"body", refusal(theirs), refusal(own)})
	case len(theirs) == 1 && len(own) == 1:
		return withoutRepetition(append(parts, valueDifferences("", theirs[0], own[0])...))
	}
	return append(parts, listDifferences("", theirs, own)...)
}

// documents are the JSON values of a normal body.
func documents(body string) ([]any, bool) {
	var all []any
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	for decoder.More() {
		var value any
		if decoder.Decode(&value) != nil {
			return nil, false
		}
		all = append(all, value)
	}
	return all, true
}

// refusal is the message of a single Status, empty for everything else.
func refusal(documents []any) string {
	if len(documents) != 1 {
		return ""
	}
	status, _ := documents[0].(map[string]any)
	if status["kind"] != "Status" {
		return ""
	}
	message, _ := status["message"].(string)
	return message
}

// withoutRepetition leaves out what a Status says twice: the message where the causes differ, the code beside the status.
func withoutRepetition(parts []part) []part {
	causes := slices.ContainsFunc(parts, func(part part) bool { return strings.HasPrefix(part.place, ".details.causes") })
	status := slices.ContainsFunc(parts, func(part part) bool { return part.place == "status" })
	return slices.DeleteFunc(parts, func(part part) bool {
		return status && part.place == ".code" || causes && part.place == ".message"
	})
}

func valueDifferences(place string, upstream, ours any) []part {
	theirs, isObject := upstream.(map[string]any)
	own, alsoObject := ours.(map[string]any)
	if isObject && alsoObject {
		return memberDifferences(place, theirs, own)
	}
	list, isList := upstream.([]any)
	ownList, alsoList := ours.([]any)
	if isList && alsoList {
		return listDifferences(place+"[]", list, ownList)
	}
	if one, other := string(encode(upstream)), string(encode(ours)); one != other {
		return []part{{place, one, other}}
	}
	return nil
}

func memberDifferences(place string, upstream, ours map[string]any) []part {
	names := map[string]bool{}
	for name := range upstream {
		names[name] = true
	}
	for name := range ours {
		names[name] = true
	}
	var parts []part
	for _, name := range slices.Sorted(maps.Keys(names)) {
		theirs, has := upstream[name]
		own, alsoHas := ours[name]
		inner := place + "." + name
		switch {
		case !alsoHas:
			parts = append(parts, part{place: inner, upstream: string(encode(theirs))})
		case !has:
			parts = append(parts, part{place: inner, ours: string(encode(own))})
		default:
			parts = append(parts, valueDifferences(inner, theirs, own)...)
		}
	}
	return parts
}

// listDifferences pairs the members that only one side has, when both have as many of them.
func listDifferences(place string, upstream, ours []any) []part {
	theirs, own := without(upstream, ours), without(ours, upstream)
	var parts []part
	if len(theirs) == 0 && len(own) == 0 {
		for index := range upstream {
			if string(encode(upstream[index])) != string(encode(ours[index])) {
				return []part{{place, "in one order", "in another order"}}
			}
		}
		return nil
	}
	if len(theirs) == len(own) {
		for index := range theirs {
			parts = append(parts, valueDifferences(place, theirs[index], own[index])...)
		}
		return parts
	}
	for _, member := range theirs {
		parts = append(parts, part{place: place, upstream: string(encode(member))})
	}
	for _, member := range own {
		parts = append(parts, part{place: place, ours: string(encode(member))})
	}
	return parts
}

// without are the members of a list that another does not have, as often as it does not.
func without(list, other []any) []any {
	seen := map[string]int{}
	for _, member := range other {
		seen[string(encode(member))]++
	}
	var left []any
	for _, member := range list {
		text := string(encode(member))
		if seen[text] > 0 {
			seen[text]--
		} else {
			left = append(left, member)
		}
	}
	return left
}
