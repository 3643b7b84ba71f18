//! Processes in sandboxes: exact, binary safe, and gone when they should be.

use crate::common::{dial, error, lab, plan, run, target};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use plimsoll_lifecycle::ports::{ExecEvent, ExecRequest, ExecSession, HostDriver, HostError, HostFailure, TtySize};
use plimsoll_testkit::wait::wait_for;
use plimsoll_types::Code;
use std::{
    collections::BTreeMap,
    pin::Pin,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(20);
const BOX: &str = "shadow-session-s1";

#[derive(Debug, Default)]
struct Said {
    out: Vec<u8>,
    err: Vec<u8>,
    code: i64,
    timed_out: bool,
}

fn request(argv: &[&str]) -> ExecRequest {
    ExecRequest { argv: argv.iter().map(|arg| (*arg).to_owned()).collect(), ..ExecRequest::default() }
}

async fn hear(session: ExecSession) -> Said {
    // The control lives as long as the process is listened to.
    let ExecSession { events, control: _control } = session;
    listen(events).await
}

async fn listen(mut events: Pin<Box<dyn Stream<Item = Result<ExecEvent, HostError>> + Send>>) -> Said {
    let mut said = Said::default();
    while let Some(event) = events.next().await {
        match event.unwrap() {
            ExecEvent::Stdout(piece) => said.out.extend_from_slice(&piece),
            ExecEvent::Stderr(piece) => said.err.extend_from_slice(&piece),
            ExecEvent::Exit { code, timed_out } => (said.code, said.timed_out) = (code, timed_out),
        }
    }
    said
}

async fn exec(driver: &dyn HostDriver, request: ExecRequest) -> Said {
    hear(driver.exec(BOX, request).await.unwrap()).await
}

/// How many processes have this in their command line.
async fn count(driver: &dyn HostDriver, word: &str) -> usize {
    let script = format!(
        "for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $p 2>/dev/null; echo; done | grep -c '^sleep {word}'"
    );
    let said = exec(driver, request(&["sh", "-c", &script])).await;
    String::from_utf8(said.out).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_exact() {
    let Some(lab) = lab("processes_are_exact").await else { return };
    let driver = dial(&target(lab.host(0)));
    let driver = driver.as_ref();
    run(driver, &plan(1, 1)).await.unwrap();

    for code in [0, 1, 42, 126, 127, 137, 255] {
        let said = exec(driver, request(&["sh", "-c", &format!("exit {code}")])).await;
        assert_eq!((said.code, said.timed_out), (code, false));
    }
    let said = exec(driver, request(&["sh", "-c", "printf out; printf err >&2"])).await;
    assert_eq!((said.out.as_slice(), said.err.as_slice()), (b"out".as_slice(), b"err".as_slice()));
    let said = exec(driver, request(&["echo", "a b", "$HOME; `id`", "'\"\\"])).await;
    assert_eq!(said.out, b"a b $HOME; `id` '\"\\\n");

    let mut with = request(&["sh", "-c", "echo \"$A\"; pwd; id -u"]);
    with.env = BTreeMap::from([("A".to_owned(), "1 2\n3=4".to_owned())]);
    with.cwd = Some("/tmp".to_owned());
    with.user = Some("1234:5678".to_owned());
    assert_eq!(exec(driver, with).await.out, b"1 2\n3=4\n/tmp\n1234\n");

    // Every byte, both ways, more than any buffer on the way holds.
    let mut cat = request(&["cat"]);
    cat.stdin = true;
    let ExecSession { events, mut control } = driver.exec(BOX, cat).await.unwrap();
    let all: Vec<u8> = (0..8 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let body = all.clone();
    let write = tokio::spawn(async move {
        for piece in body.chunks(100_000) {
            control.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        control.close_stdin().await.unwrap();
    });
    let said = listen(events).await;
    assert!(said.out == all && said.code == 0, "{} bytes, code {}", said.out.len(), said.code);
    write.await.unwrap();

    let bad = [
        (request(&["/no/such"]), "/no/such"),
        (ExecRequest { cwd: Some("/no/where".to_owned()), ..request(&["true"]) }, "/no/where"),
        (ExecRequest { user: Some("nobody-here".to_owned()), ..request(&["true"]) }, "nobody-here"),
        (request(&["/etc/passwd"]), "passwd"),
    ];
    for (request, sign) in bad {
        let failed = error(driver.exec(BOX, request).await, sign);
        assert_eq!((failed.code, failed.failure), (Code::ExecFailed, HostFailure::Permanent), "{failed}");
        assert!(failed.message.contains(sign), "{failed}");
    }
    assert_eq!(error(driver.exec("no-such", request(&["true"])).await, "no container").code, Code::NotFound);
    assert_eq!(error(driver.exec(BOX, request(&[])).await, "no program").code, Code::ExecFailed);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size() {
    let Some(lab) = lab("a_terminal_has_a_size").await else { return };
    let driver = dial(&target(lab.host(0)));
    run(driver.as_ref(), &plan(1, 1)).await.unwrap();
    let mut shell = request(&["sh"]);
    shell.tty = Some(TtySize { columns: 80, rows: 24 });
    shell.stdin = true;
    let ExecSession { mut events, mut control } = driver.exec(BOX, shell).await.unwrap();
    control.write(Bytes::from_static(b"stty size\n")).await.unwrap();
    let mut text = String::new();
    while !text.contains("24 80") {
        let Some(Ok(ExecEvent::Stdout(piece))) = events.next().await else { panic!("{text}") };
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    control.resize(TtySize { columns: 132, rows: 50 }).await.unwrap();
    control.write(Bytes::from_static(b"stty size; printf '\\001\\002'; exit 5\n")).await.unwrap();
    let mut code = None;
    while let Some(event) = events.next().await {
        match event.unwrap() {
            ExecEvent::Stdout(piece) => text.push_str(&String::from_utf8_lossy(&piece)),
            ExecEvent::Stderr(piece) => panic!("{piece:?}"),
            ExecEvent::Exit { code: ended, .. } => code = Some(ended),
        }
    }
    assert!(text.contains("50 132") && text.contains("\u{1}\u{2}") && code == Some(5), "{text:?} {code:?}");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_its_end() {
    let Some(lab) = lab("nothing_outlives_its_end").await else { return };
    let driver = dial(&target(lab.host(0)));
    let driver = driver.as_ref();
    run(driver, &plan(1, 1)).await.unwrap();

    // The time limit takes children along, also those that left the environment or ignore signals.
    let mut limited = request(&[
        "sh",
        "-c",
        "trap '' TERM; sleep 1111 & env -i sleep 1111 & setsid sleep 1111 & echo on; sleep 1111",
    ]);
    limited.time_limit = Some(Duration::from_secs(1));
    let started = Instant::now();
    let said = exec(driver, limited).await;
    assert_eq!((said.out.as_slice(), said.code, said.timed_out), (b"on\n".as_slice(), 137, true));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(count(driver, "1111").await, 0);

    let mut bare = request(&["env", "-i", "sleep", "2222"]);
    bare.time_limit = Some(Duration::from_millis(500));
    assert!(exec(driver, bare).await.timed_out);
    assert_eq!(count(driver, "2222").await, 0);

    // A child that holds the output does not hold the exec.
    let started = Instant::now();
    let said = exec(driver, request(&["sh", "-c", "echo main; sleep 3333 & exit 7"])).await;
    assert_eq!((said.out.as_slice(), said.code, said.timed_out), (b"main\n".as_slice(), 7, false));
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());

    // A caller who gives up while it starts leaves nothing behind.
    for patience in [5, 20, 40, 60, 80, 120] {
        let start = driver.exec(BOX, request(&["sh", "-c", "sleep 6666; :"]));
        drop(tokio::time::timeout(Duration::from_millis(patience), start).await);
    }
    wait_for("what was given up is gone", SOON, || async { count(driver, "6666").await == 0 }).await.unwrap();

    // A kill is asked for, or follows from both halves being dropped.
    let mut session = driver.exec(BOX, request(&["sh", "-c", "sleep 4444; :"])).await.unwrap();
    session.control.kill().await.unwrap();
    assert_eq!(hear(session).await.code, 137);
    assert_eq!(count(driver, "4444").await, 0);
    let session = driver.exec(BOX, request(&["sh", "-c", "sleep 5555; :"])).await.unwrap();
    wait_for("the process runs", SOON, || async { count(driver, "5555").await == 1 }).await.unwrap();
    drop(session);
    wait_for("the dropped process is gone", SOON, || async { count(driver, "5555").await == 0 }).await.unwrap();
    assert_eq!(count(driver, "6666").await, 0, "and what was given up has stayed away");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_nobody_else() {
    let Some(lab) = lab("a_slow_reader_slows_nobody_else").await else { return };
    let driver = dial(&target(lab.host(0)));
    let driver = driver.as_ref();
    run(driver, &plan(1, 1)).await.unwrap();
    // More streams than MaxSessions, none of which is read.
    let mut unread = Vec::new();
    for _ in 0..12 {
        unread.push(driver.exec(BOX, request(&["cat", "/dev/zero"])).await.unwrap());
    }
    for _ in 0..5 {
        let started = Instant::now();
        driver.measure().await.unwrap();
        assert_eq!(exec(driver, request(&["echo", "ok"])).await.out, b"ok\n");
        println!("poll and exec beside unread streams: {:?}", started.elapsed());
    }
    // And one is read still, from where it was.
    let mut session = unread.pop().expect("a session");
    let mut bytes = 0;
    while bytes < 64 << 20 {
        let Some(Ok(ExecEvent::Stdout(piece))) = session.events.next().await else { panic!("ended") };
        bytes += piece.len();
    }
    drop((session, unread));
    lab.stop().await.unwrap();
}
