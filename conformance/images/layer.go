package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// entry is one file of a layer: a regular file with its content, a link (target set) or a directory (neither).
type entry struct {
	path    string
	content []byte
	target  string
	mode    int64
}

// program reads a built program, to be put at a path.
func program(bin, name, at string) (entry, error) {
	content, err := os.ReadFile(path.Join(bin, name))
	return entry{path: at, content: content, mode: 0o755}, err
}

// layer makes a layer whose bytes depend on its entries alone: all of them belong to root and carry no time.
func layer(entries []entry) (v1.Layer, error) {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, entry := range entries {
		header := &tar.Header{Name: entry.path, Mode: entry.mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		switch {
		case entry.target != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, entry.target
		case entry.content != nil:
			header.Typeflag, header.Size = tar.TypeReg, int64(len(entry.content))
		default:
			header.Typeflag = tar.TypeDir
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(entry.content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestSpeed))
}
