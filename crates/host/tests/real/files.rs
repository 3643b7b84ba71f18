//! Files in sandboxes: any name, any byte, any size.

use crate::common::{dial, error, lab, plan, run, target};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::ports::{ByteStream, EntryKind, HostDriver, HostError, HostFailure, WriteOptions};
use plimsoll_types::Code;
use std::time::Instant;

const BOX: &str = "shadow-session-s1";

fn body(pieces: &[&[u8]]) -> ByteStream {
    let pieces: Vec<Result<Bytes, HostError>> = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(stream::iter(pieces))
}

async fn content(mut stream: ByteStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

async fn write(driver: &dyn HostDriver, path: &str, bytes: &[u8]) {
    driver.files().write(BOX, path, WriteOptions::default(), body(&[bytes])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_have_any_name_and_any_byte() {
    let Some(lab) = lab("files_have_any_name_and_any_byte").await else { return };
    let driver = dial(&target(lab.host(0)));
    run(driver.as_ref(), &plan(1, 1)).await.unwrap();
    let files = driver.files();
    let every: Vec<u8> = (0..=255).collect();
    let names = ["plain", "two words", "line\nbreak", "-rf", "$(id)", "quote'\"", "ünï", "\n"];
    for name in names {
        let path = format!("/workspace/new/deep/{name}");
        write(driver.as_ref(), &path, &every).await;
        assert_eq!(content(files.read(BOX, &path).await.unwrap()).await, every, "{name:?}");
        let entry = files.stat(BOX, &path).await.unwrap();
        assert_eq!((entry.path.as_str(), entry.kind, entry.size), (path.as_str(), EntryKind::File, 256));
        assert_eq!((entry.mode, entry.uid, entry.gid), (0o644, 1000, 1000));
    }
    let mut expected: Vec<String> = names.iter().map(|name| format!("/workspace/new/deep/{name}")).collect();
    expected.sort_unstable();
    let listed = files.list(BOX, "/workspace/new/deep/", false, 100).await.unwrap();
    assert_eq!(
        listed.iter().map(|entry| entry.path.clone()).collect::<Vec<_>>(),
        expected,
        "sorted, and nothing temporary"
    );
    assert_eq!(files.list(BOX, "/workspace/new", true, 100).await.unwrap().len(), names.len() + 1);
    assert_eq!(files.list(BOX, "/workspace/new", false, 100).await.unwrap().len(), 1);
    assert!(error(files.list(BOX, "/workspace/new/deep", false, 3).await, "too many").message.contains("more than 3"));
    assert!(!files.list(BOX, "/", false, 100).await.unwrap().is_empty());
    assert_eq!(files.stat(BOX, "/").await.unwrap().kind, EntryKind::Directory);

    // Empty, with a mode, again over the old, and moved.
    let options = WriteOptions { mode: Some(0o600), ..WriteOptions::default() };
    files.write(BOX, "/workspace/plain", options, body(&[])).await.unwrap();
    assert_eq!(files.stat(BOX, "/workspace/plain").await.unwrap().mode, 0o600);
    assert_eq!(content(files.read(BOX, "/workspace/plain").await.unwrap()).await, b"");
    write(driver.as_ref(), "/workspace/plain", b"2").await;
    files.rename(BOX, "/workspace/plain", "/workspace/over/there").await.unwrap();
    assert_eq!(content(files.read(BOX, "/workspace/over/there").await.unwrap()).await, b"2");
    assert_eq!(error(files.stat(BOX, "/workspace/plain").await, "moved away").code, Code::FileNotFound);

    // Folders as tar, there and back.
    let archive = content(files.export_tar(BOX, "/workspace/new").await.unwrap()).await;
    files.import_tar(BOX, "/workspace/copy/of", body(&[&archive])).await.unwrap();
    assert_eq!(files.list(BOX, "/workspace/copy/of/deep", true, 100).await.unwrap().len(), names.len());
    assert_eq!(content(files.read(BOX, "/workspace/copy/of/deep/line\nbreak").await.unwrap()).await, every);
    let one = content(files.export_tar(BOX, "/workspace/over/there").await.unwrap()).await;
    files.import_tar(BOX, "/workspace/one", body(&[&one])).await.unwrap();
    assert_eq!(content(files.read(BOX, "/workspace/one/there").await.unwrap()).await, b"2");

    files.remove(BOX, "/workspace/over/there", false).await.unwrap();
    assert_eq!(error(files.remove(BOX, "/workspace/new", false).await, "not empty").code, Code::FileError);
    files.remove(BOX, "/workspace/new", true).await.unwrap();
    assert_eq!(error(files.remove(BOX, "/workspace/new", true).await, "gone").code, Code::FileNotFound);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn file_operations_fail_clearly_and_leave_nothing() {
    let Some(lab) = lab("file_operations_fail_clearly_and_leave_nothing").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    run(driver.as_ref(), &plan(1, 1)).await.unwrap();
    let files = driver.files();
    assert_eq!(error(files.read(BOX, "/no/such").await, "missing").code, Code::FileNotFound);
    assert_eq!(error(files.read(BOX, "/workspace").await, "a folder").code, Code::FileError);
    assert_eq!(error(files.list(BOX, "/no/such", false, 9).await, "missing").code, Code::FileNotFound);
    assert_eq!(error(files.list(BOX, "/etc/passwd", false, 9).await, "a file").code, Code::FileError);
    assert_eq!(error(files.export_tar(BOX, "/no/such").await, "missing").code, Code::FileNotFound);
    assert_eq!(error(files.rename(BOX, "/no/such", "/tmp/x").await, "missing").code, Code::FileNotFound);
    let denied = |path: &'static str| files.write(BOX, path, WriteOptions::default(), body(&[b"x"]));
    assert_eq!(error(denied("/etc/passwd").await, "not ours").code, Code::FileError);
    assert_eq!(error(denied("/workspace").await, "a folder").code, Code::FileError);
    assert_eq!(error(denied("relative").await, "relative").code, Code::InvalidRequest);
    assert_eq!(error(files.remove(BOX, "/", true).await, "everything").code, Code::InvalidRequest);
    assert_eq!(error(files.remove(BOX, "/workspace/..", true).await, "everything").code, Code::InvalidRequest);
    assert_eq!(
        error(
            files
                .import_tar(
                    BOX,
                    "/workspace/t",
                    body(&[b"no tar at all, but long enough to be read as one ".repeat(40).as_slice()])
                )
                .await,
            "no tar"
        )
        .code,
        Code::FileError
    );

    // A body that breaks off keeps the old content, small or large.
    write(driver.as_ref(), "/workspace/kept", b"old").await;
    for size in [10, 3 << 20] {
        let broken = HostError::new(HostFailure::Transient, Code::Internal, "the client went away");
        let pieces = vec![Ok(Bytes::from(vec![1; size])), Err(broken)];
        let failed = files.write(BOX, "/workspace/kept", WriteOptions::default(), Box::pin(stream::iter(pieces))).await;
        assert_eq!(error(failed, "a broken body").message, "the client went away");
        assert_eq!(content(files.read(BOX, "/workspace/kept").await.unwrap()).await, b"old");
    }
    let listed = files.list(BOX, "/workspace", true, 100).await.unwrap();
    let left: Vec<_> = listed.iter().filter(|entry| entry.path.contains(".plimsoll-")).collect();
    assert!(left.is_empty(), "{left:?}");

    // An image without a shell says so.
    host.docker(&["rm", "-f", BOX]).await.unwrap();
    let mut bare = plan(2, 1);
    host.sh(&["sh", "-c", "cd $(mktemp -d) && cp $(command -v busybox) sleep && tar -c sleep | docker -H unix:///run/docker.sock import - bare:1"]).await.unwrap();
    bare.image = plimsoll_types::ImageRef::new("bare:1").unwrap();
    bare.command = Some(vec!["/sleep".to_owned(), "1000".to_owned()]);
    run(driver.as_ref(), &bare).await.unwrap();
    let failed = error(files.read(&bare.name, "/sleep").await, "no shell");
    assert!(failed.code == Code::FileError && failed.message.contains("must have `sh`"), "{failed}");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_belongs_to_whom_it_is_written_for() {
    let Some(lab) = lab("a_file_belongs_to_whom_it_is_written_for").await else { return };
    let host = lab.host(0);
    let driver = dial(&target(host));
    run(driver.as_ref(), &plan(1, 1)).await.unwrap();
    let files = driver.files();
    let shell = async |user: &str, script: &str| {
        host.docker(&["exec", "-u", user, BOX, "sh", "-c", script]).await.unwrap().trim().to_owned()
    };
    let owned = |owner: &str, mode| WriteOptions { owner: Some(owner.to_owned()), mode, user: None };
    // Folders that only the writer may enter, and one where only root may write.
    shell("1000", "mkdir -m 700 /workspace/private /home/user/private").await;
    let every: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..3 << 20).map(|n: usize| (n * 31 % 251) as u8).collect();
    for (path, owner, mode, content, expected) in [
        ("/workspace/root", "root", None, &every, (0o644, 0, 0)),
        ("/workspace/root", "4321:8765", Some(0o600), &large, (0o600, 4321, 8765)),
        ("/workspace/new/deep/-rf 'x'", "4321:8765", Some(0o1777), &every, (0o1777, 4321, 8765)),
        ("/workspace/number", "4321", Some(0), &Vec::new(), (0, 4321, 4321)),
        ("/workspace/name", "user", None, &every, (0o644, 1000, 1000)),
        ("/workspace/group", "1000:0", Some(0o640), &every, (0o640, 1000, 0)),
        ("/workspace/own", "1000:1000", Some(0o4755), &every, (0, 0, 0)),
        ("/workspace/private/it", "root", Some(0o755), &large, (0o755, 0, 0)),
        ("/home/user/private/it", "4321:8765", None, &every, (0o644, 4321, 8765)),
        ("/home/user/it", "root:user", None, &every, (0o644, 0, 1000)),
        ("/tmp/it", "root", None, &every, (0o644, 0, 0)),
        // Where only root may write, root does.
        ("/etc/new/it", "root", None, &large, (0o644, 0, 0)),
    ] {
        let written = files.write(BOX, path, owned(owner, mode), body(&[content])).await;
        if mode.is_some_and(|mode| mode & 0o6000 != 0) {
            assert_eq!(error(written, "a setuid file").code, Code::InvalidRequest, "{path}");
            continue;
        }
        written.unwrap_or_else(|error| panic!("{path} for {owner}: {error}"));
        let entry = files.stat(BOX, path).await.unwrap();
        assert_eq!((entry.mode, entry.uid, entry.gid), expected, "{path} for {owner}");
        assert_eq!(entry.size, content.len() as u64, "{path}");
        // Some of these only their owner can read.
        let reader = if path.contains("private") { "1000".to_owned() } else { format!("{}:{}", entry.uid, entry.gid) };
        let digest = shell(&reader, &format!("[ -r \"{path}\" ] || chmod u+r \"{path}\"; md5sum < \"{path}\"")).await;
        assert_eq!(digest, md5(content).await, "{path} for {owner}");
    }
    for parent in ["/workspace/new", "/workspace/new/deep"] {
        assert_eq!(shell("0", &format!("stat -c '%a %u %g' {parent}")).await, "755 1000 1000", "{parent}");
    }
    assert_eq!(shell("0", "stat -c '%u %g' /etc/new").await, "0 0");

    // What cannot be changes nothing.
    write(driver.as_ref(), "/workspace/kept", b"old").await;
    for (owner, code) in [("ghost", Code::FileError), ("root:ghosts", Code::FileError), ("4294967295", Code::FileError)]
    {
        let refused = error(files.write(BOX, "/workspace/kept", owned(owner, None), body(&[b"new"])).await, owner);
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains("knows no owner") && refused.message.contains(owner), "{refused}");
    }
    assert_eq!(
        error(files.write(BOX, "/workspace", owned("root", None), body(&[b"x"])).await, "a folder").code,
        Code::FileError
    );
    let denied = error(files.write(BOX, "/etc/passwd", owned("4321", None), body(&[b"x"])).await, "not theirs");
    assert!(denied.code == Code::FileError && denied.message.contains("ermission denied"), "{denied}");
    let nowhere = error(files.write(BOX, "/run/plimsoll/x", owned("4321", None), body(&[b"x"])).await, "no way");
    assert!(nowhere.message.contains("may enter neither"), "{nowhere}");
    for size in [10, 3 << 20] {
        let broken = HostError::new(HostFailure::Transient, Code::Internal, "the client went away");
        let pieces = vec![Ok(Bytes::from(vec![1; size])), Err(broken)];
        let failed = files.write(BOX, "/workspace/kept", owned("root", None), Box::pin(stream::iter(pieces))).await;
        assert_eq!(error(failed, "a broken body").message, "the client went away");
    }
    assert_eq!(content(files.read(BOX, "/workspace/kept").await.unwrap()).await, b"old");

    let left =
        shell("0", "cd /; ls -d .plimsoll-* */.plimsoll-* */*/.plimsoll-* */*/*/.plimsoll-* 2>/dev/null || echo none")
            .await;
    assert_eq!(left, "none");

    // What a process of the sandbox puts in the way gains it nothing: its links are not followed.
    let accounts = shell("0", "cat /etc/passwd").await;
    let traps = [
        "[ -e $d/content ] || ln -s /etc/passwd $d/content",
        "mv $d/content $d/x && ln -s /etc/passwd $d/content",
        "rm -rf $d && ln -s /etc $d",
    ];
    for (n, trap) in traps.into_iter().enumerate() {
        let trap = format!(
            "while [ ! -e /tmp/end{n} ]; do for d in /workspace/.plimsoll-*; do {trap}; done; done 2>/dev/null"
        );
        host.docker(&["exec", "-d", "-u", "1000", BOX, "sh", "-c", &trap]).await.unwrap();
        for _ in 0..8 {
            drop(files.write(BOX, "/workspace/trapped", owned("root", Some(0o666)), body(&[b"evil"])).await);
        }
        shell("1000", &format!("touch /tmp/end{n}; rm -rf /workspace/.plimsoll-*")).await;
    }
    assert_eq!(shell("0", "stat -c %a /etc/passwd").await, "644");
    assert_eq!(shell("0", "cat /etc/passwd").await, accounts);
    assert_eq!(shell("0", "ls -d /etc/content 2>&1 || true").await, "ls: /etc/content: No such file or directory");
    lab.stop().await.unwrap();
}

async fn md5(content: &[u8]) -> String {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    let said = tokio::process::Command::new("md5sum").stdin(file.reopen().unwrap()).output().await.unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_stream_through() {
    const SIZE: usize = 256 << 20;
    const PIECE: usize = 64 << 10;
    let Some(lab) = lab("large_files_stream_through").await else { return };
    let driver = dial(&target(lab.host(0)));
    let mut wanted = plan(1, 1);
    wanted.memory = plimsoll_types::Bytes::mib(128);
    run(driver.as_ref(), &wanted).await.unwrap();
    let piece = Bytes::from((0..PIECE).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>());
    let source = piece.clone();
    let before = resident();
    let started = Instant::now();
    let sent: ByteStream = Box::pin(stream::iter((0..SIZE / PIECE).map(move |_| Ok(source.clone()))));
    driver.files().write(BOX, "/workspace/large", WriteOptions::default(), sent).await.unwrap();
    println!("wrote {} MiB in {:?}", SIZE >> 20, started.elapsed());

    let started = Instant::now();
    let mut received = driver.files().read(BOX, "/workspace/large").await.unwrap();
    let (mut bytes, mut most) = (0, before);
    while let Some(next) = received.next().await {
        for byte in next.unwrap().iter() {
            assert_eq!(*byte, piece[bytes % PIECE]);
            bytes += 1;
        }
        most = most.max(resident());
    }
    println!("read {} MiB in {:?}, {} MiB more resident", bytes >> 20, started.elapsed(), (most - before) >> 20);
    assert_eq!(bytes, SIZE);
    let archive = driver.files().export_tar(BOX, "/workspace").await.unwrap();
    driver.files().import_tar(BOX, "/workspace/again", archive).await.unwrap();
    assert_eq!(driver.files().stat(BOX, "/workspace/again/large").await.unwrap().size, SIZE as u64);
    // Other tests of this binary run beside this one: far below the file's size is what counts.
    assert!(most - before < (SIZE / 2) as u64, "{} MiB", (most - before) >> 20);
    lab.stop().await.unwrap();
}
