//! Entries that someone made by hand, and links that lie in the way.

use std::os::unix::fs::symlink;

use bytes::Bytes;
use tar::EntryType;

use super::super::header::{Content, FORMAT, Header};
use super::*;
use crate::base::digest::Sha;
use crate::base::note::Code;
use crate::remote::{Kind, Put, Remote};

/// A member: kind, name, target and content.
type Raw<'a> = (EntryType, &'a str, &'a str, &'a [u8]);

/// Stores an archive of these members with a header that is right.
async fn store(place: &Place, members: &[Raw<'_>]) {
    store_in(place, PATHS, members).await;
}

async fn store_in(place: &Place, level: &str, members: &[Raw<'_>]) {
    let mut tar = tar::Builder::new(Vec::new());
    let (mut files, mut bytes) = (0, 0);
    for (kind, name, target, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4777);
        header.set_size(content.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
        if matches!(kind, EntryType::Regular | EntryType::Symlink) {
            (files, bytes) = (files + 1, bytes + content.len() as u64);
        }
    }
    store_level(place, level, &tar.into_inner().unwrap(), files, bytes).await;
}

pub(super) async fn store_body(place: &Place, tar: &[u8], files: u64, bytes: u64) {
    store_level(place, PATHS, tar, files, bytes).await;
}

async fn store_level(place: &Place, level: &str, tar: &[u8], files: u64, bytes: u64) {
    let body = zstd::encode_all(tar, 3).unwrap();
    let header = Header {
        facts: Content { digest: Sha([1; 32]), files, bytes, created: 0 },
        size: body.len() as u64,
        digest: Sha::of(&body),
    };
    let entry = Bytes::from([header.encode(FORMAT, "", &Keyring::default()).as_slice(), &body].concat());
    let number = place.entries().len() + 1;
    let name = format!("files/{level}/k#g{number}");
    assert_eq!(place.remote.put_bytes(Kind::Files, &name, entry).await.unwrap(), Put::Stored);
}

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;

#[tokio::test]
async fn an_archive_that_asks_for_more_is_refused_whole() {
    let right: Raw<'_> = (FILE, "home/c/right", "", b"right");
    let long = vec![b'a'; 70_000];
    let evil: &[&[Raw<'_>]] = &[
        &[(FILE, "home/c/../../x", "", b"x")],
        &[(FILE, "home/../x", "", b"x")],
        &[(FILE, "/etc/x", "", b"x")],
        &[(FILE, "../x", "", b"x")],
        &[(FILE, "x", "", b"x")],
        &[(FILE, "home", "", b"x")],
        &[(EntryType::Directory, "home/c/..", "", b"")],
        &[(EntryType::Char, "home/c/device", "", b"")],
        &[(EntryType::Block, "home/c/device", "", b"")],
        &[(EntryType::Fifo, "home/c/fifo", "", b"")],
        &[(EntryType::Link, "home/c/hard", "/etc/passwd", b"")],
        &[(EntryType::GNUSparse, "home/c/sparse", "", b"")],
        &[(EntryType::XGlobalHeader, "home/c/global", "", b"")],
        &[(LINK, "home/c/link", "", b"")],
        &[(LINK, "home/c/link", "/etc", b""), (FILE, "home/c/link/x", "", b"x")],
        &[(LINK, "home/c/link", "/etc", b""), (EntryType::Directory, "home/c/link", "", b"")],
        &[(LINK, "home/c/link", "/etc/x", b""), (FILE, "home/c/link", "", b"x")],
        &[(EntryType::GNULongName, "", "", b"home/c/../../../x"), (FILE, "home/c/y", "", b"x")],
        &[(EntryType::GNULongName, "", "", &long), (FILE, "home/c/y", "", b"x")],
    ];
    for members in evil {
        let (place, machine) = (Place::new(), Machine::new());
        let before = names(machine.folder.path());
        store(&place, &[&[right], *members].concat()).await;
        let restored = place.restore(&machine, &machine.level("k", &["~/c"])).await;
        assert_eq!(codes(&restored.notes), [Code::FilesRefused], "{members:?}");
        assert_eq!((restored.hit, restored.digest), (Hit::Miss, None), "{members:?}");
        fs::remove_dir_all(machine.scratch()).unwrap();
        assert_eq!(names(machine.folder.path()), before, "{members:?}");
    }
}

#[tokio::test]
async fn a_header_that_lies_about_the_content_is_refused() {
    for (files, bytes) in [(2, 1), (1, 2)] {
        let (place, machine) = (Place::new(), Machine::new());
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        tar.append_data(&mut header, "home/c/a", b"x".as_slice()).unwrap();
        let tar = tar.into_inner().unwrap();
        store_body(&place, &tar, files, bytes).await;
        let restored = place.restore(&machine, &machine.level("k", &["~/c"])).await;
        assert_eq!(codes(&restored.notes), [Code::FilesRefused]);
        store_body(&place, &tar, 1, 1).await;
        assert_eq!(place.restore(&machine, &machine.level("k", &["~/c"])).await.hit, Hit::Exact);
    }
    // An archive that ends in the middle of a file.
    let (place, machine) = (Place::new(), Machine::new());
    store_body(&place, b"home/c", 1, 1).await;
    assert_eq!(codes(&place.restore(&machine, &machine.level("k", &["~/c"])).await.notes), [Code::FilesRefused]);
}

#[tokio::test]
async fn members_outside_of_the_roots_are_left_out() {
    let (place, machine) = (Place::new(), Machine::new());
    let target = machine.elsewhere().join("x");
    let absolute = format!("root{}", target.display());
    store(
        &place,
        &[
            (FILE, "home/c/a", "", b"a"),
            (FILE, "home/.bashrc", "", b"evil"),
            (FILE, "home/c/private/key", "", b"evil"),
            (FILE, "workspace/x", "", b"evil"),
            (FILE, "nix-cache/x", "", b"evil"),
            (FILE, &absolute, "", b"evil"),
        ],
    )
    .await;
    let restored = place.restore(&machine, &machine.level("k", &["~/c", "!~/c/private"])).await;
    assert_eq!((restored.hit, restored.files, restored.bytes), (Hit::Exact, 1, 1));
    assert_eq!((codes(&restored.notes), restored.digest), (vec![Code::FilesOutside], None));
    assert!(restored.notes[0].message.contains("home/.bashrc") && restored.notes[0].message.contains("4 more"));
    assert_eq!(names(&machine.home()), ["c", "c/a", "work", "work/project"]);
    assert_eq!(names(&machine.elsewhere()), [""; 0]);
    // Modes are cut to what concerns reading, writing and executing.
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(machine.home().join("c/a")).unwrap());
    assert_eq!(mode & 0o7777, 0o777);
}

#[tokio::test]
async fn links_in_the_way_are_not_followed() {
    for (link, pattern) in [("c", "~/c"), ("c/b", "~/c"), ("work/project/c", "c/d")] {
        let (place, machine) = (Place::new(), Machine::new());
        let (file, around) = if pattern == "c/d" { ("workspace/c/d/x", "work/project") } else { ("home/c/b/x", "c") };
        store(&place, &[(FILE, file, "", b"evil")]).await;
        if link != "c" {
            fs::create_dir_all(machine.home().join(around)).unwrap();
        }
        symlink(machine.elsewhere(), machine.home().join(link)).unwrap();
        let restored = place.restore(&machine, &machine.level("k", &[pattern])).await;
        assert_eq!((restored.files, codes(&restored.notes)), (0, vec![Code::FilesNotPlaced]), "{link}");
        assert_eq!(names(&machine.elsewhere()), [""; 0], "{link}");
        // Nor are they on the way to what is saved.
        fs::create_dir_all(machine.elsewhere().join("d")).unwrap();
        fs::write(machine.elsewhere().join("d/secret"), "secret").unwrap();
        let saved = place.save(&machine, &machine.level("other", &[pattern]), None).await;
        assert!(saved.bytes == 0, "{link}: {saved:?}");
    }
}

#[tokio::test]
async fn a_link_is_replaced_and_not_written_through() {
    let (place, machine) = (Place::new(), Machine::new());
    store(&place, &[(FILE, "home/c/a", "", b"new"), (LINK, "home/c/b", "/somewhere", b"")]).await;
    let outside = machine.elsewhere().join("x");
    fs::write(&outside, "old").unwrap();
    fs::create_dir(machine.home().join("c")).unwrap();
    symlink(&outside, machine.home().join("c/a")).unwrap();
    symlink(&outside, machine.home().join("c/b")).unwrap();
    let restored = place.restore(&machine, &machine.level("k", &["~/c"])).await;
    assert_eq!((restored.hit, restored.files, restored.notes.len()), (Hit::Exact, 2, 0));
    assert_eq!(fs::read_to_string(&outside).unwrap(), "old");
    assert_eq!(fs::read_to_string(machine.home().join("c/a")).unwrap(), "new");
    assert_eq!(fs::read_link(machine.home().join("c/b")).unwrap(), Path::new("/somewhere"));
}

#[tokio::test]
async fn a_home_behind_a_link_and_a_named_place_behind_one_are_used() {
    let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
    one.write(&[(".cache/x/a", "a")]);
    assert_eq!(place.save(&one, &one.level("k", &["~/.cache/x"]), None).await.outcome, FilesOutcome::Saved);
    // What a pattern of the user's own goes through on the way to a place in the home folder is the user's to decide.
    symlink(two.elsewhere(), two.home().join(".cache")).unwrap();
    let restored = place.restore(&two, &two.level("k", &["~/.cache/x"])).await;
    assert_eq!((restored.files, restored.notes.len()), (1, 0));
    assert_eq!(names(&two.elsewhere()), ["x", "x/a"]);
    let link = two.folder.path().join("link");
    symlink(two.home(), &link).unwrap();
    let roots = Roots::user(&link.join("work/project"), Some(&link), &["~/.cache/x".to_owned()]).unwrap();
    let level = FilesLevel { roots, ..two.level("k", &[]) };
    assert_eq!(place.save(&two, &level, restored.digest.as_deref()).await.outcome, FilesOutcome::Unchanged);
}

#[tokio::test]
async fn nothing_that_git_runs_comes_with_nix_s_caches() {
    let head: Raw<'_> = (FILE, "nix-cache/gitv3/abc/HEAD", "", b"ref: refs/heads/main\n");
    let evil: &[&[Raw<'_>]] = &[
        &[(FILE, "nix-cache/gitv3/abc/config", "", b"[core]\n\tfsmonitor = touch evil\n")],
        &[(FILE, "nix-cache/gitv3/abc/hooks/post-checkout", "", b"touch evil")],
        &[(FILE, "nix-cache/gitv3/abc/info/attributes", "", b"* filter=evil")],
        &[(FILE, "nix-cache/gitv3/abc/objects/info/alternates", "", b"/home/me/secret")],
        &[(FILE, "nix-cache/gitv3/abc/commondir", "", b"/tmp/evil")],
        &[(FILE, "nix-cache/gitv3/abc/refs/heads/x", "", b"ref: ../../x\n")],
        &[(FILE, "nix-cache/gitv3/abc/packed-refs", "", b"evil\n")],
        &[(LINK, "nix-cache/gitv3/abc/refs", "/tmp", b"")],
        &[(LINK, "nix-cache/gitv3/abc/objects", "/tmp", b"")],
        &[(LINK, "nix-cache/gitv3/other", "/tmp", b"")],
        &[(FILE, "nix-cache/gitv3/other/shallow", "", b"")],
        &[(FILE, "nix-cache/tarball-cache/config", "", b"[include]\n\tpath = /tmp/x\n")],
        &[(FILE, "nix-cache/eval-cache-v6/a.sqlite-wal", "", b"x")],
        &[(FILE, "home/.cache/nix/gitv3/abc/config", "", b"[core]\n\tfsmonitor = touch evil\n")],
    ];
    for members in evil {
        let (place, machine) = (Place::new(), Machine::new());
        store_in(&place, super::super::EVAL_CACHE, &[&[head], *members].concat()).await;
        let folder = machine.home().join(".cache/nix");
        let level =
            FilesLevel { name: super::super::EVAL_CACHE, roots: Roots::nix_caches(&folder), ..machine.level("k", &[]) };
        let restored = place.restore(&machine, &level).await;
        assert_eq!((restored.hit, codes(&restored.notes)), (Hit::Miss, vec![Code::FilesRefused]), "{members:?}");
        assert!(!folder.exists(), "{members:?}");
    }
}
