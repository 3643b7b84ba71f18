//! Writing a file for another owner, without a process that has any rights of root's.
//!
//! Nobody in a sandbox can give a file away, and nothing privileged is ever run in one. So the owner-to-be writes the file itself, into
//! a folder that the writer opened for it, and the writer, whose folder it is, renames it to where it belongs. Docker's archive API is not
//! used: on a running container the sandbox could swap the path under it.

use super::{script, transfer};
use crate::{docker::Api, error};
use plimsoll_lifecycle::ports::{ByteStream, HostError};
use plimsoll_types::Code;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bits that lend a file's owner, or its group, to whoever runs it.
const SETID: u32 = 0o6000;
/// Room for what the scripts print: a uid.
const LITTLE: usize = 4096;

/// The file to write.
pub(super) struct File<'a> {
    pub(super) container: &'a str,
    pub(super) path: &'a str,
    pub(super) mode: &'a str,
    pub(super) owner: &'a str,
    /// The name of temporary things, which nothing else has.
    pub(super) name: &'a str,
}

/// Who is to own it, as Docker names users: a uid alone would get root's group there unless the sandbox knows it.
pub(super) fn check(owner: &str, mode: u32) -> Result<Cow<'_, str>, HostError> {
    // The sandbox's processes gain nothing from them, as none may gain privileges; users of the host itself could.
    if mode & SETID != 0 {
        let text =
            format!("mode {mode:o} with owner {owner:?}: setuid and setgid are not given to a file of another owner");
        return Err(error::permanent(Code::InvalidRequest, text));
    }
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Ok(if numeric(owner) { format!("{owner}:{owner}").into() } else { owner.into() })
}

/// What came of asking the writer for folders to drop the file in.
pub(super) enum Drops {
    /// They are there, and belong to this uid.
    Made(String),
    /// The writer may not write where the file is to be.
    Denied,
}

/// Makes the folders in which the owner-to-be drops the file, as the writer.
pub(super) async fn prepare(api: &Arc<Api>, writer: Option<&str>, file: &File<'_>) -> Result<Drops, HostError> {
    let args = [file.path, file.name];
    match script::run(api, file.container, writer, file.path, (script::DROPS, &args), None, LITTLE).await {
        Ok(uid) => Ok(Drops::Made(String::from_utf8_lossy(&uid).trim().to_owned())),
        Err(error) if error.code == Code::FileError && error.message.contains("ermission denied") => Ok(Drops::Denied),
        Err(error) => {
            discard(api, writer, file).await;
            Err(error)
        }
    }
}

/// Writes the file as its owner, and puts it in place as the writer.
pub(super) async fn write(
    api: &Arc<Api>,
    writer: Option<&str>,
    file: &File<'_>,
    uid: &str,
    body: ByteStream,
    sent: Arc<AtomicU64>,
) -> Result<(), HostError> {
    let File { container, path, mode, owner, name } = *file;
    let args = [path, name, uid, mode];
    let dropped = transfer::input(api, container, Some(owner), path, (script::DROP, &args), body).await;
    let done = match dropped {
        Ok(()) => {
            let bytes = sent.load(Ordering::Relaxed).to_string();
            script::run(api, container, writer, path, (script::TAKE, &[path, name, &bytes]), None, LITTLE)
                .await
                .map(drop)
        }
        Err(error) => Err(error),
    };
    if done.is_err() {
        discard(api, writer, file).await;
    }
    done.map_err(|error| explain(owner, error))
}

async fn discard(api: &Arc<Api>, writer: Option<&str>, file: &File<'_>) {
    let args = [file.path, file.name];
    let gone = script::run(api, file.container, writer, file.path, (script::UNDROP, &args), None, LITTLE);
    if let Err(error) = tokio::time::timeout(crate::limits::FILE, gone).await.unwrap_or(Ok(Vec::new())) {
        tracing::debug!(%error, "a temporary folder stays behind in a sandbox");
    }
}

/// Docker looks the owner up when it starts the process that writes.
pub(super) fn explain(owner: &str, error: HostError) -> HostError {
    let unknown = ["unable to find user", "unable to find group", "no matching entries", "must be in range"];
    if !unknown.iter().any(|sign| error.message.contains(sign)) {
        return error;
    }
    let text =
        format!("the sandbox knows no owner {owner:?}; name one of its /etc/passwd, or write uid:gid in numbers");
    error::permanent(Code::FileError, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_user_with_a_group_or_a_name() {
        for (owner, means) in [("4321", "4321:4321"), ("4321:8765", "4321:8765"), ("root", "root"), ("a:b", "a:b")] {
            assert_eq!(check(owner, 0o1777).expect("fine"), means);
        }
        for mode in [0o4755, 0o2755, 0o6000] {
            assert_eq!(check("root", mode).expect_err("setid").code, Code::InvalidRequest, "{mode:o}");
        }
    }
}
