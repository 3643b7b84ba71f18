//! The lab's network: one bridge in a subnet of its own, and one cable (a veth pair) from it to each host.
//!
//! Nothing here forwards or masquerades: a host reaches the lab's bridge and nothing else.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result, bail};

use super::command::{run, run_blocking};

const BRIDGE_PREFIX: &str = "plab";

/// The last byte of the first host's address; smaller ones are left for control-plane addresses on the bridge.
const FIRST_HOST: u8 = 11;

/// The third byte runs over these. Zero is left to labs built by hand.
const SUBNETS: std::ops::RangeInclusive<u8> = 1..=250;

/// The machine's own address on the bridge.
pub(super) fn gateway(subnet: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, subnet, 1)
}

/// The address of the host with this index, counted from zero.
pub(super) fn host_address(subnet: u8, index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, subnet, FIRST_HOST.saturating_add(index))
}

/// The machine's end of the cable to a host.
pub(super) fn cable(subnet: u8, index: u8) -> String {
    format!("{}h{index}", bridge(subnet))
}

/// Makes a bridge in the first subnet that nobody on this machine uses. Needs the registry's lock.
pub(super) fn claim_subnet() -> Result<u8> {
    let taken = run_blocking("ip", ["-4", "-o", "address", "show"])?;
    for subnet in SUBNETS {
        let bridge = bridge(subnet);
        if taken.contains(&format!(" 10.99.{subnet}.")) || link_exists(&bridge) {
            continue;
        }
        run_blocking("ip", ["link", "add", &bridge, "type", "bridge"])?;
        run_blocking("ip", ["address", "add", &format!("{}/24", gateway(subnet)), "dev", &bridge])?;
        run_blocking("ip", ["link", "set", &bridge, "up"])?;
        return Ok(subnet);
    }
    bail!("all subnets from 10.99.{}.0/24 to 10.99.{}.0/24 are taken", SUBNETS.start(), SUBNETS.end())
}

/// Removes the bridge with all cables still plugged into it.
pub(super) fn remove_bridge(subnet: u8) -> Result<()> {
    let bridge = bridge(subnet);
    if let Ok(ports) = fs::read_dir(format!("/sys/class/net/{bridge}/brif")) {
        for port in ports.flatten() {
            remove_link(&port.file_name().to_string_lossy())?;
        }
    }
    remove_link(&bridge)
}

/// Removes lab bridges that belong to none of these subnets. Needs the registry's lock.
pub(super) fn remove_bridges_except(living: &[u8]) -> Result<()> {
    for link in fs::read_dir("/sys/class/net").context("cannot list network interfaces")?.flatten() {
        let name = link.file_name().to_string_lossy().into_owned();
        let subnet = name.strip_prefix(BRIDGE_PREFIX).and_then(|rest| rest.parse::<u8>().ok());
        if let Some(subnet) = subnet.filter(|subnet| !living.contains(subnet)) {
            remove_bridge(subnet)?;
        }
    }
    Ok(())
}

/// Plugs a host (the network namespace of process `init`) into the bridge and configures its interface.
pub(super) async fn plug(subnet: u8, index: u8, init: u32) -> Result<()> {
    let (cable, init) = (cable(subnet, index), init.to_string());
    // A machine keeps its hardware address over a power cycle. With a new one, this machine would send to the old one
    // until its neighbour entry expires, which takes half a minute.
    let hardware = format!("02:50:4c:00:{subnet:02x}:{index:02x}");
    let peer = ["name", "eth0", "address", &hardware, "netns", &init];
    run("ip", ["link", "add", &cable, "type", "veth", "peer"].into_iter().chain(peer)).await?;
    run("ip", ["link", "set", &cable, "master", &bridge(subnet), "up"]).await?;
    let configure = format!(
        "ip link set lo up && ip address add {}/24 dev eth0 && ip link set eth0 up && ip route add default via {}",
        host_address(subnet, index),
        gateway(subnet)
    );
    run("nsenter", ["--target", &init, "--net", "sh", "-c", &configure]).await?;
    Ok(())
}

/// Takes the cable to a host down, or up again.
pub(super) async fn set_cable(cable: &str, up: bool) -> Result<()> {
    run("ip", ["link", "set", cable, if up { "up" } else { "down" }]).await?;
    Ok(())
}

/// Removes an interface; one that does not exist is fine, because the kernel removes cables of dead hosts by itself.
pub(super) fn remove_link(name: &str) -> Result<()> {
    if link_exists(name) {
        let removed = run_blocking("ip", ["link", "delete", name]);
        if link_exists(name) {
            removed?;
        }
    }
    Ok(())
}

fn bridge(subnet: u8) -> String {
    format!("{BRIDGE_PREFIX}{subnet}")
}

fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}
