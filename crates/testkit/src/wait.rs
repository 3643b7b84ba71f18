//! Waiting for a condition, never for a fixed time: every test that needs something to happen polls for it here.

use std::{fmt::Display, future::Future, time::Duration};

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// The first pause between two looks at a condition. Shorter would only burn CPU that the awaited work needs.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause. Longer would make quick tests noticeably slower than the thing they wait for.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a condition may answer: `bool`, `Option<T>` or `Result<T, E>`.
pub trait Answer {
    /// What the wait yields once the condition holds.
    type Value;

    /// The value, or why the condition does not hold yet.
    fn settle(self) -> Result<Self::Value, String>;
}

impl Answer for bool {
    type Value = ();

    fn settle(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it is false".into()) }
    }
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "there is nothing yet".into())
    }
}

impl<T, E: Display> Answer for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        // The alternate form prints anyhow's whole chain on one line.
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Polls `condition` until it holds and returns its value.
///
/// # Errors
///
/// After `timeout`, naming `what` was awaited and why the last look was not enough. A look that itself hangs is
/// abandoned at the same moment.
pub async fn wait_for<A, F, Fut>(what: impl Display, timeout: Duration, mut condition: F) -> Result<A::Value>
where
    A: Answer,
    F: FnMut() -> Fut,
    Fut: Future<Output = A>,
{
    let deadline = Instant::now() + timeout;
    let mut pause = FIRST_PAUSE;
    let mut reason = String::from("the first look did not come back");
    loop {
        match timeout_at(deadline, condition()).await.map(Answer::settle) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(why)) => reason = why,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(anyhow!("waited {timeout:?} in vain for {what}: {reason}"));
        }
        sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn yields_the_value_of_a_condition_that_comes_true() {
        let mut looks = 0;
        let value = wait_for("a third look", Duration::from_secs(5), || {
            looks += 1;
            let seen = looks;
            async move { (seen == 3).then_some(seen) }
        })
        .await
        .unwrap();
        assert_eq!(value, 3);
    }

    #[tokio::test]
    async fn names_the_condition_and_the_last_reason() {
        let error = wait_for("the tide", SHORT, || async { Err::<(), _>("it is ebbing") }).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 30ms in vain for the tide: it is ebbing");
    }

    #[tokio::test]
    async fn gives_up_on_a_look_that_hangs() {
        let error = wait_for("a reply", SHORT, std::future::pending::<bool>).await.unwrap_err();
        assert!(error.to_string().contains("a reply"), "{error}");
    }
}
