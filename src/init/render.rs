//! The text of the files.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Survey;
use crate::base::printing;
use crate::plan::Output;

/// Systems whose machines GitHub has and for which this action has a binary.
const SYSTEMS: [&str; 2] = ["x86_64-linux", "aarch64-linux"];

/// The workflow, which calls the reusable one.
pub(super) fn workflow(survey: &Survey) -> String {
    let mut text = format!(
        "# Written by `nix-cache init`. Builds what a change of the flake affects, and starts each job with the Nix store of the last one.\n\
         # Every input: https://github.com/blazedots/nix-cache-action/blob/v1/docs/workflow.md\n\
         name: nix\n\
         on:\n  push:\n    branches: [{branch}] # what jobs of this branch save, all pull requests can restore\n  pull_request:\n  merge_group:\n\
         permissions: {{}}\n\
         jobs:\n  nix:\n    permissions:\n      contents: read # the checkout\n      actions: read # lets the summary say how full the cache is\n    \
         uses: blazedots/nix-cache-action/.github/workflows/nix-ci.yml@v1\n    with:\n",
        branch = scalar(&survey.branch),
    );
    // Writing to a String cannot fail.
    if !survey.folder.is_empty() {
        let _ = writeln!(text, "      flake: {} # the folder of the flake", scalar(&survey.folder));
    }
    text.push_str(&targets(survey));
    text.push_str(
        "      checks: false # true: formatter, statix, deadnix and `nix flake check` as a job of their own\n      \
         audit: false # true: lock file and packages against [audit] in nix-cache.toml\n",
    );
    text
}

/// What the flake has, as comments, and the patterns that leave out what cannot be built here.
fn targets(survey: &Survey) -> String {
    let mut text = String::new();
    let targets = match &survey.targets {
        Ok(targets) if targets.is_empty() => {
            return "      # The flake had no targets (packages, checks, devShells, nixosConfigurations, ...) when this was written.\n".to_owned();
        }
        Ok(targets) => targets,
        Err(_) => return "      # What the flake has is not known here, because it could not be evaluated. Every target is considered.\n".to_owned(),
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for target in targets {
        let names = target.attr.names();
        let group = if target.output.is_by_system() { names[..2].join(".") } else { names[0].clone() };
        *counts.entry(group).or_default() += 1;
    }
    text.push_str("      # The flake has:\n");
    for (group, count) in &counts {
        let group = in_comment(group);
        let _ = writeln!(text, "      #   {group}: {count} {}", if *count == 1 { "target" } else { "targets" });
    }
    if targets.iter().any(|target| target.output == Output::DevShells) {
        text.push_str("      # exclude: devShells # if nobody needs the shells in the cache\n");
    }
    if counts.keys().any(|group| !is_buildable(group)) {
        text.push_str(
            "      # Systems that `runner-map` lacks are left out. For macOS, add them and give `binary` to the actions (docs/platforms.md).\n      \
             # runner-map: '{\"x86_64-linux\": \"ubuntu-latest\", \"aarch64-linux\": \"ubuntu-24.04-arm\"}'\n",
        );
    }
    text
}

/// Whether a group such as `packages.x86_64-linux` can be built on the runners of the default.
fn is_buildable(group: &str) -> bool {
    group != Output::DarwinConfigurations.name()
        && group.split_once('.').is_none_or(|(_, system)| SYSTEMS.contains(&system))
}

/// `nix-cache.toml`.
pub(super) fn rules(survey: &Survey) -> String {
    let mut text = String::from(
        "# Written by `nix-cache init`. Settings of this repository for nix-cache; every line is optional.\n\n\
         [plan]\n\
         # Which targets are considered, as patterns such as \"nixosConfigurations.*\" or \"checks.x86_64-linux\". Without these lines: all.\n\
         # include = [\"packages.x86_64-linux\", \"checks.x86_64-linux\"]\n\
         # exclude = [\"nixosConfigurations.old\"]\n\n\
         # Which files affect which targets. A file that no rule matches affects all targets, so rules only save evaluation. They are trusted:\n\
         # check them with `nix-cache plan --evaluate always` after every change.\n",
    );
    let at = |name: &str| if survey.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", survey.folder) };
    match &survey.hosts {
        Some((folder, names)) => {
            let _ = write!(
                text,
                "[plan.rules]\n\
                 # One rule for {}: a change in the folder of one affects only that one. Remove it if machines read each other's folders.\n\
                 {} = \"nixosConfigurations.<host>\"\n",
                in_comment(&listed(names)),
                toml_string(&format!("{folder}/<host>/**"))
            );
        }
        None => {
            let _ = write!(
                text,
                "# [plan.rules]\n# {} = \"nixosConfigurations.<host>\" # one rule for all machines\n",
                toml_string(&at("hosts/<host>/**"))
            );
        }
    }
    let _ = write!(
        text,
        "# {} = \"none\" # if no target reads them, not even a check of the formatting\n\n\
         # What an audit is to fail for; without this table, `nix-cache audit` warns and fails nothing.\n\
         # [audit.lock]\n# max-age-days = 60\n",
        toml_string(&at("docs/**"))
    );
    text
}

fn listed(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        [most @ .., last] if names.len() <= 6 => format!("{} and {last}", most.join(", ")),
        _ => format!("{} and {} more machines", names[..5].join(", "), names.len() - 5),
    }
}

/// `text` in TOML.
/// A text as a part of a comment: a name in a flake can contain the end of a line, and what follows would not be a comment.
fn in_comment(text: &str) -> String {
    printing::line(text)
}

fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// `text` as a value in YAML: as it is if it can only be text, otherwise quoted as JSON, which YAML reads.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let starts_with_letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts_with_letter && text.chars().all(is_plain) && !words.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    serde_json::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{AttrPath, Target};

    const HOSTILE: &str = "x\n      evil: true\r      evil: true\u{85}      evil: true\u{2028}x";

    fn survey(system: &str, host: &str) -> Survey {
        let target = Target::of(AttrPath::new(["packages", system, "a"])).unwrap();
        let hosts = vec![host.to_owned(), "b".to_owned()];
        Survey {
            folder: String::new(),
            branch: "main".to_owned(),
            targets: Ok(vec![target]),
            hosts: Some(("hosts".to_owned(), hosts)),
        }
    }

    /// Lines as YAML 1.1 and TOML see them.
    fn settings(text: &str) -> Vec<&str> {
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']);
        lines.filter(|line| !line.trim_start().starts_with('#')).collect()
    }

    #[test]
    fn a_name_in_the_flake_adds_no_line() {
        let (plain, hostile) = (survey("x86_64-linux", "a"), survey(HOSTILE, HOSTILE));
        assert_eq!(settings(&rules(&hostile)), settings(&rules(&plain)));
        assert_eq!(settings(&workflow(&hostile)), settings(&workflow(&plain)));
        assert!(workflow(&hostile).contains("evil"));
    }
}
