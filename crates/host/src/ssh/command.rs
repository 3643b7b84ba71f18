//! Runs one of our fixed scripts in a session channel.
//!
//! The script itself goes through stdin, so no shell of the user's ever parses it; arguments are positional and quoted.

use super::pin::Pin;
use crate::access::{MAX_OUTPUT, Output};
use russh::{ChannelMsg, client::Handle};

pub(crate) async fn run(handle: &Handle<Pin>, script: &str, args: &[&str]) -> Result<Output, russh::Error> {
    let mut channel = handle.channel_open_session().await?;
    let quoted: String = args.iter().map(|arg| format!(" {}", quote(arg))).collect();
    channel.exec(true, format!("sh -s --{quoted}")).await?;
    channel.data(script.as_bytes()).await?;
    channel.eof().await?;
    let mut output = Output { code: None, stdout: Vec::new(), stderr: Vec::new() };
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => take(&mut output.stdout, &data),
            ChannelMsg::ExtendedData { data, .. } => take(&mut output.stderr, &data),
            ChannelMsg::ExitStatus { exit_status } => output.code = Some(exit_status),
            ChannelMsg::Failure => return Err(russh::Error::RequestDenied),
            _ => {}
        }
    }
    Ok(output)
}

/// What exceeds the limit is dropped: our scripts print little, so more comes from a broken machine.
fn take(buffer: &mut Vec<u8>, data: &[u8]) {
    let room = MAX_OUTPUT.saturating_sub(buffer.len());
    buffer.extend_from_slice(&data[..data.len().min(room)]);
}

/// One word for any shell: in single quotes, with those inside written as `'\''`.
pub(super) fn quote(arg: &str) -> String {
    format!("'{}'", arg.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn arguments_stay_one_word() {
        assert_eq!(super::quote("/a b"), "'/a b'");
        assert_eq!(super::quote("a'; rm -rf /'"), r"'a'\''; rm -rf /'\'''");
    }
}
