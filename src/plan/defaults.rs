//! The rules of a repository that has none of its own.

use super::reads::Reads;
use super::rules::{Effect, Rules};

/// Files that no build reads, as a rule: texts for people, and settings of programs that are not Nix. Everything else touches
/// all targets.
const NONE: [&str; 14] = [
    "**/*.{md,markdown,rst,adoc}",
    "**/{LICENSE,LICENCE,COPYING,NOTICE,AUTHORS,CODEOWNERS}",
    "{LICENSE,LICENCE,COPYING}.txt",
    "LICENSES/*.txt",
    ".github/{ISSUE_TEMPLATE,PULL_REQUEST_TEMPLATE}/**",
    ".github/{ISSUE_TEMPLATE,PULL_REQUEST_TEMPLATE}.*",
    ".github/{dependabot,FUNDING,release,labeler,stale}.{yml,yaml}",
    ".github/renovate.{json,json5}",
    "{renovate.json,renovate.json5,.renovaterc}",
    "**/{.gitignore,.gitattributes,.git-blame-ignore-revs,.mailmap}",
    "**/.editorconfig",
    "**/.envrc",
    "{.vscode,.idea,.zed}/**",
    "{.mergify.yml,.gitpod.yml,.pre-commit-config.yaml}",
];

/// The default rules for `changed` files. A file that they would leave out means all targets all the same when the flake may read
/// it, as far as `reads` can tell from its code.
#[must_use]
pub fn defaults(changed: &[String], reads: &Reads) -> Rules {
    let mut rules = Rules::from("the defaults");
    for glob in NONE {
        if let Err(error) = rules.add(glob, Effect::None) {
            // Then the files that it means touch everything.
            tracing::debug!("{error}");
        }
    }
    for file in changed.iter().filter(|file| reads.may_read(file)) {
        rules.add_read(file);
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touches(file: &str, code: &str) -> bool {
        let mut reads = Reads::default();
        reads.add("flake.nix", code);
        let files = [file.to_owned()];
        defaults(&files, &reads).touched(&files, &[]).all.is_some()
    }

    #[test]
    fn texts_for_people_touch_nothing_and_all_else_does() {
        for file in [
            "README.md",
            "hosts/desk/README.md",
            "docs/a/b.adoc",
            "LICENSE",
            "LICENSE.txt",
            "lib/COPYING",
            ".github/dependabot.yml",
            ".github/ISSUE_TEMPLATE/bug.yml",
            ".github/PULL_REQUEST_TEMPLATE.md",
            "renovate.json",
            ".gitignore",
            "a/.gitattributes",
            ".editorconfig",
            ".envrc",
            ".vscode/settings.json",
        ] {
            assert!(!touches(file, ""), "{file}");
        }
        for file in [
            "flake.nix",
            "flake.lock",
            "nix-cache.toml",
            ".github/workflows/ci.yml",
            "docs/default.nix",
            "docs/conf.py",
            "motd.txt",
            "modules/LICENSE.nix",
            "src/README.md.in",
            "secrets.yaml",
            ".sops.yaml",
            "config.toml",
            "scripts/x.sh",
        ] {
            assert!(touches(file, ""), "{file}");
        }
    }

    #[test]
    fn what_the_flake_reads_touches_everything() {
        assert!(touches("README.md", "src = ./.;") && touches("docs/a.md", "x = ./docs;"));
        assert!(touches("a <b>/[c].md", "src = self;") && !touches("a <b>/[c].md", ""));
    }
}
