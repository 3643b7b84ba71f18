#!/bin/sh
# Runs the units under a systemd of their own, as PID 1 of new namespaces over a copy-on-write view of this machine: a node is founded and
# started, killed, stopped, and misconfigured; the registry is started and collected. Needs root, systemd, overlayfs, unshare, nsenter
# and curl; changes nothing of this machine. About half a minute.
#
#   test-units.sh BINARY     the plimsoll to install
set -eu
deploy=$(cd "$(dirname "$0")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin

# The second half of this file's life: inside the namespaces, on the way to become systemd.
if [ "${1:-}" = --inside ]; then
    work=$2 root=$2/root
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$work"
    mkdir "$work/upper" "$work/index" "$root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/index" "$root"
    mount -t proc proc "$root/proc"
    # What belongs to the kernel is everybody's.
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    for folder in run tmp dev var/lib etc/plimsoll; do
        mkdir -p "$root/$folder"
        mount -t tmpfs -o mode=0755 tmpfs "$root/$folder"
    done
    for device in null zero full random urandom tty; do
        : >"$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
    mount -t devpts -o ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ip link set lo up

    # As docs/operating.md says.
    install -m 755 "$3" "$root/usr/local/bin/plimsoll"
    install -D -m 644 "$deploy/systemd/plimsoll.sysusers.conf" "$root/usr/lib/sysusers.d/plimsoll.conf"
    install -D -m 644 "$deploy/systemd/plimsoll.tmpfiles.conf" "$root/usr/lib/tmpfiles.d/plimsoll.conf"
    install -m 640 "$deploy/plimsoll.toml" "$root/etc/plimsoll/plimsoll.toml"
    install -m 640 "$deploy/systemd/registry.yml" "$root/etc/plimsoll/registry.yml"
    # No unit of this machine's own is known in there.
    mkdir "$root/run/units"
    install -m 644 "$deploy"/systemd/*.service "$deploy"/systemd/*.timer "$root/run/units"
    for target in basic sysinit shutdown network network-online time-sync; do
        printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >"$root/run/units/$target.target"
    done
    # A unit that none names is forgotten as soon as it is stopped, and with it how it ended.
    echo 'Before=plimsoll.service plimsoll-registry.service plimsoll-registry-gc.service' >>"$root/run/units/basic.target"
    for unit in plimsoll plimsoll-registry plimsoll-registry-gc; do
        mkdir "$root/run/units/$unit.service.d"
        printf '[Service]\nStandardOutput=append:/run/%s.log\nStandardError=inherit\n' "$unit" >"$root/run/units/$unit.service.d/log.conf"
    done
    chroot "$root" systemd-sysusers plimsoll.conf
    chroot "$root" systemd-tmpfiles --create plimsoll.conf

    mkdir "$root/run/old"
    cd "$root"
    pivot_root . run/old
    umount -l run/old
    exec env -i container=plimsoll-check SYSTEMD_UNIT_PATH=/run/units PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        "$(command -v /lib/systemd/systemd || command -v /usr/lib/systemd/systemd)" --system --unit=basic.target --log-target=console
fi

binary=$(readlink -f "${1:?usage: test-units.sh BINARY}")
work=$(mktemp -d "${TMPDIR:-/tmp}/plimsoll-units.XXXXXX")
cgroup=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/${work##*/}
outer='' init=''
# shellcheck disable=SC2317 # called by the trap
clean() {
    # The end of PID 1 ends everything in there.
    [ -z "$init" ] || kill -9 "$init" 2>/dev/null || true
    [ -z "$outer" ] || wait "$outer" 2>/dev/null || true
    [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    rm -rf "$work" "$work.log"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM

inside() { nsenter --target "$init" --all env -i PATH="$PATH" LC_ALL=C "$@"; }
die() {
    echo "test-units.sh: $*" >&2
    tail -n 20 "$work.log" >&2 || true
    [ -z "$init" ] || inside sh -c 'systemctl status --no-pager plimsoll; for log in /run/*.log; do tail -n 20 $log; done' >&2 || true
    exit 1
}
# $1: seconds; $2: what is waited for; the rest: a command that succeeds once it is so.
await() {
    left=$(($1 * 5)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || die "$what: not in time"
        sleep 0.2
    done
}
shown() { inside systemctl show --property "$2" --value "$1"; }
is() { [ "$(shown "$1" "$2")" = "$3" ]; }
expect() { is "$@" || die "$1: $2 is $(shown "$1" "$2") instead of $3"; }
healthy() { inside curl --fail --silent --max-time 2 http://127.0.0.1:7070/healthz; }
up() { inside systemctl is-active --quiet "$1"; }

mkdir "$cgroup"
# A cgroup of its own first, which is the root of what systemd then sees.
sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$cgroup" \
    unshare --mount --pid --uts --ipc --net --cgroup --fork "$0" --inside "$work" "$binary" >"$work.log" 2>&1 </dev/null &
outer=$!
child() { init=$(cat "/proc/$outer/task/$outer/children") && init=${init%% *} && [ -n "$init" ]; }
await 5 "new namespaces" child
await 20 "systemd" inside systemctl is-active --quiet basic.target

inside runuser -u plimsoll -- plimsoll init >/dev/null || die "plimsoll init as the service's user"
inside systemctl start plimsoll || die "plimsoll does not start"
await 20 "/healthz" healthy
owners=$(inside find /var/lib/plimsoll -printf '%u:%g\n' | sort -u)
[ "$owners" = plimsoll:plimsoll ] || die "the data folder belongs to $owners"
[ "$(inside stat -c %a /var/lib/plimsoll)" = 700 ] || die "others may look into the data folder"

inside systemctl kill --signal KILL plimsoll
await 20 "a restart after SIGKILL" is plimsoll NRestarts 1
await 20 "/healthz after SIGKILL" healthy
up plimsoll || die "plimsoll is not active after SIGKILL"

began=$(date +%s)
inside systemctl stop plimsoll
took=$(($(date +%s) - began))
for wanted in ActiveState=inactive Result=success ExecMainCode=1 ExecMainStatus=0; do
    expect plimsoll "${wanted%=*}" "${wanted#*=}"
done
[ "$took" -lt 35 ] || die "it took $took s to stop: more than its own grace"

# A wrong configuration is tried five times and then left alone; the pause between is the unit's only change here.
inside sh -c 'printf "[Service]\nRestartSec=100ms\n" >/run/units/plimsoll.service.d/soon.conf
    echo "no_such_key = 1" >/run/toml && cat /etc/plimsoll/plimsoll.toml >>/run/toml && cat /run/toml >/etc/plimsoll/plimsoll.toml'
inside systemctl daemon-reload
inside systemctl reset-failed plimsoll 2>/dev/null || true
inside systemctl start plimsoll || true
await 20 "five starts with a wrong configuration" is plimsoll ActiveState failed
await 5 "no sixth start" is plimsoll NRestarts 5
expect plimsoll ExecMainStatus 1

if inside test -x /usr/bin/docker-registry; then
    inside systemctl start plimsoll-registry || die "plimsoll-registry does not start"
    await 20 "the registry" inside curl --fail --silent --max-time 2 http://127.0.0.1:5000/v2/
    inside systemctl start plimsoll-registry-gc || die "the registry could not be collected"
    expect plimsoll-registry-gc Result success
    await 20 "the registry after its collection" inside curl --fail --silent --max-time 2 http://127.0.0.1:5000/v2/
    owners=$(inside find /var/lib/plimsoll-registry -printf '%u:%g\n' | sort -u)
    [ "$owners" = plimsoll-registry:plimsoll-registry ] || die "the registry's folder belongs to $owners"
    inside systemctl stop plimsoll-registry
    expect plimsoll-registry Result success
else
    echo "the registry's units were not run: docker-registry is not installed"
fi
echo "systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'): started, restarted after SIGKILL, stopped in $took s, left alone when misconfigured"
