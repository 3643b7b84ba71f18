//! A node and its OpenTelemetry collector: what the collector gets of a request, and that one that is gone or silent harms nobody.

#![cfg(feature = "otlp")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test may

use plimsoll_testkit::{
    lab::{Process, Signal},
    ports,
    wait::wait_for,
};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// For a start on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than two batches.
const MANY: usize = 1200;
/// Longer than a batch may take and the last flush together, shorter than one after the other for all batches that wait.
const ENDING: Duration = Duration::from_secs(20);

/// The trace of the caller, as W3C has it.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What a collector was sent: head and body of each request.
type Posts = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A cluster of one, whose files are gone with it.
struct Node {
    folder: tempfile::TempDir,
    api: u16,
    process: Process,
}

impl Node {
    /// Founds it and waits until it answers.
    async fn start(collector: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (api, raft) = (ports::free().unwrap(), ports::free().unwrap());
        let file = folder.path().join("plimsoll.toml");
        let settings = format!(
            "data_dir = {:?}\n[api]\nlisten = \"127.0.0.1:{api}\"\n[raft]\nlisten = \"127.0.0.1:{raft}\"\n[log]\notlp = {collector:?}\n",
            folder.path().join("data").display().to_string()
        );
        std::fs::write(&file, settings).unwrap();
        let command = |verb: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
            command.args([verb, "--config"]).arg(&file).env("HOME", folder.path());
            command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env_remove("VPS_HOST");
            command
        };
        let made = command("init").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = Process::spawn("node", &command("server"), folder.path().join("node.log")).unwrap();
        let node = Self { folder, api, process };
        let up = wait_for("the node to answer", PATIENCE, || async { node.ask("readyz", "first") });
        up.await.unwrap_or_else(|error| panic!("{error:#}\n{}", node.log()));
        node
    }

    /// One request with an id of its own; anything but 200 is an error.
    fn ask(&self, path: &str, id: &str) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api))?;
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: node\r\nX-Request-Id: {id}\r\nTraceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(())
    }

    fn ask_often(&self) {
        for _ in 0..MANY {
            self.ask("healthz", "often").unwrap();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default()
    }

    /// Asks it to end; it ends well, and soon.
    async fn end(mut self) -> String {
        let began = Instant::now();
        self.process.signal(Signal::Terminate).unwrap();
        let status = self.process.wait(PATIENCE).await.unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        assert!(began.elapsed() < ENDING, "it took {:?} to end: {}", began.elapsed(), self.log());
        self.log()
    }
}

/// Answers whatever is posted so, one request a connection, and keeps it.
fn collector(listener: TcpListener, status: &'static str) -> Posts {
    let posted = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&posted);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap() > "\r\n".len() {
                let last = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                length = last.strip_prefix("content-length: ").map_or(length, |digits| digits.parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push((head, body));
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    posted
}

/// Whether a message has this text; protobuf leaves text as it is.
fn has(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn a_request_becomes_a_span_with_its_id() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let posted = collector(listener, "200 OK");
    let node = Node::start(&address).await;
    node.ask("healthz", "req-otlp-7").unwrap();
    // Its end sends what is left; by itself the batch would wait for seconds.
    let log = node.end().await;
    let posted = posted.lock().unwrap();
    let found = posted.iter().find(|(_, body)| has(body, "req-otlp-7"));
    let (head, body) = found.unwrap_or_else(|| panic!("{} posts, none with the request: {log}", posted.len()));
    assert!(head.starts_with("POST /v1/traces HTTP/1.1") && head.contains("application/x-protobuf"), "{head}");
    for text in ["http", "/healthz", "service.name", "plimsoll", "service.instance.id"] {
        assert!(has(body, text), "no {text:?} in {}", String::from_utf8_lossy(body));
    }
    let trace = u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes();
    assert!(body.windows(trace.len()).any(|part| part == trace), "the caller's trace does not go on");
}

/// Many requests are answered, the log says that spans are lost, and the node ends in time.
async fn unharmed(address: &str) {
    let node = Node::start(address).await;
    node.ask_often();
    wait_for("the loss to be logged", PATIENCE, || async {
        anyhow::ensure!(node.log().contains("spans are lost"), "{}", node.log());
        anyhow::Ok(())
    })
    .await
    .unwrap();
    node.ask("readyz", "last").unwrap();
    node.end().await;
}

#[tokio::test]
async fn a_collector_that_is_gone_changes_nothing() {
    unharmed(&format!("http://127.0.0.1:{}", ports::free().unwrap())).await;
}

#[tokio::test]
async fn a_collector_that_never_answers_changes_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    unharmed(&format!("http://{}", silent.local_addr().unwrap())).await;
}

#[tokio::test]
async fn a_collector_that_refuses_is_complained_of_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let posted = collector(listener, "404 Not Found");
    let node = Node::start(&address).await;
    wait_for("several batches to be refused", PATIENCE, || async {
        node.ask_often();
        let refused = posted.lock().unwrap().len();
        anyhow::ensure!(refused > 3, "{refused} were");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let log = node.end().await;
    assert_eq!(log.matches("spans are lost").count(), 1, "{log}");
    assert!(log.lines().count() < 60, "the log is flooded: {log}");
}
