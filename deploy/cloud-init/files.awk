# Prints the content of one of write_files in a cloud-config: awk -v path=/etc/x -f files.awk host.yaml
$1 == "-" && $2 == "path:" { found = ($3 == path); inside = 0; next }
found && $1 == "content:" { inside = 1; next }
# The block ends where the indentation does.
inside && NF && substr($0, 1, 6) != "      " { exit }
inside { print substr($0, 7) }
