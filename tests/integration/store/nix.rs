//! Private Nix stores in temporary folders, with real Nix commands and real builds.
//!
//! Nix can work on a store below another folder (`--store DIR`), but cannot build there without its sandbox, and the
//! programs of such a store do not find each other. So builds run in a mount namespace of their own, where the private
//! store lies at `/nix`: to everything in there it is the machine's store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix_cache::store::{StoreDirs, StorePath};
use tempfile::TempDir;

/// Names a folder with the commands of a second, newer Nix to run the tests with as well.
pub(super) const NEWER_NIX: &str = "NIX_CACHE_TEST_NEWER_NIX";

const CONFIG: &str = "experimental-features = nix-command flakes
substituters =
sandbox = false
build-users-group =
warn-dirty = false
";

/// Derivations with everything the database can hold: references in a chain and to oneself, a source, two outputs, and
/// outputs with a fixed hash. `tag` makes every path differ from those of another tag: Nix spares in a collection what any
/// process on the machine names in its environment, a build of another test included.
pub(super) const SAMPLE: &str = r#"
{ tag ? "" }:
let
  make = name: script: extra: derivation ({
    inherit name tag;
    system = builtins.currentSystem;
    builder = "/bin/busybox";
    args = [ "sh" "-c" ''busybox() { /bin/busybox "$@"; }; ${script}'' ];
  } // extra);
  source = builtins.toFile "source" "a source ${tag}";
  one = make "one" ''busybox mkdir $out; echo "$out ${source}" > $out/self'' {};
  two = make "two" ''busybox mkdir $out $lib; echo ${one} > $lib/file; echo $lib > $out/file; busybox ln -s file $out/link''
    { outputs = [ "out" "lib" ]; };
  fixed = make "fixed${tag}" ''echo -n hello > $out'' {
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  };
  top = make "top" ''busybox mkdir -p $out/bin; echo "${two} ${fixed}" > $out/bin/x; busybox chmod +x $out/bin/x'' {};
in [ one two fixed top ]
"#;

/// The commands of one version of Nix.
#[derive(Clone, Debug)]
pub(super) struct Nix {
    bin: Option<PathBuf>,
}

impl Nix {
    /// The versions to test with: that of `PATH`, and the one [`NEWER_NIX`] names. Prints why where one is missing.
    pub(super) fn versions() -> Vec<Self> {
        let newer = std::env::var_os(NEWER_NIX).map(PathBuf::from);
        if newer.is_none() {
            eprintln!("skipped for a newer Nix: {NEWER_NIX} does not name its folder");
        }
        let all = [Some(Self { bin: None }), newer.map(|bin| Self { bin: Some(bin) })];
        all.into_iter().flatten().filter(Self::works).collect()
    }

    /// The Nix of `PATH`. Prints why where there is none.
    pub(super) fn of_path() -> Option<Self> {
        Some(Self { bin: None }).filter(Self::works)
    }

    fn works(&self) -> bool {
        // Even to tell its version it opens a store, and this user may not open the machine's.
        let output = self.command("nix-store").args(["--store", "dummy://", "--version"]).output();
        let works = output.is_ok_and(|output| output.status.success());
        if !works {
            eprintln!("skipped: no nix-store in {}", self.bin.as_deref().unwrap_or(Path::new("PATH")).display());
        }
        works
    }

    /// The program `name` of this Nix.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.as_ref().map_or_else(|| name.into(), |bin| bin.join(name))
    }

    /// A command of this Nix with the settings of the tests.
    pub(super) fn command(&self, program: &str) -> Command {
        self.with_settings(Command::new(self.program(program)))
    }

    /// Any other command with the settings of the tests, and this Nix first on its `PATH`.
    pub(super) fn with_settings(&self, mut command: Command) -> Command {
        command.env("NIX_CONFIG", CONFIG).env("HOME", "/nonexistent").stdin(Stdio::null());
        for name in ["NIX_REMOTE", "NIX_PATH", "NIX_STORE_DIR", "NIX_STATE_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = self.bin.iter().cloned().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).expect("folders of a PATH can be joined"));
        command
    }
}

/// An empty store of its own, deleted when dropped.
pub(super) struct TestStore {
    nix: Nix,
    folder: TempDir,
}

impl TestStore {
    /// Makes a store with `nix`.
    pub(super) fn new(nix: &Nix) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Self { nix: nix.clone(), folder };
        fs::create_dir(store.home()).unwrap();
        store.nix_store(&["--init"]);
        store
    }

    /// What `--store` takes.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A folder for the test's own files, outside of the store.
    pub(super) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The directories of this store.
    pub(super) fn dirs(&self) -> StoreDirs {
        StoreDirs::new(Some(&self.root()))
    }
    /// `program --store ROOT`, for the caller to complete.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = self.nix.command(program);
        command.env("HOME", self.home()).current_dir(self.home()).arg("--store").arg(self.root());
        command
    }

    /// What `nix-store --store ROOT args…` prints. It must succeed.
    pub(super) fn nix_store(&self, args: &[&str]) -> String {
        succeed(self.command("nix-store").args(args))
    }

    /// What `nix --store ROOT args…` prints. It must succeed.
    pub(super) fn nix_command(&self, args: &[&str]) -> String {
        succeed(self.command("nix").args(args))
    }

    /// A command in a mount namespace in which this store lies at `/nix`.
    pub(super) fn command_in(&self, argv: &[&str]) -> Command {
        let mut command = self.nix.with_settings(Command::new("unshare"));
        if !is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /nix && exec "$@""#]).arg(self.root().join("nix"));
        command.env("HOME", self.home()).current_dir(self.home());
        if let Some((program, args)) = argv.split_first() {
            command.arg(self.nix.program(program)).args(args);
        }
        command
    }

    /// What `argv` prints when run where this store lies at `/nix`. It must succeed.
    pub(super) fn run_in(&self, argv: &[&str]) -> String {
        succeed(&mut self.command_in(argv))
    }

    /// Whether derivations can be built here. Prints why not.
    pub(super) fn can_build(&self) -> bool {
        if !Path::new("/bin/busybox").exists() {
            eprintln!("skipped: builds need a static /bin/busybox (Debian: busybox-static)");
            return false;
        }
        let output = self.command_in(&["nix-store", "--version"]).output();
        match output {
            Ok(output) if output.status.success() => true,
            Ok(output) => {
                eprintln!("skipped: no mount namespace: {}", String::from_utf8_lossy(&output.stderr).trim());
                false
            }
            Err(error) => {
                eprintln!("skipped: cannot run unshare: {error}");
                false
            }
        }
    }

    /// Builds what `expression` evaluates to and returns the output paths. Nothing roots them.
    pub(super) fn build(&self, expression: &str, args: &[&str]) -> Vec<StorePath> {
        let file = self.home().join("default.nix");
        fs::write(&file, expression).unwrap();
        let mut command = vec!["nix-build", "--no-out-link", file.to_str().unwrap()];
        command.extend(args);
        self.run_in(&command).lines().map(store_path).collect()
    }

    /// Builds [`SAMPLE`] with paths that no other store has.
    pub(super) fn build_sample(&self) -> Vec<StorePath> {
        self.build_sample_as(&self.tag())
    }

    /// Builds [`SAMPLE`] with `tag`, that of another store to get the same paths.
    pub(super) fn build_sample_as(&self, tag: &str) -> Vec<StorePath> {
        self.build(SAMPLE, &["--argstr", "tag", tag])
    }

    /// The tag of this store's sample.
    pub(super) fn tag(&self) -> String {
        self.folder
            .path()
            .file_name()
            .and_then(|name| name.to_str())
            .expect("temporary folders have plain names")
            .into()
    }

    /// Checks with Nix that the database fits the files, every one read. Panics where it does not.
    pub(super) fn verify(&self) {
        let output = self.command("nix-store").args(["--verify", "--check-contents"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let clean = !["error", "disappeared", "modified"].iter().any(|bad| said.contains(bad));
        assert!(output.status.success() && clean, "nix-store --verify: {said}");
    }

    /// Copies the files of `paths` from `other`, as they are, without making them valid here.
    pub(super) fn copy_files<'a>(&self, other: &Self, paths: impl IntoIterator<Item = &'a StorePath>) {
        let mut copy = Command::new("cp");
        copy.arg("-a").args(paths.into_iter().map(|path| other.dirs().real(path))).arg(self.dirs().real_store());
        succeed(&mut copy);
    }
}

impl Drop for TestStore {
    /// Store paths are read-only, and only root can delete what is in a read-only folder.
    fn drop(&mut self) {
        if !is_root() {
            let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.folder.path()).status();
        }
    }
}

/// What `command` prints. It must succeed.
pub(super) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("Nix prints text")
}

/// The store path that a line of a Nix command names.
pub(super) fn store_path(line: &str) -> StorePath {
    StorePath::from_full(line.trim(), "/nix/store").unwrap()
}

/// Whether the tests run as root.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
