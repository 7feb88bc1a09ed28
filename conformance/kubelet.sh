#!/usr/bin/env bash
# Upstream's kubelet as a node, with Debian's containerd, runc and CNI plugins.
#   unshare --mount --pid --fork --kill-child --mount-proc kubelet.sh DIR KUBECONFIG NODE POD_CIDR DNS_ADDRESS REGISTRY PORT
# The first process of its own process and mount namespaces: with it end its containers, their mounts and networks. What its
# programs keep under fixed names is in DIR, and of the host's kernel parameters it sees copies.
set -euo pipefail
work=$1 kubeconfig=$2 node=$3 pods=$4 dns=$5 registry=$6 port=$7
pki=$work/data/pki
cgroups=kubelet-$node
mount --make-rshared /
cp -L /etc/resolv.conf "$work/resolv.conf"
for directory in /run /var/lib /var/log; do
  mkdir -p "$work/host$directory"
  mount --bind "$work/host$directory" "$directory"
done
mkdir -p /run/netns "$work/sysctl" "$work/cni" "$work/registries/registry.k8s.io"
for parameter in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  cat "/proc/sys/$parameter" >"$work/sysctl/${parameter##*/}"
  mount --bind "$work/sysctl/${parameter##*/}" "/proc/sys/$parameter"
done
findmnt -nrt cgroup,cgroup2 -o TARGET | while read -r hierarchy; do mkdir -p "$hierarchy/$cgroups"; done

# A link from each pod to the host, which routes: no bridge between them that packets could cross unseen.
cat >"$work/cni/ptp.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
]}
JSON
cat >"$work/registries/registry.k8s.io/hosts.toml" <<TOML
server = "http://$registry"
[host."http://$registry"]
  capabilities = ["pull", "resolve"]
TOML
cat >"$work/containerd.toml" <<TOML
version = 2
disabled_plugins = ["io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10.2"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$work/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$work/registries"
TOML
cat >"$work/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
port: $port
healthzPort: 0
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: [$dns]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
resolvConf: $work/resolv.conf
volumePluginDir: $work/volume-plugins
cgroupDriver: cgroupfs
cgroupRoot: /$cgroups
failCgroupV1: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
oomScoreAdj: 0
YAML
containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 &
until [ -S /run/containerd/containerd.sock ]; do
  kill -0 $! || { tail "$work/containerd.log"; exit 1; }
  sleep 0.2
done
bin/kubelet --config "$work/kubelet.yaml" --kubeconfig "$kubeconfig" --hostname-override "$node" >"$work/kubelet.log" 2>&1
