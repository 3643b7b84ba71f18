//! Join tokens: each lets one node in, whichever leader is asked. Whether a token is good is judged before it comes here.

use super::entry::Entry;
use crate::{Outcome, Refusal, SpentToken, State, command::SpendJoinToken};
use plimsoll_types::Millis;

/// Most spent tokens remembered: more than that many joins within a day is no use of ours.
pub const JOIN_TOKENS_LIMIT: usize = 4_096;
/// How long a spent token is remembered past its expiry: the clock of a later leader may be behind by as much.
pub const JOIN_TOKEN_MARGIN: Millis = Millis::secs(24 * 3600);

/// Refused the second time even if everything is the same: two leaders could have answered two nodes with it.
pub(super) fn spend(state: &mut State, entry: &mut Entry, spend: &SpendJoinToken) -> Result<Outcome, Refusal> {
    if state.join_tokens.contains_key(&spend.nonce) {
        return Err(Refusal::TokenSpent);
    }
    if Some(spend.node) <= state.highest_node {
        return Err(Refusal::Conflict);
    }
    state.join_tokens.retain(|_, token| token.expires_at.plus(JOIN_TOKEN_MARGIN) > spend.at);
    if state.join_tokens.len() >= JOIN_TOKENS_LIMIT {
        return Err(Refusal::LimitReached);
    }
    state.join_tokens.insert(spend.nonce, SpentToken { node: spend.node, expires_at: spend.expires_at });
    state.highest_node = Some(spend.node);
    entry.cluster(state, spend.at, &format!("a join token let node {} in", spend.node));
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, testing::*};
    use plimsoll_types::{NodeId, Timestamp};

    fn token(nonce: u8, node: u64, at: Timestamp) -> Command {
        let expires_at = at.plus(Millis::secs(3600));
        Command::SpendJoinToken(SpendJoinToken { nonce: [nonce; 16], node: NodeId(node), expires_at, at })
    }

    #[test]
    fn a_token_lets_one_node_in_and_no_number_is_given_twice() {
        let mut state = cluster();
        check(&mut state, &token(1, 2, at(10)), &Outcome::Done);
        check(&mut state, &token(1, 2, at(10)), &Outcome::Refused(Refusal::TokenSpent));
        check(&mut state, &token(1, 3, at(11)), &Outcome::Refused(Refusal::TokenSpent));
        check(&mut state, &token(2, 2, at(11)), &Outcome::Refused(Refusal::Conflict));
        check(&mut state, &token(2, 3, at(11)), &Outcome::Done);
        assert_eq!(state.join_tokens[&[1; 16]].node, NodeId(2));
        assert_eq!(state.highest_node, Some(NodeId(3)));
    }

    #[test]
    fn spent_tokens_are_forgotten_when_no_clock_can_take_them_for_good() {
        let mut state = cluster();
        check(&mut state, &token(1, 2, at(0)), &Outcome::Done);
        let gone = at(3600).plus(JOIN_TOKEN_MARGIN);
        check(&mut state, &token(2, 3, Timestamp(gone.0 - 1)), &Outcome::Done);
        assert_eq!(state.join_tokens.len(), 2);
        check(&mut state, &token(3, 4, gone), &Outcome::Done);
        assert!(!state.join_tokens.contains_key(&[1; 16]));
    }

    #[test]
    fn no_more_tokens_are_spent_than_can_be_remembered() {
        let mut state = cluster();
        for n in 0..JOIN_TOKENS_LIMIT {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&n.to_be_bytes());
            let spent = SpentToken { node: NodeId(1), expires_at: at(3600) };
            state.join_tokens.insert(nonce, spent);
        }
        check(&mut state, &token(9, 2, at(1)), &Outcome::Refused(Refusal::LimitReached));
        check(&mut state, &token(9, 2, at(3600).plus(JOIN_TOKEN_MARGIN)), &Outcome::Done);
        assert_eq!(state.join_tokens.len(), 1);
    }
}
