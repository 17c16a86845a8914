//! Random trees come back as they were.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File { content: Vec<u8>, mode: u32, modified: Duration },
    Link(OsString),
}

/// Few short names, so that paths meet; and long and odd ones.
fn name() -> impl Strategy<Value = OsString> {
    prop_oneof![
        4 => "[a-c]".prop_map(OsString::from),
        1 => "[ -.0-~é]{1,20}".prop_filter("dots", |text| text != "." && text != "..").prop_map(OsString::from),
        1 => "[a-z]{90,120}".prop_map(OsString::from),
        1 => Just(OsStr::from_bytes(b"\xff\xfe*\n").to_owned()),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let content = prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => (any::<u8>(), 600_000..1_300_000_usize).prop_map(|(byte, size)| vec![byte; size]),
    ];
    let file = (content, 0..0o100_u32, 0..4_000_000_000_u64, 0..1_000_000_000_u32).prop_map(
        |(content, mode, seconds, nanoseconds)| Node::File {
            content,
            mode: mode | 0o600,
            modified: Duration::new(seconds, nanoseconds),
        },
    );
    let targets = ["x", "../..", "/etc/passwd", "./a//b/", "nowhere\n"].map(OsString::from);
    let link = prop_oneof![
        3 => proptest::sample::select(targets.to_vec()),
        1 => "[a-z/]{95,130}".prop_map(OsString::from),
    ];
    prop_oneof![1 => Just(Node::Folder), 4 => file, 1 => link.prop_map(Node::Link)]
}

fn tree() -> impl Strategy<Value = Vec<(Vec<OsString>, Node)>> {
    proptest::collection::vec((proptest::collection::vec(name(), 1..5), node()), 0..15)
}

/// Makes what of the tree can be made: a name is taken once.
fn make(base: &Path, tree: &[(Vec<OsString>, Node)]) {
    for (names, node) in tree {
        let path = base.join(names.iter().collect::<PathBuf>());
        let around = path.parent().unwrap();
        let through_link = around.ancestors().take_while(|path| *path != base).any(Path::is_symlink);
        if through_link || fs::create_dir_all(around).is_err() || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match node {
            Node::Folder => fs::create_dir(&path).unwrap(),
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::File { content, mode, modified } => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                let times = FileTimes::new().set_modified(UNIX_EPOCH + *modified);
                File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
            }
        }
    }
}

/// Paths, kinds, modes, times and contents of all that is in a folder.
fn picture(base: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let entries = walkdir::WalkDir::new(base).min_depth(1).into_iter();
    // There is no folder where nothing was put in it.
    let entries = entries.filter(|_| base.exists()).map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            let content = if metadata.is_symlink() {
                fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec()
            } else if metadata.is_file() {
                fs::read(entry.path()).unwrap()
            } else {
                Vec::new()
            };
            let facts = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), content);
            (entry.path().strip_prefix(base).unwrap().to_owned(), facts)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_comes_back_as_it_was(in_home in tree(), in_workspace in tree(), everything: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
        for folder in [one.home().join("kept"), one.workspace().join("out")] {
            fs::create_dir(folder).unwrap();
        }
        make(&one.home().join("kept"), &in_home);
        make(&one.workspace().join("out"), &in_workspace);
        let patterns: &[&str] = if everything { &["~/kept", "**"] } else { &["~/kept/**", "out"] };
        let expected = (picture(&one.home().join("kept")), picture(&one.workspace().join("out")));
        let files = expected.0.values().chain(expected.1.values()).filter(|facts| facts.0 & 0o170_000 != 0o040_000);
        let files = files.count() as u64;
        let saved = runtime.block_on(place.save(&one, &one.level("k", patterns), None));
        prop_assert_eq!(saved.files, files);
        if files == 0 {
            prop_assert_eq!(saved.outcome, FilesOutcome::Nothing);
            return Ok(());
        }
        prop_assert_eq!(saved.outcome, FilesOutcome::Saved, "{:?}", saved.notes);
        let level = two.level("k", patterns);
        let restored = runtime.block_on(place.restore(&two, &level));
        prop_assert_eq!((restored.hit, restored.files, restored.bytes), (Hit::Exact, files, saved.bytes));
        prop_assert_eq!(&restored.notes, &[]);
        let now = (picture(&two.home().join("kept")), picture(&two.workspace().join("out")));
        prop_assert_eq!(&now, &expected);
        // Once more over what is there, and the save after it has nothing to do.
        prop_assert_eq!(runtime.block_on(place.restore(&two, &level)).files, files);
        prop_assert_eq!(runtime.block_on(place.save(&two, &level, restored.digest.as_deref())).outcome, FilesOutcome::Unchanged);
        prop_assert_eq!(place.entries().len(), 1);
    }
}
