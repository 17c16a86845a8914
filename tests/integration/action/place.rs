//! Where jobs of the table run, and the work that they do.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use nix_cache::store::StorePath;

use super::job::Job;
use crate::support::fake::{Fake, FakeConfig, Operation, RestPermission};
use crate::support::machine::Machine;
use crate::support::nix::Nix;

/// A machine, and what every job on it makes.
pub(super) struct Place {
    pub(super) machine: Machine,
    /// An export of Nix's with all that a job makes.
    made: PathBuf,
    /// The paths in it.
    pub paths: BTreeSet<StorePath>,
    /// Bytes of the layer that they make.
    pub layer: u64,
}

impl Place {
    /// Builds once what the jobs then make by importing it: this takes a tenth of the time.
    pub(super) fn new(nix: &Nix) -> Self {
        let machine = Machine::new(nix);
        let store = machine.store("built");
        store.build(&["everything", "count=5"]);
        let paths = store.valid();
        let full: Vec<String> = paths.iter().map(|path| format!("/nix/store/{path}")).collect();
        let made = machine.path("made");
        let output = store.command("nix-store").arg("--export").args(&full).output().expect("nix-store runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(&made, output.stdout).unwrap();
        let mut place = Self { machine, made, paths, layer: 0 };
        place.layer = place.measure();
        place
    }

    /// The export of Nix's with all that a job makes.
    pub(super) fn made(&self) -> &std::path::Path {
        &self.made
    }

    fn measure(&self) -> u64 {
        let fake = Fake::start(FakeConfig::default());
        let job = self.job(&fake, "measure", RestPermission::Read);
        self.work(&job);
        job.post();
        assert_eq!(fake.stats().count(Operation::PutBlob), 2);
        fake.entries()[0].size.expect("the layer is stored first")
    }

    /// A job whose main step is done.
    pub(super) fn job(&self, fake: &Fake, name: &str, rest: RestPermission) -> Job {
        let job = self.job_unstarted(fake, name, rest);
        assert_eq!(job.restore().code, Some(0));
        job
    }

    /// A job that has not begun.
    pub(super) fn job_unstarted(&self, fake: &Fake, name: &str, rest: RestPermission) -> Job {
        Job::new(&self.machine, fake, name, rest)
    }

    /// The work between a job's steps: afterwards everything is in its store.
    pub(super) fn work(&self, job: &Job) {
        let mut import = job.store.command("nix-store");
        let input = fs::File::open(&self.made).unwrap();
        let output = import.arg("--import").stdin(input).output().expect("nix-store runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(job.store.valid(), self.paths);
    }
}
