//! Tests of [`super`]: what is asked of Nix. Builds are in `tests/integration/build/`.

use super::*;

pub(super) fn request() -> Request {
    Request {
        targets: Vec::new(),
        derivations: BTreeMap::new(),
        flake: ".".to_owned(),
        nix_args: Vec::new(),
        jobs: Limit::Auto,
        cores: Limit::Auto,
        keep_going: true,
        dry_run: false,
        retry: Retry::default(),
        timeout: None,
        derivation_timeout: None,
        silent_timeout: None,
        store_root: None,
        out_link: None,
        folder: std::env::temp_dir(),
        workspace: std::env::temp_dir(),
        state: None,
        artifacts: None,
        checks: Vec::new(),
    }
}

#[test]
fn targets_are_attributes_of_the_flake_unless_they_name_another() {
    let targets = ["a", ".#b.c", "packages.x86_64-linux.\"d.e\"", "nixpkgs#f", "path:/g#h", "./i", "/nix/store/j"];
    let request = Request { targets: targets.map(str::to_owned).to_vec(), flake: "./sub".into(), ..request() };
    assert_eq!(
        request.installables(),
        [
            "./sub#a",
            "./sub#b.c",
            "./sub#packages.x86_64-linux.\"d.e\"",
            "nixpkgs#f",
            "path:/g#h",
            "./i",
            "/nix/store/j"
        ]
    );
}

#[test]
fn names_with_marks_that_addresses_have_are_encoded() {
    let targets = ["packages.s.\"a#b\"", "packages.s.\"50%\"", "packages.s.\"a^b\"", "hello^out", "x#\"a#b\""];
    let request = Request { targets: targets.map(str::to_owned).to_vec(), ..request() };
    let expected =
        [".#packages.s.\"a%23b\"", ".#packages.s.\"50%25\"", ".#packages.s.\"a%5Eb\"", ".#hello^out", "x#\"a#b\""];
    assert_eq!(request.installables(), expected);
}

#[test]
fn a_flake_has_a_folder_where_it_is_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let of =
        |flake: &str| Request { flake: flake.into(), folder: folder.path().to_owned(), ..request() }.flake_folder();
    let sub = Some(folder.path().join("sub"));
    assert_eq!((of("."), of("./sub"), of("path:sub?x=y")), (Some(folder.path().to_owned()), sub.clone(), sub));
    assert_eq!((of("github:a/b"), of("none")), (None, None));
}
