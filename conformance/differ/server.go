package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// server is one side of the comparison.
type server struct {
	client     *http.Client
	url        string
	kubeconfig string
}

// administrator asks where no other user is named: the same on all sides, however each of them came to know the client.
const administrator = "differ"

// step is one request, or one call of kubectl. Its body may be of any type that the content type says.
type step struct {
	what   string
	method string
	path   string
	// kubectl is what follows the program's name, in place of method and path. It reads the body.
	kubectl     string
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

// line is the step in one line.
func (step step) line() string {
	if step.kubectl != "" {
		return "kubectl " + step.kubectl
	}
	return step.method + " " + step.path
}

// patience is only used up where a server never says what is awaited.
const patience = 30 * time.Second

type answer struct {
	// status is that of HTTP, or kubectl's exit code.
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
	return &server{client: client, url: config.Host, kubeconfig: kubeconfig}, nil
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
	if step.kubectl != "" {
		return server.kubectl(ctx, step)
	}
	request, err := http.NewRequestWithContext(ctx, step.method, server.url+step.path, bytes.NewReader(step.body))
	if err != nil {
		return answer{failed: err}
	}
	request.Header.Set("User-Agent", "differ")
	if step.user != "" {
		request.Header.Set("Impersonate-User", step.user)
	} else {
		request.Header.Set("Impersonate-User", administrator)
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

// standardError is the header, in an answer of kubectl's, of what it wrote there.
const standardError = "Standard-Error"

// kubectl calls the program of the path.
func (server *server) kubectl(ctx context.Context, step step) answer {
	asking := "--as " + administrator + " --as-group system:masters"
	if step.user != "" {
		asking = "--as " + step.user
	}
	command := exec.CommandContext(ctx, "bash", "-c", "kubectl "+asking+" "+step.kubectl)
	// What the shell has started ends with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.Env = append(os.Environ(), "KUBECONFIG="+server.kubeconfig)
	command.Stdin = bytes.NewReader(step.body)
	var out, told bytes.Buffer
	command.Stdout, command.Stderr = &out, &told
	if err := command.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return answer{failed: err}
	}
	return answer{
		status: command.ProcessState.ExitCode(), body: out.Bytes(), header: http.Header{standardError: {told.String()}},
	}
}
