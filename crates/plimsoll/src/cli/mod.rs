//! The command line: from arguments to calls on the API, and from their answers to what a person or a program reads.

pub mod args;
pub mod backup;
mod cluster;
pub mod context;
mod copy;
pub mod cost;
pub mod drain;
pub mod drift;
pub mod events;
mod exec;
mod files;
mod hosts;
pub mod lasting;
pub mod moving;
mod parse;
mod policy;
pub mod print;
mod sandboxes;
pub mod snapshots;
mod spec;
pub mod top;

use anyhow::Result;
use args::{Cli, Command};
use clap::CommandFactory as _;
use plimsoll_client::Client;
use plimsoll_types::{Code, InvalidName, code::Exit};
use std::process::ExitCode;

/// Runs a command that talks to the API; node commands are the daemon's.
pub async fn run(cli: &Cli) -> Result<u8> {
    if let Command::Completions { shell } = cli.command {
        // Through memory: the generator panics where a reader such as `head` closes the pipe.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "plimsoll", &mut script);
        print::line(&String::from_utf8_lossy(&script))?;
        return Ok(0);
    }
    if let Command::Cluster(args::ClusterCommand::Backup(args)) = &cli.command
        && args.check
    {
        backup::check(cli.output, &args.file)?;
        return Ok(0);
    }
    let access = context::find(cli)?;
    let client = Client::new(access.url.split(',').map(str::trim).filter(|url| !url.is_empty()), Some(&access.key))?;
    let output = cli.output;
    match &cli.command {
        Command::Host(command) => hosts::run(&client, output, command).await?,
        Command::Create(args) => sandboxes::create(&client, output, args).await?,
        Command::Ensure(args) => sandboxes::ensure(&client, output, args).await?,
        Command::Ls(args) => sandboxes::list(&client, output, args).await?,
        Command::Inspect { sandbox } => sandboxes::inspect(&client, output, *sandbox).await?,
        Command::Exec(args) => return exec::run(&client, args).await,
        Command::Cp { from, to } => copy::run(&client, from, to).await?,
        Command::Files(command) => files::run(&client, output, command).await?,
        Command::Logs { sandbox, follow, tail } => sandboxes::logs(&client, *sandbox, *follow, *tail).await?,
        Command::Stats { sandbox } => sandboxes::stats(&client, output, *sandbox).await?,
        Command::Extend { sandbox, lifetime } => sandboxes::extend(&client, output, *sandbox, lifetime).await?,
        Command::Rm { sandboxes, no_wait } => sandboxes::remove(&client, output, sandboxes, *no_wait).await?,
        Command::Moving(command) => moving::run(&client, output, command).await?,
        Command::Place(args) => sandboxes::place(&client, output, args).await?,
        Command::Cluster(command) => cluster::run(&client, output, command).await?,
        Command::Key(command) => cluster::keys(&client, output, command).await?,
        Command::LogsLevel { filter } => cluster::log_level(&client, output, filter.as_deref()).await?,
        Command::Top(args) => top::run(&client, output, args).await?,
        Command::Cost(args) => cost::run(&client, output, args).await?,
        Command::Events(args) => events::run(&client, output, args).await?,
        Command::Dev(_) | Command::Init(_) | Command::Join(_) | Command::Server(_) | Command::Completions { .. } => {}
    }
    Ok(0)
}

/// Says what went wrong, and how to exit: the code of the problem if the API told one.
#[must_use]
pub fn failure(error: &anyhow::Error) -> ExitCode {
    let known = error.chain().find_map(|cause| {
        let client = cause.downcast_ref::<plimsoll_client::Error>().map(plimsoll_client::Error::code);
        client.or_else(|| cause.downcast_ref::<plimsoll_raft::Error>().map(plimsoll_raft::Error::code))
    });
    let unread = error.chain().any(|cause| cause.is::<plimsoll_state::backup::BackupError>());
    let usage = error.chain().any(|cause| cause.is::<parse::Usage>() || cause.is::<InvalidName>());
    let damaged = unread.then_some(Code::StorageCorrupt);
    let code: Option<Code> = known.or(usage.then_some(Code::InvalidRequest)).or(damaged);
    let label = code.map(|code| format!(" [{code}]")).unwrap_or_default();
    print::note(&format!("plimsoll: {error:#}{label}"));
    ExitCode::from(code.map_or(Exit::Failed, Code::exit) as u8)
}

#[cfg(test)]
mod tests {
    use plimsoll_types::Code;

    #[test]
    fn every_code_is_documented_with_its_status_and_exit_code() {
        let documented = include_str!("../../../../docs/errors.md");
        for code in Code::ALL {
            let row = format!("| `{code}` | {} | {} | {} |", code.http_status(), code.exit() as u8, code.meaning());
            assert!(documented.contains(&row), "docs/errors.md lacks: {row}");
        }
        let rows = documented.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, Code::ALL.len(), "docs/errors.md has rows for codes that do not exist");
    }
}
