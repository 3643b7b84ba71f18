//! What was seen of a host and is not asked for again: each kind says for how long it holds, and what comes of it being out of date.
//!
//! All of it is for speed alone: forgetting everything at any moment changes nothing but the time that the next create takes.

use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Entries of each kind: more than a host has in use; past it everything is forgotten and seen anew.
const MOST: usize = 1024;
/// Bytes of all accounts that are kept ready: each is an image's passwd and group file, a few KiB.
const MOST_BYTES: usize = 8 << 20;
/// From the look at an image to the container that is made of it, with a commit in between. Somebody who moves its tag meanwhile is told apart
/// from one who moves it a moment later by nobody.
const IMAGE: Duration = Duration::from_secs(2);
/// A network whose id is known is used without a look. Where another node has removed it, Docker refuses the start, and the create is done anew.
const NETWORK: Duration = Duration::from_secs(60);
/// From a container's making to its start, which need not look at it again.
const MADE: Duration = Duration::from_secs(2);

/// What is known of one host.
#[derive(Default)]
pub(crate) struct Known {
    accounts: Mutex<HashMap<String, Account>>,
    owned: Mutex<HashMap<String, ()>>,
    images: Recent,
    networks: Recent,
    made: Recent,
}

/// What an image lacks for the sandboxes' user, which never changes: images are named by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// Nothing.
    Complete,
    /// These files, as an archive.
    Lacks(Bytes),
}

impl Known {
    /// What an image lacks, if it was looked into.
    pub(crate) fn account(&self, image_id: &str) -> Option<Account> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(image_id).cloned()
    }

    pub(crate) fn learn_account(&self, image_id: &str, account: Account) {
        let mut known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let size = |account: &Account| match account {
            Account::Complete => 0,
            Account::Lacks(archive) => archive.len(),
        };
        let all: usize = known.values().map(size).sum();
        if known.len() >= MOST || all.saturating_add(size(&account)) > MOST_BYTES {
            known.clear();
        }
        known.insert(image_id.to_owned(), account);
    }

    /// Whether a workspace that this image fills stays its user's, which never changes either.
    pub(crate) fn leaves_owner(&self, image_id: &str) -> bool {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).contains_key(image_id)
    }

    pub(crate) fn learn_leaves_owner(&self, image_id: &str) {
        let mut known = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(image_id.to_owned(), ());
    }

    /// The id of an image that was there just now.
    pub(crate) fn image(&self, name: &str) -> Option<String> {
        self.images.get(name, IMAGE)
    }

    pub(crate) fn learn_image(&self, name: &str, id: &str) {
        self.images.put(name, id);
    }

    /// The id of a network that was there.
    pub(crate) fn network(&self, name: &str) -> Option<String> {
        self.networks.get(name, NETWORK)
    }

    pub(crate) fn learn_network(&self, name: &str, id: &str) {
        self.networks.put(name, id);
    }

    /// One was found gone, or is about to be removed.
    pub(crate) fn forget_networks(&self) {
        self.networks.clear();
    }

    /// A container was made that nobody has started.
    pub(crate) fn learn_made(&self, id: &str) {
        self.made.put(id, "");
    }

    /// Whether it was made just now; true only once.
    pub(crate) fn take_made(&self, id: &str) -> bool {
        self.made.take(id, MADE).is_some()
    }
}

/// Texts by name, with the time when each was seen.
#[derive(Default)]
struct Recent(Mutex<HashMap<String, (Instant, String)>>);

impl Recent {
    fn put(&self, name: &str, text: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(name.to_owned(), (Instant::now(), text.to_owned()));
    }

    fn get(&self, name: &str, within: Duration) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).filter(|(at, _)| at.elapsed() < within).map(|(_, text)| text.clone())
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self, name: &str, within: Duration) -> Option<String> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        taken.filter(|(at, _)| at.elapsed() < within).map(|(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_bounded_and_ends() {
        let recent = Recent::default();
        recent.put("a", "1");
        assert_eq!(recent.get("a", IMAGE).as_deref(), Some("1"));
        assert_eq!(recent.get("a", Duration::ZERO), None, "too old");
        assert_eq!(recent.take("a", IMAGE).as_deref(), Some("1"));
        assert_eq!(recent.take("a", IMAGE), None, "only once");

        let known = Known::default();
        let large = Account::Lacks(Bytes::from(vec![0; MOST_BYTES / 2 + 1]));
        known.learn_account("one", large.clone());
        known.learn_account("two", large.clone());
        assert_eq!((known.account("one"), known.account("two")), (None, Some(large)), "no more than fits");
        for number in 0..=MOST {
            known.learn_made(&number.to_string());
        }
        assert!(!known.take_made("0") && known.take_made(&MOST.to_string()));
    }
}
