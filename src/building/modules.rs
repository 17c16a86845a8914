//! Where in the project the error of a module is: of NixOS, home-manager or flake-parts. Nix names only the library that throws; the text
//! of the error names the option and the files that define it.

use std::path::{Path, PathBuf};

use super::position::{Position, Project};

/// The place that an error of a module is about. None if it is not such an error, or if no file of the project defines the option.
pub(super) fn position(project: &Project, text: &str) -> Option<Position> {
    let start = text.rfind("error:").unwrap_or(0);
    let text = &text[start..];
    let option = between(text, "ption `", "'")?;
    let files: Vec<&str> = files(text).collect();
    let own: Vec<_> = files.iter().filter_map(|file| of_module(project, file)).collect();
    let in_one = own.iter().find_map(|file| of_option(project, file, option));
    // The option may be made by a function; the file is still the place to look.
    in_one.or_else(|| project.line_with(own.first()?, ""))
}

/// The file of the project that a module is in: the one named, or the `default.nix` of that folder.
fn of_module(project: &Project, file: &str) -> Option<PathBuf> {
    project.file(file).or_else(|| project.file(&format!("{file}/default.nix")))
}

/// The files that an error names: ``In `FILE':``, ``defined in `FILE'``, ``declared in `FILE'``, ``In `FILE, via option NAME':``.
fn files(text: &str) -> impl Iterator<Item = &str> {
    let is_of_file = |before: &str| ["In ", "in ", "and "].iter().any(|word| before.ends_with(word));
    let starts = text.match_indices("`/").filter(move |(at, _)| is_of_file(&text[..*at]));
    let named = starts.filter_map(|(at, _)| text[at + 1..].split_once('\'').map(|(named, _)| named));
    named.map(|named| named.split_once(", via option ").map_or(named, |(file, _)| file))
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

    use std::fs;

    /// What people have reported; `testdata/captured/modules.txt`.
    const REPORTED: &str = include_str!("testdata/captured/modules.txt");

    /// A project that has the files which the reports name.
    fn project() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().to_owned();
        for (file, text) in [
            ("modules/_example/defaults.nix", "{\n  # den.default = 1;\n  den.default = {\n    home = { };\n  };\n}\n"),
            ("flake-module.nix", "{\n  easy-hosts.hosts.test1.class = \"linux\";\n}\n"),
            ("nixos/common/nix.nix", "{\n  nix = {\n    optimise = {\n      automatic = true;\n    };\n  };\n}\n"),
            ("nix/nix/default.nix", "{ pkgs, ... }: {\n  nix.package = pkgs.nix;\n}\n"),
            ("modules/wsl-distro.nix", "{\n  config = {\n    system.build.installBootLoader = \"true\";\n  };\n}\n"),
            ("flake.nix", "{\n  outputs = _: {\n    options.nix-mineral.settings.system = { };\n  };\n}\n"),
        ] {
            fs::create_dir_all(workspace.join(file).parent().unwrap()).unwrap();
            fs::write(workspace.join(file), text).unwrap();
        }
        (folder, Project { flake: workspace.clone(), workspace })
    }

    fn at(project: &Project, text: &str) -> String {
        position(project, text).map_or("nowhere".to_owned(), |at| format!("{}:{}", at.file, at.line))
    }

    #[test]
    fn the_file_that_defines_an_option_comes_first_and_its_line_by_name() {
        let (_folder, project) = project();
        let cases: Vec<(&str, &str)> =
            REPORTED.split("#: at ").skip(1).map(|case| case.split_once('\n').unwrap()).collect();
        assert!(cases.len() > 5);
        for (head, text) in cases {
            assert_eq!(at(&project, text), head.split(' ').next().unwrap(), "{head}");
        }
    }

    #[test]
    fn other_errors_are_not_of_modules() {
        let (_folder, project) = project();
        assert_eq!(at(&project, "error: The option `a.b' is used but not defined."), "nowhere");
        assert_eq!(at(&project, "error: attribute 'x' missing"), "nowhere");
    }
}
