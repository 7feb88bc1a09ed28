#!/usr/bin/env bash
# Builds upstream's own programs, by name, from their Go modules into conformance/bin.
#   build.sh NAME...   kubectl kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy etcd etcdctl etcdutl
#                      e2e.test ginkgo agnhost nonewprivs sample-apiserver images
set -euo pipefail
cd "$(dirname "$0")"
kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${kubernetes#v1.}
version=k8s.io/component-base/version
flags=(-ldflags "-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}")
export CGO_ENABLED=0
mkdir -p bin
for name in "$@"; do
  case $name in
    kubectl | kubelet | kube-*) package=k8s.io/kubernetes/cmd/$name ;;
    agnhost | nonewprivs) package=k8s.io/kubernetes/test/images/$name ;;
    sample-apiserver) package=k8s.io/sample-apiserver ;;
    etcd) package=go.etcd.io/etcd/server/v3 ;;
    etcdctl | etcdutl) package=go.etcd.io/etcd/$name/v3 ;;
    ginkgo) package=github.com/onsi/ginkgo/v2/ginkgo ;;
    images) package=./images ;;
    e2e.test)
      go test -c "${flags[@]}" -o bin/e2e.test k8s.io/kubernetes/test/e2e
      continue
      ;;
    *)
      echo "build.sh: unknown program $name" >&2
      exit 2
      ;;
  esac
  go build "${flags[@]}" -o "bin/$name" "$package"
done
