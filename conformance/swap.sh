#!/usr/bin/env bash
# Runs one of upstream's components in the place of ours, beside the rest of ours, and conformance specs that lean on it.
#   WITH=kube-scheduler|kube-controller-manager|kube-proxy|kubectl   WINDLASS=path  a binary built already
#   WITH=etcd  an upstream API server on our store, reached by etcd's protocol, through which the specs run
set -euo pipefail
cd "$(dirname "$0")"
with=${WITH:?which component of upstream: WITH=kube-scheduler}
work=$(mktemp -d "${TMPDIR:-/tmp}/windlass-swap-XXXXXX")
windlass=${WINDLASS:-../target/x86_64-unknown-linux-gnu/release/windlass}
[ -n "${WINDLASS:-}" ] || (cd .. && cargo build --release --locked --package windlass)
cluster=swap nodes=1 ports=27 ranges='10.197 10.198'
. ./swaps.sh
[ -n "$(specs_of "$with")" ] || { echo "swap.sh: nothing is known of $with" >&2; exit 2; }
./build.sh kubectl e2e.test ginkgo $(programs_of "$with")
go build -o bin/report ./report
left_out=$(part_of "$with")
. ./cluster.sh
[ "$with" != etcd ] || cluster_flags+=(--etcd-bind-address "127.0.0.1:${ports}379")
config=$work/admin.conf
trap 'stop_cluster; [ "$with" != kube-proxy ] || bin/kube-proxy --cleanup --proxy-mode nftables >>"$work/$with.log" 2>&1' EXIT

# kubeconfig USER [GROUP]: a client of its own, as kubeadm gives one to each component
kubeconfig() {
  local file=$work/$1
  openssl req -newkey rsa:2048 -nodes -keyout "$file.key" -out "$file.csr" -subj "${2:+/O=$2}/CN=$1" 2>/dev/null
  openssl x509 -req -in "$file.csr" -CA "$work/data/pki/ca.crt" -CAkey "$work/data/pki/ca.key" -CAcreateserial -days 1 \
    -extfile <(echo extendedKeyUsage=clientAuth) -out "$file.crt" 2>/dev/null
  local to=(--kubeconfig "$file.conf")
  {
    bin/kubectl config "${to[@]}" set-cluster c --server "https://127.0.0.1:${ports}443" --certificate-authority "$work/data/pki/ca.crt"
    bin/kubectl config "${to[@]}" set-credentials u --client-certificate "$file.crt" --client-key "$file.key"
    bin/kubectl config "${to[@]}" set-context x --cluster c --user u
    bin/kubectl config "${to[@]}" use-context x
  } >/dev/null
  echo "$file.conf"
}

# The specs go through the API server beside ours; etcd's own client is tried first.
second_api_server() {
  config=$work/second.conf
  sed "s/:${ports}443/:${ports}444/" "$work/admin.conf" >"$config"
  until bin/kubectl --kubeconfig "$config" get --raw /readyz >/dev/null 2>&1; do
    kill -0 "${started[0]}" || { tail "$work/$with.log"; return 1; }
    sleep 0.5
  done
  local pki=$work/data/pki
  etcdctl() {
    bin/etcdctl --endpoints "127.0.0.1:${ports}379" --cacert "$pki/etcd/ca.crt" --cert "$pki/apiserver-etcd-client.crt" \
      --key "$pki/apiserver-etcd-client.key" "$@"
  }
  etcdctl put /swap/a one && etcdctl get /swap/a | grep -qx one && etcdctl del --prefix /swap/ | grep -qx 1
  printf 'mod("/swap/b") = "0"\n\nput /swap/b two\n\nget /swap/b\n\n' | etcdctl txn | grep -qx SUCCESS
  etcdctl lease grant 60 && etcdctl lease list && etcdctl member list && etcdctl endpoint status -w table && etcdctl endpoint health
}

beside() {
  command_of "$with"
  [ ${#command[@]} -gt 0 ] || return 0
  "${command[@]}" >"$work/$with.log" 2>&1 &
  started+=($!)
  [ "$with" != etcd ] || second_api_server
}

serve_images
start_cluster
mkdir -p "$work/report"
flags=(
  --provider=skeleton --kubeconfig="$config" --kubectl-path="$PWD/bin/kubectl" --allowed-not-ready-nodes=-1
  --minStartupPods=-1 --disable-log-dump --report-dir="$work/report"
)
bin/ginkgo --nodes="${PARALLEL:-4}" --no-color --timeout=1h --silence-skips --label-filter=Conformance --focus="$(specs_of "$with")" \
  bin/e2e.test -- "${flags[@]}" >"$work/specs.log" 2>&1 || true
grep -E '^Ran [0-9]+ of' "$work/specs.log" || { tail -30 "$work/specs.log"; exit 1; }
for program in "${started[@]}"; do kill -0 "$program" || { tail "$work/$with.log"; exit 1; }; done
bin/report swap -with "$with" -commit "$(git rev-parse --short HEAD)" -date "$(date +%F)" -note "$(note_of "$with")" "$work"/report/junit_*.xml
bin/report write
