//! A real `/nix`, on any machine: scripts that run in a mount namespace of their own, on a root of their own, where the root of
//! a test's store stands at `/nix`. The machine itself needs no `/nix`, and nothing mounted in there outlives the script.

use std::process::Command;

use super::machine::TestStore;

/// How mounts spread from the root of such a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// To nowhere, as in containers.
    Private,
    /// To namespaces that are made from it, as under systemd.
    Shared,
}

/// Makes a root out of a tmpfs and the machine's folders, moves there, and leaves nothing of the way behind.
const MOVE: &str = r#"new=$(mktemp -d "$ROOT-root-XXXXXX")
mount -t tmpfs -o mode=755 none "$new"
cd "$new"
for entry in /*; do
    name=${entry#/}
    if test -L "$entry"; then cp -P "$entry" "$name"
    elif test -d "$entry" && test "$name" != nix; then mkdir "$name"; mount --rbind "$entry" "$name"; fi
done
mkdir nix .old
mount --rbind "$ROOT/nix" nix
PATH=$PATH:/usr/sbin:/sbin pivot_root . .old
umount -l /.old; rmdir /.old
umount -l "$new"; rmdir "$new"
# What other tests have mounted is theirs to unmount.
grep -e ' - overlay nix-cache:' /proc/self/mountinfo | cut -d ' ' -f 5 | grep -v -e "^$ROOT/" -e '^/nix/' |
    while read -r point; do umount -l "$point"; done
cd /nix
nix_cache() { "$NIX_CACHE" "$@"; }
"#;

/// `sh` with a script, where the root of `store` stands at `/nix` with all that is mounted in it. `nix_cache` is the tested program
/// there, and `$ROOT/nix` the folder by its name outside.
pub(crate) fn at_nix(store: &TestStore, root: Root, script: &str) -> Command {
    let spread = match root {
        Root::Private => "",
        Root::Shared => "mount --make-rshared /",
    };
    let mut command = store.machine.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec"]).arg(format!("{MOVE}{spread}\n{script}"));
    command.env("ROOT", &store.root).env("NIX_CACHE", env!("CARGO_BIN_EXE_nix-cache"));
    command.env_remove("NIX_CACHE_REMOTE").env_remove("RUNNER_ENVIRONMENT");
    command
}
