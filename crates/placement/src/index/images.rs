//! Which images are on which hosts.

use super::{bits::Bits, names::Names};
use plimsoll_types::ImageRef;

/// Hosts by image. An image that no host has is forgotten, and its number used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Images {
    numbers: Names<ImageRef>,
    hosts: Vec<Bits>,
    free: Vec<u32>,
}

impl Images {
    /// The hosts that have the image; `None` if no host has it.
    pub(super) fn hosts(&mut self, image: &ImageRef) -> Option<&Bits> {
        let number = self.numbers.get(image)?;
        self.hosts.get(number as usize)
    }

    pub(super) fn add(&mut self, image: &ImageRef, slot: u32) {
        let number = self.numbers.get(image).unwrap_or_else(|| {
            let number = self.free.pop().unwrap_or_else(|| {
                self.hosts.push(Bits::default());
                (self.hosts.len() - 1) as u32
            });
            self.numbers.insert(image.clone(), number);
            number
        });
        self.hosts[number as usize].insert(slot);
    }

    pub(super) fn remove(&mut self, image: &ImageRef, slot: u32) {
        let Some(number) = self.numbers.get(image) else { return };
        let hosts = &mut self.hosts[number as usize];
        hosts.remove(slot);
        if hosts.len() == 0 {
            self.numbers.remove(image);
            self.free.push(number);
        }
    }
}
