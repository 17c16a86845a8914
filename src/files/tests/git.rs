//! Git stores of Nix's, with real Nix and Git.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::super::EVAL_CACHE;
use super::*;

fn level(machine: &Machine) -> FilesLevel {
    let folder = machine.home().join(".cache/nix");
    FilesLevel { name: EVAL_CACHE, roots: Roots::nix_caches(&folder), ..machine.level("k", &[]) }
}

#[allow(clippy::disallowed_methods, reason = "a test prints nothing that a runner reads")]
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A bare repository, as that of a server: Nix fetches from it into a store of its own.
struct Repository {
    folder: TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        said(repository.git(&repository.work()).args(["init", "--quiet", "--initial-branch=main"]));
        said(repository.git(&repository.bare()).args(["init", "--quiet", "--bare", "--initial-branch=main"]));
        repository
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("bare.git")
    }

    fn git(&self, folder: &Path) -> Command {
        fs::create_dir_all(folder).unwrap();
        let mut command = Command::new("git");
        command.current_dir(folder).env("HOME", self.folder.path());
        command.args(["-c", "user.name=me", "-c", "user.email=me@example.org"]);
        command
    }

    /// Commits a file with this text.
    fn commit(&self, text: &str) {
        fs::write(self.work().join("file"), text).unwrap();
        said(self.git(&self.work()).args(["add", "."]));
        said(self.git(&self.work()).args(["commit", "--quiet", "-m", text]));
        said(self.git(&self.work()).args(["push", "--quiet"]).arg(self.bare()).arg("main"));
    }

    /// The text of the file in the newest commit, as Nix fetches it.
    fn fetch(&self, nix: &Path, machine: &Machine) -> String {
        let url = format!("file://{}", self.bare().display());
        let source = format!("builtins.fetchGit {{ url = \"{url}\"; ref = \"main\"; }}");
        let mut command = Command::new(nix);
        command.args(["eval", "--raw", "--impure", "--extra-experimental-features", "nix-command"]);
        command.args(["--option", "tarball-ttl", "0"]);
        command.arg("--store").arg(machine.home().join("store"));
        command.args(["--expr", &format!("builtins.readFile ({source} + \"/file\")")]);
        command.env("HOME", machine.home()).env_remove("XDG_CACHE_HOME").env_remove("NIX_CACHE_HOME");
        said(&mut command)
    }
}

/// Has Git run a command that makes `mark`, in all ways that a repository has.
fn poison(store: &Path, mark: &Path) {
    let hooks = store.join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    for name in ["reference-transaction", "post-checkout", "post-index-change"] {
        fs::write(hooks.join(name), format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
        fs::set_permissions(hooks.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let config = format!(
        "[core]\n\tbare = true\n\trepositoryformatversion = 0\n\thooksPath = {}\n\tfsmonitor = touch {mark}\n\tsshCommand = touch {mark}\n",
        hooks.display(),
        mark = mark.display()
    );
    fs::write(store.join("config"), config).unwrap();
}

#[tokio::test]
async fn nix_runs_no_command_of_a_git_store_that_was_restored() {
    let newer = std::env::var_os("NIX_CACHE_TEST_NEWER_NIX").map(|folder| Path::new(&folder).join("nix"));
    let tested = [Some(PathBuf::from("/usr/bin/nix")), newer].into_iter().flatten().filter(|nix| nix.is_file());
    for nix in tested {
        let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
        let (repository, mark) = (Repository::new(), one.elsewhere().join("mark"));
        repository.commit("first");
        assert_eq!(repository.fetch(&nix, &one), "first");
        let stores = one.home().join(".cache/nix/gitv3");
        let store = fs::read_dir(&stores).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
        let store = store.unwrap();
        poison(&store, &mark);
        repository.commit("second");
        assert_eq!(repository.fetch(&nix, &one), "second");
        assert!(mark.exists(), "without us {} runs it", nix.display());
        fs::remove_file(&mark).unwrap();

        let saved = place.save(&one, &level(&one), None).await;
        assert_eq!(saved.outcome, FilesOutcome::Saved, "{:?}", saved.notes);
        let restored = place.restore(&two, &level(&two)).await;
        assert_eq!(restored.hit, Hit::Exact, "{:?}", restored.notes);
        let copy = two.home().join(".cache/nix/gitv3").join(store.file_name().unwrap());
        assert!(copy.join("HEAD").is_file(), "it was restored");
        repository.commit("third");
        assert_eq!(repository.fetch(&nix, &two), "third");
        assert!(!mark.exists(), "{} ran it", nix.display());
    }
}
