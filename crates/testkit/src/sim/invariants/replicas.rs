//! Replicas that applied the same index answer alike, have the same digest and keep the state machine's own rules.

use crate::sim::oracle::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    scene.cluster.violations()
}
