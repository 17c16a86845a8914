//! The two verbs of a level, against a directory.

mod bombs;
mod caches;
mod faults;
mod git;
mod hostile;
mod trees;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{FilesLevel, FilesOutcome, FilesRestored, FilesSaved, PATHS, Roots, restore, save};
use crate::base::note::Code;
use crate::remote::DirectoryRemote;
use crate::series::Hit;
use crate::series::sign::Keyring;

/// A machine: a home folder, a workspace in it, and somewhere else.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for folder in [machine.home(), machine.workspace(), machine.elsewhere()] {
            fs::create_dir_all(folder).unwrap();
        }
        machine
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home/me")
    }

    fn workspace(&self) -> PathBuf {
        self.home().join("work/project")
    }

    fn elsewhere(&self) -> PathBuf {
        self.folder.path().join("elsewhere")
    }

    fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// Writes files, each under its path from the home folder.
    fn write(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.home().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.home().join(path)).ok()
    }

    fn level(&self, key: &str, patterns: &[&str]) -> FilesLevel {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        let roots = Roots::user(&self.workspace(), Some(&self.home()), &patterns).unwrap();
        FilesLevel { name: PATHS, key: key.to_owned(), prefixes: Vec::new(), roots, level: 3, keys: Keyring::default() }
    }
}

/// A remote, and the folder that it is in.
struct Place {
    folder: TempDir,
    remote: DirectoryRemote,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let remote = DirectoryRemote::open(folder.path()).unwrap();
        Self { folder, remote }
    }

    fn entries(&self) -> Vec<PathBuf> {
        let mut entries: Vec<_> =
            fs::read_dir(self.folder.path().join("files")).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries
    }

    async fn save(&self, machine: &Machine, level: &FilesLevel, digest: Option<&str>) -> FilesSaved {
        save(&self.remote, level, digest, &machine.scratch()).await
    }

    async fn restore(&self, machine: &Machine, level: &FilesLevel) -> FilesRestored {
        restore(&self.remote, level, &machine.scratch()).await
    }
}

fn codes(notes: &[super::Note]) -> Vec<Code> {
    notes.iter().map(|note| note.code).collect()
}

/// Everything in a folder, links not followed.
fn names(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name();
    entries.into_iter().map(|entry| entry.unwrap().path().strip_prefix(folder).unwrap().display().to_string()).collect()
}

#[tokio::test]
async fn files_come_back_on_a_machine_with_another_home() {
    let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
    one.write(&[
        (".npm/a/b", "b"),
        (".npm/tmp/x", "x"),
        ("work/project/node_modules/m/index.js", "m"),
        ("work/project/a.txt", "a"),
        ("work/project/sub/b.txt", "b"),
        (".ssh/id", "secret"),
    ]);
    let patterns = ["~/.npm", "node_modules/", "*.txt", "!~/.npm/tmp"];
    let saved = place.save(&one, &one.level("k", &patterns), None).await;
    assert_eq!((saved.outcome, saved.files, saved.bytes, saved.entries), (FilesOutcome::Saved, 3, 3, 1));
    assert_eq!(saved.uploaded, fs::metadata(&place.entries()[0]).unwrap().len());
    let restored = place.restore(&two, &two.level("k", &patterns)).await;
    assert_eq!((restored.hit, restored.files, restored.bytes), (Hit::Exact, 3, 3));
    assert_eq!((restored.matched.as_deref(), restored.downloaded), (Some("k"), saved.uploaded));
    assert_eq!(restored.notes, []);
    assert_eq!(two.read(".npm/a/b").as_deref(), Some("b"));
    assert_eq!(two.read("work/project/node_modules/m/index.js").as_deref(), Some("m"));
    assert_eq!(two.read("work/project/a.txt").as_deref(), Some("a"));
    for path in [".npm/tmp/x", "work/project/sub/b.txt", ".ssh/id"] {
        assert_eq!(two.read(path), None, "{path}");
    }
    let again = place.save(&two, &two.level("k", &patterns), restored.digest.as_deref()).await;
    assert_eq!((again.outcome, again.files, again.uploaded), (FilesOutcome::Unchanged, 3, 0));
    assert_eq!(place.entries().len(), 1);
}

#[tokio::test]
async fn a_new_generation_is_written_only_for_new_content() {
    let (place, machine) = (Place::new(), Machine::new());
    let level = machine.level("k", &["~/c"]);
    let empty = place.save(&machine, &level, None).await;
    assert_eq!((empty.outcome, codes(&empty.notes)), (FilesOutcome::Nothing, vec![Code::FilesUnmatched]));
    machine.write(&[("c/a", "1")]);
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Saved);
    // The digest is not known, but the cache has the content.
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Unchanged);
    machine.write(&[("c/a", "2")]);
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Saved);
    assert_eq!(place.entries().len(), 2);
    machine.write(&[("c/a", "x")]);
    assert_eq!(place.restore(&machine, &level).await.files, 1);
    assert_eq!(machine.read("c/a").as_deref(), Some("2"));
    // Changes of the mode count, changes of the time do not.
    fs::write(machine.home().join("c/a"), "2").unwrap();
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Unchanged);
    fs::set_permissions(machine.home().join("c/a"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Saved);
}

#[tokio::test]
async fn prefixes_are_tried_from_near_to_far() {
    let (place, machine) = (Place::new(), Machine::new());
    for key in ["a-b-1", "a-c-1"] {
        machine.write(&[("c/key", key)]);
        assert_eq!(place.save(&machine, &machine.level(key, &["~/c"]), None).await.outcome, FilesOutcome::Saved);
    }
    let find = async |key: &str, prefixes: &[&str]| {
        let mut level = machine.level(key, &["~/c"]);
        level.prefixes = prefixes.iter().map(|text| (*text).to_owned()).collect();
        let restored = place.restore(&machine, &level).await;
        (restored.hit, restored.matched)
    };
    assert_eq!(find("a-b-1", &["a-"]).await, (Hit::Exact, Some("a-b-1".to_owned())));
    assert_eq!(find("a-b-2", &["a-b-", "a-"]).await, (Hit::Partial, Some("a-b-1".to_owned())));
    assert_eq!(find("a-d-1", &["a-d-", "a-"]).await, (Hit::Partial, Some("a-c-1".to_owned())));
    assert_eq!(find("a-b-", &["b"]).await, (Hit::Miss, None));
    let mut other = machine.level("a-b-1", &["~/c"]);
    other.name = super::EVAL_CACHE;
    assert_eq!(place.restore(&machine, &other).await.hit, Hit::Miss, "levels do not meet");
}

#[tokio::test]
async fn two_saves_at_once_both_win() {
    let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
    one.write(&[("c/a", "1")]);
    two.write(&[("c/a", "2")]);
    let (first, second) = (one.level("k", &["~/c"]), two.level("k", &["~/c"]));
    let (a, b) = tokio::join!(place.save(&one, &first, None), place.save(&two, &second, None));
    assert_eq!((a.outcome, b.outcome), (FilesOutcome::Saved, FilesOutcome::Saved));
    assert_eq!(place.entries().len(), 2);
    // The same content is stored once.
    let place = Place::new();
    two.write(&[("c/a", "1")]);
    let (a, b) = tokio::join!(place.save(&one, &first, None), place.save(&two, &second, None));
    assert_eq!((a.entries + b.entries, place.entries().len()), (1, 1));
    assert!(matches!(
        (a.outcome, b.outcome),
        (FilesOutcome::Saved, FilesOutcome::Unchanged) | (FilesOutcome::Unchanged, FilesOutcome::Saved)
    ));
}

#[tokio::test]
async fn files_of_the_job_stay_unless_replaced_whole() {
    let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
    one.write(&[("c/a", "new"), ("c/blocked", "new"), ("c/dir/x", "new")]);
    assert_eq!(place.save(&one, &one.level("k", &["~/c"]), None).await.outcome, FilesOutcome::Saved);
    two.write(&[("c/a", "old and longer"), ("c/b", "kept"), ("c/blocked/y", "kept"), ("c/dir/z", "kept")]);
    let restored = place.restore(&two, &two.level("k", &["~/c"])).await;
    assert_eq!((restored.hit, restored.files), (Hit::Exact, 2));
    assert_eq!((codes(&restored.notes), restored.digest), (vec![Code::FilesNotPlaced], None));
    assert!(restored.notes[0].message.contains("c/blocked"), "{}", restored.notes[0].message);
    let kept = ["c", "c/a", "c/b", "c/blocked", "c/blocked/y", "c/dir", "c/dir/x", "c/dir/z"];
    assert_eq!(names(&two.home()).into_iter().filter(|name| !name.starts_with("work")).collect::<Vec<_>>(), kept);
    assert_eq!(two.read("c/a").as_deref(), Some("new"));
    assert_eq!(names(&two.scratch()), [""; 0]);
}

#[tokio::test]
async fn nothing_is_asked_of_a_level_without_patterns() {
    let (place, machine) = (Place::new(), Machine::new());
    let level = machine.level("k", &["", " "]);
    assert_eq!(place.save(&machine, &level, None).await.outcome, FilesOutcome::Nothing);
    assert_eq!(place.restore(&machine, &level).await.hit, Hit::Miss);
    assert!(!machine.scratch().exists());
}
