//! `plimsoll cost`: what hosts, sandboxes and tenants cost per hour, what is idle, and what is left at a selling price.
//!
//! Integers only. Prices are thousandths of a currency unit; a share of one is often less, so shares are counted in
//! thousandths of that (`…_micro_per_hour`) and no division leaves anything out: a host's parts sum up to its price.

use super::{args::Output, parse, print, sandboxes};
use anyhow::Result;
use clap::Args;
use plimsoll_client::{
    Client, SandboxFilter,
    wire::{Host, Resources, Sandbox},
};
use plimsoll_types::{SandboxId, SessionId, TenantId};
use serde::Serialize;
use std::collections::BTreeMap;

/// Millionths of a currency unit in a thousandth of one.
const MICRO: u64 = 1000;

/// `plimsoll cost`
#[derive(Debug, Args)]
#[command(after_help = "\
A sandbox costs its part of its host's price: the largest of its parts of the CPU, memory and disk that may be reserved there. What
nobody has reserved is idle. Prices are those that hosts were added with (`plimsoll host add --price`), in whatever currency that was.")]
pub struct CostArgs {
    /// What a sandbox is sold for per hour, such as 0.60: shows what is left of it.
    #[arg(long, value_name = "PRICE", value_parser = milli)]
    pub price_per_sandbox_hour: Option<u64>,
}

/// `plimsoll cost`
pub async fn run(client: &Client, output: Output, args: &CostArgs) -> Result<()> {
    let hosts = client.hosts().await?;
    let sandboxes = sandboxes::every(client, SandboxFilter::default()).await?;
    print::result(output, &report(&hosts, &sandboxes, args.price_per_sandbox_hour), shown)
}

/// A price in thousandths, from text such as `0.60`.
fn milli(text: &str) -> Result<u64, parse::Usage> {
    let wrong = || parse::Usage(format!("{text:?} is no price such as 0.60, with at most three decimals"));
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return Err(wrong());
    }
    let (whole, part): (u64, u64) =
        (whole.parse().map_err(|_| wrong())?, format!("{part:0<3}").parse().map_err(|_| wrong())?);
    // A million an hour is no price of a sandbox, and keeps every sum far from the end of 64 bits.
    let price = whole.checked_mul(1000).and_then(|whole| whole.checked_add(part));
    price.filter(|price| *price <= 1_000_000_000).ok_or_else(wrong)
}

/// What everything costs per hour.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    price_milli_per_sandbox_hour: Option<u64>,
    total: HostCost,
    hosts: Vec<HostCost>,
    tenants: Vec<TenantCost>,
    sandboxes: Vec<SandboxCost>,
}

/// One host, or all of them.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct HostCost {
    host: String,
    price_milli_per_hour: u64,
    /// How many sandboxes have room reserved there.
    sandboxes: u64,
    /// The price, shared by these.
    per_sandbox_micro_per_hour: Option<u64>,
    /// What their reservations cost.
    reserved_micro_per_hour: u64,
    /// What nobody has reserved.
    idle_micro_per_hour: u64,
    margin: Option<Margin>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct TenantCost {
    tenant: TenantId,
    sandboxes: u64,
    cost_micro_per_hour: u64,
    margin: Option<Margin>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct SandboxCost {
    sandbox: SandboxId,
    session: SessionId,
    tenant: TenantId,
    /// Where it has room reserved; two while it moves.
    hosts: Vec<String>,
    cost_micro_per_hour: u64,
    margin: Option<Margin>,
}

/// What is left of what is earned.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Margin {
    earned_micro_per_hour: u64,
    left_micro_per_hour: i64,
    /// Of what is earned; absent where nothing is.
    left_permille: Option<i64>,
}

fn margin(price_milli: Option<u64>, sold: u64, cost_micro: u64) -> Option<Margin> {
    let earned = price_milli?.saturating_mul(MICRO).saturating_mul(sold);
    let left = i128::from(earned) - i128::from(cost_micro);
    let permille = (earned > 0).then(|| narrowed(left * 1000 / i128::from(earned.max(1))));
    Some(Margin { earned_micro_per_hour: earned, left_micro_per_hour: narrowed(left), left_permille: permille })
}

fn narrowed(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn report(hosts: &[Host], sandboxes: &[Sandbox], price: Option<u64>) -> Report {
    let mut costs: Vec<SandboxCost> = sandboxes.iter().filter_map(held).collect();
    let resources: BTreeMap<SandboxId, Resources> =
        sandboxes.iter().map(|sandbox| (sandbox.id, sandbox.resources)).collect();
    let mut rows = Vec::new();
    for host in hosts {
        let price_micro = host.price_milli_per_hour.saturating_mul(MICRO);
        let mut here: Vec<&mut SandboxCost> =
            costs.iter_mut().filter(|cost| cost.hosts.iter().any(|name| *name == host.name.as_str())).collect();
        let wanted = here
            .iter()
            .map(|cost| resources.get(&cost.sandbox).map_or(0, |part| dominant(price_micro, part, &host.line)));
        let parts = shares(price_micro, wanted.collect());
        for (cost, part) in here.iter_mut().zip(&parts) {
            cost.cost_micro_per_hour = cost.cost_micro_per_hour.saturating_add(*part);
        }
        let reserved = parts.iter().sum();
        rows.push(host_cost(host.name.to_string(), host.price_milli_per_hour, here.len() as u64, reserved, price));
    }
    for cost in &mut costs {
        cost.margin = margin(price, 1, cost.cost_micro_per_hour);
    }
    costs.sort_by_key(|cost| (std::cmp::Reverse(cost.cost_micro_per_hour), cost.sandbox));
    let (whole, reserved) = rows.iter().fold((0_u64, 0_u64), |(whole, reserved), row| {
        (whole.saturating_add(row.price_milli_per_hour), reserved.saturating_add(row.reserved_micro_per_hour))
    });
    // One that moves has room on two hosts, and is sold once.
    let total = host_cost("total".into(), whole, costs.len() as u64, reserved, price);
    let tenants = by_tenant(&costs, price);
    Report { price_milli_per_sandbox_hour: price, total, hosts: rows, tenants, sandboxes: costs }
}

/// A sandbox that has room reserved somewhere, at no cost yet.
fn held(sandbox: &Sandbox) -> Option<SandboxCost> {
    let mut hosts: Vec<String> = sandbox.host.iter().map(ToString::to_string).collect();
    hosts.extend(sandbox.work.as_ref().and_then(|work| work.to.clone()).filter(|to| !hosts.contains(to)));
    (!hosts.is_empty()).then(|| SandboxCost {
        sandbox: sandbox.id,
        session: sandbox.session.clone(),
        tenant: sandbox.tenant.clone(),
        hosts,
        cost_micro_per_hour: 0,
        margin: None,
    })
}

fn host_cost(host: String, price_milli: u64, sandboxes: u64, reserved: u64, price: Option<u64>) -> HostCost {
    let whole = price_milli.saturating_mul(MICRO);
    HostCost {
        host,
        price_milli_per_hour: price_milli,
        sandboxes,
        per_sandbox_micro_per_hour: whole.checked_div(sandboxes),
        reserved_micro_per_hour: reserved,
        idle_micro_per_hour: whole.saturating_sub(reserved),
        margin: margin(price, sandboxes, whole),
    }
}

fn by_tenant(costs: &[SandboxCost], price: Option<u64>) -> Vec<TenantCost> {
    let mut tenants: BTreeMap<&TenantId, (u64, u64)> = BTreeMap::new();
    for cost in costs {
        let (count, sum) = tenants.entry(&cost.tenant).or_default();
        (*count, *sum) = (*count + 1, sum.saturating_add(cost.cost_micro_per_hour));
    }
    let row = |(tenant, (sandboxes, cost)): (&TenantId, (u64, u64))| TenantCost {
        tenant: tenant.clone(),
        sandboxes,
        cost_micro_per_hour: cost,
        margin: margin(price, sandboxes, cost),
    };
    tenants.into_iter().map(row).collect()
}

/// The part of a price that the largest part of what may be reserved makes, rounded down.
fn dominant(price: u64, part: &Resources, line: &Resources) -> u64 {
    let of = |amount: u64, whole: u64| match (amount, whole) {
        (0, _) => 0,
        (_, 0) => price,
        (amount, whole) => {
            let share = u128::from(price) * u128::from(amount) / u128::from(whole);
            u64::try_from(share).unwrap_or(price).min(price)
        }
    };
    of(part.cpu.0.0, line.cpu.0.0).max(of(part.memory.0.0, line.memory.0.0)).max(of(part.disk.0.0, line.disk.0.0))
}

/// What each pays. Where sandboxes are full in different ways their wishes exceed the price: then they share it in proportion.
fn shares(price: u64, wanted: Vec<u64>) -> Vec<u64> {
    let sum: u128 = wanted.iter().copied().map(u128::from).sum();
    if sum <= u128::from(price) {
        return wanted;
    }
    let scaled = |wish: u64| u64::try_from(u128::from(wish) * u128::from(price) / sum).unwrap_or(price);
    let mut paid: Vec<u64> = wanted.into_iter().map(scaled).collect();
    // Rounding down leaves less than one millionth a sandbox: the first ones pay it, so that the parts are the whole.
    let left = price.saturating_sub(paid.iter().sum());
    for part in paid.iter_mut().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        *part += 1;
    }
    paid
}

fn shown(report: &Report) -> String {
    let price = report.price_milli_per_sandbox_hour;
    let header = |columns: &[&'static str]| -> Vec<String> {
        let margin = price.map(|price| format!("MARGIN AT {}", amount(price.saturating_mul(MICRO))));
        columns.iter().map(|column| (*column).to_owned()).chain(margin).collect()
    };
    let hosts = report.hosts.iter().chain([&report.total]).map(|row| {
        let each = row.per_sandbox_micro_per_hour.map_or_else(|| "-".to_owned(), amount);
        let mut cells = vec![row.host.clone(), amount(row.price_milli_per_hour.saturating_mul(MICRO))];
        cells.extend([
            row.sandboxes.to_string(),
            each,
            amount(row.reserved_micro_per_hour),
            amount(row.idle_micro_per_hour),
        ]);
        cells.extend(row.margin.as_ref().map(left));
        cells
    });
    let tenants = report.tenants.iter().map(|row| {
        let mut cells = vec![row.tenant.to_string(), row.sandboxes.to_string(), amount(row.cost_micro_per_hour)];
        cells.extend(row.margin.as_ref().map(left));
        cells
    });
    let sandboxes = report.sandboxes.iter().map(|row| {
        let mut cells =
            vec![row.sandbox.to_string(), row.tenant.to_string(), row.hosts.join(" "), amount(row.cost_micro_per_hour)];
        cells.extend(row.margin.as_ref().map(left));
        cells
    });
    let table = |columns: &[&'static str], rows: Vec<Vec<String>>| {
        let header = header(columns);
        print::table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows)
    };
    let mut parts =
        vec![table(&["HOST", "COST/HOUR", "SANDBOXES", "PER SANDBOX", "RESERVED", "IDLE"], hosts.collect())];
    if !report.sandboxes.is_empty() {
        parts.push(table(&["TENANT", "SANDBOXES", "COST/HOUR"], tenants.collect()));
        parts.push(table(&["SANDBOX", "TENANT", "HOST", "COST/HOUR"], sandboxes.collect()));
    }
    let free: Vec<&str> =
        report.hosts.iter().filter(|row| row.price_milli_per_hour == 0).map(|row| row.host.as_str()).collect();
    if !free.is_empty() {
        parts.push(format!("! without a price, counted as free: {}", free.join(", ")));
    }
    parts.join("\n\n")
}

/// Millionths as a decimal: `0.032`, or `0.0016` where thousandths do not say it.
fn amount(micro: u64) -> String {
    let (whole, part) = (micro / 1_000_000, format!("{:06}", micro % 1_000_000));
    let kept = part.trim_end_matches('0').len().max(3);
    format!("{whole}.{}", part.get(..kept).unwrap_or(&part))
}

/// `92.0 % (0.552)`, with what is lost in front of a minus.
fn left(margin: &Margin) -> String {
    let sign = |negative: bool| if negative { "-" } else { "" };
    let rest = margin.left_micro_per_hour;
    let rest_text = format!("{}{}", sign(rest < 0), amount(rest.unsigned_abs()));
    match margin.left_permille {
        Some(permille) => {
            let size = permille.unsigned_abs();
            format!("{}{}.{} % ({rest_text})", sign(permille < 0), size / 10, size % 10)
        }
        None => rest_text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn host(name: &str, price: u64, cpu: u64, memory: u64) -> Host {
        let line = json!({ "cpu": cpu, "memory": memory, "disk": 1000 });
        serde_json::from_value(json!({
            "id": "host-1", "name": name, "address": "ssh://root@h", "identity": "node_default", "price_milli_per_hour": price,
            "publish": "127.0.0.1", "health": "ready", "health_since": "2026-01-01T00:00:00Z", "line": line, "reserved": line,
            "sandboxes": 0, "added_at": "2026-01-01T00:00:00Z",
            "facts": {"machine_id": "m", "hostname": name, "architecture": "x86_64", "docker_version": "20", "api_version": "1.41", "kernel": "6",
                "runtimes": [], "totals": line, "docker_root": "/"},
        }))
        .expect("a host")
    }

    fn sandbox(number: u64, tenant: &str, host: Option<&str>, cpu: &str, memory: u64) -> Sandbox {
        let id = SandboxId::from_parts(1, number.into()).to_string();
        let resources = json!({ "cpu": cpu, "memory": memory, "disk": 0 });
        serde_json::from_value(json!({
            "id": id, "tenant": tenant, "session": id, "phase": "running", "desired": "running", "generation": 1, "host": host,
            "image": "i:1", "resources": resources, "pids": 1, "runtime": "runc", "on_expiry": "terminate", "on_host_loss": "hold",
            "created_at": "2026-01-01T00:00:00Z", "phase_since": "2026-01-01T00:00:00Z",
        }))
        .expect("a sandbox")
    }

    /// The reference's example: a host for 0.032 an hour that holds two sandboxes, sold for 0.60.
    #[test]
    fn a_hosts_price_is_shared_by_the_largest_part_and_the_rest_is_idle() {
        let hosts = [host("cpx31", 32, 4, 7000), host("empty", 64, 8, 1000)];
        let sandboxes = [
            sandbox(1, "blue", Some("cpx31"), "1", 700),
            sandbox(2, "red", Some("cpx31"), "0.5", 3500),
            sandbox(3, "red", None, "4", 7000),
        ];
        let report = report(&hosts, &sandboxes, Some(600));
        let costs: Vec<u64> = report.sandboxes.iter().map(|row| row.cost_micro_per_hour).collect();
        assert_eq!(costs, [16_000, 8_000], "half of the memory, a quarter of the CPU, and nothing for a paused one");
        let idle: Vec<u64> = report.hosts.iter().map(|row| row.idle_micro_per_hour).collect();
        assert_eq!((idle, report.total.idle_micro_per_hour), (vec![8_000, 64_000], 72_000));
        assert_eq!(
            (report.hosts[0].per_sandbox_micro_per_hour, report.hosts[1].per_sandbox_micro_per_hour),
            (Some(16_000), None)
        );
        let margins: Vec<Option<i64>> =
            report.hosts.iter().map(|row| row.margin.as_ref().unwrap().left_permille).collect();
        assert_eq!(margins, [Some(973), None]);
        assert_eq!(report.total.margin.as_ref().unwrap().left_micro_per_hour, 1_200_000 - 96_000);
        let tenants: Vec<(&str, u64)> =
            report.tenants.iter().map(|row| (row.tenant.as_str(), row.cost_micro_per_hour)).collect();
        assert_eq!(tenants, [("blue", 8_000), ("red", 16_000)]);
        let text = shown(&report);
        assert!(
            text.contains("MARGIN AT 0.600") && text.contains("97.3 % (1.168)") && text.contains("-0.064"),
            "{text}"
        );
    }

    /// One is full of CPU, the other of memory: together they pay the price and not more.
    #[test]
    fn parts_never_exceed_the_price_and_always_sum_up_to_it() {
        for (price, wanted) in [(10, vec![10, 10, 10]), (7, vec![7, 1, 3]), (1, vec![1; 5]), (0, vec![0, 0])] {
            let paid = shares(price, wanted);
            assert_eq!(paid.iter().sum::<u64>(), price, "{paid:?}");
        }
        assert_eq!(shares(10, vec![1, 2]), [1, 2], "what nobody reserved is idle");
        let hosts = [host("h", 100, 2, 100)];
        let full = [sandbox(1, "a", Some("h"), "2", 10), sandbox(2, "a", Some("h"), "0", 90)];
        assert_eq!(report(&hosts, &full, None).hosts[0].idle_micro_per_hour, 0);
    }

    /// While it moves it has room on both, is paid on both, and sold once.
    #[test]
    fn a_move_costs_on_both_hosts() {
        let mut moving = sandbox(1, "a", Some("one"), "1", 0);
        let id = moving.id;
        moving.work = serde_json::from_value(json!({
            "operation": plimsoll_types::OperationId::from_parts(1, 1).to_string(), "kind": "migrate", "stage": "taking",
            "snapshot": plimsoll_types::SnapshotId::from_parts(1, 1).to_string(), "to": "two",
            "began": "2026-01-01T00:00:00Z", "deadline": "2026-01-01T00:00:00Z",
        }))
        .expect("a move");
        let report = report(&[host("one", 10, 2, 1), host("two", 20, 2, 1)], &[moving], Some(600));
        assert_eq!((report.sandboxes[0].sandbox, report.sandboxes[0].cost_micro_per_hour), (id, 15_000));
        assert_eq!((report.total.sandboxes, report.hosts[0].sandboxes, report.hosts[1].sandboxes), (1, 1, 1));
    }

    #[test]
    fn prices_are_read_exactly_and_amounts_shown_exactly() {
        for (text, price) in [("0.60", 600), ("1", 1000), ("0.005", 5), ("12.3", 12_300)] {
            assert_eq!(milli(text).ok(), Some(price), "{text}");
        }
        for text in ["", ".5", "1.", "0.0001", "-1", "1e3", "99999999999999999999", "1000001"] {
            assert!(milli(text).is_err(), "{text}");
        }
        assert_eq!(
            (amount(32_000), amount(1_600), amount(0), amount(1_234_567)),
            ("0.032".into(), "0.0016".into(), "0.000".into(), "1.234567".into())
        );
    }
}
