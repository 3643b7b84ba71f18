//! A shell that stays open for our fixed scripts: a session of its own costs sshd and the machine half a dozen processes each time, a
//! script told to an open shell costs only what it runs.
//!
//! The shell reads what we write and nothing else: scripts are constants, arguments are quoted, and a script's own input is empty. What
//! ends in the middle is thrown away with its shell.

use super::{command::quote, login::Connection};
use crate::access::{MAX_OUTPUT, Output};
use rand::Rng;
use russh::{ChannelMsg, ChannelStream, client::Msg};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One open shell. Its session is closed when it is dropped.
pub(super) struct Shell {
    stream: ChannelStream<Msg>,
    /// Ends a script's output; nobody else knows it.
    mark: String,
    connection: Arc<Connection>,
}

impl Shell {
    pub(super) async fn open(connection: Arc<Connection>) -> Result<Self, russh::Error> {
        let mut channel = connection.handle.channel_open_session().await?;
        channel.exec(true, "exec sh -s").await?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure) => return Err(russh::Error::RequestDenied),
                Some(_) => {}
                None => return Err(russh::Error::Disconnect),
            }
        }
        let mark = format!("plimsoll-{:032x}", rand::rng().random::<u128>());
        Ok(Self { stream: channel.into_stream(), mark, connection })
    }

    /// Whether it can be told another script, as far as is known.
    pub(super) fn is_of(&self, connection: &Arc<Connection>) -> bool {
        Arc::ptr_eq(&self.connection, connection)
    }

    /// Runs a script with positional arguments. Both of its outputs come as one, in both places. `None`: the shell ended.
    pub(super) async fn run(&mut self, script: &str, args: &[&str]) -> std::io::Result<Option<Output>> {
        let quoted: String = args.iter().map(|arg| format!(" {}", quote(arg))).collect();
        let told = format!("(set --{quoted}\n{script}\n) </dev/null 2>&1; printf '\\n%s %s\\n' {} $?\n", self.mark);
        self.stream.write_all(told.as_bytes()).await?;
        self.stream.flush().await?;
        let (mut heard, mut piece) = (Vec::new(), vec![0; 4096]);
        loop {
            match self.stream.read(&mut piece).await? {
                0 => return Ok(None),
                length => heard.extend_from_slice(piece.get(..length).unwrap_or_default()),
            }
            if let Some((text, code)) = ended(&heard, &self.mark) {
                return Ok(Some(Output { code: Some(code), stdout: text.to_vec(), stderr: text.to_vec() }));
            }
            // Our scripts print little; of one that does not the end is kept, where its exit code will be.
            if heard.len() > MAX_OUTPUT {
                heard.drain(..MAX_OUTPUT / 2);
            }
        }
    }
}

/// The output and the exit code, once the mark has come.
fn ended<'a>(heard: &'a [u8], mark: &str) -> Option<(&'a [u8], u32)> {
    let line = heard.strip_suffix(b"\n")?;
    let at = line.iter().rposition(|byte| *byte == b'\n')?;
    let (text, last) = line.split_at(at);
    let code = std::str::from_utf8(last.get(1..)?).ok()?.strip_prefix(mark)?.strip_prefix(' ')?.parse().ok()?;
    Some((text, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mark_on_a_line_of_its_own_ends_a_script() {
        for (heard, wanted) in [
            ("\nm 0\n", Some(("", 0))),
            ("a\nb\nm 12\n", Some(("a\nb", 12))),
            ("a\nm 1\nmore", None),
            ("a\nm 1\nmore\n", None),
            ("a m 0\n", None),
            ("\nm x\n", None),
            ("\nm 0", None),
            ("m 0\n", None),
        ] {
            let found =
                ended(heard.as_bytes(), "m").map(|(text, code)| (String::from_utf8_lossy(text).into_owned(), code));
            assert_eq!(found, wanted.map(|(text, code)| (text.to_owned(), code)), "{heard:?}");
        }
    }
}
