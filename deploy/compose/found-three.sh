#!/bin/sh
# Founds the cluster of compose.three.yaml, once: the first node, then two that join with a token each.
set -eu
cd "$(dirname "$0")"
if docker compose version >/dev/null 2>&1; then
    compose() { docker compose -f compose.three.yaml "$@"; }
else
    compose() { docker-compose -f compose.three.yaml "$@"; }
fi

compose run --rm -T node1 init
compose up -d node1
for node in node2 node3; do
    token=''
    # A node that has just started takes a moment to lead itself.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        token=$(compose exec -T node1 plimsoll --output json cluster token | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p') || true
        [ -z "$token" ] || break
        sleep 1
    done
    [ -n "$token" ] || { echo "found-three.sh: node1 gives no token; see: docker compose -f compose.three.yaml logs node1" >&2; exit 1; }
    printf '%s\n' "$token" | compose run --rm -T "$node" join -
    compose up -d "$node"
done
compose exec -T node1 plimsoll cluster status
