//! Other actions that cache a Nix store or decide what to build, and what becomes of each of their inputs here. `docs/migrate.md` is
//! written from this table.

/// One action, or the actions of one repository.
pub(crate) struct Peer {
    /// The repository, and the folders of its actions that are meant.
    pub repository: &'static str,
    /// The date and version of which these inputs are.
    pub version: &'static str,
    /// What to do with its steps, as sentences.
    pub advice: &'static str,
    /// Its inputs, and what becomes of each.
    pub inputs: &'static [(&'static str, &'static str)],
    /// Whether its steps are about Nix only if their inputs say so.
    pub is_general: bool,
}

const NOT_NEEDED: &str = "not needed";
const DETERMINATE_SOURCE: &str = "not needed: the binary comes with the action; `binary` names another one";

/// Every action that is known, in the order of the documentation.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        repository: "actions/cache",
        version: "v5, April 2026",
        advice: "Replace the step with `uses: blazedots/nix-cache-action@v1`, without inputs at first. What it cached beside the Nix store \
                 goes into `path`. Put the step after the one that installs Nix. A key of `hashFiles('flake.lock')` freezes the cache until the lock \
                 changes; here every job adds what is new.",
        inputs: &[
            (
                "path",
                "leave out `/nix` and `~/.cache/nix`, which are cached anyway; `path` for other files and folders",
            ),
            (
                "key",
                "leave it out: the key is computed from the meaning of flake.lock. `key` is supported for a fixed one",
            ),
            ("restore-keys", "leave it out with `key`; supported under the same name"),
            ("upload-chunk-size", NOT_NEEDED),
            ("enableCrossOsArchive", "not needed: every system has a key of its own"),
            ("fail-on-cache-miss", "`fail-on-cache-miss`"),
            ("lookup-only", "`lookup-only`"),
            ("save-always", "not needed: jobs that fail save too; `save: on-success` for the opposite"),
        ],
        is_general: true,
    },
    Peer {
        repository: "nix-community/cache-nix-action",
        version: "v7, April 2026",
        advice: "Replace the step with `uses: blazedots/nix-cache-action@v1` (`/restore` and `/save` with `blazedots/nix-cache-action/restore@v1` \
                 and `/save@v1`). The old entries are not read; they are evicted after seven days.",
        inputs: &[
            ("primary-key", "leave it out: the key is computed; `primary-key` is supported for a fixed one"),
            ("restore-prefixes-first-match", "leave it out with `primary-key`; supported under the same name"),
            (
                "restore-prefixes-all-matches",
                "no equivalent: jobs under one key share one snapshot, so there is nothing to merge",
            ),
            ("lookup-only", "`lookup-only`"),
            ("fail-on", "`fail-on`, with the same values"),
            ("nix", "no equivalent: the Nix store is always cached"),
            ("save", "`save`: `true` and `false` mean `auto` and `never`"),
            ("paths", "`paths`; leave out `/nix`"),
            ("paths-macos", "`paths`, in a job for macOS"),
            ("paths-linux", "`paths`, in a job for Linux"),
            ("backend", "no equivalent: the runner says which service it has"),
            ("gc-max-store-size", "`max-size` limits the snapshot; nothing is deleted from the store itself"),
            ("gc-max-store-size-macos", "`max-size`, in a job for macOS"),
            ("gc-max-store-size-linux", "`max-size`, in a job for Linux"),
            ("purge", "not needed: unused paths are dropped with later saves (`keep-saves`)"),
            ("purge-primary-key", NOT_NEEDED),
            ("purge-prefixes", NOT_NEEDED),
            ("purge-last-accessed", NOT_NEEDED),
            ("purge-created", NOT_NEEDED),
            ("upload-chunk-size", NOT_NEEDED),
            ("token", "`token`"),
        ],
        is_general: false,
    },
    Peer {
        repository: "DeterminateSystems/magic-nix-cache-action",
        version: "May 2026",
        advice: "Replace the step with `uses: blazedots/nix-cache-action@v1`. It starts no daemon and makes two entries per save instead of \
                 two per store path.",
        inputs: &[
            ("use-gha-cache", "not needed: GitHub's cache is the default"),
            ("listen", "not needed: nothing listens"),
            ("upstream-cache", "`include: not-upstream` leaves out what any configured substituter offers"),
            ("diagnostic-endpoint", "not needed: nothing is sent"),
            ("use-flakehub", "no equivalent: keep FlakeHub as a substituter in nix.conf"),
            ("flakehub-cache-server", "as `use-flakehub`"),
            ("flakehub-api-server", "as `use-flakehub`"),
            ("flakehub-flake-name", "as `use-flakehub`"),
            ("startup-notification-port", "not needed: nothing listens"),
            ("diff-store", "not needed: new paths are always found by comparing the store's database"),
            ("source-binary", "`binary`"),
            ("source-branch", DETERMINATE_SOURCE),
            ("source-pr", DETERMINATE_SOURCE),
            ("source-revision", DETERMINATE_SOURCE),
            ("source-tag", DETERMINATE_SOURCE),
            ("source-url", DETERMINATE_SOURCE),
            ("_internal-strict-mode", "`fail-on`, for a stricter policy"),
        ],
        is_general: false,
    },
    Peer {
        repository: "DeterminateSystems/flakehub-cache-action",
        version: "June 2026",
        advice: "Keep it if machines outside CI use FlakeHub Cache too. For CI alone, replace the step with \
                 `uses: blazedots/nix-cache-action@v1`, and remove `id-token: write` if nothing else needs it.",
        inputs: &[
            ("use-gha-cache", "not needed: GitHub's cache is the default"),
            ("flakehub-flake-name", "no equivalent: FlakeHub stays a substituter in nix.conf"),
            ("flakehub-cache-server", "as `flakehub-flake-name`"),
            ("flakehub-api-server", "as `flakehub-flake-name`"),
            ("diff-store", "not needed: new paths are always found by comparing the store's database"),
            ("startup-notification-port", "not needed: nothing listens"),
            ("listen", "not needed: nothing listens"),
            ("upstream-cache", "`include: not-upstream`"),
            ("diagnostic-endpoint", "not needed: nothing is sent"),
            ("source-binary", "`binary`"),
            ("source-branch", DETERMINATE_SOURCE),
            ("source-pr", DETERMINATE_SOURCE),
            ("source-revision", DETERMINATE_SOURCE),
            ("source-tag", DETERMINATE_SOURCE),
            ("source-url", DETERMINATE_SOURCE),
            ("source-checksums-url", DETERMINATE_SOURCE),
            ("source-checksums-sha256", DETERMINATE_SOURCE),
            ("_internal-strict-mode", "`fail-on`, for a stricter policy"),
        ],
        is_general: false,
    },
    Peer {
        repository: "DeterminateSystems/flake-checker-action",
        version: "June 2026",
        advice: "Replace the step with `uses: blazedots/nix-cache-action/audit@v1` and a table `[audit.lock]` in nix-cache.toml (docs/audit.md). \
                 It checks all inputs, not only nixpkgs, and sends nothing.",
        inputs: &[
            ("flake-lock-path", "`flake`: the folder of the flake"),
            ("condition", "`max-age-days`, `owners` and `supported-refs` in `[audit.lock]`, which say the same"),
            ("check-outdated", "the same in `[audit.lock]`"),
            ("check-owner", "the same in `[audit.lock]`"),
            ("check-supported", "the same in `[audit.lock]`"),
            ("ignore-missing-flake-lock", "a flake without a lock has no findings about it"),
            ("nixpkgs-keys", "the same in `[audit.lock]`"),
            ("fail-mode", "the same in `[audit.lock]`"),
            ("send-statistics", "not needed: nothing is sent"),
            ("source-binary", "`binary`"),
            ("_internal-strict-mode", NOT_NEEDED),
        ],
        is_general: false,
    },
    Peer {
        repository: "Mic92/hestia",
        version: "v3.0.1, August 2026",
        advice: "Replace the step with `uses: blazedots/nix-cache-action@v1`, and `Mic92/hestia/matrix` with \
                 `blazedots/nix-cache-action/plan@v1` (docs/plan.md). The job that prunes hestia's entries is not needed any more.",
        inputs: &[
            ("binary", "`binary`"),
            ("version", "not needed: the binary comes with the action"),
            ("github-token", "`github-token`"),
            ("listen", "not needed: nothing listens"),
            ("socket", "not needed: nothing listens"),
            ("drain-timeout", "`save-timeout`"),
            (
                "upstream-cache-filter",
                "`include: not-upstream`, which asks the substituters instead of comparing key names",
            ),
            ("upstream-cache-key-names", "as `upstream-cache-filter`"),
            (
                "no-closure",
                "no equivalent: a path is saved with its closure; `include: not-upstream` leaves out what substituters have",
            ),
            ("wait-manifest-version", "not needed: a snapshot is found from the newest back"),
            ("flake", "of `plan`: `flake` for the folder, `include` for the attribute, such as `include: checks`"),
            ("nix-eval-jobs", "not needed: used if it is on PATH"),
            ("runner-map", "`runner-map`, as JSON"),
            ("attr-prefix", "not needed: the matrix has whole attributes"),
            ("skip-unmapped-systems", "not needed: systems that `runner-map` lacks are left out and reported"),
        ],
        is_general: false,
    },
    Peer {
        repository: "cachix/cachix-action",
        version: "April 2026",
        advice: "Keep the step if machines outside CI use this cache, and put `blazedots/nix-cache-action@v1` after it: paths come from the layers \
                 first and from Cachix only if they are in none. With a cache for CI alone, replace the step.",
        inputs: &[
            ("name", "for pulling only: `extra-substituters = https://NAME.cachix.org` and its public key in nix.conf"),
            ("extraPullNames", "as `name`"),
            ("authToken", "not needed without Cachix: the job's own token is enough"),
            ("signingKey", "`signing-key`: signs snapshots"),
            ("skipPush", "`save: never`"),
            ("useDaemon", NOT_NEEDED),
            ("pathsToPush", "not needed: what is new in the store is saved"),
            ("pushFilter", "no equivalent by name; `include: not-upstream` leaves out what substituters have"),
            ("skipAddingSubstituter", NOT_NEEDED),
            ("cachixArgs", "`compression-level`"),
            ("cachixBin", NOT_NEEDED),
            ("installCommand", NOT_NEEDED),
        ],
        is_general: false,
    },
    Peer {
        repository: "SwornSystems/nix-cache-action",
        version: "v1.5.0, August 2026",
        advice: "Replace the step with `uses: blazedots/nix-cache-action@v1`.",
        inputs: &[
            ("key", "leave it out: the key is computed; `key` is supported for a fixed one"),
            ("restore-keys", "leave it out with `key`; supported under the same name"),
        ],
        is_general: false,
    },
    Peer {
        repository: "DeterminateSystems/ci",
        version: "2026",
        advice: "A reusable workflow, as `.github/workflows/nix-ci.yml` of this action is: replace the job that calls it with the job of the \
                 workflow that `init` writes.",
        inputs: &[
            ("runner-map", "`runner-map`, as JSON from systems to runners"),
            ("fail-fast", "no equivalent: the other jobs go on, and the result of all is one job"),
        ],
        is_general: false,
    },
];

/// Returns the action or reusable workflow that `uses` names, such as `Mic92/hestia/matrix`.
pub(crate) fn peer(uses: &str) -> Option<&'static Peer> {
    let old_name = uses.strip_prefix("DuskSystems/").map(|rest| format!("SwornSystems/{rest}"));
    let uses = old_name.as_deref().unwrap_or(uses);
    let is_in = |repository: &str| {
        let rest = uses.get(repository.len()..);
        uses.get(..repository.len()).is_some_and(|start| start.eq_ignore_ascii_case(repository))
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PEERS.iter().find(|peer| is_in(peer.repository))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    /// The part of `docs/migrate.md` that is written from the table.
    fn documented() -> String {
        let mut text = String::new();
        for peer in PEERS {
            let _ = write!(
                text,
                "## {} ({})\n\n{}\n\n| input | here |\n|---|---|\n",
                peer.repository, peer.version, peer.advice
            );
            for (theirs, ours) in peer.inputs {
                let _ = writeln!(text, "| `{theirs}` | {ours} |");
            }
            text.push('\n');
        }
        text
    }

    #[test]
    fn the_documentation_has_every_action_and_input() {
        const START: &str = "<!-- actions -->\n";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrate.md");
        let there = std::fs::read_to_string(&file).unwrap();
        let (before, _) = there.split_once(START).expect("docs/migrate.md has the mark");
        let wanted = format!("{before}{START}\n{}", documented().trim_end().to_owned() + "\n");
        if std::env::var_os("NIX_CACHE_TEST_RENEW").is_some() {
            std::fs::write(&file, &wanted).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted, "renew it with NIX_CACHE_TEST_RENEW=1");
    }

    #[test]
    fn our_inputs_are_those_of_our_actions() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = ["action.yml", "plan/action.yml", "audit/action.yml", ".github/workflows/nix-ci.yml"];
        let all: String = files.map(|file| std::fs::read_to_string(root.join(file)).unwrap()).concat();
        for (theirs, ours) in PEERS.iter().flat_map(|peer| peer.inputs) {
            // The first name in code is the input that replaces theirs, unless the sentence is about something else.
            let Some(name) = ours.strip_prefix('`').and_then(|rest| rest.split(['`', ':']).next()) else { continue };
            let is_elsewhere = name.starts_with('/') || ["extra-substituters", "max-age-days"].contains(&name);
            assert!(is_elsewhere || all.contains(&format!("  {name}:\n")), "{theirs}: {name} is not an input of ours");
        }
    }

    #[test]
    fn actions_are_known_by_repository_and_not_by_the_start_of_a_name() {
        for (uses, known) in [
            ("Mic92/hestia", true),
            ("mic92/Hestia/matrix", true),
            ("Mic92/hestia-other", false),
            ("actions/cache/restore", true),
            ("actions/cached", false),
            ("DuskSystems/nix-cache-action", true),
            ("DeterminateSystems/ci/.github/workflows/workflow.yml", true),
            ("", false),
            ("\u{e4}", false),
        ] {
            assert_eq!(peer(uses).is_some(), known, "{uses}");
        }
    }
}
