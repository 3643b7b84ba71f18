//! The typed client: manifests, small blobs, tags and the catalogue.

use super::{
    http::{self, Answer},
    options::{Place, RegistryOptions},
    paging,
};
use crate::{error, limits};
use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use plimsoll_lifecycle::ports::{HostError, Registry, StoredSeen};
use plimsoll_types::{ClusterId, Code, Digest, SnapshotId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// The manifests that Docker pushes: its own schema 2, and OCI's where it uses containerd's image store.
const MANIFESTS: &str =
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
/// Names a page; the registry's own limit is 1,000 by default.
const PAGE: usize = 500;
/// Pages of one list: a million names, far above what one cluster has, so that a broken registry cannot keep us for ever.
const MAX_PAGES: usize = 2000;

/// A manifest as the registry has it.
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) body: Value,
}

/// The registry, as the control plane reaches it.
#[derive(Debug)]
pub(crate) struct Client {
    options: RegistryOptions,
    place: Result<Place, HostError>,
}

impl Client {
    pub(crate) fn new(options: RegistryOptions) -> Self {
        Self { place: options.place(), options }
    }

    pub(crate) fn place(&self) -> Result<&Place, HostError> {
        self.place.as_ref().map_err(Clone::clone)
    }

    /// What a host's Docker logs in with, as its `X-Registry-Auth` header has it.
    pub(crate) fn docker_login(&self) -> String {
        let login = match &self.options.username {
            None => serde_json::json!({}),
            Some(username) => {
                let password = self.options.password.as_ref().map_or("", |password| password.reveal());
                serde_json::json!({ "username": username, "password": password })
            }
        };
        base64::engine::general_purpose::URL_SAFE.encode(login.to_string())
    }

    /// The manifest behind a tag or digest; `None` if there is none.
    pub(crate) async fn manifest(&self, repository: &str, reference: &str) -> Result<Option<Manifest>, HostError> {
        let path = manifest_path(repository, reference)?;
        let answer = self.ask(Method::GET, &path, Some((ACCEPT.as_str(), MANIFESTS)), Bytes::new()).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(answer.refused("give a manifest")),
        }
        let media_type = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
        let digest = digest_of(&answer.body);
        let body = serde_json::from_slice(&answer.body).map_err(|error| unreadable(&error))?;
        Ok(Some(Manifest { digest, media_type, body }))
    }

    /// A configuration's JSON.
    pub(crate) async fn config(&self, repository: &str, digest: &str) -> Result<Value, HostError> {
        let path = format!("/v2/{}/blobs/{}", name(repository)?, reference(digest)?);
        let answer = self.ask(Method::GET, &path, None, Bytes::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.refused("give an image's configuration"));
        }
        serde_json::from_slice(&answer.body).map_err(|error| unreadable(&error))
    }

    /// Stores a small blob and answers with its digest.
    pub(crate) async fn put_blob(&self, repository: &str, content: Bytes) -> Result<Digest, HostError> {
        let digest = digest_of(&content);
        let path = format!("/v2/{}/blobs/uploads/", name(repository)?);
        let begun = self.ask(Method::POST, &path, None, Bytes::new()).await?;
        let location = begun.header("location").and_then(paging::path_of);
        let Some(location) = location.filter(|_| begun.status == StatusCode::ACCEPTED) else {
            return Err(begun.refused("begin an upload"));
        };
        let joint = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{joint}digest={digest}");
        let octets = Some((CONTENT_TYPE.as_str(), "application/octet-stream"));
        let stored = self.ask(Method::PUT, &path, octets, content).await?;
        if stored.status == StatusCode::CREATED { Ok(digest) } else { Err(stored.refused("store a configuration")) }
    }

    /// Stores a manifest under a tag and answers with its digest.
    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        manifest: Bytes,
    ) -> Result<Digest, HostError> {
        let digest = digest_of(&manifest);
        let path = manifest_path(repository, tag)?;
        let stored = self.ask(Method::PUT, &path, Some((CONTENT_TYPE.as_str(), media_type)), manifest).await?;
        if stored.status == StatusCode::CREATED { Ok(digest) } else { Err(stored.refused("store a manifest")) }
    }

    /// Deletes a manifest by digest; missing is success.
    pub(crate) async fn delete_manifest(&self, repository: &str, digest: &str) -> Result<(), HostError> {
        self.remove(&manifest_path(repository, digest)?).await
    }

    /// Deletes a blob; missing is success.
    pub(crate) async fn delete_blob(&self, repository: &str, digest: &str) -> Result<(), HostError> {
        self.remove(&format!("/v2/{}/blobs/{}", name(repository)?, reference(digest)?)).await
    }

    async fn remove(&self, path: &str) -> Result<(), HostError> {
        let answer = self.ask(Method::DELETE, path, None, Bytes::new()).await?;
        match answer.status {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            StatusCode::METHOD_NOT_ALLOWED => Err(error::permanent(
                Code::Unsupported,
                "the registry does not allow deleting; start it with REGISTRY_STORAGE_DELETE_ENABLED=true",
            )),
            _ => Err(answer.refused("delete")),
        }
    }

    /// The names in a list that may have many pages.
    async fn names(&self, mut path: String, field: &str) -> Result<Vec<String>, HostError> {
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.ask(Method::GET, &path, None, Bytes::new()).await?;
            match answer.status {
                StatusCode::OK => {}
                // A repository whose last tag was deleted.
                StatusCode::NOT_FOUND => return Ok(all),
                _ => return Err(answer.refused("list what it has")),
            }
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| unreadable(&error))?;
            let names = body.get(field).and_then(Value::as_array);
            all.extend(names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            match paging::next(answer.header("link")) {
                Some(next) => path = next,
                None => return Ok(all),
            }
        }
        Err(error::transient(Code::RegistryUnreachable, "the registry's list does not end"))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
        body: Bytes,
    ) -> Result<Answer, HostError> {
        let place = self.place()?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, place.to_string());
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some(username) = &self.options.username {
            let password = self.options.password.as_ref().map_or("", |password| password.reveal());
            let login = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
            request = request.header(AUTHORIZATION, format!("Basic {login}"));
        }
        let request =
            request.body(Full::new(body)).map_err(|_| http::unreachable(place, "a request cannot be written"))?;
        http::send(place, request).await
    }
}

#[async_trait]
impl Registry for Client {
    async fn check(&self) -> Result<(), HostError> {
        let answer = self.ask(Method::GET, "/v2/", None, Bytes::new()).await?;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.refused("be used")) }
    }

    async fn contains(&self, repository: &str, digest: &Digest) -> Result<bool, HostError> {
        let path = manifest_path(repository, &digest.to_string())?;
        let answer = self.ask(Method::HEAD, &path, Some((ACCEPT.as_str(), MANIFESTS)), Bytes::new()).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(answer.refused("look for a manifest")),
        }
    }

    async fn delete(&self, repository: &str, snapshot: SnapshotId) -> Result<(), HostError> {
        match self.manifest(repository, &snapshot.to_string()).await? {
            Some(manifest) => self.delete_manifest(repository, &manifest.digest.to_string()).await,
            None => Ok(()),
        }
    }

    async fn list(&self, cluster: ClusterId) -> Result<Vec<StoredSeen>, HostError> {
        let listing = async {
            let ours = format!("plimsoll/{cluster}/");
            let mut found = BTreeSet::new();
            for repository in self.names(format!("/v2/_catalog?n={PAGE}"), "repositories").await? {
                if !repository.starts_with(&ours) || name(&repository).is_err() {
                    continue;
                }
                for tag in self.names(format!("/v2/{repository}/tags/list?n={PAGE}"), "tags").await? {
                    let snapshot = tag.parse().ok();
                    found.insert(StoredSeen { repository: repository.clone(), tag, snapshot });
                }
            }
            Ok(found.into_iter().collect())
        };
        match tokio::time::timeout(limits::REGISTRY_LIST, listing).await {
            Ok(list) => list,
            Err(_) => Err(http::unreachable(self.place()?, "its list takes too long")),
        }
    }
}

fn digest_of(content: &[u8]) -> Digest {
    Digest(Sha256::digest(content).into())
}

fn manifest_path(repository: &str, wanted: &str) -> Result<String, HostError> {
    Ok(format!("/v2/{}/manifests/{}", name(repository)?, reference(wanted)?))
}

/// Repositories become part of a path: only their own alphabet may.
pub(crate) fn name(repository: &str) -> Result<&str, HostError> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    if repository.len() <= 255 && repository.split('/').all(part) {
        return Ok(repository);
    }
    Err(error::permanent(Code::InvalidRequest, format!("{repository:?} is not a repository's name")))
}

fn reference(text: &str) -> Result<&str, HostError> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b));
    if ok {
        Ok(text)
    } else {
        Err(error::permanent(Code::InvalidRequest, format!("{text:?} is neither tag nor digest")))
    }
}

fn unreadable(error: &serde_json::Error) -> HostError {
    error::transient(Code::RegistryUnreachable, format!("the registry's answer cannot be read: {error}"))
}
