# shellcheck shell=bash
# What build, compile and run share: where the machine is kept, how it is named, how to work in its tree.
# Not part of the recipe's hash, so nothing here may change what build makes.

# Where a user who is not root does not look for chroot, mke2fs and the like
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this
project=$(cd "$here/../.." && pwd)
cache=${SCANOUTD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/scanoutd}

say() { echo "machine: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# The recipe is build and image/; its hash names the cache.
recipe_hash() {
  (cd "$here" && sha256sum build image/* | sha256sum | cut -c1-12)
}
machine=$cache/machine-$(recipe_hash)

# Enough privilege to own a Debian tree: root has it, others get a range of ids of their own (subuid, subgid).
if [ "$(id -u)" = 0 ]; then
  private=(unshare --mount)
else
  # shellcheck disable=SC2034
  private=(unshare --mount --user --map-root-user --map-auto)
fi

# in_tree TREE COMMAND...: runs in a chroot with its own /proc and the host's /dev, seen by nobody else.
in_tree() {
  # shellcheck disable=SC2016
  "${private[@]}" sh -c '
    mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"' "$@"
}

# Held while the machine's files are in use; also the time of the last use.
hold_machine() {
  touch "$machine/in-use"
  exec 8<"$machine/in-use"
  flock --shared 8
}

# Clones at different commits may take turns, so a machine of another recipe goes when nobody used it for a day.
remove_old_machines() {
  local old
  for old in "$cache"/machine-*/in-use; do
    old=${old%/in-use}
    if [ "$old" = "$machine" ] || [ -z "$(find "$old/in-use" -mmin +1440)" ]; then continue; fi
    flock --nonblock "$old/in-use" rm -rf --one-file-system "$old" || true
  done
}
