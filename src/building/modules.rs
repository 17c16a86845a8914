//! Where in the project the error of a module is: of NixOS, home-manager or flake-parts. Nix names only the library that throws; the text
//! of the error names the option and the files that define it.

use std::path::Path;

use super::position::{Position, Project};

/// The place that an error of a module is about. None if it is not such an error, or if no file of the project defines the option.
pub(super) fn position(project: &Project, text: &str) -> Option<Position> {
    let start = text.rfind("error:").unwrap_or(0);
    let text = &text[start..];
    let option = between(text, "ption `", "'")?;
    let files: Vec<&str> = files(text).collect();
    let own: Vec<_> = files.iter().filter_map(|file| project.file(file)).collect();
    let in_one = own.iter().find_map(|file| of_option(project, file, option));
    // The option may be made by a function; the file is still the place to look.
    in_one.or_else(|| project.line_with(own.first()?, ""))
}

/// The files that an error names: ``In `FILE':``, ``defined in `FILE'``, ``declared in `FILE'``.
fn files(text: &str) -> impl Iterator<Item = &str> {
    let is_of_file = |before: &str| ["In ", "in ", "and "].iter().any(|word| before.ends_with(word));
    let starts = text.match_indices("`/").filter(move |(at, _)| is_of_file(&text[..*at]));
    starts.filter_map(|(at, _)| text[at + 1..].split_once('\'').map(|(path, _)| path))
}

/// The line that defines an option: by as much of the end of its name as stands in one line.
fn of_option(project: &Project, file: &Path, option: &str) -> Option<Position> {
    let names: Vec<&str> = option.split('.').collect();
    (0..names.len()).find_map(|first| {
        let text = names[first..].join(".");
        project.line_that(file, |line| defines(line, &text))
    })
}

/// Whether a line gives `name` a value, or opens a set of that name.
fn defines(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], line[at + name.len()..].trim_start_matches('"').trim_start());
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '\'');
        !before.trim_start().starts_with('#')
            && !before.ends_with(is_name)
            && (after.starts_with('=') && !after.starts_with("==") || after.starts_with('.'))
    })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors as lib/modules.nix of Nixpkgs words them, with traces as Nix 2.34 and 2.8 print them.
    const UNKNOWN: &str = "error:\n       … while calling the 'seq' builtin\n         at /nix/store/a4wf74piifb6cpmkyisrzjcac62dvf9q-source/lib/modules.nix:359:18:\n\n       \
        error: The option `services.nginx.enabel' does not exist. Definition values:\n       - In `/nix/store/gix6yzh67bvzyrdqbyr03j9alz5frlx3-source/hosts/desk.nix': true";

    fn project() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().to_owned();
        for (file, text) in [
            (
                "hosts/desk.nix",
                "{ lib, ... }:\n{\n  # services.nginx.enabel = 1;\n  services.nginx.enabel = true;\n  networking.hostName = 1;\n}\n",
            ),
            ("hosts/nested.nix", "{\n  services = {\n    nginx = {\n      enabel = true;\n    };\n  };\n}\n"),
            ("lib/modules.nix", "1\n"),
        ] {
            std::fs::create_dir_all(workspace.join(file).parent().unwrap()).unwrap();
            std::fs::write(workspace.join(file), text).unwrap();
        }
        (folder, Project { flake: workspace.clone(), workspace })
    }

    fn at(text: &str) -> Option<(String, u32)> {
        let (_folder, project) = project();
        position(&project, text).map(|position| (position.file, position.line))
    }

    #[test]
    fn the_file_that_defines_an_option_comes_first_and_its_line_by_name() {
        let desk = |line| Some(("hosts/desk.nix".to_owned(), line));
        assert_eq!(at(UNKNOWN), desk(4));
        assert_eq!(at(&UNKNOWN.replace("desk.nix", "nested.nix")), Some(("hosts/nested.nix".to_owned(), 4)));
        let typed = "error: A definition for option `networking.hostName' is not of type `string'. Definition values:\n       - In `/nix/store/x-source/hosts/desk.nix': 1";
        assert_eq!(at(typed), desk(5));
        let conflict = "error: The option `networking.hostName' has conflicting definition values:\n       - In `/nix/store/y-source/elsewhere.nix': \"a\"\n       - In `/nix/store/x-source/hosts/desk.nix': 1\n       Use `lib.mkForce value' or `lib.mkDefault value' to change the priority on any of these definitions.";
        assert_eq!(at(conflict), desk(5));
        let older = "error: The option `environment.x' defined in `/nix/store/x-source/hosts/desk.nix' does not exist.";
        assert_eq!(at(older), desk(1), "the file, where no line has the name");
        assert_eq!(at("error: The option `a.b' is used but not defined."), None);
        assert_eq!(at("error: attribute 'x' missing"), None);
    }
}
