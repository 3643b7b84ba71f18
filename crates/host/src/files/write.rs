//! Writing a file so that there is always either the old content or all of the new.
//!
//! A process cannot tell the end of a body from the end of a broken connection: both close its stdin. So the content first goes to a
//! temporary file, and a second process puts that in place only if it has as many bytes as were sent.

use super::{
    owner::{self, Drops, File},
    script, transfer,
};
use crate::{
    docker::{self, Api},
    error,
};
use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use plimsoll_lifecycle::{
    naming,
    ports::{ByteStream, HostError, WriteOptions},
};
use plimsoll_types::Code;
use rand::Rng;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bodies up to this size are held and go in one process: most files are small, and a process costs 70 ms.
const SMALL: usize = 256 << 10;
/// Where the platform's environment really is: beside the secret environment, on the sandbox's tmpfs.
const PLATFORM_ENV: &str = "/run/plimsoll/platform-env.json";
const DEFAULT_MODE: u32 = 0o644;
/// Room for what these scripts print: nothing.
const NOTHING: usize = 4096;

pub(crate) async fn write(
    api: &Arc<Api>,
    container: &str,
    path: &str,
    options: &WriteOptions,
    body: ByteStream,
) -> Result<(), HostError> {
    let path = script::check_target(path)?;
    if path == naming::PLATFORM_ENV_FILE && options.user.is_none() && options.owner.is_none() {
        // It holds secrets, and what is in the root filesystem is in every snapshot: the content goes into memory, and its place
        // gets a link to it, which may travel.
        Box::pin(write(api, container, PLATFORM_ENV, options, body)).await?;
        return script::run(api, container, None, path, (script::LINK, &[PLATFORM_ENV, path]), None, NOTHING)
            .await
            .map(drop);
    }
    let mode = options.mode.unwrap_or(DEFAULT_MODE);
    if mode > 0o7777 {
        return Err(error::permanent(Code::InvalidRequest, format!("mode {mode:o} has bits that no file has")));
    }
    let user = options.user.as_deref();
    let name = format!(".plimsoll-{:016x}", rand::rng().random::<u64>());
    let octal = format!("{mode:o}");
    let Some(owner) = &options.owner else { return own(api, container, user, path, &name, &octal, body).await };
    let owner = owner::check(owner, mode)?;
    if *owner == user.map_or_else(docker::sandbox_user, str::to_owned) {
        return own(api, container, user, path, &name, &octal, body).await;
    }
    let file = File { container, path, mode: &octal, owner: &owner, name: &name };
    match owner::prepare(api, user, &file).await? {
        Drops::Made(uid) => {
            let (body, sent) = counted(body);
            owner::write(api, user, &file, &uid, body, sent).await
        }
        // Where the writer may not write, its new owner may.
        Drops::Denied => own(api, container, Some(&owner), path, &name, &octal, body)
            .await
            .map_err(|error| owner::explain(&owner, error)),
    }
}

/// Writes a file that belongs to who writes it.
async fn own(
    api: &Arc<Api>,
    container: &str,
    user: Option<&str>,
    path: &str,
    name: &str,
    mode: &str,
    mut body: ByteStream,
) -> Result<(), HostError> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let temporary = format!("{folder}/{name}");
    let commit = |bytes: u64| [path.to_owned(), temporary.clone(), bytes.to_string(), mode.to_owned()];

    let mut start = BytesMut::new();
    let mut whole = true;
    while let Some(piece) = body.next().await {
        start.extend_from_slice(&piece?);
        if start.len() > SMALL {
            whole = false;
            break;
        }
    }
    let start = start.freeze();
    let result = if whole {
        let args = commit(start.len() as u64);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let both = format!("{}{}", script::RECEIVE, script::COMMIT);
        script::run(api, container, user, path, (&both, &args), Some(&start), NOTHING).await.map(drop)
    } else {
        let body = Box::pin(stream::iter([Ok(start)]).chain(body));
        large(api, container, user, path, &temporary, body, commit).await
    };
    if let Err(error) = &result
        && leaves_something(error)
    {
        // The scripts clean up after themselves, unless they were killed or never heard of the end.
        let args = [temporary.as_str()];
        let gone = script::run(api, container, user, path, (script::DISCARD, &args), None, NOTHING);
        if let Err(error) = tokio::time::timeout(crate::limits::FILE, gone).await.unwrap_or(Ok(Vec::new())) {
            tracing::debug!(%error, "a temporary file stays behind in a sandbox");
        }
    }
    result
}

async fn large(
    api: &Arc<Api>,
    container: &str,
    user: Option<&str>,
    path: &str,
    temporary: &str,
    body: ByteStream,
    commit: impl Fn(u64) -> [String; 4],
) -> Result<(), HostError> {
    let (body, sent) = counted(body);
    transfer::input(api, container, user, path, (script::RECEIVE, &[path, temporary]), body).await?;
    let args = commit(sent.load(Ordering::Relaxed));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    script::run(api, container, user, path, (script::COMMIT, &args), None, NOTHING).await.map(drop)
}

/// A body that counts the bytes it has given.
fn counted(body: ByteStream) -> (ByteStream, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let body = body.inspect(move |piece| {
        if let Ok(piece) = piece {
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    (Box::pin(body), sent)
}

/// Whether a failed write may have left its temporary file: not if the sandbox was never reached, or said why itself.
fn leaves_something(error: &HostError) -> bool {
    !matches!(
        error.code,
        Code::FileError | Code::FileNotFound | Code::InvalidRequest | Code::WrongPhase | Code::NotFound
    )
}
