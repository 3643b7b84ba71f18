//! The clients of one host's Docker: connections through [`Access`], API version agreed on first use.

use super::{known::Known, names::Names, raw};
use crate::{
    access::{Access, Class, Io},
    error::{self, DockerError},
};
use bollard::{BollardRequest, ClientVersion, Docker};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The oldest API that is spoken: Docker 20.10.
const OLDEST: (usize, usize) = (1, 41);
/// Idle connections kept per client; each holds a channel.
const IDLE_CONNECTIONS: usize = 4;
/// How long: a few polls.
const IDLE: Duration = Duration::from_secs(20);
/// bollard's own limit for an answer's head, in seconds. Each operation has a shorter deadline of its own, except a pull.
const ANSWER_S: u64 = 600;

/// Docker on one host.
pub(crate) struct Api {
    pub(crate) name: String,
    pub(crate) access: Arc<Access>,
    /// Held while a network is looked for and made, so that none is made twice.
    pub(crate) network_made: tokio::sync::Mutex<()>,
    /// Read while a network gets its container, written while idle networks are removed.
    pub(crate) networks: tokio::sync::RwLock<()>,
    /// Held by volume while a workspace gets its container, or is removed.
    pub(crate) workspaces: Names,
    /// Held by container while a snapshot is made of it.
    pub(crate) commits: Names,
    /// How many CPUs Docker said it has; zero until it was asked.
    cpus: AtomicU64,
    /// What Docker called the machine's architecture, once it was asked.
    architecture: OnceLock<String>,
    pub(crate) known: Known,
    agreed: Mutex<Option<Clients>>,
}

/// What Docker said of its release when the API's version was agreed.
pub(crate) struct Release {
    /// The engine's.
    pub(crate) engine: String,
    /// The newest API it speaks.
    pub(crate) api: String,
}

#[derive(Clone)]
struct Clients {
    version: (usize, usize),
    release: Arc<Release>,
    call: Docker,
    poll: Docker,
}

impl Api {
    pub(crate) fn new(name: String, access: Arc<Access>) -> Self {
        Self {
            name,
            access,
            network_made: tokio::sync::Mutex::default(),
            networks: tokio::sync::RwLock::default(),
            workspaces: Names::default(),
            commits: Names::default(),
            cpus: AtomicU64::new(0),
            architecture: OnceLock::new(),
            known: Known::default(),
            agreed: Mutex::new(None),
        }
    }

    /// The CPUs of the host, as far as a container may be given them: as the last poll found, or asked for now.
    pub(crate) async fn cpus(&self) -> Result<u64, HostError> {
        match self.cpus.load(Ordering::Relaxed) {
            0 => {
                let info = self.call().await?.info().await.map_err(|e| error::docker("describe itself", e))?;
                Ok(self.learn_cpus(info.ncpu))
            }
            known => Ok(known),
        }
    }

    /// The machine's architecture in Docker's words.
    pub(crate) async fn architecture(&self) -> Result<String, HostError> {
        if let Some(known) = self.architecture.get() {
            return Ok(known.clone());
        }
        let info = self.call().await?.info().await.map_err(|e| error::docker("describe itself", e))?;
        let said = info.architecture.unwrap_or_default();
        Ok(self.architecture.get_or_init(|| said).clone())
    }

    /// Remembers what Docker says of its CPUs; zero if it says nothing.
    pub(crate) fn learn_cpus(&self, said: Option<i64>) -> u64 {
        let cpus = said.and_then(|cpus| u64::try_from(cpus).ok()).unwrap_or(0);
        self.cpus.store(cpus, Ordering::Relaxed);
        cpus
    }

    /// The client for calls.
    pub(crate) async fn call(&self) -> Result<Docker, HostError> {
        Ok(self.clients(Class::Call).await?.call)
    }

    /// The client for polls.
    pub(crate) async fn poll(&self) -> Result<Docker, HostError> {
        Ok(self.clients(Class::Poll).await?.poll)
    }

    /// What the client for polls was agreed with.
    pub(crate) async fn release(&self) -> Result<Arc<Release>, HostError> {
        Ok(self.clients(Class::Poll).await?.release)
    }

    /// Opens a stream that somebody else reads: `path` without the version.
    pub(crate) async fn stream(
        &self,
        class: Class,
        build: impl FnOnce(String) -> Result<Request<Full<Bytes>>, DockerError>,
        path: &str,
    ) -> Result<Response<Incoming>, DockerError> {
        let (major, minor) = self.clients(class).await.map_err(DockerError::Lost)?.version;
        let io = self.access.open(class).await.map_err(DockerError::Lost)?;
        raw::send(io, build(format!("/v{major}.{minor}{path}"))?).await
    }

    /// Forgets the agreed version: Docker may have been replaced by another release.
    pub(crate) fn renegotiate(&self) {
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn clients(&self, class: Class) -> Result<Clients, HostError> {
        if let Some(clients) = self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(clients);
        }
        // A stream's connection is costly; the question goes with the calls.
        let class = if class == Class::Poll { class } else { Class::Call };
        let (server, release) = self.ask_version(class).await?;
        let newest = (bollard::API_DEFAULT_VERSION.major_version, bollard::API_DEFAULT_VERSION.minor_version);
        let version = server.min(newest);
        let clients = Clients {
            version,
            release: Arc::new(release),
            call: self.client(Class::Call, version)?,
            poll: self.client(Class::Poll, version)?,
        };
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(clients.clone());
        Ok(clients)
    }

    /// Asks without a version in the path: Docker refuses paths of versions it does not know, older and newer ones.
    async fn ask_version(&self, class: Class) -> Result<((usize, usize), Release), HostError> {
        let ask = async {
            let io = self.access.open(class).await.map_err(DockerError::Lost)?;
            raw::json(raw::send(io, raw::get("/version")?).await?).await
        };
        let answer = ask.await.map_err(|error| error::docker("tell its version", error))?;
        let text = |field| answer.get(field).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
        let said = text("ApiVersion");
        let version = said.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        match version {
            Some(version) if version >= OLDEST => Ok((version, Release { engine: text("Version"), api: said })),
            _ => Err(error::this_host(
                Code::DockerTooOld,
                format!(
                    "Docker on host {} speaks API {said:?}; 1.41 (Docker 20.10) or later is needed: upgrade Docker",
                    self.name
                ),
            )),
        }
    }

    fn client(&self, class: Class, (major_version, minor_version): (usize, usize)) -> Result<Docker, HostError> {
        let connector = Connector { access: Arc::clone(&self.access), class };
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        let transport = move |request: BollardRequest| {
            let client = client.clone();
            async move {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                let began = Instant::now();
                let answer = client.request(request).await.map_err(bollard::errors::Error::from);
                tracing::trace!(%method, path, took = ?began.elapsed(), "asked Docker");
                answer
            }
        };
        let version = ClientVersion { major_version, minor_version };
        Docker::connect_with_custom_transport(transport, Some("http://docker"), ANSWER_S, &version)
            .map_err(|error| error::docker("be addressed", error))
    }
}

/// Makes connections for hyper's client.
#[derive(Clone)]
struct Connector {
    access: Arc<Access>,
    class: Class,
}

impl tower_service::Service<hyper::Uri> for Connector {
    type Response = TokioIo<Io>;
    type Error = HostError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, HostError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HostError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: hyper::Uri) -> Self::Future {
        let Self { access, class } = self.clone();
        Box::pin(async move { access.open(class).await.map(TokioIo::new) })
    }
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
