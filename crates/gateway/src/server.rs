//! The SSH server: who may log in, and one task for each session channel.

use crate::channel;
use plimsoll_engine::{SandboxProvider, Scope};
use plimsoll_types::SandboxId;
use russh::{
    Channel, ChannelId, MethodKind, MethodSet, Pty,
    keys::{PrivateKey, PublicKey, ssh_key::private::Ed25519Keypair},
    server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey},
};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Logins under way and open at once; past it a connection is closed at once, so that a scan cannot use up memory.
const MAX_CONNECTIONS: usize = 512;
/// Sessions in one connection: what OpenSSH allows by default.
const MAX_CHANNELS: usize = 10;
/// A connection that says nothing for so long, keepalives included, is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Nobody needs longer to log in; without a limit, silent connections would take every place.
const LOGIN: Duration = Duration::from_secs(30);
/// After a shortage of files or memory it waits, instead of spinning.
const PAUSE: Duration = Duration::from_millis(200);
/// Time for open sessions to end at shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// What the gateway needs.
pub struct Options {
    /// Seed of the host key: the same on every node, so that a client sees one gateway.
    pub host_key_seed: [u8; 32],
    /// Where sandboxes are found and processes started.
    pub provider: Arc<dyn SandboxProvider>,
}

/// Why the gateway stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listening socket failed.
    #[error("the SSH gateway cannot accept connections")]
    Accept(#[source] std::io::Error),
}

/// Serves until told to stop.
///
/// # Errors
/// When the listening socket fails for good.
pub async fn serve(options: Options, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&options.host_key_seed));
    let config = Arc::new(russh::server::Config {
        keys: vec![key],
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(500),
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: 6,
        keepalive_interval: Some(KEEPALIVE),
        inactivity_timeout: None,
        nodelay: true,
        ..russh::server::Config::default()
    });
    let (places, tasks) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_passing(&error) => continue,
                Err(error) if is_shortage(&error) => {
                    tracing::error!(%error, "the SSH gateway cannot take connections for the moment");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(Error::Accept(error)),
            },
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "the SSH gateway is full; a connection was closed");
            continue;
        };
        let admitted = CancellationToken::new();
        let login = Login {
            provider: Arc::clone(&options.provider),
            sandbox: None,
            admitted: admitted.clone(),
            channels: Arc::new(Semaphore::new(MAX_CHANNELS)),
        };
        let (config, shutdown) = (Arc::clone(&config), shutdown.clone());
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = overdue(&admitted) => tracing::debug!(%peer, "an SSH connection did not log in in time"),
                ended = run(config, stream, login) => if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "an SSH connection ended");
                },
            }
        });
    }
    tasks.close();
    let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
    Ok(())
}

async fn run(
    config: Arc<russh::server::Config>,
    stream: tokio::net::TcpStream,
    login: Login,
) -> Result<(), russh::Error> {
    russh::server::run_stream(config, stream, login).await?.await
}

/// Returns once the time to log in is over; never for a connection that did.
async fn overdue(admitted: &CancellationToken) {
    if tokio::time::timeout(LOGIN, admitted.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

/// Errors of one connection or of the moment, after which accepting goes on.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Too many open files or too little memory: it passes, and must not take the node with it.
fn is_shortage(error: &std::io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE))
}

/// One connection: nobody until a key fits, then the sandbox that was named as the user.
struct Login {
    provider: Arc<dyn SandboxProvider>,
    sandbox: Option<SandboxId>,
    /// Cancelled once a key fits: the time to log in no longer runs.
    admitted: CancellationToken,
    channels: Arc<Semaphore>,
}

impl Login {
    /// The sandbox a user name stands for, if this key may enter it. A wrong name and a wrong key look alike.
    async fn admitted(&self, user: &str, key: &PublicKey) -> Option<SandboxId> {
        let id: SandboxId = user.parse().ok()?;
        let sandbox = self.provider.get(&Scope::All, id).await.ok()?;
        let listed = sandbox.spec.ssh_keys.iter().filter_map(|line| PublicKey::from_openssh(line).ok());
        listed.into_iter().any(|listed| listed.key_data() == key.key_data()).then_some(id)
    }
}

impl Handler for Login {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        self.sandbox = self.admitted(user, key.public_key).await;
        if self.sandbox.is_none() {
            return Ok(Auth::reject());
        }
        self.admitted.cancel();
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Some(sandbox), Ok(place)) = (self.sandbox, Arc::clone(&self.channels).try_acquire_owned()) else {
            return Ok(()); // dropping the handle refuses the channel
        };
        reply.accept().await;
        let provider = Arc::clone(&self.provider);
        tokio::spawn(async move {
            let _place = place;
            channel::run(channel, provider, sandbox).await;
        });
        Ok(())
    }

    // The channel's task reads the requests themselves; here each is only acknowledged.

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn the_time_to_log_in_ends_for_strangers_only() {
        let start = Instant::now();
        overdue(&CancellationToken::new()).await;
        assert_eq!(start.elapsed(), LOGIN);

        let admitted = CancellationToken::new();
        admitted.cancel();
        assert!(timeout(LOGIN * 100, overdue(&admitted)).await.is_err(), "somebody who logged in was cut off");
    }
}
