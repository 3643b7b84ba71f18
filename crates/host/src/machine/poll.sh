# Reads the machine's own load. $1: the folder of Docker's data. Every section may be missing or empty.
LC_ALL=C; export LC_ALL
PATH="$PATH:/usr/sbin:/sbin"
section() { echo "@$1"; }
section time; date +%s%N
section stat; head -n 1 /proc/stat
section meminfo; cat /proc/meminfo
section psi_cpu; cat /proc/pressure/cpu
section psi_memory; cat /proc/pressure/memory
section psi_io; cat /proc/pressure/io
section machine_id; cat /etc/machine-id || cat /var/lib/dbus/machine-id
section hostname; uname -n
section kernel; uname -r
# Docker's folder may not be visible from here (rootless, a virtual machine, another mount namespace): the nearest that is counts.
folder=$1
while ! df -P -k "$folder" >/dev/null 2>&1; do
  case $folder in
    /) break ;;
    */*) folder=${folder%/*}; folder=${folder:-/} ;;
    *) folder=/ ;;
  esac
done
section df; df -P -k "$folder"
section dfi; df -P -i "$folder"
section end
