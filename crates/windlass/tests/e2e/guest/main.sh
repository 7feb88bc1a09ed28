# What happens in the guest; the last line on the console is the verdict.
export PATH=/bin:/sbin HOME=/root KUBECONFIG=/etc/windlass/admin.conf
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo nameserver 127.0.0.1 > /etc/resolv.conf
hostname guest
ip link set lo up
for module in overlay bridge br_netfilter veth nf_tables; do modprobe $module; done

groups=/sys/fs/cgroup
verdict=passed
is() { # what, found, wanted
    if [ "$2" = "$3" ]; then echo "ok      $1"; else echo "WRONG   $1: $2 and not $3"; verdict=failed; fi
}

# As a service of systemd's: in a group of its own, which handed nothing on.
service=$groups/system.slice/windlass.service
mkdir -p $service
sh -c "echo \$\$ > $service/cgroup.procs; exec windlass up" > /tmp/up.out 2>&1 &
for _ in $(seq 600); do grep -q kubectl: /tmp/up.out && break; sleep 0.2; done
cat /tmp/up.out
kubectl apply -f /pods.yaml
kubectl wait --for=condition=Ready pod/limited --timeout=120s
is "an exec probe succeeds" $? 0
uid=$(kubectl get pod limited -o 'jsonpath={.metadata.uid}')
group=$(echo $groups/windlass/burstable/pod$uid/*/)
is "memory is limited" "$(cat $group/memory.max) $(cat $group/memory.swap.max)" "67108864 0"
is "processor time is limited" "$(cat $group/cpu.max)" "50000 100000"
is "processes are counted" "$(test $(cat $group/pids.current) -gt 0 && echo yes)" yes
is "a container weighs what it requests" "$(cat $group/cpu.weight)" 35
is "burstable pods weigh what they request together" "$(cat $groups/windlass/burstable/cpu.weight)" 35
is "a container is ended as a whole" "$(cat $group/memory.oom.group)" 1
shims=$(for pid in $(cat $service/cgroup.procs); do grep -l hold /proc/$pid/cmdline 2>/dev/null; done)
is "no shim is in the service's group" "$shims" ""
is "a container sees its own groups alone" "$(kubectl exec limited -- cat /proc/self/cgroup)" "0::/"
kubectl wait --for=jsonpath={.status.phase}=Failed pod/hog --timeout=120s
how='{.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}'
is "a memory hog is ended" "$(kubectl get pod hog -o "jsonpath=$how")" "OOMKilled 137"
windlass down
is "down succeeds" $? 0
is "no group is left" "$(ls $groups | grep windlass)" ""
is "no mount is left" "$(grep windlass /proc/mounts)" ""
is "no interface is left" "$(ip -o link | grep windlass)" ""
echo "VERDICT $verdict"
poweroff -f
