//! Containers: the name decides, nothing leaks, nothing is allowed.

use crate::common::{cluster, dial, error, lab, lab_with, plan, run, target};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use plimsoll_lifecycle::{
    naming,
    ports::{ByteStream, ContainerState, ExecEvent, ExecRequest, HostDriver, HostFailure, LogOptions, WriteOptions},
};
use plimsoll_testkit::{lab::LabOptions, wait::wait_for};
use plimsoll_types::{ClusterId, Code, ImageRef, Runtime, SandboxId};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Runs a command and answers with its output.
async fn said(driver: &dyn HostDriver, container: &str, argv: &[&str]) -> String {
    let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
    let mut session = driver.exec(container, ExecRequest { argv, ..ExecRequest::default() }).await.unwrap();
    let mut text = Vec::new();
    while let Some(event) = session.events.next().await {
        match event.unwrap() {
            ExecEvent::Stdout(piece) | ExecEvent::Stderr(piece) => text.extend_from_slice(&piece),
            ExecEvent::Exit { .. } => break,
        }
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_once() {
    let Some(lab) = lab("a_name_is_taken_once").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    let first = plan(1, 1);
    let made = join_all((0..12).map(|_| driver.create_container(&first))).await;
    let mut ids: Vec<String> = made.into_iter().map(|made| made.unwrap().id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "many creators, one container");
    let started = driver.start_container(&first.name).await.unwrap();
    assert_eq!(started.state, ContainerState::Running);
    assert_eq!(driver.start_container(&started.id).await.unwrap(), started, "twice is once");
    let networks = host.docker(&["network", "ls", "-q", "--filter", "name=shadow-net-default"]).await.unwrap();
    assert_eq!(networks.lines().count(), 1);
    // And it was made once. Docker cuts times to seconds: what was just made is told only up to the next one.
    let soon = (std::time::SystemTime::now() + Duration::from_secs(1)).duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = soon.as_secs().to_string();
    let made = ["events", "--since", "1h", "--until", &until, "--filter", "type=network", "--filter", "event=create"];
    let made = host.docker(&made).await.unwrap();
    assert_eq!(made.lines().filter(|line| line.contains("shadow-net-default")).count(), 1, "{made}");

    // The next incarnation takes the name; the old one is stopped and kept.
    let second = driver.create_container(&plan(1, 2)).await.unwrap();
    assert_ne!(second.id, started.id);
    let old = driver.inspect(&started.id).await.unwrap().expect("kept");
    assert!(matches!(old.state, ContainerState::Exited(_)), "{old:?}");
    assert_eq!(old.name, naming::fenced(&first.name, first.generation));
    assert_eq!(error(driver.start_container(&old.id).await, "starting a fenced one").code, Code::Conflict);
    assert_eq!(error(driver.create_container(&first).await, "an outdated create").code, Code::Conflict);

    // Another sandbox of the same session, later: the same.
    let mut later = plan(1, 1);
    later.sandbox = SandboxId::from_parts(99, 1);
    let third = driver.create_container(&later).await.unwrap();
    assert_eq!(driver.list_containers(cluster()).await.unwrap().len(), 3);
    assert_eq!(driver.list_containers(ClusterId::from_parts(5, 5)).await.unwrap(), []);

    // What is not ours is not touched.
    let foreign = plan(2, 1);
    host.docker(&["create", "--name", &foreign.name, foreign.image.as_str()]).await.unwrap();
    let clash = error(driver.create_container(&foreign).await, "a foreign container");
    assert_eq!((clash.code, clash.failure), (Code::NameClash, HostFailure::ThisHost));
    let mut neighbour = plan(1, 9);
    neighbour.cluster = ClusterId::from_parts(5, 5);
    neighbour.network.name = "other-net".to_owned();
    assert_eq!(error(driver.create_container(&neighbour).await, "another cluster's").code, Code::NameClash);

    // Everything goes again, in any order and twice.
    let busy = error(driver.remove_workspace(&first.workspace, cluster()).await, "a workspace in use");
    assert_eq!(busy.code, Code::Conflict);
    for id in [&started.id, &second.id, &third.id, &third.id] {
        driver.remove_container(id).await.unwrap();
    }
    let stranger = error(driver.remove_workspace(&first.workspace, ClusterId::from_parts(5, 5)).await, "a stranger's");
    assert_eq!(stranger.code, Code::NameClash);
    let folder = host.root().unwrap().join("var/shadow/sandboxes/s1");
    assert!(folder.exists());
    for _ in 0..2 {
        driver.remove_workspace(&first.workspace, cluster()).await.unwrap();
        driver.remove_idle_networks(cluster()).await.unwrap();
    }
    assert!(!folder.exists());
    assert_eq!(host.docker(&["volume", "ls", "-q"]).await.unwrap().trim(), "");
    let networks = host.docker(&["network", "ls", "-q", "--filter", "name=shadow-net"]).await.unwrap();
    assert_eq!(networks.trim(), "");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_may_do_nothing_it_need_not() {
    let Some(lab) = lab("a_sandbox_may_do_nothing_it_need_not").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    let mut wanted = plan(1, 1);
    wanted.labels.insert("plimsoll.cluster".to_owned(), "forged".to_owned());
    let seen = run(driver.as_ref(), &wanted).await.unwrap();
    assert_eq!(
        (seen.cluster, seen.sandbox, seen.generation),
        (Some(cluster()), Some(wanted.sandbox), Some(wanted.generation))
    );
    let inside = |argv: &'static [&'static str]| said(driver.as_ref(), "shadow-session-s1", argv);
    assert!(inside(&["id"]).await.starts_with("uid=1000(user) gid=1000(user)"));
    let status = inside(&["cat", "/proc/self/status"]).await;
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}\n{status}");
    }
    assert!(inside(&["sh", "-c", "ls /run/docker.sock /var/run/docker.sock 2>&1"]).await.contains("No such file"));
    let limit =
        inside(&["sh", "-c", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"])
            .await;
    assert_eq!(limit.trim(), (64 << 20).to_string());
    assert_eq!(inside(&["stat", "-c", "%a %u %g", "/run/plimsoll"]).await.trim(), "700 1000 1000");
    assert_eq!(inside(&["stat", "-c", "%u", "/workspace"]).await.trim(), "1000");
    assert_eq!(inside(&["hostname"]).await.trim(), "s1");
    assert_eq!(inside(&["sh", "-c", "touch /workspace/x && echo $GREETING"]).await.trim(), "hello world");
    assert!(host.root().unwrap().join("var/shadow/sandboxes/s1/x").exists(), "the workspace is the host's folder");

    let format = "{{.HostConfig.Privileged}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} \
                  {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.SecurityOpt}} {{.HostConfig.Init}} \
                  {{.HostConfig.LogConfig.Config}}";
    let config = host.docker(&["inspect", "--format", format, &wanted.name]).await.unwrap();
    assert_eq!(
        config.trim(),
        "false 67108864 67108864 64 500000000 no [no-new-privileges:true] true map[max-file:3 max-size:10m]"
    );
    // Two sandboxes of a tenant cannot talk to each other.
    run(driver.as_ref(), &plan(2, 1)).await.unwrap();
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = host.docker(&["inspect", "--format", format, "shadow-session-s2"]).await.unwrap();
    let script = "echo x | nc -w 1 $0 4096 && echo reached || echo apart";
    said(driver.as_ref(), "shadow-session-s2", &["sh", "-c", "nc -l -p 4096 >/dev/null 2>&1 &"]).await;
    let reached = said(driver.as_ref(), "shadow-session-s1", &["sh", "-c", script, address.trim()]).await;
    assert!(reached.contains("apart"), "{reached}");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_image_gets_the_same_user() {
    let Some(lab) = lab("every_image_gets_the_same_user").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    // Images whose own user is another, with and without the sandboxes' user among their accounts, or without any.
    let nobody = "root:x:0:0::/root:/bin/sh\nuser:x:77:77::/:/bin/sh\nnobody:x:65534:65534::/none:/bin/false";
    let images = [
        ("nobody:1", nobody, "USER nobody", "sandbox", "/home/sandbox"),
        ("number:1", "node:x:1000:5::/home/node:/bin/sh\n", "USER 65534:65534", "node", "/home/node"),
        ("bare:1", "", "USER 0", "user", "/home/user"),
    ];
    for (n, (image, passwd, user, name, home)) in (1..).zip(images) {
        // `import` keeps nothing of the lab image's configuration.
        let script = "set -e; docker='docker -H unix:///run/docker.sock'; root=$(mktemp -d); cd $root
            id=$($docker create plimsoll/lab:latest); $docker export $id | tar -x --exclude=dev; $docker rm $id >/dev/null
            if [ -n \"$2\" ]; then printf %s \"$2\" > etc/passwd; mkdir -p home/node; chown 1000 home/node
            else rm -r etc/passwd etc/group home; fi
            tar -c . | $docker import --change \"$3\" - $1 >/dev/null; rm -r $root";
        host.sh(&["sh", "-c", script, "sh", image, passwd, user]).await.unwrap();
        let mut wanted = plan(n, 1);
        wanted.image = ImageRef::new(image).unwrap();
        // Twice: an earlier try may have ended anywhere.
        driver.create_container(&wanted).await.unwrap();
        run(driver.as_ref(), &wanted).await.unwrap();
        let script = "whoami; id -u; id -g; echo ~; cd && echo x > written && rm written && pwd; umask; \
                      echo x > /workspace/written && stat -c %u:%g /workspace /workspace/written";
        let text = said(driver.as_ref(), &wanted.name, &["sh", "-c", script]).await;
        let expected = format!("{name}\n1000\n1000\n{home}\n{home}\n0022\n1000:1000\n1000:1000\n");
        assert_eq!(text, expected, "{image}");
        let main = said(driver.as_ref(), &wanted.name, &["grep", "-h", "Uid", "/proc/1/status"]).await;
        assert_eq!(main.trim(), "Uid:\t1000\t1000\t1000\t1000", "{image}");

        let secret: ByteStream = Box::pin(stream::iter([Ok(Bytes::from_static(b"token=x\n"))]));
        let options = WriteOptions { mode: Some(0o600), ..WriteOptions::default() };
        driver.files().write(&wanted.name, naming::SECRETS_FILE, options, secret).await.unwrap();
        let text = said(driver.as_ref(), &wanted.name, &["cat", naming::SECRETS_FILE]).await;
        assert_eq!(text, "token=x\n", "{image}");
        let passwd =
            said(driver.as_ref(), &wanted.name, &["sh", "-c", "ls -ld /etc/passwd; grep -c :1000: /etc/passwd"]);
        let passwd = passwd.await;
        assert!(
            passwd.starts_with("-rw-r--r--    1 root     root") || passwd.starts_with("-rw-r--r--    1 0"),
            "{passwd}"
        );
        assert!(passwd.ends_with("\n1\n"), "one account, however often it was made: {passwd}");
    }
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_answers_talks_and_is_counted() {
    let Some(lab) = lab("a_sandbox_answers_talks_and_is_counted").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    let mut web = plan(1, 1);
    web.ports.address = host.address().into();
    web.command = Some(
        [
            "sh",
            "-c",
            "echo up; echo oops >&2; mkdir -p /tmp/w; echo page > /tmp/w/index.html; httpd -f -p 4096 -h /tmp/w",
        ]
        .map(str::to_owned)
        .to_vec(),
    );
    let seen = run(driver.as_ref(), &web).await.unwrap();
    let [(4096, address, port)] = seen.ports[..] else { panic!("{seen:?}") };
    let page = wait_for("the sandbox's port answers", SOON, || async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect((address, port)).await?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        anyhow::ensure!(text.contains("page"), "{text}");
        anyhow::Ok(text)
    });
    page.await.unwrap();

    let mut logs = driver.logs(&seen.id, LogOptions { follow: true, tail: None }).await.unwrap();
    let mut text = String::new();
    while !(text.contains("up\n") && text.contains("oops\n")) {
        text.push_str(std::str::from_utf8(&logs.next().await.expect("a line").unwrap()).unwrap());
    }
    said(driver.as_ref(), &seen.id, &["sh", "-c", "echo later > /proc/1/fd/1"]).await;
    while !text.contains("later\n") {
        text.push_str(std::str::from_utf8(&logs.next().await.expect("a line").unwrap()).unwrap());
    }
    drop(logs);
    let mut tail = driver.logs(&seen.id, LogOptions { follow: false, tail: Some(1) }).await.unwrap();
    assert_eq!(tail.next().await.expect("the last line").unwrap(), "later\n");
    assert!(tail.next().await.is_none());

    let busy =
        ExecRequest { argv: ["sh", "-c", "while :; do :; done"].map(str::to_owned).to_vec(), ..ExecRequest::default() };
    let session = driver.exec(&seen.id, busy).await.unwrap();
    wait_for("the sandbox's CPU is seen", SOON, || async {
        let stats = driver.stats(&seen.id).await.unwrap();
        assert!(stats.memory.0 > 0 && stats.memory_limit.0 == 64 << 20 && stats.pids >= 2, "{stats:?}");
        (200..=700).contains(&stats.cpu.0) && stats.received.0 > 0
    })
    .await
    .unwrap();
    drop(session);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let Some(lab) = lab("what_cannot_start_says_why").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    let mut ends = plan(1, 1);
    ends.command = Some(["sh", "-c", "echo no such config; exit 3"].map(str::to_owned).to_vec());
    let failed = run(driver.as_ref(), &ends).await.unwrap_err().to_string()
        + &format!("{:#}", driver.start_container(&ends.name).await.unwrap_err());
    assert!(failed.contains("exit code 3") && failed.contains("no such config"), "{failed}");

    let mut absent = plan(2, 1);
    absent.command = Some(vec!["/no/such/program".to_owned()]);
    driver.create_container(&absent).await.unwrap();
    let failed = error(driver.start_container(&absent.name).await, "a program that is not there");
    assert_eq!((failed.code, failed.failure), (Code::StartFailed, HostFailure::Permanent), "{failed}");

    let mut odd = plan(3, 1);
    odd.runtime = Runtime::Runsc;
    let failed = error(driver.create_container(&odd).await, "a runtime that is not there");
    assert_eq!((failed.code, failed.failure), (Code::StartFailed, HostFailure::ThisHost), "{failed}");

    let mut far = plan(4, 1);
    far.ports.address = "192.0.2.1".parse().unwrap();
    driver.create_container(&far).await.unwrap();
    let failed = error(driver.start_container(&far.name).await, "an address that is not the host's");
    assert_eq!((failed.code, failed.failure), (Code::PortClash, HostFailure::ThisHost), "{failed}");

    let mut unknown = plan(5, 1);
    unknown.image = ImageRef::new("no/such:1").unwrap();
    assert_eq!(error(driver.create_container(&unknown).await, "an image that is not there").code, Code::ImageNotFound);
    let failed = error(driver.ensure_image(&unknown.image).await, "pulling without a network");
    assert_eq!(failed.code, Code::ImagePullFailed, "{failed}");
    driver.ensure_image(&plan(1, 1).image).await.unwrap();

    let mut outside = plan(6, 1).workspace;
    outside.source = "/var/shadow/../../etc".to_owned();
    assert_eq!(error(driver.remove_workspace(&outside, cluster()).await, "a path outside").code, Code::InvalidRequest);
    assert_eq!(error(driver.stats("../x").await.map(drop), "a name that is a path").code, Code::InvalidRequest);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_user_without_rights_is_helped() {
    // No script runs on this host: as for a user who may use Docker and nothing else.
    let options = LabOptions { sshd: vec!["ForceCommand /bin/false".to_owned()], ..LabOptions::default() };
    let Some(lab) = lab_with("a_login_user_without_rights_is_helped", options).await else {
        return;
    };
    let host = lab.host(0);
    let driver = dial(&target(host));
    let wanted = plan(1, 1);
    run(driver.as_ref(), &wanted).await.unwrap();
    assert_eq!(
        said(driver.as_ref(), &wanted.name, &["sh", "-c", "echo x > /workspace/x && cat /workspace/x"]).await,
        "x\n"
    );
    let folder = host.root().unwrap().join("var/shadow/sandboxes/s1");
    assert!(folder.join("x").exists());
    driver.remove_container(&wanted.name).await.unwrap();
    driver.remove_workspace(&wanted.workspace, cluster()).await.unwrap();
    assert!(!folder.exists());
    assert_eq!(driver.list_containers(cluster()).await.unwrap(), [], "no helper is left");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_the_hosts_fault() {
    let options = LabOptions { disk: Some(512 << 20), ..LabOptions::default() };
    let Some(lab) = lab_with("a_full_disk_is_the_hosts_fault", options).await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    run(driver.as_ref(), &plan(1, 1)).await.unwrap();
    host.fill_disk().await.unwrap();
    let (_, load) = driver.measure().await.unwrap();
    assert!(load.disk.0 > 400 << 20, "{load:?}");
    let full = error(driver.create_container(&plan(2, 1)).await, "creating on a full disk");
    assert_eq!((full.code, full.failure), (Code::HostFull, HostFailure::ThisHost), "{full}");
    let content: ByteStream = Box::pin(stream::iter([Ok(Bytes::from(vec![7; 1 << 20]))]));
    let written = driver.files().write("shadow-session-s1", "/workspace/x", WriteOptions::default(), content).await;
    assert_eq!(error(written, "writing to a full disk").code, Code::HostFull);
    host.free_disk().await.unwrap();
    run(driver.as_ref(), &plan(2, 1)).await.unwrap();
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_leader_left_is_found_and_goes() {
    let Some(lab) = lab("what_a_dead_leader_left_is_found_and_goes").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    assert_eq!(driver.list_workspaces(cluster()).await.unwrap(), []);
    let wanted = plan(1, 1);
    // Docker refuses the container after its volume and folder were made.
    let mut refused = plan(2, 1);
    refused.memory = plimsoll_types::Bytes::mib(1);
    error(driver.create_container(&refused).await, "a container that Docker refuses");
    let made = driver.create_container(&wanted).await.unwrap();
    let mut listed = driver.list_workspaces(cluster()).await.unwrap();
    listed.sort_by(|a, b| a.volume.cmp(&b.volume));
    assert_eq!(listed, [wanted.workspace.clone(), refused.workspace.clone()]);
    assert_eq!(driver.list_workspaces(ClusterId::from_parts(5, 5)).await.unwrap(), []);

    // A container that never ran uses its network: it is not idle.
    driver.remove_idle_networks(cluster()).await.unwrap();
    let networks = ["network", "ls", "-q", "--filter", "name=shadow-net"];
    assert_eq!(host.docker(&networks).await.unwrap().lines().count(), 1, "{made:?}");
    // Taken away all the same, by another node: the create is done anew.
    host.docker(&["network", "rm", &wanted.network.name]).await.unwrap();
    let gone = error(driver.start_container(&made.id).await, "a start without its network");
    assert_eq!((gone.code, gone.failure), (Code::Conflict, HostFailure::Transient), "{gone}");
    assert_eq!(driver.inspect(&made.id).await.unwrap(), None);
    let again = run(driver.as_ref(), &wanted).await.unwrap();
    assert!(again.state == ContainerState::Running && again.id != made.id);

    driver.remove_container(&again.id).await.unwrap();
    for mount in &listed {
        driver.remove_workspace(mount, cluster()).await.unwrap();
    }
    assert_eq!(driver.list_workspaces(cluster()).await.unwrap(), []);
    let folders = host.root().unwrap().join("var/shadow/sandboxes");
    assert_eq!(std::fs::read_dir(folders).unwrap().count(), 0);
    lab.stop().await.unwrap();
}

/// Two leaders, one after the other, may each have made a network, and Docker starts nothing where a name is ambiguous.
#[tokio::test(flavor = "multi_thread")]
async fn networks_of_one_name_become_one() {
    let Some(lab) = lab("networks_of_one_name_become_one").await else { return };
    let host = lab.host(0);
    let double = format!(
        r#"{{"Name": "{}", "Driver": "bridge", "Labels": {{"{}": "{}"}}}}"#,
        plan(1, 1).network.name,
        naming::label::CLUSTER,
        cluster()
    );
    let double_it = async || {
        let args = ["--silent", "--fail", "--unix-socket", "/run/docker.sock", "-H", "Content-Type: application/json"];
        let request = ["-d", &double, "http://docker/networks/create"];
        host.sh(&[&["curl"], &args[..], &request[..]].concat()).await.unwrap();
    };
    let networks = async || {
        let list = ["network", "ls", "-q", "--filter", "name=shadow-net-default"];
        host.docker(&list).await.unwrap().lines().count()
    };
    // Created on the oldest, and doubled before it was started.
    let driver = dial(&target(host));
    let first = driver.create_container(&plan(1, 1)).await.unwrap();
    double_it().await;
    double_it().await;
    assert_eq!(networks().await, 3, "Docker allows it");
    assert_eq!(driver.start_container(&first.id).await.unwrap().state, ContainerState::Running);
    assert_eq!(networks().await, 1);

    // Doubled while a container runs: the next leader's first create sees to it.
    double_it().await;
    let next = dial(&target(host));
    run(next.as_ref(), &plan(2, 1)).await.unwrap();
    assert_eq!(networks().await, 1);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cpu_limit_beyond_the_host_is_all_of_the_host() {
    let Some(lab) = lab("a_cpu_limit_beyond_the_host_is_all_of_the_host").await else { return };
    let host = lab.host(0);
    let mut wanted = plan(1, 1);
    wanted.cpu = plimsoll_types::MilliCpu(1_024_000);
    // Before any poll, as on a node that just became the leader.
    run(dial(&target(host)).as_ref(), &wanted).await.unwrap();
    let limit = host.docker(&["inspect", "--format", "{{.HostConfig.NanoCpus}}", &wanted.name]).await.unwrap();
    let cpus: u64 = host.docker(&["info", "--format", "{{.NCPU}}"]).await.unwrap().trim().parse().unwrap();
    assert_eq!(limit.trim(), (cpus * 1_000_000_000).to_string());
    lab.stop().await.unwrap();
}
