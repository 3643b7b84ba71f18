//! A guide whose transcripts are run: commands and the answers that they are shown with, in the ```console blocks of a Markdown page.
//!
//! A command begins with `$ ` and goes on in the next line after a backslash; what follows up to the next command is its answer. In an answer `…`
//! stands for whatever is different each time, and a line that is nothing but `…` for any number of lines.

use anyhow::{Context as _, Result, ensure};
use std::{fmt::Write as _, path::Path, time::Duration};

/// What stands for whatever is different each time.
const ANY: &str = "…";
/// A whole guide takes a minute; one that hangs must not hang the suite.
const LIMIT: Duration = Duration::from_secs(300);

/// One command and the answer it is shown with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The line of the page that it stands on, from 1.
    pub line: usize,
    /// What is typed.
    pub command: String,
    /// What is answered, line by line.
    pub answer: Vec<String>,
}

/// The calls of a page in order.
#[must_use]
pub fn calls(page: &str) -> Vec<Call> {
    let (mut calls, mut inside): (Vec<Call>, bool) = (Vec::new(), false);
    let mut goes_on = false;
    for (index, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
            goes_on = false;
        } else if inside && !goes_on && line.starts_with("$ ") {
            goes_on = line.ends_with('\\');
            calls.push(Call { line: index + 1, command: line[2..].to_owned(), answer: Vec::new() });
        } else if inside && let Some(call) = calls.last_mut() {
            if goes_on {
                goes_on = line.ends_with('\\');
                call.command.push('\n');
                call.command.push_str(line);
            } else {
                call.answer.push(line.to_owned());
            }
        }
    }
    calls
}

/// The page with other answers, one for each call.
#[must_use]
pub fn with_answers(page: &str, answers: &[Vec<String>]) -> String {
    let (mut text, mut next, mut inside, mut goes_on, mut answered) = (String::new(), 0, false, false, false);
    for line in page.lines() {
        let call = inside && !goes_on && line.starts_with("$ ");
        if line.starts_with("```") {
            inside = line == "```console";
            answered = false;
        } else if !call && !goes_on && inside && answered {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        if call || goes_on {
            goes_on = line.ends_with('\\');
            answered = true;
            if !goes_on {
                for line in answers.get(next).into_iter().flatten() {
                    let _always = writeln!(text, "{line}");
                }
                next += 1;
            }
        }
    }
    text
}

/// Whether an answer is what the page shows.
#[must_use]
pub fn matches(shown: &[String], answered: &[String]) -> bool {
    match shown.split_first() {
        None => answered.is_empty(),
        Some((line, rest)) if line.trim() == ANY => (0..=answered.len()).any(|skip| matches(rest, &answered[skip..])),
        Some((line, rest)) => {
            answered.split_first().is_some_and(|(first, others)| line_matches(line, first) && matches(rest, others))
        }
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    match shown.split_once(ANY) {
        None => shown == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| line_matches(rest, &line[at..]))
        }),
    }
}

/// An answer as a page can show it: ids, keys, times and fingerprints are different each time.
#[must_use]
pub fn shown(answer: &[String]) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || "_-:.+/=".contains(c);
    answer
        .iter()
        .map(|line| {
            let (mut text, mut rest) = (String::new(), line.as_str());
            while !rest.is_empty() {
                let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
                text.push_str(&varies(&rest[..end]));
                let stop = rest[end..].find(word).map_or(rest.len(), |at| end + at);
                text.push_str(&rest[end..stop]);
                rest = &rest[stop..];
            }
            text
        })
        .collect()
}

fn varies(word: &str) -> String {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if word.len() == 24 && word.ends_with('Z') && digits == 17 {
        return ANY.to_owned();
    }
    for prefix in ["sha256:", "SHA256:", "plm_"] {
        if word.starts_with(prefix) && word != prefix {
            return format!("{prefix}{ANY}");
        }
    }
    // `sb-01m84fgjmpsmzq8qwnnn47a5tv`: a kind and 26 characters, wherever it stands in a path. Nil ones are written by people.
    word.split('/')
        .map(|part| match part.split_once('-') {
            Some((kind, id)) if kind.len() <= 3 && id.len() == 26 && !id.starts_with("00") => format!("{kind}-{ANY}"),
            _ => part.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("/")
}

/// Runs the commands in one shell after the other, so that what one sets the next one has; what each answered, line by line.
///
/// # Errors
/// When the shell cannot be run, does not end, or ends before its last command.
pub async fn run(calls: &[Call], folder: &Path, env: &[(&str, &str)]) -> Result<Vec<Vec<String>>> {
    std::fs::create_dir_all(folder)?;
    let mut script = String::from("exec </dev/null\n");
    for (number, call) in calls.iter().enumerate() {
        // In braces it runs in the shell itself.
        let _always = writeln!(script, "{{\n{}\n}} >'{number}.answer' 2>&1", call.command);
    }
    std::fs::write(folder.join("guide.sh"), script)?;
    let mut command = tokio::process::Command::new("sh");
    command.arg("guide.sh").current_dir(folder).env_clear().kill_on_drop(true);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder).envs(env.iter().copied());
    let output = tokio::time::timeout(LIMIT, command.output()).await.context("the guide's commands do not end")??;
    ensure!(output.stderr.is_empty(), "the shell: {}", String::from_utf8_lossy(&output.stderr));
    let mut answers = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        let text = std::fs::read(folder.join(format!("{number}.answer")));
        let text = text.with_context(|| format!("line {} was not run: {}", call.line, call.command))?;
        answers.push(String::from_utf8_lossy(&text).lines().map(|line| line.trim_end().to_owned()).collect());
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# T\n\n```console\n$ one \\\n    more\nanswer\n$ two\n```\n\n```sh\n$ not this\n```\n";

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_page_is_read_and_written() {
        let found = calls(PAGE);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].command.as_str()), (4, "one \\\n    more"));
        assert_eq!((&found[0].answer, &found[1].answer), (&lines("answer"), &Vec::new()));
        let answers: Vec<Vec<String>> = found.iter().map(|call| call.answer.clone()).collect();
        assert_eq!(with_answers(PAGE, &answers), PAGE);
        let other = with_answers(PAGE, &[Vec::new(), lines("a\nb")]);
        assert_eq!(other, PAGE.replace("answer\n", "").replace("$ two\n", "$ two\na\nb\n"));
    }

    #[test]
    fn what_varies_may_vary_and_nothing_else() {
        let is = |shown: &str, answer: &str| matches(&lines(shown), &lines(answer));
        assert!(is("a\nid …, at … ms\nz", "a\nid x, at 12 ms\nz"));
        assert!(!is("id …, at … ms", "id x, after 12 ms"));
        assert!(is("[\n…\n]", "[\n1\n2\n]") && is("[\n…\n]", "[\n]") && !is("[\n…\n]", "[\n1"));
        assert!(!is("a", "a\nb") && !is("a\nb", "a") && !is("a", "ab"));
    }

    #[test]
    fn answers_are_shown_without_what_varies() {
        let said = r#""id": "sb-01m84fgjmpsmzq8qwnnn47a5tv", "at": "2026-01-31T12:00:00.000Z", "n": 12, "url": "/v1/sandboxes/sb-01m84fgjmpsmzq8qwnnn47a5tv""#;
        let wanted = r#""id": "sb-…", "at": "…", "n": 12, "url": "/v1/sandboxes/sb-…""#;
        assert_eq!(shown(&lines(said)), lines(wanted));
        assert_eq!(shown(&lines("key plm_abc_def on vps-1")), lines("key plm_… on vps-1"));
    }
}
