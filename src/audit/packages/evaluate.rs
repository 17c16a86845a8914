//! What the evaluation of a target says of all packages that it is made from.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::base::bounds::from_json;
use crate::base::child::{output_of, without_secrets};
use crate::base::env_vars;

/// The function that Nix applies to the target.
const APPLY: &str = include_str!("evaluate.nix");

/// The function where that one fails: nothing of what packages say of themselves.
const DERIVATION: &str = "target: { derivation = builtins.unsafeDiscardStringContext target.drvPath; \
    outputs = map (name: builtins.unsafeDiscardStringContext target.${name}.outPath) (target.outputs or [ \"out\" ]); packages = [ ]; }";

/// Most characters of an error of Nix that are shown.
const LONGEST: usize = 300;

/// A target, evaluated.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Evaluation {
    /// The full path of its derivation.
    pub derivation: Option<String>,
    /// The full paths of its own outputs.
    pub outputs: Vec<String>,
    /// All derivations that were reached, itself among them.
    pub packages: Vec<Evaluated>,
    /// Why none was, in a sentence.
    #[serde(skip)]
    pub note: Option<String>,
}

/// A derivation as it was evaluated.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Evaluated {
    pub outputs: Vec<String>,
    pub pname: Option<String>,
    pub version: Option<String>,
    #[serde(default)]
    pub license: Value,
    pub cpe: Option<String>,
    #[serde(default)]
    pub known: Vec<String>,
}

/// Evaluates the attribute `target` of `flake`, seen from the folder `project`. Where what a package says of itself stops the evaluation (not all
/// errors can be caught), its derivation and outputs are evaluated alone.
///
/// # Errors
/// A sentence, with what Nix says.
pub(crate) async fn evaluate(
    project: &Path,
    flake: &str,
    target: &str,
    store_root: Option<&Path>,
) -> Result<Evaluation, String> {
    let address = format!("{flake}#{}", attribute(target));
    let why = match apply(APPLY, project, &address, store_root).await {
        Ok(evaluation) => return Ok(evaluation),
        Err(why) => why,
    };
    match apply(DERIVATION, project, &address, store_root).await {
        Ok(evaluation) => {
            let note = format!("Of the packages of {target}, only their derivations are known: {why}.");
            Ok(Evaluation { note: Some(note), ..evaluation })
        }
        Err(_) => Err(format!("The target {target} is not audited: {why}.")),
    }
}

/// What `function` makes of the value at `address`.
async fn apply(function: &str, project: &Path, address: &str, store_root: Option<&Path>) -> Result<Evaluation, String> {
    let mut command = Command::new("nix");
    command.current_dir(project).stdin(Stdio::null()).env(env_vars::NO_COLOR, "1");
    command.args(["eval", "--json", "--no-write-lock-file", "--extra-experimental-features", "nix-command flakes"]);
    command.args(["--option", "eval-cache", "false", "--apply", function, address]);
    if let Some(root) = store_root {
        command.arg("--store").arg(crate::store::store_argument(root));
    }
    without_secrets(&mut command);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let output = output_of(&mut command).await.map_err(|error| format!("`nix eval` cannot be run: {error}"))?;
    if !output.status.success() {
        let said = crate::building::text::plain(&String::from_utf8_lossy(&output.stderr));
        return Err(essence(&said));
    }
    from_json(&output.stdout).map_err(|error| format!("what Nix printed cannot be read: {error}"))
}

/// The derivation behind a machine or home, as people name those.
fn attribute(target: &str) -> String {
    let suffix = match target.split_once('.') {
        Some((kind, name)) if !name.contains('.') || (name.starts_with('"') && name.ends_with('"')) => match kind {
            "nixosConfigurations" => ".config.system.build.toplevel",
            "darwinConfigurations" => ".system",
            "homeConfigurations" => ".activationPackage",
            _ => "",
        },
        _ => "",
    };
    format!("{target}{suffix}")
}

/// What of an error fits into a line: from the last `error:` on.
fn essence(said: &str) -> String {
    let start = said.rfind("error:").map_or(0, |at| at + "error:".len());
    let line = said[start..].split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned();
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_homes_are_named_as_people_name_them() {
        assert_eq!(attribute("nixosConfigurations.desk"), "nixosConfigurations.desk.config.system.build.toplevel");
        assert_eq!(
            attribute("homeConfigurations.\"me@desk.lan\""),
            "homeConfigurations.\"me@desk.lan\".activationPackage"
        );
        assert_eq!(attribute("packages.x86_64-linux.default"), "packages.x86_64-linux.default");
        assert_eq!(attribute("nixosConfigurations.desk.pkgs.hello"), "nixosConfigurations.desk.pkgs.hello");
    }
}
