#!/bin/sh
# Checks everything in deploy/ and the two guides in docs/ that belong to it; `make check` and CI call it. What it cannot check for want of a
# tool it says loudly, and fails with CI=true.
#
#   check.sh                 everything but the images (under a minute)
#   check.sh --image         also builds the sandbox base image from a Debian mirror and runs it (root, debootstrap, Docker; five minutes)
#   PLIMSOLL=path            binary to hold the guides' commands to [default: target/debug/plimsoll; skipped if there is none]
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/plimsoll-check.XXXXXX")
# shellcheck disable=SC2317 # called by the trap
clean() { rm -rf "$work"; }
trap clean EXIT
trap 'exit 1' HUP INT TERM
failed=0 skipped=''

title() { echo "--- deploy: $*"; }
fail() { echo "FAIL  $*" >&2; failed=1; }
skip() { echo "=== SKIPPED $1: $2 ===" >&2; skipped="$skipped, $1"; }
has() { command -v "$1" >/dev/null 2>&1; }
# $1: what is checked; the rest: a command whose output is shown only if it fails.
run() {
    what=$1
    shift
    if "$@" >"$work/out" 2>&1; then echo "ok    $what"; else
        fail "$what: $*"
        sed 's/^/      /' "$work/out" >&2
    fi
}

title "scripts"
scripts=$(find deploy -name '*.sh' | sort)
if has shellcheck; then
    # shellcheck disable=SC2086 # one word per script
    run shellcheck shellcheck --shell=sh --exclude=SC2016,SC2015 $scripts deploy/image/sandbox-services
else
    for script in $scripts; do run "sh -n $script" sh -n "$script"; done
    skip shellcheck "install shellcheck"
fi

title "systemd"
if has systemd-analyze; then
    # The programs are not installed here; everything else is as it will be.
    for unit in deploy/systemd/*.service deploy/systemd/*.timer; do
        sed -E 's#^ExecStart=/usr/(local/bin/plimsoll|bin/docker-registry) #ExecStart=/bin/true #' "$unit" >"$work/${unit##*/}"
    done
    # A key that systemd does not know is only a warning to it.
    if (cd "$work" && systemd-analyze verify --man=no ./*.service ./*.timer) >"$work/out" 2>&1 && [ ! -s "$work/out" ]; then
        echo "ok    systemd-analyze verify"
    else
        fail "systemd-analyze verify"
        sed 's/^/      /' "$work/out" >&2
    fi
    for unit in "$work"/*.service; do
        # In tenths, from 0 (locked up) to 100 (free to do everything).
        if systemd-analyze security --offline=true --threshold=20 --no-pager "$unit" >"$work/out" 2>&1; then
            echo "ok    $(sed -n 's/.*Overall exposure level for \(.*\)/\1/p' "$work/out")"
        else
            fail "systemd-analyze security: $(tail -n 1 "$work/out")"
        fi
    done
    binary=${PLIMSOLL:-target/debug/plimsoll}
    if [ "$(id -u)" = 0 ] && [ -x "$binary" ] && has curl && has nsenter && grep -q ' cgroup2 ' /proc/mounts &&
        grep -qw overlay /proc/filesystems && unshare --mount --pid --uts --ipc --net --cgroup --fork true 2>/dev/null; then
        run "the units under a systemd of their own" deploy/systemd/test-units.sh "$binary"
    else
        skip "the units under systemd" "needs root, $binary, curl, nsenter, cgroup2, overlayfs, and leave to make namespaces"
    fi
    run "sysusers" systemd-sysusers --dry-run "$PWD"/deploy/systemd/plimsoll.sysusers.conf
else
    skip systemd "needs systemd-analyze (Debian package systemd)"
fi
# Distribution has no command that reads its configuration and stops, so it is asked for a collection that deletes nothing, on an empty folder.
if has docker-registry; then
    mkdir -p "$work/registry/docker/registry/v2/repositories" "$work/registry/docker/registry/v2/blobs"
    sed "s#rootdirectory: .*#rootdirectory: $work/registry#" deploy/systemd/registry.yml >"$work/registry.yml"
    run "registry.yml" docker-registry garbage-collect --dry-run "$work/registry.yml"
else
    skip registry.yml "needs docker-registry"
fi

title "compose"
if docker compose version >/dev/null 2>&1; then
    compose() { docker compose -f "$1" config --quiet; }
elif has docker-compose; then
    compose() { docker-compose -f "$1" config --quiet; }
else
    compose() { return 127; }
fi
for file in deploy/compose/compose*.yaml; do
    compose "$file" >"$work/out" 2>&1
    case $? in
    0) echo "ok    $file" ;;
    127) skip "$file" "needs docker-compose, or Docker's compose plugin" ;;
    *)
        fail "$file"
        sed 's/^/      /' "$work/out" >&2
        ;;
    esac
done

title "cloud-init"
if has cloud-init; then
    run "cloud-init schema" cloud-init schema --config-file deploy/cloud-init/host.yaml
else
    skip "cloud-init schema" "needs cloud-init"
fi
for file in /etc/docker/daemon.json /etc/ssh/sshd_config.d/10-plimsoll.conf /usr/local/sbin/plimsoll-firewall; do
    awk -v path="$file" -f deploy/cloud-init/files.awk deploy/cloud-init/host.yaml >"$work/${file##*/}"
    [ -s "$work/${file##*/}" ] || fail "host.yaml: $file could not be read from it"
done
if has python3; then run "daemon.json" python3 -m json.tool "$work/daemon.json"; fi
run "plimsoll-firewall" sh -n "$work/plimsoll-firewall"
if has shellcheck; then run "shellcheck of plimsoll-firewall" shellcheck --shell=sh "$work/plimsoll-firewall"; fi
if has sshd && has ssh && has curl && has python3; then
    run "the restricted key on a real sshd" deploy/cloud-init/test-key.sh
else
    skip "the restricted key" "needs sshd, ssh, curl and python3"
fi
if [ "$(id -u)" = 0 ] && has ip && has iptables && has nsenter && has python3 && unshare --net true 2>/dev/null; then
    run "the firewall between three namespaces" deploy/cloud-init/test-firewall.sh
else
    skip "the firewall" "needs root, ip, iptables, nsenter, python3, and leave to make network namespaces"
fi

title "Prometheus"
if has promtool; then
    run "promtool check config" promtool check config --syntax-only deploy/prometheus/prometheus.yml
    run "promtool check rules" promtool check rules deploy/prometheus/recording.yml deploy/prometheus/alerts.yml
    run "promtool test rules" promtool test rules deploy/prometheus/tests/*.yml
else
    skip "Prometheus" "needs promtool (Debian package prometheus)"
fi

title "what queries, alerts and guides name"
if has python3; then
    for check in metrics alerts codes links; do run "check.py $check" deploy/check.py "$check"; done
    binary=${PLIMSOLL:-target/debug/plimsoll}
    if [ -x "$binary" ]; then run "commands in the guides" deploy/check.py commands "$binary"; else
        skip "commands in the guides" "no $binary; build it or name one in PLIMSOLL"
    fi
else
    skip "queries, alerts and guides" "needs python3"
fi

if [ "${1:-}" = --image ]; then
    title "the sandbox base image"
    if [ "$(id -u)" = 0 ] && has debootstrap && docker info >/dev/null 2>&1; then
        run "build.sh" deploy/image/build.sh --tag shadow-sandbox:check
        run "test.sh" deploy/image/test.sh shadow-sandbox:check
        docker image rm -f shadow-sandbox:check >/dev/null 2>&1
    else
        skip "the base image" "needs root, debootstrap and a running Docker"
    fi
fi

[ -z "$skipped" ] || echo "=== NOT CHECKED for want of tools: ${skipped#, } ===" >&2
[ -z "$skipped" ] || [ "${CI:-}" != true ] || fail "CI=true: nothing may be skipped"
[ "$failed" = 0 ] && echo "deploy: all that was checked is right"
exit "$failed"
