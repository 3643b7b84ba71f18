//! Entries of folders: names may hold anything but a slash and NUL, line breaks included.

use super::script;
use crate::{docker::Api, error};
use plimsoll_lifecycle::ports::{EntryKind, FileEntry, HostError};
use plimsoll_types::Code;
use rand::Rng;
use std::sync::Arc;

/// Bytes of output per entry that are allowed for: a long path and its numbers.
const PER_ENTRY: usize = 512;
/// Most bytes of a listing, whatever the limit: it is held whole to be sorted.
const MAX_LISTING: usize = 64 << 20;

/// The entries of a folder, sorted by path.
pub(crate) async fn list(
    api: &Arc<Api>,
    container: &str,
    path: &str,
    recursive: bool,
    limit: usize,
) -> Result<Vec<FileEntry>, HostError> {
    let path = script::check(path)?;
    let word = word();
    let depth = if recursive { "" } else { "1" };
    let room = limit.saturating_add(1).saturating_mul(PER_ENTRY).clamp(64 << 10, MAX_LISTING);
    let args = [path, &word, depth];
    let output = script::run(api, container, None, path, (script::LIST, &args), None, room).await;
    let output =
        output.map_err(|error| if error.code == Code::BodyTooLarge { too_many(path, limit) } else { error })?;
    let mut entries = parse(&output, &word, path).ok_or_else(|| unreadable(path))?;
    if entries.len() > limit {
        return Err(too_many(path, limit));
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// What stands at a path.
pub(crate) async fn stat(api: &Arc<Api>, container: &str, path: &str) -> Result<FileEntry, HostError> {
    let path = script::check(path)?;
    let word = word();
    let output = script::run(api, container, None, path, (script::STAT, &[path, &word]), None, 64 << 10).await?;
    let mut entries = parse(&output, &word, path).ok_or_else(|| unreadable(path))?;
    entries.pop().map(|entry| FileEntry { path: path.to_owned(), ..entry }).ok_or_else(|| unreadable(path))
}

/// 128 random bits: no name in the sandbox can contain it, as it is made after they were.
fn word() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

fn too_many(path: &str, limit: usize) -> HostError {
    let text = format!("{path:?} has more than {limit} entries; list a folder below it, or export it as a tar");
    error::permanent(Code::FileError, text)
}

fn unreadable(path: &str) -> HostError {
    error::permanent(
        Code::FileError,
        format!("{path:?}: the sandbox's `stat` does not answer as busybox and coreutils do"),
    )
}

fn parse(output: &[u8], word: &str, folder: &str) -> Option<Vec<FileEntry>> {
    let text = String::from_utf8_lossy(output);
    let prefix = if folder == "/" { "" } else { folder };
    // Each record is "<word> mode size uid gid time ./name\n", and only the last line break is not the name's.
    text.split(word).skip(1).map(|record| record_entry(record.strip_prefix(' ')?.strip_suffix('\n')?, prefix)).collect()
}

fn record_entry(record: &str, prefix: &str) -> Option<FileEntry> {
    let mut fields = record.splitn(6, ' ');
    let mode = u32::from_str_radix(fields.next()?, 16).ok()?;
    let size = fields.next()?.parse().ok()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let modified_s = fields.next()?.parse().ok()?;
    let name = fields.next()?;
    let kind = match mode & 0o170_000 {
        0o100_000 => EntryKind::File,
        0o040_000 => EntryKind::Directory,
        0o120_000 => EntryKind::Symlink,
        _ => EntryKind::Other,
    };
    let path = format!("{prefix}/{}", name.strip_prefix("./").unwrap_or(name));
    Some(FileEntry { path, kind, size, mode: mode & 0o7777, uid, gid, modified_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_line_breaks_and_blanks_are_one_name() {
        let output = b"W 81a4 3 1000 1000 1700000000 ./a b\nW 2 3\n\nW 41ed 4096 0 0 5 ./d\n";
        let output = String::from_utf8_lossy(output).replace('W', "0123").replace("\n0123 2 3\n\n", "\nX 2 3\n\n");
        let entries = parse(output.as_bytes(), "0123", "/w").expect("entries");
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["/w/a b\nX 2 3\n", "/w/d"]);
        assert_eq!((entries[0].kind, entries[0].mode, entries[0].size), (EntryKind::File, 0o644, 3));
        assert_eq!((entries[1].kind, entries[1].mode), (EntryKind::Directory, 0o755));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert_eq!(parse(b"0123 zz\n", "0123", "/"), None);
        assert_eq!(parse(b"", "0123", "/"), Some(Vec::new()));
    }
}
