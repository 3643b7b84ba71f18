//! The registry as a host's Docker sees it: `127.0.0.1` and a port. Docker trusts loopback registries without certificates.

use crate::{
    registry::Place,
    ssh::forward::{Forwarded, Pipe},
};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};

/// The port that is tried first, and for the same reason as over SSH: Docker remembers layers by the registry's name.
const PORT: u16 = 15_000;

/// After a connection could not be accepted: most likely this process has too many files open.
const PAUSE: Duration = Duration::from_millis(100);

/// A way to the registry; it may close when this is dropped.
pub(crate) enum Door {
    /// Through an SSH connection.
    Forwarded(Arc<Forwarded>),
    /// This machine's Docker, through a listener of ours.
    Listening(Arc<Listening>),
    /// This machine's Docker, and a registry on this machine.
    Direct(u16),
}

impl Door {
    /// The registry's name for Docker.
    pub(crate) fn name(&self) -> String {
        let port = match self {
            Self::Forwarded(forwarded) => forwarded.port,
            Self::Listening(listening) => listening.port,
            Self::Direct(port) => *port,
        };
        format!("127.0.0.1:{port}")
    }
}

/// The listener of this machine, if there is one.
#[derive(Default)]
pub(crate) struct Local(Mutex<Weak<Listening>>);

/// A listener that stands.
pub(crate) struct Listening {
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Local {
    pub(crate) async fn open(&self, place: &Place) -> Result<Door, HostError> {
        if let Some(port) = place.loopback() {
            return Ok(Door::Direct(port));
        }
        let mut current = self.0.lock().await;
        if let Some(listening) = current.upgrade() {
            return Ok(Door::Listening(listening));
        }
        let refused = |error: std::io::Error| {
            let text = format!("this machine lets us listen on no port of 127.0.0.1 for the registry: {error}");
            crate::error::this_host(Code::RegistryUnreachable, text)
        };
        let listener = match TcpListener::bind(("127.0.0.1", PORT)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind(("127.0.0.1", 0)).await.map_err(refused)?,
        };
        let port = listener.local_addr().map_err(refused)?.port();
        let pipe = Pipe::new("this machine", place);
        let task = tokio::spawn(async move {
            // An error of one connection is none of the listener's; too many connections are closed at once.
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        if let Some(piping) = pipe.permit() {
                            piping.carry(stream);
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection for the registry was not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        let listening = Arc::new(Listening { port, task });
        *current = Arc::downgrade(&listening);
        Ok(Door::Listening(listening))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    #[tokio::test]
    async fn this_machine_reaches_a_registry_elsewhere_through_a_listener() {
        let direct = Local::default().open(&Place { host: "localhost".to_owned(), port: 5000 }).await;
        assert_eq!(direct.expect("a door").name(), "127.0.0.1:5000");

        let registry = TcpListener::bind(("127.0.0.2", 0)).await.expect("another loopback address");
        let place = Place { host: "127.0.0.2".to_owned(), port: registry.local_addr().expect("an address").port() };
        let local = Local::default();
        let door = local.open(&place).await.expect("a door");
        assert_eq!(local.open(&place).await.expect("the same").name(), door.name());
        let mut docker = TcpStream::connect(door.name()).await.expect("a connection");
        docker.write_all(b"ping").await.expect("written");
        let (mut arrived, _) = registry.accept().await.expect("passed on");
        let mut said = [0; 4];
        arrived.read_exact(&mut said).await.expect("read");
        assert_eq!(&said, b"ping");
        drop(arrived);
        assert_eq!(docker.read(&mut said).await.expect("the end"), 0);
    }
}
