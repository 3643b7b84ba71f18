#!/bin/sh
# Tries the firewall of host.yaml between three network namespaces: a host, a sandbox on its bridge, and somebody outside. Without
# it the sandbox reaches the host's services, with it only answers come in. Needs root, ip, iptables, unshare, nsenter and python3;
# touches no rule of this machine.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/plimsoll-firewall.XXXXXX")
pids=''
# shellcheck disable=SC2317 # called by the trap
clean() {
    # shellcheck disable=SC2086 # one word per process
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

awk -v path=/usr/local/sbin/plimsoll-firewall -f "$here/files.awk" "$here/host.yaml" >"$work/firewall"
[ -s "$work/firewall" ] || { echo "host.yaml has no firewall" >&2; exit 1; }
for name in host sandbox outside; do
    unshare --net sleep 300 &
    eval "$name=$!"
    pids="$pids $!"
done
# Filled in by the loop above.
: "${host:=}" "${sandbox:=}" "${outside:=}"
until [ "$(readlink "/proc/$outside/ns/net")" != "$(readlink /proc/self/ns/net)" ] &&
    [ "$(readlink "/proc/$host/ns/net")" != "$(readlink /proc/self/ns/net)" ] &&
    [ "$(readlink "/proc/$sandbox/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
in_host() { nsenter --target "$host" --net "$@"; }
in_sandbox() { nsenter --target "$sandbox" --net "$@"; }
in_outside() { nsenter --target "$outside" --net "$@"; }

in_host ip link set lo up
in_host ip link add br-0123456789ab type bridge
in_host ip address add 172.30.0.1/24 dev br-0123456789ab
in_host ip link set br-0123456789ab up
in_host ip link add veth0 type veth peer name eth0 netns "$sandbox"
in_host ip link set veth0 master br-0123456789ab up
in_sandbox ip address add 172.30.0.2/24 dev eth0
in_sandbox ip link set eth0 up
in_sandbox ip route add default via 172.30.0.1
in_host ip link add eth0 type veth peer name eth0 netns "$outside"
in_host ip address add 192.0.2.1/24 dev eth0
in_host ip link set eth0 up
in_outside ip address add 192.0.2.2/24 dev eth0
in_outside ip link set eth0 up

for where in host sandbox; do
    eval "where_pid=\$$where"
    # shellcheck disable=SC2154 # set by eval
    nsenter --target "$where_pid" --net python3 -c 'import socket
s = socket.create_server(("0.0.0.0", 8080)); s.listen()
while True: s.accept()[0].close()' &
    pids="$pids $!"
done
reach='import socket, sys
try: socket.create_connection((sys.argv[1], 8080), 1.5)
except OSError: sys.exit(1)'
failed=0
expect() { # yes or no, what, the rest: a command
    wanted=$1 what=$2
    shift 2
    if "$@" 2>/dev/null; then seen=yes; else seen=no; fi
    if [ "$seen" = "$wanted" ]; then echo "ok    $what: $seen"; else echo "FAIL  $what: $seen"; failed=1; fi
}
for _ in 1 2 3 4 5 6 7 8 9 10; do in_host python3 -c "$reach" 127.0.0.1 && in_host python3 -c "$reach" 172.30.0.2 && break; sleep 0.3; done

expect yes "without it a sandbox reaches its host" in_sandbox python3 -c "$reach" 172.30.0.1
for round in first second; do
    in_host sh "$work/firewall"
    expect no "after the $round run a sandbox reaches its bridge's address" in_sandbox python3 -c "$reach" 172.30.0.1
    expect no "after the $round run a sandbox reaches the host's own address" in_sandbox python3 -c "$reach" 192.0.2.1
    expect yes "after the $round run the host reaches a sandbox's port" in_host python3 -c "$reach" 172.30.0.2
    expect yes "after the $round run others reach the host" in_outside python3 -c "$reach" 192.0.2.1
done
rules=$(in_host iptables -S INPUT | grep -c PLIMSOLL)
if [ "$rules" = 2 ]; then echo "ok    two runs leave the rules of one"; else echo "FAIL  $rules rules after two runs"; failed=1; fi
if in_host iptables -S DOCKER-USER | grep -q '169.254.0.0/16 -j DROP'; then echo "ok    the metadata service is cut off"; else echo "FAIL  the metadata service is not cut off"; failed=1; fi
exit "$failed"
