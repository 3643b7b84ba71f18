//! Whether this machine can run a lab, and what to do if it cannot.

use super::command::{find, run_blocking};

/// Each program the lab calls, and the Debian package that has it.
const TOOLS: [(&str, &str); 15] = [
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("docker-init", "tini"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("mkfs.ext4", "e2fsprogs"),
    ("busybox", "busybox-static"),
];

/// `Ok` if a lab can start here; otherwise what is missing and what to do about it, in one line.
pub(super) fn check() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("the lab needs Linux (network namespaces, cgroups); run it in a Linux machine".into());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("the lab needs root (namespaces, mounts, dockerd); run it as root or with sudo -E".into());
    }
    let missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| find(tool).is_none()).collect();
    if !missing.is_empty() {
        let list = missing.iter().map(|(tool, package)| format!("{tool} (package {package})")).collect::<Vec<_>>();
        return Err(format!("missing: {}; run deploy/lab/install-tools.sh", list.join(", ")));
    }
    // Without PT_INTERP `ldd` fails: the one busybox that works in an image with nothing else in it.
    let busybox = find("busybox").unwrap_or_default();
    if run_blocking("ldd", [&busybox]).is_ok() {
        return Err(format!("{} is not static; install the package busybox-static", busybox.display()));
    }
    let namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--mount-proc", "true"];
    run_blocking("unshare", namespaces).map(drop).map_err(|error| {
        format!(
            "this machine does not allow new namespaces ({error:#}); use a virtual machine or a privileged container"
        )
    })
}
