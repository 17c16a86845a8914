//! Against real repositories.

use std::fs;

use super::*;

struct Clone {
    folder: tempfile::TempDir,
}

impl Clone {
    fn new() -> Self {
        let clone = Self { folder: tempfile::tempdir().unwrap() };
        clone.git(&["init", "--quiet", "--initial-branch=main"]);
        clone
    }

    fn git(&self, arguments: &[&str]) -> String {
        let who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"];
        git(self.folder.path(), &[&who[..], arguments].concat()).unwrap()
    }

    fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, text) in files {
            fs::create_dir_all(self.folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(self.folder.path().join(name), text).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "m"]);
        self.open("").head().unwrap()
    }

    fn open(&self, folder: &str) -> Repository {
        Repository::open(&self.folder.path().join(folder), None).unwrap()
    }

    /// A clone with nothing but its newest commit, as actions/checkout makes it.
    fn shallow(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let from = format!("file://{}", self.folder.path().display());
        git(folder.path(), &["clone", "--quiet", "--depth=1", &from, "."]).unwrap();
        Self { folder }
    }
}

#[test]
fn changed_files_are_those_of_both_names_and_of_the_work_tree() {
    let clone = Clone::new();
    let first =
        clone.commit(&[("a b", "1"), ("é/c", "1"), ("gone", "1"), ("same", "1"), ("old name", "long text 1234567")]);
    clone.git(&["mv", "old name", "new name"]);
    clone.git(&["rm", "--quiet", "gone"]);
    clone.commit(&[("é/c", "2")]);
    fs::write(clone.folder.path().join("a b"), "not committed").unwrap();
    fs::write(clone.folder.path().join("not known to git"), "").unwrap();
    let here = clone.open("");
    assert_eq!(here.changed_since(&first).unwrap(), ["a b", "gone", "new name", "old name", "é/c"]);
    assert!(here.is_dirty());
    assert!(here.changed_since("0123456789012345678901234567890123456789").is_err());
}

#[test]
fn a_folder_of_a_repository_is_known_as_such() {
    let clone = Clone::new();
    clone.commit(&[("a b/flake.nix", "{}"), ("x.nix", ""), ("y.txt", "")]);
    let inner = clone.open("a b");
    assert_eq!((inner.folder(), clone.open("").folder()), ("a b", ""));
    assert_eq!(inner.nix_files().unwrap(), ["a b/flake.nix", "x.nix"]);
    assert!(Repository::open(tempfile::tempdir().unwrap().path(), None).is_err());
}

#[test]
fn a_shallow_clone_gets_what_it_lacks() {
    let origin = Clone::new();
    let first = origin.commit(&[("a", "1")]);
    let second = origin.commit(&[("a", "2")]);
    let third = origin.commit(&[("b", "3")]);
    let clone = origin.shallow();
    let here = clone.open("");
    assert!(here.is_shallow() && here.head().unwrap() == third && here.commit(&first).is_err());
    assert_eq!(here.parents(&third).unwrap(), [second.as_str()], "told by the commit, not by what is here");
    assert_eq!(here.first_parents(&third, 9).len(), 1);
    here.fetch(&first).unwrap();
    assert_eq!(here.changed_since(&first).unwrap(), ["a", "b"]);
    here.deepen(&third).unwrap();
    assert_eq!(here.first_parents(&third, 9), [third, second, first.clone()]);
    let error = here.fetch("0123456789012345678901234567890123456789").unwrap_err();
    assert!(error.to_string().starts_with("git fetch: "), "{error}");
    assert!(!here.is_dirty());
}

#[test]
fn a_commit_is_written_into_a_folder_and_nothing_here_changes() {
    let clone = Clone::new();
    let first = clone.commit(&[("a b/c", "1"), ("gone", "1")]);
    clone.git(&["rm", "--quiet", "gone"]);
    clone.commit(&[("a b/c", "2")]);
    let (here, folder) = (clone.open(""), tempfile::tempdir().unwrap());
    here.export(&first, folder.path()).unwrap();
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!((text(&folder.path().join("a b/c")), text(&folder.path().join("gone"))), ("1".into(), "1".into()));
    assert!(!here.is_dirty() && text(&clone.folder.path().join("a b/c")) == "2");
    assert!(here.export("--all", folder.path()).is_err());
    assert_eq!(here.file(&first, "a b/c").unwrap().as_deref(), Some("1"));
    assert_eq!((here.file("HEAD", "gone").unwrap(), here.file("HEAD", "*").unwrap()), (None, None));
    assert!(here.file("nowhere", "gone").is_err());
}

#[test]
fn a_name_that_looks_like_an_option_is_none() {
    let clone = Clone::new();
    clone.commit(&[("a", "1")]);
    assert!(clone.open("").commit("--all").is_err());
    assert_eq!(clone.open("").first_parents("--all", 3), [""; 0]);
}

#[test]
fn the_token_is_for_one_server_and_not_shown() {
    let token = FetchToken { server: "https://example.org".into(), token: "s3cret".into() };
    assert_eq!(format!("{token:?}"), "a token for https://example.org");
    let clone = Clone::new();
    let here = Repository::open(clone.folder.path(), Some(token)).unwrap();
    let fill = |host: &str| {
        let mut command = here.with_token(&["credential", "fill"]);
        // Nobody else is asked, neither a person nor a helper of this machine.
        command.env("GIT_ASKPASS", "true").env("HOME", clone.folder.path());
        let input = clone.folder.path().join("input");
        fs::write(&input, format!("protocol=https\nhost={host}\n\n")).unwrap();
        let output = command.stdin(fs::File::open(input).unwrap()).output().unwrap();
        let environment: Vec<_> = command.get_envs().filter_map(|(_, value)| value?.to_str()).collect();
        let forms = environment.iter().filter(|value| value.contains("s3cret")).count();
        assert_eq!(forms, 1, "the token is there once, in the form that a runner hides");
        assert!(command.get_args().all(|argument| !argument.to_string_lossy().contains("s3cret")));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = fill("example.org");
    assert!(said.contains("username=x-access-token\npassword=s3cret\n"), "{said}");
    assert!(!fill("example.com").contains("s3cret"));
}
