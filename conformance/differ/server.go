package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// server is one side of the comparison.
type server struct {
	client *http.Client
	url    string
}

// step is one request. Its body may be of any type that the content type says.
type step struct {
	what        string
	method      string
	path        string
	contentType string
	accept      string
	body        []byte
}

type answer struct {
	status int
	header http.Header
	body   []byte
	failed error
}

func connect(kubeconfig string) (*server, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	return &server{client: client, url: config.Host}, nil
}

func (server *server) send(step step) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, step.method, server.url+step.path, bytes.NewReader(step.body))
	if err != nil {
		return answer{failed: err}
	}
	request.Header.Set("User-Agent", "differ")
	if step.contentType != "" {
		request.Header.Set("Content-Type", step.contentType)
	}
	if step.accept != "" {
		request.Header.Set("Accept", step.accept)
	}
	response, err := server.client.Do(request)
	if err != nil {
		return answer{failed: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: body, failed: err}
}
