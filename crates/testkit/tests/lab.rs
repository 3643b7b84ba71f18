//! The lab itself, on real namespaces with real daemons: what its hosts promise, what its faults do, what it leaves.

#![allow(clippy::unwrap_used)] // Helpers of tests may unwrap like tests: a panic is the report.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use plimsoll_testkit::{
    lab::{LAB_IMAGE, LAB_IMAGE_EXITS, Lab, LabHost, LabOptions, Process, generate_key},
    wait::wait_for,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);

/// Set for the process that the sweep test starts and kills.
const HOLDER: &str = "PLIMSOLL_LAB_TEST_HOLDER";

/// Whether to go on; says loudly if not. In CI a skipped lab is a failure.
fn lab_is_possible() -> bool {
    let Err(reason) = Lab::supported() else { return true };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must run the lab, but {reason}");
    static SAID: Once = Once::new();
    // Past the harness, which keeps to itself what passing tests print.
    SAID.call_once(|| {
        let _ = writeln!(std::io::stderr(), "\n=== SKIPPED the lab's own tests: {reason} ===\n");
    });
    false
}

#[tokio::test]
async fn hosts_are_machines_of_their_own() {
    if !lab_is_possible() {
        return;
    }
    let begin = Instant::now();
    let lab = Lab::start(LabOptions { hosts: 2, ..LabOptions::default() }).await.unwrap();
    eprintln!("two hosts with images started in {:?}", begin.elapsed());
    let (one, two) = (lab.host(0), lab.host(1));

    check_identity(one, two).await;
    for host in lab.hosts() {
        check_container(host).await;
    }
    assert!(one.docker(&["ps", "--all", "--format", "{{.Names}}"]).await.unwrap().contains("limited-vps-1"));
    assert!(!two.docker(&["ps", "--all", "--format", "{{.Names}}"]).await.unwrap().contains("limited-vps-1"));
    check_published_port(one).await;
    check_power_cycle(one).await;

    let leftovers = Leftovers::of(&lab);
    leftovers.assert_present();
    let begin = Instant::now();
    lab.stop().await.unwrap();
    eprintln!("stopped in {:?}", begin.elapsed());
    leftovers.assert_none();
}

#[tokio::test]
async fn faults_do_what_they_say() {
    if !lab_is_possible() {
        return;
    }
    let options = LabOptions { hosts: 2, disk: Some(512 << 20), ..LabOptions::default() };
    let lab = Lab::start(options).await.unwrap();
    let (one, two) = (lab.host(0), lab.host(1));

    one.partition().await.unwrap();
    assert!(!answers(one).await);
    two.ssh("true").await.unwrap();
    one.heal().await.unwrap();
    one.ssh("true").await.unwrap();

    one.unplug().await.unwrap();
    assert!(!answers(one).await);
    one.plug_in().await.unwrap();
    wait_for("ssh after plugging in", PATIENCE, || one.ssh("true")).await.unwrap();

    one.docker(&["run", "--detach", "--init", "--name", "lasting", LAB_IMAGE]).await.unwrap();
    one.freeze().await.unwrap();
    assert!(!answers(one).await);
    one.thaw().await.unwrap();
    one.ssh("docker -H unix:///run/docker.sock ps").await.unwrap();

    one.stop_dockerd().await.unwrap();
    assert!(one.docker(&["info"]).await.is_err());
    one.ssh("true").await.unwrap();
    one.start_dockerd().await.unwrap();
    assert_eq!(state_of(one, "lasting").await, "exited");
    one.docker(&["start", "lasting"]).await.unwrap();
    one.kill_dockerd().await.unwrap();
    one.start_dockerd().await.unwrap();

    check_ssh_faults(one, lab.folder()).await;
    check_full_disk(two).await;

    let leftovers = Leftovers::of(&lab);
    one.freeze().await.unwrap();
    drop(lab);
    leftovers.assert_none();
}

#[tokio::test]
async fn a_killed_lab_is_swept_by_the_next() {
    if !lab_is_possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "holds_a_lab_until_killed", "--nocapture"]).env(HOLDER, dir.path());
    let mut holder = Process::spawn("holder", &command, dir.path().join("holder.log")).unwrap();
    let ready = dir.path().join("ready");
    let dead = wait_for("the other process's lab", PATIENCE, || {
        let text = std::fs::read_to_string(&ready).ok();
        async move { text }
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", holder.log_tail(20)));
    let dead = Leftovers::parse(&dead);
    dead.assert_present();
    holder.kill().unwrap();
    wait_for("the kernel to end the dead lab's hosts", PATIENCE, || {
        let ended = dead.inits.iter().all(|init| !Path::new("/proc").join(init).exists());
        async move { ended }
    })
    .await
    .unwrap();

    let lab = Lab::start(LabOptions { hosts: 1, images: false, ..LabOptions::default() }).await.unwrap();
    // The subnet is free again, so the new lab may have taken it at once.
    dead.assert_none_but(Leftovers::of(&lab).bridge.as_str());
    lab.stop().await.unwrap();
}

/// Does nothing unless the test above started it.
#[tokio::test]
async fn holds_a_lab_until_killed() {
    let Some(dir) = std::env::var_os(HOLDER).map(PathBuf::from) else { return };
    let lab = Lab::start(LabOptions { hosts: 1, ..LabOptions::default() }).await.unwrap();
    lab.host(0).docker(&["run", "--detach", LAB_IMAGE]).await.unwrap();
    std::fs::write(dir.join("draft"), Leftovers::of(&lab).to_string()).unwrap();
    std::fs::rename(dir.join("draft"), dir.join("ready")).unwrap();
    std::future::pending::<()>().await;
}

async fn check_identity(one: &LabHost, two: &LabHost) {
    for host in [one, two] {
        assert_eq!(host.ssh("hostname").await.unwrap(), host.name());
        let fingerprint = host.ssh("ssh-keygen -lf /run/lab/host_key.pub").await.unwrap();
        assert!(fingerprint.contains(&host.host_key().fingerprint), "{fingerprint}");
        assert_eq!(host.ssh("docker info --format '{{.Name}}'").await.unwrap(), host.name());
    }
    let id = "cat /etc/machine-id";
    assert_ne!(one.ssh(id).await.unwrap(), two.ssh(id).await.unwrap());
    one.ssh("echo mine > /var/shadow/note").await.unwrap();
    assert_eq!(two.ssh("ls /var/shadow").await.unwrap(), "");
    let image = ["image", "inspect", "--format", "{{.Id}}", LAB_IMAGE];
    assert_eq!(one.docker(&image).await.unwrap(), two.docker(&image).await.unwrap());
}

async fn check_container(host: &LabHost) {
    let name = format!("limited-{}", host.name());
    let mut run = vec!["run", "--detach", "--init", "--name", &name, "--memory", "64m", "--memory-swap", "64m"];
    run.extend(["--cpus", "0.5", "--pids-limit", "32", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]);
    run.extend(["--volume", "/var/shadow/s1:/data", LAB_IMAGE]);
    host.docker(&run).await.unwrap();
    let limits = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max 2>/dev/null || \
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
    let limits = host.docker(&["exec", &name, "sh", "-c", limits]).await.unwrap();
    assert_eq!(limits.split_whitespace().take(3).collect::<Vec<_>>(), ["67108864", "32", "50000"]);
    let inside = "id -u; pwd; touch /workspace/x /tmp/x ~/x; cat /proc/1/comm";
    let who = host.docker(&["exec", &name, "sh", "-c", inside]).await.unwrap();
    assert_eq!(who.split_whitespace().collect::<Vec<_>>(), ["1000", "/workspace", "docker-init"]);
    let ended = host.docker_output(&["run", "--rm", LAB_IMAGE_EXITS]).await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
}

async fn check_published_port(host: &LabHost) {
    let publish = format!("{}:8080:8080", host.address());
    host.docker(&["network", "create", "private"]).await.unwrap();
    let run =
        ["run", "--detach", "--network", "private", "--publish", &publish, LAB_IMAGE, "httpd", "-f", "-p", "8080"];
    host.docker(&run).await.unwrap();
    let address = (host.address(), 8080);
    wait_for("the published port", PATIENCE, || TcpStream::connect(address)).await.unwrap();
}

async fn check_power_cycle(host: &Arc<LabHost>) {
    host.docker(&["run", "--detach", "--name", "keeper", LAB_IMAGE]).await.unwrap();
    host.docker(&["exec", "keeper", "sh", "-c", "echo kept > note"]).await.unwrap();
    let key = host.host_key();
    let begin = Instant::now();
    host.kill().await.unwrap();
    eprintln!("power off in {:?}", begin.elapsed());
    assert!(!host.is_on());
    assert!(host.docker(&["ps"]).await.is_err());
    assert!(!answers(host).await);
    let begin = Instant::now();
    host.start().await.unwrap();
    eprintln!("power on in {:?}", begin.elapsed());
    assert_eq!(host.host_key(), key);
    assert_eq!(host.ssh("cat /var/shadow/note").await.unwrap(), "mine");
    assert_eq!(state_of(host, "keeper").await, "exited");
    host.docker(&["start", "keeper"]).await.unwrap();
    assert_eq!(host.docker(&["exec", "keeper", "cat", "note"]).await.unwrap(), "kept");
}

async fn check_ssh_faults(host: &LabHost, folder: &Path) {
    host.stop_sshd().await.unwrap();
    assert!(TcpStream::connect((host.address(), 22)).await.is_err());
    host.start_sshd().await.unwrap();
    host.ssh("true").await.unwrap();

    let old = host.host_key();
    let new = host.change_host_key().await.unwrap();
    assert_ne!(old.fingerprint, new.fingerprint);
    host.ssh("true").await.unwrap();

    let own = std::fs::read_to_string(folder.join("client_key.pub")).unwrap();
    host.set_authorized_keys(&generate_key(&folder.join("stranger")).await.unwrap()).unwrap();
    let refused = host.ssh("true").await.unwrap_err();
    assert!(refused.to_string().contains("Permission denied"), "{refused}");
    host.set_authorized_keys(&own).unwrap();
    host.ssh("true").await.unwrap();
}

async fn check_full_disk(host: &LabHost) {
    host.fill_disk().await.unwrap();
    assert!(host.sh(&["sh", "-c", "echo something > /var/shadow/note"]).await.is_err());
    host.docker(&["info"]).await.unwrap();
    host.free_disk().await.unwrap();
    host.docker(&["run", "--rm", LAB_IMAGE, "true"]).await.unwrap();
}

/// Whether `sshd` greets a new connection soon.
async fn answers(host: &LabHost) -> bool {
    let greeting = async { TcpStream::connect((host.address(), 22)).await?.read_u8().await };
    tokio::time::timeout(Duration::from_secs(1), greeting).await.is_ok_and(|read| read.is_ok())
}

async fn state_of(host: &LabHost, container: &str) -> String {
    host.docker(&["inspect", "--format", "{{.State.Status}}", container]).await.unwrap()
}

/// What a lab has made, to look for afterwards.
struct Leftovers {
    bridge: String,
    folder: String,
    inits: Vec<String>,
}

impl Leftovers {
    fn of(lab: &Lab) -> Self {
        let inits = lab.hosts().iter().filter_map(|host| host.root().ok());
        let inits = inits.map(|root| root.iter().nth(2).unwrap().to_string_lossy().into_owned());
        let bridge = format!("plab{}", lab.gateway().octets()[2]);
        Self { bridge, folder: lab.folder().to_string_lossy().into_owned(), inits: inits.collect() }
    }

    fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace().map(str::to_owned);
        Self { bridge: words.next().unwrap(), folder: words.next().unwrap(), inits: words.collect() }
    }

    fn assert_present(&self) {
        for kind in ["bridge", "folder", "cgroup", "process"] {
            assert!(self.found("").iter().any(|found| found.starts_with(kind)), "no {kind} in {:?}", self.found(""));
        }
    }

    fn assert_none(&self) {
        self.assert_none_but("");
    }

    fn assert_none_but(&self, bridge: &str) {
        assert_eq!(self.found(bridge), Vec::<String>::new());
    }

    /// Left by `dockerd` in the root (version 2) or in each controller's folder (version 1).
    fn cgroups(&self, but: &str) -> Vec<String> {
        if self.bridge == but {
            return Vec::new();
        }
        let group = self.bridge.replace("plab", "plimsoll-lab-");
        let root = Path::new("/sys/fs/cgroup");
        let folders = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).chain([root.to_owned()]);
        let groups = folders.map(|folder| folder.join(&group)).filter(|group| group.exists());
        groups.map(|group| format!("cgroup {}", group.display())).collect()
    }

    fn found(&self, but: &str) -> Vec<String> {
        let mut found = Vec::new();
        for link in std::fs::read_dir("/sys/class/net").unwrap().flatten() {
            let name = link.file_name().to_string_lossy().into_owned();
            if name == self.bridge && name != but {
                found.push(format!("bridge {name}"));
            }
        }
        if Path::new(&self.folder).exists() {
            found.push(format!("folder {}", self.folder));
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        found.extend(mounts.lines().filter(|line| line.contains(&self.folder)).map(|line| format!("mount {line}")));
        let loops = std::fs::read_dir("/sys/block").unwrap().flatten();
        let backing = loops.filter_map(|disk| std::fs::read_to_string(disk.path().join("loop/backing_file")).ok());
        found.extend(backing.filter(|file| file.contains(&self.folder)).map(|file| format!("loop {file}")));
        found.extend(self.cgroups(but));
        found.extend(self.inits.iter().filter(|init| alive(init)).map(|init| format!("process {init}")));
        found
    }
}

impl std::fmt::Display for Leftovers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.bridge, self.folder, self.inits.join(" "))
    }
}

fn alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}
