//! The pinned host key: compared on every connection, never learned silently.

use super::forward::Pipe;
use crate::error;
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::Code;
use russh::{
    Channel, ChannelOpenFailure,
    client::{ChannelOpenHandle, Msg, Session},
    keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate},
};
use std::sync::{Arc, Mutex, PoisonError};

/// Answers the client library's question whether to go on with the host's key.
pub(crate) struct Pin {
    pinned: Option<PublicKey>,
    seen: Seen,
    /// Where connections that the host passes on to us go; without one they are refused.
    pipe: Option<Pipe>,
}

/// The key the host showed, for whoever explains a refusal.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Option<PublicKey>>>);

impl Seen {
    pub(crate) fn get(&self) -> Option<PublicKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pin {
    pub(crate) fn new(pinned: Option<PublicKey>, pipe: Option<Pipe>) -> (Self, Seen) {
        let seen = Seen::default();
        (Self { pinned, seen: seen.clone(), pipe }, seen)
    }
}

impl russh::client::Handler for Pin {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let key = shown.public_key();
        let same = self.pinned.as_ref().is_some_and(|pinned| pinned.key_data() == key.key_data());
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(same)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.pipe.as_ref().and_then(Pipe::permit) {
            Some(piping) => {
                reply.accept().await;
                piping.carry(channel.into_stream());
            }
            None => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
        Ok(())
    }
}

/// Explains a refusal by what was pinned and what was shown.
pub(crate) fn refusal(host: &str, pinned: Option<&PublicKey>, shown: &PublicKey) -> HostError {
    let new = fingerprint(shown);
    match pinned {
        Some(pinned) => error::this_host(
            Code::HostKeyChanged,
            format!(
                "host {host} shows another key than the pinned one: pinned {}, shown {new}; if the machine was reinstalled, \
                 remove the host and add it again, otherwise somebody may be in between",
                fingerprint(pinned)
            ),
        ),
        None => error::this_host(
            Code::HostKeyUnknown,
            format!(
                "the key of host {host} is not pinned yet: it shows {new}; compare that with the machine and confirm it"
            ),
        ),
    }
}

/// `SHA256:…`, as `ssh-keygen -lf` prints it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Host key algorithms to offer. A host has one key per algorithm and shows the first that both sides know: without the pinned
/// key's algorithm in front, a host with several keys would seem to have changed its key. The others follow, so that a
/// host that really lost the pinned one is refused with both fingerprints and not with "no common algorithm".
pub(crate) fn algorithms(pinned: Option<&PublicKey>) -> Vec<Algorithm> {
    use russh::keys::EcdsaCurve;
    let mut all = vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    ];
    if let Some(pinned) = pinned {
        let first = pinned.algorithm();
        all.sort_by_key(|algorithm| *algorithm != first);
    }
    all
}
