//! Finds the files that the Nix code of a repository may read, from the paths in its source. Nothing is evaluated: everything that
//! looks like a path counts as one, so that the answer errs on the side of yes.

use std::collections::BTreeSet;

/// Words behind `self.` that are something other than the flake's own outputs: its source, and what changes with each commit.
const OF_SOURCE: [&str; 12] = [
    "outPath",
    "sourceInfo",
    "narHash",
    "rev",
    "shortRev",
    "dirtyRev",
    "dirtyShortRev",
    "revCount",
    "lastModified",
    "lastModifiedDate",
    "submodules",
    "inputs.self",
];

/// What Nix code reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Files and folders that are named; the empty one is the whole repository.
    paths: BTreeSet<String>,
}

impl Reads {
    /// What a file of Nix code, `name` from the top of the repository, reads.
    pub fn add(&mut self, name: &str, code: &str) {
        let folder: Vec<&str> = name.split('/').collect();
        let folder = &folder[..folder.len() - 1];
        for word in code.split(|c: char| !is_of_path(c)) {
            if word.contains('/') {
                self.paths.extend(resolve(folder, word));
            }
        }
        if uses_source(code) {
            self.paths.insert(String::new());
        }
    }

    /// Whether `file` is among it.
    #[must_use]
    pub fn may_read(&self, file: &str) -> bool {
        let ends = file.match_indices('/').map(|(at, _)| at).chain([file.len()]);
        self.paths.contains("") || ends.into_iter().any(|end| self.paths.contains(&file[..end]))
    }
}

fn is_of_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '/')
}

/// Where `word` leads from `folder`, if that is in the repository.
fn resolve(folder: &[&str], word: &str) -> Option<String> {
    // What begins with a slash is joined to something before it, or leads out.
    let mut names: Vec<&str> = if word.starts_with('/') { Vec::new() } else { folder.to_vec() };
    for name in word.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    let is_path = word.starts_with('.') || !names.is_empty();
    is_path.then(|| names.join("/"))
}

/// Whether the flake's own source is used as a whole, or what tells one commit from another.
fn uses_source(code: &str) -> bool {
    code.match_indices("self").any(|(at, word)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '\'');
        if before.ends_with(is_word) || after.starts_with(is_word) {
            return false;
        }
        if let Some(rest) = after.strip_prefix('.') {
            let starts = |name: &&str| rest.strip_prefix(*name).is_some_and(|behind| !behind.starts_with(is_word));
            return OF_SOURCE.iter().any(starts);
        }
        let before = before.trim_end().trim_end_matches("inputs.").trim_end();
        !is_only_named(before, after.trim_start())
    })
}

/// Whether a flake between these two texts is only handed on by its name: as a formal parameter of a function, by `inherit`, or by
/// `self = self`. Everything else may read its source: as an argument, in a list, in a string, behind `=`.
fn is_only_named(before: &str, after: &str) -> bool {
    let is_formal = before.ends_with(['{', ',']) && !before.ends_with("${") && after.starts_with([',', '}', '?']);
    let is_lambda = after.starts_with(':') || after.starts_with('@') || before.ends_with('@');
    let is_name = after.starts_with('=') && !after.starts_with("==");
    let statement = before.rsplit([';', '{', '}']).next().unwrap_or_default();
    let is_inherited = statement.split_whitespace().next() == Some("inherit");
    is_formal || is_lambda || is_name || is_inherited || is_handed_on(before, after)
}

/// Whether this is the second one of `self = self;`.
fn is_handed_on(before: &str, after: &str) -> bool {
    let name = before.trim_end_matches('=').trim_end();
    before.ends_with('=') && !before.ends_with("==") && name.ends_with("self") && after.starts_with(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(file: &str, code: &str, asked: &str) -> bool {
        let mut reads = Reads::default();
        reads.add(file, code);
        reads.may_read(asked)
    }

    #[test]
    fn paths_lead_to_files_and_folders() {
        for (file, code, asked, expected) in [
            ("flake.nix", "src = ./.;", "README.md", true),
            ("flake.nix", "src = ./docs;", "docs/a/b.md", true),
            ("flake.nix", "src = ./docs;", "README.md", false),
            ("flake.nix", "imports = [ ./hosts ./modules/a.nix ];", "docs/x.md", false),
            ("flake.nix", "builtins.readFile ./README.md", "README.md", true),
            ("nix/a.nix", "src = ../.;", "README.md", true),
            ("nix/a.nix", "src = ./..;", "README.md", true),
            ("nix/a.nix", "src = ./.;", "README.md", false),
            ("nix/a.nix", "src = ./.;", "nix/README.md", true),
            ("nix/a.nix", "x = ../docs/a.md;", "docs/a.md", true),
            ("nix/a.nix", "x = ../../outside;", "docs/a.md", false),
            ("flake.nix", "x = docs/a.md;", "docs/a.md", true),
            ("flake.nix", "root + \"/docs\"", "docs/a.md", true),
            ("flake.nix", "x = ./hosts + \"/${name}\";", "hosts/desk/README.md", true),
            ("flake.nix", "url = \"github:NixOS/nixpkgs\"; a = b / c;", "docs/a.md", false),
            ("flake.nix", "u = \"https://example.org/x\";", "README.md", false),
            ("flake.nix", "docs = ./docs-of;", "docs/a.md", false),
        ] {
            assert_eq!(reads(file, code, asked), expected, "{file}: {code} and {asked}");
        }
    }

    #[test]
    fn the_flake_itself_is_a_path_where_it_is_used_as_one() {
        for code in [
            "src = self;",
            "src = inputs.self;",
            "x = \"${self}/docs\";",
            "x = \"${inputs.self}\";",
            "x = self + \"/docs\";",
            "x = self.outPath;",
            "system.configurationRevision = self.rev or null;",
            "version = self.shortRev or self.dirtyShortRev;",
            "date = inputs.self.lastModifiedDate;",
            "x = import self { };",
            "f (self)",
            "src = lib.cleanSource self;",
            "f self",
            "f inputs.self",
            "f self x",
            "[ self ]",
            "builtins.path { path = self; name = \"x\"; }",
            "lib.fileset.toSource { root = self; fileset = self; }",
            "src = lib.cleanSourceWith { src = self; filter = f; };",
            "import ./x.nix self",
            "pkgs.runCommand \"x\" { } \"cp -r ${ self } $out\"",
            "{ src ? self }: src",
            "with self; outPath",
            "self ? rev",
            "x = if self == null then 1 else 2;",
        ] {
            assert!(reads("flake.nix", code, "README.md"), "{code}");
        }
        for code in [
            "outputs = { self, nixpkgs }: { };",
            "outputs = inputs@{ self, ... }: { };",
            "specialArgs = { inherit inputs self; };",
            "self.packages.x86_64-linux.a",
            "self.nixosModules.default inputs.self.overlays.default",
            "{ self', pkgs, ... }: self'.packages",
            "overlay = final: prev: { myself = 1; self-made = 2; };",
            "specialArgs = { self = self; };",
            "self.revolution",
            "outputs = { self }: { };",
            "outputs = { nixpkgs, self, ... }@inputs: { };",
            "outputs = { self ? null, nixpkgs }: { };",
            "overlay = self: super: { };",
            "{ inherit (inputs) self nixpkgs; }",
            "args = { inherit self; };",
        ] {
            assert!(!reads("flake.nix", code, "README.md"), "{code}");
        }
    }

    #[test]
    fn this_repository_reads_its_own_test_flake() {
        let code = include_str!("../../tests/workflows/flake/flake.nix");
        assert!(
            reads("flake/flake.nix", code, "flake/tools/README.md") && !reads("flake/flake.nix", code, "README.md")
        );
    }
}
