//! The settings of an audit.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::app::audit::AuditRequest;

/// What to audit by, and what to compare with.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Audit")]
pub(crate) struct AuditArgs {
    /// File with the policy, in the table `[audit]` [default: nix-cache.toml at the top of the repository, if it exists]
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Commit to compare with: only findings that it lacks can fail the audit [default: in an action, the base of the pull
    /// request or merge queue, or the commit before a push]
    #[arg(long, value_name = "COMMIT")]
    pub base: Option<String>,
    /// JSON report of an earlier audit to compare with instead of `base`
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Targets whose packages are audited as well, such as `packages.x86_64-linux.default` or `nixosConfigurations.desk`
    /// [default: `targets` of the policy alone]
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ' ', help_heading = "Packages")]
    pub targets: Vec<String>,
    /// Folder with vulnerability feeds (NVD JSON 2.0) [default: `feeds` of the policy]
    #[arg(long, value_name = "DIR", help_heading = "Packages")]
    pub feeds: Option<PathBuf>,
    /// File for a bill of materials (`CycloneDX` 1.5) of the packages [default: none is written]
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub sbom: Option<PathBuf>,
    /// File for the SARIF report [default: in an action, a file in the runner's temporary folder, see the output `sarif`]
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub sarif: Option<PathBuf>,
}

impl AuditArgs {
    /// Returns the audit for these arguments. Names of files are relative to `from`.
    pub(crate) fn request(&self, project: PathBuf, from: &Path) -> AuditRequest {
        let file = |file: &Option<PathBuf>| file.as_ref().map(|file| from.join(file));
        AuditRequest {
            project,
            rules: file(&self.rules),
            base: self.base.clone(),
            baseline: file(&self.baseline),
            targets: self.targets.clone(),
            feeds: file(&self.feeds),
            ..AuditRequest::default()
        }
    }
}
