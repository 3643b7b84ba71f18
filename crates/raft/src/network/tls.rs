//! TLS 1.3 between members, each with a certificate of the cluster's CA, and for a node that joins and has none yet.

use crate::{
    certs,
    error::{Error, Result},
    identity::Identity,
};
use plimsoll_types::{ClusterId, NodeId};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier},
};
use std::sync::Arc;

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("the identity's certificates cannot be used: {error}"))
}

fn roots(ca: &[u8]) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec())).map_err(failed)?;
    Ok(Arc::new(roots))
}

/// For accepting connections. Whoever shows a certificate must have one of the cluster's; whoever shows none may only ask to
/// join, which the server checks.
pub(crate) fn server(identity: &Identity) -> Result<Arc<ServerConfig>> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&identity.authority.cert.0)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(failed)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain(), identity.private_key())
        .map_err(failed)?;
    Ok(Arc::new(config))
}

/// For connecting to members.
pub(crate) fn client(identity: &Identity) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(failed)?
        .with_root_certificates(roots(&identity.authority.cert.0)?)
        .with_client_auth_cert(identity.chain(), identity.private_key())
        .map_err(failed)?;
    Ok(Arc::new(config))
}

/// For joining: accepts any member of the cluster whose CA has this fingerprint, and nobody else.
pub(crate) fn stranger(fingerprint: [u8; 32]) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { fingerprint, provider: provider() }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The name to expect of a member.
pub(crate) fn member_name(cluster: ClusterId, node: Option<NodeId>) -> Result<ServerName<'static>> {
    let name = node.map_or_else(|| certs::ANY_MEMBER.to_owned(), |node| certs::node_name(cluster, node));
    ServerName::try_from(name).map_err(failed)
}

/// Whether a certificate (whose chain TLS has checked) is this node's.
pub(crate) fn is_node(cert: &CertificateDer<'_>, cluster: ClusterId, node: NodeId) -> bool {
    let Ok(name) = member_name(cluster, Some(node)) else { return false };
    ParsedCertificate::try_from(cert).is_ok_and(|cert| rustls::client::verify_server_name(&cert, &name).is_ok())
}

/// Trusts a chain if it holds the pinned CA and that CA signed it.
#[derive(Debug)]
struct PinnedCa {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let refused = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let ca = intermediates.iter().find(|cert| certs::fingerprint(cert) == self.fingerprint).ok_or_else(refused)?;
        let roots = roots(ca).map_err(|_| refused())?;
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|_| refused())?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
