//! What to do about failures for which the remedy of their category says too little.

pub(super) const INPUT: &str = "An input of the flake is not what flake.lock says. If it was meant to change, run `nix flake update` for it; if not, \
    find out why its server sends something else.";
pub(super) const REFERENCES: &str = "An output holds the name of a store path that the derivation forbids by allowedReferences, disallowedReferences or \
    their Requisites. `nix why-depends --all` shows where; remove the reference, such as by removeReferencesTo, or allow it.";
pub(super) const CYCLE: &str =
    "Two outputs of one derivation refer to each other. Move the files of one to the other, or remove the reference.";
pub(super) const PLATFORM: &str = "This machine cannot build for that system. Run the job on a runner of that system (the input `runner-map` of the plan says \
    which), configure a remote builder, or set up emulation: binfmt (such as docker/setup-qemu-action) and `extra-platforms` in nix.conf.";
pub(super) const FEATURES: &str = "This machine lacks a feature that the derivation requires. For `kvm`, use a runner with /dev/kvm that this user may open \
    (NixOS tests need it); add a feature that the machine has to `system-features` in nix.conf, or configure a remote builder that has it.";
pub(super) const EITHER: &str = "This machine is of another system than the derivation, or lacks a feature that it requires. For another system, use a runner of \
    that system (the input `runner-map` of the plan), a remote builder, or binfmt. For `kvm`, use a runner with /dev/kvm that this user may open; add a \
    feature that the machine has to `system-features` in nix.conf.";
pub(super) const REBUILD: &str = "Building again gave other files: the build depends on time, order or chance. `nix build --rebuild --keep-failed` keeps both results; \
    compare them with diffoscope. SOURCE_DATE_EPOCH, sorted lists and fixed seeds are the usual remedies.";
pub(super) const CERTIFICATE: &str = "The server's certificate is not trusted, and trying again does not change that. Check the address and its certificate; for a \
    certificate authority of your own, set `ssl-cert-file` in nix.conf or NIX_SSL_CERT_FILE.";
pub(super) const SIGNATURE: &str = "The binary cache signs with a key that Nix does not trust. Add its public key to `trusted-public-keys` in nix.conf.";
pub(super) const MISSING: &str = "No substituter has this path, and there is no derivation to build it from. Build the attribute instead of the path, or add the \
    binary cache that has it to `substituters`.";
pub(super) const RATE_LIMIT: &str = "GitHub answers only so many requests without a token. Put `access-tokens = github.com=${{ github.token }}` into nix.conf, such as by \
    the input `github_access_token` of cachix/install-nix-action.";
pub(super) const GITHUB: &str = "GitHub refused: the repository does not exist, or is private and the token may not read it. Check the address; for a private \
    repository, put a token that may read it into `access-tokens` in nix.conf.";
pub(super) const ARCHIVE: &str =
    "The server sent something that is not an archive, such as an HTML page. Check the address.";
pub(super) const DAEMON: &str =
    "The Nix daemon does not answer. Start it (such as by `systemctl start nix-daemon`), or check NIX_REMOTE.";
pub(super) const UNTRACKED: &str = "A flake sees only files that Git tracks: `git add` the file, or correct its name.";
pub(super) const KEYS: &str = "The server accepts no SSH key of this job, or its host key is not known. Give the job a deploy key (such as by webfactory/ssh-agent), \
    and put the server into ~/.ssh/known_hosts.";
pub(super) const TOKENS: &str = "The server wants to know who asks, or the repository does not exist. Check the address; for a private one, give the job a token: \
    `access-tokens` in nix.conf, `git config url.…insteadOf`, or netrc.";
pub(super) const REF: &str = "The branch, tag or commit is not in the repository any more. Correct the input's address, or run `nix flake update` for it.";
