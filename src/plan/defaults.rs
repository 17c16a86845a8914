//! The rules of a repository that has none of its own: for when nothing can be evaluated. Even a text that no Nix code names may
//! be read, by a formatter's check that gets the whole flake as its source from a module of an input; so checks are touched by
//! everything, and where derivations are known these rules decide nothing.

use super::Output;
use super::reads::Reads;
use super::rules::{Effect, Rules};

/// Files that no build but a check reads, as a rule: texts for people, and settings of programs that are not Nix. Everything else
/// touches all targets.
const TEXTS: [&str; 14] = [
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
    for glob in TEXTS {
        if let Err(error) = rules.add(glob, Effect::Perhaps(vec![Output::Checks.name().to_owned()])) {
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
    use super::super::{AttrPath, Target};
    use super::*;

    fn touches(file: &str, code: &str) -> bool {
        let mut reads = Reads::default();
        reads.add("flake.nix", code);
        let files = [file.to_owned()];
        let targets =
            ["checks.s.treefmt", "packages.s.a"].map(|attr| Target::of(AttrPath::parse(attr).unwrap()).unwrap());
        let touched = defaults(&files, &reads).touched(&files, &targets);
        assert!(touched.why(&targets[0].attr).is_some(), "checks may read anything");
        touched.why(&targets[1].attr).is_some()
    }

    #[test]
    fn texts_for_people_touch_only_checks_and_all_else_everything() {
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
