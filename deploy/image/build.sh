#!/bin/sh
# Builds the sandbox base image from a Debian mirror alone: no registry, and no Docker until the finished image is loaded.
# As root, on Debian or Ubuntu, with debootstrap.
#
#   build.sh [--mirror URL] [--suite NAME] [--tag NAME] [--no-caddy] [--opencode VERSION] [--packages 'A B'] [--ca FILE] [--out FILE]
#
# --ca: certificates of a proxy between here and the npm registry, which the agent (--opencode) comes from; they do not stay in the image.
# Without --out the image is loaded into this machine's Docker; with it, FILE is for `docker load` (on every host, or
# `ssh host docker load < FILE`).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mirror=http://deb.debian.org/debian suite=bookworm tag=shadow-sandbox:latest out=''
CADDY=1 OPENCODE_VERSION='' EXTRA_PACKAGES='' ca=''

die() { echo "build.sh: $*" >&2; exit 1; }
while [ $# -gt 0 ]; do
    case $1 in
    --no-caddy) CADDY=0; shift; continue ;;
    --mirror | --suite | --tag | --opencode | --packages | --ca | --out) [ $# -ge 2 ] || die "$1 needs a value" ;;
    *) die "unknown option $1; the head of this file lists them" ;;
    esac
    case $1 in
    --mirror) mirror=$2 ;;
    --suite) suite=$2 ;;
    --tag) tag=$2 ;;
    --opencode) OPENCODE_VERSION=$2 ;;
    --packages) EXTRA_PACKAGES=$2 ;;
    --ca) ca=$2 ;;
    --out) out=$2 ;;
    esac
    shift 2
done
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || die "needs root: debootstrap makes device nodes and other users' files"
for tool in debootstrap chroot tar sha256sum; do
    command -v "$tool" >/dev/null || die "needs $tool (Debian: debootstrap, coreutils, tar)"
done
[ -n "$out" ] || command -v docker >/dev/null || die "needs Docker to load the image into; or name a file with --out"

work=$(mktemp -d "${TMPDIR:-/tmp}/shadow-sandbox.XXXXXX")
# /proc is mounted inside, so removing must not follow into it.
clean() {
    umount "$work/root/proc" 2>/dev/null || true
    mountpoint -q "$work/root/proc" 2>/dev/null || rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
root=$work/root

debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; die "debootstrap failed"; }
case $suite in
sid | unstable) ;;
*) echo "deb $mirror $suite-updates main" >>"$root/etc/apt/sources.list" ;;
esac

# Names must resolve while it is filled; afterwards Docker writes both files anew in every container.
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -L /etc/hosts "$root/etc/hosts"
mount -t proc proc "$root/proc"
cp "$here/provision.sh" "$root/tmp/provision.sh"
[ -z "$ca" ] || cp "$ca" "$root/tmp/ca.pem"
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    CADDY="$CADDY" OPENCODE_VERSION="$OPENCODE_VERSION" EXTRA_PACKAGES="$EXTRA_PACKAGES" \
    ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} \
    ${NPM_CONFIG_REGISTRY:+"NPM_CONFIG_REGISTRY=$NPM_CONFIG_REGISTRY"} \
    ${ca:+NODE_EXTRA_CA_CERTS=/tmp/ca.pem} \
    chroot "$root" sh /tmp/provision.sh
umount "$root/proc"
rm -f "$root/tmp/provision.sh" "$root/tmp/ca.pem"
: >"$root/etc/resolv.conf"
: >"$root/etc/hosts"
: >"$root/etc/machine-id"
install -D -m 644 "$here/Caddyfile" "$root/etc/caddy/Caddyfile"
install -D -m 755 "$here/sandbox-services" "$root/usr/local/bin/sandbox-services"

# The format of `docker save`: one layer, and a configuration like the Dockerfile's.
case $(chroot "$root" dpkg --print-architecture) in
amd64) arch=amd64 ;;
arm64) arch=arm64 ;;
*) die "neither amd64 nor arm64" ;;
esac
mkdir "$work/image"
tar -C "$root" --numeric-owner --one-file-system --exclude=./proc/* --exclude=./sys/* --exclude=./dev/* -cf "$work/image/layer.tar" .
layer=$(sha256sum "$work/image/layer.tar" | cut -d ' ' -f 1)
cat >"$work/config.json" <<JSON
{"architecture": "$arch", "os": "linux", "created": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
 "config": {"User": "1000:1000", "WorkingDir": "/workspace", "Cmd": ["sandbox-services"],
  "Env": ["PATH=/home/user/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/user", "LANG=C.UTF-8"],
  "ExposedPorts": {"4096/tcp": {}, "20000/tcp": {}}},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]},
 "history": [{"created_by": "deploy/image/build.sh", "comment": "debootstrap $suite"}]}
JSON
config=$(sha256sum "$work/config.json" | cut -d ' ' -f 1).json
mv "$work/config.json" "$work/image/$config"
printf '[{"Config": "%s", "RepoTags": ["%s"], "Layers": ["layer.tar"]}]\n' "$config" "$tag" >"$work/image/manifest.json"

if [ -n "$out" ]; then
    tar -C "$work/image" -cf "$out.part" manifest.json "$config" layer.tar
    mv "$out.part" "$out"
    echo "build.sh: $tag in $out, $(($(stat -c %s "$out") / 1048576)) MiB; load it with: docker load < $out"
else
    tar -C "$work/image" -cf - manifest.json "$config" layer.tar | docker load
fi
