//! From flags to the request that the API takes.

use super::{
    args::{SandboxArgs, SpecArgs},
    lasting, parse,
};
use anyhow::{Context as _, Result};
use plimsoll_client::wire::{Cpu, CreateSandbox, PortRef, SecretMap, Size};
use plimsoll_types::{ImageRef, Labels, Runtime};

/// What decides where a sandbox goes.
///
/// # Errors
/// When the image's name is invalid.
pub fn spec(args: &SpecArgs) -> Result<CreateSandbox> {
    let image = args.image.as_deref().map(ImageRef::new).transpose().context("--image")?;
    let runtime = args.runtime.as_deref().map(|name| if name == "runsc" { Runtime::Runsc } else { Runtime::Runc });
    Ok(CreateSandbox {
        image,
        cpu: args.cpu.map(Cpu),
        memory: args.memory.map(Size),
        disk: args.disk.map(Size),
        constraints: args.constraints.iter().map(ToString::to_string).collect(),
        anti_affinity: args.anti_affinity.clone(),
        runtime,
        ..CreateSandbox::default()
    })
}

/// A whole sandbox.
///
/// # Errors
/// When a variable, a time, a port or a key file is wrong.
pub fn sandbox(args: &SandboxArgs) -> Result<CreateSandbox> {
    let secret_env = args.secret_env_file.as_deref().map(parse::variables_file).transpose()?.unwrap_or_default();
    let lifetime = args.lifetime.as_deref().map(parse::lifetime).transpose().context("--lifetime")?;
    let queue = args.queue_timeout.as_deref().map(parse::duration).transpose().context("--queue-timeout")?;
    let mut ssh_keys = Vec::new();
    for path in &args.ssh_keys {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))?;
        ssh_keys.extend(
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
        );
    }
    Ok(CreateSandbox {
        env: parse::variables(args.env.iter().map(String::as_str)).context("--env")?,
        secret_env: SecretMap(secret_env),
        ports: args.ports.iter().map(|port| PortRef::Number(*port)).collect(),
        labels: args.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect::<Labels>(),
        lifetime_s: lifetime.map(|lifetime| lifetime.map_or(0, |lifetime| (lifetime.0 / 1000).max(1))),
        queue_timeout_s: queue.map(|time| time.as_secs().max(1)),
        ssh_keys,
        command: (!args.argv.is_empty()).then(|| args.argv.clone()),
        ..lasting::wanted(&args.lasting, spec(&args.spec)?)?
    })
}
