//! The cluster's own certificates: a CA made at `init`, and one certificate for each node.
//!
//! A certificate names its node and its cluster, so that one of another cluster or another node is refused by the ordinary
//! checks of TLS. They do not expire: a node that must not come back is removed from the membership, which peers check on
//! every connection; nodes have no other clock to agree on.

use crate::{
    error::{Error, Result},
    identity::{Authority, Secret},
};
use plimsoll_types::{ClusterId, NodeId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

/// The name every member's certificate has: a node that joins knows nobody's id yet.
pub(crate) const ANY_MEMBER: &str = "member.plimsoll";

/// The name of one node's certificate.
pub(crate) fn node_name(cluster: ClusterId, node: NodeId) -> String {
    format!("node-{node}.{cluster}.plimsoll")
}

/// SHA-256 of a certificate: what a join token pins.
pub(crate) fn fingerprint(cert: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, cert).as_ref());
    bytes
}

/// Makes the CA of a new cluster.
pub(crate) fn new_authority(cluster: ClusterId) -> Result<Authority> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, format!("Plimsoll {cluster}"));
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok(Authority { cert: Secret(cert.der().to_vec()), key: Secret(key.serialize_der()) })
}

/// Makes a key and a request for a certificate; the key never leaves the node.
pub(crate) fn request() -> Result<(Secret, Vec<u8>)> {
    let key = KeyPair::generate().map_err(failed)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed)?;
    Ok((Secret(key.serialize_der()), request.der().to_vec()))
}

/// Signs a certificate for a node. Only the key is taken from the request; every name is ours.
pub(crate) fn issue(authority: &Authority, cluster: ClusterId, node: NodeId, request: &[u8]) -> Result<Secret> {
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request.to_vec()))
        .map_err(|error| Error::Invalid(format!("the certificate request is malformed: {error}")))?;
    let key_der = PrivatePkcs8KeyDer::from(authority.key.0.clone());
    let key = KeyPair::try_from(&key_der).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(authority.cert.0.clone()), key).map_err(failed)?;
    let names = vec![node_name(cluster, node), ANY_MEMBER.to_owned()];
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, node_name(cluster, node));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let cert = params.signed_by(&request.public_key, &issuer).map_err(failed)?;
    Ok(Secret(cert.der().to_vec()))
}

fn failed(error: rcgen::Error) -> Error {
    Error::Invalid(format!("a certificate could not be made: {error}"))
}
