//! From a create request to what the engine is asked for.

use super::rules::Rules;
use crate::{auth::Caller, error::Answer, limits, options::Api};
use plimsoll_client::wire::{CreateSandbox, PortRef};
use plimsoll_engine::{NewSandbox, Scope, Secrets, spec};
use plimsoll_lifecycle::ports::ledger;
use plimsoll_state::command::Idempotency;
use plimsoll_types::{
    Bytes, Code, Constraint, ImageRef, Label, MilliCpu, Millis, Resources, SandboxSpec, SnapshotId, SnapshotName,
    TenantId,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The variable that hands repositories to the program inside.
const REPOS: &str = "PLIMSOLL_REPOS";
/// Docker accepts no less memory than this.
const MIN_MEMORY: Bytes = Bytes::mib(6);
/// Docker accepts no less CPU than a hundredth.
const MIN_CPU: MilliCpu = MilliCpu(10);
/// Linux counts processes up to 4 million; no sandbox needs a hundredth.
const MAX_PIDS: u32 = 32_768;

/// Checks a request and turns it into what the engine takes.
pub(crate) async fn new_sandbox(
    api: &Api,
    caller: &Caller,
    request: CreateSandbox,
    key: Option<Box<str>>,
) -> Answer<NewSandbox> {
    let tenant = caller.tenant_for(request.tenant.as_ref())?;
    let idempotency = key.map(|key| idempotency(&tenant, key, &request));
    let mut rules = Rules::default();
    let origin = match &request.snapshot {
        Some(which) => origin(api, &tenant, which, &mut rules).await?,
        None => Origin::default(),
    };
    let base = || ledger::read(api.options.ledger.as_ref(), |state| state.policy.base_image.clone());
    let image = origin.image.or_else(|| request.image.clone()).or_else(base);
    if image.is_none() {
        rules.broken("/image", "name an image: this cluster has no base image");
    }
    rules.env("/env", &request.env);
    rules.env("/secret_env", &request.secret_env.0);
    for name in request.secret_env.0.keys().filter(|name| request.env.contains_key(*name)) {
        rules.broken("/secret_env", format!("{name:?} is in `env` as well"));
    }
    if let Some(command) = &request.command {
        rules.argv("/command", command);
    }
    let resources = resources(&mut rules, &request);
    let pids = request.pids.unwrap_or(SandboxSpec::DEFAULT_PIDS);
    rules.require((1..=MAX_PIDS).contains(&pids), "/pids", format!("from 1 to {MAX_PIDS}"));
    let ports = ports(&mut rules, &request.ports);
    rules.take("/labels", Label::check_all(&request.labels));
    let constraints = constraints(&mut rules, &request.constraints);
    if let Some(group) = &request.anti_affinity {
        rules.take("/anti_affinity", Label::check(group, ""));
    }
    rules.require(
        request.ssh_keys.len() <= spec::SSH_KEYS_MAX.0,
        "/ssh_keys",
        format!("at most {} keys", spec::SSH_KEYS_MAX.0),
    );
    for (index, key) in request.ssh_keys.iter().enumerate() {
        rules.require(
            is_public_key(key),
            &format!("/ssh_keys/{index}"),
            "write an OpenSSH public key on one line: ssh-ed25519 AAAA…",
        );
    }
    let lifetime = lifetime(&mut rules, request.lifetime_s);
    let checkpoint_every =
        period(&mut rules, "/checkpoint_every_s", request.checkpoint_every_s, spec::CHECKPOINT_LEAST);
    let idle_timeout = period(&mut rules, "/idle_timeout_s", request.idle_timeout_s, spec::IDLE_LEAST);
    let queue = limits::MAX_QUEUE.as_secs();
    rules.require(request.queue_timeout_s.is_none_or(|s| s <= queue), "/queue_timeout_s", format!("at most {queue}"));
    rules.require(
        request.repos.len() <= limits::MAX_REPOS,
        "/repos",
        format!("at most {} repositories", limits::MAX_REPOS),
    );
    rules.end()?;
    let Some(image) = image else { return Err(crate::ApiError::field("/image", "name an image")) };

    let mut secrets = request.secret_env.0;
    if !request.repos.is_empty() {
        secrets.insert(REPOS.to_owned(), serde_json::Value::Array(request.repos).to_string());
    }
    let spec = SandboxSpec {
        command: request.command,
        env: request.env,
        resources,
        pids_limit: pids,
        ports,
        labels: request.labels,
        runtime: request.runtime.unwrap_or_default(),
        constraints,
        anti_affinity: request.anti_affinity.map(Into::into),
        on_expiry: request.on_expiry.unwrap_or_default(),
        on_host_loss: request.on_host_loss.unwrap_or_default(),
        snapshot: origin.snapshot,
        checkpoint_every,
        idle_timeout,
        ssh_keys: request.ssh_keys.iter().map(|key| key.trim().to_owned()).collect(),
        ..SandboxSpec::new(image)
    };
    Ok(NewSandbox {
        tenant,
        session: request.session,
        spec,
        secret_env: Secrets(secrets),
        lifetime,
        queue_timeout: request.queue_timeout_s.filter(|s| *s > 0).map(Millis::secs),
        idempotency,
    })
}

/// What a sandbox starts from, where that is a snapshot.
#[derive(Default)]
struct Origin {
    snapshot: Option<SnapshotId>,
    /// The image that snapshot is made of.
    image: Option<ImageRef>,
}

/// The tenant's snapshot of this id or name. An id that is not there is left to whoever makes the sandbox: a session that is live, and a
/// request that is repeated, are answered although their snapshot was deleted since.
async fn origin(api: &Api, tenant: &TenantId, which: &str, rules: &mut Rules) -> Answer<Origin> {
    let id = which.parse::<SnapshotId>().ok();
    if id.is_none() && rules.take("/snapshot", SnapshotName::new(which)).is_none() {
        return Ok(Origin::default());
    }
    match api.options.provider.get_snapshot(&Scope::Tenant(tenant.clone()), which).await {
        Ok(found) => Ok(Origin { snapshot: Some(found.id), image: Some(found.image.clone()) }),
        Err(error) if id.is_some() && error.code == Code::SnapshotNotFound => Ok(Origin { snapshot: id, image: None }),
        Err(error) => Err(error.into()),
    }
}

/// A time that repeats or passes: none if absent or zero.
fn period(rules: &mut Rules, pointer: &str, seconds: Option<u64>, least: Millis) -> Option<Millis> {
    let seconds = seconds.filter(|seconds| *seconds > 0)?;
    let (least, most) = (least.0 / 1000, limits::MAX_LIFETIME_S);
    rules.require((least..=most).contains(&seconds), pointer, format!("from {least} to {most}; 0 is never"));
    seconds.checked_mul(1000).map(Millis)
}

/// The lifetime behind `lifetime_s`: the default if absent, for ever if zero.
pub(crate) fn lifetime(rules: &mut Rules, seconds: Option<u64>) -> Option<Millis> {
    let most = limits::MAX_LIFETIME_S;
    rules.require(
        seconds.is_none_or(|s| s <= most),
        "/lifetime_s",
        format!("at most {most} (ten years); 0 is for ever"),
    );
    match seconds {
        None => Some(SandboxSpec::DEFAULT_LIFETIME),
        Some(0) => None,
        Some(seconds) => Some(Millis::secs(seconds)),
    }
}

fn resources(rules: &mut Rules, request: &CreateSandbox) -> Resources {
    let default = Resources::DEFAULT_SANDBOX;
    let resources = Resources {
        cpu: request.cpu.map_or(default.cpu, |cpu| cpu.0),
        memory: request.memory.map_or(default.memory, |memory| memory.0),
        disk: request.disk.map_or(default.disk, |disk| disk.0),
    };
    rules.require(resources.cpu >= MIN_CPU, "/cpu", format!("at least {MIN_CPU}"));
    rules.require(resources.memory >= MIN_MEMORY, "/memory", format!("at least {MIN_MEMORY}"));
    resources
}

fn ports(rules: &mut Rules, asked: &[PortRef]) -> BTreeSet<u16> {
    let ports: BTreeSet<u16> = asked.iter().map(|port| port.number()).collect();
    rules.require(!ports.contains(&0), "/ports", "a port is a number from 1 to 65535");
    rules.require(ports.len() <= spec::PORTS_MAX, "/ports", format!("at most {} ports", spec::PORTS_MAX));
    ports
}

fn constraints(rules: &mut Rules, texts: &[String]) -> Vec<Constraint> {
    let most = spec::CONSTRAINTS_MAX;
    rules.require(texts.len() <= most, "/constraints", format!("at most {most}"));
    let parse = |(index, text): (usize, &String)| rules.take(format!("/constraints/{index}"), text.parse());
    texts.iter().enumerate().filter_map(parse).collect()
}

/// `type base64 [comment]` on one line.
fn is_public_key(text: &str) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    const TYPES: [&str; 6] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
    ];
    let mut words = text.split_whitespace();
    let kind = words.next().is_some_and(|kind| TYPES.contains(&kind));
    let key = words.next().is_some_and(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() > 32));
    kind && key && text.len() <= 4096 && !text.trim().contains(['\n', '\r', '\0'])
}

/// The hash of the canonical request: fields in the order of the type, maps sorted, absent ones left out. Tenant and key go
/// in as salt, because what is hashed may hold secrets and the hash is replicated.
fn idempotency(tenant: &TenantId, key: Box<str>, request: &CreateSandbox) -> Idempotency {
    let mut hash = Sha256::new();
    for part in [tenant.as_str().as_bytes(), key.as_bytes(), &serde_json::to_vec(request).unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Idempotency { key, request_hash: hash.finalize().into() }
}
