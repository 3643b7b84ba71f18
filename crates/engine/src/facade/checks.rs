//! What a host must be to be added, and a process to be started: refusals and warnings as pure functions.

use crate::{Error, spec};
use plimsoll_lifecycle::ports::{ExecRequest, SurveyReport};
use plimsoll_types::{Bytes, Code, ImageRef, Runtime};

/// Docker's oldest API that every call we make is in.
const API: (u32, u32) = (1, 41);
/// A larger difference of clocks makes deadlines and billing wrong.
const SKEW_MAX_MS: u64 = 5_000;
/// A smaller one is worth a word.
const SKEW_NOTED_MS: u64 = 1_000;
/// Fewer sessions than sshd's own default leave no room for an exec beside polls and creates.
const SESSIONS_MIN: u32 = 10;
/// Less free disk than this holds hardly an image.
const DISK_MIN: Bytes = Bytes::gib(5);
/// Fewer free inodes than this an image may use up.
const INODES_MIN: u64 = 100_000;

/// Refuses a host that cannot be used.
pub(super) fn refuse(report: &SurveyReport) -> Result<(), Error> {
    let version = &report.facts.api_version;
    let parsed = version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if parsed.is_none_or(|parsed: (u32, u32)| parsed < API) {
        let message =
            format!("the host's Docker API is {version:?}, at least 1.41 is needed; install Docker 20.10 or later");
        return Err(Error::new(Code::DockerTooOld, message));
    }
    if report.clock_skew_ms.unsigned_abs() > SKEW_MAX_MS {
        let message = format!(
            "the host's clock is {} ms from this node's, {SKEW_MAX_MS} ms are allowed; start NTP on both",
            report.clock_skew_ms
        );
        return Err(Error::new(Code::ClockSkew, message));
    }
    Ok(())
}

/// What an operator should know of a host that can be used.
pub(super) fn warnings(report: &SurveyReport, base_image: Option<&ImageRef>) -> Vec<String> {
    let mut warnings = Vec::new();
    if report.clock_skew_ms.unsigned_abs() > SKEW_NOTED_MS {
        warnings.push(format!("its clock is {} ms from this node's: start NTP", report.clock_skew_ms));
    }
    if let Some(image) = base_image.filter(|_| !report.base_image_present) {
        warnings.push(format!("the base image {image} is not there: the first create pulls it"));
    }
    if !report.facts.runtimes.iter().any(|runtime| runtime == Runtime::Runsc.as_str()) {
        warnings.push("runsc (gVisor) is not installed: sandboxes that ask for it go elsewhere".to_owned());
    }
    if let Some(sessions) = report.max_sessions.filter(|sessions| *sessions < SESSIONS_MIN) {
        warnings.push(format!("sshd's MaxSessions is {sessions}: set it to {SESSIONS_MIN} or more"));
    }
    if report.disk_free < DISK_MIN {
        warnings.push(format!("only {} are free under {}", report.disk_free, report.facts.docker_root));
    }
    if report.inodes_free < INODES_MIN {
        warnings.push(format!("only {} inodes are free under {}", report.inodes_free, report.facts.docker_root));
    }
    warnings
}

/// Checks a process before a host is asked for it.
pub(super) fn exec(request: &ExecRequest) -> Result<(), Error> {
    if request.argv.first().is_none_or(String::is_empty) {
        return Err(spec::invalid("argv", "name a program"));
    }
    if request.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(spec::invalid("argv", "an argument has a NUL byte; remove it"));
    }
    if let Some(cwd) = &request.cwd {
        spec::path(cwd)?;
    }
    spec::process_env(&request.env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_types::{HostFacts, MeasuredLoad};

    fn report() -> SurveyReport {
        SurveyReport {
            facts: HostFacts {
                api_version: "1.41".to_owned(),
                runtimes: vec!["runc".to_owned(), "runsc".to_owned()],
                ..HostFacts::default()
            },
            load: MeasuredLoad::default(),
            disk_free: Bytes::gib(100),
            inodes_free: 1_000_000,
            clock_skew_ms: 0,
            base_image_present: true,
            max_sessions: Some(10),
            max_startups: None,
        }
    }

    #[test]
    fn old_docker_and_wrong_clocks_are_refused() {
        let with_api = |version: &str| {
            let mut report = report();
            report.facts.api_version = version.to_owned();
            refuse(&report).map_err(|error| error.code)
        };
        assert_eq!(with_api("1.41"), Ok(()));
        assert_eq!(with_api("1.100"), Ok(()));
        assert_eq!(with_api("1.40"), Err(Code::DockerTooOld));
        assert_eq!(with_api("soon"), Err(Code::DockerTooOld));
        for (skew, ok) in [(5_000, true), (-5_001, false), (i64::MIN, false)] {
            let refused = refuse(&SurveyReport { clock_skew_ms: skew, ..report() });
            assert_eq!(refused.is_ok(), ok, "{skew}");
        }
    }

    #[test]
    fn what_is_small_or_missing_is_said() {
        let image = ImageRef::new("base:1").expect("an image");
        assert!(warnings(&report(), Some(&image)).is_empty());
        let poor = SurveyReport {
            disk_free: Bytes::gib(1),
            inodes_free: 5,
            clock_skew_ms: -1500,
            base_image_present: false,
            max_sessions: Some(2),
            facts: HostFacts::default(),
            ..report()
        };
        assert_eq!(warnings(&poor, Some(&image)).len(), 6);
        assert_eq!(warnings(&poor, None).len(), 5);
    }
}
