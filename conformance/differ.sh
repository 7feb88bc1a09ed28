#!/usr/bin/env bash
# Sends the same requests to a real kube-apiserver on a real etcd and to Windlass, and compares the answers.
# A second real kube-apiserver is sent them too, and must agree with the first entirely: that proves the comparison.
#   differ.sh [flags of the differ program]   WINDLASS=path  a binary built already   SELF=1  upstream against itself only
set -euo pipefail
cd "$(dirname "$0")"
[ -n "${SELF:-}" ] || . ./binary.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/windlass-differ-XXXXXX")
./build.sh kube-apiserver etcd kubectl
go build -o bin/differ ./differ
started=()
stop() {
  # An API server outlives its etcd: the last one started is stopped first.
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill "${started[i]}" 2>/dev/null && wait "${started[i]}" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap stop EXIT

# upstream NAME PORT: an API server on its own etcd, PORT and the two after it on loopback
upstream() {
  local d=$work/$1 port=$2
  mkdir -p "$d"
  openssl genrsa -out "$d/sa.key" 2048 2>/dev/null
  echo 'differ-admin,admin,1,"system:masters"' >"$d/tokens"
  printf '%s\n' 'apiVersion: v1' 'kind: Config' "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:$port', insecure-skip-tls-verify: true}}]" \
    'users: [{name: u, user: {token: differ-admin}}]' 'contexts: [{name: x, context: {cluster: c, user: u}}]' 'current-context: x' >"$d/kubeconfig"
  bin/etcd --data-dir "$d/etcd" --listen-client-urls http://127.0.0.1:$((port + 1)) --advertise-client-urls http://127.0.0.1:$((port + 1)) \
    --listen-peer-urls http://127.0.0.1:$((port + 2)) >"$d/etcd.log" 2>&1 &
  started+=($!)
  bin/kube-apiserver --etcd-servers http://127.0.0.1:$((port + 1)) --secure-port "$port" --bind-address 127.0.0.1 --cert-dir "$d" \
    --service-account-key-file "$d/sa.key" --service-account-signing-key-file "$d/sa.key" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local --service-cluster-ip-range 10.96.0.0/12 \
    --token-auth-file "$d/tokens" --authorization-mode Node,RBAC --allow-privileged >"$d/api.log" 2>&1 &
  started+=($!)
}

ready() { # KUBECONFIG PID LOG
  until bin/kubectl --kubeconfig "$1" get --raw /readyz >/dev/null 2>&1; do
    kill -0 "$2" 2>/dev/null || { tail "$3"; return 1; }
    sleep 0.2
  done
}

upstream reference 18443
upstream second 18453
servers=(-a "$work/reference/kubeconfig")
if [ -n "${SELF:-}" ]; then
  servers+=(-b "$work/second/kubeconfig" -known /dev/null)
else
  "$windlass" up --control-plane-only --disable controllers --disable scheduler --data-dir "$work/data" --no-merge-kubeconfig \
    --kubeconfig "$work/ours" --secure-port 18463 >"$work/up.log" 2>&1 &
  started+=($!)
  until [ -s "$work/ours" ]; do
    kill -0 "$!" || { tail "$work/up.log"; exit 1; }
    sleep 0.1
  done
  ready "$work/ours" "$!" "$work/up.log"
  servers+=(-b "$work/ours" -again "$work/second/kubeconfig" -known differ/known.tsv)
fi
ready "$work/reference/kubeconfig" "${started[1]}" "$work/reference/api.log"
ready "$work/second/kubeconfig" "${started[3]}" "$work/second/api.log"
export KUBECACHEDIR=$work/cache
PATH=$PWD/bin:$PATH bin/differ "${servers[@]}" -commit "${commit:-}" -date "$(date +%F)" "$@"
