//! What the leader's polls measured: raw for people and metrics, smoothed for the placer. In memory only.

use plimsoll_types::{Bytes, HostId, MeasuredLoad, MilliCpu};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The newest reading counts so many tenths: a peak of one poll moves no placement, a lasting one does within three.
const NEWEST_TENTHS: u64 = 4;

/// Measured loads by host.
#[derive(Default)]
pub(crate) struct Loads {
    hosts: Mutex<Known>,
    /// Told after each change.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Known {
    loads: BTreeMap<HostId, Measured>,
    /// Read or forgotten since the placer last asked; never more than there are hosts.
    news: BTreeSet<HostId>,
}

/// One host's load.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    /// The last reading.
    pub(crate) raw: MeasuredLoad,
    /// The exponentially weighted mean of CPU and memory; the rest as last read.
    pub(crate) smooth: MeasuredLoad,
}

impl Loads {
    /// Takes a reading in.
    pub(crate) fn record(&self, host: HostId, raw: MeasuredLoad) {
        let mut known = self.lock();
        let smooth = known.loads.get(&host).map_or(raw, |known| MeasuredLoad {
            cpu: MilliCpu(blend(known.smooth.cpu.0, raw.cpu.0)),
            memory: Bytes(blend(known.smooth.memory.0, raw.memory.0)),
            ..raw
        });
        known.loads.insert(host, Measured { raw, smooth });
        known.news.insert(host);
        drop(known);
        self.changed.notify_one();
    }

    /// Forgets a host that was removed or lost: its old load says nothing.
    pub(crate) fn forget(&self, host: HostId) {
        let mut known = self.lock();
        known.loads.remove(&host);
        known.news.insert(host);
        drop(known);
        self.changed.notify_one();
    }

    /// What is new since the last call, for the one who follows all of them; `None` for a host that was forgotten.
    pub(crate) fn news(&self) -> Vec<(HostId, Option<Measured>)> {
        let mut known = self.lock();
        let news = std::mem::take(&mut known.news);
        news.into_iter().map(|host| (host, known.loads.get(&host).copied())).collect()
    }

    /// Every load.
    pub(crate) fn all(&self) -> BTreeMap<HostId, Measured> {
        self.lock().loads.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn blend(old: u64, new: u64) -> u64 {
    let sum = u128::from(old) * u128::from(10 - NEWEST_TENTHS) + u128::from(new) * u128::from(NEWEST_TENTHS);
    u64::try_from(sum / 10).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_softened_and_a_lasting_load_is_reached() {
        let (loads, host) = (Loads::default(), HostId(1));
        let reading = |cpu| MeasuredLoad { cpu: MilliCpu(cpu), ..MeasuredLoad::default() };
        loads.record(host, reading(1000));
        loads.record(host, reading(4000));
        let after_peak = loads.all()[&host];
        assert_eq!((after_peak.raw.cpu.0, after_peak.smooth.cpu.0), (4000, 2200));
        (0..20).for_each(|_| loads.record(host, reading(4000)));
        assert!(loads.all()[&host].smooth.cpu.0 > 3990);
    }
}
