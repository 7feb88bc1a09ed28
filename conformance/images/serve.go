package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// serve answers as a registry at the address; it says so on standard output once every image can be pulled.
func serve(directory, address string) error {
	source, err := layout.FromPath(directory)
	if err != nil {
		return err
	}
	index, err := source.ImageIndex()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	blobs := path.Join(directory, "served")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	handler := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)), registry.Logger(log.New(io.Discard, "", 0)))
	ended := make(chan error, 1)
	go func() { ended <- http.Serve(listener, handler) }()
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, descriptor := range manifest.Manifests {
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			return err
		}
		reference, err := name.ParseReference(listener.Addr().String()+"/"+descriptor.Annotations[annotation], name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(reference, image); err != nil {
			return fmt.Errorf("%s: %w", reference, err)
		}
	}
	fmt.Println("serving", len(manifest.Manifests), "images at", listener.Addr())
	return <-ended
}
