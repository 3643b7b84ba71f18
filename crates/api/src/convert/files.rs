//! From file entries and tars to the wire.

use crate::error::{Answer, ApiError};
use plimsoll_client::wire::{self, Encoding, FolderContent, FolderFile, Time};
use plimsoll_lifecycle::ports::{EntryKind, FileEntry};
use plimsoll_types::{Code, Timestamp};
use std::io::Read;

/// One entry.
pub(crate) fn entry(entry: FileEntry) -> wire::FileEntry {
    wire::FileEntry {
        path: entry.path,
        kind: match entry.kind {
            EntryKind::File => wire::EntryKind::File,
            EntryKind::Directory => wire::EntryKind::Directory,
            EntryKind::Symlink => wire::EntryKind::Symlink,
            EntryKind::Other => wire::EntryKind::Other,
        },
        size: entry.size,
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        modified_at: Time(Timestamp(u64::try_from(entry.modified_s).unwrap_or(0).saturating_mul(1000))),
    }
}

/// The regular files of a tar, with their bytes.
pub(crate) fn folder(tar: &[u8]) -> Answer<FolderContent> {
    let unreadable =
        |error: std::io::Error| ApiError::new(Code::FileError, format!("the folder could not be read: {error}"));
    let mut files = Vec::new();
    for entry in tar::Archive::new(tar).entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(unreadable)?;
        let encoding = Encoding::fitting(&[&bytes]);
        files.push(FolderFile { path, data: encoding.encode(&bytes), encoding });
    }
    Ok(FolderContent { files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_becomes_relative_paths_with_bytes() {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in [("./a.txt", b"hi".as_slice()), ("sub/b.bin", &[0xff, 0x00])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, path, bytes).unwrap();
        }
        let content = folder(&builder.into_inner().unwrap()).unwrap();
        let seen: Vec<_> = content.files.iter().map(|file| (file.path.as_str(), file.bytes(), file.encoding)).collect();
        assert_eq!(seen, [("a.txt", b"hi".to_vec(), Encoding::Utf8), ("sub/b.bin", vec![0xff, 0], Encoding::Base64)]);
        assert!(folder(&[1; 700]).is_err(), "what is no tar is an error");
    }
}
