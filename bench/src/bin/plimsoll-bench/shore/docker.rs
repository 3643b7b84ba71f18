//! Docker's API of a simulated host: what the driver asks while it polls and reconciles, as large and as slow as Docker 20.10 answers.

use super::Host;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// The label of our containers, and how a filter for one cluster's begins once it is escaped.
const LABEL: &str = "plimsoll.cluster";
const OF_ONE_CLUSTER: &str = "plimsoll.cluster%3D";
/// Stands for the host's name in the answers below.
const NAME: &str = "@NAME@";
const INFO: &str = include_str!("info.json");
const VERSION: &str = include_str!("version.json");

/// Speaks HTTP on one stream until it ends.
pub async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: Arc<Host>) {
    let service = service_fn(move |request| {
        let host = Arc::clone(&host);
        async move { Ok::<_, Infallible>(answer(&host, &request).await) }
    });
    // How it ended is seen by the driver.
    let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(host: &Host, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    host.counts.requests.fetch_add(1, Ordering::Relaxed);
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    // "/v1.41/info" and "/info" are the same.
    let path = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
    let (status, takes, body) = match path {
        "/version" => (StatusCode::OK, ms(1), VERSION.to_owned()),
        "/info" => (StatusCode::OK, ms(9), INFO.replace(NAME, &super::name(host.index))),
        "/containers/json" => {
            let count = if query.contains(OF_ONE_CLUSTER) { 0 } else { host.sandboxes };
            (StatusCode::OK, ms(3), Value::from_iter((0..count).map(|nth| summary(host, nth))).to_string())
        }
        "/volumes" => (StatusCode::OK, ms(2), json!({ "Volumes": [], "Warnings": null }).to_string()),
        "/networks" | "/images/json" => (StatusCode::OK, ms(2), "[]".to_owned()),
        _ => match path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/stats")) {
            Some(id) => (StatusCode::OK, until_next_second(host), stats(id)),
            None => (StatusCode::NOT_FOUND, ms(1), json!({ "message": "it is only simulated" }).to_string()),
        },
    };
    tokio::time::sleep(takes).await;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Docker answers a one-shot reading only at the next tick of its own clock, each host's at another moment.
fn until_next_second(host: &Host) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ms(1000 - (u64::from(now.subsec_millis()) + u64::from(host.index) * 37) % 1000)
}

/// Containers of another cluster: they are measured as ours are, and no reconciler misses their owner.
fn summary(host: &Host, nth: u32) -> Value {
    let id = format!("{:032x}{nth:032x}", host.index + 1);
    let labels = json!({ LABEL: "01J0000000000000000000000X", "plimsoll.sandbox": "sbx_01J0000000000000000000000X",
        "plimsoll.generation": "1", "plimsoll.operation": "op_01J0000000000000000000000X", "plimsoll.session": "someone",
        "plimsoll.tenant": "default" });
    let ports = [json!({ "IP": "10.0.0.2", "PrivatePort": 3000, "PublicPort": 32_768 + nth, "Type": "tcp" })];
    let mounts =
        [json!({ "Type": "volume", "Name": format!("shadow-session-{nth}-workspace"), "Destination": "/workspace",
        "Driver": "local", "Mode": "z", "RW": true, "Propagation": "" })];
    json!({ "Id": id, "Names": [format!("/shadow-session-{nth}")], "Image": "shadow-sandbox:latest", "ImageID": format!("sha256:{id}"),
        "Command": "sleep infinity", "Created": 1_769_860_800, "Ports": ports, "Labels": labels, "State": "running",
        "Status": "Up 2 hours", "HostConfig": { "NetworkMode": "plimsoll-default" },
        "NetworkSettings": { "Networks": { "plimsoll-default": { "IPAddress": "172.18.0.2", "Gateway": "172.18.0.1" } } },
        "Mounts": mounts })
}

/// A reading as large as Docker's: most of it is memory counters that nobody reads.
fn stats(id: &str) -> String {
    const COUNTERS: [&str; 36] = [
        "active_anon",
        "active_file",
        "anon",
        "anon_thp",
        "file",
        "file_dirty",
        "file_mapped",
        "file_writeback",
        "inactive_anon",
        "inactive_file",
        "kernel_stack",
        "pgactivate",
        "pgdeactivate",
        "pgfault",
        "pglazyfree",
        "pglazyfreed",
        "pgmajfault",
        "pgrefill",
        "pgscan",
        "pgsteal",
        "shmem",
        "slab",
        "slab_reclaimable",
        "slab_unreclaimable",
        "sock",
        "thp_collapse_alloc",
        "thp_fault_alloc",
        "unevictable",
        "workingset_activate",
        "workingset_nodereclaim",
        "workingset_refault",
        "pagetables",
        "percpu",
        "swapcached",
        "zswap",
        "zswapped",
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let used = u64::try_from(now.as_nanos() / 5).unwrap_or(u64::MAX);
    let cpu = json!({ "cpu_usage": { "total_usage": used, "usage_in_kernelmode": used / 4, "usage_in_usermode": used / 2 },
        "system_cpu_usage": used, "online_cpus": 8, "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 } });
    let counters: Map<String, Value> = COUNTERS.iter().map(|name| ((*name).to_owned(), json!(123_456_789))).collect();
    let net = json!({ "rx_bytes": 123_456, "rx_packets": 789, "rx_errors": 0, "rx_dropped": 0, "tx_bytes": 123_456,
        "tx_packets": 789, "tx_errors": 0, "tx_dropped": 0 });
    let io: Vec<Value> =
        ["read", "write"].iter().map(|op| json!({ "major": 8, "minor": 0, "op": op, "value": 123_456 })).collect();
    json!({ "read": rfc3339(now), "preread": "0001-01-01T00:00:00Z", "pids_stats": { "current": 12, "limit": 512 },
        "blkio_stats": { "io_service_bytes_recursive": io, "io_serviced_recursive": null }, "num_procs": 0,
        "storage_stats": {}, "cpu_stats": cpu, "precpu_stats": { "cpu_usage": { "total_usage": 0 } },
        "memory_stats": { "usage": 536_870_912, "stats": counters, "limit": 3_221_225_472_u64 }, "name": "/shadow-session",
        "id": id, "networks": { "eth0": net } })
    .to_string()
}

/// The time as Docker writes it. Only differences are read: each day looks like the first of its month.
fn rfc3339(now: Duration) -> String {
    let (seconds, ns) = (now.as_secs(), now.subsec_nanos());
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("2026-01-01T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}
