//! Snapshots: what comes out on another host is what went in, and nothing else.

use crate::{
    common::{cluster, error, lab_of, plan, run},
    registry::{Registry, commit, from_snapshot, image},
};
use bytes::Bytes;
use futures_util::stream;
use plimsoll_lifecycle::{
    naming,
    ports::{ByteStream, CommitPlan, ContainerPlan, ContainerSeen, Dial, HostDriver, Pushed, WriteOptions},
};
use plimsoll_testkit::{
    lab::{LabHost, LabOptions},
    wait::wait_for,
};
use plimsoll_types::{Code, ImageRef};
use std::{io::Read as _, path::Path, process::Command, sync::Arc, time::Duration};

/// A workspace with everything that is easily lost. `$1` is the folder.
const TREE: &str = r#"set -e; cd "$1"
mkdir -p many/deep odd gone moved 'a b'; chmod 755 .
for i in $(seq 1500); do echo "$i" > many/$i; done
for i in $(seq 300); do echo "$i" > many/deep/$i; done
head -c 33554432 /dev/urandom > big
truncate -s 67108864 sparse; printf end >> sparse; printf middle | dd of=sparse bs=1 seek=1000000 conv=notrunc 2>/dev/null
echo one > link-a; ln link-a link-b; ln link-a many/link-c
ln -s link-a to-a; ln -s /nowhere dangling; ln -s .. up
printf x > "$(printf 'line\nbreak')"; mkdir "$(printf 'dir\nbreak')"; printf y > "$(printf 'dir\nbreak/\nfile\n')"
printf z > ' lead'; printf z > '-rf'; printf z > 'q"uo'"'"'te'; printf z > 'back\slash'; printf z > '*'
mkfifo pipe
echo secret > odd/none; chmod 000 odd/none; echo s > odd/setuid; chown 4242:4343 odd/setuid; chmod 6755 odd/setuid
mkdir odd/sticky; chmod 1777 odd/sticky; mkdir odd/closed; echo c > odd/closed/c; chmod 700 odd/closed; chown 0:0 odd/closed
: > empty; mkdir empty-dir; touch -d '2001-02-03 04:05:06' many/1; touch -d '1999-01-01' odd/sticky
echo will-go > gone/x; echo will-move > moved/x
chown -R 1000:1000 many big link-a 'a b' gone moved; chown 1000:77 .
"#;

/// The lab's image with the tools of Debian's package attr.
const WITH_ATTR: &str = r#"set -e; at=$(mktemp -d)
for tool in getfattr setfattr; do
  file=$(command -v $tool); mkdir -p $at/usr/bin; cp $file $at/usr/bin/
  for lib in $(ldd $file | grep -o '/[^ ]*'); do mkdir -p $at${lib%/*}; cp -L $lib $at$lib; done
done
printf 'FROM plimsoll/lab:latest\nCOPY usr /usr/\nCOPY lib /lib/\nCOPY lib64 /lib64/\n' > $at/Dockerfile
mkdir -p $at/lib $at/lib64; DOCKER_BUILDKIT=0 docker build -q -t plimsoll/lab:attr $at; rm -r $at"#;

/// Attributes on every kind of thing that can have some; `$1` is the folder.
const ATTRIBUTES: &str = r#"set -e; cd "$1"; mkdir -p folder 'a b'; : > folder/empty; echo x > "$(printf 'line\nbreak')"; echo y > none; ln -s none to-none
setfattr -n user.note -v 'of a folder' folder; setfattr -n user.note -v 'with "quotes" and \' folder/empty; setfattr -n user.bin -v 0x00ff0a27 folder/empty
setfattr -n user.x -v 1 "$(printf 'line\nbreak')"; setfattr -n user.long -v "$(head -c 2000 /dev/zero | tr '\0' a)" 'a b'
echo s > 'a b/not-mine'; setfattr -n user.y -v 2 'a b/not-mine'; chown 4242:4242 'a b/not-mine'; chmod 000 'a b/not-mine'; chown 1000:1000 folder"#;

/// All of them.
const LISTED: &str = r#"cd "$1"; find . -print0 | sort -z | xargs -0 getfattr -h -d -e hex -m '^user\.' --"#;

/// Everything that must be the same, one line a path, by what is on the host's disk. Not the times of folders: Docker fills a volume so
/// that they are new. `$1` is the folder.
const FINGERPRINT: &str = r#"cd "$1"
find . \( -type l -o -type d \) -print0 | sort -z | xargs -0 stat -c "%f %u %g %N" --
find . -type f -print0 | sort -z | xargs -0 stat -c "%f %u %g %s %Y %h %N" --
find . ! -type l ! -type d ! -type f -print0 | sort -z | xargs -0 -r stat -c "%f %u %g %Y %N" --
find . -type f -print0 | sort -z | xargs -0 sha256sum
find . -type f -links +1 -print0 | sort -z | xargs -0 stat -c %i | awk '{ if (!($1 in m)) m[$1] = n++; print m[$1] }'
"#;

/// What must be the same of the root filesystem.
const ROOT: &str = "cat /etc/added /home/user/mine; stat -c '%f %u %g %Y %n' /etc/added /home/user/mine /opt/deep /opt/deep/tool; \
                    ls -a /etc /home/user; ls -l /opt/deep/link; ls /etc/group 2>&1; ls /bin | wc -l; ls -a /run/plimsoll /";

async fn in_folder(host: &LabHost, plan: &ContainerPlan, script: &str) -> String {
    host.sh(&["sh", "-c", script, "sh", &plan.workspace.source]).await.unwrap()
}

async fn as_root(host: &LabHost, plan: &ContainerPlan, script: &str) -> String {
    // With all capabilities of the host's root, which the sandbox itself has not.
    let pid = host.docker(&["inspect", "--format", "{{.State.Pid}}", &plan.name]).await.unwrap();
    host.sh(&["nsenter", "--target", pid.trim(), "--mount", "sh", "-c", script]).await.unwrap()
}

/// Freeze, commit, thaw, push.
async fn snapshot(driver: &dyn HostDriver, plan: &CommitPlan) -> Pushed {
    driver.freeze(&plan.container).await.unwrap();
    driver.commit(plan).await.unwrap();
    driver.thaw(&plan.container).await.unwrap();
    driver.push(plan).await.unwrap()
}

async fn restore(
    driver: &dyn HostDriver,
    old: &ContainerPlan,
    taken: &CommitPlan,
    pushed: &Pushed,
) -> (ContainerPlan, ContainerSeen) {
    driver.pull(&image(taken, pushed.digest)).await.unwrap();
    let next = from_snapshot(old, taken);
    let seen = run(driver, &next).await.unwrap();
    (next, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_goes_to_another_host_and_back() {
    let Some(lab) = lab_of(2, "a_sandbox_goes_to_another_host_and_back", LabOptions::default()).await else { return };
    let registry = Registry::start(&lab, true).await;
    let (here, there) = (registry.dial(&lab, 0), registry.dial(&lab, 1));
    let first = plan(1, 1);
    let seen = run(here.as_ref(), &first).await.unwrap();
    in_folder(lab.host(0), &first, TREE).await;
    let changes = "echo added > /etc/added; rm /etc/group; mkdir -p /opt/deep; echo t > /opt/deep/tool; chmod 4711 /opt/deep/tool; \
                   chown 5:6 /opt/deep; ln -s tool /opt/deep/link; echo mine > /home/user/mine; chown 1000 /home/user/mine; rm /bin/vi || :";
    as_root(lab.host(0), &first, changes).await;

    let one = commit(&first, &seen, 1);
    let started = std::time::Instant::now();
    let pushed = snapshot(here.as_ref(), &one).await;
    println!("first snapshot: {pushed:?} in {:?}", started.elapsed());
    assert!(pushed.sent.0 > 32 << 20 && pushed.size >= pushed.sent && pushed.layers == 3, "{pushed:?}");
    assert_eq!(pushed.architecture, here.measure().await.unwrap().0.architecture);
    let before = (in_folder(lab.host(0), &first, FINGERPRINT).await, as_root(lab.host(0), &first, ROOT).await);
    let (second, seen) = restore(there.as_ref(), &first, &one, &pushed).await;
    let after = (in_folder(lab.host(1), &second, FINGERPRINT).await, as_root(lab.host(1), &second, ROOT).await);
    same(&before.0, &after.0);
    same(&before.1, &after.1);
    assert_eq!(there.pull(&image(&one, pushed.digest)).await.unwrap().0, 0, "it is there");

    // A small change: only that is sent, though the workspace is large. Deletions and renames are honoured.
    let change = "set -e; cd \"$1\"; rm -rf gone many/7; mv moved/x moved/y; echo new > many/8; chmod 600 many/9; rm to-a; mkdir to-a; \
                  rm -r empty-dir; echo f > empty-dir; mkdir new; echo n > new/n; touch -d 2011-11-11 many/10; chown 7:7 many/deep";
    in_folder(lab.host(1), &second, change).await;
    let two = commit(&second, &seen, 2);
    let pushed = snapshot(there.as_ref(), &two).await;
    println!("second snapshot: {pushed:?}");
    assert!(pushed.sent.0 < 256 << 10, "{pushed:?}");
    let before = in_folder(lab.host(1), &second, FINGERPRINT).await;
    let fetched = here.pull(&image(&two, pushed.digest)).await.unwrap();
    assert!(fetched.0 < 256 << 10, "the host has the rest: {fetched:?}");
    let (third, seen) = restore(here.as_ref(), &second, &two, &pushed).await;
    same(&before, &in_folder(lab.host(0), &third, FINGERPRINT).await);

    // Two of the same container, one after the other: the root filesystem has not changed.
    for (number, change) in [(3, "cd \"$1\"; echo x > many/12"), (4, "cd \"$1\"; ln many/13 linked; rm link-b")] {
        in_folder(lab.host(0), &third, change).await;
        let plan = commit(&third, &seen, number);
        let pushed = snapshot(here.as_ref(), &plan).await;
        println!("snapshot {number}: {pushed:?}");
        assert!(number != 3 || pushed.sent.0 < 256 << 10, "{pushed:?}");
        let before = in_folder(lab.host(0), &third, FINGERPRINT).await;
        let (fourth, seen) = restore(there.as_ref(), &third, &plan, &pushed).await;
        same(&before, &in_folder(lab.host(1), &fourth, FINGERPRINT).await);
        there.remove_container(&seen.id).await.unwrap();
        there.remove_workspace(&fourth.workspace, cluster()).await.unwrap();
    }
    clean(here.as_ref(), lab.host(0)).await;
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_not_sent_again() {
    let Some(lab) = lab_of(1, "what_did_not_change_is_not_sent_again", LabOptions::default()).await else { return };
    let registry = Registry::start(&lab, true).await;
    let driver = registry.dial(&lab, 0);
    let first = plan(1, 1);
    let seen = run(driver.as_ref(), &first).await.unwrap();
    // One kind of thing only: no folder, no link.
    in_folder(lab.host(0), &first, "head -c 8388608 /dev/urandom > \"$1/data\"; chown 1000:1000 \"$1/data\"").await;
    let taken = commit(&first, &seen, 1);
    let pushed = snapshot(driver.as_ref(), &taken).await;
    assert!(pushed.sent.0 > 8 << 20, "{pushed:?}");
    driver.remove_container(&seen.id).await.unwrap();
    let (next, seen) = restore(driver.as_ref(), &first, &taken, &pushed).await;
    let pushed = snapshot(driver.as_ref(), &commit(&next, &seen, 2)).await;
    assert!(pushed.sent.0 < 64 << 10, "{pushed:?}");
    clean(driver.as_ref(), lab.host(0)).await;
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_come_along() {
    let Some(lab) = lab_of(2, "extended_attributes_come_along", LabOptions::default()).await else { return };
    let registry = Registry::start(&lab, true).await;
    let (here, there) = (registry.dial(&lab, 0), registry.dial(&lab, 1));
    lab.host(0).sh(&["sh", "-c", WITH_ATTR]).await.unwrap();
    let first = ContainerPlan { image: ImageRef::new("plimsoll/lab:attr").unwrap(), ..plan(1, 1) };
    let seen = run(here.as_ref(), &first).await.unwrap();
    in_folder(lab.host(0), &first, ATTRIBUTES).await;
    let before = in_folder(lab.host(0), &first, LISTED).await;
    assert_eq!(before.matches("user.").count(), 6, "{before}");
    let one = commit(&first, &seen, 1);
    let pushed = snapshot(here.as_ref(), &one).await;
    let (second, seen) = restore(there.as_ref(), &first, &one, &pushed).await;
    same(&before, &in_folder(lab.host(1), &second, LISTED).await);

    // Nor do they come back when they are taken away.
    let remove = "cd \"$1\"; setfattr -x user.note folder; setfattr -x user.x line*";
    in_folder(lab.host(1), &second, remove).await;
    let before = in_folder(lab.host(1), &second, LISTED).await;
    let two = commit(&second, &seen, 2);
    let pushed = snapshot(there.as_ref(), &two).await;
    let (third, _) = restore(here.as_ref(), &second, &two, &pushed).await;
    same(&before, &in_folder(lab.host(0), &third, LISTED).await);
    assert_eq!(before.matches("user.").count(), 4, "{before}");
    // Helpers that gave them back are gone.
    let names = lab.host(0).docker(&["ps", "--all", "--format", "{{.Names}}"]).await.unwrap();
    assert!(!names.contains("attributes"), "{names}");
    clean(there.as_ref(), lab.host(1)).await;
    lab.stop().await.unwrap();
}

/// Snapshots are listed, and removing all of them leaves no image, name or helper behind.
async fn clean(driver: &dyn HostDriver, host: &LabHost) {
    for seen in driver.list_containers(cluster()).await.unwrap() {
        driver.remove_container(&seen.id).await.unwrap();
    }
    let found = driver.list_snapshots(cluster()).await.unwrap();
    assert!(found.iter().all(|image| image.snapshot.is_some() && image.size.0 > 0), "{found:?}");
    for image in &found {
        driver.remove_snapshot(&image.name).await.unwrap();
        driver.remove_snapshot(&image.name).await.unwrap();
    }
    assert_eq!(host.docker(&["ps", "-aq"]).await.unwrap().trim(), "");
    // Docker goes on with a commit whose caller is gone; what that leaves without a name is swept.
    wait_for("no image of ours to be left", Duration::from_secs(30), || async {
        driver.sweep_snapshots(cluster()).await?;
        let images = host.docker(&["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"]).await?;
        let mut images: Vec<_> = images.lines().collect();
        images.sort_unstable();
        anyhow::ensure!(images == ["plimsoll/lab:latest", "plimsoll/lab:tiny-exit"], "{images:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

fn same(before: &str, after: &str) {
    let differences: Vec<_> = before
        .lines()
        .filter(|line| !after.lines().any(|other| other == *line))
        .map(|line| format!("- {line}"))
        .chain(after.lines().filter(|line| !before.lines().any(|other| other == *line)).map(|line| format!("+ {line}")))
        .take(40)
        .collect();
    assert!(before == after, "{}", differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_snapshot() {
    let Some(lab) = lab_of(1, "no_secret_is_in_a_snapshot", LabOptions::default()).await else { return };
    let registry = Registry::start(&lab, true).await;
    let driver = registry.dial(&lab, 0);
    let mut wanted = plan(1, 1);
    wanted.env.insert("PLAIN".to_owned(), "canary-plain".to_owned());
    wanted.labels.insert("vendor".to_owned(), "canary-label".to_owned());
    wanted.command = Some(["sh", "-c", "while :; do sleep 1; done", "canary-command"].map(str::to_owned).to_vec());
    let seen = run(driver.as_ref(), &wanted).await.unwrap();
    let options = WriteOptions { mode: Some(0o600), ..WriteOptions::default() };
    let write = |path: &'static str, text: &'static str| {
        let body: ByteStream = Box::pin(stream::iter([Ok(Bytes::from_static(text.as_bytes()))]));
        driver.files().write(&wanted.name, path, options.clone(), body)
    };
    let inside = |script: &'static str| as_root(lab.host(0), &wanted, script);
    write(naming::SECRETS_FILE, "TOKEN=canary-secret\n").await.unwrap();
    for text in [r#"{"A":"canary-old"}"#, r#"{"A":"canary-platform"}"#] {
        write(naming::PLATFORM_ENV_FILE, text).await.unwrap();
        let shown = inside("cat /tmp/.proliferate_env.json && stat -Lc '%a %u' /tmp/.proliferate_env.json").await;
        assert_eq!(shown.trim(), format!("{text}600 1000"));
        let link = inside("readlink /tmp/.proliferate_env.json; ls /tmp").await;
        assert!(link.starts_with("/run/plimsoll/") && !link.contains("plimsoll-"), "{link}");
    }
    inside("echo canary-tmpfs > /run/plimsoll/other; echo canary-shm > /dev/shm/x; echo kept > /home/user/kept").await;

    let plan = commit(&wanted, &seen, 1);
    let pushed = snapshot(driver.as_ref(), &plan).await;
    assert_eq!(pushed.layers, 3, "{pushed:?}");
    look_for_canaries(&registry.data(), &pushed);

    // A program of the sandbox's puts a file in the link's place: the layer that holds it is not kept.
    inside("rm /tmp/.proliferate_env.json; echo canary-replaced > /tmp/.proliferate_env.json").await;
    let plan = commit(&wanted, &seen, 2);
    let pushed = snapshot(driver.as_ref(), &plan).await;
    assert_eq!(pushed.layers, 1, "{pushed:?}");
    look_for_canaries(&registry.data(), &pushed);
    let shown = inside("cat /tmp/.proliferate_env.json").await;
    assert_eq!(shown.trim(), "canary-replaced", "the sandbox keeps it");
    lab.stop().await.unwrap();
}

/// Greps the image's manifest, configuration and layers, and for secrets everything that the registry has.
fn look_for_canaries(data: &Path, pushed: &Pushed) {
    let blob = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let path = data.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
        std::fs::read(path).unwrap()
    };
    let manifest: serde_json::Value = serde_json::from_slice(&blob(&pushed.digest.to_string())).unwrap();
    let config = blob(manifest["config"]["digest"].as_str().unwrap());
    let layers = manifest["layers"].as_array().unwrap();
    let layers = layers.iter().map(|layer| unpacked(&blob(layer["digest"].as_str().unwrap())));
    let image: Vec<Vec<u8>> = [manifest.to_string().into_bytes(), config].into_iter().chain(layers).collect();
    assert!(image.iter().any(|part| contains(part, b"kept")), "the layers can be read");
    for (at, part) in image.iter().enumerate() {
        assert!(!contains(part, b"canary"), "part {at}: {}", String::from_utf8_lossy(part));
    }
    let all = Command::new("find").arg(data).args(["-type", "f", "-name", "data"]).output().unwrap();
    for file in String::from_utf8(all.stdout).unwrap().lines() {
        let content = unpacked(&std::fs::read(file).unwrap());
        for secret in
            ["canary-secret", "canary-old", "canary-platform", "canary-replaced", "canary-tmpfs", "canary-plain"]
        {
            assert!(!contains(&content, secret.as_bytes()), "{secret} is in {file}");
        }
    }
}

/// A gzip's content; anything else as it is.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    let output = Command::new("gzip").args(["-dc"]).stdin(file.reopen().unwrap()).output().unwrap();
    let mut all = Vec::new();
    output.stdout.as_slice().read_to_end(&mut all).unwrap();
    all
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_layers_become_one() {
    let Some(lab) = lab_of(1, "many_layers_become_one", LabOptions::default()).await else { return };
    // One that does not allow deleting: snapshots can be taken all the same.
    let registry = Registry::start(&lab, false).await;
    let driver: Arc<dyn HostDriver> = { registry.dialer().squash_at(6).dial(&crate::common::target(lab.host(0))) };
    let mut wanted = plan(1, 1);
    let mut seen = run(driver.as_ref(), &wanted).await.unwrap();
    in_folder(
        lab.host(0),
        &wanted,
        "cd \"$1\"; echo a > a; ln a b; printf s > s; chown 7:8 s; chmod 4755 s; chown 1000 .",
    )
    .await;
    as_root(lab.host(0), &wanted, "echo r > /home/user/r; chown 1000:9 /home/user/r").await;
    let mut layers = Vec::new();
    for number in 1..=5 {
        as_root(
            lab.host(0),
            &wanted,
            &format!("echo {number} >> /home/user/r; rm -f /home/user/old; echo x > /home/user/old"),
        )
        .await;
        in_folder(lab.host(0), &wanted, &format!("cd \"$1\"; echo {number} > n{number}; rm -f n{}", number.max(2) - 2))
            .await;
        let before = in_folder(lab.host(0), &wanted, FINGERPRINT).await;
        let taken = commit(&wanted, &seen, number);
        let pushed = snapshot(driver.as_ref(), &taken).await;
        layers.push(pushed.layers);
        driver.remove_container(&seen.id).await.unwrap();
        driver.remove_workspace(&wanted.workspace, cluster()).await.unwrap();
        (wanted, seen) = restore(driver.as_ref(), &wanted, &taken, &pushed).await;
        same(&before, &in_folder(lab.host(0), &wanted, FINGERPRINT).await);
        let root =
            as_root(lab.host(0), &wanted, "cat /home/user/r | tr '\\n' ' '; stat -c '%u %g' /home/user/r; ls /bin/sh")
                .await;
        assert!(root.starts_with("r 1 ") && root.contains("1000 9"), "{root}");
    }
    assert_eq!(layers, [3, 5, 1, 3, 5]);
    let client = registry.dialer().registry().unwrap();
    let last = &client.list(cluster()).await.unwrap()[0];
    let refused = error(client.delete(&last.repository, last.snapshot.unwrap()).await, "deleting");
    assert!(
        refused.code == Code::Unsupported && refused.message.contains("REGISTRY_STORAGE_DELETE_ENABLED"),
        "{refused}"
    );
    clean(driver.as_ref(), lab.host(0)).await;
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_commit_left_is_replaced() {
    let Some(lab) = lab_of(1, "what_an_interrupted_commit_left_is_replaced", LabOptions::default()).await else {
        return;
    };
    let registry = Registry::start(&lab, true).await;
    let driver = registry.dial(&lab, 0);
    let wanted = plan(1, 1);
    let seen = run(driver.as_ref(), &wanted).await.unwrap();
    in_folder(lab.host(0), &wanted, "echo first > \"$1/x\"; head -c 100000000 /dev/zero > \"$1/zeros\"").await;
    let plan = commit(&wanted, &seen, 1);
    assert_eq!(error(driver.commit(&plan).await, "a container that runs").code, Code::Conflict);
    driver.freeze(&seen.id).await.unwrap();
    // Cut short at several places, as by a leader that dies.
    for ms in [5, 60, 150, 300, 500, 800] {
        let cut = std::time::Duration::from_millis(ms);
        let finished = tokio::time::timeout(cut, driver.commit(&plan)).await.is_ok();
        println!("cut after {ms} ms: {}", if finished { "was finished" } else { "cut" });
    }
    driver.commit(&plan).await.unwrap();
    driver.commit(&plan).await.unwrap();
    driver.thaw(&seen.id).await.unwrap();
    let found = driver.list_snapshots(cluster()).await.unwrap();
    // With what is on the way to it, until it is pushed.
    assert!(found.iter().all(|image| image.snapshot == Some(plan.snapshot)), "{found:?}");
    let pushed = driver.push(&plan).await.unwrap();
    let names = lab.host(0).docker(&["ps", "-a", "--format", "{{.Names}}"]).await.unwrap();
    assert_eq!(names.trim(), wanted.name, "no helper is left");
    let again = driver.push(&plan).await.unwrap();
    assert_eq!((again.digest, again.sent.0), (pushed.digest, 0), "twice is once");

    // A half-filled workspace of an interrupted create is not kept.
    driver.pull(&image(&plan, pushed.digest)).await.unwrap();
    driver.remove_container(&seen.id).await.unwrap();
    let next = from_snapshot(&wanted, &plan);
    let options = ["type=none", "o=bind", &format!("device={}", next.workspace.source)].map(|o| format!("--opt={o}"));
    let label = format!("--label=plimsoll.cluster={}", cluster());
    in_folder(lab.host(0), &next, "mkdir -p \"$1\"; echo half > \"$1/x\"; echo half > \"$1/y\"").await;
    lab.host(0)
        .docker(&["volume", "create", &label, &options[0], &options[1], &options[2], &next.workspace.volume])
        .await
        .unwrap();
    let restored = run(driver.as_ref(), &next).await.unwrap();
    assert_eq!(in_folder(lab.host(0), &next, "cd \"$1\"; cat x; ls").await, "first\nx\nzeros");
    // And what stands is not emptied by a second try.
    in_folder(lab.host(0), &next, "echo later > \"$1/later\"").await;
    assert_eq!(driver.create_container(&next).await.unwrap().id, restored.id);
    assert_eq!(in_folder(lab.host(0), &next, "cat \"$1/later\"").await, "later");
    clean(driver.as_ref(), lab.host(0)).await;
    lab.stop().await.unwrap();
}
