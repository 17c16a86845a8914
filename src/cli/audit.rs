//! `nix-cache audit`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::Failure;
use crate::app::audit::{AuditRequest, carry_out, verdict, write_files};
use crate::app::print::{print, print_json};
use crate::audit::output::{sarif, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AuditFormat {
    /// For people
    Text,
    /// For programs, and as the base of a later audit
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

#[derive(Debug, Args)]
pub(super) struct AuditCommand {
    /// The folder of the project
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// The file with the policy [default: nix-cache.toml at the top of the repository, if it is there]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// The commit to compare with: only what it lacks can fail
    #[arg(long, value_name = "COMMIT")]
    base: Option<String>,
    /// A report of an earlier audit (`--json`) to compare with
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = AuditFormat::Text)]
    format: AuditFormat,
    /// Also write SARIF to this file
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    sarif: Option<PathBuf>,
    /// Also write the report as JSON to this file
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    json: Option<PathBuf>,
}

/// Audits and prints what was found.
pub(super) async fn audit(command: &AuditCommand) -> Result<(), Failure> {
    let request = AuditRequest {
        project: command.project.clone(),
        rules: command.rules.clone(),
        base: command.base.clone(),
        baseline: command.baseline.clone(),
        token: None,
    };
    let audited = carry_out(&request).await?;
    match command.format {
        AuditFormat::Text => print(&text::render(&audited.report)),
        AuditFormat::Json => print_json(&audited.report)?,
        AuditFormat::Sarif => print_json(&sarif::sarif(&audited.report))?,
    }
    write_files(&audited, command.sarif.as_deref(), command.json.as_deref())?;
    verdict(&audited)
}
