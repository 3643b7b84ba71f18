//! From a command on the wire to the exec port.

use super::rules::Rules;
use crate::{error::Answer, limits};
use plimsoll_client::wire;
use plimsoll_lifecycle::ports::{ExecRequest, TtySize};
use std::time::Duration;

/// A command to collect, with its stdin and how much output to keep.
pub(crate) fn collected(request: wire::ExecRequest) -> Answer<(ExecRequest, Option<Vec<u8>>, u64)> {
    let mut rules = Rules::default();
    common(&mut rules, &request);
    rules.require(request.tty.is_none(), "/tty", "terminals need the stream at exec/stream");
    rules.require(
        !request.interactive,
        "/interactive",
        "live stdin needs the stream at exec/stream; send it whole in `stdin`",
    );
    let stdin = request.stdin.as_ref().and_then(|text| rules.take("/stdin", request.encoding.decode(text)));
    let keep = request.max_output.unwrap_or(limits::OUTPUT);
    rules.require(keep <= limits::MAX_OUTPUT, "/max_output", format!("at most {} bytes", limits::MAX_OUTPUT));
    let limit = time_limit(&mut rules, request.time_limit_s);
    rules.end()?;
    let exec = ExecRequest {
        argv: request.argv,
        env: request.env.0,
        cwd: request.cwd,
        user: request.user,
        tty: None,
        stdin: stdin.is_some(),
        time_limit: Some(limit),
    };
    Ok((exec, stdin, keep))
}

/// A command to stream.
pub(crate) fn streamed(request: wire::ExecRequest) -> Answer<ExecRequest> {
    let mut rules = Rules::default();
    common(&mut rules, &request);
    rules.require(request.stdin.is_none(), "/stdin", "a stream takes stdin as binary messages; set `interactive`");
    rules.require(request.max_output.is_none(), "/max_output", "a stream keeps nothing back");
    if let Some(size) = request.tty {
        rules.require(size.columns > 0 && size.rows > 0, "/tty", "columns and rows are at least 1");
    }
    rules.require(request.time_limit_s != Some(0), "/time_limit_s", "at least 1");
    rules.end()?;
    Ok(ExecRequest {
        argv: request.argv,
        env: request.env.0,
        cwd: request.cwd,
        user: request.user,
        tty: request.tty.map(|size| TtySize { columns: size.columns, rows: size.rows }),
        stdin: request.interactive,
        time_limit: request.time_limit_s.map(Duration::from_secs),
    })
}

/// The time limit of a collected run: 30 s if absent.
pub(crate) fn time_limit(rules: &mut Rules, seconds: Option<u64>) -> Duration {
    let most = limits::MAX_EXEC_TIME.as_secs();
    rules.require(
        seconds.is_none_or(|s| (1..=most).contains(&s)),
        "/time_limit_s",
        format!("from 1 to {most}; longer ones are streams"),
    );
    seconds.map_or(limits::EXEC_TIME, Duration::from_secs)
}

fn common(rules: &mut Rules, request: &wire::ExecRequest) {
    rules.argv("/argv", &request.argv);
    rules.env("/env", &request.env.0);
    if let Some(cwd) = &request.cwd {
        rules.path("/cwd", cwd);
    }
    if let Some(user) = &request.user {
        rules.user("/user", user);
    }
}
