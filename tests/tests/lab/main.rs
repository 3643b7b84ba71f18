//! The real lab: three hosts with their own sshd and dockerd, three nodes as processes, and everything seen from outside.
//!
//! One lab serves all scenarios, in order; each leaves it as it found it. A name on the command line runs only those that contain it.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod exec;
mod failover;
mod hardening;
mod hosts;
mod operations;
mod placement;
mod recovery;
mod world;

use anyhow::Result;
use std::{future::Future, pin::Pin, process::ExitCode, time::Instant};
use world::World;

type Scenario = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Names a scenario after its function.
macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), |world| Box::pin($module::$name(world)))),*]
    };
}

/// In the order of a cluster's life; `hosts::added` comes first, as it fills the cluster.
const SCENARIOS: &[(&str, Scenario)] = scenarios![
    hosts::added,
    hosts::refused,
    placement::spread_and_explained,
    placement::an_ensure_storm_gives_one_container,
    placement::idempotency_and_sessions,
    placement::waiting_for_room,
    exec::commands,
    exec::streams_and_limits,
    exec::terminal,
    exec::files,
    exec::folders,
    exec::single_files,
    hardening::seen_from_inside,
    hardening::bad_images_and_clashes,
    operations::ports_logs_and_stats,
    operations::deadlines,
    operations::keys_and_tenants,
    operations::the_policy_is_shown_changed_and_rules,
    operations::metrics_are_prometheus,
    operations::ssh_gateway,
    operations::dev_needs_no_configuration,
    operations::the_old_variables_make_a_cluster,
    failover::a_wrong_token_is_refused,
    failover::creates_survive_the_leader,
    failover::every_node_answers,
    failover::all_nodes_at_once,
    failover::a_stopped_leader_hands_over,
    failover::a_leader_hands_over_before_it_drains,
    recovery::a_host_goes_and_comes_back,
    recovery::a_wiped_node_refuses_and_rejoins,
    recovery::a_changed_host_key_is_refused,
];

fn main() -> ExitCode {
    if !plimsoll_tests::lab::available("the lab suite") {
        println!("0 passed, 0 failed, {} skipped", SCENARIOS.len());
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (passed, failed) = runtime.block_on(run(&wanted));
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(wanted: &[String]) -> (usize, usize) {
    let start = Instant::now();
    let mut world = match World::start().await {
        Ok(world) => world,
        Err(error) => {
            println!("the lab does not start: {error:#}");
            return (0, 1);
        }
    };
    println!("lab and nodes ready after {:.1} s", start.elapsed().as_secs_f64());
    let (mut passed, mut failed) = (0, 0);
    for (name, scenario) in SCENARIOS {
        let chosen = wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
        if !chosen && *name != "hosts::added" {
            continue;
        }
        let start = Instant::now();
        let result = match scenario(&mut world).await {
            Ok(()) => world.settled().await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok ({:.1} s)", start.elapsed().as_secs_f64());
            }
            Err(error) => {
                failed += 1;
                println!(
                    "test {name} ... FAILED ({:.1} s)\n{error:#}\n{}",
                    start.elapsed().as_secs_f64(),
                    world.cluster.logs()
                );
                world.sweep().await;
            }
        }
    }
    if let Err(error) = world.stop().await {
        failed += 1;
        println!("the lab does not stop cleanly: {error:#}");
    }
    (passed, failed)
}
