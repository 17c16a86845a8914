//! A machine with a Nix, and stores on it that touch nothing of the real one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use nix_cache::store::StoreDirs;

use super::folder::Folder;
use super::nix::Nix;

const CONFIG: &str = "experimental-features = nix-command flakes
substituters =
build-users-group =
sandbox-paths =
max-jobs = 4
warn-dirty = false
";
/// Debian's busybox-static puts it here; the shell of all builds.
const BUSYBOX: &str = "/bin/busybox";

/// A home, a project to build, and a version of Nix.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    folder: Arc<Folder>,
    /// Its Nix.
    pub nix: Nix,
}

impl Machine {
    /// A machine with this Nix in a folder of its own.
    pub(crate) fn new(nix: &Nix) -> Self {
        Self::in_folder(Folder::new(), nix)
    }

    /// As [`Machine::new`], in a folder that is there.
    pub(crate) fn in_folder(folder: Folder, nix: &Nix) -> Self {
        let project = folder.path().join("project");
        fs::create_dir_all(project.join("tools")).unwrap();
        fs::create_dir_all(folder.path().join("home/conf")).unwrap();
        fs::write(project.join("default.nix"), include_str!("project/default.nix")).unwrap();
        // Nix takes the store paths in the environment of any process for roots: those of two tests must differ.
        let mark = format!("# {}\n", folder.path().display());
        fs::write(project.join("build.sh"), format!("{mark}{}", include_str!("project/build.sh"))).unwrap();
        fs::write(project.join("tools/mark"), mark).unwrap();
        if let Ok(bytes) = fs::read(BUSYBOX) {
            let shell = project.join("tools/busybox");
            fs::write(&shell, bytes).unwrap();
            fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder: Arc::new(folder), nix: nix.clone() }
    }

    /// The same folder with another Nix.
    pub(crate) fn with(&self, nix: &Nix) -> Self {
        Self { folder: Arc::clone(&self.folder), nix: nix.clone() }
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An empty store. Nix makes it on its first use.
    pub(crate) fn store(&self, name: &str) -> TestStore {
        let root = self.path(name);
        fs::create_dir_all(&root).unwrap();
        let store = TestStore { machine: self.clone(), root };
        store.nix_store(&["--init"]);
        store
    }

    /// A program, found among those of this machine's Nix first, that sees nothing of the real home and configuration.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = self.nix.programs.iter().cloned().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).unwrap();
        // Where a program is found is decided by our own PATH, not by the one that is set for it.
        let program = program.as_ref();
        let own = self.nix.programs.as_ref().map(|folder| folder.join(program)).filter(|program| program.is_file());
        let mut command = Command::new(own.as_deref().map_or(program, Path::as_os_str));
        for name in ["NIX_PATH", "NIX_REMOTE", "NIX_STATE_DIR", "NIX_STORE_DIR", "NIX_LOG_DIR", "NIX_CACHE_LOG"] {
            command.env_remove(name);
        }
        let home = self.path("home");
        command
            .env("PATH", path)
            .env("HOME", &home)
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_DATA_HOME", home.join("data"))
            .env("NIX_CONF_DIR", home.join("conf"))
            .env("NIX_USER_CONF_FILES", "")
            .env("NIX_CONFIG", CONFIG)
            .current_dir(self.folder.path());
        command
    }
}

/// A store under a root of its own.
#[derive(Clone, Debug)]
pub(crate) struct TestStore {
    /// The machine it is on.
    pub machine: Machine,
    /// Its root, as in `nix --store ROOT`.
    pub root: PathBuf,
}

impl TestStore {
    /// Its directories.
    pub(crate) fn dirs(&self) -> StoreDirs {
        StoreDirs::new(Some(&self.root))
    }

    /// The same store seen by another Nix.
    pub(crate) fn with(&self, nix: &Nix) -> Self {
        Self { machine: self.machine.with(nix), root: self.root.clone() }
    }

    /// `program --store ROOT`.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.machine.command(program);
        command.arg("--store").arg(&self.root);
        command
    }

    /// Runs `nix-store` with these arguments and gives what it prints.
    pub(crate) fn nix_store(&self, arguments: &[&str]) -> String {
        let output = self.command("nix-store").args(arguments).output().expect("nix-store runs");
        assert_success(&format!("nix-store {arguments:?}"), &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `nix WORDS --store ROOT` and gives what it prints.
    pub(crate) fn nix(&self, words: &[&str]) -> String {
        let mut command = self.machine.command("nix");
        let output = command.args(words).arg("--store").arg(&self.root).output().expect("nix runs");
        assert_success(&format!("nix {words:?}"), &output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Builds attributes of the project (see `project/default.nix`), rooted by `ROOT/result`. `ATTRIBUTE` or `NAME=VALUE`
    /// for one of its arguments. Returns the built paths in full.
    pub(crate) fn build(&self, words: &[&str]) -> Vec<String> {
        self.try_build(words).unwrap_or_else(|said| panic!("{words:?} cannot be built: {said}"))
    }

    /// As [`TestStore::build`]; what Nix says where it fails.
    pub(crate) fn try_build(&self, words: &[&str]) -> Result<Vec<String>, String> {
        let output = self.build_command(words).arg("--out-link").arg(self.root.join("result")).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// How many derivations a build of this has to build.
    pub(crate) fn builds(&self, words: &[&str]) -> usize {
        let output = self.build_command(words).arg("--no-out-link").output().expect("nix-build runs");
        assert_success(&format!("nix-build {words:?}"), &output);
        String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.starts_with("building '")).count()
    }

    /// `nix-build` of attributes of the project, without saying what becomes of the result.
    pub(crate) fn build_command(&self, words: &[&str]) -> Command {
        let mut command = self.command("nix-build");
        command.arg(self.machine.path("project")).args(["--argstr", "system", &system()]);
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => command.args(["--argstr", name, value]),
                None => command.args(["-A", word]),
            };
        }
        command
    }
}

/// The Nix system of this machine.
pub(crate) fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

fn assert_success(what: &str, output: &Output) {
    assert!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr));
}
