# What swap.sh knows of each of upstream's components: which part of ours it replaces, and how it is started. The specs that
# lean on it are those of swaps/COMPONENT.txt, which for `store` is the list of `etcd`.

# programs_of COMPONENT: what is built of upstream
programs_of() {
  case $1 in
    store) echo kube-apiserver etcdctl ;;
    etcd) echo etcd etcdctl ;;
    kube-apiserver) echo kube-apiserver etcd ;;
    *) echo "$1" ;;
  esac
}

# packages_of COMPONENT: which set of Debian's packages it needs
packages_of() {
  case $1 in
    kubelet) echo kubelet ;;
  esac
}

# part_of COMPONENT: what `windlass up --disable` leaves out
part_of() {
  case $1 in
    kube-scheduler) echo scheduler ;;
    kube-controller-manager) echo controllers ;;
    kube-proxy) echo proxy ;;
    kubelet) echo kubelet ;;
  esac
}

# flags_of COMPONENT: what else `windlass up` is told
flags_of() {
  case $1 in
    store) echo --etcd-bind-address "127.0.0.1:${ports}379" ;;
    etcd) echo --etcd-servers "http://127.0.0.1:${ports}379" ;;
    kube-apiserver) echo --api-server "https://127.0.0.1:${ports}443" ;;
  esac
}

# note_of COMPONENT: what its run is
note_of() {
  case $1 in
    kubectl) echo "upstream's client with nothing of ours left out" ;;
    store) echo "upstream's kube-apiserver and etcdctl on our store, by etcd's protocol; the specs go through that API server, the rest is ours with our API server" ;;
    etcd) echo "in the place of our store, under our API server" ;;
    kube-apiserver) echo "in the place of ours, on upstream's etcd in the place of our store" ;;
    kubelet) echo "in the place of ours, with containerd, runc and the CNI plugin ptp of Debian, as the only node; network policies are left out with ours" ;;
    *) echo "in the place of ours, which is left out" ;;
  esac
}

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

# Whether the API server answers to a kubeconfig.
answers() { # KUBECONFIG
  bin/kubectl --kubeconfig "$1" get --raw /readyz >/dev/null 2>&1
}

# run PROGRAM ARGUMENT...: starts one that is there until the end
run() {
  apart "$@" >"$work/$(basename "$1").log" 2>&1 &
  started+=($!)
}

# api_server PORT FLAG...: upstream's API server with the cluster's certificates and keys
api_server() {
  local pki=$work/data/pki port=$1
  shift
  run bin/kube-apiserver --secure-port "$port" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --client-ca-file "$pki/ca.crt" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --enable-bootstrap-token-auth --service-cluster-ip-range "$service_range" \
    --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --kubelet-client-certificate "$pki/apiserver-kubelet-client.crt" --kubelet-client-key "$pki/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
    --proxy-client-cert-file "$pki/front-proxy-client.crt" --proxy-client-key-file "$pki/front-proxy-client.key" \
    --requestheader-client-ca-file "$pki/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- "$@"
}

# upstream_etcd: as the store of an API server
upstream_etcd() {
  local store=http://127.0.0.1:${ports}379
  run bin/etcd --data-dir "$work/etcd" --listen-client-urls "$store" --advertise-client-urls "$store" \
    --listen-peer-urls "http://127.0.0.1:${ports}380"
}

beside_etcd() {
  upstream_etcd
  await answers "$work/admin.conf"
  bin/etcdctl --endpoints "127.0.0.1:${ports}379" get --prefix --keys-only /registry/namespaces/ | grep -x /registry/namespaces/default >/dev/null
}

# The specs go through the API server beside ours; etcd's own client is tried first.
beside_store() {
  local pki=$work/data/pki
  await answers "$work/admin.conf"
  api_server "${ports}444" --etcd-servers "https://127.0.0.1:${ports}379" --etcd-cafile "$pki/etcd/ca.crt" \
    --etcd-certfile "$pki/apiserver-etcd-client.crt" --etcd-keyfile "$pki/apiserver-etcd-client.key" --endpoint-reconciler-type none
  config=$work/second.conf
  sed "s/:${ports}443/:${ports}444/" "$work/admin.conf" >"$config"
  await answers "$config"
  etcdctl() {
    bin/etcdctl --endpoints "127.0.0.1:${ports}379" --cacert "$pki/etcd/ca.crt" --cert "$pki/apiserver-etcd-client.crt" \
      --key "$pki/apiserver-etcd-client.key" "$@"
  }
  etcdctl put /swap/a one
  etcdctl get /swap/a | grep -x one >/dev/null
  etcdctl del --prefix /swap/ | grep -x 1 >/dev/null
  printf 'mod("/swap/b") = "0"\n\nput /swap/b two\n\nget /swap/b\n\n' | etcdctl txn | grep -x SUCCESS >/dev/null
  etcdctl lease grant 60
  etcdctl lease list
  etcdctl member list
  etcdctl endpoint status -w table
  etcdctl endpoint health
}

beside_kube-apiserver() {
  upstream_etcd
  api_server "${ports}443" --etcd-servers "http://127.0.0.1:${ports}379"
}

beside_kube-scheduler() {
  await answers "$work/admin.conf"
  run bin/kube-scheduler --kubeconfig "$(kubeconfig system:kube-scheduler)" --leader-elect=false \
    --bind-address 127.0.0.1 --secure-port "${ports}259" --cert-dir "$work"
}

beside_kube-controller-manager() {
  local pki=$work/data/pki
  await answers "$work/admin.conf"
  run bin/kube-controller-manager --kubeconfig "$(kubeconfig system:kube-controller-manager)" --leader-elect=false \
    --bind-address 127.0.0.1 --secure-port "${ports}257" --cert-dir "$work" --use-service-account-credentials \
    --service-account-private-key-file "$pki/sa.key" --root-ca-file "$pki/ca.crt" \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
    --allocate-node-cidrs --cluster-cidr "$cluster_range" --service-cluster-ip-range "$service_range"
}

beside_kube-proxy() {
  await answers "$work/admin.conf"
  run bin/kube-proxy --kubeconfig "$(kubeconfig system:kube-proxy)" --proxy-mode nftables --cluster-cidr "$cluster_range" \
    --hostname-override "$cluster" --healthz-bind-address "127.0.0.1:${ports}256" \
    --metrics-bind-address "127.0.0.1:${ports}249" --conntrack-max-per-core 0
}

# In namespaces of its own, which end with their first process, as that does with unshare.
beside_kubelet() {
  local user=system:node:$cluster
  kubeconfig "$user" system:nodes >/dev/null
  run unshare --mount --pid --fork --kill-child --mount-proc ./kubelet.sh "$work" "$work/$user.conf" "$cluster" \
    "${cluster_range%.*.*}.0.0/24" "${service_range%.*.*}.0.10" "$registry_address" "${ports}250"
}

# Kubectl is started by the specs.
beside() {
  [ "$with" = kubectl ] || "beside_$with"
}

# clean_up_after COMPONENT: what it leaves on the host when it is ended
clean_up_after() {
  case $1 in
    kube-proxy) bin/kube-proxy --cleanup --proxy-mode nftables ;;
    kubelet) remove_cgroups "kubelet-$cluster" ;;
  esac
}

# remove_cgroups NAME: in every hierarchy, as soon as the last of their processes has ended
remove_cgroups() {
  local left
  for _ in {1..50}; do
    left=$(find $(findmnt -nrt cgroup,cgroup2 -o TARGET) -maxdepth 1 -name "$1")
    [ -n "$left" ] || return 0
    find $left -depth -type d -delete 2>/dev/null || true
    sleep 0.2
  done
  echo "cgroups are left: $left"
  return 1
}
