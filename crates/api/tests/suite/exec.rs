//! Commands: collected, in lists, and over the WebSocket.

use crate::world::{LONG, World, code};
use plimsoll_client::{ExecEvent, wire};
use plimsoll_types::Code;
use std::time::Duration;

fn command(words: &[&str]) -> wire::ExecRequest {
    wire::ExecRequest { argv: words.iter().map(|word| (*word).to_owned()).collect(), ..Default::default() }
}

#[tokio::test]
async fn a_command_is_collected_with_its_exit_code() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let said = world.operator.exec(id, &command(&["echo", "a b"])).await.unwrap();
    assert_eq!((said.exit_code, said.stdout.as_str(), said.encoding), (0, "a b\n", wire::Encoding::Utf8));
    assert_eq!(world.operator.exec(id, &command(&["exit", "7"])).await.unwrap().exit_code, 7);
    let stdin = wire::ExecRequest { stdin: Some("/w==".into()), encoding: wire::Encoding::Base64, ..command(&["cat"]) };
    let cat = world.operator.exec(id, &stdin).await.unwrap();
    assert_eq!((cat.encoding, cat.stdout_bytes()), (wire::Encoding::Base64, vec![0xff]));
    let cut = world
        .operator
        .exec(id, &wire::ExecRequest { max_output: Some(2), ..command(&["echo", "long"]) })
        .await
        .unwrap();
    assert_eq!((cut.stdout.as_str(), cut.truncated), ("lo", true));
    let slow = world
        .operator
        .exec(id, &wire::ExecRequest { time_limit_s: Some(1), ..command(&["sleep", "60"]) })
        .await
        .unwrap();
    assert_eq!((slow.exit_code, slow.timed_out), (137, true));
    assert_eq!(code(world.operator.exec(id, &command(&["nonsense"])).await), Code::ExecFailed);
    assert_eq!(code(world.operator.exec(id, &command(&[])).await), Code::InvalidRequest);
    let tty = wire::ExecRequest { tty: Some(wire::TtySize { columns: 80, rows: 24 }), ..command(&["true"]) };
    assert_eq!(code(world.operator.exec(id, &tty).await), Code::InvalidRequest);
}

#[tokio::test]
async fn a_list_of_commands_tells_of_each() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let line = |words: &[&str]| wire::CommandLine {
        name: Some(words[0].into()),
        argv: command(words).argv,
        ..Default::default()
    };
    let lines = vec![line(&["true"]), line(&["nonsense"]), line(&["false"]), line(&["echo", "x"])];
    let all = wire::RunCommands { commands: lines.clone(), ..Default::default() };
    let results = world.operator.run_commands(id, &all).await.unwrap();
    let codes: Vec<_> = results.iter().map(|it| it.result.as_ref().map(|result| result.exit_code)).collect();
    assert_eq!(codes, [Some(0), None, Some(1), Some(0)]);
    assert_eq!(results[1].problem.as_ref().unwrap().code, Code::ExecFailed);
    let first = wire::RunCommands { commands: lines, stop_on_failure: true, ..Default::default() };
    assert_eq!(world.operator.run_commands(id, &first).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_stream_echoes_resizes_and_ends() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let request = wire::ExecRequest {
        interactive: true,
        tty: Some(wire::TtySize { columns: 80, rows: 24 }),
        ..command(&["cat"])
    };
    let (mut input, mut output) = world.operator.exec_stream(id, &request).await.unwrap();
    input.resize(120, 40).await.unwrap();
    for data in [b"hello".as_slice(), &[0xff, 0x00, 0x0a]] {
        input.write(data).await.unwrap();
        let said = tokio::time::timeout(LONG, output.next()).await.unwrap().unwrap();
        assert_eq!(said, Some(ExecEvent::Stdout(bytes::Bytes::copy_from_slice(data))));
    }
    input.close_stdin().await.unwrap();
    assert_eq!(output.next().await.unwrap(), Some(ExecEvent::Exit { code: 0, timed_out: false }));
    assert_eq!(output.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_kills_and_says_what_could_not_start() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let (mut input, mut output) = world.operator.exec_stream(id, &command(&["sleep", "600"])).await.unwrap();
    input.kill().await.unwrap();
    assert_eq!(output.next().await.unwrap(), Some(ExecEvent::Exit { code: 137, timed_out: false }));
    let (_input, mut output) = world.operator.exec_stream(id, &command(&["nonsense"])).await.unwrap();
    assert_eq!(code(output.next().await), Code::ExecFailed);
    let (_input, mut output) = world.operator.exec_stream(id, &command(&[])).await.unwrap();
    assert_eq!(code(output.next().await), Code::InvalidRequest);
}

#[tokio::test]
async fn a_shutdown_ends_streams_at_once() {
    let mut world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let (_input, mut output) = world.operator.exec_stream(id, &command(&["sleep", "600"])).await.unwrap();
    let mut events = world.operator.events(None).await.unwrap();
    let logs = world.operator.logs(id, plimsoll_client::LogOptions { follow: true, tail: None }).await.unwrap();
    world.shutdown.cancel();
    let served = std::mem::replace(&mut world.served, tokio::spawn(async { Ok(()) }));
    tokio::time::timeout(Duration::from_secs(5), served)
        .await
        .expect("well before requests are cut off")
        .unwrap()
        .unwrap();
    let last = tokio::time::timeout(LONG, output.next()).await.expect("the command's stream ends");
    assert!(!matches!(last, Ok(Some(ExecEvent::Exit { .. }))), "the command did not end, its node did");
    let last = tokio::time::timeout(LONG, events.next()).await.expect("the events end");
    assert!(matches!(last, Ok(None) | Err(_)));
    drop(logs);
}
