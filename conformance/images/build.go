package main

import (
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image is one of upstream's images: where it stands in its registry, and what it is made of.
type image struct {
	repository string
	tags       []string
	userland   bool
	entries    []entry
	config     v1.Config
}

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// annotation carries an image's name in the layout's index.
const annotation = "org.opencontainers.image.ref.name"

func build(bin, userland, directory string) error {
	base, err := tarball.LayerFromFile(userland, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return err
	}
	images, err := catalog(bin)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(directory); err != nil {
		return err
	}
	target, err := layout.Write(directory, empty.Index)
	if err != nil {
		return err
	}
	for _, image := range images {
		assembled, err := image.assemble(base)
		if err != nil {
			return fmt.Errorf("%s: %w", image.repository, err)
		}
		for _, tag := range image.tags {
			name := map[string]string{annotation: image.repository + ":" + tag}
			if err := target.AppendImage(assembled, layout.WithAnnotations(name)); err != nil {
				return fmt.Errorf("%s:%s: %w", image.repository, tag, err)
			}
		}
	}
	return nil
}

func (image image) assemble(userland v1.Layer) (v1.Image, error) {
	var layers []v1.Layer
	if image.userland {
		layers = append(layers, userland)
	}
	if len(image.entries) > 0 {
		own, err := layer(image.entries)
		if err != nil {
			return nil, err
		}
		layers = append(layers, own)
	}
	assembled, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	file, err := assembled.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", runtime.GOARCH, v1.Time{Time: time.Unix(0, 0)}
	file.Config = image.config
	file.Config.Env = []string{searchPath}
	return mutate.ConfigFile(assembled, file)
}

// module answers a directory of the module k8s.io/kubernetes, whose images carry a few data files.
func module() (string, error) {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	list.Stderr = os.Stderr
	found, err := list.Output()
	return strings.TrimSpace(string(found)), err
}

func catalog(bin string) ([]image, error) {
	kubernetes, err := module()
	if err != nil {
		return nil, err
	}
	sources := path.Join(kubernetes, "test/images")
	agnhost, err := agnhost(bin, sources)
	if err != nil {
		return nil, err
	}
	images := []image{agnhost}
	for _, assemble := range []func(bin string) ([]image, error){small, shells, servers} {
		more, err := assemble(bin)
		if err != nil {
			return nil, err
		}
		images = append(images, more...)
	}
	for _, pet := range []string{"nautilus", "kitten"} {
		image := agnhost
		data, err := os.ReadFile(path.Join(sources, pet, "html/data.json"))
		if err != nil {
			return nil, err
		}
		// The two are told apart by their distribution too.
		release := entry{path: "etc/os-release", mode: 0o644, content: []byte("NAME=\"Alpine Linux\"\nID=alpine\n")}
		image.repository, image.tags = "e2e-test-images/"+pet, []string{"1.8"}
		image.entries = append(append([]entry{}, agnhost.entries...), entry{path: "data.json", mode: 0o644, content: data}, release)
		image.config.Cmd = []string{"test-webserver"}
		images = append(images, image)
	}
	return images, nil
}

// agnhost does most of what the suite's containers do.
func agnhost(bin, sources string) (image, error) {
	binary, err := program(bin, "agnhost", "agnhost")
	if err != nil {
		return image{}, err
	}
	entries := []entry{binary, {path: "agnhost-2", target: "agnhost", mode: 0o777}, {path: "uploads", mode: 0o755}}
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		content, err := os.ReadFile(path.Join(sources, "agnhost/porter", name))
		if err != nil {
			return image{}, err
		}
		entries = append(entries, entry{path: name, content: content, mode: 0o644})
	}
	users, groups := accounts()
	entries = append(entries, users, groups)
	return image{
		repository: "e2e-test-images/agnhost",
		tags:       []string{"2.66.1", "2.55"},
		userland:   true,
		entries:    entries,
		config:     v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}},
	}, nil
}

// accounts are the users and groups that agnhost's image has beside root.
func accounts() (users, groups entry) {
	const name, group = "user-defined-in-image", "group-defined-in-image"
	userLines := "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" +
		name + ":x:1000:1000::/home/" + name + ":/bin/sh\n"
	groupLines := "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n" + name + ":x:1000:\n" + group + ":x:50000:" + name + "\n"
	return entry{path: "etc/passwd", content: []byte(userLines), mode: 0o644},
		entry{path: "etc/group", content: []byte(groupLines), mode: 0o644}
}

// small are images of hardly more than one program.
func small(bin string) ([]image, error) {
	agnhost, err := program(bin, "agnhost", "pause")
	if err != nil {
		return nil, err
	}
	sample, err := program(bin, "sample-apiserver", "sample-apiserver")
	if err != nil {
		return nil, err
	}
	etcd, err := program(bin, "etcd", "usr/local/bin/etcd")
	if err != nil {
		return nil, err
	}
	temporary := entry{path: "tmp", mode: 0o1777}
	return []image{
		{repository: "pause", tags: []string{"3.10.2"}, entries: []entry{agnhost},
			config: v1.Config{Entrypoint: []string{"/pause", "pause"}, User: "65535:65535"}},
		{repository: "e2e-test-images/sample-apiserver", tags: []string{"1.29.2"}, entries: []entry{sample, temporary},
			config: v1.Config{Entrypoint: []string{"/sample-apiserver"}}},
		{repository: "etcd", tags: []string{"3.7.0-0"}, entries: []entry{etcd, temporary}},
	}, nil
}

// shell is busybox's own, but for one command: Debian's drops variables whose names hold dots or dashes, and could not
// show them.
const shell = `#!/bin/bash
[ "$*" = "-c env" ] && exec env
exec -a "$0" /usr/bin/busybox "$@"
`

// shells are images that pods run commands in.
func shells(bin string) ([]image, error) {
	content, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("Debian's busybox-static: %w", err)
	}
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return nil, err
	}
	entries := []entry{{path: "usr/bin/busybox", content: content, mode: 0o755}}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "sh" && applet != "busybox" {
			entries = append(entries, entry{path: "usr/bin/" + applet, target: "busybox", mode: 0o777})
		}
	}
	entries = append(entries, entry{path: "usr/bin/sh", content: []byte(shell), mode: 0o755})
	probe, err := program(bin, "nonewprivs", "usr/local/bin/nnp")
	if err != nil {
		return nil, err
	}
	probe.mode = 0o6755
	start := []string{"sh"}
	return []image{
		{repository: "e2e-test-images/busybox", tags: []string{"1.36.1-1", "1.37.0-2"}, userland: true, entries: entries,
			config: v1.Config{Cmd: start}},
		{repository: "e2e-test-images/nonroot", tags: []string{"1.5"}, userland: true,
			config: v1.Config{Cmd: start, User: "1234"}},
		{repository: "e2e-test-images/nonewprivs", tags: []string{"1.4"}, userland: true, entries: []entry{probe},
			config: v1.Config{Cmd: []string{"nnp"}}},
		{repository: "e2e-test-images/glibc-dns-testing", tags: []string{"2.1.1"}, userland: true,
			config: v1.Config{Cmd: start}},
	}, nil
}

const nginxConfiguration = `user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 512; }
http {
    include /etc/nginx/mime.types;
    access_log /dev/stdout;
    server {
        listen 80;
        location / { root /usr/share/nginx/html; index index.html; }
    }
}
`

// servers are the web servers that workloads are made of.
func servers(_ string) ([]image, error) {
	page := "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n"
	entries := []entry{
		{path: "etc/nginx/nginx.conf", content: []byte(nginxConfiguration), mode: 0o644},
		{path: "usr/share/nginx/html/index.html", content: []byte(page), mode: 0o644},
	}
	return []image{{
		repository: "e2e-test-images/nginx", tags: []string{"1.27.0-2", "1.28.0-2"}, userland: true, entries: entries,
		config: v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, StopSignal: "SIGQUIT"},
	}}, nil
}
