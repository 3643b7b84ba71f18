//! What a sandbox may ask for: every limit in one place, each error saying where it was broken and what to do.

use crate::{Error, policy, request::NewSandbox};
use plimsoll_types::{
    Bytes, Code, Label, MilliCpu, Millis, Resources, SandboxSpec,
    names::{check_env_name, check_path},
};
use std::collections::BTreeMap;

/// Least of each resource: below this Docker or the init process refuses to start.
pub const LEAST: Resources = Resources { cpu: MilliCpu(10), memory: Bytes::mib(16), disk: Bytes::ZERO };
/// Most of each resource: beyond any host that can be rented, so that sums cannot overflow.
pub const MOST: Resources =
    Resources { cpu: MilliCpu(1_024_000), memory: Bytes::gib(24 * 1024), disk: Bytes::gib(1024 * 1024) };
/// Fewest and most processes: an init with one child, and the kernel's own default of pid_max on large machines.
pub const PIDS: std::ops::RangeInclusive<u32> = 4..=4_194_304;
/// Most ports: each costs a proxy process on the host.
pub const PORTS_MAX: usize = 32;
/// Most bytes of names and values, plain and secret together: Linux allows 128 KiB for a single string, and each is replicated.
pub const ENV_BYTES_MAX: usize = 128 * 1024;
/// Most arguments and bytes of a command; it is replicated.
pub const COMMAND_MAX: (usize, usize) = (256, 64 * 1024);
/// Most SSH keys, and bytes in one: an RSA-16384 key has about 2,800.
pub const SSH_KEYS_MAX: (usize, usize) = (32, 8 * 1024);
/// Most constraints on host labels: each is checked against each host.
pub const CONSTRAINTS_MAX: usize = 16;
/// Longest lifetime and queue timeout that is not `None`: ten years; more is a mistaken unit.
pub const TIME_MAX: Millis = Millis::secs(10 * 366 * 24 * 3600);
/// Shortest time between two checkpoints: each holds the sandbox still and reads its whole writable layer.
pub const CHECKPOINT_LEAST: Millis = Millis::secs(60);
/// Shortest idle timeout: how exact it is.
pub const IDLE_LEAST: Millis = Millis::secs(1);
/// Longest `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Checks a request before anything else is done with it.
///
/// # Errors
/// `invalid_request`, with the field, the rule and what would be right.
pub fn check(request: &NewSandbox) -> Result<(), Error> {
    let spec = &request.spec;
    resources(spec)?;
    environment(&spec.env, &request.secret_env.0)?;
    command(spec)?;
    ports(spec)?;
    Label::check_all(&spec.labels).map_err(|error| invalid("labels", error))?;
    ssh_keys(&spec.ssh_keys)?;
    placement(spec)?;
    if spec.sealed_env.is_some() {
        return Err(invalid("sealed_env", "only the control plane fills it in; use secret_env"));
    }
    outliving(spec)?;
    for (field, time) in [("lifetime", request.lifetime), ("queue_timeout", request.queue_timeout)] {
        if time.is_some_and(|time| time == Millis::ZERO || time > TIME_MAX) {
            return Err(invalid(field, "use more than zero and at most ten years, or leave it out"));
        }
    }
    if let Some(idempotency) = &request.idempotency
        && (idempotency.key.is_empty() || idempotency.key.len() > IDEMPOTENCY_KEY_MAX)
    {
        return Err(invalid("Idempotency-Key", format_args!("use 1 to {IDEMPOTENCY_KEY_MAX} bytes")));
    }
    Ok(())
}

fn resources(spec: &SandboxSpec) -> Result<(), Error> {
    let asked = spec.resources;
    if asked.cpu < LEAST.cpu || asked.cpu > MOST.cpu {
        return Err(invalid(
            "resources.cpu",
            format_args!("{} is not between {} and {}", asked.cpu, LEAST.cpu, MOST.cpu),
        ));
    }
    if asked.memory < LEAST.memory || asked.memory > MOST.memory {
        let rule = format_args!("{} is not between {} and {}", asked.memory, LEAST.memory, MOST.memory);
        return Err(invalid("resources.memory", rule));
    }
    if asked.disk > MOST.disk {
        return Err(invalid("resources.disk", format_args!("{} is more than {}", asked.disk, MOST.disk)));
    }
    if !PIDS.contains(&spec.pids_limit) {
        return Err(invalid("pids_limit", format_args!("use {} to {}", PIDS.start(), PIDS.end())));
    }
    Ok(())
}

/// Values are never repeated in the error: they may be secrets.
fn environment(plain: &BTreeMap<String, String>, secret: &BTreeMap<String, String>) -> Result<(), Error> {
    let mut total = 0_usize;
    for (field, map) in [("env", plain), ("secret_env", secret)] {
        for (name, value) in map {
            check_env_name(name).map_err(|error| invalid(field, error))?;
            if value.contains('\0') {
                return Err(invalid(field, format_args!("the value of {name} has a NUL byte; remove it")));
            }
            total = total.saturating_add(name.len()).saturating_add(value.len()).saturating_add(2);
        }
    }
    if let Some(twice) = plain.keys().find(|name| secret.contains_key(*name)) {
        return Err(invalid("env", format_args!("{twice} is also in secret_env; keep one of the two")));
    }
    if total > ENV_BYTES_MAX {
        let rule = format_args!("names and values are {total} bytes together; use at most {ENV_BYTES_MAX}, or a file");
        return Err(invalid("env", rule));
    }
    Ok(())
}

fn command(spec: &SandboxSpec) -> Result<(), Error> {
    let Some(argv) = &spec.command else { return Ok(()) };
    if argv.first().is_none_or(String::is_empty) {
        return Err(invalid("command", "name a program, or leave the command out for an idle sandbox"));
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err(invalid("command", "an argument has a NUL byte; remove it"));
    }
    let (count, bytes) = COMMAND_MAX;
    if argv.len() > count || argv.iter().map(String::len).sum::<usize>() > bytes {
        return Err(invalid(
            "command",
            format_args!("use at most {count} arguments and {bytes} bytes, or a script in a file"),
        ));
    }
    Ok(())
}

fn ports(spec: &SandboxSpec) -> Result<(), Error> {
    if spec.ports.contains(&0) {
        return Err(invalid("ports", "0 is no port; use 1 to 65535"));
    }
    if spec.ports.len() > PORTS_MAX {
        return Err(invalid("ports", format_args!("{} are asked for; use at most {PORTS_MAX}", spec.ports.len())));
    }
    Ok(())
}

fn ssh_keys(keys: &[String]) -> Result<(), Error> {
    let (count, bytes) = SSH_KEYS_MAX;
    if keys.len() > count {
        return Err(invalid("ssh_keys", format_args!("{} are given; use at most {count}", keys.len())));
    }
    for (i, key) in keys.iter().enumerate() {
        if !looks_like_ssh_key(key) || key.len() > bytes {
            let rule = "use OpenSSH's one-line form, such as `ssh-ed25519 AAAA… name`, without options before it";
            return Err(invalid(&format!("ssh_keys[{i}]"), rule));
        }
    }
    Ok(())
}

fn looks_like_ssh_key(key: &str) -> bool {
    const KINDS: [&str; 7] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    let mut words = key.split_ascii_whitespace();
    let kind = words.next().is_some_and(|kind| KINDS.contains(&kind));
    let base64 = |c: u8| c.is_ascii_alphanumeric() || b"+/=".contains(&c);
    // Every blob begins with the length of its kind's name, which is less than 2^16: `AAAA`.
    let blob =
        words.next().is_some_and(|blob| blob.starts_with("AAAA") && blob.len() >= 32 && blob.bytes().all(base64));
    kind && blob && !key.chars().any(char::is_control)
}

fn placement(spec: &SandboxSpec) -> Result<(), Error> {
    if spec.constraints.len() > CONSTRAINTS_MAX {
        let rule = format_args!("{} are given; use at most {CONSTRAINTS_MAX}", spec.constraints.len());
        return Err(invalid("constraints", rule));
    }
    if let Some(group) = &spec.anti_affinity {
        Label::check("anti_affinity", group).map_err(|error| invalid("anti_affinity", error))?;
        if group.is_empty() {
            return Err(invalid("anti_affinity", "name a group, or leave it out"));
        }
    }
    Ok(())
}

/// What keeps a sandbox beyond its container. `restore` without checkpoints is fine: it restores from the newest snapshot there is,
/// and waits for its host where there is none.
fn outliving(spec: &SandboxSpec) -> Result<(), Error> {
    for (field, time, least) in
        [("checkpoint_every", spec.checkpoint_every, CHECKPOINT_LEAST), ("idle_timeout", spec.idle_timeout, IDLE_LEAST)]
    {
        if time.is_some_and(|time| time < least || time > TIME_MAX) {
            let rule = format_args!("use at least {} s and at most ten years, or leave it out", least.0 / 1000);
            return Err(invalid(field, rule));
        }
    }
    Ok(())
}

/// Checks how long a sandbox is to live from now on.
///
/// # Errors
/// `invalid_request` with the rule.
pub fn lifetime(lifetime: Option<Millis>) -> Result<(), Error> {
    if lifetime.is_some_and(|time| time == Millis::ZERO || time > TIME_MAX) {
        return Err(invalid("lifetime", "use more than zero and at most ten years, or leave it out"));
    }
    Ok(())
}

/// Checks a path that a caller names inside a sandbox.
///
/// # Errors
/// `invalid_request` with the rule.
pub fn path(path: &str) -> Result<(), Error> {
    check_path(path).map_err(|error| invalid("path", error))
}

/// Checks an environment that a caller adds to a process or writes for the platform.
///
/// # Errors
/// `invalid_request` with the variable and the rule.
pub fn process_env(env: &BTreeMap<String, String>) -> Result<(), Error> {
    environment(env, &BTreeMap::new())
}

/// A reason that an operator gives: one line, for tables.
pub(crate) fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.len() > policy::REASON_MAX || reason.chars().any(char::is_control) {
        let rule = format_args!("use at most {} bytes without control characters", policy::REASON_MAX);
        return Err(invalid("reason", rule));
    }
    Ok(())
}

/// An error about one field.
pub(crate) fn invalid(field: &str, rule: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidRequest, format!("{field}: {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Secrets;
    use plimsoll_state::command::Idempotency;
    use plimsoll_types::{ImageRef, TenantId};

    fn request() -> NewSandbox {
        NewSandbox {
            tenant: TenantId::default_tenant(),
            session: None,
            spec: SandboxSpec::new(ImageRef::new("base:1").expect("an image")),
            secret_env: Secrets::default(),
            lifetime: None,
            queue_timeout: None,
            idempotency: None,
        }
    }

    /// What is said of a request after this change; nothing if it is fine.
    fn said(change: impl FnOnce(&mut NewSandbox)) -> String {
        let mut request = request();
        change(&mut request);
        check(&request).map_or_else(
            |error| {
                assert_eq!(error.code, Code::InvalidRequest);
                error.message
            },
            |()| String::new(),
        )
    }

    fn map(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn key(kind: &str, blob: &str) -> String {
        format!("{kind} AAAA{blob} me@home")
    }

    type Change = fn(&mut NewSandbox);

    #[test]
    fn what_is_at_its_limit_is_fine() {
        let fine: [Change; 15] = [
            |_| {},
            |it| it.spec.resources = LEAST,
            |it| it.spec.resources = MOST,
            |it| it.spec.pids_limit = *PIDS.start(),
            |it| it.spec.pids_limit = *PIDS.end(),
            |it| it.spec.ports = (1..=32).collect(),
            |it| it.spec.command = Some(vec!["a".repeat(COMMAND_MAX.1)]),
            |it| it.spec.command = Some(vec!["a".to_owned(); COMMAND_MAX.0]),
            |it| it.spec.env = map("A", &"x".repeat(ENV_BYTES_MAX - 3)),
            |it| it.secret_env = Secrets(map("A", "")),
            |it| it.spec.ssh_keys = vec![key("ssh-ed25519", &"b".repeat(40)); SSH_KEYS_MAX.0],
            |it| it.spec.anti_affinity = Some("web".into()),
            |it| (it.spec.checkpoint_every, it.spec.idle_timeout) = (Some(CHECKPOINT_LEAST), Some(IDLE_LEAST)),
            |it| (it.lifetime, it.queue_timeout) = (Some(TIME_MAX), Some(Millis(1))),
            |it| it.idempotency = Some(Idempotency { key: "k".repeat(255).into(), request_hash: [0; 32] }),
        ];
        for (nth, change) in fine.into_iter().enumerate() {
            assert_eq!(said(change), "", "case {nth}");
        }
    }

    #[test]
    fn what_is_beyond_its_limit_is_refused_with_field_and_rule() {
        let refused: [(Change, &str); 25] = [
            (
                |it| it.spec.resources.cpu = MilliCpu(9),
                "resources.cpu: 0.009 vCPU is not between 0.01 vCPU and 1024 vCPU",
            ),
            (|it| it.spec.resources.cpu = MilliCpu(u64::MAX), "resources.cpu: "),
            (|it| it.spec.resources.memory = Bytes(0), "resources.memory: 0 B is not between 16 MiB and 24 TiB"),
            (|it| it.spec.resources.memory = Bytes(u64::MAX), "resources.memory: "),
            (|it| it.spec.resources.disk = Bytes(u64::MAX), "resources.disk: "),
            (|it| it.spec.pids_limit = 3, "pids_limit: use 4 to 4194304"),
            (|it| it.spec.pids_limit = u32::MAX, "pids_limit: use 4 to 4194304"),
            (|it| it.spec.ports = [0].into(), "ports: 0 is no port; use 1 to 65535"),
            (|it| it.spec.ports = (1..=33).collect(), "ports: 33 are asked for; use at most 32"),
            (|it| it.spec.command = Some(vec![]), "command: name a program, or leave the command out"),
            (|it| it.spec.command = Some(vec![String::new(), "x".into()]), "command: name a program"),
            (|it| it.spec.command = Some(vec!["a\0b".into()]), "command: an argument has a NUL byte; remove it"),
            (|it| it.spec.command = Some(vec!["a".into(); 257]), "command: use at most 256 arguments and 65536 bytes"),
            (
                |it| it.spec.command = Some(vec!["a".repeat(65_537)]),
                "command: use at most 256 arguments and 65536 bytes",
            ),
            (|it| it.spec.env = map("A=B", "x"), "env: "),
            (
                |it| it.spec.env = map("A", &"x".repeat(ENV_BYTES_MAX)),
                "env: names and values are 131075 bytes together",
            ),
            (|it| it.spec.ssh_keys = vec![key("ssh-ed25519", &"b".repeat(40)); 33], "ssh_keys: 33 are given"),
            (|it| it.spec.ssh_keys = vec![key("ssh-dss", &"b".repeat(40))], "ssh_keys[0]: use OpenSSH's one-line form"),
            (
                |it| it.spec.ssh_keys = vec![key("ssh-rsa", &"b".repeat(9000))],
                "ssh_keys[0]: use OpenSSH's one-line form",
            ),
            (|it| it.spec.anti_affinity = Some("".into()), "anti_affinity: name a group, or leave it out"),
            (|it| it.spec.sealed_env = Some(vec![1]), "sealed_env: only the control plane fills it in; use secret_env"),
            (|it| it.spec.checkpoint_every = Some(Millis(59_999)), "checkpoint_every: use at least 60 s"),
            (|it| it.spec.idle_timeout = Some(Millis(999)), "idle_timeout: use at least 1 s"),
            (|it| it.lifetime = Some(Millis::ZERO), "lifetime: use more than zero and at most ten years"),
            (|it| it.queue_timeout = Some(Millis(TIME_MAX.0 + 1)), "queue_timeout: use more than zero"),
        ];
        for (nth, (change, expected)) in refused.into_iter().enumerate() {
            let said = said(change);
            assert!(said.starts_with(expected), "case {nth}: {said:?} does not begin with {expected:?}");
        }
        for bad in ["", &"k".repeat(256)] {
            let idempotency = Idempotency { key: bad.into(), request_hash: [0; 32] };
            assert_eq!(said(|it| it.idempotency = Some(idempotency)), "Idempotency-Key: use 1 to 255 bytes");
        }
    }

    #[test]
    fn values_are_never_repeated() {
        let secret = |it: &mut NewSandbox| it.secret_env = Secrets(map("TOKEN", "hunter2\0"));
        assert_eq!(said(secret), "secret_env: the value of TOKEN has a NUL byte; remove it");
        let twice = |it: &mut NewSandbox| {
            it.spec.env = map("TOKEN", "a");
            it.secret_env = Secrets(map("TOKEN", "hunter2"));
        };
        assert_eq!(said(twice), "env: TOKEN is also in secret_env; keep one of the two");
        let long = |it: &mut NewSandbox| it.secret_env = Secrets(map("TOKEN", &"hunter2".repeat(20_000)));
        assert!(!said(long).contains("hunter2"));
    }

    #[test]
    fn keys_and_paths_are_looked_at_before_they_are_used() {
        let blob = "b".repeat(40);
        assert!(looks_like_ssh_key(&key("sk-ssh-ed25519@openssh.com", &blob)));
        let bad = [
            String::new(),
            "ssh-ed25519".to_owned(),
            key("ssh-ed25519", "short"),
            format!("command=\"x\" {}", key("ssh-ed25519", &blob)),
            format!("{}\nssh-rsa AAAA", key("ssh-ed25519", &blob)),
            key("ssh-ed25519", &format!("{blob}$(id)")),
        ];
        for key in bad {
            assert!(!looks_like_ssh_key(&key), "{key:?}");
        }
        assert!(path("/workspace/a b").is_ok());
        for bad in ["", "relative", "/a\0b"] {
            let error = path(bad).expect_err(bad);
            assert!(error.code == Code::InvalidRequest && error.message.starts_with("path: "), "{error}");
        }
        assert!(process_env(&map("A_1", "x")).is_ok() && process_env(&map("1A B", "x")).is_err());
    }
}
