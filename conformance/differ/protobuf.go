package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	aggregator "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const protobufType = "application/vnd.kubernetes.protobuf"

// known are Go's types of every kind.
var known = func() *runtime.Scheme {
	all := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextensions.AddToScheme, aggregator.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(all); err != nil {
			panic(err)
		}
	}
	return all
}()

var (
	packed = protobuf.NewSerializer(known, known)
	plain  = jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, known, known, jsonserializer.SerializerOptions{})
)

// pack is an object in protobuf; nothing for what Go has no type of.
func pack(body []byte) []byte {
	decoded, _, err := plain.Decode(body, nil, nil)
	if err != nil {
		return nil
	}
	var out bytes.Buffer
	if err := packed.Encode(decoded, &out); err != nil {
		return nil
	}
	return out.Bytes()
}

// unpack is a body in protobuf as JSON, one object or the events of a watch. Bytes that Go would not write for the
// object that it reads in them are told of.
func unpack(contentType string, body []byte) []byte {
	var out bytes.Buffer
	if !strings.Contains(contentType, "stream=watch") {
		unpackObject(&out, body)
		return out.Bytes()
	}
	for len(body) >= 4 {
		length := int(binary.BigEndian.Uint32(body))
		if len(body) < 4+length {
			break
		}
		var event metav1.WatchEvent
		if err := event.Unmarshal(body[4 : 4+length]); err != nil {
			fmt.Fprintf(&out, "%q\n", err.Error())
		}
		fmt.Fprintf(&out, "%q\n", event.Type)
		unpackObject(&out, event.Object.Raw)
		body = body[4+length:]
	}
	if len(body) > 0 {
		fmt.Fprintf(&out, "%q\n", "torn frame")
	}
	return out.Bytes()
}

func unpackObject(out *bytes.Buffer, body []byte) {
	decoded, _, err := packed.Decode(body, nil, nil)
	if err != nil {
		fmt.Fprintf(out, "%q\n", err.Error())
		return
	}
	if err := json.NewEncoder(out).Encode(decoded); err != nil {
		fmt.Fprintf(out, "%q\n", err.Error())
	}
	var again bytes.Buffer
	if err := packed.Encode(decoded, &again); err != nil || !bytes.Equal(again.Bytes(), body) {
		fmt.Fprintf(out, "%q\n", "not as Go writes it")
	}
}

// inProtobuf asks the same in protobuf: answers, and bodies of kinds that have that form.
func inProtobuf(steps []step) []step {
	var all []step
	for _, step := range steps {
		switch {
		case step.until != nil:
			// What is awaited is a text.
		case step.accept == "":
			step.accept = protobufType
		case strings.HasPrefix(step.accept, jsonType):
			step.accept = protobufType + strings.TrimPrefix(step.accept, jsonType)
		}
		if step.contentType == jsonType {
			if body := pack(step.body); body != nil {
				step.body, step.contentType = body, protobufType
			}
		}
		all = append(all, step)
	}
	return all
}

// renamed is an object under a name of its own, where that is free to choose.
func renamed(whole object) object {
	name := whole["metadata"].(object)["name"].(string)
	if strings.Contains(name, ".") {
		return whole
	}
	return withMetadata(whole, "name", name+"-packed")
}

// protobufs are the scripts in protobuf that no other generates.
func protobufs(resources []resource, filled string) ([]script, error) {
	unserved, err := unservedVersions(resources, filled)
	if err != nil {
		return nil, err
	}
	all := []script{unserved, negotiation()}
	for _, resource := range resources {
		if !resource.can("watch") {
			continue
		}
		none := resource.collection() + "?labelSelector=differ%3Dnone"
		metadata := "application/json;as=PartialObjectMetadata%s;v=v1;g=meta.k8s.io"
		all = append(all, script{area: "protobuf: collections", name: resource.String(), steps: inProtobuf([]step{
			get("missing", resource.collection()+"/no-such-object"),
			get("list", none),
			get("watch", none+"&watch=1&timeoutSeconds=1"),
			get("watch, bad revision", none+"&watch=1&resourceVersion=x"),
			{what: "metadata", method: "GET", path: none, accept: fmt.Sprintf(metadata, "List")},
			{what: "watch of metadata", method: "GET", path: none + "&watch=1&timeoutSeconds=1", accept: fmt.Sprintf(metadata, "")},
			{what: "table", method: "GET", path: none, accept: tableType},
		})})
	}
	return all, nil
}

const (
	protobufByHand = "protobuf: by hand"
	packedLives    = "protobuf: lives"
)

// unservedVersions sends objects of versions that upstream knows and does not serve to where their kind is served in
// another, or else to where it is not served at all.
func unservedVersions(resources []resource, filled string) (script, error) {
	files, err := os.ReadDir(filled)
	if err != nil {
		return script{}, err
	}
	all := script{area: "protobuf: unserved versions", name: "unserved"}
	for _, file := range files {
		body, err := os.ReadFile(path.Join(filled, file.Name()))
		if err != nil {
			return script{}, err
		}
		name, isPacked := strings.CutSuffix(file.Name(), ".pb")
		name, isPlain := strings.CutSuffix(name, ".json")
		if !isPacked && !isPlain {
			continue
		}
		parts := strings.Split(name, ".")
		group, version, kind := strings.Join(parts[:len(parts)-2], "."), parts[len(parts)-2], parts[len(parts)-1]
		if group == "core" {
			group = ""
		}
		of := func(found resource) bool { return found.group == group && found.kind == kind && found.can("create") }
		if slices.ContainsFunc(resources, func(found resource) bool { return of(found) && found.version == version }) {
			continue
		}
		collection := "/api/v1/namespaces/" + namespace + "/configmaps"
		if index := slices.IndexFunc(resources, of); index >= 0 {
			collection = resources[index].collection()
		}
		step := step{what: file.Name(), method: "POST", path: collection + "?dryRun=All", contentType: jsonType, body: body}
		if isPacked {
			step.contentType = protobufType
		}
		all.steps = append(all.steps, step)
	}
	return all, nil
}

// negotiation is about media types and bodies that are broken.
func negotiation() script {
	const maps = "/api/v1/namespaces/" + namespace + "/configmaps"
	settings := pack(encode(object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "negotiated"}, "data": object{"a": "b"}}))
	accept := func(what, path, accept string) step {
		return step{what: what, method: "GET", path: path, accept: accept}
	}
	body := func(what string, body []byte) step {
		return step{what: what, method: "POST", path: maps + "?dryRun=All", contentType: protobufType, body: body}
	}
	const table = ";as=Table;v=v1;g=meta.k8s.io"
	return script{area: protobufByHand, name: "negotiation", steps: []step{
		accept("protobuf before JSON", maps, protobufType+","+jsonType),
		accept("JSON before protobuf", maps, jsonType+","+protobufType),
		accept("table in protobuf, else JSON", maps, protobufType+table+","+jsonType+table+","+jsonType),
		accept("table in protobuf", maps, protobufType+table),
		accept("discovery", "/apis/apps/v1", protobufType),
		accept("core versions", "/api", protobufType),
		accept("a group", "/apis/apps", protobufType),
		accept("aggregated discovery", "/apis", protobufType+";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
		accept("version", "/version", protobufType),
		accept("no such path", "/apis/none", protobufType),
		{what: "forbidden", method: "GET", path: maps, accept: protobufType, user: "alice"},
		body("an object", settings),
		body("nothing", nil),
		body("no prefix", []byte("{}")),
		body("a prefix alone", []byte("k8s\x00")),
		body("torn", settings[:len(settings)-1]),
		body("noise", append([]byte("k8s\x00"), 0xff, 0xff, 0xff)),
		{what: "JSON as protobuf in", method: "POST", path: maps + "?dryRun=All", contentType: jsonType, body: settings},
		{what: "strict", method: "POST", path: maps + "?dryRun=All&fieldValidation=Strict", contentType: protobufType, body: settings},
		{what: "as a patch", method: "PATCH", path: maps + "/negotiated", contentType: protobufType, body: settings},
	}}
}
