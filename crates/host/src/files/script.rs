//! The scripts: POSIX shell that busybox and coreutils both run, and what their exit codes mean.
//!
//! Arguments are positional and always quoted; nothing is ever put into a script's text.

use crate::{
    docker::Api,
    error,
    exec::{self, Finished, Spec},
};
use plimsoll_lifecycle::ports::HostError;
use plimsoll_types::{Code, names};
use std::sync::Arc;

/// There is nothing at the path.
const MISSING: i64 = 44;
/// It is another kind of thing than asked for.
const KIND: i64 = 45;
/// Less arrived than was sent.
pub(crate) const SHORT: i64 = 46;
/// The owner-to-be can enter no folder that the file could be handed over in.
const NO_WAY: i64 = 47;

pub(crate) const READ: &str = r#"
[ -e "$1" ] || [ -L "$1" ] || exit 44
[ -f "$1" ] || { echo "not a regular file" >&2; exit 45; }
exec cat -- "$1"
"#;

/// $1 target, $2 temporary file. Writes stdin to the temporary file, next to the target.
pub(crate) const RECEIVE: &str = r#"
[ ! -d "$1" ] || { echo "is a folder" >&2; exit 45; }
mkdir -p -- "${1%/*}/" || exit 1
umask 077
cat > "$2" || { rm -f -- "$2"; exit 1; }
"#;

/// $1 target, $2 temporary file, $3 bytes sent, $4 mode. Puts the temporary file in the target's place.
pub(crate) const COMMIT: &str = r#"
size=$(stat -c %s -- "$2") || exit 1
if [ "$size" != "$3" ]; then rm -f -- "$2"; echo "$size of $3 bytes arrived" >&2; exit 46; fi
chmod -- "$4" "$2" && mv -f -T -- "$2" "$1" && exit 0
rm -f -- "$2"; exit 1
"#;

/// $1 the temporary file of a write that failed.
pub(crate) const DISCARD: &str = r#"rm -f -- "$1""#;

/// $1 target, $2 name of the drop folders. Makes one next to the target, and one in each folder below which the target could be renamed
/// from, in case the owner-to-be cannot reach the first. Says whose they are.
pub(crate) const DROPS: &str = r#"
[ ! -d "$1" ] || { echo "is a folder" >&2; exit 45; }
folder=${1%/*}/
mkdir -p -- "$folder" && device=$(stat -c %d -- "$folder") || exit 1
mkdir -m 733 -- "$folder$2" || exit 1
for other in /tmp/ /workspace/; do
  [ "$other" = "$folder" ] || [ "$(stat -c %d -- "$other" 2>/dev/null)" != "$device" ] || mkdir -m 733 -- "$other$2" 2>/dev/null
done
exec stat -c %u -- "$folder$2"
"#;

/// $1 target, $2 name of the drop folders, $3 whose they are, $4 mode. Run by the owner-to-be: writes stdin to a file in the first drop
/// folder that it can enter. What the sandbox may put in a drop folder's place, or into it, is never followed: all is done on the open file.
pub(crate) const DROP: &str = r#"
umask 077; set -C
for folder in "${1%/*}/" /tmp/ /workspace/; do
  cd -P -- "$folder$2" 2>/dev/null && [ "$(stat -c '%u %a' .)" = "$3 733" ] || continue
  exec 3> content
  cat >&3 && chmod -- "$4" /proc/self/fd/3 || exit 1
  exit 0
done
exit 47
"#;

/// $1 target, $2 name of the drop folders, $3 bytes sent. Puts the dropped file in the target's place, and removes the drop folders.
pub(crate) const TAKE: &str = r#"
status=1
for folder in "${1%/*}/" /tmp/ /workspace/; do
  [ -f "$folder$2/content" ] || continue
  size=$(stat -c %s -- "$folder$2/content") || break
  if [ "$size" != "$3" ]; then echo "$size of $3 bytes arrived" >&2; status=46; break; fi
  mv -f -T -- "$folder$2/content" "$1" && status=0
  break
done
rm -rf -- "${1%/*}/$2" "/tmp/$2" "/workspace/$2"
exit $status
"#;

/// $1 target, $2 name of the drop folders of a write that failed.
pub(crate) const UNDROP: &str = r#"rm -rf -- "${1%/*}/$2" "/tmp/$2" "/workspace/$2""#;

/// $1 folder, $2 a word that no name contains, $3 a depth or nothing. Each entry starts with the word.
pub(crate) const LIST: &str = r#"
[ -e "$1" ] || [ -L "$1" ] || exit 44
[ -d "$1" ] || { echo "not a folder" >&2; exit 45; }
cd -- "$1" || exit 1
if [ -n "$3" ]; then set -- "$1" "$2" -maxdepth 1; else set -- "$1" "$2"; fi
word=$2; shift 2
exec find . -mindepth 1 "$@" -exec stat -c "$word %f %s %u %g %Y %n" {} +
"#;

/// $1 path, $2 a word that no name contains.
pub(crate) const STAT: &str = r#"
[ -e "$1" ] || [ -L "$1" ] || exit 44
exec stat -c "$2 %f %s %u %g %Y ." -- "$1"
"#;

/// $1 from, $2 to.
pub(crate) const RENAME: &str = r#"
[ -e "$1" ] || [ -L "$1" ] || exit 44
mkdir -p -- "${2%/*}/" && exec mv -f -T -- "$1" "$2"
"#;

/// $1 target, $2 the link's path. There is always either what was there or the link.
pub(crate) const LINK: &str = r#"
[ -L "$2" ] && [ "$(readlink -- "$2")" = "$1" ] && exit 0
rm -f -- "$2.link" && ln -s -- "$1" "$2.link" && mv -f -T -- "$2.link" "$2"
"#;

/// $1 path, $2 something if all below it goes too.
pub(crate) const REMOVE: &str = r#"
[ -e "$1" ] || [ -L "$1" ] || exit 44
if [ -n "$2" ]; then exec rm -rf -- "$1"; fi
if [ -d "$1" ] && [ ! -L "$1" ]; then exec rmdir -- "$1"; fi
exec rm -f -- "$1"
"#;

/// $1 folder or file.
pub(crate) const EXPORT: &str = r#"
[ -e "$1" ] || [ -L "$1" ] || exit 44
if [ -d "$1" ]; then exec tar -c -f - -C "$1" .; fi
exec tar -c -f - -C "${1%/*}/" "./${1##*/}"
"#;

/// $1 folder.
pub(crate) const IMPORT: &str = r#"
mkdir -p -- "$1" || exit 1
exec tar -x -f - -C "$1"
"#;

/// The command that runs a script.
pub(crate) fn argv(script: &str, args: &[&str]) -> Vec<String> {
    ["sh", "-c", script, "sh"].iter().chain(args).map(|part| (*part).to_owned()).collect()
}

/// Runs a script to its end; a failure becomes an error about `path`.
pub(crate) async fn run(
    api: &Arc<Api>,
    container: &str,
    user: Option<&str>,
    path: &str,
    (script, args): (&str, &[&str]),
    stdin: Option<&[u8]>,
    max_stdout: usize,
) -> Result<Vec<u8>, HostError> {
    let spec = Spec { argv: argv(script, args), user: user.map(str::to_owned), ..Spec::default() };
    let Finished { code, stdout, stderr } =
        exec::run(api, container, spec, stdin, max_stdout).await.map_err(|error| not_run(path, error))?;
    if code == 0 { Ok(stdout) } else { Err(failed(path, code, &stderr)) }
}

/// Why a script that ended badly did so.
pub(crate) fn failed(path: &str, code: i64, stderr: &[u8]) -> HostError {
    let said = error::tidy(&String::from_utf8_lossy(stderr));
    let because = if said.is_empty() { format!("exit code {code}") } else { said };
    let lower = because.to_ascii_lowercase();
    match code {
        MISSING => error::permanent(Code::FileNotFound, format!("there is nothing at {path:?} in the sandbox")),
        KIND => error::permanent(Code::FileError, format!("{path:?}: {because}")),
        SHORT => {
            error::transient(Code::FileError, format!("{path:?} was not written, the old content stands: {because}"))
        }
        NO_WAY => error::permanent(
            Code::FileError,
            format!("{path:?}: its new owner may enter neither its folder nor another one on the same file system"),
        ),
        127 => error::permanent(Code::FileError, format!("{path:?}: the sandbox's image lacks a program: {because}")),
        137 => {
            error::transient(Code::FileError, format!("{path:?}: the sandbox killed the operation (out of memory?)"))
        }
        _ if lower.contains("no space left") => {
            error::this_host(Code::HostFull, format!("{path:?}: the host's disk is full: {because}"))
        }
        _ => error::permanent(Code::FileError, format!("{path:?}: {because}")),
    }
}

/// A script that could not even start: most likely the image has no shell.
pub(crate) fn not_run(path: &str, error: HostError) -> HostError {
    if error.code == Code::ExecFailed {
        let text = format!("{path:?}: the sandbox's image must have `sh` for file operations: {}", error.message);
        return HostError { code: Code::FileError, message: text, ..error };
    }
    error
}

/// Checks a path and takes off what would make it ambiguous: slashes at its end.
pub(crate) fn check(path: &str) -> Result<&str, HostError> {
    names::check_path(path).map_err(|error| error::permanent(Code::InvalidRequest, error.to_string()))?;
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/" } else { trimmed })
}

/// As [`check`], for paths that are replaced or removed: the root folder cannot be.
pub(crate) fn check_target(path: &str) -> Result<&str, HostError> {
    let checked = check(path)?;
    let last = checked.rsplit('/').next().unwrap_or_default();
    if matches!(last, "" | "." | "..") {
        let text = format!("{path:?} does not name a file or folder to change");
        return Err(error::permanent(Code::InvalidRequest, text));
    }
    Ok(checked)
}
