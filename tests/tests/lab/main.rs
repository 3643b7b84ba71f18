//! The real lab: three hosts with their own sshd and dockerd, three nodes as processes, and everything seen from outside.
//!
//! One lab serves all scenarios, in order; each leaves it as it found it. A name on the command line runs only those that contain it.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod breaking;
mod dev;
mod exec;
mod failover;
mod guide;
mod hardening;
mod hosts;
mod image;
mod killing;
mod operating;
mod operations;
mod outlive;
mod placement;
mod recovery;
mod restoring;
mod telling;
mod watching;
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
    image::the_base_image_serves,
    dev::needs_no_configuration,
    dev::makes_do_with_the_registrys_image,
    operations::the_old_variables_make_a_cluster,
    operating::events_are_listed_and_followed_past_a_dead_node,
    operating::top_shows_load_lines,
    operating::costs_are_shared_by_what_is_reserved,
    operating::a_node_logs_what_it_is_told_to,
    telling::a_request_is_found_in_every_layer,
    guide::the_api_guide_is_true,
    watching::a_real_prometheus_answers_the_dashboard,
    outlive::paused_here_resumed_there,
    outlive::asked_for_it_comes_back,
    outlive::moved_while_it_runs,
    outlive::snapshots_are_kept_and_started_from,
    outlive::a_registry_that_is_gone_harms_nobody,
    outlive::a_host_is_drained,
    outlive::a_deadline_can_pause,
    outlive::moves_survive_the_leader,
    outlive::a_lost_host_loses_no_sandbox,
    killing::at_each_step_of_a_snapshot,
    killing::at_each_step_of_a_pause,
    killing::at_each_step_of_a_resume,
    killing::at_each_step_of_a_migration,
    breaking::a_full_source_gives_up,
    breaking::a_full_target_gives_up,
    breaking::a_link_is_cut_in_a_push,
    breaking::docker_restarts_in_a_snapshot,
    breaking::the_source_dies_in_a_move,
    breaking::the_registry_dies_in_a_push,
    breaking::a_big_workspace_stays_the_same,
    failover::a_wrong_token_is_refused,
    failover::creates_survive_the_leader,
    failover::every_node_answers,
    failover::all_nodes_at_once,
    failover::a_stopped_leader_hands_over,
    failover::a_leader_hands_over_before_it_drains,
    recovery::a_host_goes_and_comes_back,
    recovery::a_wiped_node_refuses_and_rejoins,
    recovery::a_changed_host_key_is_refused,
    restoring::from_an_older_backup,
    restoring::without_secrets_or_keys,
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
