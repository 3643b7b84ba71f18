//! What a user would pick instead for the state of a scheduler: three nodes of Debian's etcd, put to over gRPC.
//!
//! The one call that is measured is written by hand on HTTP/2: a client that does more would be measured as well.

use crate::{
    load::Worker,
    wire::{Target, Wire},
};
use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use hyper::{Method, Request};
use plimsoll_testkit::{lab::Process, ports, wait::wait_for};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::net::TcpStream;

/// Longer than an election on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Keys of the benches begin like this.
const PREFIX: &str = "bench/";
/// The first key after those.
const PREFIX_END: &str = "bench0";

/// Some nodes of etcd on loopback.
#[derive(Debug)]
pub struct Etcd {
    nodes: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    client: u16,
    args: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

impl Etcd {
    /// Starts so many below the folder, with their usual timing (heartbeats of 100 ms, elections of 1 s).
    pub async fn start(folder: &Path, count: usize) -> Result<Self> {
        let mut all = Vec::new();
        for index in 0..count {
            all.push((format!("e{index}"), ports::free()?, ports::free()?));
        }
        let peers: Vec<String> = all.iter().map(|(name, _, peer)| format!("{name}=http://127.0.0.1:{peer}")).collect();
        let mut nodes = Vec::new();
        for (name, client, peer) in &all {
            let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let data = folder.join(name);
            std::fs::create_dir_all(&data)?;
            let args = [
                ("--name", name.as_str()),
                ("--data-dir", &data.display().to_string()),
                ("--listen-client-urls", &client_url),
                ("--advertise-client-urls", &client_url),
                ("--listen-peer-urls", &peer_url),
                ("--initial-advertise-peer-urls", &peer_url),
                ("--initial-cluster", &peers.join(",")),
                ("--logger", "zap"),
                ("--log-level", "warn"),
            ];
            let args = args.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect();
            nodes.push(Member { client: *client, args, log: folder.join(format!("{name}.log")), process: None });
        }
        let mut etcd = Self { nodes };
        for index in 0..count {
            etcd.restart(index)?;
        }
        etcd.leader().await?;
        Ok(etcd)
    }

    /// Where clients connect to, in order.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client)).collect()
    }

    /// The index of the node that leads and that others follow.
    pub async fn leader(&self) -> Result<usize> {
        wait_for("etcd to have a leader", PATIENCE, || async {
            for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.process.is_some()) {
                let mut wire = Wire::new(Target::Tcp(format!("127.0.0.1:{}", node.client)), None);
                let Ok(status) = ask(&mut wire, "/v3/maintenance/status", &json!({})).await else { continue };
                if status["leader"].is_string() && status["leader"] == status["header"]["member_id"] {
                    return anyhow::Ok(index);
                }
            }
            bail!("none leads")
        })
        .await
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.nodes[index].process.take().context("it is not running")?.kill()?;
        Ok(())
    }

    /// Starts a node that does not run.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        let mut command = Command::new("etcd");
        command.args(&node.args).env("ETCD_UNSUPPORTED_ARCH", "arm64");
        node.process = Some(Process::spawn(format!("etcd {index}"), &command, &node.log)?);
        Ok(())
    }

    /// Waits until every node answers.
    pub async fn wait_all(&self) -> Result<()> {
        for node in &self.nodes {
            wait_for("an etcd to answer", PATIENCE, || async {
                let mut wire = Wire::new(Target::Tcp(format!("127.0.0.1:{}", node.client)), None);
                let status = ask(&mut wire, "/v3/maintenance/status", &json!({})).await?;
                ensure!(status["leader"].as_str().is_some_and(|leader| leader != "0"), "{status}");
                anyhow::Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Every key of the bench.
    pub async fn keys(&self) -> Result<BTreeSet<String>> {
        let leader = self.leader().await?;
        let mut wire = Wire::new(Target::Tcp(format!("127.0.0.1:{}", self.nodes[leader].client)), None);
        let range =
            json!({ "key": STANDARD.encode(PREFIX), "range_end": STANDARD.encode(PREFIX_END), "keys_only": true });
        let found = ask(&mut wire, "/v3/kv/range", &range).await?;
        let keys = found["kvs"].as_array().cloned().unwrap_or_default();
        keys.iter().map(|kv| Ok(String::from_utf8(STANDARD.decode(kv["key"].as_str().context("a key")?)?)?)).collect()
    }
}

async fn ask(wire: &mut Wire, path: &str, body: &Value) -> Result<Value> {
    wire.call(Method::POST, path, body.to_string().into(), &[]).await?.json()
}

/// A connection that many workers share, as etcd's own clients do.
pub async fn connect(address: &str) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    // Ends with the connection; what broke is seen by whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// Puts a key; `Ok` once a majority has it on disk.
pub async fn put(sender: &SendRequest<Bytes>, key: &str, value: &[u8]) -> Result<()> {
    call(sender, "http://etcd/etcdserverpb.KV/Put", framed(&put_request(key, value))).await
}

/// Puts some keys in one transaction; `Ok` once a majority has all of them on disk.
async fn put_all(sender: &SendRequest<Bytes>, keys: &[String], value: &[u8]) -> Result<()> {
    let mut transaction = BytesMut::new();
    for key in keys {
        let mut operation = BytesMut::new();
        // RequestOp: request_put is field 2. TxnRequest: success is field 2.
        field(&mut operation, 0x12, &put_request(key, value));
        field(&mut transaction, 0x12, &operation);
    }
    call(sender, "http://etcd/etcdserverpb.KV/Txn", framed(&transaction)).await
}

async fn call(sender: &SendRequest<Bytes>, uri: &str, message: Bytes) -> Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let mut ready = sender.clone().ready().await?;
    let (response, mut body) = ready.send_request(request, false)?;
    body.send_data(message, true)?;
    let response = response.await?;
    ensure!(response.status() == 200, "HTTP {}", response.status());
    let mut status = response.headers().get("grpc-status").cloned();
    let mut stream = response.into_body();
    while let Some(data) = stream.data().await {
        stream.flow_control().release_capacity(data?.len())?;
    }
    if let Some(trailers) = stream.trailers().await? {
        status = trailers.get("grpc-status").cloned().or(status);
    }
    ensure!(status.as_ref().is_some_and(|status| status == "0"), "gRPC status {status:?}");
    Ok(())
}

/// A PutRequest: key is field 1, value is field 2.
fn put_request(key: &str, value: &[u8]) -> BytesMut {
    let mut put = BytesMut::with_capacity(key.len() + value.len() + 8);
    field(&mut put, 0x0a, key.as_bytes());
    field(&mut put, 0x12, value);
    put
}

/// Appends a field of bytes as protobuf writes it.
fn field(message: &mut BytesMut, tag: u8, bytes: &[u8]) {
    message.put_u8(tag);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.put_u8(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.put_u8(u8::try_from(length).unwrap_or_default());
    message.put_slice(bytes);
}

/// A message behind gRPC's five bytes.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Puts one new key, or one transaction of them, after the other.
pub struct Putter {
    batch: u64,
    sender: SendRequest<Bytes>,
    name: String,
    count: u64,
    value: Bytes,
}

impl Putter {
    /// So many of them on so many connections to one node.
    pub async fn many(
        address: &str,
        run: &str,
        (count, connections): (usize, usize),
        batch: usize,
        value: Bytes,
    ) -> Result<Vec<Self>> {
        let mut senders = Vec::new();
        for _ in 0..connections.clamp(1, count) {
            senders.push(connect(address).await?);
        }
        let make = |index: usize| Self {
            batch: batch as u64,
            sender: senders[index % senders.len()].clone(),
            name: format!("{PREFIX}{run}-{index}"),
            count: 0,
            value: value.clone(),
        };
        Ok((0..count).map(make).collect())
    }
}

impl Worker for Putter {
    async fn once(&mut self) -> Result<()> {
        let keys: Vec<String> = (1..=self.batch).map(|nth| format!("{}-{}", self.name, self.count + nth)).collect();
        self.count += self.batch;
        match &keys[..] {
            [key] => put(&self.sender, key, &self.value).await,
            keys => put_all(&self.sender, keys, &self.value).await,
        }
    }

    fn size(&self) -> u64 {
        self.batch
    }
}

/// The key of a bench's own name.
pub fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}
