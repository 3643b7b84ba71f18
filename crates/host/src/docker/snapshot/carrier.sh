# Makes $2 the same as $1, which cannot be written to. Runs as root in a container that has no network and whose image is the
# sandbox's own, so only what busybox and coreutils, findutils and awk have in common is used, and names may contain anything.
#
# What $2 holds already comes from an older snapshot; files whose content, owner, mode and time are the same are left alone, so that only
# what changed becomes part of the new layer. Whenever anything is unclear everything is copied anew.
#
# $3 is a file that may not be in a snapshot. Exit code 10: done, but an older layer holds that file.
# $4 is where a list of what no image holds goes: the extended attributes that users set.
src=$1 dst=$2 hidden=$3 kept=$4
export src dst

attributes() {
  chown -- "$(stat -c %u:%g -- "$src")" "$dst" && chmod -- "$(stat -c %a -- "$src")" "$dst" && touch -r "$src" -- "$dst"
}

whole() {
  rm -rf -- "$dst" && mkdir -- "$dst" && cp -a -- "$src/." "$dst/" && attributes
}

# What is not in the source any more, or is another kind of thing there, and what is inside it before itself.
gone() {
  (cd -- "$dst" && find . -mindepth 1 -depth -print0 | xargs -0 -n 200 sh -c '
    for f; do
      shift
      if [ -L "$f" ]; then [ -L "$src/$f" ]
      elif [ -d "$f" ]; then [ -d "$src/$f" ] && [ ! -L "$src/$f" ]
      else [ -e "$src/$f" ] && [ ! -L "$src/$f" ] && [ ! -d "$src/$f" ]
      fi || set -- "$@" "$f"
    done
    [ $# -eq 0 ] || rm -rf -- "$@"' sh)
}

# New folders with all in them, so that their files are copied at once.
folders() {
  (cd -- "$src" && find . -mindepth 1 -type d -print0 | xargs -0 -n 200 sh -c '
    for f; do [ -d "$dst/$f" ] || cp -a -- "$f" "$dst/$f" || exit 1; done' sh)
}

# What there is of these kinds with one name: a hundred at a time are compared, and looked at one by one only if they differ. $1 is what
# must be the same, as `stat` writes it.
files() {
  same=$1; shift; export same
  (cd -- "$src" && find . ! -type d ! \( -type f -links +1 \) "$@" -print0 | xargs -0 -n 100 sh -c '
    seen() {
      stat -c "$same" -- "$@" || return
      for f; do shift; if [ -f "$f" ] && [ ! -L "$f" ]; then set -- "$@" "$f"; fi; done
      [ $# -eq 0 ] || sha256sum -- "$@"
    }
    differ() {
      a=$(seen "$@") || exit 1
      b=$(cd -- "$dst" && seen "$@" 2>/dev/null) && [ "$a" = "$b" ] && return 1
      return 0
    }
    # xargs runs this once even where there is nothing of the kind.
    [ $# -gt 0 ] && differ "$@" || exit 0
    for f; do
      if differ "$f"; then rm -rf -- "$dst/$f" && cp -a -- "$f" "$dst/$f" || exit 1; fi
    done' sh)
}

# Files with several names must have the same names in common, and the same content.
links() {
  list=/dev/shm/plimsoll-links
  (cd -- "$src" && find . -type f -links +1 -print0) > "$list" || return 1
  [ -s "$list" ] || return 0
  look() {
    xargs -0 -n 100 stat -c '%i %h %f %u %g %s %Y' -- < "$list" |
      awk '{ if (!($1 in m)) m[$1] = n++; $1 = m[$1]; print }' && xargs -0 -n 100 sha256sum -- < "$list"
  }
  a=$(cd -- "$src" && look) && b=$(cd -- "$dst" && look 2>/dev/null) && [ "$a" = "$b" ]
}

# Folders last: what is done in them changes their times.
attribute_folders() {
  (cd -- "$src" && find . -depth -type d -print0 | xargs -0 -n 200 sh -c '
    seen() { stat -c "%f %u %g %Y" -- "$@"; }
    a=$(seen "$@") && b=$(cd -- "$dst" && seen "$@") || exit 1
    [ "$a" != "$b" ] || exit 0
    for f; do
      a=$(seen "$f") && b=$(seen "$dst/$f") || exit 1
      [ "$a" = "$b" ] || { chown -- "$(stat -c %u:%g -- "$f")" "$dst/$f" && chmod -- "$(stat -c %a -- "$f")" "$dst/$f" &&
        touch -r "$f" -- "$dst/$f"; } || exit 1
    done' sh)
}

changes() {
  [ -d "$dst" ] && [ ! -L "$dst" ] && [ -n "$(find "$dst" -mindepth 1 -maxdepth 1 2>/dev/null | head -n 1)" ] &&
    [ -n "$(command -v xargs)" ] && [ -n "$(command -v sha256sum)" ] && [ -n "$(command -v awk)" ] &&
    gone && folders && links &&
    # The time of a symbolic link cannot be set with these tools.
    files "%f %u %g %N" -type l && files "%f %u %g %h %s %Y %N" ! -type l && attribute_folders
}

# As far as the image has the tool, and the file system has any.
extended() {
  rm -f -- "$kept" || return 1
  [ -n "$(command -v getfattr)" ] || return 0
  (cd -- "$src" && getfattr -R -P -h -d -e base64 -m '^user\.' .) > "$kept"
  [ -s "$kept" ] || rm -f -- "$kept"
}

# Where the disk is full nothing can be logged either: whether that is why is tried, and said by the exit code, 28 as in ENOSPC.
failed() {
  dd if=/dev/zero of="$kept" bs=65536 count=16 2>/dev/null && code=1 || code=28
  rm -f -- "$kept"
  exit "$code"
}

changes || whole || failed
extended || failed
if [ -f "$hidden" ] && [ ! -L "$hidden" ]; then rm -f -- "$hidden" && exit 10; exit 1; fi
exit 0
