//! `plimsoll files …`: single files of a sandbox. Folders and whole trees are `plimsoll cp`'s.

use super::{
    args::{FilesCommand, Output},
    print,
};
use anyhow::Result;
use futures_util::StreamExt as _;
use plimsoll_client::{
    ByteStream, Client, WriteFile,
    wire::{EntryKind, FileEntry},
};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

/// Runs one of the file commands.
pub async fn run(client: &Client, output: Output, command: &FilesCommand) -> Result<()> {
    match command {
        FilesCommand::Ls { sandbox, path, recursive } => {
            let entries = client.list_files(*sandbox, path, *recursive).await?;
            print::result(output, &entries, |entries| listed(entries))
        }
        FilesCommand::Stat { sandbox, path } => {
            print::result(output, &client.stat_file(*sandbox, path).await?, described)
        }
        FilesCommand::Cat { sandbox, path } => pass_on(client.read_file(*sandbox, path).await?).await,
        FilesCommand::Write { sandbox, path, mode, owner, user } => {
            let options = WriteFile { mode: *mode, owner: owner.clone(), user: user.clone() };
            let body = ReaderStream::new(tokio::io::stdin());
            client.write_file(*sandbox, path, &options, body).await?;
            done(output, "written", path)
        }
        FilesCommand::Mv { sandbox, from, to } => {
            client.move_file(*sandbox, from, to).await?;
            let answer = json!({ "moved": from, "to": to });
            print::result(output, &answer, |_| format!("{} moved to {}", shown(from), shown(to)))
        }
        FilesCommand::Rm { sandbox, path, recursive } => {
            client.remove_file(*sandbox, path, *recursive).await?;
            done(output, "removed", path)
        }
    }
}

fn done(output: Output, what: &str, path: &str) -> Result<()> {
    print::result(output, &json!({ what: path }), |_| format!("{} {what}", shown(path)))
}

fn listed(entries: &[FileEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        let owner = format!("{}:{}", entry.uid, entry.gid);
        let size = entry.size.to_string();
        vec![
            kind(entry.kind).into(),
            entry.mode.clone(),
            owner,
            size,
            entry.modified_at.to_string(),
            shown(&entry.path),
        ]
    });
    print::table(&["KIND", "MODE", "OWNER", "BYTES", "CHANGED", "PATH"], rows)
}

fn described(entry: &FileEntry) -> String {
    print::facts(&[
        ("path", shown(&entry.path)),
        ("kind", kind(entry.kind).into()),
        ("bytes", entry.size.to_string()),
        ("mode", entry.mode.clone()),
        ("owner", format!("{}:{}", entry.uid, entry.gid)),
        ("changed", entry.modified_at.to_string()),
    ])
}

const fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "folder",
        EntryKind::Symlink => "link",
        EntryKind::Other => "other",
    }
}

/// A name as a person can read it: whoever chose it must not steer the terminal.
fn shown(path: &str) -> String {
    path.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Bytes go through as they are; a reader that went away (`| head`) is no error.
async fn pass_on(mut body: ByteStream) -> Result<()> {
    let mut stdout = tokio::io::stdout();
    while let Some(piece) = body.next().await {
        match stdout.write_all(&piece?).await {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    match stdout.flush().await {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        flushed => Ok(flushed?),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(shown("/workspace/grüße\n\u{1b}[2J"), "/workspace/grüße\\n\\u{1b}[2J");
    }
}
