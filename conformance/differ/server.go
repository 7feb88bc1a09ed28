package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
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
	// user asks; empty is an administrator.
	user string
	// meanwhile is done while the answer comes, once it has begun.
	meanwhile []step
	// until is awaited in the answer's body, for what comes about a while after the request that caused it.
	until *regexp.Regexp
}

// patience is only used up where a server never says what is awaited.
const patience = 30 * time.Second

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
	answered := server.sendOnce(step)
	for start := time.Now(); step.until != nil && !step.until.Match(answered.body) && time.Since(start) < patience; {
		time.Sleep(50 * time.Millisecond)
		answered = server.sendOnce(step)
	}
	return answered
}

func (server *server) sendOnce(step step) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, step.method, server.url+step.path, bytes.NewReader(step.body))
	if err != nil {
		return answer{failed: err}
	}
	request.Header.Set("User-Agent", "differ")
	// Who asks is the same on both sides, however each of them came to know the client.
	if step.user != "" {
		request.Header.Set("Impersonate-User", step.user)
	} else {
		request.Header.Set("Impersonate-User", "differ")
		request.Header.Set("Impersonate-Group", "system:masters")
	}
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
	for _, other := range step.meanwhile {
		server.sendOnce(other)
	}
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: body, failed: err}
}
