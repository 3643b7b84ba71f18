# Kills every process with the marker $1 in its environment, everything in their sessions and in session $2, until none
# is left. Only what the shell itself has is used: a sandbox may have no other program, and no room for further processes.
mark="PLIMSOLL_EXEC=$1"
sessions=" $2 "
round=0
while [ "$round" -lt 500 ]; do
  round=$((round + 1))
  found=
  for dir in /proc/[0-9]*; do
    line=
    { IFS= read -r line < "$dir/stat"; } 2>/dev/null
    rest=${line##*) }
    set -- $rest
    state=$1 session=$4
    case $state in ''|Z|X) continue ;; esac
    hit=
    case $sessions in *" $session "*) [ "$session" -gt 1 ] && hit=1 ;; esac
    if [ -z "$hit" ]; then
      { while IFS= read -r entry || [ -n "$entry" ]; do
        case $entry in *"$mark"*) hit=1; break ;; esac
      done < "$dir/environ"; } 2>/dev/null
    fi
    [ -n "$hit" ] || continue
    case $sessions in *" $session "*) ;; *) sessions="$sessions$session " ;; esac
    kill -9 "${dir#/proc/}" 2>/dev/null && found=1
  done
  [ -n "$found" ] || exit 0
done
exit 1
