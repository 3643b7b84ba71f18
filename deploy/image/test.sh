#!/bin/sh
# Runs the base image the way Plimsoll does (uid 1000, no capabilities, no new privileges, memory limit) and checks what a sandbox is
# promised. Needs a Docker that has the image: test.sh [IMAGE]. DOCKER_HOST is obeyed.
set -u
image=${1:-shadow-sandbox:latest}
failed=0
hardened() { timeout 60 docker run --rm --cap-drop ALL --security-opt no-new-privileges:true --user 1000:1000 --memory 1g --pids-limit 512 "$@"; }
check() {
    what=$1
    shift
    if out=$(hardened "$image" sh -c "$*" 2>&1); then echo "ok    $what: $(echo "$out" | head -n 1)"; else
        echo "FAIL  $what: $out"
        failed=1
    fi
}
check user 'test "$(id -un):$(id -u):$(id -g):$HOME" = user:1000:1000:/home/user && test -w /home/user && test -w /workspace && id'
check folder 'test "$PWD" = /workspace && pwd'
check git 'cd /tmp && git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git --version'
check curl 'curl --version'
check tls 'test -s /etc/ssl/certs/ca-certificates.crt && echo certificates'
check python 'python3 -m venv /tmp/v && /tmp/v/bin/python -c "import ssl, sqlite3, sys; print(sys.version.split()[0])"'
check node 'node -e "console.log(process.version)"'
check npm 'npm --version && test "$(npm config get prefix)" = /home/user/.local'
check tools 'rg --version && jq --version && unzip -v && ssh -V'
check setuid 'test -z "$(find / -xdev -type f -perm /6000 2>/dev/null)" && echo none'
check secrets 'test -z "$(find / -xdev -name "id_*" -path "*.ssh*" 2>/dev/null)" && test ! -s /etc/machine-id && echo none'
if hardened "$image" sh -c 'command -v caddy' >/dev/null 2>&1; then
    check preview 'sandbox-services 2>/tmp/log & python3 -m http.server 5173 -d /etc/skel >/dev/null 2>&1 &
        for i in $(seq 50); do sleep 0.1; curl -fs -m 2 -o /dev/null http://127.0.0.1:20000/ && exec echo "port 20000 shows port 5173"; done
        cat /tmp/log; exit 1'
    check nothing-to-preview 'sandbox-services 2>/tmp/log &
        for i in $(seq 100); do sleep 0.1; curl -s -m 5 http://127.0.0.1:20000/ | grep "No development server" && exit; done; cat /tmp/log; exit 1'
else echo "skip  preview: the image has no Caddy"; fi
if hardened "$image" sh -c 'command -v opencode' >/dev/null 2>&1; then
    check agent 'opencode --version'
    # The API itself: the start page would be fetched from the internet.
    check agent-port 'sandbox-services 2>/tmp/log & for i in $(seq 40); do sleep 0.5; code=$(curl -s -m 3 -o /dev/null -w "%{http_code}" http://127.0.0.1:4096/config); [ "$code" != 000 ] && exec echo "port 4096 answers $code"; done; tail /tmp/log; exit 1'
else echo "skip  agent: the image has no OpenCode"; fi
# A stop is obeyed at once: nobody waits ten seconds for a pause or a terminate.
id=$(docker run -d --init --cap-drop ALL --security-opt no-new-privileges:true --user 1000:1000 "$image") && sleep 1
begun=$(date +%s)
docker stop "$id" >/dev/null && took=$(($(date +%s) - begun)) && [ "$took" -le 3 ] && echo "ok    stop: ${took} s" || { echo "FAIL  stop: ${took:-?} s"; failed=1; }
docker rm -f "$id" >/dev/null 2>&1
exit "$failed"
