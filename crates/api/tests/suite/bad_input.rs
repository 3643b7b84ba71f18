//! Everything a caller can get wrong over HTTP has a stable code and says where.

use crate::world::{World, problem, request};
use plimsoll_client::Wait;
use plimsoll_types::Code;
use reqwest::Method;

/// Body, where the error points, and a word of its explanation.
const BODIES: &[(&str, &str, &str)] = &[
    ("{", "", "not JSON"),
    ("[]", "", "JSON object"),
    ("null", "", "JSON object"),
    (r#"{"session": "a"} x"#, "", "more after"),
    (r#"{"sesion": "a"}"#, "/sesion", "unknown field"),
    (r#"{"session": "a/b"}"#, "/session", "session"),
    (r#"{"session": 7}"#, "/session", "expected"),
    (r#"{"image": "A B"}"#, "/image", "image"),
    (r#"{"snapshot": "a/b"}"#, "/snapshot", "snapshot name"),
    (r#"{"on_expiry": "stop"}"#, "/on_expiry", "unknown variant"),
    (r#"{"on_host_loss": "pray"}"#, "/on_host_loss", "unknown variant"),
    (r#"{"checkpoint_every_s": 59}"#, "/checkpoint_every_s", "from 60"),
    (r#"{"idle_timeout_s": 99999999999}"#, "/idle_timeout_s", "0 is never"),
    (r#"{"env": {"1A": "x"}}"#, "/env/1A", "environment variable"),
    (r#"{"secret_env": {"A=B": "hunter2"}}"#, "/secret_env/A=B", "environment variable"),
    (r#"{"env": {"A": "x"}, "secret_env": {"A": "y"}}"#, "/secret_env", "as well"),
    (r#"{"labels": {"a b": "x"}}"#, "/labels", "label key"),
    (r#"{"labels": {"a": "x"}, "metadata": {"b": "y"}}"#, "", "duplicate"),
    (r#"{"cpu": "many"}"#, "/cpu", "number of CPUs"),
    (r#"{"cpu": 0}"#, "/cpu", "at least"),
    (r#"{"memory": "1k"}"#, "/memory", "at least"),
    (r#"{"memory": -1}"#, "/memory", "bytes"),
    (r#"{"pids": 0}"#, "/pids", "from 1"),
    (r#"{"ports": [0]}"#, "/ports", "65535"),
    (r#"{"ports": ["ssh"]}"#, "/ports/0", "preview"),
    (r#"{"ports": [70000]}"#, "/ports/0", "65535"),
    (r#"{"constraints": ["=eu"]}"#, "/constraints/0", "label key"),
    (r#"{"anti_affinity": "a b"}"#, "/anti_affinity", "label key"),
    (r#"{"command": []}"#, "/command", "name a program"),
    (r#"{"ssh_keys": ["rsa"]}"#, "/ssh_keys/0", "public key"),
    (r#"{"lifetime_s": 99999999999}"#, "/lifetime_s", "ten years"),
    (r#"{"queue_timeout_s": 3601}"#, "/queue_timeout_s", "3600"),
    (r#"{"runtime": "kata"}"#, "/runtime", "unknown variant"),
    (r#"{"tenant": "a.b"}"#, "/tenant", "tenant"),
];

#[tokio::test]
async fn a_wrong_body_is_refused_with_the_place() {
    let world = World::new().await;
    for (body, pointer, word) in BODIES {
        for path in ["/v1/sandboxes", "/v1/sandboxes:ensure", "/v1/placements:explain"] {
            let problem = problem(world.raw(Method::POST, path).body(*body).send().await.unwrap()).await;
            assert_eq!(problem.code, Code::InvalidRequest, "{body}: {}", problem.detail);
            assert_eq!(problem.errors[0].pointer, *pointer, "{body}: {}", problem.detail);
            assert!(problem.detail.contains(word), "{body}: {}", problem.detail);
            assert!(!problem.detail.contains("hunter2"), "values of secrets are never repeated");
        }
    }
    assert!(world.cluster.committed().sandboxes.is_empty());
}

#[tokio::test]
async fn all_wrong_fields_are_named_at_once() {
    let world = World::new().await;
    let body = r#"{"env": {"1A": ""}, "cpu": 0, "ports": [0]}"#;
    let problem = problem(world.raw(Method::POST, "/v1/sandboxes").body(body).send().await.unwrap()).await;
    let pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/env/1A", "/cpu", "/ports"]);
}

#[tokio::test]
async fn wrong_queries_paths_and_headers_are_named() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let files = format!("/v1/sandboxes/{id}/files");
    for (method, path, pointer) in [
        (Method::GET, "/v1/sandboxes?limt=3".to_owned(), "?limt"),
        (Method::GET, "/v1/sandboxes?limit=0".to_owned(), "?limit"),
        (Method::GET, "/v1/sandboxes?phase=gone".to_owned(), "?phase"),
        (Method::GET, "/v1/sandboxes?label=x".to_owned(), "?label"),
        (Method::GET, "/v1/sandboxes?after=x".to_owned(), "?after"),
        (Method::GET, "/v1/sandboxes?session=a&session=b".to_owned(), "?session"),
        (Method::GET, "/v1/sandboxes?consistency=maybe".to_owned(), "?consistency"),
        (Method::GET, "/v1/sandboxes/nonsense".to_owned(), "{id}"),
        (Method::GET, files.clone(), "?path"),
        (Method::GET, format!("{files}?path=relative"), "?path"),
        (Method::GET, format!("{files}?path=/a%00b"), "?path"),
        (Method::PUT, format!("{files}?path=/a&mode=9"), "?mode"),
        (Method::PUT, format!("{files}?path=/a&owner=-root"), "?owner"),
        (Method::GET, "/v1/snapshots?sandbox=x".to_owned(), "?sandbox"),
        (Method::GET, "/v1/snapshots?limit=1001".to_owned(), "?limit"),
        (Method::GET, "/v1/snapshots/a%20b".to_owned(), "{id}"),
        (Method::GET, "/v1/operations/nonsense".to_owned(), "{id}"),
        (Method::GET, "/v1/events?after=x".to_owned(), "?after"),
        (Method::GET, "/v1/events?after=999999-0".to_owned(), "?after"),
        (Method::DELETE, "/v1/keys/nonsense".to_owned(), "{id}"),
    ] {
        let problem = problem(world.raw(method, &path).send().await.unwrap()).await;
        assert_eq!(problem.code, Code::InvalidRequest, "{path}: {}", problem.detail);
        assert_eq!(problem.errors[0].pointer, pointer, "{path}: {}", problem.detail);
    }
    for (name, value, pointer) in [("idempotency-key", "a b", "Idempotency-Key:"), ("prefer", "wait=soon", "Prefer:")] {
        let response = world.raw(Method::POST, "/v1/sandboxes").header(name, value).body("{}").send().await.unwrap();
        assert_eq!(problem(response).await.errors[0].pointer, pointer);
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused_whether_announced_or_not() {
    let world = World::new().await;
    let big = format!(r#"{{"session": "{}"}}"#, "x".repeat(2 << 20));
    let announced = world.raw(Method::POST, "/v1/sandboxes").body(big.clone()).send().await;
    let chunks = futures_util::stream::iter(vec![Ok::<_, std::io::Error>(big.clone()), Ok(big)]);
    let chunked = world.raw(Method::POST, "/v1/sandboxes").body(reqwest::Body::wrap_stream(chunks)).send().await;
    for response in [announced, chunked] {
        // The node answers before it has read everything: a client may see the answer or the closed connection.
        match response {
            Ok(response) => assert_eq!(problem(response).await.code, Code::BodyTooLarge),
            Err(error) => assert!(error.is_request(), "{error}"),
        }
    }
    assert!(world.cluster.committed().sandboxes.is_empty());
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let world = World::new().await;
    let unknown = world.raw(Method::GET, "/v1/nonsense").send().await.unwrap();
    assert_eq!(problem(unknown).await.code, Code::NotFound);
    let method = world.raw(Method::PATCH, "/v1/sandboxes").send().await.unwrap();
    assert!(method.headers().contains_key("allow"));
    assert_eq!(problem(method).await.code, Code::MethodNotAllowed);
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_request() {
    let world = World::new().await;
    let first = world.operator.create(&request("s1"), Wait::Default, Some("k1")).await.unwrap();
    let again = world.operator.create(&request("s1"), Wait::Default, Some("k1")).await.unwrap();
    assert!(first.created && !again.created && first.sandbox.id == again.sandbox.id);
    let other = world.operator.create(&request("s2"), Wait::Default, Some("k1")).await.expect_err("another request");
    assert_eq!(other.code(), Code::IdempotencyMismatch);
}

/// What uploads are that a test refuses.
const UPLOAD: usize = 16 << 20;

/// A connection with the head of an upload to a sandbox that does not exist.
async fn begin_upload(world: &World) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "PUT /v1/sandboxes/sb-00000000000000000000000001/files?path=/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: {UPLOAD}\r\nconnection: close\r\n\r\n",
        world.operator_key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The answer to a caller that sends a large body to the end before it reads, as most do.
async fn upload(world: &World) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = begin_upload(world).await;
    stream.write_all(&vec![b'x'; UPLOAD]).await.expect("nobody hangs up on somebody who is sending");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_upload_that_is_refused_early_still_gets_its_answer() {
    let answer = upload(&World::new().await).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("sandbox_not_found"), "{answer}");
    // The one request that may be under way is an upload that was answered and is not over.
    let busy = World::with(|options| options.max_requests = 1).await;
    let mut first = begin_upload(&busy).await;
    tokio::io::AsyncReadExt::read_exact(&mut first, &mut [0; 12]).await.expect("an answer");
    let answer = upload(&busy).await;
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("overloaded"), "{answer}");
}
