#!/bin/sh
# Installs what building Plimsoll, its tests and the lab need and this machine lacks. Debian and Ubuntu, as root; anywhere
# else, or without root, it only says what is missing. Starts no service. Rust itself comes from https://rustup.rs.
# With --bench also what the benches run beside: etcd.
#
# Exit code: 0 if nothing is missing (any more), 1 otherwise.
set -eu

# Folders that hold system programs but are missing from the PATH of some shells.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/libexec/docker:/usr/lib/docker

bench=
case ${1:-} in
'') ;;
--bench) bench=yes ;;
*)
    echo "install-tools: $1 is unknown; it takes --bench or nothing" >&2
    exit 1
    ;;
esac

# Each line: what is needed, and the Debian packages that have it, in order of preference; releases differ.
needs() {
    cat <<'LIST'
cc          gcc
ld          binutils
libc        libc6-dev
make        make
curl        curl
certificates ca-certificates
dockerd     docker.io
docker      docker-cli docker.io
docker-init tini
containerd  containerd
runc        runc
iptables    iptables
ip          iproute2
unshare     util-linux
nsenter     util-linux
setpriv     util-linux
mount       mount
sshd        openssh-server
ssh         openssh-client
ssh-keygen  openssh-client
mkfs.ext4   e2fsprogs
script      bsdutils
getfattr    attr
static-busybox busybox-static
prometheus  prometheus
promtool    prometheus
jq          jq
docker-registry docker-registry
LIST
    [ -z "$bench" ] || echo "etcd etcd-server etcd"
}

has() {
    case $1 in
    certificates) [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] ;;
    libc) [ -e /usr/include/stdio.h ] ;;
    # A dynamic busybox cannot start in an image that has nothing else in it.
    static-busybox) command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

missing() {
    needs | while read -r need packages; do
        has "$need" || echo "$need $packages"
    done
}

say() { echo "install-tools: $*" >&2; }

explain() {
    say "these are missing:"
    missing | while read -r need package _; do
        echo "    $need (Debian package $package)" >&2
    done
}

if [ "$(uname -s)" != Linux ]; then
    say "the lab needs Linux; use a Debian or Ubuntu machine (virtual is fine). Unit tests run anywhere with Rust and make."
    exit 1
fi
[ -n "$(missing)" ] || exit 0

if ! command -v apt-get >/dev/null; then
    explain
    say "this is neither Debian nor Ubuntu: install them with your package manager (names there may differ), then try again"
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    explain
    say "run it as root: sudo sh $0"
    exit 1
fi

# Debian asks this file before it starts a service: with 101 none is started. The old one comes back whatever happens,
# after a killed run at the latest with the next one.
policy=/usr/sbin/policy-rc.d
saved=$policy.before-plimsoll
restore() {
    rm -f "$policy"
    if [ -e "$saved" ] || [ -L "$saved" ]; then mv "$saved" "$policy"; fi
}
if grep -qs 'made by plimsoll' "$policy"; then restore; fi
trap restore EXIT
trap 'exit 1' HUP INT TERM
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$saved"; fi
printf '#!/bin/sh\n# made by plimsoll for the time of an installation\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
say "installing what is missing: $(missing | cut -d ' ' -f 1 | tr '\n' ' ')"
apt-get update -qq >&2 || say "apt-get update failed; going on with the lists that are there"
wanted=$(missing | while read -r need packages; do
    for package in $packages; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            echo "$package"
            break
        fi
    done
done | sort -u)
# shellcheck disable=SC2086 # one word per package
apt-get install -y -qq --no-install-recommends $wanted >&2 || say "apt-get install failed"

if [ -n "$(missing)" ]; then
    explain
    exit 1
fi
say "done"
