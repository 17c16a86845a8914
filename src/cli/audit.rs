//! `nix-cache audit`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::app::Failure;
use crate::app::audit::{carry_out, verdict, write_files};
use crate::app::print::{print, print_json};
use crate::app::settings::AuditArgs;
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
    #[command(flatten)]
    audit: AuditArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t = AuditFormat::Text)]
    format: AuditFormat,
    /// Also write the report as JSON to this file
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    json: Option<PathBuf>,
}

/// Audits and prints what was found.
pub(super) async fn audit(command: &AuditCommand) -> Result<(), Failure> {
    let audited = carry_out(&command.audit.request(command.project.clone(), Path::new(""))).await?;
    match command.format {
        AuditFormat::Text => print(&text::render(&audited.report)),
        AuditFormat::Json => print_json(&audited.report)?,
        AuditFormat::Sarif => print_json(&sarif::sarif(&audited.report))?,
    }
    write_files(&audited, command.audit.sarif.as_deref(), command.json.as_deref())?;
    verdict(&audited)
}
