//! The ledger: restored paths and the keys that signed them. It is in our folder, and each user of a store has a separate one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::attach::CacheError;
use crate::base::clock::now;
use crate::series::sign::Keyring;
use crate::store::own::{self, LEDGER, OwnFolder};
use crate::store::{PathInfo, StoreDirs, StorePath};

const FORMAT: u32 = 1;

/// What was restored without a signature.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Ledger {
    pub format: u32,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Whether files outside the store are part of it.
    #[serde(default)]
    pub files: bool,
    /// Whether realisations of content-addressed derivations are part of it.
    #[serde(default)]
    pub realisations: bool,
    /// Keys of one name, of which one signed restored paths.
    #[serde(default)]
    pub signers: Vec<Vec<String>>,
    pub paths: BTreeMap<StorePath, Entry>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let (signers, paths) = (Vec::new(), BTreeMap::new());
        Self { format: FORMAT, since: now(), files: false, realisations: false, signers, paths }
    }

    /// Merges another ledger. Of two entries for one path, the later one counts, or the unsigned one.
    fn merge(&mut self, other: Self) {
        self.since = self.since.min(other.since);
        self.files |= other.files;
        self.realisations |= other.realisations;
        let first = self.signers.len();
        self.signers.extend(other.signers);
        for (path, entry) in other.paths {
            let entry = Entry { by: entry.by.map(|number| number + first), ..entry };
            match self.paths.get(&path) {
                Some(known) if (known.time, known.by.is_none()) >= (entry.time, entry.by.is_none()) => {}
                _ => _ = self.paths.insert(path, entry),
            }
        }
    }

    /// Returns whether `entry` was signed by a key that `keys` trusts.
    pub(super) fn is_signed(&self, entry: Entry, keys: &Keyring) -> bool {
        let signers = entry.by.and_then(|number| self.signers.get(number));
        signers.is_some_and(|signers| !signers.is_empty() && signers.iter().all(|key| keys.trusts(key)))
    }
}

/// One path in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Entry {
    /// Its registration time according to the snapshot.
    pub time: i64,
    #[serde(default, flatten)]
    pub file: Option<File>,
    /// Which of [`Ledger::signers`] signed it; None if it is unsigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<usize>,
}

impl Entry {
    /// Returns whether `info` is the restored path, and not one of the same name that was built later.
    pub(super) fn is_still(self, dirs: &StoreDirs, info: &PathInfo) -> bool {
        info.registration_time == self.time
            || self.file.is_some_and(|file| File::at(dirs, &info.path).is_some_and(|there| there.may_be(file)))
    }
}

/// What tells the file or folder of a path from a later one in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    pub inode: u64,
    /// When it was created, in nanoseconds since 1970. A file system may give the inode number of a deleted file to a new one. None where the
    /// file system does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<u64>,
}

impl File {
    pub(super) fn at(dirs: &StoreDirs, path: &StorePath) -> Option<Self> {
        let metadata = fs::symlink_metadata(dirs.real(path)).ok()?;
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Some(Self { inode: metadata.ino(), born: born.and_then(|born| u64::try_from(born.as_nanos()).ok()) })
    }

    fn may_be(self, other: Self) -> bool {
        let (born, other_born) = (self.born, other.born);
        self.inode == other.inode && born.zip(other_born).is_none_or(|(born, other)| born == other)
    }
}

/// The location of this user's ledger of this store.
pub(crate) fn place(dirs: &StoreDirs) -> PathBuf {
    own::work_dir(dirs).join(LEDGER)
}

/// Reads and merges the ledgers of all users of this store; None if nothing was ever restored.
///
/// # Errors
/// When one cannot be read or parsed: then nothing in the store can be signed.
pub(super) fn load(dirs: &StoreDirs) -> Result<Option<Ledger>, CacheError> {
    let failed = |what, path, error| CacheError::File { what, path, error };
    let own = OwnFolder::open(dirs).map_err(|error| failed("Cannot open", dirs.own_dir(), error))?;
    let Some(own) = own else { return Ok(None) };
    let mut all: Option<Ledger> = None;
    for folder in own.users().into_iter().chain([own]) {
        let path = folder.path().join(LEDGER);
        match folder.read_json::<Ledger>(LEDGER) {
            Ok(Some(ledger)) if ledger.format == FORMAT => match &mut all {
                Some(all) => all.merge(ledger),
                None => all = Some(ledger),
            },
            Ok(Some(_)) => return Err(failed("A newer program wrote", path, ErrorKind::InvalidData.into())),
            Ok(None) => {}
            Err(error) => return Err(failed("Cannot read", path, error)),
        }
    }
    Ok(all)
}

pub(super) fn write(dirs: &StoreDirs, ledger: &Ledger) -> Result<(), CacheError> {
    let written = OwnFolder::work(dirs).and_then(|folder| folder.write_json(LEDGER, ledger));
    written.map_err(|error| CacheError::File { what: "Cannot write", path: place(dirs), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_with_the_inode_number_of_the_restored_one_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(dir.path()));
        fs::create_dir_all(dirs.real_store()).unwrap();
        let info =
            PathInfo { registration_time: 2, ..PathInfo::sample(format!("{}-a", "0".repeat(32)).parse().unwrap()) };
        fs::write(dirs.real(&info.path), "").unwrap();
        let file = File::at(&dirs, &info.path).unwrap();
        let of = |file| Entry { time: 1, file: Some(file), by: None };
        assert!(of(file).is_still(&dirs, &info));
        assert!(of(File { born: None, ..file }).is_still(&dirs, &info), "where nobody knows, it may be the same");
        assert!(!of(File { inode: file.inode + 1, ..file }).is_still(&dirs, &info));
        let born = file.born.expect("the file systems of tests say when a file was created");
        assert!(!of(File { born: Some(born - 1), ..file }).is_still(&dirs, &info));
        // A ledger of an earlier version has no such time.
        let earlier: Entry = serde_json::from_str(&format!(r#"{{"time":1,"inode":{}}}"#, file.inode)).unwrap();
        assert_eq!(earlier, of(File { born: None, ..file }));
        let kept: Entry = serde_json::from_str(&serde_json::to_string(&of(file)).unwrap()).unwrap();
        assert_eq!(kept, of(file));
        assert_eq!(serde_json::from_str::<Entry>(r#"{"time":1,"inode":null}"#).unwrap().file, None);
    }

    #[test]
    fn the_ledgers_of_all_users_count() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(dir.path()));
        fs::create_dir_all(dirs.state_dir()).unwrap();
        fs::create_dir_all(dirs.real_store()).unwrap();
        let path = |name: &str| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap();
        let entry = |time, by| Entry { time, file: None, by };
        let mut own = Ledger::new();
        own.signers.push(vec!["one".into()]);
        own.paths = BTreeMap::from([(path("a"), entry(1, Some(0))), (path("b"), entry(2, Some(0)))]);
        write(&dirs, &own).unwrap();
        // A user of `sudo` has a separate folder, which only that user writes to.
        let user = fs::metadata(dirs.own_dir()).unwrap().uid();
        let folder = dirs.own_dir().join("users").join(user.to_string());
        fs::create_dir_all(&folder).unwrap();
        let mut other = Ledger { files: true, ..Ledger::new() };
        other.signers.push(vec!["two".into()]);
        other.paths = BTreeMap::from([(path("a"), entry(1, None)), (path("c"), entry(3, Some(0)))]);
        fs::write(folder.join(LEDGER), serde_json::to_vec(&other).unwrap()).unwrap();
        let all = load(&dirs).unwrap().unwrap();
        assert!(all.files);
        assert_eq!(all.paths[&path("a")].by, None, "what one of them did not see signed");
        let signer = |name: &str| all.signers[all.paths[&path(name)].by.unwrap()].clone();
        assert_eq!((signer("b"), signer("c")), (vec!["one".to_owned()], vec!["two".to_owned()]));
        fs::write(folder.join(LEDGER), "not JSON").unwrap();
        assert!(load(&dirs).is_err());
    }
}
