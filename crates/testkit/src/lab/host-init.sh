# The first program inside a lab host. It runs in new mount, uts, ipc, net and pid namespaces and turns them into
# something that looks like a machine of its own: own /run, /var, /etc, name and machine id. Then it becomes the init
# process that collects orphans; when that is killed, the kernel kills everything else in the host.
#
# Arguments: the host's folder, its name, the init program.
set -eu
folder=$1 name=$2 init=$3

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lab /run/sshd /run/lock
mount --bind "$folder" /run/lab

# A real folder, or a small disk of its own if the lab wants one that can be filled.
var=/run/lab/var
if [ -f /run/lab/disk.img ]; then
    mkdir /run/disk
    mount -o loop /run/lab/disk.img /run/disk
    var=/run/disk/var
fi
mkdir -p "$var/lib" "$var/log" "$var/tmp" "$var/cache" "$var/empty" "$var/shadow"
ln -sfn /run "$var/run"
ln -sfn /run/lock "$var/lock"
mount --bind "$var" /var

# A home of its own: this machine's shell start-up files are not a rented host's, and may wait for locks that a host which was
# powered off left behind.
mount -t tmpfs -o mode=700 tmpfs /root

mkdir -p /run/lab/etc /run/lab/etc-work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/lab/etc,workdir=/run/lab/etc-work /etc
cp /run/lab/machine-id /etc/machine-id
hostname "$name"
echo "$name" >/etc/hostname
# No name server is reachable, so looking a name up has to fail at once instead of after a timeout.
rm -f /etc/resolv.conf
echo 'nameserver 127.0.0.1' >/etc/resolv.conf
# sshd refuses locked accounts, even with a key.
if [ -f /etc/shadow ]; then sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow; fi

: >/run/lab/up
exec "$init" -- sleep infinity
