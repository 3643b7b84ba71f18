#!/bin/sh
# Turns a bare Debian root filesystem into the sandbox base image; runs as root inside it. The Dockerfile and build.sh share it.
#
# Needs a Debian mirror, and nothing else as long as OPENCODE_VERSION is empty. Environment:
#   CADDY             1 installs Caddy (Debian's package), 0 does not
#   OPENCODE_VERSION  version of the npm package opencode-ai; empty leaves the coding agent out
#   EXTRA_PACKAGES    further Debian packages
set -eu
: "${CADDY:=1}" "${OPENCODE_VERSION:=}" "${EXTRA_PACKAGES:=}"
export DEBIAN_FRONTEND=noninteractive

packages='attr bash ca-certificates curl git jq less nodejs npm openssh-client procps python3 python3-pip python3-venv ripgrep unzip xz-utils'
[ "$CADDY" = 0 ] || packages="$packages caddy"

# No daemon starts while packages are unpacked, and nothing is kept that only apt's next run would need.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -qq
# shellcheck disable=SC2086 # one word per package
apt-get install -y -qq --no-install-recommends $packages $EXTRA_PACKAGES
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/apt /var/log/*.log /usr/sbin/policy-rc.d
rm -rf /usr/share/man/* /usr/share/doc/*/changelog* /usr/share/doc/*/NEWS*

if [ -n "$OPENCODE_VERSION" ]; then
    npm install --global --no-fund --no-audit "opencode-ai@$OPENCODE_VERSION"
    npm cache clean --force >/dev/null 2>&1
    rm -rf /root/.npm
fi

# The one user of every sandbox; Plimsoll runs it as 1000:1000 whatever the image says.
groupadd --gid 1000 user
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash user
install -d -o user -g user -m 755 /workspace
# pip and npm install into the user's home, without root.
install -d -o user -g user /home/user/.local /home/user/.local/bin /home/user/.config
printf 'prefix=/home/user/.local\n' >/home/user/.npmrc
chown user:user /home/user/.npmrc
git config --system init.defaultBranch main
# A workspace that was restored on another host may have been made by another user.
git config --system --add safe.directory '*'
# Nothing in a sandbox can gain rights (no-new-privileges), so these bits only invite attempts.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
