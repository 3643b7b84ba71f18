//! `plimsoll top`: hosts as load lines, sandboxes by phase, the queue and the leader; live where there is a terminal.
//!
//! It only reads. Whatever ends it, the terminal is as it was.

use super::{args::Output, hosts, parse, print};
use anyhow::{Context as _, Result};
use clap::Args;
use plimsoll_client::{
    Client,
    wire::{ClusterStatus, Host, Time},
};
use plimsoll_types::Health;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::Instant,
};

/// Looking more often would measure the looking: hosts are polled every two seconds.
const SHORTEST: Duration = Duration::from_millis(200);
/// A node that has not answered by then will not; the screen says so and asks again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Cells of a bar.
const WIDTH: u64 = 12;
/// Keys that wait to be looked at.
const KEYS: usize = 16;

/// `plimsoll top`
#[derive(Debug, Args)]
#[command(after_help = "\
Each bar is what may be reserved on the host: █ reserved and in use, ▒ reserved, ░ in use beyond what is reserved, · free.
The numbers after it are the reserved and the used part, in percent of the load line. q or Ctrl-C ends it.")]
pub struct TopArgs {
    /// Print one picture and end, as it also does where the output is no terminal.
    #[arg(long)]
    pub once: bool,
    /// Time between two looks, such as 2s.
    #[arg(long, short, default_value = "2s", value_name = "TIME")]
    pub interval: String,
}

/// One look at the cluster.
#[derive(Serialize)]
struct Picture {
    cluster: ClusterStatus,
    hosts: Vec<Host>,
}

/// `plimsoll top`
pub async fn run(client: &Client, output: Output, args: &TopArgs) -> Result<()> {
    let interval = parse::duration(&args.interval).context("--interval")?.max(SHORTEST);
    let first = look(client).await?;
    if args.once || output == Output::Json || !std::io::stdout().is_terminal() {
        return print::result(output, &first, |picture| drawn(picture).join("\n"));
    }
    let screen = Screen::enter()?;
    let ended = live(client, first, interval).await;
    drop(screen);
    ended
}

async fn look(client: &Client) -> Result<Picture> {
    let both = async { tokio::try_join!(client.cluster(), client.hosts()) };
    let (cluster, hosts) =
        tokio::time::timeout(PATIENCE, both).await.with_context(|| format!("no answer within {PATIENCE:?}"))??;
    Ok(Picture { cluster, hosts })
}

/// Looks and draws until somebody ends it.
async fn live(client: &Client, first: Picture, interval: Duration) -> Result<()> {
    let mut resized = signal(SignalKind::window_change()).context("cannot watch the terminal's size")?;
    let (mut interrupt, mut terminate) = (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?);
    let mut hangup = watch(SignalKind::hangup())?;
    let (sender, mut keys) = mpsc::channel(KEYS);
    // Reading a terminal cannot be cancelled: it ends with the process.
    tokio::spawn(read_keys(sender));
    let (mut picture, mut trouble, mut due) = (first, None, Instant::now() + interval);
    loop {
        draw(&picture, trouble.as_deref())?;
        let next = async {
            tokio::time::sleep_until(due).await;
            look(client).await
        };
        tokio::select! {
            seen = next => {
                due = Instant::now() + interval;
                match seen {
                    Ok(seen) => (picture, trouble) = (seen, None),
                    Err(error) => trouble = Some(format!("{error:#}")),
                }
            }
            _ = resized.recv() => {}
            () = quit(&mut keys) => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

fn watch(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot watch for signals")
}

async fn read_keys(sender: mpsc::Sender<u8>) {
    let mut stdin = tokio::io::stdin();
    while let Ok(key) = stdin.read_u8().await {
        if sender.send(key).await.is_err() {
            return;
        }
    }
}

/// Comes back once a key says so: q, or the end of input typed as Ctrl-D. Without a keyboard it never does.
async fn quit(keys: &mut mpsc::Receiver<u8>) {
    const END_OF_INPUT: u8 = 4;
    while let Some(key) = keys.recv().await {
        if matches!(key, b'q' | b'Q' | END_OF_INPUT) {
            return;
        }
    }
    std::future::pending().await
}

/// Puts a picture on the screen, cut to its size.
fn draw(picture: &Picture, trouble: Option<&str>) -> Result<()> {
    let (columns, rows) = match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        Ok(_) | Err(_) => (80, 24),
    };
    let mut lines = drawn(picture);
    if let Some(trouble) = trouble {
        lines.insert(0, format!("! what follows is old: {trouble}"));
    }
    let text = cut(&lines, columns, rows).join("\x1b[K\n");
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "\x1b[H{text}\x1b[K\x1b[J").and_then(|()| stdout.flush()).context("cannot draw")
}

/// The lines as far as they fit; the last one says how many do not.
fn cut(lines: &[String], columns: usize, rows: usize) -> Vec<String> {
    let shown = if lines.len() > rows { rows.saturating_sub(1) } else { lines.len() };
    let mut text: Vec<String> = lines.iter().take(shown).map(|line| line.chars().take(columns).collect()).collect();
    if shown < lines.len() {
        text.push(format!("… {} more lines", lines.len() - shown).chars().take(columns).collect());
    }
    text
}

fn drawn(picture: &Picture) -> Vec<String> {
    let Picture { cluster, hosts } = picture;
    let waiting = cluster.sandboxes.get("pending").copied().unwrap_or_default();
    let leader = cluster.leader.map_or_else(
        || "no leader known: no quorum?".to_owned(),
        |node| format!("node {node} leads, term {}", cluster.term),
    );
    let mut lines = vec![
        format!("nodes: {}, {leader}; asked node {}", cluster.nodes.len(), cluster.node),
        format!("hosts: {}", counted(&cluster.hosts)),
        format!("sandboxes: {}; {waiting} wait for room", counted(&cluster.sandboxes)),
        String::new(),
    ];
    let none = BTreeMap::new();
    let rows = hosts.iter().map(|host| row(host, cluster.sandboxes_by_host.get(&host.id).unwrap_or(&none)));
    let header = ["HOST", "CPU", "MEMORY", "DISK", "SANDBOXES", "STATE"];
    lines.extend(print::table(&header, rows).lines().map(str::to_owned));
    lines
}

fn counted(counts: &BTreeMap<String, u64>) -> String {
    let shown: Vec<String> = counts
        .iter()
        .filter(|(name, _)| *name != "terminated")
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

fn row(host: &Host, phases: &BTreeMap<String, u64>) -> Vec<String> {
    let (line, reserved) = (&host.line, &host.reserved);
    // What an unreachable host used last says nothing about now.
    let load = host.load.as_ref().filter(|_| host.health == Health::Ready);
    let mut state = hosts::state(host);
    if host.health != Health::Ready {
        state.push_str(&format!(", since {}", since(host.health_since)));
    }
    vec![
        host.name.to_string(),
        bar(line.cpu.0.0, reserved.cpu.0.0, load.map(|load| load.cpu.0.0)),
        bar(line.memory.0.0, reserved.memory.0.0, load.map(|load| load.memory.0.0)),
        bar(line.disk.0.0, reserved.disk.0.0, load.map(|load| load.disk.0.0)),
        counted(phases),
        state,
    ]
}

fn since(then: Time) -> String {
    super::sandboxes::ago(then, super::sandboxes::now())
}

/// A load line: `██▒▒▒░·······  41%  12%`.
fn bar(line: u64, reserved: u64, used: Option<u64>) -> String {
    let part = |amount: u64, whole: u64| {
        // A load line of nothing is full.
        let part = u128::from(amount) * u128::from(whole) / u128::from(line.max(1));
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    let percent = |amount: u64| if line == 0 { "-".to_owned() } else { format!("{}%", part(amount, 100)) };
    // Whatever is there shows at least one cell.
    let cells = |amount: u64| if amount == 0 { 0 } else { part(amount, WIDTH).clamp(1, WIDTH) };
    let (held, busy) = (cells(reserved), cells(used.unwrap_or(0)));
    let cell = |at: u64| match (at < held, at < busy) {
        (true, true) => '█',
        (true, false) => '▒',
        (false, true) => '░',
        (false, false) => '·',
    };
    let bar: String = (0..WIDTH).map(cell).collect();
    format!("{bar} {:>4} {:>4}", percent(reserved), used.map_or_else(|| "-".to_owned(), percent))
}

/// The terminal's other screen, without cursor, echo and line editing; put back as it was when dropped.
struct Screen(Option<Termios>);

impl Screen {
    fn enter() -> Result<Self> {
        let keyboard = std::io::stdin().is_terminal();
        let before =
            keyboard.then(|| tcgetattr(std::io::stdin())).transpose().context("cannot read the terminal's mode")?;
        let screen = Self(before);
        if let Some(before) = &screen.0 {
            let mut keys = before.clone();
            // Ctrl-C stays a signal.
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(std::io::stdin(), OptionalActions::Now, &keys).context("cannot set the terminal's mode")?;
        }
        let mut stdout = std::io::stdout();
        write!(stdout, "\x1b[?1049h\x1b[?25l\x1b[2J").and_then(|()| stdout.flush()).context("cannot draw")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = std::io::stdout();
        let _ = write!(stdout, "\x1b[?25h\x1b[?1049l").and_then(|()| stdout.flush());
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_is_reserved_and_what_is_used_of_the_line() {
        for (line, reserved, used, shown) in [
            (1200, 600, Some(300), "███▒▒▒······  50%  25%"),
            (1200, 300, Some(600), "███░░░······  25%  50%"),
            (1200, 1, None, "▒···········   0%    -"),
            (1200, 1200, Some(2400), "████████████ 100% 200%"),
            (0, 0, Some(5), "░░░░░░░░░░░░    -    -"),
            (u64::MAX, u64::MAX, Some(0), "▒▒▒▒▒▒▒▒▒▒▒▒ 100%   0%"),
        ] {
            assert_eq!(bar(line, reserved, used), shown, "{line} {reserved} {used:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        let lines: Vec<String> = (0..5).map(|number| format!("line {number}")).collect();
        assert_eq!(cut(&lines, 4, 3), ["line", "line", "… 3 "]);
        assert_eq!(cut(&lines, 80, 5), lines);
        assert_eq!(cut(&lines, 80, 1), ["… 5 more lines"]);
    }
}
