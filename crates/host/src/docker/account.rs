//! The account that sandboxes run as: uid 1000 has a name and a home in every container, whatever its image.
//!
//! It looks into containers that were created and not started, and never changes one that has run: there its user could swap paths.

use super::{Api, hardening::SANDBOX_UID, known::Account};
use crate::error::{self, DockerError};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::io::Read;
use tar::{Archive, Builder, EntryType, Header};

/// Longest passwd or group file that is read: thousands of entries. One that is longer is left as it is.
const MAX_FILE: usize = 256 << 10;
/// The account's name, and the second choice where the image gives that to somebody else.
const NAMES: [&str; 2] = ["user", "sandbox"];
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Gives uid 1000 an account in a container that was not started yet, if its image has none. An image is looked into once.
pub(crate) async fn ensure(api: &Api, container: &str, image_id: &str) -> Result<(), HostError> {
    let account = match api.known.account(image_id) {
        Some(account) => account,
        None => {
            let Some(account) = look(api, container).await? else { return Ok(()) };
            api.known.learn_account(image_id, account.clone());
            account
        }
    };
    let Account::Lacks(archive) = account else { return Ok(()) };
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let upload = api.call().await?.upload_to_container(container, Some(options), bollard::body_full(archive)).await;
    upload.map_err(|e| error::docker("give the sandbox's user an account", e))
}

/// What its image lacks; `None` if that cannot be helped.
async fn look(api: &Api, container: &str) -> Result<Option<Account>, HostError> {
    let Some(passwd) = read(api, container, PASSWD).await? else {
        tracing::debug!(host = api.name, container, "no readable {PASSWD}: the sandbox's user has no name");
        return Ok(None);
    };
    if has_id(&passwd) {
        return Ok(Some(Account::Complete));
    }
    let Some(name) = NAMES.into_iter().find(|name| !has_name(&passwd, name)) else { return Ok(None) };
    let group = read(api, container, GROUP).await?.filter(|group| !has_id(group) && !has_name(group, name));
    let additions = Additions {
        passwd: with_line(&passwd, &format!("{name}:x:{SANDBOX_UID}:{SANDBOX_UID}::/home/{name}:/bin/sh")),
        group: group.map(|group| with_line(&group, &format!("{name}:x:{SANDBOX_UID}:"))),
        etc: missing(api, container, "/etc").await?,
        homes: missing(api, container, "/home").await?,
        name,
    };
    additions.archive().map(|archive| Some(Account::Lacks(archive))).map_err(|e| unpacked(&e))
}

/// A small file's text, empty if there is none; `None` if it is no plain file, or too long to be meant.
async fn read(api: &Api, container: &str, path: &str) -> Result<Option<String>, HostError> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let docker = api.call().await?;
    let mut pieces = std::pin::pin!(docker.download_from_container(container, Some(options)));
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece.map_err(DockerError::from) {
            Ok(piece) => archive.extend_from_slice(&piece),
            Err(error) if error.status() == Some(404) => return Ok(Some(String::new())),
            Err(error) => return Err(error::docker("read the sandbox's accounts", error)),
        }
        if archive.len() > MAX_FILE {
            return Ok(None);
        }
    }
    text(&archive).map_err(|e| unpacked(&e))
}

/// The text of an archive's one plain file.
fn text(archive: &[u8]) -> std::io::Result<Option<String>> {
    let mut archive = Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else { return Ok(None) };
    let mut entry = entry?;
    if entry.header().entry_type() != EntryType::Regular {
        return Ok(None);
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    // What is no text could not be given back as it was.
    Ok(String::from_utf8(text).ok())
}

/// Whether there is nothing at a path. Docker would make a missing parent so that only root can enter it.
async fn missing(api: &Api, container: &str, path: &str) -> Result<bool, HostError> {
    let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
    match api.call().await?.get_container_archive_info(container, Some(options)).await.map_err(DockerError::from) {
        Ok(_) => Ok(false),
        Err(error) if error.status() == Some(404) => Ok(true),
        Err(error) => Err(error::docker("look into the sandbox", error)),
    }
}

/// What a container gets.
struct Additions {
    name: &'static str,
    passwd: String,
    group: Option<String>,
    etc: bool,
    homes: bool,
}

impl Additions {
    /// Never compressed: Docker runs programs of the container's to unpack some formats.
    fn archive(&self) -> std::io::Result<Bytes> {
        let mut archive = Builder::new(Vec::new());
        for (wanted, folder) in [(self.etc, "etc/"), (self.homes, "home/")] {
            if wanted {
                archive.append_data(&mut header(EntryType::Directory, 0o755, 0, 0), folder, std::io::empty())?;
            }
        }
        let home = format!("home/{}/", self.name);
        let owner = u64::from(SANDBOX_UID);
        archive.append_data(&mut header(EntryType::Directory, 0o755, owner, 0), home, std::io::empty())?;
        for (path, text) in [(GROUP, self.group.as_ref()), (PASSWD, Some(&self.passwd))] {
            let Some(text) = text else { continue };
            let mut header = header(EntryType::Regular, 0o644, 0, text.len() as u64);
            archive.append_data(&mut header, path.trim_start_matches('/'), text.as_bytes())?;
        }
        archive.into_inner().map(Bytes::from)
    }
}

fn header(kind: EntryType, mode: u32, owner: u64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_size(size);
    header.set_mtime(0);
    header
}

/// Whether a passwd or group file knows id 1000.
fn has_id(text: &str) -> bool {
    text.lines().any(|line| line.split(':').nth(2).and_then(|id| id.parse::<u32>().ok()) == Some(SANDBOX_UID))
}

fn has_name(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.split(':').next() == Some(name))
}

fn with_line(text: &str, line: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{line}\n")
}

fn unpacked(error: &std::io::Error) -> HostError {
    error::transient(Code::DockerUnreachable, format!("the sandbox's accounts could not be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_found_whole() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh";
        assert!(has_id(passwd) && has_name(passwd, "node") && !has_name(passwd, "nod"));
        for none in ["", "root:x:0:1000::/:", "x:x:10000:1:", "garbage", "user1000"] {
            assert!(!has_id(none), "{none:?}");
        }
        assert_eq!(with_line("a", "b"), "a\nb\n");
        assert_eq!(with_line("a\n", "b"), "a\nb\n");
        assert_eq!(with_line("", "b"), "b\n");
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let passwd = with_line("root:x:0:0::/root:/bin/sh\n", "user:x:1000:1000::/home/user:/bin/sh");
        let additions = Additions { name: "user", passwd: passwd.clone(), group: None, etc: true, homes: true };
        let archive = additions.archive().expect("an archive");
        let mut archive = Archive::new(&archive[..]);
        let found: Vec<_> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                let mut entry = entry.expect("an entry");
                let mut text = String::new();
                entry.read_to_string(&mut text).expect("text");
                (entry.path().expect("a path").display().to_string(), entry.header().uid().expect("a uid"), text)
            })
            .collect();
        let folder = |path: &str, uid| (path.to_owned(), uid, String::new());
        let file = ("etc/passwd".to_owned(), 0, passwd);
        assert_eq!(found, [folder("etc/", 0), folder("home/", 0), folder("home/user/", 1000), file]);
    }
}
