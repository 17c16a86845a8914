use super::*;

const GITHUB: &str = r#""type": "github", "owner": "NixOS", "repo": "nixpkgs""#;

/// A lock file with one input, and one that this has.
fn lock(locked: &str, original: &str, inner: &str) -> LockInputs {
    let inner_edge = if inner.is_empty() { "" } else { r#""inputs": {"deep": "deep"}, "# };
    let text = format!(
        r#"{{"version": 7, "root": "root", "nodes": {{"root": {{"inputs": {{"nixpkgs": "nixpkgs"}}}},
        "nixpkgs": {{{inner_edge}"locked": {{{locked}}}, "original": {{{original}}}}}{inner}}}}}"#
    );
    LockInputs::parse(Path::new("flake.lock"), text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn github(more: &str) -> LockInputs {
    lock(&format!(r#"{GITHUB}, "narHash": "sha256-x", "lastModified": 1{more}"#), GITHUB, "")
}

fn tarball(url: &str) -> LockInputs {
    let locked = format!(r#""type": "tarball", "narHash": "sha256-x", "url": "{url}""#);
    lock(&locked, r#""type": "tarball", "url": "https://channels.nixos.org/x.tar.xz""#, "")
}

#[test]
fn an_update_moves_no_input() {
    let old = github(r#", "rev": "1""#);
    assert_eq!(compare(&old, &github(r#", "rev": "2", "revCount": 7"#)), Ok(()));
    let elsewhere = |new: LockInputs| compare(&old, &new).unwrap_err();
    assert!(elsewhere(github(r#", "rev": "2", "host": "evil.example""#)).contains("another place than before"));
    assert!(elsewhere(github(r#", "rev": "2", "dir": "x""#)).contains("another place"));
    let other = |owner: &str| GITHUB.replace("NixOS", owner);
    let locked = |owner: &str| format!(r#"{}, "narHash": "sha256-x", "lastModified": 1, "rev": "2""#, other(owner));
    assert!(elsewhere(lock(&locked("evil"), GITHUB, "")).contains("github:evil/nixpkgs"));
    assert!(elsewhere(lock(&locked("evil"), &other("evil"), "")).contains("another place"));
    assert!(elsewhere(lock(&locked("NixOS"), &other("evil"), "")).contains("asks for something else"));
    assert!(
        elsewhere(lock(r#""type": "path", "path": "/etc", "narHash": "sha256-x""#, GITHUB, ""))
            .contains("another place")
    );
}

#[test]
fn new_inputs_of_an_input_are_what_it_asks_for() {
    let old = github(r#", "rev": "1""#);
    let new = |locked: &str, original: &str| {
        let inner = format!(r#", "deep": {{"locked": {{{locked}}}, "original": {{{original}}}}}"#);
        let whole = format!(r#"{GITHUB}, "narHash": "sha256-x", "lastModified": 1, "rev": "2""#);
        compare(&old, &lock(&whole, GITHUB, &inner))
    };
    let rev = r#", "rev": "3", "narHash": "sha256-y", "lastModified": 2"#;
    assert_eq!(new(&format!("{GITHUB}{rev}"), &format!(r#"{GITHUB}, "ref": "main""#)), Ok(()));
    let evil = GITHUB.replace("NixOS", "evil");
    assert!(new(&format!("{evil}{rev}"), GITHUB).unwrap_err().contains("its flake asks for"));
    assert!(new(&format!("{GITHUB}{rev}"), r#""type": "indirect", "id": "nixpkgs""#).is_err());
    let path = r#""type": "path", "path": "/etc""#;
    assert!(new(&format!(r#"{path}, "narHash": "sha256-y""#), path).is_err());
}

#[test]
fn archives_of_releases_change_their_address_and_no_others() {
    let both = |one: &str, other: &str| compare(&tarball(one), &tarball(other)).is_ok();
    let nixos = "https://releases.nixos.org/nixos/unstable/nixos-26.11pre1.abc/nixexprs.tar.xz";
    assert!(both(nixos, "https://releases.nixos.org/nixos/unstable/nixos-26.11pre2.def/nixexprs.tar.xz"));
    assert!(!both(nixos, "https://evil.example/nixos/unstable/nixexprs.tar.xz"));
    assert!(!both(nixos, "http://releases.nixos.org/nixos/unstable/nixexprs.tar.xz"));
    assert!(!both(nixos, "https://releases.nixos.org@evil.example/x"));
    let hub = "https://api.flakehub.com/f/pinned/NixOS/nixpkgs/0.1.1/a/source.tar.gz";
    assert!(both(hub, "https://api.flakehub.com/f/pinned/NixOS/nixpkgs/0.1.2/b/source.tar.gz"));
    assert!(!both(hub, "https://api.flakehub.com/f/pinned/evil/nixpkgs/0.1.2/b/source.tar.gz"));
    let archive = |owner: &str| format!("https://github.com/{owner}/nixpkgs/archive/1.tar.gz");
    assert!(both(&archive("NixOS"), &archive("NixOS")));
    assert!(!both(&archive("NixOS"), &archive("evil")));
}

#[test]
fn only_who_may_write_here_and_is_trusted_is_followed() {
    let pull = PullRequest {
        number: 7,
        is_open: true,
        author: "renovate[bot]".into(),
        commit: "c".repeat(40),
        from: "o/R".into(),
        repository: "O/r".into(),
        base: "main".into(),
        default_branch: "main".into(),
    };
    let authors = ["Renovate[bot]".to_owned()];
    assert_eq!(who(&pull, &authors), Ok(()));
    let says = |pull: PullRequest| who(&pull, &authors).unwrap_err();
    assert!(says(PullRequest { author: "renovate".into(), ..pull.clone() }).contains("`trusted-authors`"));
    assert!(says(PullRequest { from: "fork/r".into(), ..pull.clone() }).contains("another repository"));
    assert!(says(PullRequest { from: String::new(), ..pull.clone() }).contains("another repository"));
    assert!(says(PullRequest { is_open: false, ..pull.clone() }).contains("not open"));
    assert!(says(PullRequest { base: "next".into(), ..pull.clone() }).contains("for the branch next"));
    assert!(who(&pull, &[]).is_err());
}
