#!/bin/sh
# Tries the restricted key of host.yaml on a real sshd with the configuration of host.yaml, on loopback: all that the nodes use must
# work, and nothing else. Needs sshd, ssh, curl and python3, no root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/plimsoll-key.XXXXXX")
pids=''
# shellcheck disable=SC2317 # called by the trap
clean() {
    # shellcheck disable=SC2086 # one word per process
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
# sshd wants its files in folders that nobody else can write to, which /tmp is not.
chmod 700 "$work"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
file() { awk -v path="$1" -f "$here/files.awk" "$here/host.yaml"; }

ssh-keygen -q -t ed25519 -N '' -f "$work/host"
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
file /etc/ssh/sshd_config.d/10-plimsoll.conf | sed "s#^AuthorizedKeysFile .*#AuthorizedKeysFile $work/authorized_keys#" >"$work/sshd_config"
[ -s "$work/sshd_config" ] || { echo "host.yaml has no sshd configuration" >&2; exit 1; }
cat >>"$work/sshd_config" <<CONFIG
Port $port
ListenAddress 127.0.0.1
HostKey $work/host
PidFile none
UsePAM no
StrictModes no
CONFIG

# What listens stands for Docker's socket, and for a service inside the host's network.
cat >"$work/listen.py" <<'PY'
import socket, sys, threading
def serve(s):
    s.listen()
    while True:
        c, _ = s.accept()
        c.recv(4096)
        c.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")
        c.close()
unix = socket.socket(socket.AF_UNIX); unix.bind(sys.argv[1])
other = socket.socket(socket.AF_UNIX); other.bind(sys.argv[2])
tcp = socket.socket(); tcp.bind(("127.0.0.1", 0))
open(sys.argv[3], "w").write(str(tcp.getsockname()[1]))
for s in (unix, other): threading.Thread(target=serve, args=(s,), daemon=True).start()
serve(tcp)
PY
python3 "$work/listen.py" "$work/docker.sock" "$work/other.sock" "$work/tcp" &
pids="$pids $!"

key() { # $1: what stands for NODE-ADDRESSES
    file /etc/plimsoll-host/authorized_keys | sed -e "s#NODE-ADDRESSES#$1#" -e "s#YOUR-PUBLIC-KEY#$(cat "$work/key.pub")#" \
        -e "s#/var/run/docker.sock#$work/docker.sock#" >"$work/authorized_keys"
    chmod 600 "$work/authorized_keys"
}
key 127.0.0.1
[ -d /run/sshd ] || [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
"$(command -v sshd)" -D -e -f "$work/sshd_config" 2>"$work/log" &
pids="$pids $!"
echo "[127.0.0.1]:$port $(cut -d ' ' -f 1,2 "$work/host.pub")" >"$work/known"
# Becomes ssh with these options; the command is in $command. In the background, $! is then what a kill reaches.
start() {
    # shellcheck disable=SC2086 # none, or several words
    exec timeout 10 ssh -F /dev/null -p "$port" -i "$work/key" -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o LogLevel=ERROR \
        -o UserKnownHostsFile="$work/known" -o GlobalKnownHostsFile=/dev/null -o ExitOnForwardFailure=yes "$@" 127.0.0.1 $command
}
run() { (start "$@"); }
command=''
failed=0
ok() { echo "ok    $1"; }
fail() { echo "FAIL  $1"; sed 's/^/      /' "$work/log" | tail -n 5; failed=1; }
for _ in 1 2 3 4 5 6 7 8 9 10; do ssh-keyscan -p "$port" 127.0.0.1 >/dev/null 2>&1 && break; sleep 0.3; done

# $1 works or not; the rest: a forward, and how it is tried.
through() {
    rm -f "$work/here.sock"
    start -N -L "$work/here.sock:$1" 2>/dev/null &
    forward=$!
    pids="$pids $forward"
    answer=''
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.2
        [ -S "$work/here.sock" ] || continue
        answer=$(curl -s -m 2 --unix-socket "$work/here.sock" http://x/ || true)
        break
    done
    kill "$forward" 2>/dev/null || true
    [ "$answer" = OK ]
}
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
listens() {
    start -N -R "$1:127.0.0.1:$(cat "$work/tcp")" 2>/dev/null &
    forward=$!
    pids="$pids $forward"
    sleep 1
    # One that sshd refuses has ended by now.
    kill "$forward" 2>/dev/null
}

command="sh -s -- argument"
said=$(printf 'echo "a script with its $1"' | run 2>&1) || true
command=''
if [ "$said" = 'a script with its argument' ]; then ok "scripts run"; else fail "scripts do not run: $said"; fi
if through "$work/docker.sock"; then ok "Docker's socket is reached"; else fail "Docker's socket is not reached"; fi
if listens 127.0.0.1:0; then ok "a remote forward on a loopback port that sshd picks"; else fail "no remote forward on a port that sshd picks"; fi
if listens "127.0.0.1:$(free)"; then ok "a remote forward on a loopback port of ours"; else fail "no remote forward on a port of ours"; fi

if through "$work/other.sock"; then fail "another socket is reached"; else ok "no other socket"; fi
if through "127.0.0.1:$(cat "$work/tcp")"; then fail "a TCP service is reached"; else ok "no tunnel to a TCP service"; fi
if listens "0.0.0.0:$(free)"; then fail "a remote forward on every address"; else ok "no remote forward on other addresses"; fi
command=true
if run -tt </dev/null 2>&1 | grep -q 'PTY allocation request failed'; then ok "no terminal"; else fail "a terminal is given"; fi
key 192.0.2.1
if run </dev/null >/dev/null 2>&1; then fail "the key works from any address"; else ok "no login from another address"; fi
exit "$failed"
